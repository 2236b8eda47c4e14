"""Cameras that `cv2.VideoCapture` opens: recordings, a network camera, a USB camera's controls."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from opu_driver.camera import CameraSettings, PixelFormat, Region, Trigger
from opu_driver.cameras import opencv
from opu_driver.cameras.opencv import OpenCVCamera
from opu_driver.emulators.network_camera import NetworkCamera
from opu_driver.errors import (
    CaptureTimeoutError,
    DeviceLostError,
    DeviceNotFoundError,
    DeviceStateError,
    FrameError,
    SettingError,
)

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed: pip install 'opu[opencv]'")

SHAPE = (48, 64)
EXPOSURE_US = 1000.0


def settings(camera, trigger=Trigger.SOFTWARE, **changes):
    whole = Region(0, 0, *camera.sensor_shape)
    start = CameraSettings(EXPOSURE_US, whole, camera.pixel_formats[0], trigger=trigger)
    return replace(start, **changes)


def exposed(camera, timeout_s=5.0):
    camera.trigger()
    return camera.read(1, timeout_s).frames[0]


@pytest.fixture
def film(tmp_path):
    """A lossless video of random grey frames, and the frames."""
    frames = np.random.default_rng(0).integers(0, 256, (5, *SHAPE), np.uint8)
    path = tmp_path / "film.mkv"
    codec = cv2.VideoWriter_fourcc(*"FFV1")
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, codec, 30.0, SHAPE[::-1], isColor=False)
    for frame in frames:
        writer.write(frame)
    writer.release()
    return str(path), frames


@pytest.fixture
def images(tmp_path):
    """A sequence of 16-bit images with 12 bits in them, and the images."""
    frames = np.random.default_rng(0).integers(0, 1 << 12, (3, *SHAPE)).astype(np.uint16)
    for k, frame in enumerate(frames):
        cv2.imwrite(str(tmp_path / f"frame_{k:03d}.png"), frame)
    return str(tmp_path / "frame_%03d.png"), frames


def recording(source, **options):
    return OpenCVCamera(source, pitch_um=3.0, fixed_exposure_us=EXPOSURE_US, **options)


def test_a_recording_gives_its_frames_one_a_trigger(film):
    path, frames = film
    with recording(path) as camera:
        assert camera.sensor_shape == SHAPE
        assert camera.pixel_formats == (PixelFormat.MONO8,)
        assert camera.exposure_limits_us == (EXPOSURE_US, EXPOSURE_US)
        camera.configure(settings(camera))
        assert camera.max_rate_hz == pytest.approx(30.0)
        camera.arm(5)
        for k, frame in enumerate(frames):
            camera.trigger()
            block = camera.read(1, 1.0)
            assert (block.frames[0] == frame).all()
            assert block.ids == [k]
            assert np.isnan(block.timestamps_us).all()
            assert block.lost == 0
        camera.trigger()
        with pytest.raises(CaptureTimeoutError, match="at its end"):
            camera.read(1, 1.0)
        camera.close()
        camera.open()
        camera.configure(settings(camera, Trigger.FREE))
        camera.arm(4)
        assert (camera.read(9, 1.0).frames == frames[:4]).all()


def test_a_region_is_cut_out_of_the_frame(film):
    path, frames = film
    with recording(path) as camera:
        camera.configure(settings(camera, region=Region(7, 11, 20, 30)))
        camera.arm(1)
        assert (exposed(camera) == frames[0, 7:27, 11:41]).all()


def test_words_keep_their_bits_right_aligned(images):
    path, frames = images
    with recording(path, backend="CV_IMAGES", bits=12) as camera:
        assert camera.pixel_formats == (PixelFormat.MONO12,)
        assert camera.saturation_level == 4095
        camera.configure(settings(camera))
        camera.arm(1)
        assert (exposed(camera) == frames[0]).all()
    with pytest.raises(SettingError, match="bits = 8; the source sends pixels of type uint16"):
        recording(path, backend="CV_IMAGES", bits=8).open()


def test_words_with_more_bits_than_were_said_are_refused(images):
    with pytest.raises(FrameError, match="10 bits"):
        recording(images[0], backend="CV_IMAGES", bits=10).open()


def test_colours_are_refused_until_one_is_chosen(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "c_000.png"), colours)
    path = str(tmp_path / "c_%03d.png")
    camera = recording(path)
    with pytest.raises(SettingError, match="channel = grey, red"):
        camera.open()
    assert not camera.is_open
    weights = np.array([0.114, 0.587, 0.299])  # blue, green, red: ITU-R BT.601
    for channel, expected in (
        ("blue", colours[..., 0]),
        ("green", colours[..., 1]),
        ("red", colours[..., 2]),
        ("grey", colours @ weights),
    ):
        with recording(path, channel=channel) as camera:
            camera.configure(settings(camera))
            camera.arm(1)
            assert np.abs(exposed(camera) - expected).max() <= (channel == "grey")


def test_settings_that_the_source_does_not_have_are_refused(film):
    path, _ = film
    with recording(path) as camera:
        whole = settings(camera)
        for wrong, why in (
            ({"exposure_us": 2000.0}, "takes 1000 to 1000"),
            ({"gain_db": 1.0}, "takes 0 to 0"),
            ({"trigger": Trigger.HARDWARE}, "no trigger line"),
            ({"trigger": Trigger.FREE, "trigger_delay_us": 5.0}, "has to be 0"),
            ({"pixel_format": PixelFormat.MONO12}, "has mono8"),
        ):
            with pytest.raises(SettingError, match=why):
                camera.configure(replace(whole, **wrong))
    for options, why in (
        ({"resolution": (480, 640)}, r"\[48, 64\]"),
        ({"properties": {"gamma": 100.0}}, "does not take it"),
        ({"properties": {"gamme": 100.0}}, "no property of this name"),
        ({"backend": "FFMPG"}, "FFMPEG"),
    ):
        with pytest.raises(SettingError, match=why):
            recording(path, **options).open()
    with pytest.raises(SettingError, match="fixed_exposure_us"):
        OpenCVCamera(path, pitch_um=3.0).open()


def test_a_source_that_is_not_there_is_not_found(tmp_path):
    for source in (str(tmp_path / "nothing.mkv"), 63):
        with pytest.raises(DeviceNotFoundError, match="cannot open the source"):
            recording(source).open()


def test_cameras_that_linux_lists_are_discovered(tmp_path, monkeypatch):
    for number, index in ((0, 0), (1, 1), (2, 0)):
        entry = tmp_path / f"video{number}"
        entry.mkdir()
        (entry / "index").write_text(f"{index}\n")
        (entry / "name").write_text(f"Microscope {number}\n")
    monkeypatch.setattr(opencv, "_LINUX_CAMERAS", tmp_path)
    found = OpenCVCamera.discover()
    assert [device.options for device in found] == [{"source": 0}, {"source": 2}]
    assert found[1].identity.model == "Microscope 2"


def test_passwords_do_not_become_part_of_an_identity(film, monkeypatch):
    path, _ = film
    with recording(path) as camera:
        monkeypatch.setattr(camera, "_source", "rtsp://user:secret@camera/video")
        assert camera.identity.serial == "rtsp://camera/video"


DELAY_S = 0.06


@pytest.fixture
def network():
    """A camera of 50 frames a second, whose frames arrive 60 ms late."""
    with NetworkCamera(np.zeros(SHAPE, np.uint8), rate_hz=50.0, delay_s=DELAY_S) as camera:
        yield camera


def of_network(network, latency_us=1e6 * DELAY_S + 60_000.0):
    return recording(network.url, backend="FFMPEG", latency_us=latency_us)


def levels(camera, network, greys):
    """Mean grey value of the frame that follows each change of the scene."""
    means = []
    for grey in greys:
        network.scene = np.full(SHAPE, grey, np.uint8)
        means.append(exposed(camera).mean())
    return np.array(means)


GREYS = np.array([200, 20, 120, 240, 60])


def test_a_triggered_frame_was_exposed_after_its_trigger(network):
    with of_network(network) as camera:
        camera.configure(settings(camera))
        camera.arm(len(GREYS))
        assert np.abs(levels(camera, network, GREYS) - GREYS).max() < 3
        camera.disarm()
        time.sleep(1.0)  # frames wait in the network and grow old
        camera.arm(len(GREYS))
        assert np.abs(levels(camera, network, GREYS) - GREYS).max() < 3


def test_a_latency_that_is_set_too_low_lets_old_frames_through(network):
    with of_network(network, latency_us=1.0) as camera:
        camera.configure(settings(camera))
        camera.arm(2)
        exposed(camera)
        assert levels(camera, network, [200]) < 3


def test_a_trigger_delay_is_waited_for(network):
    with of_network(network) as camera:
        camera.configure(settings(camera, trigger_delay_us=200_000.0))
        camera.arm(1)
        change = threading.Timer(0.1, setattr, (network, "scene", np.full(SHAPE, 99, np.uint8)))
        change.start()
        assert abs(exposed(camera).mean() - 99) < 3
        change.join()


def test_free_frames_begin_after_arming(network):
    with of_network(network) as camera:
        camera.configure(settings(camera, Trigger.FREE))
        assert camera.max_rate_hz == pytest.approx(50.0, rel=0.4)
        network.scene = np.full(SHAPE, 80, np.uint8)
        camera.arm(4)
        blocks = [camera.read(1, 5.0) for _ in range(4)]
        assert [int(block.ids[0]) for block in blocks] == [0, 1, 2, 3]
        assert all(abs(block.frames.mean() - 80) < 3 for block in blocks)
        with pytest.raises(DeviceStateError):
            camera.trigger()


def test_a_frame_without_a_trigger_is_not_given(network):
    with of_network(network) as camera:
        camera.configure(settings(camera))
        camera.arm(2)
        with pytest.raises(CaptureTimeoutError, match="trigger"):
            camera.read(1, 0.1)
        camera.trigger()
        with pytest.raises(CaptureTimeoutError, match="No new frame"):
            camera.read(1, 1e-3)
        assert len(camera.read(1, 5.0)) == 1


def test_a_camera_that_goes_away_is_lost_and_comes_back(network):
    camera = of_network(network)
    with camera:
        camera.configure(settings(camera))
        camera.arm(2)
        exposed(camera)
        network.plugged = False
        with pytest.raises(DeviceLostError, match="no frames any more"):
            exposed(camera)
        camera.disarm()
    network.plugged = True
    with camera:
        camera.configure(settings(camera))
        camera.arm(1)
        assert exposed(camera).shape == SHAPE
    assert "video-frames" not in {thread.name for thread in threading.enumerate()}


class UsbCamera:
    """What OpenCV's V4L2 backend shows of a USB camera: controls in whole steps, some of them none.

    It shuts its eyes to gain, as cameras do that report success and do nothing.
    """

    def __init__(self, source, backend):
        assert (source, backend) == (0, cv2.CAP_V4L2)
        self.values = {cv2.CAP_PROP_AUTO_EXPOSURE: 3.0, cv2.CAP_PROP_EXPOSURE: 156.0}
        self.values |= {cv2.CAP_PROP_FRAME_WIDTH: 64.0, cv2.CAP_PROP_FRAME_HEIGHT: 48.0}
        self.values[cv2.CAP_PROP_GAIN] = 7.0

    def is_opened(self):
        return True

    def backend_name(self):
        return "V4L2"

    isOpened, getBackendName = is_opened, backend_name

    def get(self, number):
        return self.values.get(number, -1.0)

    def set(self, number, value):
        if number == cv2.CAP_PROP_EXPOSURE:
            value = min(max(value, 1.0), 5000.0)
        if number in self.values and number != cv2.CAP_PROP_GAIN:
            self.values[number] = value
        return number in self.values

    def grab(self):
        time.sleep(2e-3)
        return True

    def retrieve(self):
        shape = [int(self.values[n]) for n in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH)]
        grey = int(self.values[cv2.CAP_PROP_EXPOSURE]) % 256
        return True, np.full((*shape, 3), grey, np.uint8)

    def read(self):
        return self.retrieve()

    def release(self):
        pass


@pytest.fixture
def usb(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", UsbCamera)
    return lambda **options: OpenCVCamera(0, pitch_um=3.0, backend="V4L2", **options)


def test_an_exposure_is_set_in_the_units_of_the_video_system(usb):
    with usb(resolution=(32, 40)) as camera:
        assert camera.sensor_shape == (32, 40)
        assert camera._capture.values[cv2.CAP_PROP_AUTO_EXPOSURE] == 1.0
        start = settings(camera, exposure_us=4200.0)
        assert camera.configure(start) == start
        assert camera.nearest_exposure_us(4260.0) == 4300.0
        camera.arm(1)
        assert (exposed(camera) == 42).all()
        camera.disarm()
        with pytest.raises(SettingError, match="nearest that this camera can be set to is 4300"):
            camera.configure(replace(start, exposure_us=4260.0))
        with pytest.raises(SettingError, match="stays at 5000"):
            camera.configure(replace(start, exposure_us=600_000.0))
        assert camera.settings == start


def test_a_camera_that_ignores_a_setting_is_not_believed(usb):
    with pytest.raises(SettingError, match="gain = 0: the camera does not take it, and stays at 7"):
        usb(properties={"gain": 0.0}).open()


@pytest.mark.parametrize(("count", "exposure_us"), [(-7, 7812.5), (0, 1e6), (2, 4e6)])
def test_windows_counts_exposures_in_powers_of_two(count, exposure_us):
    control = opencv._EXPOSURE_CONTROLS["MSMF"]
    assert control.counted(exposure_us) == count
    assert control.microseconds(count) == exposure_us


@pytest.mark.parametrize("option", ["pitch_um", "fixed_exposure_us", "latency_us"])
def test_numbers_that_make_no_sense_are_refused(option):
    with pytest.raises(SettingError, match=option):
        OpenCVCamera(**{"source": 0, "pitch_um": 3.0} | {option: 0.0})


def test_it_conforms(network, conforms):
    conforms(
        f"""
        [modulator]
        driver = "virtual-dmd"

        [camera]
        driver = "opencv"
        source = "{network.url}"
        backend = "FFMPEG"
        pitch_um = 3.0
        fixed_exposure_us = 1000.0
        exposure_us = 1000.0
        trigger = "software"

        [laser]
        driver = "virtual"
        power_mw = 1.0

        [scene]
        preset = "quiet"
        """,
        "test_camera",
    )
