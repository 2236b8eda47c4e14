"""The carrier frequency: where in the spectrum of a frame the signal field lies."""

from __future__ import annotations

import math
from dataclasses import dataclass

from opu_driver.camera import Frames


@dataclass(frozen=True)
class Carrier:
    """The sideband of off-axis holograms: its centre, and the radius of the speckle's band.

    A real frame holds two sidebands, twins of each other. This is the one whose column frequency
    is positive (whose row frequency is positive, if the column frequency is 0); the field
    demodulated there is R* S where the signal arm's wave vector points that way, else R S*.

    Attributes:
        row: Row frequency of the centre, cycles/pixel.
        column: Column frequency of the centre, cycles/pixel.
        row_sigma: Standard deviation of `row`.
        column_sigma: Standard deviation of `column`.
        radius: Radius r of the sideband, cycles/pixel.
        radius_sigma: Standard deviation of `radius`.
    """

    row: float
    column: float
    row_sigma: float
    column_sigma: float
    radius: float
    radius_sigma: float

    @property
    def modulus(self) -> float:
        """Distance of the sideband's centre from zero frequency, cycles/pixel."""
        return math.hypot(self.row, self.column)

    @property
    def grain(self) -> float:
        """Size of a speckle grain, pixels: 0.5 / r."""
        return 0.5 / self.radius


def find_carrier(
    frames: Frames, *, saturation_level: float | None, black_level: float = 0.0
) -> Carrier:
    """Not there yet."""
    raise NotImplementedError
