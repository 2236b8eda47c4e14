"""The three devices as one instrument: patterns in, the frames that belong to them out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import numpy as np

from opu_driver.camera import (
    Camera,
    CameraSettings,
    FrameBlock,
    Frames,
    PixelFormat,
    Region,
    Trigger,
)
from opu_driver.card import card
from opu_driver.device import Identity
from opu_driver.errors import (
    CaptureTimeoutError,
    FrameMismatchError,
    LaserSafetyError,
    LowSignalError,
    PatternError,
    SaturationError,
    SettingError,
)
from opu_driver.integrity import first_slip, frame_offset, joined, markers_in_place, variance
from opu_driver.laser import Laser
from opu_driver.layout import Layout
from opu_driver.light import Light, Progress
from opu_driver.modulator import Modulator, Patterns
from opu_driver.ownership import Ownership
from opu_driver.uploads import Loader, Uploads

MARKERS = 3
"""Exposures around a sequence: everything on before it; everything on, then off, after it."""

_PROBE = np.array([1, 0, 1, 1, 0, 0, 0], bool)  # irregular, then dark for as long as frames may lag

_LONGEST_LAG = 3  # dark patterns at its end

SMALLEST_CAPACITY = len(_PROBE)
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
            modulator takes to settle after an edge.
        region: What is read of the sensor; None for all of it.
        ceiling_mw: The power that is never exceeded, milliwatts; None for `power_mw`.
        warm_up_s: Seconds that the laser may take to warm up whenever its light is turned on.
    """

    power_mw: float
    exposure_us: float
    pixel_format: PixelFormat | None = None
    gain_db: float = 0.0
    trigger: Trigger = Trigger.HARDWARE
    trigger_delay_us: float | None = None
    region: Region | None = None
    ceiling_mw: float | None = None
    warm_up_s: float = 600.0

    def of_camera(self, camera: Camera, settling_us: float) -> CameraSettings:
        """The camera's settings, now that the camera is open and can be asked.

        Args:
            camera: An open camera.
            settling_us: The time that the modulator takes to settle, microseconds.
        """
        delay_us = self.trigger_delay_us
        edges = self.trigger is Trigger.HARDWARE  # a stepped modulator rests before the trigger
        return CameraSettings(
            exposure_us=self.exposure_us,
            region=self.region or Region(0, 0, *camera.sensor_shape),
            pixel_format=self.pixel_format or camera.pixel_formats[0],
            gain_db=self.gain_db,
            trigger=self.trigger,
            trigger_delay_us=(settling_us if edges else 0.0) if delay_us is None else delay_us,
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
        laser: A laser, simulated or in the hands of a guardian.
        start: What the devices are set to when the bench opens.
        name: What the bench is called in records.
        idle_after_s: Seconds without exposures after which the light goes off by itself.
        optics: What emulated devices need between them to see each other; entered when they are
            open and set. Light finds its way between real ones by itself.

    Raises:
        SettingError: A time that is not positive, or a power above its ceiling.
        LaserSafetyError: The laser is a real one that nothing darkens if this process is killed.
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
        optics: AbstractContextManager[object] | None = None,
    ) -> None:
        if not (laser.simulated or laser.guarded):
            raise LaserSafetyError(
                f"The laser is a {type(laser).__name__} of this process: nothing would darken it "
                "if the process is killed. Open the bench by its bench file, or make the laser "
                "with opu_driver.guarded_laser.GuardedLaser(driver, options, audit_log)."
            )
        self.modulator = modulator
        self.camera = camera
        self.laser = laser
        self.name = name
        self.exposures = 0
        self._loader = Loader(lambda patterns: self.modulator.load(patterns))
        self._shown_before = 0
        self.start = start
        ceiling_mw = start.power_mw if start.ceiling_mw is None else start.ceiling_mw
        if start.power_mw > ceiling_mw:
            raise SettingError(
                f"power_mw = {start.power_mw:g} is above ceiling_mw = {ceiling_mw:g}. Lower the "
                "one, or raise the other if the bench is safe with it."
            )
        self._light = Light(
            laser,
            f"bench {name!r}",
            ceiling_mw,
            idle_after_s=idle_after_s,
            warm_up_s=start.warm_up_s,
        )
        self._frame_offset: int | None = None
        self._trigger: Trigger | None = None  # that the offset is of
        self._optics = optics
        self._devices = ExitStack()

    def __enter__(self) -> Self:
        devices = (self.laser, self.modulator, self.camera)
        self._trigger = None
        # Emulated modulators and cameras belong to their process.
        shared = devices if self._optics is None else (self.laser,)
        addresses = [device.address for device in shared if device.address is not None]
        with ExitStack() as opening:
            opening.enter_context(Ownership(addresses))
            for device in devices:
                opening.enter_context(device)
            if self.modulator.capacity < SMALLEST_CAPACITY:
                raise SettingError(
                    f"The modulator holds {self.modulator.capacity} patterns; a bench needs room "
                    f"for {SMALLEST_CAPACITY}, of which {MARKERS} are markers. Raise its capacity."
                )
            self.laser.set_power_mw(self.start.power_mw)
            self.configure(self.start.of_camera(self.camera, self.modulator.settling_us))
            if self._optics is not None:
                opening.enter_context(self._optics)
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

    def _repr_html_(self) -> str:
        """A card for notebooks: what is known without asking a device."""
        devices = {"modulator": self.modulator, "camera": self.camera, "laser": self.laser}
        is_open = all(device.is_open for device in devices.values())
        ceiling_mw = self.start.power_mw if self.start.ceiling_mw is None else self.start.ceiling_mw
        facts = {
            "state": "open" if is_open else "closed",
            **{
                kind: str(device.identity) if device.is_open else type(device).__name__
                for kind, device in devices.items()
            },
            "light": f"{self.start.power_mw:g} mW to begin with, at most {ceiling_mw:g} mW",
            "exposures": f"{self.exposures:,} since it was opened" if is_open else "",
        }
        return card(f"Bench: {self.name}", facts)

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
        if settings.trigger is Trigger.HARDWARE and not self.modulator.gives_edges:
            raise SettingError(
                f"trigger = hardware; {type(self.modulator).__name__} gives no trigger edges. Use "
                "software: the bench then steps through the patterns."
            )
        settling_us = self.modulator.settling_us
        if settings.trigger is Trigger.HARDWARE and settings.trigger_delay_us < settling_us:
            raise SettingError(
                f"trigger_delay_us = {settings.trigger_delay_us:g}; the modulator settles for "
                f"{settling_us:g} us after its edge, and frames would show two patterns mixed. "
                f"Use {settling_us:g} or more, or leave it out."
            )
        accepted = self.camera.configure(settings)
        if settings.trigger is not self._trigger:
            # Edges and steps start exposures each in their own way. Devices of one scene share its
            # clock; between others there is a line, to be measured.
            self._frame_offset = 0 if self._one_clock else None
            self._trigger = settings.trigger
        return accepted

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
            DeviceStateError: The bench is closed, or what makes the batches of a stream asks for
                exposures of its own while one of them is being shown.
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
        ahead = self.modulator.loads_while_showing
        uploads = Uploads(self._loader, self._bracketed(batches), ahead=ahead)
        proven = 0
        with uploads, self._dark_if_cut_short():
            self._require_offset()
            while (shown := uploads.loaded()) is not None:
                self._shown_before = proven
                sequence = self._sequence(len(shown), meanwhile=uploads.begin_next)
                self._prove(sequence)
                yield sequence
                proven += len(sequence)

    def unproven(self, patterns: Patterns) -> Frames:
        """Show patterns, and return the frames that come, whosever they are.

        For the eye of someone who aligns a bench that cannot prove its frames yet: no markers are
        shown and nothing is proven. Never measure anything on them.

        Args:
            patterns: No more than the modulator holds.

        Returns:
            Grey values `[frame, row, column]`.

        Raises:
            PatternError, CaptureTimeoutError, LaserSafetyError, DeviceLostError: As `expose`.
            FrameMismatchError: No frame came for one of them.
        """
        with self._dark_if_cut_short():
            self.load(patterns)
            self._shown_before = 0
            return self._exposed(len(patterns), None).frames

    @contextmanager
    def _dark_if_cut_short(self) -> Iterator[None]:
        self._loader.refuse_makers()
        try:
            yield
        except BaseException:  # also that of a consumer who wants no more
            try:
                self._light.off()
            finally:
                self.camera.disarm()
            raise

    def dark_frames(self, count: int) -> Frames:
        """Frames with the laser dark: what the camera sees of itself, and of the room.

        Args:
            count: How many, at least 1 and at most what the modulator holds.

        Returns:
            Grey values `[frame, row, column]`.

        Raises:
            PatternError: More frames than the modulator holds patterns.
            FrameMismatchError, CaptureTimeoutError: As `expose`.
        """
        self._loader.refuse_makers()
        self.darken()
        _, off = self._marker_patterns
        late = self._frame_offset or 0
        self.load(np.repeat(off, count + late, axis=0))
        self._shown_before = 0
        block = self._taken(count + late, lambda _: None, None)
        self._check(block, count + late)
        return block.frames[late:]

    def load(self, patterns: Patterns) -> None:
        """Load the modulator; what a stream had loaded before is loaded again when it is due.

        Raises:
            PatternError, DeviceStateError: As `Modulator.load`.
        """
        self._loader.load(patterns)

    @property
    def longest_sequence(self) -> int:
        """How many patterns the modulator holds beside the markers of a sequence.

        It leaves room for the largest lag of the camera that can be measured.
        """
        return self.modulator.capacity - MARKERS - (0 if self._one_clock else _LONGEST_LAG)

    @property
    def _one_clock(self) -> bool:
        return self.modulator.simulated and self.camera.simulated

    @property
    def frame_offset(self) -> int | None:
        """By how many frames the camera lags behind the modulator; None before it is measured.

        It is measured before the first exposures, and again where the trigger has become another
        one, and made up for.
        """
        return self._frame_offset

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
        self._shown_before = 0
        with self._dark_if_cut_short():
            shortest, longest = self.camera.exposure_limits_us
            ceiling_us = longest
            for _ in range(16):
                sequences = []
                for shown in self._bracketed([patterns]):
                    self.load(shown)
                    sequences.append(self._sequence(len(shown)))
                mean, saturated = self._fill([sequence.frames for sequence in sequences])
                exposure_us = self.settings.exposure_us
                wanted_us = exposure_us * min(mean_fraction / max(mean, mean_fraction / 16), 16.0)
                too_bright = saturated > saturated_fraction
                if exposure_us <= shortest and (too_bright or mean > 1.1 * mean_fraction):
                    raise SaturationError(
                        f"The mean is {mean:.2%} of full scale, and {saturated:.2%} of the "
                        f"pixels are full, at {self.power_mw:g} mW and the camera's shortest "
                        f"exposure, {shortest:g} us. Lower the laser power."
                    )
                if too_bright:
                    ceiling_us = 0.8 * exposure_us
                elif 0.9 <= mean / mean_fraction <= 1.1 or exposure_us >= ceiling_us < longest:
                    if self._require_offset():
                        continue  # these frames were taken before the offset was known
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
                wanted_us = self.camera.nearest_exposure_us(wanted_us)
                self.configure(replace(self.settings, exposure_us=wanted_us))
            raise LowSignalError(
                f"No exposure time was found that gives a mean of {mean_fraction:.2%} of full "
                "scale: the light changes between measurements. Let the laser warm up, and try "
                "again."
            )

    def _fill(self, parts: list[Frames]) -> tuple[float, float]:
        """Mean grey value as a fraction of full scale, and the fraction of full pixels."""
        full = self.camera.saturation_level
        black = self.camera.black_level
        pixels = sum(frames.size for frames in parts)
        grey = sum(float(frames.sum(dtype=np.float64)) for frames in parts) / pixels
        saturated = sum(int(np.count_nonzero(frames >= full)) for frames in parts)
        return (grey - black) / (full - black), saturated / pixels

    def _bracketed(self, batches: Iterable[Patterns]) -> Iterator[Patterns]:
        """What the modulator is loaded with: each batch in one or more parts, with markers.

        Dark patterns follow where frames lag behind, so that the last frames are read, too.
        """
        on, off = self._marker_patterns
        for batch in batches:
            self.modulator.check_patterns(batch)
            late = [off] * (self._frame_offset or 0)
            room = self.longest_sequence
            for first in range(0, len(batch), room):
                yield np.concatenate([on, batch[first : first + room], on, off, *late])

    def _sequence(self, count: int, meanwhile: Callable[[], None] | None = None) -> Sequence:
        """The loaded batch, `count` patterns with its markers: shown, read, and in step.

        Args:
            count: Loaded patterns, markers included.
            meanwhile: Called when the modulator has started.
        """
        block = self._exposed(count, meanwhile)
        self._check(block, count)
        block = block[self._frame_offset or 0 :]
        own = block[1:-2]
        markers = block.frames[[0, -2, -1]]
        return Sequence(own.frames, own.ids, own.timestamps_us, own.lost, markers=markers)

    def _require_offset(self) -> bool:
        """Measure by how many frames the camera lags, unless that is known; whether it was not.

        Raises:
            FrameMismatchError: The frames of a known order of lit and dark patterns do not tell.
        """
        if self._frame_offset is not None:
            return False
        on, off = self._marker_patterns
        self.load(np.concatenate([on if lit else off for lit in _PROBE]))
        frames = self._exposed(len(_PROBE), None).frames
        self._frame_offset = frame_offset(frames, _PROBE)
        if self._frame_offset is None:
            contrasts = ", ".join(f"{variance(frame)[0]:.3g}" for frame in frames)
            raise FrameMismatchError(
                "The frames of lit and dark patterns in a known order do not tell which frame "
                f"shows which pattern; their grey values have the variances {contrasts}. Check "
                "that modulated light reaches the camera, that it is not saturated, and the "
                "trigger line.",
                first_wrong=0,
            )
        return True

    def _exposed(self, count: int, meanwhile: Callable[[], None] | None) -> FrameBlock:
        """The frames of the loaded batch in the laser's light, as they come."""
        with self._light.in_use(self._patience_s(count)) as progress:
            block = self._taken(count, progress, meanwhile)
        self.exposures += count
        return block

    def _taken(
        self, count: int, progress: Progress, meanwhile: Callable[[], None] | None
    ) -> FrameBlock:
        """The frames of the loaded batch, in whatever light there is."""
        take = (
            self._step_through if self.settings.trigger is Trigger.SOFTWARE else self._run_through
        )
        self.camera.arm(count)
        try:
            return take(count, progress, meanwhile)
        finally:
            self.camera.disarm()

    def _patience_s(self, count: int) -> float:
        """How long to wait for `count` exposures that follow each other."""
        return 1.0 + 2.0 * count / self.rate_hz

    def _run_through(
        self, count: int, progress: Progress, meanwhile: Callable[[], None] | None
    ) -> FrameBlock:
        rate_hz = self.rate_hz
        self.modulator.start(rate_hz)
        if meanwhile is not None:
            meanwhile()
        timeout_s = self._patience_s(count)
        blocks: list[FrameBlock] = []
        received = 0
        shown = None
        try:
            while received < count:
                blocks.append(self.camera.read(count - received, timeout_s))
                received += len(blocks[-1])
                progress(timeout_s)
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
                first_wrong=self._pattern_of(min(shown, count)),
            )
        return joined(blocks)

    def _step_through(
        self, count: int, progress: Progress, meanwhile: Callable[[], None] | None
    ) -> FrameBlock:
        timeout_s = self._patience_s(1)
        blocks = []
        for _ in range(count):
            self.modulator.step()
            self.camera.trigger()
            blocks.append(self.camera.read(1, timeout_s))
            progress(timeout_s)
        if meanwhile is not None:
            meanwhile()  # not before: steps go on with what was loaded last
        return joined(blocks)

    def _lost(self, blocks: list[FrameBlock], count: int, rate_hz: float) -> FrameMismatchError:
        received = sum(len(block) for block in blocks)
        # Without a gap between them, the missing frames are the first or the last: who knows.
        slip = first_slip(joined(blocks), 1e6 / rate_hz, otherwise=0) if blocks else 0
        first = self._pattern_of(slip)
        return FrameMismatchError(
            f"{received} frames for {count} patterns, markers among them; pattern {first} is the "
            "first whose frame may be another's. No frame of this sequence is used. Check the "
            f"trigger line, or lower the rate of {rate_hz:g} Hz (a longer exposure does).",
            first_wrong=first,
        )

    def _check(self, block: FrameBlock, count: int) -> None:
        """Raise unless the frames follow the modulator's clock."""
        hardware = self.settings.trigger is Trigger.HARDWARE
        slip = first_slip(block, 1e6 / self.rate_hz, otherwise=count) if hardware else count
        if slip < count or block.lost:
            # Where the camera alone knows of a loss, it may be any frame.
            first = self._pattern_of(slip if slip < count else 0)
            raise FrameMismatchError(
                f"{block.lost} frames lost; from pattern {first} on, frames do not follow the "
                "modulator's clock. No frame of this sequence is used; check the trigger line.",
                first_wrong=first,
            )

    def _pattern_of(self, frame: int) -> int:
        """Which of the caller's patterns belongs to a frame of the present sequence."""
        markers = 1 + (self._frame_offset or 0)
        return self._shown_before + max(frame - markers, 0)

    def _prove(self, sequence: Sequence) -> None:
        """Raise unless the markers are in their places: each frame is its own pattern's."""
        _, saturated = self._fill([sequence.markers])
        if saturated > 0.25:
            raise SaturationError(
                f"{saturated:.0%} of the pixels are full where every input is on, so nobody can "
                "tell whether frames belong to their patterns. Shorten the exposure "
                "(Bench.fit_exposure finds one) or lower the laser power."
            )
        if not markers_in_place(sequence.markers):
            first, on, off = (variance(frame)[0] for frame in sequence.markers)
            raise FrameMismatchError(
                "The markers around the sequence (on; on, off) are not in their places: their grey "
                f"values have the variances {first:.4g}; {on:.4g}, {off:.4g}. Frames have slipped "
                "against patterns by one or more, or no modulated light reaches the camera. No "
                "frame of this sequence is used.",
                first_wrong=self._shown_before,
            )

    @property
    def _marker_patterns(self) -> tuple[Patterns, Patterns]:
        layout = self.layout(1)
        return layout.all_on(), layout.all_off()
