"""Benches that would fool a single figure, each refused by the name of what is wrong with it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration import quality as q
from calibration import verdict
from calibration.errors import (
    DeadPixelsError,
    HalfPlaneError,
    NoiseError,
    NonlinearityError,
    QualityError,
    SingularValuesError,
    UnsteadyError,
)
from calibration.verdict import QualityLimits, Verdict

MODES, INPUTS, VECTORS, TRIPLES, SEQUENCES = 800, 12, 16, 8, 16

GOOD = q.Quality(
    held_out_correlation=0.9993,
    held_out_error=0.037,
    held_out_noise=0.036,
    split_half=0.9998,
    matrix_noise=0.02,
    linearity=0.05,
    linearity_noise=0.045,
    distance_scatter=0.03,
    conjugate_correlation=0.01,
    stability=0.9999,
    snr=800.0,
    effective_modes=740.0,
    visibility=0.6,
    saturated_fraction=0.0,
    dead_fraction=0.0,
    dark_modes=0.0,
    singular_values=q.marchenko_pastur_quantiles(10, 740.0).astype(np.float32),
)


def gaussian(rng: np.random.Generator, *shape: int) -> Any:
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)


def measured(snr: float = 500.0, seed: int = 0, repeats: int = 4, **wrong: Any) -> q.Quality:
    """The figures of a synthetic bench.

    Keywords tell what is wrong with it: `signal` (0: none), `dead` (part of the modes), `flipped`,
    `moved` (part of the field's power that is new at the end), `squeezed` (cubic response),
    `dark_inputs` (how many see no light), `static` (a field common to all inputs), `pixels` (part
    of the pixels that never change).
    """
    rng = np.random.default_rng(seed)
    T = wrong.get("signal", 1.0) * gaussian(rng, MODES, INPUTS)
    T[: int(MODES * wrong.get("dead", 0.0))] = 0
    T[:, : wrong.get("dark_inputs", 0)] = 0
    T += wrong.get("static", 0.0) * gaussian(rng, MODES, 1)
    noise = INPUTS / snr  # of a signed field
    renewed = wrong.get("moved", 0.0)
    later = math.sqrt(1 - renewed) * T + math.sqrt(renewed) * gaussian(rng, MODES, INPUTS)

    def shown(vectors: Any, matrix: Any) -> Any:
        fields = vectors @ matrix.T
        fields -= wrong.get("squeezed", 0.0) * np.abs(fields) ** 2 * fields / INPUTS
        fields += math.sqrt(noise) * gaussian(rng, *fields.shape)
        return fields.conj() if wrong.get("flipped") else fields

    eps = math.sqrt(1 / (repeats * snr))
    halves = [T + math.sqrt(2) * eps * gaussian(rng, MODES, INPUTS) for _ in range(2)]
    found = (halves[0] + halves[1]) / 2
    signs = 2.0 * rng.integers(0, 2, (VECTORS, INPUTS)) - 1
    owner = rng.integers(0, 3, (TRIPLES, INPUTS))
    a, b, both = (shown(2.0 * lit - 1, T) for lit in (owner == 1, owner == 2, owner > 0))
    ages = np.linspace(0, 1, SEQUENCES)[:, None]
    on = np.sqrt(1 - ages) * T.sum(axis=1) + np.sqrt(ages) * later.sum(axis=1)
    marker_noise = noise / 4
    evidence = q.Evidence(
        once=shown(signs, later),
        again=shown(signs, later),
        signs=signs.astype(np.float32),
        predicted=signs @ found.T,
        triples=(a, b, both),
        all_on=found.sum(axis=1),
        mode_powers=np.mean(np.abs(found) ** 2, axis=1),
        singular_values=q.normalised_singular_values(found),
        split_half=q.split_half(*halves),
        signed_noise=2.0,
        expected_error=lambda snr: math.sqrt(1 / (repeats * snr)),
        gains=np.ones(40, complex),
        markers=on + math.sqrt(marker_noise) * gaussian(rng, SEQUENCES, MODES),
        marker_noise=marker_noise,
    )
    return q.assess(
        evidence,
        effective_modes=float(MODES),
        mean_grey=30.0,
        saturated_fraction=0.0,
        dead_fraction=wrong.get("pixels", 0.0),
    )


def of_name(quality: q.Quality, name: str) -> verdict.Finding:
    return next(found for found in verdict.findings(quality) if found.name == name)


def test_a_good_calibration_passes_without_a_word() -> None:
    verdict.check(GOOD)
    assert all(found.verdict is Verdict.PASS for found in verdict.findings(GOOD))
    assert not any(found.advice for found in verdict.findings(GOOD))


@pytest.mark.parametrize("snr", [1.5, 5.0, 30.0, 1000.0, 1e5])
def test_an_honest_bench_passes_however_dim(snr: float) -> None:
    quality = measured(snr)
    verdict.check(quality)
    assert quality.snr == pytest.approx(snr, rel=0.1)
    assert quality.held_out_error == pytest.approx(quality.held_out_noise, rel=0.05)
    assert quality.linearity == pytest.approx(quality.linearity_noise, rel=0.05)
    told = of_name(quality, "held_out_error")
    assert (told.verdict is Verdict.WARNING) == (quality.held_out_noise > 0.3)


@given(st.integers(0, 10**6), st.floats(0.2, 4.0))
def test_chance_refuses_no_honest_bench(seed: int, decades: float) -> None:
    verdict.check(measured(10**decades, seed))


BENCHES: list[tuple[type[QualityError], str, dict[str, Any]]] = [
    (NoiseError, "snr", {"signal": 0.0}),
    (NoiseError, "split_half", {"snr": 0.25}),
    (DeadPixelsError, "dark_modes", {"dead": 0.3}),
    (DeadPixelsError, "dead_fraction", {"pixels": 0.1}),
    (HalfPlaneError, "conjugate_correlation", {"flipped": True}),
    (UnsteadyError, "stability", {"moved": 0.1}),
    (NonlinearityError, "linearity", {"squeezed": 0.15}),
    (SingularValuesError, "law_deviation", {"dark_inputs": 2}),
    (SingularValuesError, "law_deviation", {"static": 1.0}),
]


@pytest.mark.parametrize(("error", "figure", "wrong"), BENCHES)
def test_each_bad_bench_is_refused_by_name(
    error: type[QualityError], figure: str, wrong: dict[str, Any]
) -> None:
    quality = measured(**wrong)
    with pytest.raises(QualityError, match=f"{figure} = ") as caught:
        verdict.check(quality)
    assert type(caught.value) is error
    assert of_name(quality, figure).advice in str(caught.value)


def test_noise_alone_fools_the_singular_values_but_nothing_else() -> None:
    quality = measured(signal=0.0)
    assert of_name(quality, "law_deviation").verdict is Verdict.PASS
    assert of_name(quality, "snr").verdict is Verdict.FAIL
    assert of_name(quality, "split_half").verdict is Verdict.FAIL


def test_the_same_error_is_honest_on_a_dim_bench_and_not_on_a_bright_one() -> None:
    dim = replace(GOOD, held_out_error=0.2, held_out_noise=0.2, held_out_correlation=0.98)
    verdict.check(dim)
    with pytest.raises(QualityError, match=r"held_out_error = 0.2 \(at most 0.107\)"):
        verdict.check(replace(dim, held_out_noise=0.036))


def test_the_mediocre_is_warned_of_with_numbers() -> None:
    found = of_name(replace(GOOD, held_out_error=0.07), "held_out_error")
    assert found.verdict is Verdict.WARNING
    assert found.expected == GOOD.held_out_noise
    assert found.limit > 0.1
    assert found.advice


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        ("held_out_correlation", 0.5),
        ("held_out_error", 0.8),
        ("split_half", 0.1),
        ("linearity", 1.0),
        ("distance_scatter", 0.3),
        ("conjugate_correlation", 0.9),
        ("stability", 0.9),
        ("snr", 0.01),
        ("visibility", 0.0),
        ("saturated_fraction", 0.2),
        ("dead_fraction", 0.2),
        ("dark_modes", 0.2),
        ("snr", math.nan),
        ("held_out_error", math.nan),
        ("stability", math.nan),
    ],
)
def test_each_figure_is_refused_by_name(figure: str, value: float) -> None:
    with pytest.raises(QualityError, match=f"{figure} = {value:.4g}"):
        verdict.check(replace(GOOD, **{figure: value}))


def test_all_failures_are_named() -> None:
    with pytest.raises(QualityError, match=r"snr.*split_half"):
        verdict.check(replace(GOOD, split_half=0.0, snr=0.0))


def test_stricter_limits_can_be_asked_for() -> None:
    verdict.check(GOOD, QualityLimits(unexplained=0.02))
    with pytest.raises(QualityError, match="held_out_error"):
        verdict.check(replace(GOOD, held_out_error=0.05), QualityLimits(unexplained=0.02))


def test_more_inputs_than_modes_have_no_law_to_follow() -> None:
    crowded = replace(GOOD, singular_values=np.linspace(3, 0, 1000).astype(np.float32))
    assert of_name(crowded, "law_deviation").verdict is Verdict.PASS
