"""On a phase modulator: the inputs of a vector step through four phases, the others stand still.

With the inputs of v at phase k pi/2 and all others at 0, the field is

    y_k = g_k (c + i^k a),   a = T v,   c = T (1 - v) + y(0),   k = 0 ... 3.

Every input is lit all the time, and the four exposures give two fields with a quarter of the
variance each: the mean over the steps is c, the mean of i^-k y_k is a. Their difference is
T (2v - 1) + y(0).

All first steps show everything at phase 0: their common field P = a + c gives g_0. From it follow
the others, since y_k / g_k = P + (i^k - 1) a has only one more unknown, a, for three steps:

    2 y_1 / g_1 - (1 - i) y_2 / g_2 = (1 + i) P,   2 y_3 / g_3 - (1 + i) y_2 / g_2 = (1 - i) P.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from calibration.scheme import Fields, Gains, Products, dominant
from calibration.vectors import Bits
from opu_driver.layout import Layout
from opu_driver.modulator import Patterns

_STEPS = 4
_STEADY = 1e-3  # what holds the gains near g_0, beside the noise's own scatter
_ALONE = 0.9  # fidelity to P of the field half a turn on, above which a or c is taken to be dark


@dataclass(frozen=True)
class PhaseSteps:
    """Four exposures a vector."""

    steps: ClassVar[int] = _STEPS
    noise: ClassVar[float] = 0.5

    def exposures(self, vectors: int) -> int:
        """How many exposures a run of so many vectors takes."""
        return _STEPS * vectors

    def most(self, room: int) -> int:
        """How many vectors a run of at most `room` exposures can have."""
        return room // _STEPS

    def patterns(self, layout: Layout, bits: Bits) -> Patterns:
        """Each vector in four phases.

        Raises:
            PatternError: The modulator does not shift the phase by quarters of a turn.
        """
        quarters = np.arange(_STEPS, dtype=np.uint8)[:, None] * bits[:, None]
        return layout.render_phases(quarters.reshape(-1, layout.n_inputs), _STEPS)

    def telling(self, exposures: int) -> NDArray[np.intp]:
        """The first steps."""
        return np.arange(0, exposures, _STEPS)[:, None]

    def common(self, fields: Fields) -> Fields:
        """The field P `[mode]` of all inputs at phase 0."""
        return dominant(fields)

    def pair_sum(self, common: Fields, off: Fields) -> Fields:
        """P, and the static field once more."""
        return common + off

    def gains(self, products: Products, n_modes: int) -> Gains:
        """The gains `[4 x vector]`.

        g_0 by least squares against P, the inverses of the others by least squares of the two
        equations above, from which the noise in the fields' own products is subtracted.
        """
        G = products
        PP = G[:, 0, 0].real
        first = G[:, 0, 1] / PP
        scatter = (G[:, 1, 1].real - np.abs(G[:, 0, 1]) ** 2 / PP).mean() / max(n_modes - 1, 1)
        noise = float(scatter) * n_modes
        power = G[:, 1, 1].real
        steady = power * _STEADY + 4 * noise / np.sqrt(n_modes)

        # Unknowns u_1, u_2, u_3; each equation is a row of factors of y_1, y_2, y_3, and of P.
        equations = np.array([[2, -(1 - 1j), 0], [0, -(1 + 1j), 2]])
        targets = np.array([1 + 1j, 1 - 1j])
        own = G[:, 2:, 2:] - noise * np.eye(3)
        weights = equations.conj().T @ equations
        matrix = own * weights + steady[:, None, None] * np.eye(3)
        right = (equations.conj().T @ targets) * G[:, 2:, 0] + (steady / first)[:, None]
        inverse = np.linalg.solve(matrix, right[:, :, None])[:, :, 0]
        gains = np.concatenate([first[:, None], 1 / inverse], axis=1)

        # A vector that lights all or nothing leaves one field, and all gains as they are seen.
        seen = G[:, 0, 1:] / PP[:, None]
        alone = np.abs(G[:, 0, 3]) ** 2 > _ALONE * PP * np.maximum(power - noise, 0)
        turned = alone & ((seen[:, 2] * first.conj()).real < 0)
        turns = np.where(turned[:, None], _turns(seen[turned] / first[turned, None]), 1)
        return np.where(alone[:, None], seen / turns, gains).ravel()

    def signed(self, fields: Fields, common: Fields, off: Fields) -> Fields:
        """T (2v - 1) of each vector."""
        del common
        stepping, still = _harmonics(fields)
        return stepping - still + off

    def halves(self, fields: Fields, common: Fields, off: Fields) -> tuple[Fields, Fields]:
        """T (2v - 1) by the stepping inputs alone, and by those that stand still."""
        stepping, still = _harmonics(fields)
        return 2 * stepping - common + off, common - 2 * still + off


def _turns(seen: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """What is seen of P `[step]` while all that is lit steps: b + i^k (1 - b).

    What stands still is the static field, of which P has the part b: the mean over the steps, and
    over all vectors of the kind. The phase's own steps look like it, too: it counts for as much as
    it stands out of them (James and Stein's estimate).

    Args:
        seen: `[vector, step]`, overlaps with P, over those of the first step.
    """
    quarters: NDArray[np.complex128] = np.array([1, 1j, -1, -1j])
    if not len(seen):
        return quarters
    still = complex(seen.mean())
    missed = float(np.mean(np.abs(seen - still - quarters * (1 - still)) ** 2)) / len(seen) / 3
    still *= max(0.0, 1 - missed / max(abs(still) ** 2, 1e-30))
    return still + quarters * (1 - still)


def _harmonics(fields: Fields) -> tuple[Fields, Fields]:
    """The fields a of the inputs that step and c of those that do not, `[vector, mode]`."""
    zero, quarter, half, three = (fields[k::_STEPS] for k in range(_STEPS))
    stepping = zero - half - 1j * (quarter - three)
    still = zero + quarter + half + three
    return (stepping / 4).astype(np.complex64, copy=False), still / np.float32(4)
