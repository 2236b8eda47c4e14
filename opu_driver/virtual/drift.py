"""What changes the light from frame to frame: the laser's power and the interferometer's phase."""

from __future__ import annotations

import math
from functools import cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from opu_driver.virtual.settings import SceneSettings


class Light:
    """Relative power and phase of each frame, functions of seed and frame alone.

    Power: `(1 + drift)(1 + noise)` with a stationary Ornstein-Uhlenbeck drift. Phase: a random
    walk and an independent deviation in each frame.

    Args:
        settings: Of the scene.
        seed: Of all that is random here.
    """

    def __init__(self, settings: SceneSettings, seed: int) -> None:
        self._settings = settings
        self._seed = seed
        self._phase = 0.0
        self._memory = math.exp(-1 / settings.laser_drift_frames)
        self._drift = float(normals(seed, 4, np.zeros(1, np.int64))[0])

    def frames(self, ages: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Relative power and phase (rad) of the next frames; ages are consecutive."""
        s = self._settings
        steps = s.phase_walk_rad * normals(self._seed, 0, ages)
        walk = np.array(list(accumulate(steps, initial=self._phase)))
        self._phase = float(walk[-1])
        phases = walk[1:] + s.phase_jitter_rad * normals(self._seed, 1, ages)
        renewed = math.sqrt(1 - self._memory**2) * normals(self._seed, 2, ages)
        drift = np.array(
            list(accumulate(renewed, lambda x, new: self._memory * x + new, initial=self._drift))
        )
        self._drift = float(drift[-1])
        noise = s.laser_noise * normals(self._seed, 3, ages)
        return np.maximum((1 + s.laser_drift * drift[1:]) * (1 + noise), 0), phases

    def rest(self, age: int, frames: int) -> None:
        """Drift on over a number of frames in which nothing is exposed."""
        once = np.array([age])
        self._phase += (
            math.sqrt(frames)
            * self._settings.phase_walk_rad
            * float(normals(self._seed, 0, once)[0])
        )
        memory = self._memory**frames
        new = float(normals(self._seed, 2, once)[0])
        self._drift = memory * self._drift + math.sqrt(1 - memory**2) * new


def normals(seed: int, stream: int, index: NDArray[np.int64]) -> NDArray[np.float64]:
    """Standard normal deviates, functions of (seed, stream, index)."""
    # 52 bits and a half: never 0 or 1, where the quantile is infinite.
    chances = ((random_bits(seed, stream, index) >> np.uint64(12)).astype(np.float64) + 0.5) / 2**52
    deviates: NDArray[np.float64] = ndtri(chances)
    return deviates


def random_bits(seed: int, stream: int, index: NDArray[np.int64]) -> NDArray[np.uint64]:
    """64 random bits each, functions of (seed, stream, index): SplitMix64 of a counter."""
    mixed = _start(seed, stream) + index.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits: NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
    return bits


@cache
def _start(seed: int, stream: int) -> np.uint64:
    return np.uint64(np.random.SeedSequence([seed, stream]).generate_state(1, np.uint64)[0])
