"""The bench as one instrument: synchronised, honest about slipped frames, dark when idle."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opu_driver import simulated_bench
from opu_driver.bench import MARKERS
from opu_driver.camera import Trigger
from opu_driver.errors import (
    DeviceLostError,
    DeviceStateError,
    FrameError,
    FrameMismatchError,
    LaserSafetyError,
    LowSignalError,
    PatternError,
    SaturationError,
    SettingError,
)
from opu_driver.virtual.camera import VirtualCamera
from opu_driver.virtual.modulators import VirtualDMD


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


@settings(max_examples=15)
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
            assert 0 <= caught.value.first_wrong <= edge
        assert len(bench.expose(patterns)) == count  # the bench works on after the fault


def test_the_error_names_the_first_wrong_frame():
    with simulated_bench("quiet", faults={"dropped_triggers": [7]}) as bench:
        with pytest.raises(FrameMismatchError, match="pattern 6 is the first") as caught:
            bench.expose(random_patterns(bench, 20))
        assert caught.value.first_wrong == 6  # the first edge is the marker's


def test_the_first_wrong_one_is_counted_over_all_patterns_of_a_stream():
    with simulated_bench("quiet", faults={"dropped_triggers": [13 + 3]}) as bench:
        patterns = random_patterns(bench, 10)
        with pytest.raises(FrameMismatchError) as caught:
            list(bench.stream([patterns, patterns]))
        assert caught.value.first_wrong == 10 + 2


class TwoBuffers(VirtualDMD):
    """A DMD that takes the next batch while it shows one, as an ALP does."""

    @property
    def loads_while_showing(self):
        return True

    def _load(self, patterns):
        shown = self._shown
        super()._load(patterns)
        self._shown = shown  # of the batch that is being shown


@pytest.fixture
def two_buffers(monkeypatch):
    monkeypatch.setattr("opu_driver.virtual.modulators.VirtualDMD", TwoBuffers)


@pytest.mark.parametrize("trigger", ["hardware", "software"])
def test_batches_that_are_loaded_ahead_keep_their_frames(two_buffers, trigger):
    with simulated_bench("quiet", camera={"trigger": trigger}) as bench:
        patterns = random_patterns(bench, 12)
        whole = bench.expose(patterns).reshape(12, -1).astype(float)
        parts = list(bench.stream([patterns[:4], patterns[4:8], patterns[8:]]))
        again = np.concatenate([part.frames for part in parts]).reshape(12, -1).astype(float)
        assert (np.corrcoef(whole, again)[:12, 12:].argmax(axis=1) == np.arange(12)).all()


def test_what_is_exposed_in_between_does_not_take_the_place_of_a_loaded_batch(two_buffers):
    with simulated_bench("quiet") as bench:
        patterns = random_patterns(bench, 8)
        others = random_patterns(bench, 4, seed=9)
        whole = bench.expose(patterns).reshape(8, -1).astype(float)
        again = []
        for part in bench.stream([patterns[:4], patterns[4:]]):
            again.append(part.frames)
            bench.expose(others)
        again = np.concatenate(again).reshape(8, -1).astype(float)
        assert (np.corrcoef(whole, again)[:8, 8:].argmax(axis=1) == np.arange(8)).all()


@pytest.mark.parametrize("slow", ["ahead", "between"])
def test_whichever_load_is_slower_no_batch_takes_the_place_of_another(two_buffers, slow):
    """A load that is under way and one in between end in either order."""
    with simulated_bench("quiet") as bench:
        patterns = random_patterns(bench, 8)
        others = random_patterns(bench, 4, seed=9)
        whole = bench.expose(patterns).reshape(8, -1).astype(float)
        between = bench.expose(others).reshape(4, -1).astype(float)
        load = bench.modulator.load

        def delayed(some):
            ahead = threading.current_thread().name.startswith("modulator-upload")
            time.sleep(0.1 if ahead == (slow == "ahead") else 0.02)
            load(some)

        bench.modulator.load = delayed
        again = []
        for part in bench.stream([patterns[:4], patterns[4:]]):
            again.append(part.frames)
            seen = bench.expose(others).reshape(4, -1).astype(float)
            assert (np.corrcoef(between, seen)[:4, 4:].argmax(axis=1) == np.arange(4)).all()
        again = np.concatenate(again).reshape(8, -1).astype(float)
        assert (np.corrcoef(whole, again)[:8, 8:].argmax(axis=1) == np.arange(8)).all()


def test_what_makes_a_batch_cannot_expose_while_another_is_shown(two_buffers):
    with simulated_bench("quiet") as bench:
        patterns = random_patterns(bench, 4)

        def exposing():
            yield patterns
            bench.expose(patterns)
            yield patterns

        with pytest.raises(DeviceStateError, match="Expose first"):
            list(bench.stream(exposing()))
        assert not bench.laser.emitting
        assert len(bench.expose(patterns)) == 4


def test_the_light_is_off_before_a_slow_batch_is_waited_for(two_buffers):
    with simulated_bench("quiet") as bench:
        patterns = random_patterns(bench, 2)
        dark = []

        def slow():
            yield patterns
            for _ in range(100):
                time.sleep(0.02)
                if not bench.laser.emitting:
                    dark.append(True)
                    break
            yield patterns

        for _ in bench.stream(slow()):
            break
        assert dark


def test_the_light_is_off_when_no_exposure_could_be_fitted():
    with simulated_bench("quiet", electrons_per_nj=5e3) as bench:
        with pytest.raises(SaturationError):
            bench.fit_exposure(random_patterns(bench, 4))
        assert not bench.laser.emitting


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


@pytest.mark.parametrize("seed", range(30))
def test_frames_in_the_dark_are_never_taken_for_proven(seed):
    with (
        simulated_bench("realistic", seed, faults={"interlock_opens_at": 20}) as bench,
        pytest.raises(LaserSafetyError),
    ):
        bench.expose(random_patterns(bench, 40))


def test_markers_of_dark_frames_prove_nothing():
    rng = np.random.default_rng(0)
    with simulated_bench("realistic") as bench:
        (sequence,) = bench.stream([random_patterns(bench, 1)])
        for _ in range(300):
            dark = np.rint(rng.normal(5.0, 0.25, (3, 128, 128))).astype(np.uint8)
            with pytest.raises(FrameMismatchError, match="not in their places"):
                bench._prove(replace(sequence, markers=dark))


def test_the_light_stays_on_through_a_sequence_longer_than_the_idle_time():
    bench = simulated_bench("quiet", camera={"trigger": "software"})
    bench._light._idle_after_s = 0.01
    with bench:
        step = bench.modulator.step
        bench.modulator.step = lambda: (time.sleep(0.002), step())[1]
        frames = bench.expose(random_patterns(bench, 40)).astype(float)
    assert frames.mean(axis=(1, 2)).min() > 0.5 * frames.mean()


def test_a_laser_that_does_not_answer_darkens_the_bench(monkeypatch):
    bench = simulated_bench("quiet")
    bench._light._idle_after_s = 0.2
    with bench:
        bench.expose(random_patterns(bench, 2))

        def fail():
            raise DeviceLostError("no answer")

        monkeypatch.setattr(bench.laser, "check", fail)
        deadline = time.monotonic() + 10
        while not bench._light._tripped and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not bench.laser.emitting
        with pytest.raises(LaserSafetyError, match="dark since"):
            bench.expose(random_patterns(bench, 2))


def test_exposures_end_before_the_next_pattern_comes():
    with simulated_bench("quiet", camera={"exposure_us": 1000.0}) as bench:
        window_us = bench.settings.exposure_us + bench.settings.trigger_delay_us
        assert bench.rate_hz <= 1e6 / window_us


@pytest.mark.parametrize("change", [{"trigger": "free"}, {"trigger_delay_us": 1.0}], ids=str)
def test_settings_that_would_mix_patterns_are_refused(change):
    bench = simulated_bench("realistic", camera=change)
    with pytest.raises(SettingError, match="Use"), bench:
        pass
    with simulated_bench("realistic") as bench:
        before = bench.settings
        wanted = {"trigger": Trigger.FREE} if "trigger" in change else change
        with pytest.raises(SettingError, match="Use"):
            bench.configure(replace(before, **wanted))
        assert bench.settings == before


def test_a_modulator_without_room_for_markers_is_refused():
    with (
        pytest.raises(SettingError, match="markers"),
        simulated_bench("quiet", modulator={"capacity": 5}),
    ):
        pass


def test_patterns_of_the_wrong_shape_are_refused_by_name():
    with simulated_bench("quiet") as bench, pytest.raises(PatternError, match="Layout"):
        bench.expose(np.zeros((3, 5, 8), np.uint8))


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


def test_a_driver_that_hangs_within_a_sequence_darkens_the_bench_within_a_second(monkeypatch):
    """Long before a bench counts as idle: a laser that the simulation does not excuse."""
    with simulated_bench("quiet") as bench:
        monkeypatch.setattr(bench.laser, "simulated", False)
        bench.expose(random_patterns(bench, 2))
        read = bench.camera.read
        dark_after_s = []

        def hangs(max_frames, timeout_s):
            began = time.monotonic()
            while bench.laser.emitting and time.monotonic() < began + 8:
                time.sleep(0.02)
            dark_after_s.append(time.monotonic() - began - timeout_s)
            return read(max_frames, timeout_s)

        bench.camera.read = hangs
        with pytest.raises(LaserSafetyError, match="no sign of itself"):
            bench.expose(random_patterns(bench, 2))
        assert 0 < dark_after_s[0] < 1.0
        with pytest.raises(LaserSafetyError, match="dark since"):
            bench.expose(random_patterns(bench, 2))


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
        pytest.raises(LowSignalError, match="Raise the laser power"),
    ):
        bench.fit_exposure(random_patterns(bench, 4))


@pytest.mark.parametrize("electrons_per_nj", [300.0, 5e3])
def test_too_much_light_is_told_with_what_to_do(electrons_per_nj):
    with (
        simulated_bench("quiet", electrons_per_nj=electrons_per_nj) as bench,
        pytest.raises(SaturationError, match="Lower the laser power"),
    ):
        bench.fit_exposure(random_patterns(bench, 4))


def test_a_modulator_without_a_trigger_line_is_stepped_or_refused(monkeypatch):
    monkeypatch.setattr(VirtualDMD, "gives_edges", property(lambda self: False))
    with (
        pytest.raises(SettingError, match="gives no trigger edges"),
        simulated_bench("quiet"),
    ):
        pass
    with simulated_bench("quiet", camera={"trigger": "software"}) as bench:
        assert bench.settings.trigger_delay_us == 0
        assert len(bench.expose(random_patterns(bench, 3))) == 3


class LaggingCamera(VirtualCamera):
    """A camera on a line of its own that is exposed `lag` times before the first pattern."""

    simulated = False
    lag = 1

    @property
    def address(self):
        return f"lagging camera {id(self)}"

    def see_edges(self, edges_us, again):
        if self.settings.trigger is not Trigger.HARDWARE:
            super().see_edges(edges_us, again)
            return
        first = edges_us[0] - self._period_us * np.arange(self.lag, 0, -1) - 1.0
        self._ready_us = -np.inf
        edges = np.concatenate([first, edges_us])
        super().see_edges(edges, np.concatenate([np.zeros(self.lag, bool), again]))


@pytest.fixture
def lagging(monkeypatch):
    def make(lag, **changes):
        monkeypatch.setattr(LaggingCamera, "lag", lag)
        monkeypatch.setattr("opu_driver.virtual.camera.VirtualCamera", LaggingCamera)
        return simulated_bench("quiet", **changes)

    return make


@pytest.mark.parametrize("lag", [0, 1, 2, 3])
def test_a_constant_lag_of_the_camera_is_measured_and_made_up_for(lagging, lag):
    with simulated_bench("quiet") as bench:
        patterns = random_patterns(bench, 6)
        true = bench.expose(patterns).reshape(6, -1).astype(float)
    with lagging(lag, modulator={"capacity": 12}) as bench:
        assert bench.frame_offset is None
        frames = bench.expose(patterns).reshape(6, -1).astype(float)
        assert bench.frame_offset == lag
        assert (np.corrcoef(true, frames)[:6, 6:].argmax(axis=1) == np.arange(6)).all()
        many = random_patterns(bench, 20)
        assert len(bench.expose(many)) == 20
        assert bench.fit_exposure(patterns).mean_fraction == pytest.approx(0.125, rel=0.1)


def test_a_lag_is_that_of_one_trigger(lagging):
    with lagging(1) as bench:
        patterns = random_patterns(bench, 6)
        by_edges = bench.settings
        bench.expose(patterns)
        assert bench.frame_offset == 1
        bench.configure(replace(by_edges, trigger=Trigger.SOFTWARE))
        assert bench.frame_offset is None
        stepped = bench.expose(patterns).reshape(6, -1).astype(float)
        assert bench.frame_offset == 0
        bench.configure(by_edges)
        shown = bench.expose(patterns).reshape(6, -1).astype(float)
        assert bench.frame_offset == 1
        assert (np.corrcoef(stepped, shown)[:6, 6:].argmax(axis=1) == np.arange(6)).all()


def test_dark_frames_are_all_dark_whatever_the_lag(lagging):
    with lagging(2) as bench:
        bench.expose(random_patterns(bench, 4))
        frames = bench.dark_frames(4)
        assert len(frames) == 4
        assert frames.mean(axis=(1, 2)) == pytest.approx(bench.camera.black_level, abs=1.0)


def test_the_watch_goes_on_whatever_goes_wrong_in_it(monkeypatch):
    with simulated_bench("quiet", laser={}) as bench:
        bench._light._idle_after_s = 0.1
        bench.expose(random_patterns(bench, 2))
        check = bench.laser.check
        monkeypatch.setattr(bench.laser, "check", lambda: 1 / 0)
        bench._light._need_for(5.0)
        deadline = time.monotonic() + 10
        while bench.laser.emitting and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not bench.laser.emitting
        monkeypatch.setattr(bench.laser, "check", check)
        assert bench._light._watch.is_alive()
        with pytest.raises(LaserSafetyError, match="could not be watched"):
            bench.expose(random_patterns(bench, 2))


def test_a_lag_that_changes_is_a_mismatch(lagging):
    with lagging(1) as bench:
        patterns = random_patterns(bench, 4)
        bench.expose(patterns)
        LaggingCamera.lag = 2
        with pytest.raises(FrameMismatchError):
            bench.expose(patterns)


def test_a_lag_longer_than_can_be_told_is_refused(lagging):
    with lagging(5) as bench, pytest.raises(FrameMismatchError, match="do not tell"):
        bench.expose(random_patterns(bench, 4))


@pytest.mark.parametrize("kept", [True, False])
def test_a_buffer_that_came_incomplete_is_a_mismatch(monkeypatch, kept):
    """The camera counts it as lost, and gives the others, or one too few of them."""
    read = VirtualCamera._read

    def spoilt(self, max_frames, timeout_s):
        block = read(self, max_frames, timeout_s)
        return replace(block if kept else block[:-1], lost=1)

    with simulated_bench("quiet") as bench:
        patterns = random_patterns(bench, 5)
        monkeypatch.setattr(VirtualCamera, "_read", spoilt)
        with pytest.raises(FrameMismatchError, match="frames lost|frames for 8 patterns"):
            bench.expose(patterns)
        monkeypatch.setattr(VirtualCamera, "_read", read)
        assert len(bench.expose(patterns)) == 5


def test_frames_without_proof_are_for_the_eye_alone():
    with simulated_bench("realistic", 1, camera={"exposure_us": 50_000.0}) as bench:
        dazzling = bench.layout(10).all_on()
        with pytest.raises(SaturationError):
            bench.expose(dazzling)
        frames = bench.unproven(np.repeat(dazzling, 3, axis=0))
        assert frames.shape == (3, bench.settings.region.height, bench.settings.region.width)
        assert float((frames == 255).mean()) > 0.25
    assert not bench.laser.emitting
