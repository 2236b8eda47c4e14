"""Each vector v is followed by its complement 1 - v.

- The difference of the two fields is T (2v - 1): a signed measurement, free of every static bias.
- Their sum P is the field of everything on (and the bias, twice), the same for all pairs. So each
  pair carries its own reference of phase and gain, at no cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from calibration.scheme import Fields, Gains, Products
from calibration.vectors import Bits
from opu_driver.layout import Layout
from opu_driver.modulator import Patterns

_ROUNDS = 4  # each leaves 1 / modes of the coupling between the pairs' common and own factors
_STEADY = 1e-3  # what holds eta near 0 where f and g are alike
_DARK = 0.1  # of the power of the other: an exposure that has no gain of its own


@dataclass(frozen=True)
class ComplementaryPairs:
    """Two exposures a vector, and a difference of two fields."""

    steps: ClassVar[int] = 2
    noise: ClassVar[float] = 2.0

    def exposures(self, vectors: int) -> int:
        """How many exposures a run of so many vectors takes."""
        return 2 * vectors

    def most(self, room: int) -> int:
        """How many vectors a run of at most `room` exposures can have."""
        return room // 2

    def patterns(self, layout: Layout, bits: Bits) -> Patterns:
        """Each vector, and its complement after it."""
        return layout.render(with_complements(bits))

    def telling(self, exposures: int) -> NDArray[np.intp]:
        """Every pair tells P."""
        return np.arange(exposures).reshape(-1, 2)

    def common(self, fields: Fields) -> Fields:
        """The sum P `[mode]` that all pairs have in common.

        It is the dominant component of the sums f (1 + eta) + g (1 - eta), which are as true as
        the eta are, which need P: a few rounds of both.
        """
        lit, complement = fields[0::2], fields[1::2]
        sums, differences = lit + complement, lit - complement
        own = np.einsum("pm,pm->p", differences.conj(), differences).real
        eta = np.zeros(len(sums), np.complex128)
        common: Fields = sums[0]
        for _ in range(_ROUNDS):
            steady = sums + eta[:, None].astype(np.complex64) * differences
            c = _overlap(steady, common)
            weights = (c.conj() / np.sum(np.abs(c) ** 2)).astype(np.complex64)
            common = weights @ steady
            c = _overlap(steady, common)
            missing = c[:, None].astype(np.complex64) * common - sums
            eta = np.einsum("pm,pm->p", differences.conj(), missing) / np.maximum(own, 1e-30)
        return common

    def pair_sum(self, common: Fields, off: Fields) -> Fields:
        """P itself."""
        del off
        return common

    def gains(self, products: Products, n_modes: int) -> Gains:
        """The gains `[2 x pair]`.

        The fields f and g of a pair obey f (1 + eta) + g (1 - eta) = c P, c being the pair's gain
        and eta the change between its two exposures. With s = f + g and d = f - g, both follow by
        least squares, |s + eta d - c P|^2 over the modes. Where one exposure is dark, eta is 0.
        """
        del n_modes
        G = products
        PP, Ps, Pd = G[:, 0, 0], G[:, 0, 1] + G[:, 0, 2], G[:, 0, 1] - G[:, 0, 2]
        own = G[:, 1, 1] + G[:, 2, 2]
        dd = (own - G[:, 1, 2] - G[:, 2, 1]).real
        ds = G[:, 1, 1] + G[:, 1, 2] - G[:, 2, 1] - G[:, 2, 2]
        free = dd * (1 + _STEADY) - np.abs(Pd) ** 2 / PP.real
        eta = -(ds - Ps * Pd.conj() / PP) / np.maximum(free, 1e-30)
        powers = np.stack([G[:, 1, 1].real, G[:, 2, 2].real])
        eta[powers.min(axis=0) < _DARK * powers.max(axis=0)] = 0
        c = (Ps + eta * Pd) / PP
        return (c[:, None] / np.stack([1 + eta, 1 - eta], axis=1)).ravel()

    def signed(self, fields: Fields, common: Fields, off: Fields) -> Fields:
        """T (2v - 1) of each pair: the difference."""
        del common, off
        return fields[0::2] - fields[1::2]

    def halves(self, fields: Fields, common: Fields, off: Fields) -> tuple[Fields, Fields]:
        """T (2v - 1) by each exposure of a pair alone, with the common sum."""
        del off
        return 2 * fields[0::2] - common, common - 2 * fields[1::2]


def with_complements(vectors: Bits) -> Bits:
    """Each vector followed by its complement: uint8 `[2 x vector, input]`."""
    return np.stack([vectors, 1 - vectors], axis=1).reshape(-1, vectors.shape[1])


def _overlap(
    fields: NDArray[np.complex64], reference: NDArray[np.complex64]
) -> NDArray[np.complex128]:
    overlap: NDArray[np.complex128] = (fields @ reference.conj()).astype(np.complex128)
    return overlap / float(np.vdot(reference, reference).real)
