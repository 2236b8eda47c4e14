"""What the conformance suite cannot know of these devices; `docs/writing-a-driver.md` runs both."""

import numpy as np
import pytest
from opu_driver.camera import CameraSettings, PixelFormat, Region, Trigger
from opu_driver.errors import (
    CaptureTimeoutError,
    DeviceBusyError,
    DeviceLostError,
    DeviceNotFoundError,
    LaserSafetyError,
    SettingError,
)

from example_devices.camera import ExampleCamera
from example_devices.laser import ExampleLaser
from example_devices.modulator import ExampleDMD

SETTINGS = CameraSettings(1000.0, Region(0, 0, 8, 16), trigger=Trigger.SOFTWARE)


def test_the_mirrors_show_what_was_loaded():
    patterns = np.random.default_rng(0).integers(0, 256, (3, 64, 16), np.uint8)
    with ExampleDMD() as dmd:
        dmd.load(patterns)
        for pattern in patterns:
            dmd.step()
            assert dmd._device.mirrors == pattern.tobytes()


@pytest.mark.parametrize("pixel_format", [PixelFormat.MONO8, PixelFormat.MONO12])
def test_grey_values_arrive_as_they_are(pixel_format):
    settings = CameraSettings(10.0, SETTINGS.region, pixel_format, trigger=Trigger.SOFTWARE)
    with ExampleCamera() as camera:
        camera.configure(settings)
        camera.arm(3)
        for grey in range(3):
            camera.trigger()
            assert (camera.read(1, 1.0).frames == grey).all()


def test_an_exposure_that_would_be_rounded_is_refused():
    with ExampleCamera() as camera, pytest.raises(SettingError, match="nearest is 1230"):
        camera.configure(CameraSettings(1234.0, SETTINGS.region, trigger=Trigger.SOFTWARE))


def test_a_trigger_that_it_does_not_have_is_refused_with_the_remedy():
    with ExampleCamera() as camera, pytest.raises(SettingError, match=r'"software" in \[camera\]'):
        camera.configure(CameraSettings(1000.0, SETTINGS.region, trigger=Trigger.HARDWARE))


def test_an_incomplete_frame_is_counted_and_never_returned():
    with ExampleCamera() as camera:
        camera.configure(SETTINGS)
        camera.arm(3)
        camera._device.spoilt = 1
        camera.trigger()
        with pytest.raises(CaptureTimeoutError, match="1 were incomplete"):
            camera.read(1, 0.1)
        camera.trigger()
        block = camera.read(1, 1.0)
        assert block.lost == 1
        assert block.ids == [1]


@pytest.mark.parametrize("driver", [ExampleDMD, ExampleCamera, ExampleLaser])
def test_a_device_that_is_absent_or_in_use_is_told(driver):
    with pytest.raises(DeviceNotFoundError, match="connected is"):
        driver("X9").open()
    with driver(), pytest.raises(DeviceBusyError, match="in use"):
        driver().open()


def test_what_is_unplugged_is_lost_and_works_again():
    dmd, camera = ExampleDMD(), ExampleCamera()
    with dmd, camera:
        camera.configure(SETTINGS)
        camera.arm(1)
        for device in (dmd, camera):
            device._device.plugged = False
        with pytest.raises(DeviceLostError, match="cable"):
            dmd.load(np.zeros((1, 64, 16), np.uint8))
        with pytest.raises(DeviceLostError, match="cable"):
            camera.trigger()
    with dmd, camera:
        assert camera.configure(SETTINGS) == SETTINGS


def test_a_laser_that_is_unplugged_while_it_emits_does_not_pass_for_dark():
    with pytest.raises(DeviceLostError), ExampleLaser() as laser:
        laser.emit(laser.arm("test", 10.0))
        laser._device.plugged = False


def test_an_open_interlock_ends_emission():
    with ExampleLaser() as laser:
        token = laser.arm("test", 10.0)
        laser.emit(token)
        laser._device.enclosure_closed = False
        with pytest.raises(LaserSafetyError, match="interlock"):
            laser.check()
        with pytest.raises(LaserSafetyError, match="interlock"):
            laser.emit(token)
