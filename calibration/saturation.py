"""Pixels at full scale, behind which the field is lost."""

from __future__ import annotations

import math

import numpy as np

from opu_driver.camera import Frames
from opu_driver.errors import SaturationError


def saturated_pixels(frames: Frames, saturation_level: float) -> int:
    """How many pixels of the frames are full."""
    if frames.dtype.kind == "f":
        return int(np.count_nonzero(frames >= saturation_level))
    level = frames.dtype.type(math.ceil(saturation_level))  # compared as integers: ten times faster
    return int(np.count_nonzero(frames >= level))


def refuse_saturation(fraction: float, allowed: float) -> None:
    """Raise if more than the allowed fraction of pixels is full.

    Raises:
        SaturationError: It is.
    """
    if fraction > allowed:
        raise SaturationError(
            f"{fraction:.2%} of the pixels are at full scale; up to {allowed:.2%} are allowed. "
            "Shorten the exposure or lower the laser power."
        )
