"""The proof that frames belong to their patterns."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from opu_driver.camera import FrameBlock, Frames

CLEAR = 5.0
"""Deviations by which a lit frame has to differ from a dark one."""


def joined(blocks: list[FrameBlock]) -> FrameBlock:
    """Blocks of one sequence as one."""
    if len(blocks) == 1:
        return blocks[0]
    return FrameBlock(
        np.concatenate([block.frames for block in blocks]),
        np.concatenate([block.ids for block in blocks]),
        np.concatenate([block.timestamps_us for block in blocks]),
        blocks[-1].lost,
    )


def first_slip(block: FrameBlock, period_us: float, otherwise: int) -> int:
    """Index of the first frame whose counter or time does not follow the frame before it.

    Args:
        block: Frames in the order of their exposure.
        period_us: Time between two patterns, microseconds.
        otherwise: What to return if all frames follow.
    """
    gaps: NDArray[np.bool_] = np.diff(block.ids) != 1
    times = np.diff(block.timestamps_us)
    gaps |= np.abs(times - period_us) > 0.25 * period_us  # NaN, no clock, is no evidence
    return int(np.argmax(gaps)) + 1 if gaps.any() else otherwise


def variance(frame: Frames) -> tuple[float, float]:
    """Variance of a frame's grey values, which fringes and speckle raise, and its scatter.

    The scatter comes from the frame's own fourth moment: a dark frame has few grey values, and is
    far from Gaussian.
    """
    squares = (frame.astype(np.float64) - float(frame.mean(dtype=np.float64))) ** 2
    return float(squares.mean()), float(squares.std() / math.sqrt(squares.size))


def markers_in_place(markers: Frames) -> bool:
    """Whether marker frames `[3, row, column]` show on, on, off."""
    (first, doubt_1), (on, doubt_2), (off, doubt_3) = map(variance, markers)
    likely = min(first - off, on - off) > CLEAR * math.hypot(doubt_1, doubt_2, doubt_3)
    alike = 0.5 * (on - off) < first - off < 2.0 * (on - off)
    return likely and alike


def frame_offset(frames: Frames, lit: NDArray[np.bool_]) -> int | None:
    """By how many frames a run lags behind its patterns.

    Args:
        frames: `[frame, row, column]`, a run of patterns, all on or all off.
        lit: `[pattern]`, which were on: an irregular order that ends with dark patterns, so that
            no lag looks like another.

    Returns:
        k, if frame i + k shows pattern i for all of them and no other k does; None if the frames
        do not tell.
    """
    contrast = np.array([variance(frame)[0] for frame in frames])
    middle = (contrast.min() + contrast.max()) / 2
    doubt = max(variance(frame)[1] for frame in frames)
    if contrast.max() - contrast.min() < CLEAR * doubt:
        return None
    seen = contrast > middle
    fitting = [k for k in range(len(lit)) if _lags_by(k, seen, lit)]
    return fitting[0] if len(fitting) == 1 else None


def _lags_by(k: int, seen: NDArray[np.bool_], lit: NDArray[np.bool_]) -> bool:
    """Whether `seen` is `lit`, k frames later; before it come frames of darkness."""
    kept = len(lit) - k
    on = int(lit.sum())
    return (
        bool(lit[:kept].sum() == on)
        and bool((seen[k:] == lit[:kept]).all())
        and not bool(seen[:k].any())
    )
