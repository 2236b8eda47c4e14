import time
from dataclasses import replace

import pytest

from opu_driver.recording import Recording, partial_path
from tools.viewer.live import State
from tools.viewer.shown_pattern import Kind, ShownPattern


def failed(live):
    return lambda: live.status.state is State.FAILED


def test_frames_come_and_nobody_has_to_take_them(running, wait_until):
    first = running.newest
    taken = running.status.frames
    wait_until(lambda: running.status.frames > taken + 100)
    assert running.newest.number > first.number
    assert running.newest.frame.shape == (128, 128)
    assert running.status.lost == 0
    assert running.status.emitting is True
    assert running.status.rate_hz > 0


def test_darkness_is_there_when_the_call_returns_and_stays(running, wait_until):
    laser = running._bench.laser
    running.darken()
    assert not laser.emitting
    wait_until(lambda: running.status.state is State.DARK)
    assert running.status.emitting is False
    assert running.status.message == ""
    assert not laser.is_open
    taken = running.status.frames
    time.sleep(0.3)
    assert running.status.frames == taken
    assert not laser.emitting


@pytest.mark.parametrize("delay_s", [0.0, 0.003, 0.011, 0.019])
def test_darkness_comes_whenever_it_is_asked_for(running, wait_until, delay_s):
    time.sleep(delay_s)
    running.darken()
    wait_until(lambda: running.status.state is State.DARK)
    assert not running._bench.laser.emitting


def test_a_darkened_bench_opens_again_with_the_settings_that_it_had(running, wait_until):
    running.configure(lambda s: replace(s, exposure_us=33.0, gain_db=2.0))
    running.set_power_mw(15.0)
    running.show(ShownPattern(Kind.CHECKERBOARD, 16))
    wait_until(lambda: running.status.power_mw == 15.0 and running.status.pattern.inputs == 16)
    running.darken()
    wait_until(lambda: running.status.state is State.DARK)
    taken = running.status.frames
    running.reopen()
    wait_until(lambda: running.status.frames > taken)
    assert running.status.emitting is True
    settings = running.status.settings
    assert (settings.exposure_us, settings.gain_db) == (33.0, 2.0)
    assert running._bench.power_mw == 15.0


def test_opening_is_asked_for_only_by_a_closed_bench(running, wait_until):
    running.reopen()
    running.darken()
    wait_until(lambda: running.status.state is State.DARK)
    time.sleep(0.2)
    assert running.status.state is State.DARK


def test_an_unplugged_camera_is_told_and_can_be_opened_again(live, wait_until):
    made = live(faults={"camera_lost_at": 200})
    wait_until(failed(made))
    assert made.status.message.startswith("DeviceLostError: The camera does not answer")
    assert made.status.trouble
    assert not made._bench.laser.emitting
    taken = made.status.frames
    assert taken > 0
    made.reopen()
    wait_until(lambda: made.status.frames > taken)


def test_an_open_interlock_is_told(live, wait_until):
    made = live(faults={"interlock_opens_at": 200})
    wait_until(failed(made))
    assert "interlock" in made.status.message
    assert made.status.emitting is False


def test_lost_triggers_are_counted_and_do_not_end_it(live, wait_until):
    made = live(faults={"dropped_triggers": [60]})
    wait_until(lambda: made.status.lost)
    lost, taken = made.status.lost, made.status.frames
    wait_until(lambda: made.status.frames > taken + 100)
    assert made.status.lost == lost
    assert made.status.message == ""


def test_too_much_light_is_told_and_a_shorter_exposure_helps(live, wait_until):
    made = live(camera={"exposure_us": 50_000.0})
    wait_until(lambda: made.status.message.startswith("SaturationError"))
    assert made.status.state is State.LIVE
    wait_until(lambda: made.newest)  # seen all the same
    first = made.newest
    assert not first.proven
    assert float((first.frame == 255).mean()) > 0.25
    wait_until(lambda: made.newest.number > first.number)
    assert made.status.frames == 0
    made.fit_exposure()
    wait_until(lambda: made.status.frames, longest_s=120)
    wait_until(lambda: made.newest.proven)
    assert made.status.settings.exposure_us < 1000
    assert made.newest.frame.max() <= 255


def test_settings_come_into_force(running, wait_until):
    region = replace(running.status.settings.region, row=16, height=64)
    running.configure(lambda s: replace(s, region=region, exposure_us=50.0))
    wait_until(lambda: running.newest.frame.shape == (64, 128))
    assert running.status.settings.exposure_us == 50.0


def test_an_impossible_setting_is_told_and_changes_nothing(running, wait_until):
    running.configure(lambda s: replace(s, exposure_us=-1.0))
    wait_until(lambda: running.status.trouble)
    assert running.status.message.startswith("SettingError: exposure_us = -1")
    assert running.status.settings.exposure_us == 40.0
    taken = running.status.frames
    wait_until(lambda: running.status.frames > taken)
    assert running.status.message.startswith("SettingError")


def test_no_power_above_the_ceiling(running, wait_until):
    assert running.status.limits.power_mw == (0.0, 20.0)
    running.set_power_mw(25.0)
    wait_until(lambda: running.status.trouble)
    assert "20 mW" in running.status.message
    assert running._bench.power_mw == 10.0


def test_a_pause_is_dark(running, wait_until):
    running.pause(True)
    wait_until(lambda: running.status.state is State.PAUSED)
    assert not running._bench.laser.emitting
    assert running.status.emitting is False
    taken = running.status.frames
    running.pause(False)
    wait_until(lambda: running.status.frames > taken)


def test_a_recording_holds_the_pattern_that_is_shown(running, wait_until, tmp_path):
    pattern = ShownPattern(Kind.ONE, 16, 5)
    shown = pattern.on(running._bench)
    running.show(pattern)
    path = tmp_path / "a.h5"
    running.record(path, 70)
    wait_until(path.exists)
    wait_until(lambda: running.status.state is State.LIVE)
    assert running.status.message == f"70 of 70 frames are in {path}."
    with Recording(path) as recording:
        assert len(recording) == 70
        assert recording.conditions.subject == "one macropixel 5, 16 inputs"
        assert (recording.patterns == shown).all(axis=(1, 2)).any()
    taken = running.status.frames
    wait_until(lambda: running.status.frames > taken)


def test_a_recording_that_is_stopped_keeps_its_frames(running, wait_until, tmp_path):
    path = tmp_path / "a.h5"
    running.record(path, 200_000)
    wait_until(lambda: running.status.recorded and running.status.recorded[0] > 0)
    running.stop_recording()
    wait_until(lambda: running.status.state is State.LIVE)
    with Recording(path) as recording:
        assert 0 < len(recording) < 200_000
        assert not recording.complete
        assert f"{len(recording)} of 200000 frames" in running.status.message


def test_darkness_in_a_recording_keeps_its_frames(running, wait_until, tmp_path):
    path = tmp_path / "a.h5"
    running.record(path, 200_000)
    wait_until(lambda: running.status.recorded and running.status.recorded[0] > 0)
    running.darken()
    wait_until(lambda: running.status.state is State.DARK)
    assert str(partial_path(path)) in running.status.message
    with Recording(partial_path(path)) as recording:
        assert len(recording) > 0


def test_frames_are_shown_while_they_are_recorded(running, wait_until, tmp_path):
    running.record(tmp_path / "a.h5", 200_000)
    wait_until(lambda: running.status.state is State.RECORDING)
    first = running.newest.number
    wait_until(lambda: running.newest.number > first + 64)
    assert running.status.state is State.RECORDING
    assert running.status.recorded[0] > 0


def test_a_recording_that_no_disk_holds_is_refused(running, wait_until, tmp_path):
    running.record(tmp_path / "a.h5", 10**12)
    wait_until(lambda: running.status.trouble)
    assert "RecordingError" in running.status.message
    assert not list(tmp_path.iterdir())


def test_a_place_that_is_taken_is_told(running, wait_until, tmp_path):
    (tmp_path / "a.h5").write_text("mine")
    running.record(tmp_path / "a.h5", 10)
    wait_until(lambda: running.status.trouble)
    assert "RecordingError" in running.status.message
    assert (tmp_path / "a.h5").read_text() == "mine"


def test_whatever_a_driver_raises_is_told_and_the_bench_dark(running, wait_until, monkeypatch):
    def broken(*_):
        raise RuntimeError("SDK error 0x17")

    monkeypatch.setattr(running._bench.camera, "_arm", broken)
    wait_until(failed(running))
    assert running.status.message == "RuntimeError: SDK error 0x17"
    assert not running._bench.laser.emitting


def test_closing_closes_the_bench(live, wait_until):
    made = live()
    wait_until(lambda: made.status.frames)
    made.close()
    assert made.status.state is State.CLOSED
    assert not made._bench.camera.is_open
    assert not made._bench.laser.emitting
    made.close()
