"""Which frames came and which did not, told from the counter that a camera puts on each."""

from __future__ import annotations


class FrameCount:
    """Follows the frames of one `arm`.

    Args:
        first: The counter of the first frame; None where the camera goes on from before, or where
            nobody knows: then the first frame that comes is frame 0.
        period: How many values the counter has before it begins again; None if it never does. GigE
            Vision counts 1 to 65535, a period of 65535.
    """

    def __init__(self, first: int | None = 0, period: int | None = None) -> None:
        self._first = first
        self._period = period
        self._index = -1
        self._highest = -1
        self._whole = 0
        self._spoilt = 0

    def whole(self, counter: int | None) -> int:
        """Place a frame that came whole.

        Args:
            counter: The camera's own count, None where it keeps none.

        Returns:
            The frame's number since `arm`, beginning with 0.
        """
        self._whole += 1
        return self._place(counter)

    def spoilt(self, counter: int | None) -> None:
        """Count a frame that did not come whole; without a counter its place is not known."""
        self._spoilt += 1
        if counter is not None:
            self._place(counter)

    @property
    def lost(self) -> int:
        """Frames that came spoilt or not at all, as far as the counter tells by now."""
        return max(self._highest + 1 - self._whole, self._spoilt)

    @property
    def accounted(self) -> int:
        """Frames whose fate is known: they came whole, or are lost."""
        return self._whole + self.lost

    def _place(self, counter: int | None) -> int:
        if counter is None:
            self._index += 1
        else:
            if self._first is None:
                self._first = counter
            index = counter - self._first
            if self._period is not None:
                # The place nearest to the frame before: frames may come late, and counters wrap.
                step = (index - self._index) % self._period
                index = self._index + (step if 2 * step <= self._period else step - self._period)
            self._index = index
        self._highest = max(self._highest, self._index)
        return self._index
