"""A modulator that is a monitor, against what an X server scans out."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from opu_driver.emulators.screens import EmulatedScreens
from opu_driver.errors import (
    CaptureTimeoutError,
    DeviceError,
    DeviceLostError,
    DeviceNotFoundError,
    DeviceStateError,
    DriverMissingError,
    SettingError,
)
from opu_driver.modulators import display_process
from opu_driver.modulators.display import Display

SLM = (48, 67)
"""Rows and columns; a width that is no multiple of anything."""


@pytest.fixture(scope="module")
def desktop():
    pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install 'opu[gui]'")
    try:
        with EmulatedScreens({"desk": (64, 96), "slm": SLM}) as screens:
            yield screens
    except DriverMissingError as error:
        pytest.skip(str(error))


@pytest.fixture
def screens(desktop, monkeypatch):
    monkeypatch.setenv("DISPLAY", desktop.display)
    monkeypatch.delenv("QT_QPA_PLATFORM", raising=False)
    return desktop


def slm(**options):
    return Display(**{"screen": "slm", "pitch_um": 8.0, "latency_frames": 1} | options)


def random_patterns(display, count, seed=0):
    random = np.random.default_rng(seed)
    top = 256 if display.levels == 2 else display.levels
    return random.integers(0, top, (count, *display.pattern_shape), np.uint8)


def wait_until(it_is_so):
    deadline = time.monotonic() + 10.0
    while not it_is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def grey(screens, name="slm"):
    pixels = screens.scanned_out(name)
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


def test_every_grey_value_is_scanned_out_as_it_was_loaded(screens):
    before = grey(screens, "desk").copy()
    with slm() as display:
        assert display.shape == SLM
        patterns = random_patterns(display, 5)
        assert len(np.unique(patterns)) == 256
        display.load(patterns)
        for index, pattern in enumerate(patterns):
            assert display.step() == index
            assert (grey(screens) == pattern).all()
        assert display.wait(1.0) == 5
        display.stop()
        assert not grey(screens).any()
    assert (grey(screens, "desk") == before).all()


def test_mirrors_are_white_or_black(screens):
    with slm(levels=2) as display:
        patterns = random_patterns(display, 2)
        display.load(patterns)
        for pattern in patterns:
            display.step()
            mirrors = np.unpackbits(pattern, axis=1)[:, : SLM[1]]
            assert (grey(screens) == 255 * mirrors).all()


def test_levels_are_scanned_out_as_their_grey_values(screens, tmp_path):
    table = tmp_path / "633nm.lut"
    table.write_text("# level grey\n0 3\n1 70\n2 141\n3 200\n")
    with slm(levels=4, lookup_table=str(table)) as display:
        (pattern,) = patterns = random_patterns(display, 1)
        display.load(patterns)
        display.step()
        assert (grey(screens) == np.array([3, 70, 141, 200])[pattern]).all()
        display.stop()
        assert (grey(screens) == 3).all()


def test_either_monitor_can_be_the_modulator(screens):
    with slm(screen=0) as first, slm(screen=1) as second:
        for display, name in ((first, "desk"), (second, "slm")):
            assert display.identity.serial == name
            patterns = random_patterns(display, 1)
            display.load(patterns)
            display.step()
            assert (grey(screens, name) == patterns[0]).all()


def test_monitors_are_discovered_with_the_keys_that_address_them(screens):
    found = Display.discover()
    assert [device.options for device in found] == [{"screen": "desk"}, {"screen": "slm"}]
    assert [device.reservation for device in found] == ["the desktop's own monitor", ""]
    with slm(**found[1].options) as display:
        assert display.identity == found[1].identity
        assert display.address == "screen slm"


def test_another_monitor_than_was_asked_for_is_refused(screens):
    with pytest.raises(DeviceNotFoundError, match=r"'beamer'.*0: 'desk' of 64 x 96, 1: 'slm'"):
        slm(screen="beamer").open()
    with pytest.raises(SettingError, match=r"48 rows x 67 columns.*\[1080, 1920\]"):
        slm(shape=(1080, 1920)).open()
    with slm(shape=SLM) as display:
        assert display.shape == SLM


def test_without_a_desktop_there_is_no_monitor(screens, monkeypatch):
    monkeypatch.setenv("DISPLAY", ":99999")
    with pytest.raises(DeviceNotFoundError, match="no desktop"):
        slm().open()
    assert Display.discover() == []
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    with pytest.raises(DeviceNotFoundError, match="there are: none"):
        slm().open()


def test_a_desktop_that_scales_does_not_scale_patterns(screens, monkeypatch):
    monkeypatch.setenv("QT_SCALE_FACTOR", "2")
    monkeypatch.setenv("QT_SCREEN_SCALE_FACTORS", "1.5;1.5")
    with slm() as display:
        patterns = random_patterns(display, 1)
        display.load(patterns)
        display.step()
        assert (grey(screens) == patterns[0]).all()


def test_the_mouse_cursor_is_no_part_of_a_pattern(screens, monkeypatch):
    with EmulatedScreens({"slm": (64, 64)}) as alone:  # the cursor starts in the middle
        monkeypatch.setenv("DISPLAY", alone.display)
        subprocess.run(["xsetroot", "-cursor_name", "X_cursor", "-solid", "grey"], check=True)
        wait_until(lambda: len(np.unique(alone.scanned_out("slm"))) > 1)  # there it is
        with slm() as display:
            patterns = random_patterns(display, 1)
            display.load(patterns)
            display.step()
            assert (grey(alone) == patterns[0]).all()


def test_a_batch_is_shown_whole_on_its_own_clock(screens):
    with slm() as display:
        patterns = random_patterns(display, 6)
        display.load(patterns)
        began = time.monotonic()
        display.start(rate_hz=20.0)
        seen = set()
        while display._progress()["running"]:
            seen |= {k for k, pattern in enumerate(patterns) if (grey(screens) == pattern).all()}
        assert display.wait(10.0) == 6
        assert time.monotonic() - began >= 5 / 20.0 + 1 / 60.0
        assert display.late_us >= 0.0
        assert seen == set(range(6))
        assert (grey(screens) == patterns[-1]).all()


def test_a_running_batch_can_be_waited_for_stopped_and_not_replaced(screens):
    with slm() as display:
        patterns = random_patterns(display, 3)
        display.load(patterns)
        display.start(rate_hz=0.5)
        with pytest.raises(DeviceStateError, match="being shown"):
            display.load(patterns)
        with pytest.raises(CaptureTimeoutError, match="0 of 3"):
            display.wait(0.05)
        display.stop()
        assert display.wait(1.0) == 0
        assert not grey(screens).any()
        display.load(patterns)
        assert display.step() == 0
        assert (grey(screens) == patterns[0]).all()


def test_a_rate_leaves_each_pattern_time_to_come_out_and_to_settle(screens):
    with slm(latency_frames=2, settling_us=5000.0, refresh_hz=50.0) as display:
        assert display.max_rate_hz == pytest.approx(1 / 0.045)
        display.load(random_patterns(display, 1))
        with pytest.raises(SettingError, match="Lower the rate"):
            display.start(25.0)
        began = time.monotonic()
        display.step()
        assert time.monotonic() - began >= 0.045


@pytest.mark.parametrize("play", [False, True], ids=["step", "start"])
def test_what_covers_the_patterns_is_noticed(screens, play):
    with slm(compare="every") as display:
        patterns = random_patterns(display, 3)
        display.load(patterns)
        display.step()
        with slm() as intruder:
            intruder.load(random_patterns(intruder, 1, seed=1))
            intruder.step()
            with pytest.raises(DeviceError, match="pixels are scanned out with another value"):
                if play:
                    display.start(30.0)
                    display.wait(10.0)
                else:
                    display.step()
        last = patterns[0 if play else 1]
        wait_until(lambda: (grey(screens) == last).all())  # painted again by itself
        display.load(patterns)
        display.start(30.0)
        assert display.wait(10.0) == 3


def test_a_window_that_is_killed_is_a_lost_device_and_can_be_opened_again(screens):
    display = slm()
    for _ in range(2):
        with display:
            display.load(random_patterns(display, 2))
            display.step()
            os.kill(display._process._process.pid, signal.SIGKILL)
            with pytest.raises(DeviceLostError, match="has ended"):
                display.step()
            with pytest.raises(DeviceLostError):
                display.stop()
    with display:
        assert display.shape == SLM


def test_a_window_that_hangs_is_a_lost_device(screens, monkeypatch):
    with slm() as display:
        monkeypatch.setattr(display_process, "ANSWER_S", 0.2)
        os.kill(display._process._process.pid, signal.SIGSTOP)
        with pytest.raises(DeviceLostError, match="did not answer"):
            display.load(random_patterns(display, 256))


def test_a_monitor_that_is_unplugged_is_a_lost_device(screens):
    with slm() as display:
        display.load(random_patterns(display, 2))
        display.step()
        screens.unplug("slm")
        try:
            with pytest.raises(DeviceLostError, match="The screen is gone"):
                for _ in range(200):
                    display.stop()
                    time.sleep(0.01)
            display.close()
            with pytest.raises(DeviceNotFoundError):
                display.open()
        finally:
            screens.place("slm", 96, *SLM)
        with display:
            display.load(random_patterns(display, 1))
            display.step()


def test_a_monitor_that_changes_its_resolution_is_a_lost_device(screens, monkeypatch):
    with EmulatedScreens({"slm": (64, 96)}) as alone:
        monkeypatch.setenv("DISPLAY", alone.display)
        alone.unplug("slm")  # and the X server's own monitor is there
        alone.xrandr("--newmode", "small", "0", *("80", "0", "0", "80"), *("48", "0", "0", "48"))
        alone.xrandr("--addmode", "screen", "small")
        with slm(screen=0, shape=(64, 96)) as display:
            alone.xrandr("--output", "screen", "--mode", "small")
            with pytest.raises(DeviceLostError, match="another resolution"):
                for _ in range(200):
                    display.stop()
                    time.sleep(0.01)


def test_the_window_dies_with_the_program_that_opened_it(screens):
    program = (
        "from opu_driver.modulators.display import Display\n"
        "import sys, time\n"
        "display = Display('slm', 8.0).open()\n"
        "print('PySide6' in sys.modules, flush=True)\n"
        "print(display._process._process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline().strip() == b"False", "Qt belongs to the user"
        window = int(parent.stdout.readline())
        parent.kill()
    wait_until(lambda: not _runs(window))


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    "options",
    [
        {"levels": 1},
        {"levels": 257},
        {"pitch_um": 0.0},
        {"settling_us": -1.0},
        {"latency_frames": 0},
        {"capacity": 0},
        {"refresh_hz": 0.0},
        {"levels_per_2pi": 300.0},
        {"gamma": 0.0},
        {"lookup_table": "no such file"},
        {"lookup_table": "any", "gamma": 2.2},
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(SettingError):
        slm(**options)


def test_it_conforms(screens, conforms):
    conforms(
        """
        [modulator]
        driver = "display"
        screen = "slm"
        levels = 2
        pitch_um = 8.0
        latency_frames = 1
        capacity = 64

        [camera]
        driver = "virtual"
        exposure_us = 100.0

        [laser]
        driver = "virtual"
        power_mw = 1.0

        [scene]
        preset = "quiet"
        """,
        "test_modulator",
    )
