"""What every camera must do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from opu_driver.camera import Camera, CameraSettings, FrameBlock, PixelFormat, Region, Trigger
from opu_driver.errors import CaptureTimeoutError, DeviceStateError, SettingError

_PATIENCE_S = 10.0


def without_a_line(camera: Camera) -> CameraSettings:
    """The settings with a trigger that needs no other device, in force."""
    for trigger in (Trigger.SOFTWARE, Trigger.FREE):
        try:
            return camera.configure(replace(camera.settings, trigger=trigger))
        except SettingError as refused:
            why = refused
    raise why


def take(camera: Camera, count: int) -> list[FrameBlock]:
    """Frames of an armed camera without a line, as they come."""
    blocks: list[FrameBlock] = []
    while sum(map(len, blocks)) < count:
        if camera.settings.trigger is Trigger.SOFTWARE:
            camera.trigger()
        blocks.append(camera.read(count - sum(map(len, blocks)), _PATIENCE_S))
    return blocks


@pytest.mark.disturbs(0)
def test_it_tells_what_it_can_do(camera: Camera) -> None:
    assert min(camera.sensor_shape) > 0
    assert camera.pitch_um > 0, "set pitch_um in the bench file: the camera does not tell it"
    assert camera.pixel_formats
    for low, high in (camera.exposure_limits_us, camera.gain_limits_db):
        assert low <= high
    assert camera.max_rate_hz > 0
    bits = camera.settings.pixel_format.bits
    assert 0 <= camera.black_level < camera.saturation_level
    assert not bits or camera.saturation_level <= 2**bits - 1


@pytest.mark.disturbs(0)
@pytest.mark.parametrize(
    "change",
    [
        {"exposure_us": 1e-9},
        {"exposure_us": 1e15},
        {"exposure_us": float("nan")},
        {"gain_db": 1e3},
        {"region": Region(0, 0, 0, 8)},
        {"region": Region(-8, 0, 8, 8)},
        {"region": Region(0, 8, 10**6, 8)},
        {"trigger_delay_us": -1.0},
        {"trigger_delay_us": float("nan")},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused_and_change_nothing(
    camera: Camera, change: dict[str, Any]
) -> None:
    before = camera.settings
    with pytest.raises(SettingError):
        camera.configure(replace(before, **change))
    assert camera.settings == before


@pytest.mark.disturbs(0)
def test_a_pixel_format_it_does_not_have_is_refused(camera: Camera) -> None:
    missing = set(PixelFormat) - set(camera.pixel_formats)
    for pixel_format in missing:
        with pytest.raises(SettingError, match=pixel_format.value):
            camera.configure(replace(camera.settings, pixel_format=pixel_format))


@pytest.mark.disturbs(0)
def test_it_has_states(camera: Camera) -> None:
    with pytest.raises(DeviceStateError, match="arm"):
        camera.read(1, 0.1)
    with pytest.raises(SettingError, match="at least 1"):
        camera.arm(0)
    camera.arm(1)
    with pytest.raises(DeviceStateError, match="armed already"):
        camera.arm(1)
    with pytest.raises(DeviceStateError, match="disarm"):
        camera.configure(camera.settings)
    camera.disarm()
    camera.disarm()
    camera.close()
    with pytest.raises(DeviceStateError, match="not open"):
        camera.arm(1)


@pytest.mark.disturbs(0)
def test_without_a_trigger_there_is_no_frame(camera: Camera) -> None:
    settings = without_a_line(camera)
    if settings.trigger is Trigger.FREE:
        pytest.skip("this camera runs freely")
    camera.arm(2)
    with pytest.raises(CaptureTimeoutError):
        camera.read(1, 0.2)
    camera.trigger()
    assert len(camera.read(2, _PATIENCE_S)) == 1
    with pytest.raises(CaptureTimeoutError):
        camera.read(1, 0.2)


@pytest.mark.disturbs(0)
def test_frames_are_counted_in_order_and_of_the_type_of_their_format(camera: Camera) -> None:
    without_a_line(camera)
    for pixel_format in camera.pixel_formats:
        camera.configure(replace(camera.settings, pixel_format=pixel_format))
        camera.arm(5)
        blocks = take(camera, 5)
        camera.disarm()
        frames = np.concatenate([block.frames for block in blocks])
        ids = np.concatenate([block.ids for block in blocks])
        times = np.concatenate([block.timestamps_us for block in blocks])
        assert frames.shape == (5, *camera.settings.region.shape)
        assert frames.dtype == pixel_format.dtype
        assert (np.diff(ids) == 1).all()
        assert np.isnan(times).all() or (np.diff(times) > 0).all()
        assert blocks[-1].lost == 0
        if pixel_format.bits:
            assert frames.max() <= 2**pixel_format.bits - 1


@pytest.mark.disturbs(0)
def test_frames_stay_what_they_were(camera: Camera) -> None:
    without_a_line(camera)
    camera.arm(4)
    first = take(camera, 1)[0].frames
    kept = first.copy()
    take(camera, 3)
    camera.disarm()
    assert (first == kept).all()


@pytest.mark.disturbs(0)
def test_arming_forgets_frames_of_before(camera: Camera) -> None:
    settings = without_a_line(camera)
    if settings.trigger is Trigger.FREE:
        pytest.skip("this camera runs freely")
    camera.arm(3)
    camera.trigger()
    camera.read(1, _PATIENCE_S)
    camera.trigger()
    camera.disarm()
    camera.arm(1)
    with pytest.raises(CaptureTimeoutError):
        camera.read(1, 0.3)


@pytest.mark.disturbs(0)
def test_it_is_armed_again_and_again(camera: Camera) -> None:
    without_a_line(camera)
    for count in (1, 3, 2):
        camera.arm(count)
        assert sum(map(len, take(camera, count))) == count
        camera.disarm()


@pytest.mark.disturbs(0)
def test_a_region_has_its_shape(camera: Camera) -> None:
    whole = Region(0, 0, *camera.sensor_shape)
    camera.configure(replace(camera.settings, region=whole))
    without_a_line(camera)
    rows, columns = (n // 2 // 16 * 16 for n in camera.sensor_shape)
    if min(rows, columns) < 16:
        pytest.skip("the sensor has no smaller region")
    camera.configure(replace(camera.settings, region=Region(0, 0, rows, columns)))
    camera.arm(1)
    assert take(camera, 1)[0].frames.shape == (1, rows, columns)


@pytest.mark.disturbs(3)
def test_closing_while_armed_leaves_it_usable(camera: Camera) -> None:
    settings = without_a_line(camera)
    camera.arm(3)
    take(camera, 1)
    camera.close()
    with camera:
        camera.configure(settings)
        camera.arm(2)
        assert sum(map(len, take(camera, 2))) == 2
