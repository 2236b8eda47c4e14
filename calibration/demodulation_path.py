"""Which way frames become fields: chosen by the machine at calibration, then kept.

Both paths give the same fields to within small errors, and those would be errors of every
projection if T was measured on one path and used on the other. So the path is part of a
calibration. What computes it, an engine, is not: all engines of a path agree to rounding.

The reference path is taken where it keeps up with the light: for small frames, and with a GPU. The
separable filter is several times faster, and is taken for the others if the orders of the hologram
are far enough apart for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from calibration.carrier import Carrier
from calibration.wiener import Levels, measure_levels
from opu_driver.camera import Frames
from opu_driver.errors import SettingError

if TYPE_CHECKING:
    from calibration.demodulation import Demodulation

REFERENCE_NS = 4.3
"""What the reference path takes for a pixel, nanoseconds, on one core."""

MOST_REACH = 2.0
"""Longest reach of a filter, in inverse sideband radii; more is hardly truer."""

_GPU_PIXELS = 1 << 17
"""Pixels of a frame from which a GPU is looked for."""


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

    Raises:
        SettingError: As `demodulation.Demodulator`.
    """
    from calibration.demodulation import checked_decimation
    from calibration.separable_demodulation import LARGEST_LEAK, sufficient_taps

    rows, columns = shape = frames.shape[1], frames.shape[2]
    decimation = checked_decimation(shape, carrier, decimation)
    if rows * columns * REFERENCE_NS * 1e-9 * rate_hz <= 1 or _gpu(shape):
        return REFERENCE
    levels = measure_levels(frames, carrier, black_level=black_level)
    taps = sufficient_taps(shape, carrier, decimation, levels)
    if taps.leak > LARGEST_LEAK:
        return REFERENCE
    return DemodulationPath("separable", taps.reach, levels)


def _gpu(frame_shape: tuple[int, int]) -> bool:
    """Whether there is a GPU that frames of this size are worth to be sent to."""
    if frame_shape[0] * frame_shape[1] < _GPU_PIXELS:
        return False
    import torch

    return torch.cuda.is_available()
