"""What a training step asks of machines, and what machines make of it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.encoding import BitPlanes, Ternary, exposures_a_row
from training.errors import MemoryShortageError, SettingsError
from training.experiments import named_recipe
from training.experiments.one_step import take_step
from training.experiments.step_cost import step_cost
from training.machine import Crossover, Electronics, Optics, graphics_processors, this_processor


@pytest.fixture(scope="module")
def digits():
    return named_recipe("best", "digits")


def test_a_fully_connected_step_is_what_its_widths_say(digits):
    cost = step_cost(digits)
    weights = 64 * 48 + 48 * 48 + 48 * 10
    first = 64 * 48  # no error goes below it
    assert cost.parameters == weights + 48 + 48 + 10
    assert cost.rows == 32
    assert cost.forward_flop == 2 * 32 * weights
    assert cost.backprop_flop == 2 * 32 * (2 * weights - first)
    assert cost.feedback_flop == 2 * 32 * weights  # each block sees its own feedback alone
    assert cost.projection_flop == 2 * 32 * 10 * 96
    assert cost.exposures == 64
    assert cost.moments_bytes == 2 * cost.parameters_bytes
    assert cost.matrix_bytes == 4 * 10 * 96


def test_counting_without_memory_is_counting_with_it(digits, mocker):
    without = step_cost(digits)
    mocker.patch.object(type(digits), "planned_on", "cpu")
    assert step_cost(digits) == without


def test_bit_planes_are_shown_one_after_the_other():
    assert exposures_a_row(Ternary(0.3)) == 2
    assert exposures_a_row(BitPlanes(3)) == 6


def test_a_step_is_taken(digits):
    step = take_step(digits, step_cost(digits), seed=0)
    assert step.after < step.loss
    assert min(step.build_s, step.forward_s, step.backward_s, step.update_s) > 0


def test_a_step_that_does_not_fit_is_refused_before_anything_is_built(digits, mocker):
    cost = step_cost(digits)
    mocker.patch("psutil.virtual_memory").return_value.available = 1000
    mocker.patch.object(type(digits), "prepare", side_effect=AssertionError)
    with pytest.raises(MemoryShortageError, match="1e-06 GB are free"):
        take_step(digits, cost, seed=0)


@pytest.mark.parametrize("allocate", [lambda *_: torch.empty(2**46), lambda *_: np.empty(2**46)])
def test_a_step_for_which_the_counted_memory_is_too_little_is_told_as_such(
    digits, mocker, allocate
):
    cost = step_cost(digits)
    mocker.patch.object(type(digits), "prepare", allocate)
    with pytest.raises(
        MemoryShortageError, match="GB are free on this machine, and yet: .*allocate"
    ):
        take_step(digits, cost, seed=0)


def test_other_failures_of_a_step_are_no_shortage(digits, mocker):
    mocker.patch.object(type(digits), "prepare", side_effect=RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        take_step(digits, step_cost(digits), seed=0)


def test_light_takes_its_exposures():
    optics = Optics(rate_hz=1000, n_inputs=100, n_outputs=1000)
    assert optics.seconds(500, 100, 1000) == 0.5
    assert optics.seconds(500, 101, 1001) == 2.0  # two halves of the inputs, two of the outputs
    assert Optics(n_outputs=10**6).products_per_s == 1.5e15  # the "1500 TeraOPS" of 1e6 x 1e6


@given(
    flop=st.floats(1e9, 1e15),
    watts=st.floats(1, 1e4),
    rate=st.floats(1, 1e5),
    exposures=st.integers(2, 16),
)
def test_at_the_crossover_both_are_equal(flop, watts, rate, exposures):
    processor = Electronics("some", flop, 1e12, 10**9, watts)
    optics = Optics(rate_hz=rate)
    crossover = Crossover.of(optics, processor, exposures)
    light_s = exposures / rate
    assert processor.seconds(2 * crossover.time**2) == pytest.approx(light_s)
    joules = watts * processor.seconds(2 * crossover.energy**2)
    assert joules == pytest.approx(optics.power_w * light_s)
    assert 4 * crossover.memory**2 == pytest.approx(processor.memory_bytes)


def test_a_step_takes_as_long_as_its_memory_traffic_at_least(digits):
    cost = step_cost(digits)
    weights = cost.parameters_bytes
    assert cost.traffic_bytes == 10 * weights + 2 * cost.activations_bytes  # Adam has two moments
    (_, h100) = graphics_processors(1.0)
    assert h100.seconds(cost.forward_flop, cost.traffic_bytes) == cost.traffic_bytes / 3.35e12
    assert h100.seconds(989e12, 3.35e12) == 1.0
    assert h100.seconds(2 * 989e12, 3.35e12) == 2.0


def test_machines():
    here = this_processor(10**9, side=64, rounds=1)
    assert here.flop_per_s > 0
    assert f"{torch.get_num_threads()} thread" in here.name
    assert Crossover.of(Optics(), here, 2).energy is None
    half, full = graphics_processors(0.5), graphics_processors(1.0)
    assert [2 * each.flop_per_s for each in half] == [each.flop_per_s for each in full]


@pytest.mark.parametrize("share", [0, -1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(SettingsError, match="share"):
        graphics_processors(share)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate_hz": 0},
        {"rate_hz": float("nan")},
        {"power_w": float("inf")},
        {"power_w": float("nan")},
        {"n_inputs": -1},
        {"n_outputs": 10**400},
    ],
)
def test_a_bench_that_cannot_be_is_refused(wrong):
    with pytest.raises(SettingsError, match="positive"):
        Optics(**wrong)
