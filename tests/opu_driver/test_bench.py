"""The bench as one instrument: synchronised, honest about slipped frames, dark when idle."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opu_driver import simulated_bench
from opu_driver.bench import MARKERS
from opu_driver.errors import (
    DeviceLostError,
    DeviceStateError,
    FrameError,
    FrameMismatchError,
    LaserSafetyError,
    LowSignalError,
    PatternError,
    SaturationError,
)


def random_patterns(bench, count, n_inputs=10, seed=0):
    bits = np.random.default_rng(seed).integers(0, 2, (count, n_inputs), np.uint8)
    return bench.layout(n_inputs).render(bits)


def test_each_pattern_has_its_frame():
    with simulated_bench("quiet") as bench:
        layout = bench.layout(10)
        singles = layout.render(np.eye(10, dtype=np.uint8))
        once = bench.expose(singles).astype(float).reshape(10, -1)
        again = bench.expose(singles[::-1]).astype(float).reshape(10, -1)[::-1]
        match = np.corrcoef(once - once.mean(axis=0), again - again.mean(axis=0))[:10, 10:]
        assert (match.argmax(axis=1) == np.arange(10)).all()


def test_a_batch_beyond_the_capacity_becomes_several_sequences():
    with simulated_bench("quiet", modulator={"capacity": 10}) as bench:
        room = 10 - MARKERS
        sequences = list(bench.stream([random_patterns(bench, 2 * room + 1)]))
        assert [len(sequence) for sequence in sequences] == [room, room, 1]
        assert bench.exposures == 2 * room + 1 + 3 * MARKERS
        assert all(sequence.markers.shape == (MARKERS, 128, 128) for sequence in sequences)


@settings(max_examples=15, deadline=None)
@given(count=st.integers(4, 30), faulty=st.data())
def test_no_slipped_frame_is_ever_returned(count, faulty):
    # A doubled last edge would only add a frame that nobody reads.
    edge = faulty.draw(st.integers(0, count + MARKERS - 2), label="edge")
    kind = faulty.draw(st.sampled_from(["dropped_triggers", "doubled_triggers", "stale_frames"]))
    with simulated_bench("quiet", faults={kind: [edge]}) as bench:
        patterns = random_patterns(bench, count)
        with pytest.raises(FrameError) as caught:
            bench.expose(patterns)
        if isinstance(caught.value, FrameMismatchError):
            assert 0 <= caught.value.first_wrong <= edge + 1
        assert len(bench.expose(patterns)) == count  # the bench works on after the fault


def test_the_error_names_the_first_wrong_frame():
    with simulated_bench("quiet", faults={"dropped_triggers": [7]}) as bench:
        with pytest.raises(FrameMismatchError, match="frame 7 is the first") as caught:
            bench.expose(random_patterns(bench, 20))
        assert caught.value.first_wrong == 7


def test_a_lost_camera_is_told():
    with (
        simulated_bench("quiet", faults={"camera_lost_at": 12}) as bench,
        pytest.raises(DeviceLostError),
    ):
        bench.expose(random_patterns(bench, 20))


def test_an_interlock_that_opens_ends_the_emission_and_keeps_the_bench_dark():
    with simulated_bench("quiet", faults={"interlock_opens_at": 12}) as bench:
        patterns = random_patterns(bench, 20)
        with pytest.raises((LaserSafetyError, FrameError)):
            for _ in range(3):
                bench.expose(patterns)
        assert not bench.laser.emitting
        with pytest.raises(LaserSafetyError):
            bench.expose(patterns)


def test_a_blocked_signal_arm_is_no_frame_slip_that_goes_unseen():
    with (
        simulated_bench("quiet", reference_ratio=1e9) as bench,
        pytest.raises(FrameMismatchError, match="no modulated light"),
    ):
        bench.expose(random_patterns(bench, 4))


def test_the_bench_is_dark_before_after_and_when_idle():
    bench = simulated_bench("quiet")
    with bench:
        assert not bench.laser.emitting
        bench.expose(random_patterns(bench, 2))
        assert bench.laser.emitting
        bench.darken()
        assert not bench.laser.emitting
        bench.expose(random_patterns(bench, 2))
    assert not bench.laser.emitting


def test_an_idle_bench_darkens_by_itself_and_lights_up_again():
    bench = simulated_bench("quiet")
    bench._light._idle_after_s = 0.05
    with bench:
        bench.expose(random_patterns(bench, 2))
        deadline = time.monotonic() + 10
        while bench.laser.emitting and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not bench.laser.emitting
        assert len(bench.expose(random_patterns(bench, 2))) == 2


def test_it_is_dark_when_the_consumer_of_a_stream_stops_or_fails():
    with simulated_bench("quiet") as bench:
        patterns = random_patterns(bench, 2)
        for _ in bench.stream([patterns] * 10):
            break
        assert not bench.laser.emitting

        def failing():
            yield patterns
            raise RuntimeError("no more")

        with pytest.raises(RuntimeError, match="no more"):
            list(bench.stream(failing()))
        assert not bench.laser.emitting


def test_a_device_that_fails_to_open_leaves_nothing_open(monkeypatch):
    bench = simulated_bench("quiet")

    def fail():
        raise DeviceLostError("unplugged")

    monkeypatch.setattr(bench.camera, "_open", fail)
    with pytest.raises(DeviceLostError), bench:
        pass
    assert not any(device.is_open for device in (bench.modulator, bench.camera, bench.laser))


def test_a_closed_bench_refuses():
    bench = simulated_bench("quiet")
    with pytest.raises(DeviceStateError):
        bench.expose(bench.layout(4).all_on())


def test_no_patterns_are_refused():
    with simulated_bench("quiet") as bench, pytest.raises(PatternError, match="at least one"):
        bench.expose(bench.layout(4).all_on()[:0])


def test_frames_too_bright_to_be_proven_are_told_as_such():
    with (
        simulated_bench("realistic", camera={"exposure_us": 3000.0}) as bench,
        pytest.raises(SaturationError, match="full where every input is on"),
    ):
        bench.expose(random_patterns(bench, 4))


@pytest.mark.parametrize("start_us", [10.0, 100.0, 3000.0])
def test_the_exposure_that_fits_is_found_from_anywhere(start_us):
    with simulated_bench("realistic", camera={"exposure_us": start_us}) as bench:
        advice = bench.fit_exposure(random_patterns(bench, 8))
        assert advice.mean_fraction == pytest.approx(0.125, rel=0.1)
        assert advice.saturated_fraction <= 1e-4
        assert advice.settings == bench.settings


def test_too_little_light_is_told_with_what_to_do():
    with (
        simulated_bench("quiet", electrons_per_nj=1e-7) as bench,
        pytest.raises((LowSignalError, FrameMismatchError)),
    ):
        bench.fit_exposure(random_patterns(bench, 4))


def test_too_much_light_is_told_with_what_to_do():
    with (
        simulated_bench("quiet", electrons_per_nj=5e3) as bench,
        pytest.raises((SaturationError, FrameMismatchError)),
    ):
        bench.fit_exposure(random_patterns(bench, 4))
