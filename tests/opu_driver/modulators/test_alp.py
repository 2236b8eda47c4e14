"""The ViALUX driver against the emulated ALP library, called through the library's own ABI."""

from __future__ import annotations

import ctypes
import shutil
import threading
import time

import numpy as np
import pytest

from opu_driver.emulators import alp as emulated_alp
from opu_driver.emulators.alp import EmulatedALP
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
from opu_driver.modulators import alp
from opu_driver.modulators.alp import AlpDMD
from opu_driver.modulators.alp_library import AlpLibrary

pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))),
    reason="the emulated ALP library is compiled here, and there is no C compiler",
)


@pytest.fixture
def emulated():
    with EmulatedALP() as emulated:
        yield emulated


@pytest.fixture
def dmd(emulated):
    with AlpDMD(library=str(emulated.library)) as dmd:
        yield dmd


def random_patterns(dmd, n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *dmd.pattern_shape), np.uint8)


def shown_since(emulated, first, n):
    pictures = [emulated.shown(first + i, 5.0) for i in range(n)]
    assert None not in pictures
    return pictures


def test_it_says_who_it_is_and_what_it_can(dmd, emulated):
    assert str(dmd.identity) == "ViALUX ALP DLP7000 #4711"
    assert dmd.shape == (64, 64)
    assert dmd.levels == 2
    assert dmd.pitch_um == 13.68
    assert dmd.max_rate_hz == pytest.approx(1e6 / 44)
    assert dmd.capacity == 1024
    assert dmd.loads_while_showing
    assert dmd.takes_edges
    assert AlpDMD(serial=7).address == "alp 7"


def test_before_opening_it_knows_no_identity(emulated):
    with pytest.raises(DeviceStateError, match="opened"):
        _ = AlpDMD(library=str(emulated.library)).identity


def test_the_mirrors_show_the_batch_once_at_the_asked_rate(dmd, emulated):
    patterns = random_patterns(dmd, 20)
    dmd.load(patterns)
    dmd.start(500.0)
    assert dmd.wait(5.0) == 20
    pictures = shown_since(emulated, 0, 20)
    assert emulated.count == 20
    assert all(picture.edge for picture in pictures)
    np.testing.assert_array_equal([picture.mirrors for picture in pictures], patterns)
    np.testing.assert_allclose(np.diff([picture.time_s for picture in pictures]), 2e-3, rtol=1e-6)


def test_a_batch_takes_its_time(dmd):
    dmd.load(random_patterns(dmd, 10))
    before = time.monotonic()
    dmd.start(100.0)
    dmd.wait(5.0)
    assert time.monotonic() - before >= 0.099


@pytest.mark.parametrize("rate_hz", [300.0, 7777.7, 22_000.0])
def test_periods_are_whole_microseconds_and_never_shorter_than_asked(dmd, emulated, rate_hz):
    dmd.load(random_patterns(dmd, 3))
    dmd.start(rate_hz)
    dmd.wait(5.0)
    periods_us = 1e6 * np.diff([picture.time_s for picture in shown_since(emulated, 0, 3)])
    assert (periods_us >= 1e6 / rate_hz - 1e-2).all()
    assert (periods_us < 1e6 / rate_hz + 1.0).all()


def test_the_highest_rate_is_allowed_and_a_higher_one_is_not(dmd):
    dmd.load(random_patterns(dmd, 2))
    dmd.start(dmd.max_rate_hz)
    dmd.wait(5.0)
    with pytest.raises(SettingError, match="22750 Hz"):
        dmd.start(22_750.0)


def test_a_rate_below_the_longest_picture_is_refused(dmd):
    dmd.load(random_patterns(dmd, 2))
    with pytest.raises(SettingError, match=r"10 s.*0\.1 Hz"):
        dmd.start(0.01)


@pytest.mark.parametrize("columns", [1024, 1920])
@pytest.mark.parametrize("keeps_packed", [True, False])
def test_every_mirror_arrives_packed_or_not(columns, keeps_packed, monkeypatch):
    monkeypatch.setattr(alp, "_CHUNK_BYTES", 40_000)  # several parts
    with (
        EmulatedALP((16, columns), keeps_packed=keeps_packed) as emulated,
        AlpDMD(library=str(emulated.library)) as dmd,
    ):
        patterns = random_patterns(dmd, 5)
        dmd.load(patterns)
        dmd.start(1000.0)
        dmd.wait(5.0)
        pictures = shown_since(emulated, 0, 5)
        np.testing.assert_array_equal([picture.mirrors for picture in pictures], patterns)


def test_columns_that_fill_no_byte_arrive_too():
    with EmulatedALP((5, 13)) as emulated, AlpDMD(library=str(emulated.library)) as dmd:
        bits = np.random.default_rng(1).integers(0, 2, (2, 5, 13), np.uint8)
        dmd.load(np.packbits(bits, axis=2))
        dmd.step()
        np.testing.assert_array_equal(emulated.mirrors, np.packbits(bits[0], axis=1))


def test_steps_hold_their_pattern(dmd, emulated):
    patterns = random_patterns(dmd, 4)
    dmd.load(patterns)
    for i, pattern in enumerate(patterns):
        assert dmd.step() == i
        np.testing.assert_array_equal(emulated.mirrors, pattern)
        assert dmd.wait(1.0) == i + 1
        np.testing.assert_array_equal(emulated.mirrors, pattern)
    with pytest.raises(DeviceStateError, match="new batch"):
        dmd.step()


def test_after_steps_the_whole_batch_can_be_shown(dmd, emulated):
    patterns = random_patterns(dmd, 4)
    dmd.load(patterns)
    dmd.step()
    dmd.step()
    dmd.start(1000.0)
    assert dmd.wait(5.0) == 4
    first = emulated.count - 4
    pictures = shown_since(emulated, first, 4)
    np.testing.assert_array_equal([picture.mirrors for picture in pictures], patterns)


def test_the_next_batch_is_loaded_while_one_is_shown(dmd, emulated):
    first, second = random_patterns(dmd, 50, 1), random_patterns(dmd, 40, 2)
    dmd.load(first)
    dmd.start(200.0)
    dmd.load(second)
    assert emulated.count < 50
    assert dmd.wait(5.0) == 50
    dmd.start(2000.0)
    assert dmd.wait(5.0) == 40
    mirrors = [picture.mirrors for picture in shown_since(emulated, 0, 90)]
    np.testing.assert_array_equal(mirrors, np.concatenate([first, second]))


def test_memory_is_enough_for_batches_of_full_capacity_for_ever(emulated):
    with AlpDMD(library=str(emulated.library)) as dmd:
        patterns = random_patterns(dmd, dmd.capacity)
        for _ in range(5):
            dmd.load(patterns)
            dmd.load(patterns)
            dmd.start(20_000.0)
            dmd.load(patterns)
            dmd.wait(5.0)
        assert dmd.capacity == 1024


def test_a_running_batch_is_not_started_over(dmd):
    dmd.load(random_patterns(dmd, 50))
    dmd.start(100.0)
    with pytest.raises(DeviceStateError, match="still showing"):
        dmd.start(100.0)
    dmd.stop()
    dmd.start(1000.0)
    assert dmd.wait(5.0) == 50


def test_stopping_ends_the_batch_and_clears_the_mirrors(dmd, emulated):
    dmd.load(np.full((50, *dmd.pattern_shape), 255, np.uint8))
    dmd.start(100.0)
    assert emulated.shown(0, 1.0) is not None
    dmd.stop()
    count = emulated.count
    assert not emulated.mirrors.any()
    time.sleep(0.03)
    assert emulated.count == count
    assert dmd.wait(1.0) == 0


def test_waiting_ends_when_the_time_is_up(dmd):
    dmd.load(random_patterns(dmd, 100))
    dmd.start(10.0)
    with pytest.raises(CaptureTimeoutError, match="100 patterns"):
        dmd.wait(0.05)


def test_patterns_follow_trigger_edges(dmd, emulated):
    patterns = random_patterns(dmd, 5)
    dmd.load(patterns)
    dmd.start_on_edges()
    with pytest.raises(CaptureTimeoutError, match="trigger line"):
        dmd.wait(0.02)
    for i in range(5):
        assert emulated.count == i
        emulated.edge()
        time.sleep(1e-3)
    assert dmd.wait(1.0) == 5
    mirrors = [picture.mirrors for picture in shown_since(emulated, 0, 5)]
    np.testing.assert_array_equal(mirrors, patterns)
    assert emulated.edge() == 1  # nothing waits for it
    dmd.start(1000.0)  # back on its own clock
    assert dmd.wait(1.0) == 5


def test_more_patterns_than_fit_are_refused_with_the_number_that_does(dmd):
    with pytest.raises(PatternError, match="1025 .* 1 to 1024"):
        dmd.load(random_patterns(dmd, 1025))


def test_full_memory_is_named_and_leaves_nothing_loaded(dmd, emulated):
    dmd.load(random_patterns(dmd, 3))
    emulated.fail("AlpSeqAlloc", 1007)
    with pytest.raises(DeviceError, match=r"memory is full.*fewer.*ALP_MEMORY_FULL"):
        dmd.load(random_patterns(dmd, 3))
    with pytest.raises(DeviceStateError, match="load"):
        dmd.start(100.0)
    dmd.load(random_patterns(dmd, 3))
    dmd.start(1000.0)
    assert dmd.wait(1.0) == 3


@pytest.mark.parametrize("function", ["AlpSeqControl", "AlpSeqPut"])
def test_an_upload_that_fails_gives_its_memory_back(dmd, emulated, function):
    for _ in range(5):
        emulated.fail(function, 1011)
        with pytest.raises(DeviceLostError, match="USB cable"):
            dmd.load(random_patterns(dmd, dmd.capacity))
    dmd.load(random_patterns(dmd, dmd.capacity))


def test_unplugging_is_noticed_and_survived(dmd, emulated):
    dmd.load(random_patterns(dmd, 100))
    dmd.start(10.0)
    pull = threading.Timer(0.1, emulated.unplug)
    pull.start()
    with pytest.raises(DeviceLostError, match="unplugged"):
        dmd.wait(8.0)
    pull.join()
    emulated.plug()
    with pytest.raises(DeviceLostError):
        dmd.load(random_patterns(dmd, 1))
    dmd.close()
    dmd.open()
    dmd.load(random_patterns(dmd, 2))
    dmd.start(1000.0)
    assert dmd.wait(1.0) == 2


def test_an_unplugged_device_is_not_found(emulated):
    emulated.unplug()
    with pytest.raises(DeviceNotFoundError, match="free ones: none"):
        AlpDMD(library=str(emulated.library)).open()


def test_a_wrong_serial_number_is_told_what_is_there(emulated):
    with pytest.raises(DeviceNotFoundError, match=r"#12;.*DLP7000 #4711"):
        AlpDMD(12, library=str(emulated.library)).open()
    with AlpDMD(4711, library=str(emulated.library)) as dmd:  # nothing was kept
        assert dmd.is_open


def test_a_device_in_use_is_busy(dmd, emulated):
    with pytest.raises(DeviceBusyError, match="another program"):
        AlpDMD(4711, library=str(emulated.library)).open()


@pytest.mark.parametrize(
    ("function", "code"),
    [("AlpDevInquire", 1010), ("AlpDevControl", 1005), ("AlpSeqAlloc", 1020), ("AlpSeqFree", 1999)],
)
def test_it_opens_whole_or_not_at_all(emulated, function, code):
    emulated.fail(function, code)
    dmd = AlpDMD(library=str(emulated.library))
    with pytest.raises(DeviceError):
        dmd.open()
    assert not dmd.is_open
    with dmd:
        assert dmd.capacity == 1024


def test_a_missing_or_wrong_library_is_named():
    with pytest.raises(DriverMissingError, match="nowhere/libalp.so"):
        AlpDMD(library="/nowhere/libalp.so").open()
    with pytest.raises(DriverMissingError, match="no ALP-4 library"):
        AlpLibrary("libc.so.6")


def test_dmds_of_an_unknown_type_are_refused():
    with (
        EmulatedALP(dmd_type=99) as emulated,
        pytest.raises(DeviceError, match=r"type 99.*DLP7000"),
    ):
        AlpDMD(library=str(emulated.library)).open()


def test_a_library_that_tells_no_size_is_known_by_its_dmd(monkeypatch):
    def number(self, name, device, what, *more):
        if what in (2057, 2058):  # not in ALP-4.1
            raise DeviceError("ALP_PARM_INVALID")
        return inquire(self, name, device, what, *more)

    inquire = AlpLibrary.number
    monkeypatch.setattr(AlpLibrary, "number", number)
    with EmulatedALP((768, 1024)) as emulated, AlpDMD(library=str(emulated.library)) as dmd:
        assert dmd.shape == (768, 1024)


def test_a_data_format_that_fails_otherwise_is_no_old_library():
    with EmulatedALP((16, 1024)) as emulated, AlpDMD(library=str(emulated.library)) as dmd:
        dmd.load(random_patterns(dmd, 1))
        calls = iter([0, 0, 1011])  # BITNUM, BIN_MODE, DATA_FORMAT
        code = AlpLibrary.code

        def failing(self, name, *arguments):
            return next(calls) if name == "AlpSeqControl" else code(self, name, *arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(AlpLibrary, "code", failing)
            with pytest.raises(DeviceLostError, match="ALP_ERROR_COMM"):
                dmd.load(random_patterns(dmd, 1))


@pytest.mark.parametrize("options", [{"serial": -1}, {"settling_us": -1.0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(SettingError):
        AlpDMD(**options)


def test_free_devices_are_discovered_and_left_free(emulated, monkeypatch):
    monkeypatch.setattr("opu_driver.modulators.alp_library._NAMES", [str(emulated.library)])
    (found,) = AlpDMD.discover()
    assert found.options == {"serial": 4711}
    assert found.identity.serial == "4711"
    with AlpDMD() as dmd:
        assert dmd.identity == found.identity
        assert AlpDMD.discover() == []


@pytest.mark.parametrize(
    ("kind", "order", "edges"),
    [
        ("lost edge", [0, 1, 2, 3], [True, True, False, True]),
        ("dropped picture", [0, 1, 1, 3], [True] * 4),
        ("doubled picture", [0, 1, 2, 2, 3], [True] * 5),
    ],
)
def test_faults_show_on_the_mirrors_and_on_the_trigger_line(dmd, emulated, kind, order, edges):
    patterns = random_patterns(dmd, 4)
    dmd.load(patterns)
    emulated.fault(kind, 2)
    dmd.start(1000.0)
    dmd.wait(2.0)
    pictures = shown_since(emulated, 0, len(order))
    assert emulated.count == len(order)
    np.testing.assert_array_equal([picture.mirrors for picture in pictures], patterns[order])
    assert [picture.edge for picture in pictures] == edges


def test_the_emulated_library_refuses_wrong_calls_with_the_codes_of_the_real_one(emulated):
    library = AlpLibrary(str(emulated.library))
    assert library.code("AlpDevHalt", 1) == 1003  # nothing allocated
    device = library.new_id("AlpDevAlloc", 0, 0)
    assert library.code("AlpDevAlloc", 4711, 0, ctypes.c_ulong()) == 1004
    assert library.code("AlpDevInquire", device, 2999, ctypes.c_long()) == 1005
    assert library.code("AlpDevInquire", device, 2000, None) == 1006
    assert library.code("AlpSeqAlloc", device, 1, 2049, ctypes.c_ulong()) == 1007
    sequence = library.new_id("AlpSeqAlloc", device, 1, 10)
    assert library.code("AlpSeqControl", device, sequence, 2102, 10) == 1005
    assert library.code("AlpSeqControl", device, sequence, 2110, 2) == 1005  # 64 columns
    assert library.code("AlpSeqTiming", device, sequence, 0, 43, 0, 0, 0) == 1005
    assert library.code("AlpSeqTiming", device, sequence, 0, 20_000, 0, 0, 0) == 0
    assert library.code("AlpSeqPut", device, sequence, 0, 10, None) == 1006
    assert library.code("AlpSeqPut", device, sequence, 5, 6, b"\0") == 1005
    assert library.code("AlpProjStart", device, sequence + 1) == 1003
    assert library.code("AlpProjStart", device, sequence) == 0
    for name, *more in (
        ("AlpSeqFree",),
        ("AlpSeqControl", 2101, 0),
        ("AlpSeqPut", 0, 1, b"\0" * 4096),
        ("AlpSeqTiming", 0, 20_000, 0, 0, 0),
    ):
        assert library.code(name, device, sequence, *more) == 1008
    assert library.code("AlpProjStart", device, sequence) == 1002
    assert library.code("AlpProjControl", device, 2300, 2302) == 1002
    assert library.code("AlpDevControl", device, 2004, 2007) == 1002
    assert library.code("AlpDevFree", device) == 1002
    assert library.code("AlpDevHalt", device) == 0
    assert library.code("AlpDevFree", device) == 0
    assert library.code("AlpDevHalt", device) == 1003


def test_waiting_inside_the_emulated_library_takes_the_time_of_the_sequence(emulated):
    library = AlpLibrary(str(emulated.library))
    device = library.new_id("AlpDevAlloc", 0, 0)
    sequence = library.new_id("AlpSeqAlloc", device, 1, 5)
    library.call("AlpSeqTiming", device, sequence, 0, 10_000, 0, 0, 0)
    before = time.monotonic()
    library.call("AlpProjStart", device, sequence)
    wait = ctypes.CDLL(str(emulated.library)).AlpProjWait
    wait.argtypes = [ctypes.c_ulong]
    assert wait(device) == 0
    assert time.monotonic() - before >= 0.049
    library.call("AlpProjStartCont", device, sequence)
    assert wait(device) == 1005  # it would wait for ever


def test_forgotten_pictures_are_told_from_those_to_come(monkeypatch):
    monkeypatch.setattr("opu_driver.emulators.alp._REMEMBERED_BYTES", 0)  # then 64 pictures
    with EmulatedALP() as emulated, AlpDMD(library=str(emulated.library)) as dmd:
        assert emulated.shown(0, 0.01) is None
        dmd.load(random_patterns(dmd, 70))
        dmd.start(20_000.0)
        dmd.wait(5.0)
        with pytest.raises(DeviceError, match="forgotten"):
            emulated.shown(5)
        assert emulated.shown(6) is not None


def test_a_machine_without_a_compiler_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(DriverMissingError, match="no C compiler"):
        emulated_alp.compiled_library.__wrapped__()


def test_a_compiler_that_fails_is_quoted(monkeypatch, tmp_path):
    monkeypatch.setattr(emulated_alp, "__file__", str(tmp_path / "alp.py"))
    (tmp_path / "alp.c").write_text("not C")
    with pytest.raises(DriverMissingError, match=r"cannot compile .*alp\.c"):
        emulated_alp.compiled_library.__wrapped__()


@pytest.mark.parametrize("change", [{"serial": 0}, {"memory": 0}, {"shape": (0, 64)}])
def test_an_emulated_dmd_without_mirrors_or_memory_is_refused(change):
    with pytest.raises(SettingError, match="above 0"):
        EmulatedALP(**change)
