import numpy as np
import pytest

from opu_driver import simulated_bench
from opu_driver.recording import Recording, record
from tools.viewer.playback import Playback

FRAMES = 20


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("playback") / "a.h5"
    with simulated_bench("realistic", 1) as bench:
        bits = np.random.default_rng(0).integers(0, 2, (4, 16), np.uint8)
        record(bench, bench.layout(16).render(bits), FRAMES, path)
    return path


@pytest.fixture
def playback(path):
    with Recording(path) as recording:
        yield Playback(recording, now_s=100.0)


def test_it_plays_in_the_time_of_the_clock_and_begins_anew(playback):
    assert playback.rate_hz == 30.0
    frames = playback.recording.frames()
    for at in (0, 3, 19, 20, 41):
        playback.advance(100.0 + (at + 0.5) / 30.0)
        assert playback.position == at % FRAMES
        np.testing.assert_array_equal(playback.newest.frame, frames[at % FRAMES])
        assert playback.newest.number == at % FRAMES


def test_it_stands_still_where_it_is_put(playback):
    playback.seek(7)
    playback.advance(200.0)
    assert (playback.position, playback.playing) == (7, False)
    playback.seek(-1)
    assert playback.position == FRAMES - 1
    playback.seek(7)
    playback.play(300.0)
    playback.advance(300.1)
    assert playback.position == 10


def test_a_neighbour_of_the_same_pattern_tells_the_noise(playback, tmp_path):
    assert playback.newest.again is None
    with simulated_bench("realistic", 1) as bench:
        record(bench, bench.layout(1).all_on(), 3, tmp_path / "on.h5")
    with Recording(tmp_path / "on.h5") as recording:
        same = Playback(recording)
        frames = recording.frames()
        np.testing.assert_array_equal(same.newest.again, frames[1])
        same.seek(2)
        np.testing.assert_array_equal(same.newest.again, frames[1])


def test_grey_values_keep_their_meaning(playback):
    conditions = playback.recording.conditions
    assert playback.newest.grey.full == conditions.saturation_level == 255
    assert playback.newest.grey.black == conditions.black_level > 0


def test_each_exposure_has_a_setting_of_its_own_and_is_told(tmp_path):
    with simulated_bench("quiet", 1) as bench:
        record(bench, bench.layout(1).all_on(), 2, tmp_path / "a.h5", exposures_us=(30.0, 60.0))
    with Recording(tmp_path / "a.h5") as recording:
        playback = Playback(recording)
        settings, told = [], []
        for position in range(4):
            playback.seek(position)
            settings.append(playback.newest.setting)
            told.append(playback.told)
        assert settings == [0, 0, 1, 1]
        assert "30 µs" in told[1]
        assert "60 µs" in told[2]
        passed_us = recording.timestamps_us[3] - recording.timestamps_us[0]
        assert told[3].startswith(f"{passed_us / 1e6:.3f} s, pattern 0")
        playback.seek(1)
        np.testing.assert_array_equal(playback.newest.again, recording.frames(0, 1)[0])
