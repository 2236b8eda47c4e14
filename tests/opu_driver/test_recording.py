import math
import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from opu_driver import recording_pace, simulated_bench
from opu_driver.bench import MARKERS
from opu_driver.errors import (
    DeviceLostError,
    FrameMismatchError,
    PatternError,
    RecordingError,
    SaturationError,
    SettingError,
)
from opu_driver.recording import Recording, Role, give_name, partial_path, record
from opu_driver.replay import replayed_bench
from opu_driver.virtual.camera import VirtualCamera


@pytest.fixture
def bench():
    with simulated_bench("quiet", seed=3) as opened:
        yield opened


def some_patterns(bench, count=4):
    rng = np.random.default_rng(5)
    return bench.layout(16).render(rng.integers(0, 2, (count, 16), np.uint8))


def as_cut(bench, patterns, recording):
    """The frames of the sequences of a recording, exposed once more."""
    frames, done = [], 0
    for run in recording.runs:
        shown = np.arange(done, done + run.count - MARKERS) % len(patterns)
        frames.append(bench.expose(patterns[shown]))
        done += len(shown)
    return np.concatenate(frames)


def test_a_recording_gives_back_what_the_bench_showed_and_saw(bench, tmp_path):
    patterns = some_patterns(bench)
    told = []
    path = record(
        bench,
        patterns,
        10,
        tmp_path / "speckle.h5",
        subject="random, seed 5",
        progress=lambda *now: told.append(now),
    )
    with Recording(path) as recording, simulated_bench("quiet", seed=3) as again:
        expected = as_cut(again, patterns, recording)
        assert len(recording) == recording.n_asked == 10
        assert recording.complete
        np.testing.assert_array_equal(recording.frames(), expected)
        np.testing.assert_array_equal(recording.frames(3, 5), expected[3:5])
        np.testing.assert_array_equal(np.concatenate(list(recording.blocks())), expected)
        np.testing.assert_array_equal(
            recording.patterns[recording.shown], patterns[np.arange(10) % 4]
        )
        assert len(recording.patterns) == 4 + 2  # and the two of the markers
        for run in recording.runs:
            ids = recording.exposures(run.first, run.first + run.count).ids
            assert (np.diff(ids) == 1).all()
        assert (np.diff(recording.timestamps_us) > 0).all()
        conditions = recording.conditions
        assert conditions.settings == bench.settings
        assert conditions.identities == bench.identities
        assert conditions.power_mw == bench.power_mw
        assert conditions.subject == "random, seed 5"
        assert conditions.saturation_level == bench.camera.saturation_level
    assert told[-1] == (10, 10, 0)
    assert list(tmp_path.iterdir()) == [path]


def test_more_frames_than_a_batch_holds_become_several_sequences(tmp_path):
    with simulated_bench("quiet", modulator={"capacity": 8}) as bench:
        path = record(bench, some_patterns(bench), 23, tmp_path / "long.h5")
    with Recording(path) as recording:
        assert len(recording) == 23
        assert (np.diff(recording.timestamps_us) > 0).all()


@pytest.mark.parametrize("taken", ["out.h5", "out.partial.h5"])
def test_nothing_is_overwritten(bench, tmp_path, taken):
    (tmp_path / taken).write_text("precious")
    with pytest.raises(RecordingError, match="exists already"):
        record(bench, some_patterns(bench), 4, tmp_path / "out.h5")
    assert (tmp_path / taken).read_text() == "precious"
    assert len(list(tmp_path.iterdir())) == 1


def test_impossible_requests_are_refused(bench, tmp_path):
    patterns = some_patterns(bench)
    with pytest.raises(SettingError, match="0 frames"):
        record(bench, patterns, 0, tmp_path / "a.h5")
    with pytest.raises(PatternError, match="at least one"):
        record(bench, patterns[:0], 4, tmp_path / "a.h5")
    with pytest.raises(RecordingError, match="GB free"):
        record(bench, patterns, 10**12, tmp_path / "a.h5")
    with pytest.raises(SettingError, match="2 exposure times and no number"):
        record(bench, patterns, None, tmp_path / "a.h5", exposures_us=[50, 100])
    with pytest.raises(RecordingError, match="Name a folder that exists"):
        record(bench, patterns, 4, tmp_path / "nowhere" / "a.h5")
    assert not list(tmp_path.iterdir())


def test_what_is_no_recording_is_refused_by_name(bench, tmp_path):
    with pytest.raises(RecordingError, match="does not exist"):
        Recording(tmp_path / "missing.h5")
    text = tmp_path / "text.h5"
    text.write_text("no HDF5")
    with pytest.raises(RecordingError, match="cannot be opened"):
        Recording(text)
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["x"] = 1
    with pytest.raises(RecordingError, match="its schema is None"):
        Recording(other)
    good = record(bench, some_patterns(bench), 4, tmp_path / "good.h5")
    content = good.read_bytes()
    truncated = tmp_path / "truncated.h5"
    truncated.write_bytes(content[: len(content) // 2])
    with pytest.raises(RecordingError, match="cannot be opened"):
        Recording(truncated)
    with h5py.File(good, "r+") as file:
        file.attrs["conditions"] = "{}"
    with pytest.raises(RecordingError, match=r"conditions, bench: field required \(and") as caught:
        Recording(good)
    assert "\n" not in str(caught.value)
    assert "http" not in str(caught.value)


@pytest.mark.parametrize(
    "part", ["frames", "ids", "timestamps_us", "patterns", "shown", "role", "runs"]
)
def test_a_recording_without_one_of_its_parts_is_damaged(bench, tmp_path, part):
    path = record(bench, some_patterns(bench), 4, tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        del file[part]
    with pytest.raises(RecordingError, match=f"damaged: it has no {part}"):
        Recording(path)


@pytest.mark.parametrize(
    ("done", "told"),
    [
        (8, "room for 7"),
        (-1, "room for 7"),
        (6, "runs are not its 6"),
        ("all", "how many"),
        (None, "how"),
    ],
)
def test_a_wrong_count_of_frames_is_not_believed(bench, tmp_path, done, told):
    path = record(bench, some_patterns(bench), 4, tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        del file["done"]
        if done is not None:
            file["done"] = done
    with pytest.raises(RecordingError, match=f"damaged: .*{told}"):
        Recording(path)


def test_frames_until_a_failure_stay_under_the_partial_name(tmp_path):
    faults = {"camera_lost_at": 20}
    bench = simulated_bench("quiet", modulator={"capacity": 8}, faults=faults)
    with bench, pytest.raises(DeviceLostError, match="does not answer"):
        record(bench, some_patterns(bench), 40, tmp_path / "lost.h5")
    assert not (tmp_path / "lost.h5").exists()
    with Recording(partial_path(tmp_path / "lost.h5")) as recording:
        assert 0 < len(recording) < 40
        assert not recording.complete
        assert recording.frames().std() > 0


KILLED = """
import sys
from pathlib import Path
import numpy as np
from opu_driver import simulated_bench
from opu_driver.recording import record

with simulated_bench("quiet", seed=3, modulator={"capacity": 16}) as bench:
    patterns = bench.layout(4).render(np.eye(4, dtype=np.uint8))
    record(bench, patterns, 100_000, Path(sys.argv[1]), progress=lambda *told: print(*told))
"""


def test_a_killed_process_leaves_a_readable_recording(tmp_path):
    path = tmp_path / "killed.h5"
    process = subprocess.Popen(
        [sys.executable, "-uc", KILLED, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    with process:
        assert process.stdout is not None
        for _ in range(5):
            reported = int(process.stdout.readline().split()[0])
        time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    with (
        Recording(partial_path(path)) as recording,
        simulated_bench("quiet", seed=3, modulator={"capacity": 16}) as bench,
    ):
        patterns = bench.layout(4).render(np.eye(4, dtype=np.uint8))
        expected = bench.expose(patterns[np.arange(recording.runs[0].count - MARKERS)])
        assert reported <= len(recording) < 100_000
        # Another number of threads may round one field in a million to the next grey value.
        off_by = np.abs(recording.frames(0, len(expected)).astype(int) - expected)
        assert off_by.max() <= 1
        assert off_by.mean() < 1e-4
        assert (np.diff(recording.timestamps_us) > 0).all()
    assert not path.exists()


FULL = """
import resource
import sys
from pathlib import Path
import numpy as np
from opu_driver import simulated_bench
from opu_driver.errors import RecordingError
from opu_driver.recording import record

resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, 4_000_000))
with simulated_bench("quiet", seed=3, modulator={"capacity": 16}) as bench:
    patterns = bench.layout(4).render(np.eye(4, dtype=np.uint8))
    try:
        record(bench, patterns, 1000, Path(sys.argv[1]), progress=lambda *told: print(*told))
    except RecordingError as error:
        print(error, file=sys.stderr)
"""


def test_a_full_disk_leaves_a_readable_recording(tmp_path):
    pytest.importorskip("resource", reason="a limit on files stands for the full disk")
    path = tmp_path / "full.h5"
    ended = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    assert "cannot be written" in ended.stderr
    reported = int(ended.stdout.splitlines()[-1].split()[0])
    with Recording(partial_path(path)) as recording:
        assert len(recording) == reported > 100
        assert not recording.complete
        assert (recording.frames().std(axis=(1, 2)) > 1).all()


def test_a_recording_that_is_ended_on_purpose_is_complete(bench, tmp_path):
    told = []
    path = record(
        bench,
        some_patterns(bench),
        None,
        tmp_path / "endless.h5",
        progress=lambda *now: told.append(now),
        enough=lambda: told[-1][0] > 20,
    )
    with Recording(path) as recording:
        assert len(recording) == told[-1][0] > 20
        assert told[-1][1:] == (0, 0)
        assert recording.n_asked is None
        assert recording.complete
        assert "incomplete" not in recording._repr_html_()
    with pytest.raises(SettingError, match="one or the other"):
        record(bench, some_patterns(bench), 3, tmp_path / "a.h5", enough=lambda: True)


def test_a_recording_until_an_exception_gets_its_name_afterwards(bench, tmp_path):
    def stop(done, total, refused):
        raise KeyboardInterrupt

    path = tmp_path / "endless.h5"
    with pytest.raises(KeyboardInterrupt):
        record(bench, some_patterns(bench), None, path, progress=stop)
    assert give_name(path) == path
    with Recording(path) as recording:
        assert len(recording)
        assert recording.complete
    assert not partial_path(path).exists()
    with pytest.raises(RecordingError, match="cannot be written"):
        give_name(path)


def test_sequences_are_short_where_exposures_take_long(tmp_path, monkeypatch):
    now_s = 0.0

    def slow(self):
        nonlocal now_s
        now_s += 0.02
        trigger(self)

    trigger = VirtualCamera._trigger
    monkeypatch.setattr(VirtualCamera, "_trigger", slow)
    monkeypatch.setattr(recording_pace, "now_s", lambda: now_s)
    with simulated_bench("quiet", camera={"trigger": "software"}) as bench:
        path = record(bench, some_patterns(bench), 80, tmp_path / "a.h5")
    with Recording(path) as recording:
        took_s = [run.shown * 0.02 for run in recording.runs]
    assert max(took_s) <= recording_pace.AIM_S
    assert took_s[2] > 0.9 * recording_pace.AIM_S  # what the markers cost is little
    assert len(took_s) < 7


def test_sequences_grow_where_exposures_are_quick(monkeypatch):
    now_s = 0.0
    monkeypatch.setattr(recording_pace, "now_s", lambda: now_s)
    pace = recording_pace.Pace(10**6)
    lengths = [pace.length]
    for _ in range(4):
        now_s += 2e-4 * (pace.length + MARKERS)
        pace.done(pace.length)
        lengths.append(pace.length)
    assert lengths == [4, 16, 64, 256, 512]
    pace.refused()
    assert pace.length == 128
    now_s += 3600.0  # somebody else has had the bench
    pace.begin()
    now_s += 2e-4 * (pace.length + MARKERS)
    pace.done(pace.length)
    assert pace.length == 512
    assert recording_pace.Pace(1).length == 1


def test_a_dropped_trigger_costs_a_sequence_and_not_the_recording(tmp_path):
    faults = {"dropped_triggers": [20, 60]}
    told = []
    path = tmp_path / "a.h5"
    with simulated_bench("quiet", 3, modulator={"capacity": 16}, faults=faults) as bench:
        patterns = some_patterns(bench)
        record(bench, patterns, 40, path, progress=lambda *now: told.append(now))
    with Recording(path) as recording:
        assert recording.complete
        assert len(recording) == 40
        assert recording.refused == told[-1][2] > 0
        assert "refused" in recording._repr_html_()
        spoilt = [run for run in recording.runs if run.refused]
        assert len(spoilt) == 2
        assert all(run.count < run.shown == run.refused + MARKERS for run in spoilt)
        roles = [set(recording.roles[run.first : run.first + run.count]) for run in spoilt]
        assert roles == [{Role.REFUSED}] * 2  # they are there, and nobody takes them for proven
        shown = recording.some_patterns(recording.shown)
        np.testing.assert_array_equal(shown, patterns[np.arange(40) % 4])
        frames = recording.frames()
    with replayed_bench(path) as bench:
        again = record(bench, patterns, 40, tmp_path / "again.h5")
    with Recording(again) as recording:
        np.testing.assert_array_equal(recording.frames(), frames)


def test_patience_with_refused_sequences_has_an_end(tmp_path):
    with simulated_bench("quiet", faults={"dropped_trigger_rate": 1.0}) as bench:
        patterns = some_patterns(bench)
        with pytest.raises(FrameMismatchError, match="0 frames for 7") as caught:
            record(bench, patterns, 4, tmp_path / "a.h5", patience=1)
        assert "in a row: 2" in caught.value.__notes__[0]
        with pytest.raises(SettingError, match="patience = -1"):
            record(bench, patterns, 4, tmp_path / "a.h5", patience=-1)
    assert not list(tmp_path.iterdir())  # there was no frame at all


def test_a_start_that_is_refused_can_be_tried_again(bench, tmp_path):
    path = tmp_path / "a.h5"
    for number in (1, 2):
        with pytest.raises(SaturationError) as caught:
            record(bench, some_patterns(bench), 4, path, exposures_us=[30_000])
        refused = tmp_path / f"a.refused-{number}.h5"
        assert str(refused) in caught.value.__notes__[0]
    with Recording(refused) as recording:
        assert len(recording) == 0
        assert recording.n_exposures == 7  # measured all the same
    record(bench, some_patterns(bench), 4, path)
    assert not partial_path(path).exists()


def test_each_exposure_time_takes_all_frames(bench, tmp_path):
    before = bench.settings
    path = record(bench, some_patterns(bench), 3, tmp_path / "a.h5", exposures_us=[50, 100, 200])
    assert bench.settings == before
    with Recording(path) as recording:
        assert len(recording) == recording.n_asked == 9
        assert [run.settings.exposure_us for run in recording.runs] == [50, 100, 200]
        assert "50, 100, 200 µs" in recording._repr_html_()
        means = recording.frames().reshape(3, -1).mean(axis=1) - recording.conditions.black_level
    np.testing.assert_allclose(means / means[0], [1, 2, 4], rtol=0.03)


FIRST_SCHEMA = """{"bench": "old", "identities": {"camera": {"vendor": "v", "model": "m",
"serial": "1", "firmware": ""}}, "settings": {"exposure_us": 100.0, "region": {"row": 0,
"column": 0, "height": 4, "width": 6}, "pixel_format": "mono8", "gain_db": 0.0,
"trigger": "hardware", "trigger_delay_us": 13.0}, "power_mw": 10.0, "rate_hz": 1000.0,
"black_level": 5.0, "saturation_level": 255.0, "subject": "on", "began_at": "2026-01-01",
"software": "0.0.9"}"""


def test_recordings_of_the_first_schema_still_open(tmp_path):
    path = tmp_path / "old.h5"
    frames = np.random.default_rng(0).integers(0, 255, (5, 4, 6), np.uint8)
    patterns = np.arange(2, dtype=np.uint8).reshape(2, 1, 1)
    with h5py.File(path, "w") as file:
        file.attrs["schema"] = "opu-recording 1"
        file.attrs["conditions"] = FIRST_SCHEMA
        file["frames"], file["patterns"] = frames, patterns
        file["ids"], file["timestamps_us"] = np.arange(5), np.arange(5.0)
        file["done"] = 4
    with Recording(path) as recording:
        assert len(recording) == 4
        assert recording.n_asked == 5
        assert not recording.complete
        np.testing.assert_array_equal(recording.frames(), frames[:4])
        np.testing.assert_array_equal(recording.shown, [0, 1, 0, 1])
        assert recording.conditions.devices is None
        assert recording.runs == ()
        assert recording.lost == 0
    with pytest.raises(RecordingError, match="cannot be replayed"):
        replayed_bench(path)


def test_a_camera_that_does_not_tell_its_pitch_is_recorded_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(VirtualCamera, "pitch_um", property(lambda self: math.nan))
    path = tmp_path / "r.h5"
    with simulated_bench("quiet") as bench:
        record(bench, bench.layout(4).all_on(), 3, path)
    with Recording(path) as recording:
        assert recording.conditions.devices.pixel_pitch_um is None
