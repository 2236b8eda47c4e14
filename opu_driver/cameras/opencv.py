"""USB video cameras, network cameras and recordings: whatever OpenCV's `cv2.VideoCapture` opens.

These cameras run on their own clock and take no trigger, so that a "software trigger" is a promise
about time: the frame of a trigger was exposed, all of it, after the call (see `live_frames`).
That costs the camera's latency for each exposure. They have no region of interest either; a
region is cut out of the whole frame.

OpenCV documentation, module videoio: class cv::VideoCapture, and "Flags for video I/O"
(VideoCaptureAPIs, VideoCaptureProperties), which leaves units to each video system.
Meaning of `CAP_PROP_EXPOSURE`: V4L2 counts 100 us (Linux kernel documentation, Camera Control
Reference, V4L2_CID_EXPOSURE_ABSOLUTE); DirectShow and Media Foundation take the binary logarithm
of seconds (Microsoft, CameraControlProperty enumeration, CameraControl_Exposure).
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from opu_driver.camera import Camera, CameraSettings, FrameBlock, Frames, PixelFormat, Trigger
from opu_driver.cameras.live_frames import LiveFrames, frame_period_s
from opu_driver.device import Found, Identity
from opu_driver.errors import (
    CaptureTimeoutError,
    DeviceError,
    DeviceNotFoundError,
    DeviceStateError,
    FrameError,
    SettingError,
)
from opu_driver.extras import vendor_library

_CHANNELS = ("blue", "green", "red")
_FORMATS = {
    8: PixelFormat.MONO8,
    10: PixelFormat.MONO10,
    12: PixelFormat.MONO12,
    16: PixelFormat.MONO16,
}
_LINUX_CAMERAS = Path("/sys/class/video4linux")


@dataclass(frozen=True)
class _ExposureControl:
    """How a video system counts exposure times.

    Attributes:
        limits_us: The shortest and the longest that it can express.
        manual: `CAP_PROP_AUTO_EXPOSURE` for "not automatic".
        counted: Microseconds -> `CAP_PROP_EXPOSURE`.
        microseconds: And back.
    """

    limits_us: tuple[float, float]
    manual: float
    counted: Callable[[float], float]
    microseconds: Callable[[float], float]


_HUNDREDS = _ExposureControl(
    (100.0, 1e7), 1.0, lambda us: float(round(us / 100.0)), lambda count: 100.0 * count
)
_POWERS = _ExposureControl(
    (1e6 * 2.0**-16, 1e6 * 2.0**3),
    0.0,
    lambda us: float(round(math.log2(1e-6 * us))),
    lambda count: 1e6 * 2.0**count,
)
_EXPOSURE_CONTROLS = {"V4L2": _HUNDREDS, "DSHOW": _POWERS, "MSMF": _POWERS}


class OpenCVCamera(Camera):
    """A camera or recording that `cv2.VideoCapture` opens.

    Triggers: `software` and `free`. A recording, a file or a sequence of images, gives its next
    frame for each trigger. The camera keeps neither a counter nor a clock of its own.

    Args:
        source: Index of a camera, or a file, image sequence (`frame_%03d.png`) or URL.
        pitch_um: Distance between neighbouring pixels, micrometres.
        backend: OpenCV's name of the video system, such as `V4L2`, `MSMF`, `FFMPEG` or
            `CV_IMAGES` (which keeps 16-bit images as they are); `ANY` leaves the choice to OpenCV.
        resolution: Rows and columns of the whole frame; None for what the camera is set to.
        channel: Which colour of a colour camera; `grey` for OpenCV's weighted mean. None
            for cameras without colours; a frame with colours is then refused.
        bits: Bits of a pixel that a camera sends as 16-bit words.
        black_level: Mean grey value of a pixel without light.
        fixed_exposure_us: The exposure time of a source whose exposure OpenCV cannot set; the
            camera then has this one only.
        latency_us: From the end of a frame's exposure until it arrives here at most; None for two
            frame periods. Measure it: switch the light, and look when the frames follow.
        properties: What else to set when the camera opens: OpenCV's names without `CAP_PROP_`, in
            lower case, such as `{gain = 0, gamma = 100, convert_rgb = 0}`, in its units.

    Raises:
        SettingError: A number out of range.
    """

    has_trigger_line = False

    def __init__(
        self,
        source: int | str,
        pitch_um: float,
        backend: str = "ANY",
        resolution: tuple[int, int] | None = None,
        channel: Literal["grey", "blue", "green", "red"] | None = None,
        bits: Literal[8, 10, 12, 16] | None = None,
        black_level: float = 0.0,
        fixed_exposure_us: float | None = None,
        latency_us: float | None = None,
        properties: dict[str, float] | None = None,
    ) -> None:
        for name, value in (
            ("pitch_um", pitch_um),
            ("fixed_exposure_us", fixed_exposure_us),
            ("latency_us", latency_us),
        ):
            if value is not None and not value > 0:
                raise SettingError(f"{name} = {value:g}; it must be above 0.")
        self._source = source
        self._pitch_um = pitch_um
        self._backend = backend
        self._resolution = resolution
        self._channel = channel
        self._bits = bits
        self._black_level = black_level
        self._fixed_exposure_us = fixed_exposure_us
        self._latency_us = latency_us
        self._properties = properties or {}
        self._cv2: Any = None
        self._capture: Any = None
        self._control: _ExposureControl | None = None
        self._sensor_shape = (0, 0)
        self._word = np.dtype(np.uint8)
        self._period_s = 0.0
        self._live: LiveFrames | None = None
        self._triggered = 0
        self._delivered = 0

    @classmethod
    def discover(cls) -> list[Found]:
        """USB video cameras that Linux lists; elsewhere a camera would have to be opened to know.

        Raises:
            DriverMissingError: OpenCV is not installed.
        """
        vendor_library("cv2", "opencv")
        found = []
        for entry in sorted(_LINUX_CAMERAS.glob("video*")):
            if (entry / "index").read_text().strip() == "0":  # others carry no pictures
                number = int(entry.name.removeprefix("video"))
                name = (entry / "name").read_text().strip()
                found.append(Found(Identity("V4L2", name, str(number)), {"source": number}))
        return found

    @classmethod
    def is_searched_for(cls) -> bool:
        """On Linux, which has a list of them."""
        return _LINUX_CAMERAS.parent.is_dir()

    @property
    def address(self) -> str:
        """The source, as the bench file names it."""
        return f"video {self._source}"

    @property
    def identity(self) -> Identity:
        """The source is all that OpenCV tells about a camera."""
        name = re.sub(r"//[^/@]*@", "//", str(self._source))  # no passwords in calibrations
        return Identity("OpenCV", self._opened.getBackendName(), name, self._cv2.__version__)

    @property
    def sensor_shape(self) -> tuple[int, int]:
        """Rows and columns of the whole frame."""
        return self._sensor_shape

    @property
    def pitch_um(self) -> float:
        """Distance between neighbouring pixels, micrometres."""
        return self._pitch_um

    @property
    def pixel_formats(self) -> tuple[PixelFormat, ...]:
        """The one that the source has."""
        return (_FORMATS[self._bits or 8 * self._word.itemsize],)

    @property
    def exposure_limits_us(self) -> tuple[float, float]:
        """What the video system can express; cameras have narrower limits of their own."""
        if self._control is None:
            fixed_us = self._fixed_exposure_us or 0.0
            return fixed_us, fixed_us
        return self._control.limits_us

    @property
    def gain_limits_db(self) -> tuple[float, float]:
        """0 to 0: OpenCV's gain has no unit, and is one of the `properties`."""
        return 0.0, 0.0

    @property
    def saturation_level(self) -> float:
        """All bits set."""
        return 2.0 ** self.pixel_formats[0].bits - 1.0

    @property
    def black_level(self) -> float:
        """Mean grey value of a pixel without light, as given."""
        return self._black_level

    @property
    def max_rate_hz(self) -> float:
        """Of triggered exposures: each waits until its frame has surely arrived."""
        if self._recorded or self.settings.trigger is Trigger.FREE:
            return 1.0 / self._period_s
        return 1.0 / (self._age_s(self.settings) + 2.0 * self._period_s)

    def nearest_exposure_us(self, exposure_us: float) -> float:
        """The nearest step of the video system, microseconds."""
        low, high = self.exposure_limits_us
        within = min(max(exposure_us, low), high)
        if self._control is None:
            return within
        return self._control.microseconds(self._control.counted(within))

    def _open(self) -> None:
        self._cv2 = vendor_library("cv2", "opencv")
        self._capture = self._captured()
        if not self._capture.isOpened():
            raise DeviceNotFoundError(
                f"OpenCV cannot open the source {self._source!r} with the backend {self._backend}. "
                f"Cameras that are listed here: {self._listed()}. Check the source, its cable, and "
                "that no other program uses it."
            )
        self._control = self._exposure_control()
        for name, value in self._wanted_properties().items():
            self._set(name, value)
        self._look_at_first_frame()
        if self._recorded:
            self._period_s = 1.0 / (self._capture.get(self._cv2.CAP_PROP_FPS) or 25.0)
        else:
            self._period_s = frame_period_s(self._capture)

    def _close(self) -> None:
        self._disarm()
        self._settings = None
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _configure(self, settings: CameraSettings) -> CameraSettings:
        """Apply settings; exposure times within 0.1 % of one that the camera has are that one."""
        if settings.trigger is Trigger.HARDWARE:
            raise SettingError(
                "trigger = hardware: OpenCV reaches no trigger line. Use software, and a "
                "modulator that is stepped."
            )
        if settings.trigger is Trigger.FREE and settings.trigger_delay_us:
            raise SettingError("trigger = free has no trigger; trigger_delay_us has to be 0.")
        if self._control is not None:
            self._set_exposure(self._control, settings.exposure_us)
            self._period_s = frame_period_s(self._opened)  # and the exposure is in force after it
        return settings

    def _arm(self, frames: int) -> None:
        self._triggered = 0
        self._delivered = 0
        if not self._recorded:
            age_s = self._age_s(self.settings)
            self._live = LiveFrames(self._opened, self._period_s, age_s)
        if self.settings.trigger is Trigger.FREE:
            self._expose(frames)

    def _trigger(self) -> None:
        self._expose(1)

    def _expose(self, frames: int) -> None:
        self._triggered += frames
        if self._live:
            delay_s = 1e-6 * self.settings.trigger_delay_us
            self._live.want(time.perf_counter() + delay_s, frames)

    def _read(self, max_frames: int, timeout_s: float) -> FrameBlock:
        wanted = min(max_frames, self._triggered - self._delivered)
        if wanted < 1:
            raise CaptureTimeoutError(
                f"No frame: {self._delivered} came for {self._triggered} triggers. Call trigger() "
                "before each read."
            )
        if self._live:
            taken = self._live.take(wanted, timeout_s)
        else:
            taken = [self._next_recorded() for _ in range(wanted)]
        region = self.settings.region
        rows = slice(region.row, region.row + region.height)
        columns = slice(region.column, region.column + region.width)
        frames = np.stack([self._grey(frame)[rows, columns] for frame in taken])
        ids = self._delivered + np.arange(len(frames), dtype=np.int64)
        self._delivered += len(frames)
        return FrameBlock(frames, ids, np.full(len(frames), np.nan), 0)

    def _disarm(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    @property
    def _opened(self) -> Any:
        if self._capture is None:
            raise DeviceStateError("The camera is not open; open it with `with camera:`.")
        return self._capture

    @property
    def _recorded(self) -> bool:
        """Whether the source is a file or a sequence of files."""
        source = self._source
        return isinstance(source, str) and "://" not in source and not source.startswith("/dev/")

    def _age_s(self, settings: CameraSettings) -> float:
        """From the beginning of an exposure until its frame arrives at most."""
        latency_us = self._latency_us or 2e6 * self._period_s
        return 1e-6 * (settings.exposure_us + latency_us)

    def _captured(self) -> Any:
        cv2 = self._cv2
        names = {"ANY": cv2.CAP_ANY}
        for number in cv2.videoio_registry.getBackends():
            names.setdefault(cv2.videoio_registry.getBackendName(number), number)
        if self._backend not in names:
            raise SettingError(f"backend = {self._backend!r}; this OpenCV has {', '.join(names)}.")
        backend = names[self._backend]
        if isinstance(self._source, str) and "://" in self._source and self._backend == "FFMPEG":
            waits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 5000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 5000]
            return cv2.VideoCapture(self._source, backend, waits)
        return cv2.VideoCapture(self._source, backend)

    def _listed(self) -> str:
        return ", ".join(f"{f.options['source']}: {f.identity.model}" for f in self.discover()) or (
            "none"
        )

    def _exposure_control(self) -> _ExposureControl | None:
        if self._fixed_exposure_us is not None:
            return None
        backend = self._capture.getBackendName()
        if backend not in _EXPOSURE_CONTROLS:
            raise SettingError(
                f"OpenCV cannot set the exposure time of a source that {backend} opens. Say what "
                "it is: fixed_exposure_us."
            )
        return _EXPOSURE_CONTROLS[backend]

    def _wanted_properties(self) -> dict[str, float]:
        wanted: dict[str, float] = {}
        if self._resolution is not None and not self._recorded:
            rows, columns = self._resolution
            wanted |= {"frame_width": columns, "frame_height": rows}
        if self._control is not None:
            wanted["auto_exposure"] = self._control.manual
        return wanted | self._properties

    def _set(self, name: str, value: float) -> None:
        """Set one of OpenCV's properties and read it back."""
        number = getattr(self._cv2, f"CAP_PROP_{name.upper()}", None)
        if not isinstance(number, int):
            raise SettingError(f"{name} = {value:g}: OpenCV has no property of this name.")
        accepted = self._opened.set(number, float(value))
        found = float(self._opened.get(number))
        if not accepted or not math.isclose(found, value, rel_tol=1e-3, abs_tol=1e-6):
            raise SettingError(
                f"{name} = {value:g}: the camera does not take it, and stays at {found:g}. Ask for "
                "what it has."
            )

    def _set_exposure(self, control: _ExposureControl, exposure_us: float) -> None:
        count = control.counted(exposure_us)
        nearest_us = control.microseconds(count)
        if not math.isclose(nearest_us, exposure_us, rel_tol=1e-3):
            raise SettingError(
                f"exposure_us = {exposure_us:g}; the nearest that this camera can be set to is "
                f"{nearest_us:g}."
            )
        self._set("exposure", count)

    def _look_at_first_frame(self) -> None:
        """Shape and type of the frames; a recording gives the same frame again as its first."""
        good, frame = self._capture.read()
        if not good:
            raise DeviceError(
                f"The source {self._source!r} opens and gives no frame. Check that no other "
                "program uses it, or try another backend."
            )
        byte = frame.dtype == np.uint8
        if not (byte or frame.dtype == np.uint16) or (self._bits and byte != (self._bits == 8)):
            raise SettingError(
                f"bits = {self._bits}; the source sends pixels of type {frame.dtype}. Bytes have 8 "
                "bits, 16-bit words 10, 12 or 16."
            )
        self._word = frame.dtype
        self._sensor_shape = (int(frame.shape[0]), int(frame.shape[1]))
        if self._resolution is not None and self._sensor_shape != tuple(self._resolution):
            raise SettingError(
                f"resolution = {list(self._resolution)}; the source has {list(self._sensor_shape)}."
            )
        self._grey(frame)
        if self._recorded:
            self._capture.release()
            self._capture = self._captured()

    def _next_recorded(self) -> Frames:
        good, frame = self._opened.read()
        if not good:
            raise CaptureTimeoutError(
                f"The recording {self._source!r} is at its end after {self._delivered} frames of "
                "this exposure. Close and open the camera to begin again."
            )
        grey: Frames = frame
        return grey

    def _grey(self, frame: Frames) -> Frames:
        """`[row, column]` in grey values, or an error; nothing is guessed about colours."""
        if frame.ndim == 3 and frame.shape[2] != len(_CHANNELS):
            raise SettingError(
                f"The source {self._source!r} sends {frame.shape[2]} numbers a pixel, not the "
                "three of a colour picture. Leave convert_rgb at 1."
            )
        if frame.ndim == 3 and self._channel is None:
            if (frame != frame[:, :, :1]).any():
                raise SettingError(
                    f"The source {self._source!r} has colours. Say which to use: channel = grey, "
                    "red, green or blue. (With a laser it is the one of its wavelength.)"
                )
            frame = frame[:, :, 0]
        elif frame.ndim == 3:
            if self._channel == "grey":
                frame = self._cv2.cvtColor(frame, self._cv2.COLOR_BGR2GRAY)
            else:
                frame = frame[:, :, _CHANNELS.index(str(self._channel))]
        if frame.shape != self._sensor_shape or frame.dtype != self._word:
            raise FrameError(
                f"A frame of {frame.dtype} {list(frame.shape)} came; the source began with "
                f"{self._word} {list(self._sensor_shape)}. Close and open the camera."
            )
        if self._bits and int(frame.max()) > self.saturation_level:
            raise FrameError(
                f"A grey value of {int(frame.max())} in a frame of {self._bits} bits: the source "
                "sends more bits, or fills its words from the left. Set bits to what it sends."
            )
        return frame
