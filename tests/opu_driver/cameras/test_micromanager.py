"""Cameras behind Micro-Manager, on its own demonstration camera."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from opu_driver.camera import CameraSettings, PixelFormat, Region, Trigger
from opu_driver.cameras.micromanager import MicroManagerCamera
from opu_driver.errors import (
    CaptureTimeoutError,
    DeviceLostError,
    DeviceNotFoundError,
    DeviceStateError,
    DriverMissingError,
    FrameError,
    SettingError,
)
from opu_driver.extras import vendor_library

try:
    vendor_library("pymmcore_plus", "micromanager")
except DriverMissingError as missing:
    pytest.skip(str(missing), allow_module_level=True)
ADAPTERS = pytest.importorskip(
    "mm_test_adapters",
    reason="Micro-Manager's demo adapter is missing: pip install mm-test-adapters",
).device_adapter_path()

MONO8 = {"PixelType": "8bit"}
EXTERNAL = {"ScanMode": "2"}
"""The demonstration camera has no trigger input; another of its properties stands in for one."""


def demo(**options):
    start = {
        "configuration": "MMConfig_demo.cfg",
        "pitch_um": 6.5,
        "adapters": ADAPTERS,
        "properties": MONO8,
    }
    return MicroManagerCamera(**start | options)


def settings(camera, trigger=Trigger.FREE, **changes):
    whole = Region(0, 0, *camera.sensor_shape)
    start = CameraSettings(2000.0, whole, camera.pixel_formats[0], trigger=trigger)
    return replace(start, **changes)


@pytest.fixture(scope="module")
def opened():
    with demo(hardware_trigger=EXTERNAL, internal_trigger={"ScanMode": "1"}) as camera:
        yield camera


@pytest.fixture
def camera(opened):
    yield opened
    opened.disarm()


def test_a_sequence_arrives_whole_and_in_order(camera):
    camera.configure(settings(camera))
    camera.arm(7)
    blocks = []
    while sum(map(len, blocks)) < 7:
        blocks.append(camera.read(3, 5.0))
    assert [number for block in blocks for number in block.ids] == list(range(7))
    assert all(block.lost == 0 and np.isnan(block.timestamps_us).all() for block in blocks)
    assert blocks[0].frames.shape[1:] == (512, 512)
    assert blocks[0].frames.dtype == np.uint8
    with pytest.raises(CaptureTimeoutError, match="7 of 7"):
        camera.read(1, 0.05)


def test_arming_forgets_frames_of_before(camera):
    camera.configure(settings(camera))
    camera.arm(5)
    camera.read(1, 5.0)
    camera.disarm()
    camera.arm(2)
    assert camera.read(1, 5.0).ids[0] == 0


def test_a_triggered_frame_is_exposed_after_its_trigger(camera):
    camera.configure(settings(camera, Trigger.SOFTWARE, trigger_delay_us=30_000.0))
    camera.arm(3)
    with pytest.raises(CaptureTimeoutError, match="0 came for 0 triggers"):
        camera.read(1, 0.05)
    for index in range(3):
        began = time.perf_counter()
        camera.trigger()
        assert time.perf_counter() - began >= 0.032
        with pytest.raises(DeviceStateError, match="has not been read"):
            camera.trigger()
        block = camera.read(5, 1.0)
        assert list(block.ids) == [index]
        assert block.frames.shape == (1, 512, 512)


def test_a_region_is_what_the_camera_reads(camera):
    whole = settings(camera, Trigger.SOFTWARE)
    camera.configure(whole)
    camera.configure(replace(whole, region=Region(20, 30, 40, 50)))
    assert camera._core.getROI("Camera") == [30, 20, 50, 40]
    camera.arm(1)
    camera.trigger()
    assert camera.read(1, 1.0).frames.shape == (1, 40, 50)
    camera.disarm()
    camera.configure(whole)
    camera.arm(1)
    camera.trigger()
    assert camera.read(1, 1.0).frames.shape == (1, 512, 512)


def test_settings_that_the_camera_would_change_are_refused_and_the_old_are_kept(
    camera, monkeypatch
):
    start = camera.configure(settings(camera, exposure_us=4000.0))
    assert camera.nearest_exposure_us(1234.0) == pytest.approx(1230.0)
    with pytest.raises(SettingError, match="nearest that this camera takes is 1230"):
        camera.configure(replace(start, exposure_us=1234.0))
    with pytest.raises(SettingError, match="takes 1 to 1e"):
        camera.configure(replace(start, exposure_us=2e7))
    with pytest.raises(SettingError, match="has to be 0"):
        camera.configure(replace(start, trigger_delay_us=5.0))
    with monkeypatch.context() as patched:
        patched.setattr(camera._core, "getROI", lambda label: [32, 20, 48, 40])
        with pytest.raises(SettingError, match="would read row 20, column 32, height 40, width 48"):
            camera.configure(replace(start, region=Region(20, 30, 40, 50)))
    assert camera.settings == start
    assert camera._core.getExposure() == 4.0
    assert camera._core.getROI("Camera") == [0, 0, 512, 512]


@pytest.mark.parametrize(
    ("depth", "pixel_format", "top"),
    [
        ("8", PixelFormat.MONO8, 255),
        ("10", PixelFormat.MONO10, 1023),
        ("12", PixelFormat.MONO12, 4095),
        ("14", PixelFormat.MONO16, 16383),
        ("16", PixelFormat.MONO16, 65535),
    ],
)
def test_grey_values_have_the_bits_of_the_camera(depth, pixel_format, top):
    pixel_type = "8bit" if depth == "8" else "16bit"
    with demo(properties={"PixelType": pixel_type, "BitDepth": depth, "Mode": "Noise"}) as camera:
        assert camera.pixel_formats == (pixel_format,)
        assert camera.saturation_level == top
        camera.configure(settings(camera, Trigger.SOFTWARE))
        camera.arm(1)
        camera.trigger()
        frames = camera.read(1, 1.0).frames
        assert frames.dtype == pixel_format.dtype
        assert 0 < frames.max() <= top


def test_words_filled_from_the_left_are_not_taken_for_grey_values(camera, monkeypatch):
    camera.configure(settings(camera, Trigger.SOFTWARE))
    camera.arm(1)
    camera.trigger()
    monkeypatch.setattr(camera._core, "getImage", lambda: np.full((512, 512), 256, np.uint16))
    with pytest.raises(FrameError, match="up to 256, not .* of 8 bits"):
        camera.read(1, 1.0)


def test_colours_are_refused():
    with pytest.raises(SettingError, match=r"4 colours.*16bit, 32bit, 32bitRGB, 64bitRGB, 8bit"):
        demo(properties={"PixelType": "32bitRGB"}).open()


def test_the_trigger_line_is_chosen_by_properties(camera):
    hardware = settings(camera, Trigger.HARDWARE)
    camera.configure(hardware)
    assert camera._core.getProperty("Camera", "ScanMode") == "2"
    camera.arm(2)
    assert len(camera.read(1, 5.0)) == 1
    camera.disarm()
    with pytest.raises(SettingError, match="trigger_delay_property"):
        camera.configure(replace(hardware, trigger_delay_us=20.0))
    camera.configure(settings(camera))
    assert camera._core.getProperty("Camera", "ScanMode") == "1"


def test_the_trigger_delay_is_set_in_the_units_of_its_property():
    options = {"trigger_delay_property": "TestProperty6", "trigger_delay_unit_us": 1000.0}
    with demo(hardware_trigger=EXTERNAL, **options) as camera:
        camera.configure(settings(camera, Trigger.HARDWARE, trigger_delay_us=2500.0))
        assert float(camera._core.getProperty("Camera", "TestProperty6")) == 2.5
    with demo() as camera, pytest.raises(SettingError, match="Set hardware_trigger"):
        camera.configure(settings(camera, Trigger.HARDWARE))


def test_a_full_buffer_is_told():
    with demo(buffer_mb=1) as camera:
        camera.configure(settings(camera))
        camera.arm(40)  # 10 MB
        time.sleep(0.3)
        received = 0
        with pytest.raises(CaptureTimeoutError, match="of 40 frames came, then the buffer of 1 MB"):
            while received < 40:
                received += len(camera.read(40, 1.0))
        assert 0 < received < 40
        camera.disarm()
        camera.arm(1)
        assert camera.read(1, 5.0).lost == 0


def test_a_gap_in_the_numbers_of_frames_is_lost_frames(camera, monkeypatch):
    camera.configure(settings(camera))
    camera.arm(3)
    popped = iter([(np.zeros((512, 512), np.uint8), {"ImageNumber": n}) for n in ("0", "2")])
    monkeypatch.setattr(camera._core, "popNextImageAndMD", lambda: next(popped))
    assert camera.read(1, 5.0).lost == 0
    block = camera.read(1, 5.0)
    assert (list(block.ids), block.lost) == ([2], 1)


def test_a_camera_that_goes_away_is_lost_and_comes_back(camera, monkeypatch):
    def gone(*_):
        raise RuntimeError("Error in device 'Camera': (Unknown device error)")

    start = camera.configure(settings(camera, Trigger.SOFTWARE))
    camera.arm(1)
    with monkeypatch.context() as patched:
        patched.setattr(camera._core, "snapImage", gone)
        with pytest.raises(DeviceLostError, match="does not expose any more.*Unknown device error"):
            camera.trigger()
    camera.disarm()
    camera.configure(replace(start, trigger=Trigger.FREE))
    camera.arm(1000)
    camera._core.stopSequenceAcquisition()
    with pytest.raises(DeviceLostError, match="stopped by itself"):
        while True:
            camera.read(10, 5.0)
    with monkeypatch.context() as patched:
        patched.setattr(camera._core, "stopSequenceAcquisition", gone)
        patched.setattr(camera._core, "unloadAllDevices", gone)
        camera.close()
    camera.open()
    camera.configure(start)
    camera.arm(1)
    camera.trigger()
    assert len(camera.read(1, 1.0)) == 1


def test_the_identity_is_what_the_adapter_tells(camera):
    assert str(camera.identity) == "DemoCamera DemoCamera-MultiMode #V1.0"
    assert camera.identity.firmware.startswith("MMCore")
    assert MicroManagerCamera.discover() == []


@pytest.mark.parametrize(
    ("options", "error", "why"),
    [
        ({"configuration": "nothing.cfg"}, SettingError, "MMConfig_demo.cfg"),
        ({"camera": "Kamera"}, DeviceNotFoundError, "no camera 'Kamera'; it has: Camera"),
        ({"camera": "XY"}, DeviceNotFoundError, "no camera 'XY'"),
        ({"adapters": "/no such folder"}, DriverMissingError, "mmcore install"),
        ({"properties": {"PixelTyp": "8bit"}}, SettingError, "no property 'PixelTyp'.*PixelType"),
        ({"properties": {"PixelType": "9bit"}}, SettingError, "allowed: 16bit, 32bit"),
        ({"properties": {"Gain": 20}}, SettingError, "allowed: -5 to 8"),
        ({"properties": {"CameraID": "x"}}, SettingError, "CameraID"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_told_with_what_would(options, error, why):
    camera = demo(**options)
    with pytest.raises(error, match=why):
        camera.open()
    assert not camera.is_open


def test_a_configuration_that_cannot_be_loaded_is_told(tmp_path):
    path = Path(tmp_path) / "broken.cfg"
    path.write_text("Device,Camera,NoSuchAdapter,NoSuchCamera\n")
    with pytest.raises(DeviceNotFoundError, match="NoSuchAdapter"):
        demo(configuration=str(path)).open()


@pytest.mark.parametrize("option", ["pitch_um", "trigger_delay_unit_us", "buffer_mb"])
def test_numbers_that_make_no_sense_are_refused(option):
    with pytest.raises(SettingError, match=option):
        demo(**{option: 0})


REGISTERED = """
from opu_driver.registry import OWN, Kind, OwnDriver

OWN[Kind.CAMERA].setdefault(
    "micromanager", OwnDriver("opu_driver.cameras.micromanager:MicroManagerCamera", "micromanager")
)
"""


def test_it_conforms(conforms, tmp_path):
    (tmp_path / "registered.py").write_text(REGISTERED)
    conforms(
        f"""
        [modulator]
        driver = "virtual-dmd"

        [camera]
        driver = "micromanager"
        configuration = "MMConfig_demo.cfg"
        adapters = '{ADAPTERS}'
        pitch_um = 6.5
        properties = {{PixelType = "8bit"}}
        exposure_us = 1000.0
        trigger = "software"

        [laser]
        driver = "virtual"
        power_mw = 1.0

        [scene]
        preset = "quiet"
        """,
        "test_camera",
        plugins=["registered"],
        environment={"PYTHONPATH": str(tmp_path)},
    )
