"""Every method on synthetic fields, where theory says what to expect."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import hadamard

from calibration.complementary_pairs import ComplementaryPairs
from calibration.errors import DriftError
from calibration.field_log import FieldLog
from calibration.hadamard import HadamardVectors, hadamard_order
from calibration.interleaved_references import InterleavedReferences
from calibration.method import METHODS, Method
from calibration.plan import Plan
from calibration.quality import correlation, relative_error
from calibration.random_vectors import RandomVectors
from calibration.scheme import products
from calibration.transmission_matrix import Alignment, align, fields_of_tests, solved_blocks
from opu_driver.errors import SettingError
from opu_driver.layout import Layout

MODES = 512
SNR = 1000.0


@dataclass(frozen=True)
class Amplitudes:
    """Stands in for a layout: its patterns are the light that each input sends."""

    n_inputs: int

    def render(self, bits: NDArray[np.uint8]) -> NDArray[np.complex64]:
        return bits.astype(np.complex64)

    def render_phases(self, steps: NDArray[np.uint8], turn: int) -> NDArray[np.complex64]:
        return np.exp(2j * np.pi * steps / turn).astype(np.complex64)


def gaussian(rng: np.random.Generator, *shape: int) -> NDArray[np.complex64]:
    parts = rng.standard_normal((*shape, 2), np.float32) * np.float32(np.sqrt(0.5))
    return parts.view(np.complex64)[..., 0]


def measured(
    plan: Plan,
    T: NDArray[np.complex64],
    *,
    snr: float = np.inf,
    walk: float = 0.0,
    jitter: float = 0.0,
    flicker: float = 0.0,
    bias: float = 0.0,
    seed: int = 1,
) -> tuple[FieldLog, NDArray[np.complex128]]:
    """A log of a plan's fields without any optics, and the gain of every exposure in it.

    Args:
        plan: What is shown.
        T: `[mode, input]`, of unit variance.
        snr: Of one exposure with half of the inputs lit.
        walk: Random step of the phase from one exposure to the next, rad.
        jitter: Deviation of the phase in each exposure alone, rad.
        flicker: Relative deviation of the amplitude in each exposure alone.
        bias: Static field, rms.
        seed: Of everything.
    """
    rng = np.random.default_rng(seed)
    modes, n_inputs = T.shape
    static = np.float32(bias) * gaussian(rng, modes)
    log = FieldLog.create(None, "synthetic", plan.ends, modes)
    layout = cast(Layout, Amplitudes(n_inputs))
    phase, gains = 0.0, []
    for run in plan.runs:
        light = np.zeros((len(run) + 3, n_inputs), np.complex64)
        light[[0, -2]] = 1
        light[1:-2] = plan.patterns(run, layout)
        light = np.concatenate([light[:1], light[1:-2], light[-2:]])
        phases = phase + np.cumsum(walk * rng.standard_normal(len(light)))
        phase = phases[-1]
        gain = np.exp(1j * (phases + jitter * rng.standard_normal(len(light))))
        gain *= 1 + flicker * rng.standard_normal(len(light))
        fields = (light @ T.T + static) * gain[:, None].astype(np.complex64)
        fields += np.float32(np.sqrt(n_inputs / 2 / snr)) * gaussian(rng, *fields.shape)
        log.append(fields[1:-2], fields[[0, -2, -1]], 0.0)
        gains.append(gain[1:-2])
    return log, np.concatenate(gains)


def blocks_of(modes: int, width: int) -> list[slice]:
    return [slice(first, min(first + width, modes)) for first in range(0, modes, width)]


def solved(
    log: FieldLog, plan: Plan, *, snr: float = SNR, width: int = MODES
) -> tuple[NDArray[np.complex64], Alignment]:
    """The matrix `[mode, input]` and the alignment that a log leads to."""
    blocks = blocks_of(log.modes, width)
    alignment = align(log, plan, blocks)
    noise = plan.method.noise_to_signal(snr)
    parts = [block.T for block in solved_blocks(log, plan, alignment, noise, blocks)]
    return np.concatenate(parts, axis=1).T, alignment


def up_to_one_factor(
    found: NDArray[np.complex64], truth: NDArray[np.complex64]
) -> NDArray[np.complex64]:
    """The estimate in the phase and gain of the truth: both are free."""
    return found * (np.vdot(found, truth) / np.vdot(found, found))


def up_to_a_factor(error: float) -> float:
    """What is left of a relative error where the factor that fits best is free."""
    return error / np.sqrt(1 + error**2)


@pytest.mark.parametrize(("n", "order"), [(1, 1), (2, 2), (3, 4), (10, 16), (16, 16), (17, 32)])
def test_the_order_is_the_next_power_of_two(n: int, order: int) -> None:
    assert hadamard_order(n) == order


def test_no_inputs_are_refused() -> None:
    with pytest.raises(SettingError, match="n_inputs = 0"):
        hadamard_order(0)


def test_hadamard_vectors_are_signed_rows_of_the_matrix() -> None:
    vectors = HadamardVectors(10, repeats=2)
    signs = 2.0 * vectors.bits(range(16)) - 1
    np.testing.assert_array_equal(2.0 * vectors.bits(range(16, 32)) - 1, -signs)
    rows = hadamard(16)[:, :10]
    np.testing.assert_array_equal(np.abs(np.sum(signs * rows, axis=1)), 10)
    np.testing.assert_array_equal(signs[0], 1)


@pytest.mark.parametrize("order", [16, 64, 256])
def test_no_input_is_always_lit(order: int) -> None:
    lit = HadamardVectors(order).bits(range(order)).mean(axis=0)
    # Flat: the signs correlate with every column alike, up to the square root of 2.
    assert np.abs(lit - 0.5).max() <= np.sqrt(2 / order)


@pytest.mark.parametrize("vectors", [HadamardVectors(12, 3), RandomVectors(12, 48, seed=3)])
@given(cut=st.integers(0, 48))
def test_vectors_do_not_depend_on_how_they_are_asked_for(vectors, cut: int) -> None:
    whole = vectors.bits(range(vectors.count))
    parts = [vectors.bits(range(cut)), vectors.bits(range(cut, vectors.count))]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert whole.dtype == np.uint8
    assert whole.max() == 1


def test_random_vectors_need_inputs_and_vectors() -> None:
    with pytest.raises(SettingError, match="count = 0"):
        RandomVectors(4, 0, seed=0)


def test_few_random_vectors_have_the_error_of_those_drawn() -> None:
    refused = 0
    for seed in range(60):
        signs = (
            2.0
            * np.stack(
                [
                    np.unpackbits(
                        np.frombuffer(np.random.default_rng([seed, 2, k]).bytes(1), np.uint8),
                        count=5,
                    )
                    for k in range(6)
                ]
            )
            - 1
        )
        if np.linalg.matrix_rank(signs) < 5:
            refused += 1
            with pytest.raises(SettingError, match=rf"6 random vectors \(seed {seed}\) do not"):
                RandomVectors(5, 6, seed)
            continue
        ridge = 0.3
        own = np.linalg.inv(signs.T @ signs + ridge * np.eye(5))
        bias, spread = ridge * own, np.sqrt(ridge) * own @ signs.T
        expected = (np.sum(bias**2) + np.sum(spread**2)) / 5
        assert RandomVectors(5, 6, seed).variance(ridge) == pytest.approx(expected, rel=1e-6)
    assert 5 < refused < 55


@pytest.mark.parametrize("per_input", [1, 1.5, 2.5])
@pytest.mark.parametrize("ridge", [3.0, 30.0])
def test_the_error_of_many_vectors_is_that_of_theory(per_input: float, ridge: float) -> None:
    few, many = (RandomVectors(n, int(per_input * n), seed=4) for n in (100, 300))
    drawn, by_theory = few.variance(ridge), many.variance(3 * ridge)
    assert drawn == pytest.approx(by_theory, rel=0.1)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 32])
@pytest.mark.parametrize("name", METHODS)
def test_without_noise_the_matrix_is_exact(name: str, n: int) -> None:
    T = gaussian(np.random.default_rng(n), MODES, n)
    plan = Plan(Method.of(name, n, repeats=4), seed=2)
    log, _ = measured(plan, T, bias=0.5)
    found, alignment = solved(log, plan)
    assert found.shape == (MODES, n)
    assert found.dtype == np.complex64
    # Shifts of phase and gain that are not there are found up to the fields' chance likeness.
    assert relative_error(up_to_one_factor(found, T), T) < 5e-3
    tests = fields_of_tests(log, plan, alignment)
    held_out = (tests[0::2] - tests[1::2])[plan.held_out[0]]
    assert relative_error(held_out, plan.held_out_signs @ found.T) < 5e-3


@pytest.mark.parametrize(("n", "repeats"), [(64, 2), (40, 2), (16, 4)])
@pytest.mark.parametrize("snr", [10.0, 1000.0])
@pytest.mark.parametrize("name", METHODS)
def test_error_is_what_theory_says(name: str, n: int, repeats: int, snr: float) -> None:
    T = gaussian(np.random.default_rng(7), 4 * MODES, n)
    method = Method.of(name, n, repeats=4 * repeats if name == "random" else repeats)
    plan = Plan(method, seed=2)
    log, _ = measured(plan, T, snr=snr)
    found, _ = solved(log, plan, snr=snr)
    error = relative_error(up_to_one_factor(found, T), T)
    assert error == pytest.approx(up_to_a_factor(method.expected_error(snr)), rel=0.05)


@pytest.mark.parametrize("per_input", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("snr", [20.0, 1000.0])
def test_few_random_vectors_are_as_good_as_theory_allows(per_input: float, snr: float) -> None:
    n = 128
    T = gaussian(np.random.default_rng(7), MODES, n)
    vectors = RandomVectors(n, int(per_input * n), seed=2)
    plan = Plan(Method("random", vectors, InterleavedReferences()), seed=2)
    log, _ = measured(plan, T, snr=snr)
    found, _ = solved(log, plan, snr=snr)
    assert relative_error(found, T) == pytest.approx(plan.method.expected_error(snr), rel=0.05)


@pytest.mark.parametrize("name", ["hadamard-pairs", "phase-steps"])
def test_phase_walk_is_undone_by_the_exposures_themselves(name: str) -> None:
    T = gaussian(np.random.default_rng(3), MODES, 64)
    plan = Plan(Method.of(name, 64, repeats=1), seed=2)
    log, _ = measured(plan, T, snr=SNR, walk=0.03)
    blind = Alignment(
        *(np.zeros(MODES, np.complex64),),
        [np.ones(len(r)) for r in plan.runs],
        *np.zeros((2, MODES), np.complex64),
    )
    uncorrected = next(solved_blocks(log, plan, blind, 0.0, [slice(0, MODES)])).T.T
    assert correlation(uncorrected, T) < 0.99
    found, _ = solved(log, plan)
    assert correlation(found, T) >= 0.999
    error = relative_error(up_to_one_factor(found, T), T)
    assert error < 1.1 * plan.method.expected_error(SNR)


@pytest.mark.parametrize("name", ["hadamard-pairs", "phase-steps"])
def test_even_jitter_from_one_exposure_to_the_next_is_undone(name: str) -> None:
    T = gaussian(np.random.default_rng(4), MODES, 64)
    plan = Plan(Method.of(name, 64, repeats=1), seed=2)
    log, _ = measured(plan, T, snr=SNR, jitter=0.1, flicker=0.02, bias=1.0)
    found, _ = solved(log, plan)
    error = relative_error(up_to_one_factor(found, T), T)
    assert error < 1.25 * plan.method.expected_error(SNR)


@pytest.mark.parametrize("interval", [4, 16])
def test_between_references_the_walk_costs_what_theory_says(interval: int) -> None:
    n, walk = 256, 0.03
    T = gaussian(np.random.default_rng(3), MODES, n)
    scheme = InterleavedReferences(interval)
    plan = Plan(Method("hadamard", HadamardVectors(n), scheme), seed=2)
    errors = []
    for seed in range(3):
        log, _ = measured(plan, T, walk=walk, seed=seed)
        found, _ = solved(log, plan)
        errors.append(relative_error(up_to_one_factor(found, T), T))
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(scheme.walk_error(walk), rel=0.15)


def test_a_phase_that_no_reference_can_follow_is_refused() -> None:
    T = gaussian(np.random.default_rng(3), MODES, 64)
    plan = Plan(Method.of("hadamard", 64, repeats=1), seed=2)
    log, _ = measured(plan, T, walk=0.8)
    with pytest.raises(DriftError, match="references"):
        solved(log, plan)


@pytest.mark.parametrize("name", METHODS)
def test_gains_are_the_phases_and_gains_of_the_exposures(name: str) -> None:
    drifting = {"walk": 0.002} if name in ("hadamard", "random") else {"walk": 0.1, "flicker": 0.05}
    T = gaussian(np.random.default_rng(5), MODES, 32)
    plan = Plan(Method.of(name, 32, repeats=2), seed=2)
    log, gains = measured(plan, T, **drifting)
    _, alignment = solved(log, plan)
    ratio = np.concatenate(alignment.gains) / gains
    # A vector that is all on or all off leaves exposures without a phase of their own.
    steps = plan.method.scheme.steps
    alone = [row + k for row in (0, 32 * steps) for k in range(steps) if steps > 1]
    ratio = np.delete(ratio, alone)
    np.testing.assert_allclose(ratio / np.mean(ratio), 1, atol=2e-2)
    assert np.abs(np.concatenate(alignment.gains)).mean() == pytest.approx(1, abs=0.01)


def test_a_dark_complement_has_no_gain_of_its_own() -> None:
    T = gaussian(np.random.default_rng(5), MODES, 16)
    scheme = ComplementaryPairs()
    common = T.sum(axis=1)
    moved = common + 0.3 * np.sqrt(16) * gaussian(np.random.default_rng(6), MODES)
    noise = 0.1 * gaussian(np.random.default_rng(7), MODES)
    pair = np.stack([moved, noise]).astype(np.complex64)
    gains = scheme.gains(products(pair, common.astype(np.complex64), 2), MODES)
    assert gains[0] == gains[1]
    assert abs(gains[0]) == pytest.approx(1, abs=0.1)


def test_markers_give_the_fields_of_all_on_and_all_off() -> None:
    T = gaussian(np.random.default_rng(9), MODES, 12)
    plan = Plan(Method.of("hadamard-pairs", 12), seed=2)
    log, _ = measured(plan, T, bias=1.0, walk=0.01)
    found, alignment = solved(log, plan)
    assert relative_error(alignment.on - alignment.off, found.sum(axis=1)) < 0.01
    assert relative_error(alignment.on + alignment.off, alignment.common) < 0.01


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("width", [1, 7, 100])
def test_blocks_of_any_width_give_the_same_matrix(name: str, width: int) -> None:
    T = gaussian(np.random.default_rng(1), 40, 24)
    plan = Plan(Method.of(name, 24), seed=2)
    log, _ = measured(plan, T, snr=100, walk=0.01)
    whole, _ = solved(log, plan, width=40)
    parts, _ = solved(log, plan, width=width)
    np.testing.assert_allclose(parts, whole, atol=2e-4)


@pytest.mark.parametrize("name", METHODS)
def test_half_differences_are_the_noise_of_the_matrix(name: str) -> None:
    T = gaussian(np.random.default_rng(1), MODES, 64)
    plan = Plan(Method.of(name, 64), seed=2)
    log, _ = measured(plan, T, snr=SNR)
    blocks = blocks_of(MODES, MODES)
    alignment = align(log, plan, blocks)
    (block,) = solved_blocks(log, plan, alignment, 0.0, blocks)
    if name in ("hadamard", "random"):
        assert block.half_difference is None
        return
    apart = np.linalg.norm(block.half_difference) / np.linalg.norm(T)
    assert apart == pytest.approx(plan.method.expected_error(SNR), rel=0.06)


def test_memory_is_that_of_a_block() -> None:
    n, modes = 256, 4096
    T = gaussian(np.random.default_rng(1), modes, n)
    plan = Plan(Method.of("hadamard-pairs", n, repeats=1), seed=2)
    log, _ = measured(plan, T, snr=SNR)
    blocks = blocks_of(modes, 256)
    a_block = 8 * n * 256
    tracemalloc.start()
    alignment = align(log, plan, blocks)
    for _ in solved_blocks(log, plan, alignment, 0.0, blocks):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    sample = 8 * modes * 128
    assert peak < 6 * a_block + 4 * sample
