"""A recording as a bench: what was done in the lab once is done again, without light.

    with replayed_bench("monday.h5") as bench:
        calibrate(bench, 10)

Modulator and camera each follow the recording run by run: the modulator has to be given the
patterns that were shown then, and the camera answers with the frames that it saw, times and
counters included. Work that does the same as then gets the same, bit for bit; at the first pattern
or setting that differs the replay refuses to go on, since nobody has seen what would follow.

In a bench file, `driver = "recording"` with the `path` of the recording stands for each of the
three devices. The camera alone, on its free trigger, plays the patterns' own frames one after
another.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar

import numpy as np

from opu_driver.bench import Bench, StartSettings
from opu_driver.camera import Camera, CameraSettings, FrameBlock, PixelFormat, Trigger
from opu_driver.device import Identity
from opu_driver.errors import CaptureTimeoutError, FrameMismatchError, RecordingError
from opu_driver.exposure_run import Conditions, Devices, Run
from opu_driver.laser import Laser, LaserStatus
from opu_driver.modulator import Modulator, Patterns
from opu_driver.recording import Recording


def replayed_bench(path: str | Path) -> Bench:
    """The bench that a recording was made on, set as it was when the recording began.

    Raises:
        RecordingError: It is missing, damaged, or of a version that knew no replay.
    """
    then, _ = _conditions(Path(path))
    settings = then.settings
    return Bench(
        ReplayedModulator(Path(path)),
        ReplayedCamera(Path(path)),
        ReplayedLaser(Path(path)),
        StartSettings(
            power_mw=then.power_mw,
            exposure_us=settings.exposure_us,
            pixel_format=settings.pixel_format,
            gain_db=settings.gain_db,
            trigger=settings.trigger,
            trigger_delay_us=settings.trigger_delay_us,
            region=settings.region,
        ),
        name=then.bench,
    )


class ReplayedModulator(Modulator):
    """The modulator of a recording; it takes the patterns that were shown then.

    Args:
        path: The recording.

    Raises:
        RecordingError: It is missing, damaged, or of a version that knew no replay.
    """

    simulated: ClassVar[bool] = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self._then, self._devices = _conditions(path)
        self._course: _Course | None = None
        self._patterns: Patterns | None = None
        self._shown = 0

    @property
    def identity(self) -> Identity:
        """That of then."""
        return self._then.identities["modulator"]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of mirrors or pixels."""
        return self._devices.mirrors

    @property
    def levels(self) -> int:
        """That of then."""
        return self._devices.levels

    @property
    def pitch_um(self) -> float:
        """Distance between neighbours, micrometres."""
        return self._devices.mirror_pitch_um

    @property
    def max_rate_hz(self) -> float:
        """Highest pattern rate."""
        return self._devices.pattern_rate_hz

    @property
    def settling_us(self) -> float:
        """That of then, microseconds."""
        return self._devices.settling_us

    @property
    def capacity(self) -> int:
        """What it held then, but for the patterns that followed late frames."""
        return self._devices.capacity - self._then.frame_offset

    @property
    def next_count(self) -> int | None:
        """Patterns of the run that comes next; None after the last."""
        return None if self._course is None else self._course.next_count

    def _open(self) -> None:
        self._course = _Course(self._path)

    def _close(self) -> None:
        if self._course is not None:
            self._course.close()
        self._course = None
        self._patterns = None
        self._loaded = 0

    def _load(self, patterns: Patterns) -> None:
        self._patterns = patterns.copy()
        self._shown = 0

    def _start(self, rate_hz: float) -> None:
        del rate_hz
        self._follow()
        self._shown = self._loaded

    def _step(self, index: int) -> None:
        if index == 0:
            self._follow()
        self._shown = index + 1

    def _wait(self, timeout_s: float) -> int:
        del timeout_s
        return self._shown

    def _stop(self) -> None:
        """Nothing moves."""

    def _follow(self) -> None:
        """Go on to the next run, whose patterns these have to be."""
        if self._course is None or self._patterns is None:
            raise RecordingError("A replay that is not open; use it in a `with` block.")
        run = self._course.next_run(self._loaded)
        then = self._course.patterns(run)
        wrong = (self._patterns[: len(then)] != then).any(axis=(1, 2))
        if wrong.any():
            first = int(np.argmax(wrong))
            raise self._course.left(
                f"Pattern {first} of {run.shown} is not the one that was shown in {self._course}. "
                "A replay knows only the frames of the patterns of then: do the same work, with "
                "the same inputs, method and seed.",
                first_wrong=first,
            )


class ReplayedCamera(Camera):
    """The camera of a recording; it gives the frames that it saw then.

    On the hardware or software trigger it follows the recording run by run. On the free trigger it
    plays the patterns' own frames, from the first one on, over and over.

    Args:
        path: The recording.

    Raises:
        RecordingError: It is missing, damaged, or of a version that knew no replay.
    """

    simulated: ClassVar[bool] = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self._then, self._devices = _conditions(path)
        self._course: _Course | None = None
        self._run: Run | None = None
        self._triggered = 0
        self._delivered = 0
        self._wanted = 0
        self._played = 0

    @property
    def identity(self) -> Identity:
        """That of then."""
        return self._then.identities["camera"]

    @property
    def sensor_shape(self) -> tuple[int, int]:
        """Rows and columns of the sensor."""
        return self._devices.sensor_shape

    @property
    def pitch_um(self) -> float:
        """Distance between neighbouring pixels, micrometres."""
        pitch_um = self._devices.pixel_pitch_um
        return math.nan if pitch_um is None else pitch_um

    @property
    def pixel_formats(self) -> tuple[PixelFormat, ...]:
        """Those of then."""
        return self._devices.pixel_formats

    @property
    def exposure_limits_us(self) -> tuple[float, float]:
        """Those of then, microseconds."""
        return self._devices.exposure_limits_us

    @property
    def gain_limits_db(self) -> tuple[float, float]:
        """Those of then, decibels."""
        return self._devices.gain_limits_db

    @property
    def saturation_level(self) -> float:
        """That of then, at these settings."""
        return self._like().saturation_level

    @property
    def black_level(self) -> float:
        """That of then, at these settings."""
        return self._like().black_level

    @property
    def max_rate_hz(self) -> float:
        """That of then, at these settings."""
        like = self._like()
        return like.frame_rate_hz if isinstance(like, Run) else like.rate_hz

    def nearest_exposure_us(self, exposure_us: float) -> float:
        """The exposure time of then that is nearest, if it is within a part in a hundred."""
        if self._course is None:
            return exposure_us
        known = np.array([run.settings.exposure_us for run in self._course.runs])
        nearest = float(known[np.argmin(np.abs(known - exposure_us))])
        return nearest if abs(nearest - exposure_us) <= 0.01 * exposure_us else exposure_us

    def _open(self) -> None:
        self._course = _Course(self._path)
        self._played = 0

    def _close(self) -> None:
        if self._course is not None:
            self._course.close()
        self._course = None

    def _configure(self, settings: CameraSettings) -> CameraSettings:
        then = self._then.settings
        if (settings.region, settings.pixel_format) != (then.region, then.pixel_format):
            raise RecordingError(
                f"{settings.region} in {settings.pixel_format.value}: {self._path} holds frames of "
                f"{then.region} in {then.pixel_format.value}, and no others. Leave these settings "
                "as they were."
            )
        return settings

    def _arm(self, frames: int) -> None:
        self._wanted, self._delivered, self._triggered = frames, 0, 0
        if self.settings.trigger is Trigger.FREE:
            self._run = None
            return
        self._run = run = self._open_course.next_run(frames)
        if run.settings != self.settings:
            raise self._open_course.left(
                f"The camera is set to {self.settings}, and in {self._open_course} it was set to "
                f"{run.settings}. A replay knows only the frames of then: do the same work again."
            )

    def _trigger(self) -> None:
        self._triggered += 1

    def _read(self, max_frames: int, timeout_s: float) -> FrameBlock:
        if self._run is None:
            return self._play(min(max_frames, self._wanted - self._delivered))
        stepped = self.settings.trigger is Trigger.SOFTWARE
        ready = min(self._triggered, self._run.count) if stepped else self._run.count
        count = min(max_frames, ready - self._delivered)
        if count < 1:
            raise CaptureTimeoutError(
                f"No frame within {timeout_s:g} s: {self._delivered} of {self._wanted} came, as "
                f"in {self._open_course}."
            )
        block = self._open_course.frames(self._run, self._delivered, count)
        self._delivered += count
        return block

    def _disarm(self) -> None:
        self._run = None

    def _play(self, count: int) -> FrameBlock:
        """The next of the patterns' own frames, as if the camera ran on a clock of its own."""
        recording = self._open_course.recording
        if count < 1 or not len(recording):
            raise CaptureTimeoutError(
                f"{self._delivered} of {self._wanted} frames came; {self._path} has "
                f"{len(recording)}. Arm for more, or name another recording."
            )
        first = self._played % len(recording)
        frames = recording.frames(first, first + count)
        ids = self._delivered + np.arange(len(frames), dtype=np.int64)
        times = (self._played + np.arange(len(frames), dtype=np.float64)) * (
            1e6 / self._then.rate_hz
        )
        self._played += len(frames)
        self._delivered += len(frames)
        return FrameBlock(frames, ids, times, 0)

    @property
    def _open_course(self) -> _Course:
        if self._course is None:
            raise RecordingError("A replay that is not open; use it in a `with` block.")
        return self._course

    def _like(self) -> Run | Conditions:
        """A run with the present settings; without one, what was in force at the beginning."""
        runs = self._course.runs if self._course is not None else ()
        return next((run for run in runs if run.settings == self._settings), self._then)


class ReplayedLaser(Laser):
    """The laser of a recording: it gives no light, and needs none.

    Args:
        path: The recording.

    Raises:
        RecordingError: It is missing, damaged, or of a version that knew no replay.
    """

    simulated = True

    def __init__(self, path: Path) -> None:
        self._then, self._devices = _conditions(path)
        self._power_mw = self._then.power_mw
        self._on = False

    @property
    def identity(self) -> Identity:
        """That of then."""
        return self._then.identities["laser"]

    @property
    def wavelength_nm(self) -> float:
        """Vacuum wavelength, nanometres."""
        return self._devices.wavelength_nm

    @property
    def power_limits_mw(self) -> tuple[float, float]:
        """Those of then, milliwatts."""
        return self._devices.power_limits_mw

    def _open(self) -> None:
        self._on = False

    def _close(self) -> None:
        self._on = False

    def _get_power_mw(self) -> float:
        return self._power_mw

    def _set_power_mw(self, power_mw: float) -> None:
        self._power_mw = power_mw

    def _status(self) -> LaserStatus:
        return LaserStatus(self._on)

    def _set_emission(self, on: bool) -> None:
        self._on = on


class _Course:
    """The course of a recording: its runs, one after the other."""

    def __init__(self, path: Path) -> None:
        self.recording = Recording(path)
        self.runs = self.recording.runs
        self._next = 0
        self._left: FrameMismatchError | None = None

    def close(self) -> None:
        self.recording.close()

    def __str__(self) -> str:
        return f"run {self._next} of {len(self.runs)} in {self.recording.path}"

    @property
    def next_count(self) -> int | None:
        """Patterns of the next run; None after the last."""
        return self.runs[self._next].shown if self._next < len(self.runs) else None

    def left(self, why: str, first_wrong: int = 0) -> FrameMismatchError:
        """The error of work that is not that of then; there is no way back to it."""
        self._left = self._left or FrameMismatchError(why, first_wrong)
        return self._left

    def next_run(self, count: int) -> Run:
        """Go on to the next run, which has to be of so many patterns.

        Raises:
            FrameMismatchError: It is not, there is none, or other work was done before.
        """
        if self._left is not None:
            raise self._left
        if self._next == len(self.runs):
            raise self.left(
                f"All {len(self.runs)} runs of {self.recording.path} have been replayed, and "
                f"{count} more frames are asked for. Open it anew to begin again."
            )
        run = self.runs[self._next]
        self._next += 1
        if run.shown != count:
            raise self.left(
                f"{count} exposures are asked for, and there are {run.shown} in {self}. A replay "
                "knows only the frames of then: do the same work, with the same arguments."
            )
        return run

    def patterns(self, run: Run) -> Patterns:
        """The patterns of a run that there are frames of."""
        numbers = self.recording.pattern_numbers(run.first, run.first + run.count)
        return self.recording.some_patterns(numbers)

    def frames(self, run: Run, first: int, count: int) -> FrameBlock:
        """Some of the exposures of a run."""
        begin = run.first + first
        block = self.recording.exposures(begin, begin + count)
        return FrameBlock(block.frames, block.ids, block.timestamps_us, run.lost)


def _conditions(path: Path) -> tuple[Conditions, Devices]:
    """What a recording says of its bench.

    Raises:
        RecordingError: It is missing, damaged, or does not say enough for a replay.
    """
    with Recording(path) as recording:
        then = recording.conditions
        if then.devices is None or not recording.runs:
            raise RecordingError(
                f"{path} cannot be replayed: it has no markers and says too little about its "
                "devices, as recordings of earlier versions, or it has no frames. Record anew; "
                "`opu inspect` and `opu export` read it as it is."
            )
    return then, then.devices
