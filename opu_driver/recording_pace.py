"""How many patterns to show at a time, so that their frames are on disk soon after."""

from __future__ import annotations

import time

from opu_driver.bench import MARKERS

AIM_S = 0.5
"""Time of a sequence, its writing included; its frames are lost if the process is killed."""

FEWEST = 4
"""Patterns beside which the markers still leave a recording some room, however slow the bench."""

_MOST = 512
_STEP = 4  # by which a sequence grows over the one before, and shrinks after one that failed


class Pace:
    """The length of sequences, from the time that those before have taken.

    What a bench can do at best says little: stepped by software it is ten times slower, and so is
    a slow disk. So sequences begin short, and grow while they stay within `AIM_S`. After one whose
    frames could not be proven they are shorter: a line that drops an edge now and then lets short
    ones pass.

    Args:
        most: The longest that there is room for, patterns; at least 1.
    """

    def __init__(self, most: int) -> None:
        self._most = max(min(most, _MOST), 1)
        self._began_s = now_s()
        self.length = min(FEWEST, self._most)

    def begin(self) -> None:
        """The bench goes on now, and not before."""
        self._began_s = now_s()

    def done(self, patterns: int) -> None:
        """A sequence of so many patterns is on disk."""
        each_s = max(now_s() - self._began_s, 1e-6) / (patterns + MARKERS)
        self._set(min(AIM_S / each_s - MARKERS, _STEP * patterns))
        self.begin()

    def refused(self) -> None:
        """The frames of a sequence could not be proven."""
        self._set(self.length / _STEP)
        self.begin()

    def _set(self, wanted: float) -> None:
        self.length = min(max(int(wanted), FEWEST), self._most)


def now_s() -> float:
    """The clock."""
    return time.perf_counter()
