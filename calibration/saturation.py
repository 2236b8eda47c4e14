"""Pixels at full scale, behind which the field is lost."""

from __future__ import annotations

import math

import numpy as np

from calibration.threads import processors, share
from opu_driver.bench import Sequence
from opu_driver.camera import Frames
from opu_driver.errors import SaturationError

_FEW_VALUES = 16
_STEPS = 64  # of the range of grey values
_PILE = 3.0  # times the pixels of the next step: speckle piles up by less than 1,
_LEAST_PILE = 12  # by chance

_PIXELS = 1 << 20  # looked at at a time


def saturated_fraction(frames: Frames, saturation_level: float) -> float:
    """Which fraction of the pixels is full."""
    # A float would turn every pixel into one.
    level = math.ceil(saturation_level) if frames.dtype.kind in "ui" else saturation_level
    step = max(_PIXELS // max(frames[0].size, 1), 1) if len(frames) else 1
    full = np.zeros(-(-len(frames) // step), np.int64)

    def count(begin: int, end: int) -> None:
        for k in range(begin, end):
            some = frames[k * step : (k + 1) * step]
            if some.max() >= level:  # seldom, and ten times slower to count
                full[k] = np.count_nonzero(some >= level)

    share(count, len(full), processors())
    return float(full.sum() / max(frames.size, 1))


def clipped(frames: Frames) -> tuple[float, float]:
    """The grey value at which pixels pile up as behind a stop, and the fraction of them there.

    The grey values of light thin out towards the brightest. Where the brightest of all has more
    pixels than a whole step below it, of a 64th of the frames' range, something else has cut them
    off, whatever the camera's full scale is said to be. Frames of fewer than 16 grey values tell
    nothing: there a value is a step by itself.

    Returns:
        (value, fraction); the fraction is 0 where nothing piles up.
    """
    top, bottom = float(frames.max()), float(frames.min())
    whole = frames.dtype.kind in "ui"
    if top <= bottom or (whole and top - bottom < _FEW_VALUES):
        return top, 0.0
    step = (top - bottom) / _STEPS
    step = float(np.ceil(step)) if whole else step
    high = frames[frames >= top - step]
    piled = int(np.count_nonzero(high == top))
    if piled < _LEAST_PILE or piled < _PILE * (high.size - piled):
        return top, 0.0
    return top, piled / frames.size


def checked_saturation(sequence: Sequence, saturation_level: float, allowed: float) -> float:
    """Fraction of full pixels in a sequence; its own frames and its markers each have to pass.

    The markers are few and the brightest of all: where they saturate, the measured gain is wrong
    long before it shows in the mean over all frames.

    Raises:
        SaturationError: More than the allowed fraction of pixels is full.
    """
    fractions = {
        "frames": saturated_fraction(sequence.frames, saturation_level),
        "markers": saturated_fraction(sequence.markers, saturation_level),
    }
    for name, fraction in fractions.items():
        if fraction > allowed:
            raise SaturationError(
                f"{fraction:.2%} of the pixels of the {name} are at full scale; up to "
                f"{allowed:.2%} are allowed. Shorten the exposure or lower the laser power."
            )
    refuse_clipped(sequence.markers[:1], allowed)  # the brightest frame of all
    return fractions["frames"]


def refuse_clipped(frames: Frames, allowed: float) -> None:
    """Raise if the light is cut off below the full scale that the camera states.

    Raises:
        SaturationError: More than the allowed fraction of pixels piles up at one value.
    """
    value, fraction = clipped(frames)
    if fraction > allowed:
        raise SaturationError(
            f"{fraction:.2%} of the pixels have the largest grey value of all, {value:g}, and "
            f"hardly any are just below: they are cut off there. Up to {allowed:.2%} are allowed. "
            "Shorten the exposure or lower the laser power; look at the camera's gain, pixel "
            "format and full scale."
        )
