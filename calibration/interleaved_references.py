"""Each vector is shown once, and all inputs on in between, as a reference of phase and gain.

Half the exposures of complementary pairs, for twice the variance and no cancelled bias: the signed
field is T (2v - 1) = 2 y - P - y(0), of the measured y = T v + y(0) and the references' field P.
Between references phase and modulus are interpolated. A phase that walks at random by w rad a frame
departs from the straight line by w^2 (L + 2) / 6 in the mean square if L vectors lie between two
references, and that falls on P as well as on the vector's own field: it adds twice as much to the
square of T's relative error (and repeats average it out).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from calibration import drift
from calibration.scheme import Fields, Gains, Products, dominant
from calibration.vectors import Bits
from opu_driver.errors import SettingError
from opu_driver.layout import Layout
from opu_driver.modulator import Patterns


@dataclass(frozen=True)
class InterleavedReferences:
    """One exposure a vector.

    Attributes:
        interval: Vectors between two references.

    Raises:
        SettingError: The interval is not positive.
    """

    interval: int = 16
    steps: ClassVar[int] = 1
    noise: ClassVar[float] = 4.0

    def __post_init__(self) -> None:
        if self.interval < 1:
            raise SettingError(f"interval = {self.interval}; at least 1 vector between references.")

    def exposures(self, vectors: int) -> int:
        """How many exposures a run of so many vectors takes; it ends with a reference."""
        return vectors + -(-vectors // self.interval) + 1

    def most(self, room: int) -> int:
        """How many vectors a run of at most `room` exposures can have."""
        return (room - 1) * self.interval // (self.interval + 1)

    def patterns(self, layout: Layout, bits: Bits) -> Patterns:
        """The vectors, with references in their places."""
        own = self._own(self.exposures(len(bits)))
        shown = np.ones((len(own), layout.n_inputs), np.uint8)
        shown[own] = bits
        return layout.render(shown)

    def telling(self, exposures: int) -> NDArray[np.intp]:
        """The references."""
        return np.flatnonzero(~self._own(exposures))[:, None]

    def common(self, fields: Fields) -> Fields:
        """The references' field P `[mode]`."""
        return dominant(fields)

    def pair_sum(self, common: Fields, off: Fields) -> Fields:
        """P, and the static field once more."""
        return common + off

    def gains(self, products: Products, n_modes: int) -> Gains:
        """The gains `[exposure]`: measured at the references, interpolated in between.

        Raises:
            DriftError: The phase changes too much from one reference to the next.
        """
        del n_modes
        own = self._own(len(products))
        places = np.flatnonzero(~own)
        measured = products[places, 0, 1] / products[places, 0, 0]
        return drift.interpolate(measured, places, np.arange(len(products)))

    def signed(self, fields: Fields, common: Fields, off: Fields) -> Fields:
        """T (2v - 1) of each vector."""
        return 2 * fields[self._own(len(fields))] - (common + off)

    def halves(self, fields: Fields, common: Fields, off: Fields) -> None:
        """None: there is one exposure a vector."""
        del fields, common, off

    def walk_error(self, walk_rad: float) -> float:
        """Relative error of T, shown once, from a phase that walks by so many rad an exposure."""
        return walk_rad * math.sqrt(2 * (self.interval + 2) / 6)

    def _own(self, exposures: int) -> NDArray[np.bool_]:
        """Which exposures of a run show vectors."""
        own: NDArray[np.bool_] = np.arange(exposures) % (self.interval + 1) != 0
        own[-1] = False
        return own
