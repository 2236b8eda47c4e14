"""What a recording holds, as figures and as a table for the terminal."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.terminal import facts

if TYPE_CHECKING:
    from rich.table import Table

    from calibration.carrier import Carrier
    from calibration.grey_values import GreyValues
    from calibration.speckle import Light
    from opu_driver.recording import Recording


def recording_figures(recording: Recording) -> dict[str, Any]:
    """What can be measured on the frames of a recording."""
    from calibration.grey_values import GreyValues
    from calibration.speckle import Light
    from tools.frame_files import recorded_stack
    from tools.frame_view import Levels, find_carrier_of

    if not len(recording):
        return measured_figures(recording, None, None, "no frames")
    stack = recorded_stack(recording)
    grey = GreyValues.of(stack.frames)
    levels = Levels.of(stack, grey, None, None)
    light = Light.from_grey(grey, black_level=levels.black, saturation_level=levels.full)
    return measured_figures(recording, grey, light, find_carrier_of(stack, levels)[0])


def measured_figures(
    recording: Recording, grey: GreyValues | None, light: Light | None, carrier: Carrier | str
) -> dict[str, Any]:
    """The figures of a recording whose frames were measured; without any, those are NaN."""
    import numpy as np

    from opu_driver.exposure_run import settings_told

    conditions = recording.conditions
    mean = math.nan if grey is None else float(grey.frame_mean.mean())
    scale = conditions.saturation_level - conditions.black_level
    return {
        "conditions": conditions,
        "frames": len(recording),
        "frames_asked_for": recording.n_asked,
        "frames_refused": recording.refused,
        "complete": recording.complete,
        "settings": settings_told(conditions, recording.runs),
        "patterns": len(np.unique(recording.shown)),
        "mean_grey": mean,
        "mean_fraction": (mean - conditions.black_level) / scale,
        "contrast": math.nan if light is None else light.contrast,
        "saturated_fraction": math.nan if light is None else light.saturated_fraction,
        "carrier": carrier,
    }


def recording_table(path: Path, figures: dict[str, Any]) -> Table:
    """The figures of a recording as a table for the terminal."""
    c = figures["conditions"]
    region = c.settings.region
    missing = (figures["frames_asked_for"] or 0) - figures["frames"]
    carrier = figures["carrier"]
    if not isinstance(carrier, str):
        carrier = (
            f"({carrier.row:+.5f} ± {carrier.row_sigma:.1g}, {carrier.column:+.5f} ± "
            f"{carrier.column_sigma:.1g}) cycles/pixel, radius {carrier.radius:.4f}, "
            f"grain {carrier.grain:.2f} pixels"
        )
    return facts(
        f"Recording {path}",
        {
            "frames": f"{figures['frames']} of {region.height} × {region.width} pixels, "
            f"{c.settings.pixel_format.value}"
            + (f"; {missing} more were asked for" if missing > 0 else "")
            + ("" if figures["complete"] else ": it is not complete"),
            "refused": f"{figures['frames_refused']} frames of sequences that could not be proven",
            "patterns": f"{figures['patterns']} ({c.subject})",
            "began": f"{c.began_at}, opu {c.software}",
            "bench": c.bench,
            **{kind: str(who) for kind, who in c.identities.items()},
            **figures["settings"],
            "mean": f"{figures['mean_grey']:.4g} grey values, "
            f"{figures['mean_fraction']:.2%} of full scale",
            "contrast": f"{figures['contrast']:.3f} (deviation over mean, fringes included)",
            "saturated pixels": f"{figures['saturated_fraction']:.2g}",
            "carrier": carrier,
        }.items(),
    )
