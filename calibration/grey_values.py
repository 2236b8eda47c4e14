"""The grey values of frames, in one pass: how often each occurs, and each pixel's mean and scatter.

What needs to know the black level or full scale is derived afterwards, so that these may be guessed
from the same pass, and each number of a file has one origin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

_MOST_BINS = 1 << 16


@dataclass(frozen=True)
class GreyHistogram:
    """How often grey values occur.

    Attributes:
        counts: int64 `[bin]`; bin k holds values from `(first + k) width` on.
        first: Number of the first bin.
        width: Grey values a bin: 1 for whole ones, unless there are more than 65536 of them.
    """

    counts: NDArray[np.int64]
    first: int
    width: float

    @property
    def total(self) -> int:
        """Pixels in all."""
        return int(self.counts.sum())

    @property
    def values(self) -> NDArray[np.float64]:
        """The least grey value of each bin, float64 `[bin]`."""
        return np.arange(self.first, self.first + len(self.counts)) * np.float64(self.width)

    @property
    def brightest(self) -> float:
        """The highest grey value; NaN without any."""
        some = np.flatnonzero(self.counts)
        return float(self.first + some[-1]) * self.width if some.size else math.nan

    def quantile(self, share: float) -> float:
        """The grey value that this share of the pixels is not brighter than; NaN without any."""
        if not self.total:
            return math.nan
        at = int(np.searchsorted(np.cumsum(self.counts), share * self.total))
        return float(self.values[at])

    def fraction_from(self, level: float) -> float:
        """Share of the pixels at a grey value or above, to the width of a bin."""
        at = math.ceil(level) if self.width == 1 else math.floor(level / self.width)
        from_bin = max(at - self.first, 0)
        return float(self.counts[from_bin:].sum()) / max(self.total, 1)


@dataclass(frozen=True)
class GreyValues:
    """What one pass over frames gathers.

    Attributes:
        histogram: Of all frames.
        whole: Whether grey values are whole numbers.
        mean: float64 `[row, column]`, mean over the frames.
        deviation: float64 `[row, column]`, standard deviation over the frames.
        frame_mean: float64 `[frame]`.
        frame_deviation: float64 `[frame]`, standard deviation within the frame.
        not_finite: Share of values that are no numbers; they are left out of all the others.
    """

    histogram: GreyHistogram
    whole: bool
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    frame_mean: NDArray[np.float64]
    frame_deviation: NDArray[np.float64]
    not_finite: float

    @classmethod
    def of(cls, frames: Any, progress: Callable[[int, int], None] | None = None) -> Self:
        """Those of frames `[frame, row, column]`, taken one by one.

        Args:
            frames: An array, or what reads them where it is iterated over; one frame at least.
            progress: Is told (frames done, frames in all).
        """
        histogram = _Counter(frames.dtype)
        images = _Images(frames.shape[1:])
        means, deviations, missing = [], [], 0
        for done, frame in enumerate(_each(frames), 1):
            finite = np.isfinite(frame) if frame.dtype.kind == "f" else None
            if finite is not None and not finite.all():
                missing += int(finite.size - np.count_nonzero(finite))
                known = frame[finite]
                middle = known.mean(dtype=np.float64) if known.size else 0.0
                frame, counted = np.where(finite, frame, middle), known
            else:
                counted = frame
            mean, deviation = histogram.add(counted)
            means.append(mean)
            deviations.append(deviation)
            images.add(frame)
            if progress is not None:
                progress(done, len(frames))
        mean_image, deviation_image = images.moments()
        return cls(
            histogram.result(),
            frames.dtype.kind in "ui",
            mean_image,
            deviation_image,
            np.array(means),
            np.array(deviations),
            missing / (len(means) * mean_image.size),
        )


def _each(frames: Any) -> Iterable[NDArray[Any]]:
    return (np.asarray(frame) for frame in frames)


class _Images:
    """Mean and deviation of each pixel, about the first frame so that nothing cancels."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._first: NDArray[np.float32] | None = None
        self._total = np.zeros(shape)
        self._squares = np.zeros(shape)
        self._count = 0

    def add(self, frame: NDArray[Any]) -> None:
        grey = frame.astype(np.float32)
        if self._first is None:
            self._first = grey.copy()
        grey -= self._first
        self._total += grey
        self._squares += np.square(grey, out=grey)
        self._count += 1

    def moments(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        mean = self._total / max(self._count, 1)
        variance = self._squares / max(self._count, 1) - mean**2
        first = 0.0 if self._first is None else self._first
        return mean + first, np.sqrt(np.maximum(variance, 0.0))


class _Counter:
    """A histogram whose bins grow wider when the values that come need it."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._few = dtype in (np.dtype(np.uint8), np.dtype(np.uint16))
        self._whole = dtype.kind in "ui"
        self._counts = np.zeros(0, np.int64)
        self._first = 0
        self._width = 1.0 if self._whole else 0.0

    def add(self, values: NDArray[Any]) -> tuple[float, float]:
        """Count values; their mean and deviation, NaN without any."""
        if not values.size:
            return math.nan, math.nan
        if self._few:
            counts = np.bincount(values.ravel(), minlength=1 << 8 * values.dtype.itemsize)
            self._join(counts, 0)
            grey = np.arange(len(counts), dtype=np.float64)
            mean = float(counts @ grey) / values.size
            return mean, math.sqrt(float(counts @ (grey - mean) ** 2) / values.size)
        low, high = float(values.min()), float(values.max())
        self._widen(low, high)
        bins = np.floor(values.ravel() / self._width).astype(np.int64)
        self._join(np.bincount(bins - bins.min()), int(bins.min()))
        return float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))

    def result(self) -> GreyHistogram:
        some = np.flatnonzero(self._counts)
        if not some.size:
            return GreyHistogram(np.zeros(1, np.int64), 0, self._width or 1.0)
        kept = slice(some[0], some[-1] + 1)
        return GreyHistogram(self._counts[kept], self._first + int(some[0]), self._width)

    def _widen(self, low: float, high: float) -> None:
        if not self._width:
            span = (high - low) or abs(high) or 1.0
            self._width = 2.0 ** math.ceil(math.log2(16 * span / _MOST_BINS))
        if self._counts.size:
            low = min(low, self._first * self._width)
            high = max(high, (self._first + len(self._counts) - 1) * self._width)
        while math.floor(high / self._width) - math.floor(low / self._width) >= _MOST_BINS:
            self._width *= 2
            odd = self._first % 2
            even = np.pad(self._counts, (odd, (odd + len(self._counts)) % 2))
            self._counts = even.reshape(-1, 2).sum(axis=1)
            self._first = (self._first - odd) // 2

    def _join(self, counts: NDArray[np.int64], first: int) -> None:
        if not self._counts.size:
            self._counts, self._first = counts.astype(np.int64), first
            return
        start = min(self._first, first)
        end = max(self._first + len(self._counts), first + len(counts))
        if (start, end) != (self._first, self._first + len(self._counts)):
            after = end - self._first - len(self._counts)
            self._counts = np.pad(self._counts, (self._first - start, after))
            self._first = start
        self._counts[first - start : first - start + len(counts)] += counts


def guess_full_scale(values: GreyValues, dtype: np.dtype[Any]) -> tuple[float, str] | None:
    """The grey value of a full pixel where nobody tells it, from the values that occur.

    Cameras count in 8, 10, 12, 14 or 16 bits. In wider words they stand at the right, where the
    brightest value tells the fewest bits that hold it, or at the left, where all values are
    multiples of a power of two.

    Returns:
        (the value, why); None for numbers that are not whole, or all of them 0.
    """
    if dtype == np.uint8:
        return 255.0, "8 bits"
    histogram = values.histogram
    if not values.whole or histogram.width != 1 or not histogram.brightest > 0:
        return None
    occurring = histogram.first + np.flatnonzero(histogram.counts)
    together = int(np.bitwise_or.reduce(np.abs(occurring)))
    shift = (together & -together).bit_length() - 1
    brightest = histogram.brightest
    if shift >= 2 and len(occurring) > 2 and dtype.itemsize == 2:
        bits = next(bits for bits in (8, 10, 12, 14) if bits >= 16 - shift)
        return float(((1 << bits) - 1) << (16 - bits)), (
            f"{bits} bits at the left of 16, as all values are multiples of {1 << shift}"
        )
    for bits in (8, 10, 12, 14, 16):
        if brightest < 1 << bits:
            return float((1 << bits) - 1), f"{bits} bits, as the brightest value is {brightest:g}"
    return None
