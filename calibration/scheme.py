"""How a vector is exposed, so that drift can be undone and a signed field comes out.

Phase and gain of the interferometer change from one exposure to the next. All exposures of a scheme
have one field P in common, which gives each of them its complex gain, by least squares over the
modes: two numbers out of as many equations as there are modes. All that is needed for it are the
inner products of P and the fields, which are sums over modes, so that the gains of fields that do
not fit into memory are had in passes over some modes at a time.

Vectors are shown in runs, each a sequence of exposures between two markers.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from calibration.vectors import Bits
from opu_driver.layout import Layout
from opu_driver.modulator import Patterns

Fields = NDArray[np.complex64]
"""Fields `[exposure, mode]`."""

Gains = NDArray[np.complex128]
"""Complex gain of each exposure, `[exposure]`: measured field = gain x field."""

Products = NDArray[np.complex128]
"""Inner products <x, y> = sum of conj(x) y over the modes, `[group, 1 + step, 1 + step]`.

Row and column 0 are of the common field P, the others of the exposures of one group."""

_ROUNDS = 4


class Scheme(Protocol):
    """A way to expose vectors."""

    @property
    def steps(self) -> int:
        """Exposures in a group: those that are compared with each other."""

    @property
    def noise(self) -> float:
        """Variance of a signed field, in variances of the field of one exposure."""

    def exposures(self, vectors: int) -> int:
        """How many exposures a run of so many vectors takes."""

    def most(self, room: int) -> int:
        """How many vectors a run of at most `room` exposures can have."""

    def patterns(self, layout: Layout, bits: Bits) -> Patterns:
        """The patterns of a run.

        Raises:
            PatternError: The modulator cannot show them.
        """

    def telling(self, exposures: int) -> NDArray[np.intp]:
        """Which exposures of a run tell P, `[group, exposure]`: a group tells it by itself."""

    def common(self, fields: Fields) -> Fields:
        """The common field P `[mode]`, in a phase and gain of its own.

        Args:
            fields: Of telling exposures, group by group, `[group x exposure, mode]`.
        """

    def pair_sum(self, common: Fields, off: Fields) -> Fields:
        """What the fields of a vector and its complement add up to, `[mode]`.

        Args:
            common: P.
            off: The field with every input off.
        """

    def gains(self, products: Products, n_modes: int) -> Gains:
        """The gains of a run, from the inner products over all modes."""

    def signed(self, fields: Fields, common: Fields, off: Fields) -> Fields:
        """T (2v - 1) of each vector of a run, `[vector, mode]`.

        Args:
            fields: Divided by their gains.
            common: P, of the same modes, `[mode]`.
            off: The field with every input off, likewise.
        """

    def halves(self, fields: Fields, common: Fields, off: Fields) -> tuple[Fields, Fields] | None:
        """Two independent estimates whose mean is `signed`; None if there are none."""


def products(fields: Fields, common: Fields, steps: int) -> Products:
    """The inner products of groups of exposures and the common field, over the modes given.

    Args:
        fields: `[group x step, mode]`.
        common: P `[mode]`.
        steps: Exposures in a group.
    """
    groups = len(fields) // steps
    every = np.empty((groups, 1 + steps, fields.shape[1]), np.complex64)
    every[:, 0] = common
    every[:, 1:] = fields.reshape(groups, steps, -1)
    return (every.conj() @ every.transpose(0, 2, 1)).astype(np.complex128)


def dominant(fields: Fields) -> Fields:
    """The field `[mode]` that all fields have in common, but for their gains."""
    common: Fields = fields[0]
    for _ in range(_ROUNDS):
        gains = fields @ common.conj()
        gains /= np.float32(np.linalg.norm(common) ** 2)
        weights = gains.conj() / np.float32(np.linalg.norm(gains) ** 2)
        common = weights.astype(np.complex64) @ fields
    return common
