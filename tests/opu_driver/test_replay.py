import textwrap
from dataclasses import replace

import numpy as np
import pytest

from calibration.pipeline import calibrate
from opu_driver import open_bench, simulated_bench
from opu_driver.camera import Trigger
from opu_driver.errors import FrameMismatchError, RecordingError
from opu_driver.exposure_log import logged
from opu_driver.recording import Recording, record
from opu_driver.replay import ReplayedCamera, replayed_bench


def bits(count, inputs=16, seed=5):
    return np.random.default_rng(seed).integers(0, 2, (count, inputs), np.uint8)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Ten frames of four patterns, a change of the exposure, two more, and three dark frames."""
    path = tmp_path_factory.mktemp("replay") / "log.h5"
    with simulated_bench("realistic", seed=3) as bench, logged(bench, path, subject="a bit of all"):
        patterns = bench.layout(16).render(bits(4))
        frames = [bench.expose(patterns[np.arange(10) % 4])]
        bench.configure(replace(bench.settings, exposure_us=60.0))
        frames += [bench.expose(patterns[:2]), bench.dark_frames(3)]
    return path, patterns, frames


def test_a_whole_calibration_replays_bit_for_bit(tmp_path):
    path = tmp_path / "calibration.h5"
    with simulated_bench("realistic", seed=1) as bench, logged(bench, path, subject="calibration"):
        then = calibrate(bench, 10, seed=1)
    with replayed_bench(path) as bench:
        again = calibrate(bench, 10, seed=1)
        assert bench.exposures > 500
    np.testing.assert_array_equal(again.matrix, then.matrix)
    assert again.fingerprint() == then.fingerprint()
    assert again.carrier == then.carrier
    assert again.settings == then.settings
    assert again.identities == then.identities
    assert again.quality.numbers() == then.quality.numbers()


def test_the_same_work_gives_the_same_frames(recorded):
    path, patterns, frames = recorded
    with replayed_bench(path) as bench:
        assert bench.name == "simulated, realistic, seed 3"
        again = [bench.expose(patterns[np.arange(10) % 4])]
        bench.configure(replace(bench.settings, exposure_us=60.0))
        again += [bench.expose(patterns[:2]), bench.dark_frames(3)]
        with pytest.raises(FrameMismatchError, match="All 3 runs"):
            bench.expose(patterns)
    for then, now in zip(frames, again, strict=True):
        np.testing.assert_array_equal(then, now)


def test_a_log_tells_frames_from_markers_and_from_darkness(recorded):
    path, patterns, frames = recorded
    with Recording(path) as recording:
        assert recording.complete
        assert recording.n_asked is None
        assert [run.count for run in recording.runs] == [13, 5, 3]
        assert [run.settings.exposure_us for run in recording.runs] == [100.0, 60.0, 60.0]
        np.testing.assert_array_equal(recording.frames(), np.concatenate(frames[:2]))
        np.testing.assert_array_equal(recording.exposures(18).frames, frames[2])
        assert recording.markers().shape == (2, 3, 128, 128)
        shown = recording.some_patterns(recording.shown)
        np.testing.assert_array_equal(shown[:10], patterns[np.arange(10) % 4])


def test_other_patterns_settings_or_counts_are_refused(recorded):
    path, patterns, _ = recorded
    first = patterns[np.arange(10) % 4]
    with replayed_bench(path) as bench, pytest.raises(FrameMismatchError, match="Pattern 4 of 13"):
        bench.expose(np.concatenate([first[:3], first[:7]]))
    with replayed_bench(path) as bench, pytest.raises(FrameMismatchError, match="9 exposures"):
        bench.expose(first[:6])
    with replayed_bench(path) as bench:
        bench.configure(replace(bench.settings, exposure_us=61.0))
        with pytest.raises(FrameMismatchError, match="was set to"):
            bench.expose(first)
        narrow = replace(bench.settings.region, height=64)
        with pytest.raises(RecordingError, match="no others"):
            bench.configure(replace(bench.settings, region=narrow))


def test_stepped_exposures_replay_too(tmp_path):
    path = tmp_path / "stepped.h5"
    with simulated_bench("quiet", seed=3, camera={"trigger": "software"}) as bench:
        patterns = bench.layout(16).render(bits(6))
        with logged(bench, path):
            then = bench.expose(patterns)
    with replayed_bench(path) as bench:
        assert bench.settings.trigger is Trigger.SOFTWARE
        np.testing.assert_array_equal(bench.expose(patterns), then)


def test_what_failed_then_fails_again_and_is_kept_as_refused(tmp_path):
    path = tmp_path / "slipped.h5"
    faults = {"dropped_triggers": [20]}
    with simulated_bench("quiet", seed=3, faults=faults) as bench:
        patterns = bench.layout(16).render(bits(8))
        with pytest.raises(FrameMismatchError) as first, logged(bench, path):
            for _ in range(4):
                bench.expose(patterns)
    (path.parent / "slipped.partial.h5").rename(path)
    with Recording(path) as recording:
        assert not recording.complete
        assert len(recording) == 8
        assert recording.runs[-1].count < recording.runs[-1].shown
    with replayed_bench(path) as bench:
        bench.expose(patterns)
        with pytest.raises(FrameMismatchError) as second:
            bench.expose(patterns)
    assert second.value.first_wrong == first.value.first_wrong


def test_late_frames_are_recorded_beside_their_own_patterns(tmp_path):
    path = tmp_path / "late.h5"
    with simulated_bench("quiet", seed=3) as bench:
        patterns = bench.layout(16).render(bits(5))
        bench._frame_offset = 0
        with logged(bench, path) as log:
            then = bench.expose(patterns)
            late = _Late(log)
            late.replay(bench, patterns)
    with Recording(path) as recording:
        assert [run.count for run in recording.runs] == [8, 8]
        np.testing.assert_array_equal(recording.shown[:5], recording.shown[5:])
        np.testing.assert_array_equal(recording.frames(5), then)


class _Late:
    """Tells a log of a camera that lags two frames behind."""

    def __init__(self, log):
        self.log = log

    def replay(self, bench, patterns):
        from opu_driver.camera import FrameBlock

        on, off = bench.layout(1).all_on(), bench.layout(1).all_off()
        self.log.settle()
        with Recording(self.log.file.partial) as recording:
            whole = recording.exposures()
        stale = whole.frames[[-1, -1]]
        self.log._late = 2
        self.log.loaded(np.concatenate([on, patterns, on, off, off, off]))
        self.log.armed(bench.settings)
        frames = np.concatenate([stale, whole.frames])
        self.log.read(FrameBlock(frames, np.arange(10), np.arange(10.0), 0))
        self.log.disarmed()


def test_the_camera_alone_plays_its_frames_over_and_over(recorded):
    path, _, frames = recorded
    own = np.concatenate(frames[:2])
    camera = ReplayedCamera(path)
    with camera:
        settings = replace(camera._then.settings, trigger=Trigger.FREE)
        camera.configure(settings)
        camera.arm(20)
        seen = []
        while sum(map(len, seen)) < 20:
            seen.append(camera.read(7, 1.0).frames)
        camera.disarm()
    np.testing.assert_array_equal(np.concatenate(seen), own[np.arange(20) % 12])


def test_a_bench_file_names_a_recording(recorded, tmp_path):
    path, patterns, frames = recorded
    (tmp_path / "bench.toml").write_text(
        textwrap.dedent(f"""
        name = "replay"
        modulator = {{driver = "recording", path = {str(path)!r}}}
        camera = {{driver = "recording", path = {str(path)!r}, exposure_us = 100.0}}
        laser = {{driver = "recording", path = {str(path)!r}, power_mw = 10.0}}
        """)
    )
    with open_bench(tmp_path / "bench.toml") as bench:
        np.testing.assert_array_equal(bench.expose(patterns[np.arange(10) % 4]), frames[0])


def test_a_recording_without_frames_cannot_be_replayed(tmp_path):
    path = tmp_path / "empty.h5"
    with simulated_bench("quiet") as bench, logged(bench, path):
        pass
    with pytest.raises(RecordingError, match="cannot be replayed"):
        replayed_bench(path)
    with pytest.raises(RecordingError, match="does not exist"):
        replayed_bench(tmp_path / "missing.h5")


def test_a_change_of_the_region_needs_another_recording(tmp_path):
    with simulated_bench("quiet") as bench:
        patterns = bench.layout(16).render(bits(2))
        with (
            pytest.raises(RecordingError, match="Begin another recording"),
            logged(bench, tmp_path / "a.h5"),
        ):
            bench.expose(patterns)
            narrow = replace(bench.settings.region, height=64)
            bench.configure(replace(bench.settings, region=narrow))
            bench.expose(patterns)
    with Recording(tmp_path / "a.partial.h5") as recording:
        assert len(recording) == 2


def test_recording_a_replay_gives_the_same_recording(recorded, tmp_path):
    path, patterns, _ = recorded
    again = tmp_path / "again.h5"
    with replayed_bench(path) as bench, logged(bench, again):
        bench.expose(patterns[np.arange(10) % 4])
    with Recording(path) as first, Recording(again) as second:
        one, two = first.exposures(0, 13), second.exposures()
        np.testing.assert_array_equal(one.frames, two.frames)
        np.testing.assert_array_equal(one.ids, two.ids)
        np.testing.assert_array_equal(one.timestamps_us, two.timestamps_us)
        assert second.conditions.identities == first.conditions.identities
    record_again = tmp_path / "record.h5"
    with replayed_bench(path) as bench, pytest.raises(FrameMismatchError):
        record(bench, patterns, 4, record_again, patience=0)
