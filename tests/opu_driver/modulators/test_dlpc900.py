"""The DLPC900 driver against an emulated board, down to the HID reports."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import ExitStack

import numpy as np
import pytest

from opu_driver.emulators.dlpc900 import EmulatedDLPC900, stand_in
from opu_driver.errors import (
    CaptureTimeoutError,
    DeviceBusyError,
    DeviceError,
    DeviceLostError,
    DeviceNotFoundError,
    DeviceStateError,
    DriverMissingError,
    PatternError,
    SettingError,
)
from opu_driver.layout import Layout
from opu_driver.modulators import dlpc900_link as link
from opu_driver.modulators.dlpc900 import Dlpc900DMD, definition


@pytest.fixture
def emulated():
    emulated = EmulatedDLPC900()
    with emulated.installed():
        yield emulated


@pytest.fixture
def dmd(emulated):
    with Dlpc900DMD() as dmd:
        yield dmd


def some_patterns(dmd, n, seed=0):
    """Patterns of a few macropixels, all different."""
    layout = Layout.fit(12, dmd.shape)
    numbers = np.random.default_rng(seed).permutation(1 << 12)[:n]
    return layout.render((numbers[:, None] >> np.arange(12) & 1).astype(np.uint8))


def mirrors_since(emulated, first, n):
    pictures = [emulated.shown(first + i, 5.0) for i in range(n)]
    assert None not in pictures
    return np.stack([picture.mirrors for picture in pictures])


def test_it_says_who_it_is_and_what_it_can(dmd):
    assert str(dmd.identity) == "Texas Instruments DLPC900 DLP6500 #LCR-1"
    assert dmd.identity.firmware == "6.0.0"
    assert dmd.shape == (1080, 1920)
    assert dmd.levels == 2
    assert dmd.pitch_um == 7.56
    assert dmd.max_rate_hz == pytest.approx(1e6 / 105)
    assert dmd.capacity == 400
    assert not dmd.loads_while_showing
    assert dmd.takes_edges
    assert Dlpc900DMD("7").address == "dlpc900 7"


def test_the_mirrors_show_the_batch_once_at_the_asked_rate(dmd, emulated):
    patterns = some_patterns(dmd, 30)  # two images
    dmd.load(patterns)
    dmd.start(400.0)
    assert dmd.wait(5.0) == 30
    np.testing.assert_array_equal(mirrors_since(emulated, 0, 30), patterns)
    assert emulated.count == 30
    times_s = [emulated.shown(i).time_s for i in range(30)]
    np.testing.assert_allclose(np.diff(times_s), 2.5e-3, rtol=1e-6)


def test_every_single_mirror_arrives(dmd, emulated):
    patterns = np.zeros((2, *dmd.pattern_shape), np.uint8)
    patterns[:, 500:540] = np.random.default_rng(0).integers(0, 256, (2, 40, 240))
    dmd.load(patterns)
    dmd.start(1000.0)
    dmd.wait(5.0)
    np.testing.assert_array_equal(mirrors_since(emulated, 0, 2), patterns)


@pytest.mark.parametrize("kind", [2, 3])
def test_two_controllers_get_their_halves(kind):
    emulated = EmulatedDLPC900(kind)
    with emulated.installed(), Dlpc900DMD() as dmd:
        patterns = some_patterns(dmd, 3)
        dmd.load(patterns)
        dmd.start(1000.0)
        dmd.wait(5.0)
        np.testing.assert_array_equal(mirrors_since(emulated, 0, 3), patterns)


def test_another_rate_needs_no_new_images(dmd, emulated):
    patterns = some_patterns(dmd, 3)
    dmd.load(patterns)
    for rate_hz in (9000.0, 100.0, 1234.5):
        first = emulated.count
        dmd.start(rate_hz)
        assert dmd.wait(5.0) == 3
        np.testing.assert_array_equal(mirrors_since(emulated, first, 3), patterns)
        times_s = [emulated.shown(first + i).time_s for i in range(3)]
        periods_us = 1e6 * np.diff(times_s)
        assert (periods_us >= 1e6 / rate_hz - 1e-2).all()
        assert (periods_us < 1e6 / rate_hz + 1.0).all()


def test_steps_hold_their_pattern_and_the_batch_can_follow(dmd, emulated):
    patterns = some_patterns(dmd, 26)
    dmd.load(patterns)
    for i in range(26):
        assert dmd.step() == i
        np.testing.assert_array_equal(emulated.mirrors, patterns[i])
        assert dmd.wait(1.0) == i + 1
    with pytest.raises(DeviceStateError, match="new batch"):
        dmd.step()
    dmd.start(1000.0)
    assert dmd.wait(5.0) == 26
    np.testing.assert_array_equal(mirrors_since(emulated, emulated.count - 26, 26), patterns)


def test_patterns_follow_trigger_edges(dmd, emulated):
    patterns = some_patterns(dmd, 4)
    dmd.load(patterns)
    dmd.start_on_edges()
    with pytest.raises(CaptureTimeoutError, match="trigger line"):
        dmd.wait(0.02)
    for i in range(4):
        assert emulated.count == i
        emulated.edge()
        time.sleep(1e-3)
    assert dmd.wait(1.0) == 4
    np.testing.assert_array_equal(mirrors_since(emulated, 0, 4), patterns)
    assert emulated.edge() == 1  # nothing waits for it
    dmd.load(patterns[:2])
    dmd.step()
    np.testing.assert_array_equal(emulated.mirrors, patterns[0])
    dmd.start(1000.0)  # back on its own clock
    assert dmd.wait(1.0) == 2


def test_a_running_batch_is_neither_replaced_nor_started_over(dmd):
    patterns = some_patterns(dmd, 5)
    dmd.load(patterns)
    dmd.start(1.0)
    for again in (lambda: dmd.load(patterns), lambda: dmd.start(1.0)):
        with pytest.raises(DeviceStateError, match="still showing"):
            again()
    with pytest.raises(CaptureTimeoutError, match="5 patterns"):
        dmd.wait(0.05)
    dmd.stop()
    assert dmd.wait(1.0) == 0
    dmd.load(patterns)
    dmd.start(1000.0)
    assert dmd.wait(1.0) == 5


def test_rates_and_batches_out_of_range_are_refused(dmd):
    patterns = some_patterns(dmd, 1)
    with pytest.raises(PatternError, match="401 .* 1 to 400"):
        dmd.load(np.broadcast_to(patterns, (401, *patterns.shape[1:])))
    dmd.load(patterns)
    with pytest.raises(SettingError, match="9524"):
        dmd.start(9524.0)
    with pytest.raises(SettingError, match=r"16\.7772 s"):
        dmd.start(0.01)


@pytest.mark.parametrize("settling_us", [-1.0, float("nan"), 1e9])
def test_options_out_of_range_are_refused(settling_us):
    with pytest.raises(SettingError, match="settle"):
        Dlpc900DMD(settling_us=settling_us)


def test_trigger_outputs_can_be_inverted(emulated):
    with Dlpc900DMD(trigger_out="low", trigger_in="falling") as dmd:  # the board checks its edges
        assert dmd.is_open


@pytest.mark.parametrize(
    ("firmware", "times"), [((4, 0, 0), 0), ((4, 1, 0), 1), ((5, 0, 0), 1), ((5, 0, 1), 0)]
)
def test_firmware_that_locks_mirrors_gets_them_parked_after_changing_modes(firmware, times):
    emulated = EmulatedDLPC900(firmware=firmware)
    with emulated.installed(), Dlpc900DMD():
        assert emulated.parked == times


def test_the_look_up_table_is_the_guides():
    """Section 5.3: pattern 1 of the example, but for its LED, depth and clearing (byte 5)."""
    assert definition(1, 400, 0) == bytes.fromhex("01 00 90 01 00 00 00 00 00 00 00 08")
    assert definition(25, 105, 0x80) == bytes.fromhex("19 00 69 00 00 80 00 00 00 00 01 08")


def test_reports_are_the_guides():
    """Sections 1.2.2 and 1.2.3: reading and setting the curtain's colour."""
    sent = []

    class Device:
        def write(self, report):
            sent.append(report)

        def read(self, size, timeout):
            return bytes.fromhex("C0 11 06 00 FF 01 FF 01 FF 01").ljust(64, b"\0")

    talk = link.Dlpc900Link(Device(), OSError)
    talk._sequence = 0x10
    assert talk.read(0x1100) == bytes.fromhex("FF01FF01FF01")
    assert sent[0] == bytes.fromhex("00 C0 11 02 00 00 11").ljust(65, b"\0")
    talk._send(0x1100, 0, bytes.fromhex("FF01FF01FF01"))
    assert sent[1] == bytes.fromhex("00 00 12 08 00 00 11 FF01FF01FF01").ljust(65, b"\0")


@pytest.mark.parametrize(
    ("command", "code", "error", "says"),
    [
        (link.LUT_DEFINITION, 14, SettingError, "exposure time out of range"),
        (link.LUT_CONFIGURATION, 5, DeviceStateError, "Stop the modulator"),
        (link.INIT_LOAD[0], 8, DeviceError, "out of memory"),
        (link.START_STOP, 255, DeviceError, "internal error"),
    ],
)
def test_refused_commands_are_named_and_nothing_is_loaded(
    dmd, emulated, command, code, error, says
):
    patterns = some_patterns(dmd, 2)
    emulated.fail(command, code)
    with pytest.raises(error, match=says):
        dmd.load(patterns)
    with pytest.raises(DeviceStateError, match="load"):
        dmd.start(100.0)
    dmd.load(patterns)
    dmd.start(1000.0)
    assert dmd.wait(1.0) == 2


def test_image_data_that_does_not_arrive_whole_is_noticed(dmd, emulated):
    """Such commands have no reply; the board has no image then, and does not start."""
    emulated.fail(link.LOAD[0], 8)
    dmd.load(some_patterns(dmd, 1))
    with pytest.raises(DeviceError, match="pattern image not present"):
        dmd.start(100.0)


def test_garbage_on_the_line_is_passed_over(dmd, emulated):
    emulated.spoil("garbage")
    dmd.load(some_patterns(dmd, 1))
    dmd.start(1000.0)
    assert dmd.wait(1.0) == 1


def test_an_answer_that_is_too_short_is_an_error():
    class Device:
        def write(self, report):
            pass

        def read(self, size, timeout):
            return bytes.fromhex("C0 01 00 00").ljust(64, b"\0")

    with pytest.raises(DeviceError, match="0x0206 with 0 bytes"):
        link.Dlpc900Link(Device(), OSError).read(link.HARDWARE)


def test_a_silent_board_is_lost(dmd, emulated, monkeypatch):
    monkeypatch.setattr(link, "_REPLY_S", 0.1)
    emulated.spoil("silence")
    with pytest.raises(DeviceLostError, match="not answered"):
        dmd.load(some_patterns(dmd, 1))


def test_unplugging_is_noticed_and_survived(dmd, emulated):
    dmd.load(some_patterns(dmd, 3))
    dmd.start(0.5)
    pull = threading.Timer(0.1, emulated.unplug)
    pull.start()
    with pytest.raises(DeviceLostError, match="went away"):
        dmd.wait(5.0)
    pull.join()
    emulated.plug()
    with pytest.raises(DeviceLostError):
        dmd.load(some_patterns(dmd, 1))
    dmd.close()
    dmd.open()
    dmd.load(some_patterns(dmd, 1))
    dmd.start(1000.0)
    assert dmd.wait(1.0) == 1


def test_a_board_in_use_is_busy(dmd):
    with pytest.raises(DeviceBusyError, match="another program"):
        Dlpc900DMD().open()


def test_boards_are_discovered_and_told_apart():
    first, second = EmulatedDLPC900(serial="A"), EmulatedDLPC900(2, serial="B")
    with stand_in([first, second]), ExitStack() as opened:
        assert [found.options for found in Dlpc900DMD.discover()] == [
            {"serial": "A"},
            {"serial": "B"},
        ]
        with pytest.raises(DeviceNotFoundError, match="'A', 'B'"):
            Dlpc900DMD().open()
        with pytest.raises(DeviceNotFoundError, match=r"'C'.*'A', 'B'"):
            Dlpc900DMD("C").open()
        assert opened.enter_context(Dlpc900DMD("B")).shape == (1600, 2560)
        assert opened.enter_context(Dlpc900DMD("A")).shape == (1080, 1920)
    with stand_in([]), pytest.raises(DeviceNotFoundError, match="none"):
        Dlpc900DMD().open()


@pytest.mark.parametrize("command", [link.DISPLAY_MODE, link.TRIGGER_OUT_2, link.HARDWARE])
def test_it_opens_whole_or_not_at_all(emulated, command):
    emulated.fail(command, 2)
    dmd = Dlpc900DMD()
    with pytest.raises(DeviceError, match="device failure"):
        dmd.open()
    assert not dmd.is_open
    with dmd:
        assert dmd.shape == (1080, 1920)


def test_dmds_of_an_unknown_type_are_refused():
    with (
        EmulatedDLPC900(9).installed(),
        pytest.raises(DeviceError, match=r"type 9.*DLP9000"),
    ):
        Dlpc900DMD().open()


def test_the_real_library_is_asked_what_is_on_the_usb():
    pytest.importorskip(
        "hid", reason="the hid package or its library hidapi is missing", exc_type=ImportError
    )
    assert all("serial" in found.options for found in Dlpc900DMD.discover())


def test_a_missing_library_is_named(monkeypatch):
    def missing(name):
        raise ImportError(f"no {name}")

    monkeypatch.delitem(sys.modules, "hid", raising=False)
    monkeypatch.setattr("opu_driver.extras.import_module", missing)
    with pytest.raises(DriverMissingError, match=r"opu\[hid\]"):
        Dlpc900DMD().open()


@pytest.mark.parametrize(
    ("kind", "order", "edges"),
    [
        ("lost edge", [0, 1, 2, 3], [True, True, False, True]),
        ("dropped picture", [0, 1, 1, 3], [True] * 4),
    ],
)
def test_faults_show_on_the_mirrors_and_on_the_trigger_line(dmd, emulated, kind, order, edges):
    patterns = some_patterns(dmd, 4)
    dmd.load(patterns)
    emulated.fault(kind, 2)
    dmd.start(1000.0)
    dmd.wait(2.0)
    np.testing.assert_array_equal(mirrors_since(emulated, 0, 4), patterns[order])
    assert [emulated.shown(i).edge for i in range(4)] == edges


def test_a_doubled_picture_is_one_too_many(dmd, emulated):
    patterns = some_patterns(dmd, 3)
    dmd.load(patterns)
    emulated.fault("doubled picture", 1)
    dmd.start(1000.0)
    dmd.wait(2.0)
    assert emulated.count == 4
    np.testing.assert_array_equal(mirrors_since(emulated, 0, 4), patterns[[0, 1, 1, 2]])
