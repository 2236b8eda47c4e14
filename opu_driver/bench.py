"""The three devices as one instrument: patterns in, the frames that belong to them out."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from opu_driver.camera import (
    Camera,
    CameraSettings,
    FrameBlock,
    Frames,
    PixelFormat,
    Region,
    Trigger,
)
from opu_driver.device import Identity
from opu_driver.errors import (
    CaptureTimeoutError,
    DeviceStateError,
    FrameMismatchError,
    LaserSafetyError,
    LowSignalError,
    OpuError,
    PatternError,
    SaturationError,
    SettingError,
)
from opu_driver.laser import ArmedToken, Laser, log
from opu_driver.layout import Layout
from opu_driver.modulator import Modulator, Patterns

MARKERS = 3
"""Exposures around a sequence: everything on before it; everything on, then off, after it."""

SMALLEST_CAPACITY = MARKERS + 4
"""Patterns that a modulator has to hold at least."""


@dataclass(frozen=True)
class Sequence(FrameBlock):
    """The frames of one sequence of patterns, proven to belong to them.

    Attributes:
        markers: The frames `[3, row, column]` of the marker exposures: all on (before the
            sequence), all on and all off (after it). They prove that nothing has slipped, and
            are a phase reference and a bias for whoever demodulates the frames.
    """

    markers: Frames


@dataclass(frozen=True)
class ExposureAdvice:
    """What a measurement of the exposure found.

    Attributes:
        settings: The camera settings that were chosen, in force on the bench.
        mean_fraction: Mean grey value above black, as a fraction of full scale.
        saturated_fraction: Fraction of pixels at full scale.
    """

    settings: CameraSettings
    mean_fraction: float
    saturated_fraction: float


@dataclass(frozen=True)
class StartSettings:
    """What a bench is set to when it opens.

    Attributes:
        power_mw: Laser power, milliwatts.
        exposure_us: Exposure time, microseconds.
        pixel_format: Pixel format; None for the first that the camera has.
        gain_db: Analogue gain, decibels.
        trigger: What starts an exposure.
        trigger_delay_us: From trigger edge to exposure, microseconds; None for the time that the
            modulator takes to settle.
        region: What is read of the sensor; None for all of it.
        ceiling_mw: The power that is never exceeded, milliwatts; None for `power_mw`.
    """

    power_mw: float
    exposure_us: float
    pixel_format: PixelFormat | None = None
    gain_db: float = 0.0
    trigger: Trigger = Trigger.HARDWARE
    trigger_delay_us: float | None = None
    region: Region | None = None
    ceiling_mw: float | None = None

    def of_camera(self, camera: Camera, modulator: Modulator) -> CameraSettings:
        """The camera's settings, now that camera and modulator are open and can be asked."""
        delay_us = self.trigger_delay_us
        return CameraSettings(
            exposure_us=self.exposure_us,
            region=self.region or Region(0, 0, *camera.sensor_shape),
            pixel_format=self.pixel_format or camera.pixel_formats[0],
            gain_db=self.gain_db,
            trigger=self.trigger,
            trigger_delay_us=modulator.settling_us if delay_us is None else delay_us,
        )


class Bench:
    """Modulator, camera and laser, synchronised, and dark when idle.

    With a camera on the hardware trigger the modulator runs on its own clock and its edges start
    the exposures; with a camera on the software trigger the bench steps both. Each sequence is
    bracketed by marker exposures (see `MARKERS`): if frames have slipped against patterns, the
    markers are not where they should be, and no frame of the sequence is returned.

    Args:
        modulator: A DMD or SLM.
        camera: A camera.
        laser: A laser.
        start: What the devices are set to when the bench opens.
        name: What the bench is called in records.
        idle_after_s: Seconds without exposures after which the light goes off by itself.
    """

    def __init__(
        self,
        modulator: Modulator,
        camera: Camera,
        laser: Laser,
        start: StartSettings,
        *,
        name: str = "bench",
        idle_after_s: float = 10.0,
    ) -> None:
        self.modulator = modulator
        self.camera = camera
        self.laser = laser
        self.name = name
        self.exposures = 0
        self._start = start
        ceiling_mw = start.power_mw if start.ceiling_mw is None else start.ceiling_mw
        self._light = _IdleLight(laser, f"bench {name!r}", ceiling_mw, idle_after_s)
        self._devices = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            for device in (self.laser, self.modulator, self.camera):
                opening.enter_context(device)
            if self.modulator.capacity < SMALLEST_CAPACITY:
                raise SettingError(
                    f"The modulator holds {self.modulator.capacity} patterns; a bench needs room "
                    f"for {SMALLEST_CAPACITY}, of which {MARKERS} are markers. Raise its capacity."
                )
            self.laser.set_power_mw(self._start.power_mw)
            self.configure(self._start.of_camera(self.camera, self.modulator))
            opening.enter_context(self._light)
            self._devices = opening.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._devices.__exit__(exc_type, exc, traceback)

    @property
    def identities(self) -> dict[str, Identity]:
        """Who the devices are: keys `modulator`, `camera`, `laser`."""
        return {
            "modulator": self.modulator.identity,
            "camera": self.camera.identity,
            "laser": self.laser.identity,
        }

    @property
    def settings(self) -> CameraSettings:
        """The camera settings in force."""
        return self.camera.settings

    @property
    def power_mw(self) -> float:
        """The laser power in force, milliwatts."""
        return self.laser.power_mw

    @property
    def relative_exposure(self) -> float:
        """Grey values per unit of light: exposure x power x gain (us mW); frames scale with it."""
        gain: float = 10.0 ** (self.settings.gain_db / 20.0)
        return self.settings.exposure_us * self.power_mw * gain

    @property
    def rate_hz(self) -> float:
        """The rate at which patterns are shown.

        It is that of the slower of modulator and camera, and never so high that an exposure would
        still go on when the next pattern comes.
        """
        window_us = self.settings.trigger_delay_us + self.settings.exposure_us
        return min(self.modulator.max_rate_hz, self.camera.max_rate_hz, 1e6 / window_us)

    def configure(self, settings: CameraSettings) -> CameraSettings:
        """Apply camera settings; see `Camera.configure`.

        Raises:
            SettingError: As there; or the camera would run on a clock of its own, or expose while
                the mirrors still move.
        """
        if settings.trigger is Trigger.FREE:
            raise SettingError(
                "trigger = free: on a bench each exposure belongs to a pattern. Use hardware, or "
                "software where there is no line between modulator and camera."
            )
        settling_us = self.modulator.settling_us
        if settings.trigger is Trigger.HARDWARE and settings.trigger_delay_us < settling_us:
            raise SettingError(
                f"trigger_delay_us = {settings.trigger_delay_us:g}; the modulator settles for "
                f"{settling_us:g} us after its edge, and frames would show two patterns mixed. "
                f"Use {settling_us:g} or more, or leave it out."
            )
        return self.camera.configure(settings)

    def layout(self, n_inputs: int) -> Layout:
        """Where vectors of length `n_inputs` lie on the modulator."""
        return Layout.fit(n_inputs, self.modulator.shape, self.modulator.levels)

    def expose(self, patterns: Patterns) -> Frames:
        """Show patterns and return one frame for each.

        Args:
            patterns: As the modulator stores them, any number; `layout(n).render(bits)` makes them.

        Returns:
            Grey values `[pattern, row, column]`.

        Raises:
            PatternError: No patterns, or patterns that the modulator cannot show.
            FrameMismatchError: Frames are missing, or slipped against their patterns.
            CaptureTimeoutError: A stepped exposure gave no frame.
            SaturationError: Too bright to prove that frames belong to their patterns.
            LaserSafetyError: The interlock is open, or the light went off on the way.
            DeviceLostError: A device does not answer any more.
        """
        if not len(patterns):
            raise PatternError("No patterns to expose; give at least one.")
        parts = [sequence.frames for sequence in self.stream([patterns])]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def stream(self, batches: Iterable[Patterns]) -> Iterator[Sequence]:
        """Show batches of patterns of any size and yield their frames, sequence by sequence.

        A sequence is yielded only after its markers were found in their places. A batch beyond the
        modulator's capacity becomes several sequences. The light goes off when the stream ends
        early.

        Raises:
            PatternError, FrameMismatchError, CaptureTimeoutError, SaturationError,
            LaserSafetyError, DeviceLostError: As `expose`.
        """
        room = self.modulator.capacity - MARKERS
        done = False
        try:
            for batch in batches:
                for first in range(0, len(batch), room):
                    sequence = self._sequence(batch[first : first + room])
                    self._prove(sequence)
                    yield sequence
            done = True
        finally:
            if not done:
                self.camera.disarm()
                self._light.off()

    def darken(self) -> None:
        """Turn the light off now; the next exposure turns it on again."""
        self._light.off()

    def fit_exposure(
        self, patterns: Patterns, mean_fraction: float = 0.125, saturated_fraction: float = 1e-4
    ) -> ExposureAdvice:
        """Measure the exposure time that puts the frames of `patterns` in the camera's range.

        Full scale at eight times the mean leaves room for the speckle's bright grains and costs
        little resolution, also at 8 bits.

        Args:
            patterns: The kind of patterns that the exposure is for; a few are enough.
            mean_fraction: The mean grey value above black to reach, as a fraction of full scale.
            saturated_fraction: The largest allowed fraction of pixels at full scale.

        Returns:
            What was chosen; it is in force.

        Raises:
            SaturationError: Too bright at the camera's shortest exposure.
            LowSignalError: Too dark at the camera's longest exposure.
        """
        if not len(patterns):
            raise PatternError("No patterns to fit the exposure to; give at least one.")
        shortest, longest = self.camera.exposure_limits_us
        ceiling_us = longest
        room = self.modulator.capacity - MARKERS
        for _ in range(16):
            sequences = [
                self._sequence(patterns[i : i + room]) for i in range(0, len(patterns), room)
            ]
            mean, saturated = self._fill([sequence.frames for sequence in sequences])
            exposure_us = self.settings.exposure_us
            wanted_us = exposure_us * min(mean_fraction / max(mean, mean_fraction / 16), 16.0)
            too_bright = saturated > saturated_fraction
            if exposure_us <= shortest and (too_bright or mean > 1.1 * mean_fraction):
                raise SaturationError(
                    f"The mean is {mean:.2%} of full scale, and {saturated:.2%} of the pixels are "
                    f"full, at {self.power_mw:g} mW and the camera's shortest exposure, "
                    f"{shortest:g} us. Lower the laser power."
                )
            if too_bright:
                ceiling_us = 0.8 * exposure_us
            elif 0.9 <= mean / mean_fraction <= 1.1 or exposure_us >= ceiling_us < longest:
                for sequence in sequences:
                    self._prove(sequence)
                return ExposureAdvice(self.settings, mean, saturated)
            elif exposure_us >= longest and mean < mean_fraction:
                raise LowSignalError(
                    f"The mean is {mean:.2%} of full scale at {self.power_mw:g} mW and the "
                    f"camera's longest exposure, {longest:g} us; {mean_fraction:.2%} was asked "
                    "for. Raise the laser power, or check that the light reaches the camera."
                )
            wanted_us = min(max(min(wanted_us, ceiling_us), shortest), longest)
            self.configure(replace(self.settings, exposure_us=wanted_us))
        raise LowSignalError(
            f"No exposure time was found that gives a mean of {mean_fraction:.2%} of full scale: "
            "the light changes between measurements. Let the laser warm up and try again."
        )

    def _fill(self, parts: list[Frames]) -> tuple[float, float]:
        """Mean grey value as a fraction of full scale, and the fraction of full pixels."""
        full = self.camera.saturation_level
        black = self.camera.black_level
        pixels = sum(frames.size for frames in parts)
        grey = sum(float(frames.sum(dtype=np.float64)) for frames in parts) / pixels
        saturated = sum(int(np.count_nonzero(frames >= full)) for frames in parts)
        return (grey - black) / (full - black), saturated / pixels

    def _sequence(self, patterns: Patterns) -> Sequence:
        """One loaded batch with its markers: shown, read, and in step with the modulator."""
        on, off = self._marker_patterns
        self.modulator.check_patterns(patterns)
        shown = np.concatenate([on, patterns, on, off])
        self.modulator.load(shown)
        stepped = self.settings.trigger is Trigger.SOFTWARE
        with self._light.in_use():
            self.camera.arm(len(shown))
            try:
                block = self._step_through(len(shown)) if stepped else self._run_through(len(shown))
            finally:
                self.camera.disarm()
        self.exposures += len(shown)
        self._check(block, len(shown))
        own = slice(1, 1 + len(patterns))
        return Sequence(
            block.frames[own],
            block.ids[own],
            block.timestamps_us[own],
            block.lost,
            markers=block.frames[[0, -2, -1]],
        )

    def _run_through(self, count: int) -> FrameBlock:
        rate_hz = self.rate_hz
        self.modulator.start(rate_hz)
        timeout_s = 1.0 + 2.0 * count / rate_hz
        blocks: list[FrameBlock] = []
        received = 0
        shown = None
        try:
            while received < count:
                blocks.append(self.camera.read(count - received, timeout_s))
                received += len(blocks[-1])
            shown = self.modulator.wait(timeout_s)
        except CaptureTimeoutError as error:
            raise self._lost(blocks, count, rate_hz) from error
        finally:
            if shown is None:
                self.modulator.stop()
        if shown != count:
            raise FrameMismatchError(
                f"The modulator showed {shown} of {count} patterns. No frame of this sequence is "
                "used; check the modulator's trigger settings.",
                first_wrong=min(shown, count),
            )
        return _joined(blocks)

    def _step_through(self, count: int) -> FrameBlock:
        timeout_s = 1.0 + 4e-6 * self.settings.exposure_us
        blocks = []
        for _ in range(count):
            self.modulator.step()
            self.camera.trigger()
            blocks.append(self.camera.read(1, timeout_s))
        return _joined(blocks)

    def _lost(self, blocks: list[FrameBlock], count: int, rate_hz: float) -> FrameMismatchError:
        received = sum(len(block) for block in blocks)
        # Without a gap between them, the missing frames are the first or the last: who knows.
        first = _first_slip(_joined(blocks), 1e6 / rate_hz, otherwise=0) if blocks else 0
        return FrameMismatchError(
            f"{received} frames for {count} patterns; frame {first} is the first that may belong "
            "to another pattern. No frame of this sequence is used. Check the trigger line, or "
            f"lower the rate of {rate_hz:g} Hz (a longer exposure does).",
            first_wrong=first,
        )

    def _check(self, block: FrameBlock, count: int) -> None:
        """Raise unless the frames follow the modulator's clock."""
        hardware = self.settings.trigger is Trigger.HARDWARE
        slip = _first_slip(block, 1e6 / self.rate_hz, otherwise=count) if hardware else count
        if slip < count or block.lost:
            raise FrameMismatchError(
                f"{block.lost} frames lost; from frame {slip} on, frames do not follow the "
                "modulator's clock. No frame of this sequence is used; check the trigger line.",
                first_wrong=min(slip, count - 1),
            )

    def _prove(self, sequence: Sequence) -> None:
        """Raise unless the markers are in their places: each frame is its own pattern's."""
        _, saturated = self._fill([sequence.markers])
        if saturated > 0.25:
            raise SaturationError(
                f"{saturated:.0%} of the pixels are full where every input is on, so nobody can "
                "tell whether frames belong to their patterns. Shorten the exposure "
                "(Bench.fit_exposure finds one) or lower the laser power."
            )
        (first, doubt_1), (on, doubt_2), (off, doubt_3) = map(_variance, sequence.markers)
        likely = min(first - off, on - off) > 5.0 * math.hypot(doubt_1, doubt_2, doubt_3)
        alike = 0.5 * (on - off) < first - off < 2.0 * (on - off)
        if not (likely and alike):
            raise FrameMismatchError(
                "The markers around the sequence (on; on, off) are not in their places: their grey "
                f"values have the variances {first:.4g}; {on:.4g}, {off:.4g}. Frames have slipped "
                "against patterns by one or more, or no modulated light reaches the camera. No "
                "frame of this sequence is used.",
                first_wrong=0,
            )

    @property
    def _marker_patterns(self) -> tuple[Patterns, Patterns]:
        layout = self.layout(1)
        return layout.all_on(), layout.all_off()


class _IdleLight:
    """The laser's light: on while exposures are made, off soon after the last.

    A thread watches over it: it darkens an idle bench, and polls the interlock while the laser
    emits. Once the interlock has opened, the bench stays dark until it is opened anew.
    """

    def __init__(self, laser: Laser, holder: str, ceiling_mw: float, idle_after_s: float) -> None:
        if not idle_after_s > 0:
            raise SettingError(f"idle_after_s = {idle_after_s:g}; it must be above 0.")
        self._laser = laser
        self._holder = holder
        self._ceiling_mw = ceiling_mw
        self._idle_after_s = idle_after_s
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._last_use = 0.0
        self._busy = False
        self._token: ArmedToken | None = None
        self._tripped = False
        self._watch: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._token = self._laser.arm(self._holder, self._ceiling_mw)
        self._tripped = False
        self._stop.clear()
        self._watch = threading.Thread(target=self._watch_over, daemon=True, name="bench-light")
        self._watch.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        try:
            self._laser.disarm()
        finally:
            self._token = None
            if self._watch is not None:
                self._watch.join()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Light for the exposures in the block; raises at its end if it went out on the way."""
        if self._token is None:
            raise DeviceStateError("The bench is not open; use it inside `with bench:`.")
        with self._lock:
            self._require_trusted()
            if self._laser.emitting:
                self._check()
            else:
                self._laser.emit(self._token)
            self._busy = True
        try:
            yield
        finally:
            with self._lock:
                self._busy = False
                self._last_use = time.monotonic()
                emitting = self._laser.emitting
        if not emitting:
            self._tripped = True
            raise LaserSafetyError(
                "The laser went dark during a sequence: the interlock opened, or somebody turned "
                "it off. No frame of this sequence is used; find out why, then close and open the "
                "bench."
            )

    def _require_trusted(self) -> None:
        if self._tripped:
            raise LaserSafetyError(
                "The light failed or the interlock opened while the laser was on, and the bench "
                "has been dark since. Find out why, then close and open the bench."
            )

    def off(self) -> None:
        with self._lock:
            self._laser.darken()

    def _check(self) -> None:
        try:
            self._laser.check()
        except LaserSafetyError:
            self._tripped = True
            raise

    def _watch_over(self) -> None:
        while not self._stop.wait(min(self._idle_after_s / 4, 0.5)):
            with self._lock:
                try:
                    self._look()
                except OpuError as error:
                    self._tripped = True
                    log.error("The bench's light cannot be watched, and goes off: %s", error)
                    with suppress(OpuError):
                        self._laser.darken()

    def _look(self) -> None:
        if not self._laser.emitting:
            return
        if not self._busy and time.monotonic() - self._last_use > self._idle_after_s:
            self._laser.darken()
        else:
            self._check()


def _joined(blocks: list[FrameBlock]) -> FrameBlock:
    if len(blocks) == 1:
        return blocks[0]
    return FrameBlock(
        np.concatenate([block.frames for block in blocks]),
        np.concatenate([block.ids for block in blocks]),
        np.concatenate([block.timestamps_us for block in blocks]),
        blocks[-1].lost,
    )


def _variance(frame: Frames) -> tuple[float, float]:
    """Variance of a frame's grey values, which fringes and speckle raise, and its scatter.

    The scatter comes from the frame's own fourth moment: a dark frame has few grey values, and is
    far from Gaussian.
    """
    squares = (frame.astype(np.float64) - float(frame.mean(dtype=np.float64))) ** 2
    return float(squares.mean()), float(squares.std() / math.sqrt(squares.size))


def _first_slip(block: FrameBlock, period_us: float, otherwise: int) -> int:
    """Index of the first frame whose counter or time does not follow the frame before it."""
    gaps: NDArray[np.bool_] = np.diff(block.ids) != 1
    times = np.diff(block.timestamps_us)
    gaps |= np.abs(times - period_us) > 0.25 * period_us  # NaN, no clock, is no evidence
    return int(np.argmax(gaps)) + 1 if gaps.any() else otherwise
