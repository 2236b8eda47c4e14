"""The one optical scene in which modulator, laser and camera meet, and its clock.

Simulated time passes by what is done: edges, exposures and `Scene.wait`. What drifts, drifts by
frames. Every exposure has a number, and all its noise is a function of the seed and that number.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from opu_driver.camera import Region
from opu_driver.errors import DeviceStateError, SettingError
from opu_driver.modulator import Patterns
from opu_driver.virtual import faults
from opu_driver.virtual.drift import Light, random_bits
from opu_driver.virtual.optics import Optics, Shown, Superposition
from opu_driver.virtual.parallel import in_parallel
from opu_driver.virtual.settings import SceneSettings

if TYPE_CHECKING:
    from opu_driver.virtual.camera import VirtualCamera
    from opu_driver.virtual.modulators import VirtualModulator
    from opu_driver.virtual.truth import Truth

REMEMBERED = 100_000
"""Past exposures of which the scene still knows the light."""

_NOISE = 20  # the stream of random numbers
_ROUNDING = 1e-6  # part of an exposure below which times agree


@dataclass(frozen=True)
class Converter:
    """How a camera turns electrons into grey values.

    Attributes:
        gain: Grey values per electron.
        black: Grey value without light and without dark current.
        top: Grey value at full scale.
        dtype: Of a frame.
    """

    gain: float
    black: float
    top: float
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Exposures:
    """Exposures that were made and can be read out.

    Attributes:
        shown: What the modulator showed.
        ages: `[exposure]`, frames that the scene was old.
        numbers: `[exposure]`, since the scene began.
        start_us: `[exposure]`, on the scene's clock.
        energies: `[exposure]`, electrons a pixel per unit of relative intensity.
        phases: `[exposure]`, of the interferometer, rad.
        dark: Electrons of dark current.
    """

    shown: Shown
    ages: NDArray[np.int64]
    numbers: NDArray[np.int64]
    start_us: NDArray[np.float64]
    energies: NDArray[np.float64]
    phases: NDArray[np.float64]
    dark: float

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, some: slice) -> Exposures:
        return Exposures(
            self.shown[some],
            self.ages[some],
            self.numbers[some],
            self.start_us[some],
            self.energies[some],
            self.phases[some],
            self.dark,
        )


class Lamp(Protocol):
    """What lights a scene."""

    @property
    def output_mw(self) -> float:
        """The power that leaves it now, milliwatts."""


class _Seed(BaseModel):
    model_config = ConfigDict(strict=True)
    seed: int = Field(ge=0)


class Scene:
    """The optics between one virtual modulator, one virtual laser and one virtual camera.

    Args:
        settings: All its numbers.
        seed: Of the medium and of all noise; equal seeds and equal acts give equal frames.

    Attributes:
        settings: As given.
        seed: As given.
        clock_us: Simulated time, microseconds.
        exposures: Exposures made so far.
        age: Frames that the medium and the drifts are old: exposures, and what was waited for.
        past: Pieces `[3, exposure]` of what the light was like, the last `REMEMBERED` exposures at
            least: laser power in milliwatts, phase in rad, electrons per unit of intensity.

    Raises:
        pydantic.ValidationError: The seed is no natural number.
    """

    def __init__(self, settings: SceneSettings, *, seed: int) -> None:
        self.settings = settings
        self.seed = _Seed.model_validate({"seed": seed}).seed
        self.clock_us = 0.0
        self.exposures = 0
        self.modulator: VirtualModulator | None = None
        self.camera: VirtualCamera | None = None
        self.laser: Lamp | None = None
        self._played: Patterns = np.zeros((1, 1, 1), np.uint8)
        self._at_rest_us = np.array([-np.inf])
        self.age = 0
        self._edges = 0
        self._light = Light(settings, self.seed)
        self._optics: Optics | None = None
        self.past: deque[NDArray[np.float64]] = deque()
        self._remembered = 0
        self._reference: tuple[Region, tuple[float, float], NDArray[np.complex64]] | None = None

    def install(self, device: VirtualModulator | VirtualCamera | Lamp, place: str) -> None:
        """Put a device in its place: `modulator`, `camera` or `laser`.

        Raises:
            DeviceStateError: The place is taken.
        """
        if getattr(self, place) is not None:
            raise DeviceStateError(
                f"The scene has a {place} already; make a new scene for another bench."
            )
        setattr(self, place, device)

    @property
    def truth(self) -> Truth:
        """What no bench can know; for tests and benchmarks alone."""
        from opu_driver.virtual.truth import Truth

        return Truth(self)

    @property
    def interlock_closed(self) -> bool:
        """Whether the fault plan has left the laser's interlock closed."""
        opens = self.settings.faults.interlock_opens_at
        return opens is None or self.exposures < opens

    @property
    def camera_lost(self) -> bool:
        """Whether the fault plan has unplugged the camera."""
        lost = self.settings.faults.camera_lost_at
        return lost is not None and self.exposures >= lost

    def wait(self, seconds: float) -> None:
        """Let simulated time pass without exposures; what drifts, drifts on.

        Raises:
            SettingError: The time is negative or not finite.
        """
        if not 0 <= seconds < math.inf:
            raise SettingError(f"Cannot wait for {seconds:g} s; give a time of 0 s or more.")
        self.clock_us += 1e6 * seconds
        frames = round(seconds * self.settings.drift_rate_hz)
        if frames > 0:
            self._light.rest(self.age, frames)
            self.age += frames

    def hold(self, pattern: Patterns) -> None:
        """Show one pattern, `[1, ...]`, until further notice; the mirrors have come to rest."""
        self.clock_us += self.settings.settling_us
        self._played = pattern
        self._at_rest_us = np.array([-np.inf])

    def shown(self, start_us: NDArray[np.float64], exposure_us: float) -> Shown:
        """What exposures see of what the modulator shows since it last began.

        A pattern is seen from when its mirrors rest, `settling_us` after its edge, until those of
        the next do. An exposure that lasts beyond that sees the next one, too; what would come
        after the next is taken for the next, so that an exposure mixes two patterns at most.

        Args:
            start_us: `[exposure]`, when each starts.
            exposure_us: How long it lasts.
        """
        slack_us = _ROUNDING * exposure_us
        now = np.searchsorted(self._at_rest_us, start_us + slack_us, side="right") - 1
        until_us = np.append(self._at_rest_us, np.inf)[now + 1]
        mixing = np.maximum(1 - (until_us - start_us) / exposure_us, 0.0)
        mixing[mixing < _ROUNDING] = 0.0
        following = np.minimum(now + 1, len(self._played) - 1)
        return Shown(self._played, now, following, mixing.astype(np.float32))

    def play(self, patterns: Patterns, period_us: float) -> None:
        """Show patterns one after another, a trigger edge for each, and hold the last.

        The camera, if it listens, is exposed by the edges that reach it.
        """
        count = len(patterns)
        times = self.clock_us + period_us * np.arange(count)
        self._played = np.concatenate([self._played[-1:], patterns])
        self._at_rest_us = np.concatenate([[-np.inf], times + self.settings.settling_us])
        seen = faults.seen(self.settings.faults, self.seed, self._edges + np.arange(count))
        edge = np.repeat(np.arange(count), seen)
        again = np.concatenate([[False], edge[1:] == edge[:-1]])[: len(edge)]
        edges_us = times[edge] + 0.5 * period_us * again
        self._edges += count
        if self.camera is not None:
            self.camera.see_edges(edges_us, again)
        self.clock_us += count * period_us

    def expose(self, shown: Shown, start_us: NDArray[np.float64], exposure_us: float) -> Exposures:
        """Make exposures with the light that there is now; they can be read out later.

        Args:
            shown: What they see of the modulator.
            start_us: `[exposure]`, when each starts.
            exposure_us: How long it lasts.
        """
        s = self.settings
        count = len(shown)
        numbers = self.exposures + np.arange(count)
        ages = self.age + np.arange(count)
        relative, phases = self._light.frames(ages)
        power_mw = relative * (self.laser.output_mw if self.laser is not None else 0.0)
        if s.faults.interlock_opens_at is not None:
            power_mw[numbers >= s.faults.interlock_opens_at] = 0.0
        self.exposures += count
        self.age += count
        energies = power_mw * exposure_us * s.electrons_per_nj / (1 + s.reference_ratio)
        self._remember(np.stack([power_mw, phases, energies]))
        return Exposures(
            shown,
            ages,
            numbers,
            start_us,
            energies,
            phases,
            1e-6 * exposure_us * s.dark_electrons_per_s,
        )

    def develop(self, exposures: Exposures, region: Region, converter: Converter) -> NDArray[Any]:
        """Frames `[exposure, row, column]` of exposures, in the order in which they were made."""
        frames = np.empty((len(exposures), region.height * region.width), converter.dtype)
        done = 0
        while done < len(exposures):
            part = exposures[done : done + self._together(exposures[done:])]
            for sums in self.optics().superpose(part.shown, region):
                some = slice(done, done + len(sums))
                self._develop(exposures[some], sums, region, converter, frames[some])
                done += len(sums)
        return frames.reshape(len(exposures), *region.shape)

    def optics(self) -> Optics:
        """The optics between the devices.

        Raises:
            DeviceStateError: There is no virtual modulator or camera.
        """
        if self.modulator is None or self.camera is None:
            raise DeviceStateError(
                "A scene needs both a virtual modulator and a virtual camera; real devices cannot "
                "see its light. Make both virtual in the bench file, or neither."
            )
        if self._optics is None:
            self._optics = Optics(
                self.settings,
                self.modulator.shape,
                self.modulator.levels,
                self.camera.sensor_shape,
                self.seed,
            )
        return self._optics

    def _remember(self, piece: NDArray[np.float64]) -> None:
        self.past.append(piece)
        self._remembered += piece.shape[1]
        while self._remembered - self.past[0].shape[1] >= REMEMBERED:
            self._remembered -= self.past.popleft().shape[1]

    def _together(self, exposures: Exposures) -> int:
        """How many of the exposures see one reference, and one moment of the medium."""
        optics = self.optics()
        first, age = int(exposures.numbers[0]), int(exposures.ages[0])
        optics.medium.grow_to(age)
        ends = [len(exposures)]
        jump = faults.next_carrier_jump(self.settings.faults, first)
        if jump is not None:
            ends.append(jump - first)
        still = optics.medium.still_for(age)
        if still is not None:
            ends.append(int(np.searchsorted(exposures.ages, age + still)))
        return min(ends)

    def _develop(
        self,
        exposures: Exposures,
        sums: Superposition,
        region: Region,
        converter: Converter,
        frames: NDArray[Any],
    ) -> None:
        from opu_driver.virtual.kernels import BLOCK, expose

        s = self.settings
        optics = self.optics()
        reference = self._reference_at(int(exposures.numbers[0]), region)
        shown = exposures.shown
        sides = np.stack([shown.now, shown.following], axis=1)
        references = optics.reference_arm.amplitudes(shown.patterns, sides.ravel())
        phasors = np.repeat(np.exp(1j * exposures.phases), 2) * references.conj()
        arguments = (
            frames,
            sums.fields.view(np.float32),
            sums.starts,
            sums.which,
            sums.weights,
            shown.mixing,
            reference.view(np.float32),
            optics.response(region),
            exposures.energies.astype(np.float32),
            phasors.astype(np.complex64),
            np.float32(optics.medium.contrast),
            random_bits(self.seed, _NOISE, exposures.numbers),
            np.float32(exposures.dark),
            np.float32(s.shot_noise),
            np.float32(s.read_noise_electrons),
            np.float32(converter.gain),
            np.float32(converter.black),
            np.float32(converter.top),
            converter.dtype != np.float32,
        )
        in_parallel(partial(expose, *arguments), frames.shape[1], grain=BLOCK)

    def _reference_at(self, number: int, region: Region) -> NDArray[np.complex64]:
        offset = faults.carrier_offset(self.settings.faults, number)
        if self._reference is None or self._reference[:2] != (region, offset):
            self._reference = (region, offset, self.optics().reference(region, offset))
        return self._reference[2]
