import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from opu_driver import simulated_bench
from opu_driver.errors import DeviceLostError, PatternError, RecordingError, SettingError
from opu_driver.recording import Recording, partial_path, record


@pytest.fixture
def bench():
    with simulated_bench("quiet", seed=3) as opened:
        yield opened


def some_patterns(bench, count=4):
    rng = np.random.default_rng(5)
    return bench.layout(16).render(rng.integers(0, 2, (count, 16), np.uint8))


def test_a_recording_gives_back_what_the_bench_showed_and_saw(bench, tmp_path):
    patterns = some_patterns(bench)
    told = []
    path = record(
        bench,
        patterns,
        10,
        tmp_path / "speckle.h5",
        subject="random, seed 5",
        progress=lambda done, total: told.append((done, total)),
    )
    with simulated_bench("quiet", seed=3) as again:
        expected = again.expose(patterns[np.arange(10) % 4])
    with Recording(path) as recording:
        assert len(recording) == recording.n_asked == 10
        assert recording.complete
        np.testing.assert_array_equal(recording.frames(), expected)
        np.testing.assert_array_equal(recording.frames(3, 5), expected[3:5])
        np.testing.assert_array_equal(np.concatenate(list(recording.blocks())), expected)
        np.testing.assert_array_equal(recording.patterns, patterns)
        assert (np.diff(recording.ids) == 1).all()
        assert (np.diff(recording.timestamps_us) > 0).all()
        conditions = recording.conditions
        assert conditions.settings == bench.settings
        assert conditions.identities == bench.identities
        assert conditions.power_mw == bench.power_mw
        assert conditions.subject == "random, seed 5"
        assert conditions.saturation_level == bench.camera.saturation_level
    assert told[-1] == (10, 10)
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


@pytest.mark.parametrize("part", ["frames", "ids", "timestamps_us", "patterns"])
def test_a_recording_without_one_of_its_parts_is_damaged(bench, tmp_path, part):
    path = record(bench, some_patterns(bench), 4, tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        del file[part]
    with pytest.raises(RecordingError, match=f"damaged: it has no {part}"):
        Recording(path)


@pytest.mark.parametrize(
    ("done", "told"), [(5, "room for 4"), (-1, "room for 4"), ("all", "how many"), (None, "how")]
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
    with simulated_bench("quiet", seed=3, modulator={"capacity": 16}) as bench:
        patterns = bench.layout(4).render(np.eye(4, dtype=np.uint8))
        expected = next(iter(bench.stream([patterns[np.arange(13) % 4]]))).frames
    with Recording(partial_path(path)) as recording:
        assert reported <= len(recording) < 100_000
        # Another number of threads may round one field in a million to the next grey value.
        off_by = np.abs(recording.frames(0, 13).astype(int) - expected)
        assert off_by.max() <= 1
        assert off_by.mean() < 1e-4
        assert (np.diff(recording.timestamps_us) > 0).all()
    assert not path.exists()
