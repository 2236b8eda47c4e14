"""What a recording holds, as figures and as a table for the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.terminal import facts

if TYPE_CHECKING:
    from rich.table import Table

    from opu_driver.recording import Recording

_CARRIER_FRAMES = 32


def recording_figures(recording: Recording) -> dict[str, Any]:
    """What can be measured on the frames of a recording."""
    import numpy as np

    from opu_driver.exposure_run import settings_told

    conditions = recording.conditions
    total, squares, saturated, pixels = 0.0, 0.0, 0, 0
    for block in recording.blocks():
        grey = block.astype(np.float64)
        total += float(grey.sum())
        squares += float(np.square(grey).sum())
        saturated += int(np.count_nonzero(block >= conditions.saturation_level))
        pixels += block.size
    mean = total / pixels if pixels else float("nan")
    deviation = float(np.sqrt(max(squares / pixels - mean**2, 0.0))) if pixels else float("nan")
    light = mean - conditions.black_level
    return {
        "conditions": conditions,
        "frames": len(recording),
        "frames_asked_for": recording.n_asked,
        "frames_refused": recording.refused,
        "complete": recording.complete,
        "settings": settings_told(conditions, recording.runs),
        "patterns": len(np.unique(recording.shown)),
        "mean_grey": mean,
        "mean_fraction": light / (conditions.saturation_level - conditions.black_level),
        "contrast": deviation / light if light > 0 else float("nan"),
        "saturated_fraction": saturated / pixels if pixels else float("nan"),
        "carrier": _carrier(recording),
    }


def _carrier(recording: Recording) -> Any:
    """The carrier of the first frames, or why there is none."""
    from calibration.carrier import find_carrier
    from opu_driver.errors import OpuError

    if not len(recording):
        return "no frames"
    conditions = recording.conditions
    try:
        return find_carrier(
            recording.frames(0, _CARRIER_FRAMES),
            saturation_level=conditions.saturation_level,
            black_level=conditions.black_level,
        )
    except OpuError as error:
        return str(error)


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
