"""The genicam driver on the GenTL producer that the genicam wheel brings for such tests."""

import signal
import sys
import time
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from opu_driver.camera import CameraSettings, PixelFormat, Region, Trigger
from opu_driver.cameras.genicam import GentlCamera
from opu_driver.errors import (
    CaptureTimeoutError,
    DeviceLostError,
    DeviceNotFoundError,
    DeviceStateError,
    DriverMissingError,
    SettingError,
)

_found = find_spec("genicam")
if _found is None or _found.origin is None or find_spec("harvesters") is None:
    pytest.skip("harvesters is not installed: pip install 'opu[genicam]'", allow_module_level=True)

PRODUCER = Path(_found.origin).with_name("viky.cti")
SETTINGS = CameraSettings(5000.0, Region(0, 0, 100, 128), trigger=Trigger.FREE)


@pytest.fixture
def camera():
    with GentlCamera(str(PRODUCER), "1") as camera:
        camera.configure(SETTINGS)
        yield camera


def read_all(camera, count):
    blocks = []
    while sum(map(len, blocks)) < count:
        blocks.append(camera.read(count, 5.0))
    return (
        np.concatenate([block.frames for block in blocks]),
        np.concatenate([block.ids for block in blocks]),
        blocks[-1].lost,
    )


def test_cameras_of_installed_producers_are_found(monkeypatch):
    monkeypatch.setenv("GENICAM_GENTL64_PATH", str(PRODUCER.parent))
    found = GentlCamera.discover()
    assert [each.identity.serial for each in found] == ["0", "1", "2"]
    with GentlCamera(**found[2].options) as camera:
        assert camera.identity.same_device(found[2].identity)
        assert camera.address == "gentl 2"
    with GentlCamera(serial="0") as camera:
        assert camera.identity.serial == "0"


def test_without_a_producer_it_says_what_to_install(monkeypatch):
    monkeypatch.delenv("GENICAM_GENTL64_PATH", raising=False)
    assert GentlCamera.discover() == []
    with pytest.raises(DriverMissingError, match=r"GENICAM_GENTL64_PATH.*maker's software"):
        GentlCamera().open()


def test_a_file_that_is_no_producer_is_refused_by_name(tmp_path):
    with pytest.raises(DriverMissingError, match=r"missing\.cti does not exist"):
        GentlCamera(str(tmp_path / "missing.cti")).open()
    (tmp_path / "text.cti").write_text("no library")
    with pytest.raises(DriverMissingError, match=r"text\.cti cannot be used"):
        GentlCamera(str(tmp_path / "text.cti")).open()


def test_serials_say_which_camera_is_meant():
    with pytest.raises(DeviceNotFoundError, match=r"'9'.*Viky #0.*Viky #2"):
        GentlCamera(str(PRODUCER), "9").open()
    with pytest.raises(DeviceNotFoundError, match="Name one by its serial"):
        GentlCamera(str(PRODUCER)).open()


def test_it_opens_again_after_closing_and_not_twice(camera):
    with pytest.raises(DeviceStateError, match="open already"):
        camera.open()
    camera.close()
    camera.close()
    camera.open()
    camera.configure(SETTINGS)


def test_an_interrupt_still_ends_the_program():
    """Harvesters takes the handler of Ctrl-C for itself."""
    before = signal.getsignal(signal.SIGINT)
    with GentlCamera(str(PRODUCER), "0"):
        assert signal.getsignal(signal.SIGINT) is before


def test_every_frame_is_counted_and_arming_begins_anew(camera):
    for _ in range(2):
        camera.arm(30)
        frames, ids, lost = read_all(camera, 30)
        with pytest.raises(CaptureTimeoutError, match="All 30"):
            camera.read(1, 5.0)
        camera.disarm()
        assert frames.shape == (30, 100, 128)
        assert frames.dtype == np.uint8
        assert frames.std() > 0
        assert list(ids) == list(range(30))
        assert lost == 0


def test_frames_that_are_not_read_in_time_are_told_lost(camera):
    camera.arm(1000)
    camera.read(1, 5.0)
    held = camera._acquirer.num_buffers
    time.sleep((held + 30) / 200)
    read, lost = 0, 0
    while lost == 0 and read < 2 * held:
        block = camera.read(held, 5.0)
        read += len(block)
        lost = block.lost
    assert lost > 0
    assert block.ids[-1] == read + lost


def test_incomplete_buffers_are_counted(camera):
    camera.arm(10)
    camera.read(1, 5.0)
    camera._acquirer._emit_callbacks(camera._acquirer.Events.INCOMPLETE_BUFFER)
    assert camera.read(1, 5.0).lost == 1


@pytest.mark.parametrize("method", ["try_fetch", "start"])
def test_a_producer_that_cannot_reach_its_camera_has_lost_it(camera, monkeypatch, method):
    gentl = import_module("genicam.gentl")

    def gone(**_options):
        raise gentl.IoException("no answer")

    if method == "try_fetch":
        camera.arm(1)
    monkeypatch.setattr(camera._acquirer, method, gone)
    with pytest.raises(DeviceLostError, match="cable"):
        camera.arm(1) if method == "start" else camera.read(1, 5.0)
    camera.close()
    camera.open()
    camera.configure(SETTINGS)
    camera.arm(1)
    assert len(camera.read(1, 5.0)) == 1


def test_the_timeout_holds():
    with GentlCamera(str(PRODUCER), "2") as camera:
        camera.configure(replace(SETTINGS, exposure_us=1e6))
        camera.arm(2)
        with pytest.raises(CaptureTimeoutError, match=r"0 of 2 came"):
            camera.read(1, 0.05)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"trigger": Trigger.HARDWARE}, "no trigger source 'Line1'"),
        ({"trigger": Trigger.SOFTWARE}, "it has: none"),
        ({"exposure_us": 4999.0}, "5000 to"),
        ({"gain_db": 1.0}, "0 to 0"),
        ({"region": Region(0, 2, 100, 100)}, "begin at 0, 0"),
        ({"region": Region(0, 0, 99, 100)}, "100 to 800"),
        ({"pixel_format": PixelFormat.MONO12}, "mono8"),
    ],
    ids=str,
)
def test_settings_that_it_does_not_have_are_refused_and_the_old_stay(camera, change, told):
    with pytest.raises(SettingError, match=told):
        camera.configure(replace(SETTINGS, **change))
    assert camera.settings == SETTINGS
    camera.arm(1)
    assert camera.read(1, 5.0).frames.shape == (1, 100, 128)


def test_features_of_the_bench_file_are_set():
    with GentlCamera(str(PRODUCER), "1", features={"BouncingBallSize": 7}) as camera:
        assert camera._features.number("BouncingBallSize") == 7
    for wrong in ({"NoSuchFeature": 1}, {"BouncingBallSize": 1000}, {"BouncingBallSize": "big"}):
        camera = GentlCamera(str(PRODUCER), "1", features=wrong)
        with pytest.raises(SettingError, match=next(iter(wrong))):
            camera.open()
        assert not camera.is_open


def test_without_its_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "harvesters.core", None)
    camera = GentlCamera(str(PRODUCER))
    with pytest.raises(DriverMissingError, match=r"opu\[genicam\]"):
        camera.open()
    assert not camera.is_open
