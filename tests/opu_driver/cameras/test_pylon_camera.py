"""The pylon driver on Basler's own camera emulation."""

import sys
import threading
import time
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from opu_driver.camera import CameraSettings, PixelFormat, Region, Trigger
from opu_driver.cameras.pylon import PylonCamera
from opu_driver.emulators.pylon import FrameFeed, spoil, switch_on, unplug
from opu_driver.errors import (
    CaptureTimeoutError,
    DeviceError,
    DeviceLostError,
    DeviceNotFoundError,
    DeviceStateError,
    DriverMissingError,
    SettingError,
)

if find_spec("pypylon") is None:
    pytest.skip("pypylon is not installed: pip install 'opu[pylon]'", allow_module_level=True)

SETTINGS = CameraSettings(100.0, Region(0, 0, 32, 48), trigger=Trigger.HARDWARE)


@pytest.fixture
def serial():
    return switch_on(2)[0]


@pytest.fixture
def feed(tmp_path):
    return FrameFeed(tmp_path)


@pytest.fixture
def camera(serial, feed):
    with PylonCamera(serial, features=feed.features) as camera:
        camera.configure(SETTINGS)
        yield camera


def speckle(settings, count, seed=0):
    shape = (count, *settings.region.shape)
    pixel_format = settings.pixel_format
    grey = np.random.default_rng(seed).integers(0, 2**pixel_format.bits, shape)
    return grey.astype(pixel_format.dtype)


def read_all(camera, count):
    blocks = []
    while sum(map(len, blocks)) < count:
        blocks.append(camera.read(count, 5.0))
    frames = np.concatenate([block.frames for block in blocks])
    ids = np.concatenate([block.ids for block in blocks])
    return frames, ids, blocks[-1].lost


def fire(camera, feed, frames):
    edges = threading.Thread(target=lambda: [feed.expose(camera, frame) for frame in frames])
    edges.start()
    return edges


def test_connected_cameras_are_found_without_opening_them(serial):
    found = {each.identity.serial: each for each in PylonCamera.discover()}
    assert found[serial].identity.vendor == "Basler"
    assert PylonCamera(**found[serial].options).address == f"pylon {serial}"


def test_it_says_who_it_is(camera, serial):
    assert camera.identity.serial == serial
    assert camera.identity.firmware
    assert camera.sensor_shape == (4096, 4096)


def test_an_unknown_serial_says_what_is_connected(serial):
    with pytest.raises(DeviceNotFoundError, match=serial):
        PylonCamera("40012345").open()


def test_one_of_several_cameras_has_to_be_named(serial):
    with pytest.raises(DeviceNotFoundError, match=r"serial was left out.*Name one"):
        PylonCamera().open()


def test_it_opens_again_after_closing_and_not_twice(camera):
    with pytest.raises(DeviceStateError, match="open already"):
        camera.open()
    camera.close()
    camera.close()
    with pytest.raises(DeviceStateError, match="not open"):
        _ = camera.sensor_shape
    camera.open()
    with pytest.raises(DeviceStateError, match="no settings"):
        camera.arm(1)
    camera.configure(SETTINGS)


@pytest.mark.parametrize("pixel_format", [*PixelFormat][:4])
def test_frames_are_bit_for_bit_those_of_their_edges(camera, feed, pixel_format):
    settings = replace(SETTINGS, pixel_format=pixel_format, region=Region(3, 5, 33, 47))
    camera.configure(settings)
    for seed in (1, 2):
        shown = speckle(settings, 20, seed)
        camera.arm(len(shown))
        edges = fire(camera, feed, shown)
        frames, ids, lost = read_all(camera, len(shown))
        edges.join()
        camera.disarm()
        assert frames.dtype == pixel_format.dtype
        assert np.array_equal(frames, shown)
        assert (list(ids), lost) == (list(range(len(shown))), 0)


def test_the_emulation_has_no_clock_and_the_driver_does_not_invent_one(camera, feed):
    camera.arm(1)
    feed.expose(camera, speckle(SETTINGS, 1)[0])
    assert np.isnan(camera.read(1, 5.0).timestamps_us).all()


def test_spoilt_frames_are_counted_and_never_returned(camera, feed):
    shown = speckle(SETTINGS, 9)
    camera.arm(len(shown))
    feed.expose(camera, shown[0])
    first = camera.read(1, 5.0)
    spoil(camera, 3)
    edges = fire(camera, feed, shown[1:])
    frames, ids, lost = read_all(camera, 5)
    edges.join()
    ids = [*first.ids, *ids]
    assert len(ids) == 6
    assert lost == 3
    assert np.array_equal([first.frames[0], *frames], shown[ids])
    with pytest.raises(CaptureTimeoutError, match="3 of them lost"):
        camera.read(1, 5.0)


def test_edges_that_find_the_camera_not_armed_are_lost(camera, feed):
    assert not feed.expose(camera, speckle(SETTINGS, 1)[0])
    camera.arm(1)
    with pytest.raises(CaptureTimeoutError, match=r"0 of 1 came.*Line1"):
        camera.read(1, 0.05)


def test_arming_forgets_frames_of_before(camera, feed):
    stale, fresh = speckle(SETTINGS, 2)
    camera.arm(3)
    feed.expose(camera, stale)
    feed.expose(camera, stale)
    camera.disarm()
    camera.arm(1)
    feed.expose(camera, fresh)
    block = camera.read(3, 5.0)
    assert np.array_equal(block.frames, [fresh])
    assert list(block.ids) == [0]


def test_software_triggers_give_a_frame_each(camera, feed):
    camera.configure(replace(SETTINGS, trigger=Trigger.SOFTWARE))
    camera.arm(5)
    for k, shown in enumerate(speckle(SETTINGS, 5)):
        feed.show(camera, shown)
        camera.trigger()
        block = camera.read(1, 5.0)
        assert list(block.ids) == [k]
        assert np.array_equal(block.frames, [shown])


def test_software_triggers_are_not_lost_when_they_come_too_early(camera, feed):
    camera.configure(replace(SETTINGS, exposure_us=5000.0, trigger=Trigger.SOFTWARE))
    feed.show(camera, speckle(SETTINGS, 1)[0])
    camera.arm(6)
    for _ in range(6):
        camera.trigger()
    _, ids, lost = read_all(camera, 6)
    assert (list(ids), lost) == ([0, 1, 2, 3, 4, 5], 0)


def test_a_free_camera_runs_by_itself(camera, feed):
    camera.configure(replace(SETTINGS, trigger=Trigger.FREE))
    feed.show(camera, speckle(SETTINGS, 1)[0])
    camera.arm(10)
    _, ids, lost = read_all(camera, 10)
    assert (list(ids), lost) == (list(range(10)), 0)


def test_a_pulled_plug_is_told_at_once_also_while_waiting(camera):
    camera.arm(1)
    pull = threading.Timer(0.2, unplug, [camera])
    began = time.monotonic()
    pull.start()
    with pytest.raises(DeviceLostError, match="cable"):
        camera.read(1, 60.0)
    pull.join()
    assert time.monotonic() - began < 10
    camera.disarm()
    with pytest.raises(DeviceLostError):
        camera.configure(SETTINGS)


@pytest.mark.parametrize("armed", [False, True])
def test_after_a_pulled_plug_the_same_object_works_again(camera, feed, armed):
    if armed:
        camera.arm(1)
    unplug(camera)
    camera.close()
    camera.open()
    camera.configure(SETTINGS)
    shown = speckle(SETTINGS, 1)
    camera.arm(1)
    feed.expose(camera, shown[0])
    assert np.array_equal(camera.read(1, 5.0).frames, shown)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"exposure_us": 99.0}, "100 to"),
        ({"gain_db": 49.0}, "0 to 48"),
        ({"region": Region(4090, 0, 32, 32)}, "does not lie"),
        ({"trigger_delay_us": 20000.0}, "TriggerDelay"),
        ({"pixel_format": PixelFormat.FLOAT32}, "mono8, mono10"),
    ],
    ids=str,
)
def test_settings_that_it_does_not_have_are_refused_and_the_old_stay(camera, feed, change, told):
    with pytest.raises(SettingError, match=told):
        camera.configure(replace(SETTINGS, **change))
    assert camera.settings == SETTINGS
    shown = speckle(SETTINGS, 1)
    camera.arm(1)
    feed.expose(camera, shown[0])
    assert np.array_equal(camera.read(1, 5.0).frames, shown)


def test_a_trigger_delay_is_rounded_up_never_down(camera):
    camera.configure(replace(SETTINGS, trigger_delay_us=13.26))
    assert camera.handle.TriggerDelay.GetValue() == 14.0


def test_an_input_that_is_not_there_is_refused_with_those_that_are(serial):
    with PylonCamera(serial, trigger_source="Line7") as camera:
        with pytest.raises(SettingError, match=r"'Line7'.*Line1, Line2"):
            camera.configure(SETTINGS)
        camera.configure(replace(SETTINGS, trigger=Trigger.FREE))


def test_a_frame_of_another_shape_is_refused(camera, feed):
    """The emulation sends whatever its files hold."""
    camera.configure(replace(SETTINGS, region=Region(0, 0, 16, 16), trigger=Trigger.SOFTWARE))
    feed.show(camera, np.zeros((16, 16), np.uint8))
    camera.configure(replace(SETTINGS, trigger=Trigger.SOFTWARE))
    camera.arm(1)
    camera.trigger()
    with pytest.raises(DeviceError, match="16 x 16 pixels where 32 x 48"):
        camera.read(1, 5.0)


def test_blocks_stay_as_they_were_read(camera, feed):
    """The library uses its memory again for the next frames."""
    shown = speckle(SETTINGS, 40)
    camera.arm(len(shown))
    edges = fire(camera, feed, shown)
    blocks = [camera.read(1, 5.0) for _ in shown]
    edges.join()
    assert np.array_equal(np.concatenate([block.frames for block in blocks]), shown)


def test_features_and_black_level_of_the_bench_file_are_set(serial):
    camera = PylonCamera(
        serial, features={"ReverseX": True}, trigger_edge="falling", black_level=16.0, pitch_um=5.5
    )
    with camera:
        camera.configure(SETTINGS)
        assert camera.handle.ReverseX.GetValue()
        assert camera.handle.TriggerActivation.GetValue() == "FallingEdge"
        assert camera.black_level == pytest.approx(16.0, abs=0.1)
        assert camera.pitch_um == 5.5


@pytest.mark.parametrize(
    "features", [{"NoSuchFeature": 1}, {"ReverseX": "sideways"}, {"PixelFormat": "Mono9"}], ids=str
)
def test_a_wrong_feature_is_refused_by_name_and_leaves_nothing_open(serial, features):
    camera = PylonCamera(serial, features=features)
    with pytest.raises(SettingError, match=next(iter(features))):
        camera.open()
    assert not camera.is_open
    with PylonCamera(serial) as other:
        other.configure(SETTINGS)


def test_the_nearest_exposure_is_told_and_not_left_in_force(camera):
    assert camera.nearest_exposure_us(123.4) == pytest.approx(123.4, abs=1)
    assert camera.handle.ExposureTimeAbs.GetValue() == SETTINGS.exposure_us
    with pytest.raises(SettingError):
        camera.nearest_exposure_us(1.0)


def test_the_rate_is_that_of_the_exposures_or_of_the_camera(camera):
    assert camera.max_rate_hz == 5000.0
    camera.configure(replace(SETTINGS, exposure_us=1e4))
    assert camera.max_rate_hz == pytest.approx(100.0)


def test_a_feed_refuses_frames_that_the_camera_would_silently_take(camera, feed):
    camera.arm(1)
    with pytest.raises(SettingError, match="region"):
        feed.expose(camera, np.zeros((16, 16), np.uint8))


def test_without_its_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pypylon.pylon", None)
    camera = PylonCamera()
    with pytest.raises(DriverMissingError, match=r"opu\[pylon\]"):
        camera.open()
    assert not camera.is_open
