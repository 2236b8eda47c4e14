"""The figures of the last minutes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tools.viewer.analysis import Reading

SPAN_S = 300.0
"""How far back figures are kept, seconds."""


@dataclass(frozen=True)
class Trace:
    """One figure that is followed.

    Attributes:
        name: What a reading calls it.
        label: What it is called on the screen.
        form: How its value is written.
        scale: Units on its axis to one of the reading's.
        least: Least span of its axis, as a part of the value: smaller changes are noise.
    """

    name: str
    label: str
    form: str
    scale: float = 1.0
    least: float = 0.1


TRACES = (
    Trace("mean_grey", "mean grey", "{:.4g}"),
    Trace("saturated", "saturated (%)", "{:.2%}", scale=100.0, least=1.0),
    Trace("visibility", "visibility", "{:.3f}"),
    Trace("grain", "grain (pixels)", "{:.3f}"),
    Trace("snr", "signal to noise", "{:.3g}", least=0.5),
    Trace("focus", "focus", "{:.3g}"),
)


class History:
    """The readings of the last `SPAN_S` seconds."""

    def __init__(self) -> None:
        self._rows: deque[tuple[float, ...]] = deque()

    def __len__(self) -> int:
        """Readings that are kept."""
        return len(self._rows)

    def add(self, reading: Reading) -> None:
        """Keep the figures of a reading, and forget those that are too old."""
        self._rows.append((reading.at_s, *(getattr(reading, trace.name) for trace in TRACES)))
        while self._rows[0][0] < reading.at_s - SPAN_S:
            self._rows.popleft()

    def table(self, now_s: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Ages in seconds, up to 0, `[reading]`, and the figures `[trace, reading]`."""
        rows = np.array(self._rows, np.float64).reshape(-1, len(TRACES) + 1)
        return rows[:, 0] - now_s, rows[:, 1:].T
