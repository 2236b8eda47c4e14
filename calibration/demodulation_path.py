"""Which way frames become fields: chosen by the machine at calibration, then kept.

Both paths give the same fields to within small errors, and those would be errors of every
projection if T was measured on one path and used on the other. So the path is part of a
calibration. What computes it, an engine, is not: all engines of a path agree to rounding.

The truest path that keeps up with the light is taken: the reference path for small frames, and with
a GPU; for others the separable filter, which is several times faster, if the orders of the hologram
are far enough apart for it. How fast each is here is measured, on a few frames.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from calibration.carrier import Carrier
from calibration.wiener import Levels, measure_levels
from opu_driver.camera import Frames
from opu_driver.errors import SettingError

if TYPE_CHECKING:
    from calibration.demodulation import Demodulation

log = logging.getLogger("opu.demodulation")

MOST_REACH = 2.0
"""Longest reach of a filter, in inverse sideband radii; more is hardly truer."""

_GPU_PIXELS = 1 << 17
"""Pixels of a frame from which a GPU is looked for."""

_TIMED_PIXELS = 1 << 20  # of the frames that are demodulated to see how long it takes,
_TIMED_FRAMES = 4  # and how many they are at least
_ROUNDS = 4  # of which the shortest counts


@dataclass(frozen=True)
class DemodulationPath:
    """A way from frames to fields, and all that it depends on beside the carrier.

    Attributes:
        name: `reference`, a mask in the Fourier plane, or `separable`, a filter over the pixels.
        reach: Pixels on either side of a grid point that the filter uses; 0 for the reference.
        levels: What the filter was made for; None for the reference.

    Raises:
        SettingError: A filter without reach or levels, or a reference with them.
    """

    name: Literal["reference", "separable"] = "reference"
    reach: int = 0
    levels: Levels | None = None

    def __post_init__(self) -> None:
        filters = self.name == "separable"
        if filters != (self.reach > 0) or filters != (self.levels is not None):
            raise SettingError(
                f"A path {self.name!r} with reach {self.reach} and levels {self.levels}; a "
                "separable filter has both, the reference path neither."
            )

    def __str__(self) -> str:
        """What a record says."""
        length = 2 * self.reach + 1
        return f"{self.name} path" + (f", {length} x {length} pixels" if self.reach else "")

    def demodulator(
        self, frame_shape: tuple[int, int], carrier: Carrier, *, decimation: int | None = None
    ) -> Demodulation:
        """What goes this way, by the fastest engine of this machine.

        Args:
            frame_shape: Rows and columns of a frame.
            carrier: Where the sideband is.
            decimation: Pixels between grid points; None as for `demodulation.Demodulator`.

        Raises:
            SettingError: As `demodulation.Demodulator`.
        """
        if self.name == "separable":
            from calibration.separable_demodulation import SeparableDemodulator

            return SeparableDemodulator(
                frame_shape,
                carrier,
                decimation=decimation,
                levels=self.levels,
                reach=self.reach,
            )
        if _gpu(frame_shape):
            from calibration.torch_demodulation import TorchDemodulator

            return TorchDemodulator(frame_shape, carrier, decimation=decimation, device="cuda")
        from calibration.demodulation import Demodulator

        return Demodulator(frame_shape, carrier, decimation=decimation)


REFERENCE = DemodulationPath()
"""The truest path."""


def choose_path(
    frames: Frames,
    carrier: Carrier,
    *,
    rate_hz: float,
    black_level: float = 0.0,
    decimation: int | None = None,
) -> DemodulationPath:
    """The truest path that keeps up with the light on this machine.

    Args:
        frames: Grey values `[frame, row, column]` of speckle, as they will be demodulated.
        carrier: Where their sideband is.
        rate_hz: Frames a second that the bench delivers.
        black_level: Grey value without light.
        decimation: Pixels between grid points; None as for `demodulation.Demodulator`.

    If none keeps up, the fastest is taken, and a warning logged with both rates.

    Raises:
        SettingError: As `demodulation.Demodulator`, or a side of fewer than
            `demodulation.FEWEST_GRAINS` speckle grains.
    """
    from calibration.demodulation import checked_decimation, checked_size
    from calibration.separable_demodulation import LARGEST_LEAK, sufficient_taps

    shape = frames.shape[1], frames.shape[2]
    checked_size(shape, carrier)
    decimation = checked_decimation(shape, carrier, decimation)

    def speed(path: DemodulationPath) -> float:
        demodulation = path.demodulator(shape, carrier, decimation=decimation)
        return frames_per_second(demodulation, frames.dtype)

    of_reference = speed(REFERENCE)
    if of_reference >= rate_hz:
        return REFERENCE
    levels = measure_levels(frames, carrier, black_level=black_level)
    taps = sufficient_taps(shape, carrier, decimation, levels)
    if taps.leak > LARGEST_LEAK:
        _warn(REFERENCE, of_reference, rate_hz)
        log.warning(
            "The faster path would err by %.1f %% of the field here, more than %.1f %%: the orders "
            "are too close for it. Tilt the reference further, or let a grain take more pixels.",
            100 * taps.leak,
            100 * LARGEST_LEAK,
        )
        return REFERENCE
    separable = DemodulationPath("separable", taps.reach, levels)
    of_separable = speed(separable)
    path, fastest = max((REFERENCE, of_reference), (separable, of_separable), key=lambda at: at[1])
    if fastest < rate_hz:
        _warn(path, fastest, rate_hz)
    return path


def frames_per_second(demodulation: Demodulation, dtype: np.dtype[Any]) -> float:
    """How many frames this machine turns into fields in a second; measured once a process.

    Args:
        demodulation: What is measured.
        dtype: Type of the grey values.
    """
    of = demodulation
    key = str((of.path, of.engine, of.frame_shape, of.carrier.radius, of.decimation, dtype))
    if key not in _measured:
        pixels = math.prod(of.frame_shape)
        count = max(_TIMED_FRAMES, _TIMED_PIXELS // pixels)
        grey = np.random.default_rng(0).integers(0, 255, (count, *of.frame_shape), np.uint8)
        frames = grey.astype(dtype)
        fields = of(frames)  # compiles what there is to compile
        shortest = math.inf
        for _ in range(_ROUNDS):
            begun = time.perf_counter()
            of(frames, fields)
            shortest = min(shortest, time.perf_counter() - begun)
        _measured[key] = count / shortest
    return _measured[key]


def pace(here_hz: float, needed_hz: float) -> str:
    """What a record says of a speed."""
    told = f"{here_hz:,.0f} frames/s here, {needed_hz:,.0f} from the bench"
    return told if here_hz >= needed_hz else f"{told}: it does not keep up with the light"


def _warn(path: DemodulationPath, here_hz: float, needed_hz: float) -> None:
    log.warning(
        "The %s turns %s. Projections wait for it: choose a smaller region, or a machine with more "
        "processors or a GPU.",
        path,
        pace(here_hz, needed_hz),
    )


_measured: dict[str, float] = {}


def _gpu(frame_shape: tuple[int, int]) -> bool:
    """Whether there is a GPU that frames of this size are worth to be sent to."""
    if frame_shape[0] * frame_shape[1] < _GPU_PIXELS:
        return False
    import torch

    return torch.cuda.is_available()
