"""What every modulator must do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from opu_driver.bench import SMALLEST_CAPACITY
from opu_driver.conformance.conftest import random_patterns
from opu_driver.errors import CaptureTimeoutError, DeviceStateError, PatternError, SettingError
from opu_driver.modulator import Modulator, Patterns

_SLOW_HZ = 20.0
_PATIENCE_S = 30.0


@pytest.mark.disturbs(0)
def test_it_tells_what_it_can_do(modulator: Modulator) -> None:
    rows, columns = modulator.shape
    assert rows > 0
    assert columns > 0
    assert 2 <= modulator.levels <= 256
    assert modulator.pitch_um > 0
    assert modulator.max_rate_hz > 0
    assert modulator.settling_us >= 0
    assert modulator.capacity >= SMALLEST_CAPACITY


@pytest.mark.disturbs(0)
def test_it_refuses_patterns_that_do_not_fit(modulator: Modulator, patterns: Patterns) -> None:
    too_many = np.broadcast_to(patterns[:1], (modulator.capacity + 1, *modulator.pattern_shape))
    signed: Any = patterns.astype(np.int16)
    for wrong in (
        patterns[:, :-1],
        patterns[:, :, :-1],
        patterns[0],
        signed,
        patterns[:0],
        too_many,
    ):
        with pytest.raises(PatternError):
            modulator.load(wrong)


@pytest.mark.disturbs(0)
def test_it_refuses_to_show_what_it_does_not_have(modulator: Modulator) -> None:
    with pytest.raises(DeviceStateError, match="load"):
        modulator.step()
    with pytest.raises(DeviceStateError, match="load"):
        modulator.start(_SLOW_HZ)


@pytest.mark.disturbs(0)
def test_a_closed_one_refuses_work(modulator: Modulator, patterns: Patterns) -> None:
    modulator.close()
    with pytest.raises(DeviceStateError, match="not open"):
        modulator.load(patterns)
    with pytest.raises(DeviceStateError, match="not open"):
        modulator.wait(1.0)


@pytest.mark.disturbs(1)
@pytest.mark.parametrize("rate_hz", [0.0, -1.0, float("nan"), float("inf")])
def test_it_refuses_a_rate_out_of_range(
    modulator: Modulator, patterns: Patterns, rate_hz: float
) -> None:
    modulator.load(patterns)
    with pytest.raises(SettingError, match="rate"):
        modulator.start(rate_hz)
    with pytest.raises(SettingError, match="rate"):
        modulator.start(1.01 * modulator.max_rate_hz)


@pytest.mark.disturbs(1)
def test_it_counts_what_it_showed(modulator: Modulator, patterns: Patterns) -> None:
    for some in (patterns, patterns[:1], patterns[:3]):
        modulator.load(some)
        modulator.start(min(_SLOW_HZ, modulator.max_rate_hz))
        assert modulator.wait(_PATIENCE_S) == len(some)


@pytest.mark.disturbs(1)
def test_a_batch_can_be_shown_again(modulator: Modulator, patterns: Patterns) -> None:
    modulator.load(patterns)
    for _ in range(2):
        modulator.start(min(_SLOW_HZ, modulator.max_rate_hz))
        assert modulator.wait(_PATIENCE_S) == len(patterns)


@pytest.mark.disturbs(1)
def test_it_steps_in_order_to_the_end(modulator: Modulator, patterns: Patterns) -> None:
    modulator.load(patterns)
    assert [modulator.step() for _ in patterns] == list(range(len(patterns)))
    with pytest.raises(DeviceStateError, match="new batch"):
        modulator.step()


@pytest.mark.disturbs(1)
def test_a_stopped_batch_leaves_it_ready(modulator: Modulator, patterns: Patterns) -> None:
    modulator.load(patterns)
    modulator.start(min(_SLOW_HZ, modulator.max_rate_hz))
    modulator.stop()
    modulator.load(patterns[:2])
    modulator.start(min(_SLOW_HZ, modulator.max_rate_hz))
    assert modulator.wait(_PATIENCE_S) == 2


@pytest.mark.disturbs(1)
def test_it_loads_beside_a_running_batch_if_it_says_so(
    modulator: Modulator, patterns: Patterns
) -> None:
    if not modulator.loads_while_showing:
        pytest.skip("this modulator has one buffer")
    rate_hz = min(_SLOW_HZ, modulator.max_rate_hz)
    modulator.load(patterns)
    for following in (patterns[:3], patterns[:4], patterns[:2]):
        modulator.start(rate_hz)
        modulator.load(following)
        shown = modulator.wait(_PATIENCE_S)
        assert shown == len(patterns)
        patterns = following


@pytest.mark.disturbs(1)
def test_one_without_a_trigger_input_says_so(modulator: Modulator, patterns: Patterns) -> None:
    if modulator.takes_edges:
        pytest.skip("this modulator has a trigger input")
    modulator.load(patterns)
    with pytest.raises(SettingError, match="trigger"):
        modulator.start_on_edges()


@pytest.mark.disturbs(2)
def test_it_shows_many_at_its_highest_rate(modulator: Modulator) -> None:
    count = min(modulator.capacity, 256)
    modulator.load(random_patterns(modulator, count))
    modulator.start(modulator.max_rate_hz)
    assert modulator.wait(_PATIENCE_S + count / modulator.max_rate_hz) == count


@pytest.mark.disturbs(3)
def test_a_wait_that_is_too_short_says_so_and_harms_nothing(
    modulator: Modulator, patterns: Patterns
) -> None:
    modulator.load(patterns)
    modulator.start(min(2.0, modulator.max_rate_hz))
    try:
        shown = modulator.wait(1e-3)
    except CaptureTimeoutError:
        modulator.stop()
    else:  # only one that shows in simulated time is that quick
        assert shown == len(patterns)
    modulator.load(patterns[:2])
    modulator.start(min(_SLOW_HZ, modulator.max_rate_hz))
    assert modulator.wait(_PATIENCE_S) == 2


@pytest.mark.disturbs(3)
def test_closing_in_the_middle_of_a_batch_leaves_it_usable(
    modulator: Modulator, patterns: Patterns
) -> None:
    modulator.load(patterns)
    modulator.start(min(2.0, modulator.max_rate_hz))
    modulator.close()
    with modulator:
        modulator.load(patterns[:2])
        modulator.start(min(_SLOW_HZ, modulator.max_rate_hz))
        assert modulator.wait(_PATIENCE_S) == 2
