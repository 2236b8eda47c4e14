"""Pixels at full scale, behind which the field is lost."""

from __future__ import annotations

import numpy as np

from opu_driver.bench import Sequence
from opu_driver.camera import Frames
from opu_driver.errors import SaturationError


def saturated_fraction(frames: Frames, saturation_level: float) -> float:
    """Which fraction of the pixels is full."""
    if frames.max() < saturation_level:  # the usual case, and ten times faster than to count
        return 0.0
    return float(np.count_nonzero(frames >= saturation_level) / frames.size)


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
    return fractions["frames"]
