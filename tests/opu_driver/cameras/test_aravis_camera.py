"""The aravis driver on Aravis' own fake GigE Vision camera, with packets lost."""

import os
import re
import shutil
import sys
import threading
import time
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from opu_driver.camera import CameraSettings, PixelFormat, Region, Trigger
from opu_driver.cameras.aravis import AravisCamera
from opu_driver.emulators.aravis import FakeGigECamera
from opu_driver.errors import (
    CaptureTimeoutError,
    DeviceBusyError,
    DeviceLostError,
    DeviceNotFoundError,
    DeviceStateError,
    DriverMissingError,
    SettingError,
)
from opu_driver.extras import vendor_library

if find_spec("gi") is None:
    pytest.skip("PyGObject is not installed: pip install 'opu[aravis]'", allow_module_level=True)
if shutil.which("arv-fake-gv-camera-0.8") is None:
    pytest.skip("no arv-fake-gv-camera-0.8: apt install aravis-tools", allow_module_level=True)

SERIAL = f"OPU{os.getpid()}"
SETTINGS = CameraSettings(100.0, Region(0, 0, 64, 96), trigger=Trigger.FREE)
BRIGHT = replace(SETTINGS, exposure_us=10000.0)
FIRST_ID_OF_FAKE = 65400


@pytest.fixture(scope="module")
def fake(gige_port):
    with FakeGigECamera(SERIAL) as fake:
        yield fake


@pytest.fixture(scope="module")
def opened(fake):
    """Opened once: to look for cameras on the network takes a second."""
    with AravisCamera(SERIAL, trigger_source="Line0") as camera:
        yield camera


@pytest.fixture
def camera(opened):
    if not opened.is_open:
        opened.open()
    opened.configure(SETTINGS)
    yield opened
    opened.disarm()


def read_all(camera, count):
    blocks = []
    while sum(map(len, blocks)) < count:
        blocks.append(camera.read(count, 5.0))
    return (
        np.concatenate([block.frames for block in blocks]),
        np.concatenate([block.ids for block in blocks]),
        np.concatenate([block.timestamps_us for block in blocks]),
        blocks[-1].lost,
    )


def assert_whole(frames):
    """The fake camera shows a ramp that runs down the diagonals, brighter with the exposure."""
    assert frames.std() > 0
    assert np.array_equal(frames[:, 1:, :-1], frames[:, :-1, 1:])


def test_cameras_on_the_network_are_found(fake):
    found = {each.identity.serial: each for each in AravisCamera.discover()}
    assert found[SERIAL].identity.vendor == "Aravis"
    assert AravisCamera(**found[SERIAL].options).address == f"aravis {SERIAL}"


def test_an_unknown_serial_says_what_is_connected(fake):
    with pytest.raises(DeviceNotFoundError, match=SERIAL):
        AravisCamera("40012345").open()


def test_it_says_who_it_is_and_opens_again(camera):
    assert camera.identity.serial == SERIAL
    assert camera.sensor_shape == (2048, 2048)
    with pytest.raises(DeviceStateError, match="open already"):
        camera.open()
    camera.close()
    camera.close()
    camera.open()
    camera.configure(SETTINGS)


def test_a_camera_that_somebody_controls_is_busy(camera):
    with pytest.raises(DeviceBusyError, match="another program"):
        AravisCamera(SERIAL).open()
    camera.arm(1)
    assert len(camera.read(1, 5.0)) == 1


def test_frame_ids_wrap_and_the_count_goes_on(fake, camera):
    camera.close()
    fake.unplug()
    fake.plug_in()
    camera.open()
    camera.configure(BRIGHT)
    count = 2 * (65536 - FIRST_ID_OF_FAKE)
    camera.arm(count)
    frames, ids, timestamps_us, lost = read_all(camera, count)
    assert list(ids) == list(range(count))
    assert lost == 0
    assert_whole(frames)
    assert (np.diff(timestamps_us) > 0).all()


@pytest.mark.parametrize("pixel_format", [PixelFormat.MONO8, PixelFormat.MONO16])
def test_software_triggers_give_a_frame_each(camera, pixel_format):
    settings = replace(SETTINGS, trigger=Trigger.SOFTWARE, pixel_format=pixel_format)
    camera.configure(settings)
    camera.arm(5)
    for k in range(5):
        camera.trigger()
        block = camera.read(1, 5.0)
        assert list(block.ids) == [k]
        assert block.frames.shape == (1, 64, 96)
        assert block.frames.dtype == pixel_format.dtype


def test_without_edges_no_frame_comes_and_the_timeout_holds(camera):
    camera.configure(replace(SETTINGS, trigger=Trigger.HARDWARE))
    camera.arm(1)
    with pytest.raises(CaptureTimeoutError, match=r"0 of 1 came.*Line0"):
        camera.read(1, 0.05)


def test_arming_forgets_frames_of_before(camera):
    camera.arm(50)
    camera.read(1, 5.0)
    time.sleep(0.05)
    camera.disarm()
    camera.configure(replace(SETTINGS, trigger=Trigger.HARDWARE))
    camera.arm(1)
    with pytest.raises(CaptureTimeoutError):
        camera.read(1, 0.2)


def test_a_trigger_of_before_exposes_nothing_after_arming(camera):
    camera.configure(replace(SETTINGS, trigger=Trigger.SOFTWARE))
    for _ in range(5):
        camera.arm(2)
        camera.trigger()
        camera.disarm()
    camera.arm(1)
    with pytest.raises(CaptureTimeoutError):
        camera.read(1, 0.2)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"trigger_delay_us": 13.0, "trigger": Trigger.HARDWARE}, "cannot delay"),
        ({"exposure_us": 1.0}, "10 to"),
        ({"gain_db": 1.0}, "0 to 0"),
        ({"region": Region(0, 2000, 64, 64)}, "does not lie"),
        ({"pixel_format": PixelFormat.MONO12}, "mono8, mono16"),
    ],
    ids=str,
)
def test_settings_that_it_does_not_have_are_refused_and_the_old_stay(camera, change, told):
    with pytest.raises(SettingError, match=told):
        camera.configure(replace(SETTINGS, **change))
    assert camera.settings == SETTINGS
    camera.arm(1)
    assert camera.read(1, 5.0).frames.shape == (1, 64, 96)


def test_features_of_the_bench_file_are_set_or_refused_by_name(camera):
    camera.close()
    with AravisCamera(SERIAL, features={"BinningVertical": 2, "ExposureTimeAbs": 50}) as other:
        assert other._features.number("BinningVertical") == 2
        assert other._features.number("ExposureTimeAbs") == 50.0
    for wrong in (
        {"NoSuchFeature": 1},
        {"BinningVertical": 99},
        {"BinningVertical": 1.5},
        {"BinningVertical": "many"},
    ):
        other = AravisCamera(SERIAL, features=wrong)
        with pytest.raises(SettingError, match=next(iter(wrong))):
            other.open()
        assert not other.is_open


def test_a_camera_that_is_not_on_the_network_counts_without_an_end():
    """Aravis has one in its own process, which has no packets, like those on USB."""
    AravisCamera.discover()
    aravis = vendor_library("gi.repository.Aravis", "aravis")
    aravis.enable_interface("Fake")
    try:
        with AravisCamera("1") as camera:
            assert camera.identity.model == "Fake"
            camera.configure(BRIGHT)
            for _ in range(2):
                camera.arm(5)
                frames, ids, _, lost = read_all(camera, 5)
                camera.disarm()
                assert (list(ids), lost) == ([0, 1, 2, 3, 4], 0)
                assert_whole(frames)
    finally:
        aravis.disable_interface("Fake")


def test_a_camera_that_dies_is_told_and_works_again_when_it_is_back(fake, camera):
    camera.configure(replace(SETTINGS, trigger=Trigger.HARDWARE))
    camera.arm(1)
    pull = threading.Timer(0.2, fake.unplug)
    pull.start()
    began = time.monotonic()
    with pytest.raises(DeviceLostError, match="cable"):
        camera.read(1, 60.0)
    assert time.monotonic() - began < 30
    pull.join()
    camera.close()
    fake.plug_in()
    camera.open()
    camera.configure(SETTINGS)
    camera.arm(1)
    assert len(camera.read(1, 5.0)) == 1


def test_frames_with_lost_packets_are_counted_and_never_returned(fake, camera):
    count = 100
    camera.close()
    fake.unplug()
    try:
        with FakeGigECamera(SERIAL, lost_packets_permille=3):
            camera.open()
            camera.configure(replace(BRIGHT, region=Region(0, 0, 256, 512)))
            camera.arm(count)
            blocks = []
            with pytest.raises(CaptureTimeoutError, match="lost on the way") as told:
                while True:
                    blocks.append(camera.read(count, 5.0))
            camera.close()
    finally:
        fake.plug_in()
    ids = np.concatenate([block.ids for block in blocks])
    lost = int(re.findall(r"(\d+) of them", str(told.value))[0])
    assert len(ids) + lost >= count
    assert 0 < ids[-1] + 1 - len(ids) <= blocks[-1].lost <= lost
    assert (np.diff(ids) > 0).all()
    assert_whole(np.concatenate([block.frames for block in blocks]))


def test_without_its_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gi", None)
    camera = AravisCamera()
    with pytest.raises(DriverMissingError, match=r"opu\[aravis\]"):
        camera.open()
    assert not camera.is_open
