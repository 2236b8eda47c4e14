"""What the devices must do together: light, from the modulator's mirrors to the camera's pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from opu_driver.bench import Bench
from opu_driver.bench_file import BenchFile, build_bench
from opu_driver.camera import Region, Trigger
from opu_driver.conformance.conftest import weakest_mw
from opu_driver.errors import (
    DeviceBusyError,
    FrameMismatchError,
    LowSignalError,
    PatternError,
    SettingError,
)
from opu_driver.modulator import Patterns

pytestmark = pytest.mark.disturbs(1)


@pytest.fixture
def lit(bench: Bench) -> Bench:
    """The bench in the weakest light in which it proves its frames, its exposure fitted to that."""
    full_mw = bench.start.power_mw
    power_mw = weakest_mw(bench.laser, full_mw)
    while True:
        bench.laser.set_power_mw(power_mw)
        try:
            return fitted(bench)
        except (LowSignalError, FrameMismatchError):
            if power_mw >= full_mw:
                raise
            power_mw = min(4 * power_mw, full_mw)


@pytest.fixture
def bright(bench: Bench) -> Bench:
    """The bench at the power of the bench file, its exposure fitted to that."""
    return fitted(bench)


def fitted(bench: Bench) -> Bench:
    """The bench, its exposure fitted to half-lit patterns and to all on."""
    bench.fit_exposure(np.concatenate([half_lit(bench, 2), bench.layout(1).all_on()]))
    return bench


def half_lit(bench: Bench, count: int, seed: int = 0) -> Patterns:
    """Patterns of ten inputs, a random half of them on."""
    layout = bench.layout(10)
    rng = np.random.default_rng(seed)
    return layout.render(np.stack([rng.permutation(10) < 5 for _ in range(count)]).astype(np.uint8))


def alike(frames: NDArray[np.generic], others: NDArray[np.generic]) -> NDArray[np.float64]:
    """Correlation of each frame with each of the others, `[frame, other]`."""
    a, b = (x.reshape(len(x), -1).astype(np.float64) for x in (frames, others))
    return np.asarray(np.corrcoef(a, b)[: len(a), len(a) :], np.float64)


def test_it_opens_dark_and_says_who_it_is(bench: Bench) -> None:
    assert not bench.laser.emitting
    assert len({str(identity) for identity in bench.identities.values()}) == 3


def test_frames_follow_their_patterns_in_any_order(lit: Bench) -> None:
    patterns = half_lit(lit, 6)
    order = np.array([3, 0, 5, 1, 4, 2])
    first, again = lit.expose(patterns), lit.expose(patterns[order])
    assert (alike(first, again).argmax(axis=0) == order).all()


def test_one_bench_shows_what_steps_show(lit: Bench) -> None:
    patterns = half_lit(lit, 4)
    frames = lit.expose(patterns)
    trigger = lit.settings.trigger
    other = Trigger.SOFTWARE if trigger is Trigger.HARDWARE else Trigger.HARDWARE
    try:
        lit.configure(replace(lit.settings, trigger=other))
    except SettingError:
        pytest.skip(f"these devices know no {other.value} trigger")
    assert (alike(frames, lit.expose(patterns)).argmax(axis=1) == np.arange(4)).all()


def test_batches_of_a_stream_come_in_order_with_their_markers(lit: Bench) -> None:
    patterns = half_lit(lit, 7)
    whole = lit.expose(patterns)
    batches = [patterns[:3], patterns[3:4], patterns[4:]]
    sequences = list(lit.stream(batches))
    assert [len(sequence) for sequence in sequences] == [3, 1, 3]
    frames = np.concatenate([sequence.frames for sequence in sequences])
    assert (alike(whole, frames).argmax(axis=1) == np.arange(7)).all()
    for sequence in sequences:
        on, also_on, off = (float(marker.std()) for marker in sequence.markers)
        assert min(on, also_on) > off


def test_the_light_goes_off_when_it_is_not_wanted(lit: Bench) -> None:
    lit.expose(half_lit(lit, 1))
    lit.darken()
    assert not lit.laser.emitting
    with pytest.raises(RuntimeError, match="on purpose"):
        for _ in lit.stream([half_lit(lit, 1)] * 3):
            raise RuntimeError("on purpose")
    assert len(lit.expose(half_lit(lit, 1))) == 1


def test_a_consumer_that_wants_no_more_leaves_it_dark_and_usable(lit: Bench) -> None:
    for _ in lit.stream([half_lit(lit, 2)] * 3):
        break
    assert not lit.laser.emitting
    assert len(lit.expose(half_lit(lit, 2))) == 2


def test_patterns_that_do_not_fit_are_refused_and_leave_it_usable(lit: Bench) -> None:
    with pytest.raises(PatternError):
        lit.expose(np.zeros((1, 1, 1), np.uint8))
    assert len(lit.expose(half_lit(lit, 1))) == 1


def test_a_region_is_a_part_of_the_sensor(lit: Bench) -> None:
    region = lit.settings.region
    rows, columns = (n // 2 // 16 * 16 for n in region.shape)
    if min(rows, columns) < 16:
        pytest.skip("the region has no smaller part")
    pattern = half_lit(lit, 1)
    whole = lit.expose(np.repeat(pattern, 8, axis=0)).mean(axis=0, keepdims=True)
    lit.configure(replace(lit.settings, region=Region(region.row, region.column, rows, columns)))
    part = lit.expose(np.repeat(pattern, 8, axis=0)).mean(axis=0, keepdims=True)
    here = alike(part, whole[:, :rows, :columns])[0, 0]
    there = alike(part, whole[:, -rows:, -columns:])[0, 0]
    assert here > 0.8 > there


@pytest.mark.disturbs(0)
def test_one_bench_owns_the_devices(bench: Bench, bench_file: BenchFile) -> None:
    devices = (bench.modulator, bench.camera, bench.laser)
    if not any(device.address for device in devices):
        pytest.skip("virtual devices belong to their process")
    with pytest.raises(DeviceBusyError, match="process"), build_bench(bench_file):
        pass
    assert not bench.laser.emitting


@pytest.mark.disturbs(2)
def test_more_than_the_modulator_holds_becomes_several_sequences(bright: Bench) -> None:
    room = bright.longest_sequence
    if room > 2000:
        pytest.skip("the modulator holds more than a test should show")
    patterns = half_lit(bright, room + 2)
    assert [len(sequence) for sequence in bright.stream([patterns])] == [room, 2]


@pytest.mark.disturbs(2)
def test_light_is_proportional_to_power(bright: Bench) -> None:
    full = bright.power_mw
    pattern = np.repeat(half_lit(bright, 1), 4, axis=0)
    black = bright.camera.black_level
    grey = float(bright.expose(pattern).mean(dtype=np.float64)) - black
    low, _ = bright.laser.power_limits_mw
    half = max(low, full / 2)
    bright.laser.set_power_mw(half)
    dimmer = float(bright.expose(pattern).mean(dtype=np.float64)) - black
    assert dimmer / grey == pytest.approx(half / full, rel=0.15)
