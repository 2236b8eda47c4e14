"""How fast the interferometer's phase walks, and how often a reference is worth its exposure.

Between references n exposures apart, the phase changes by

    <(phi(t + n) - phi(t))^2> = 2 jitter^2 + walk^2 n:

a random walk, and a deviation of each exposure by itself (vibration, and the camera's noise).
Interpolated between references d apart, the walk is missed by walk^2 d / 6 (the mean variance of a
Brownian bridge), which more references cure; jitter they do not.

A vibration that is quicker than the references looks like jitter to them, and more of them would
follow it. Neighbouring exposures tell: they share a vibration, but no jitter.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

TARGET_RAD = 0.03
"""Phase error between references to aim at, rms: a correlation of 0.9995."""

SHORTEST, LONGEST = 4, 256
"""Smallest and largest interval between references that is chosen."""

START = 16
"""The interval before anything is known: safe up to a walk of 0.1 rad an exposure."""

_MEMORY = 0.85  # of one sequence to the next
_TOLD = 6.0  # pairs of neighbours that are enough to doubt the jitter,
_DOUBTFUL = 3.0  # and how many times more of it than they show is doubtful
_GROWTH = 2  # of the interval, from one sequence to the next, at most


class PhaseWalk:
    """What the references of past sequences have told of walk and jitter.

    Attributes:
        interval: Exposures between two references that the walk asks for now.
    """

    def __init__(self) -> None:
        self.interval = START
        self._walk = 6 * TARGET_RAD**2 / START  # rad^2 an exposure: what START is safe for
        self._jitter = 0.0  # 2 jitter^2, rad^2
        # Normal equations of (2 jitter^2, walk^2), begun with one reference that saw that walk.
        self._neighbours = np.zeros(2)  # how many pairs of them, and their squares' sum, rad^2
        self._products = np.outer([1.0, START], [1.0, START])
        self._seen = np.array([1.0, START]) * self._walk * START

    @property
    def walk_rad(self) -> float:
        """Step of the phase from one exposure to the next, rms."""
        return math.sqrt(self._walk)

    @property
    def jitter_rad(self) -> float:
        """Deviation of the phase in each exposure alone, rms."""
        return math.sqrt(self._jitter / 2)

    def see(self, phases: NDArray[np.float64], positions: NDArray[np.int64]) -> None:
        """Learn from the references of one sequence.

        Args:
            phases: Their phases `[reference]`, unwrapped, rad.
            positions: Their exposures' numbers, rising.
        """
        self._products *= _MEMORY
        self._seen *= _MEMORY
        apart = 1
        while apart < len(phases):  # 1, 2, 4, ... references apart
            squares = (phases[apart:] - phases[:-apart]) ** 2
            exposures = (positions[apart:] - positions[:-apart]).astype(np.float64)
            model = np.stack([np.ones_like(exposures), exposures])
            # A squared Gaussian scatters by itself, and pairs that overlap tell the same twice. The
            # weights are relative ones: a bench that has become calm or restless is soon believed.
            scatter = self._jitter + self._walk * exposures + 1e-12
            typical = self._jitter + self._walk * (positions[-1] - positions[0]) / len(phases)
            weights = ((typical + 1e-12) / scatter) ** 2 / apart
            self._products += (model * weights) @ model.T
            self._seen += (model * weights) @ squares
            apart *= 2
        self._jitter, self._walk = _not_negative(self._products, self._seen)
        self._doubt_jitter(phases, positions)
        wanted = 6 * TARGET_RAD**2 / max(self._walk, 1e-12)
        self.interval = int(np.clip(min(wanted, _GROWTH * self.interval), SHORTEST, LONGEST))

    def _doubt_jitter(self, phases: NDArray[np.float64], positions: NDArray[np.int64]) -> None:
        """Take for walk what does not show between neighbouring exposures."""
        squares = np.diff(phases)[np.diff(positions) == 1] ** 2
        self._neighbours = _MEMORY * self._neighbours + (len(squares), squares.sum())
        pairs, total = self._neighbours.tolist()
        if pairs >= _TOLD and self._jitter > _DOUBTFUL * total / pairs:
            self._jitter = total / pairs
            rest = self._seen[1] - self._jitter * self._products[0, 1]
            self._walk = max(float(rest / self._products[1, 1]), self._walk)

    def smoothed(
        self, phases: NDArray[np.float64], positions: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """The walk alone, as likely as the phases of the references leave it: without jitter.

        It minimises sum (theta - phi)^2 / jitter^2 + sum (theta' - theta)^2 / (walk^2 n).
        """
        if not self._jitter > 0 or not self._walk > 0 or len(phases) < 2:
            return phases
        stiffness = 0.5 * self._jitter / (self._walk * np.diff(positions))
        bands = np.zeros((2, len(phases)))
        bands[0, 1:] = -stiffness
        bands[1] = 1
        bands[1, 1:] += stiffness
        bands[1, :-1] += stiffness
        walk: NDArray[np.float64] = scipy.linalg.solveh_banded(bands, phases)
        return walk


def _not_negative(products: NDArray[np.float64], seen: NDArray[np.float64]) -> tuple[float, float]:
    """The least-squares solution of two normal equations in which neither unknown is negative."""
    constant, slope = np.linalg.lstsq(products, seen)[0].tolist()
    if constant < 0:
        return 0.0, float(seen[1] / products[1, 1])
    if slope < 0:
        return float(seen[0] / products[0, 0]), 0.0
    return constant, slope
