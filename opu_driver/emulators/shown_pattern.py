"""What an emulated modulator publishes: each pattern, when it was shown, and on which mirrors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ShownPattern:
    """One pattern as it was shown.

    Attributes:
        index: Its number since the emulator was made, from 0.
        time_s: When the mirrors were switched, on the clock of `time.monotonic`, seconds.
        edge: Whether the trigger output gave its edge.
        mirrors: The mirrors from then on: uint8 `[row, ceil(columns / 8)]`, eight a byte, the
            leftmost in the most significant bit.
    """

    index: int
    time_s: float
    edge: bool
    mirrors: NDArray[np.uint8]


Fault = Literal["lost edge", "dropped picture", "doubled picture"]
"""What can go wrong with a pattern: no trigger edge; the mirrors stay as they were; shown twice."""
