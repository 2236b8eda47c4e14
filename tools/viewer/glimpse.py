"""What the window gets to see: the newest frame, and what its grey values mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

Frame = NDArray[Any]
"""Grey values `[row, column]`."""


@dataclass(frozen=True)
class GreyRange:
    """What grey values mean.

    Attributes:
        black: Mean grey value of a pixel without light.
        full: Grey value of a full pixel.
    """

    black: float
    full: float


@dataclass(frozen=True, eq=False)
class Glimpse:
    """One frame out of many, and what it takes to judge it.

    Attributes:
        number: Which frame it is, counted from the first; a new number is a new frame.
        frame: Grey values `[row, column]`.
        again: Another frame of the same pattern, for the noise; None if there is none.
        off: A frame with every input off, for the bias; None if there is none.
        grey: What the grey values mean.
        proven: Whether the frame is known to be the shown pattern's.
        setting: Another number is another exposure, whose levels are others; 0 for a live camera,
            whose levels whoever is at it sets.
    """

    number: int
    frame: Frame
    again: Frame | None
    off: Frame | None
    grey: GreyRange
    proven: bool = True
    setting: int = 0


class Feed(Protocol):
    """Where glimpses come from."""

    @property
    def newest(self) -> Glimpse | None:
        """The newest glimpse; None before the first."""

    def close(self) -> None:
        """Let go of whatever it comes from."""
