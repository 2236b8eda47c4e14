"""`opu inspect`: what a calibration, a recording or any file of frames holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tools.json_file import JsonOption, write_json, write_text
from tools.terminal import facts, results, table

if TYPE_CHECKING:
    from rich.table import Table

    from opu_driver.recording import Recording
    from tools.frame_view import FrameView

_CARRIER_FRAMES = 32


def inspect(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A calibration, a recording, or frames of any program: TIFF, PNG, NumPy, HDF5, or "
            "a folder of images.",
        ),
    ],
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="PAGE", help="Write the pictures to a page, too."),
    ] = None,
    json: JsonOption = None,
) -> None:
    """Tell what a calibration, a recording or a file of frames holds, and how good it is."""
    from tools.frame_files import open_frames
    from tools.frame_view import COLUMNS, FrameView
    from tools.output_path import require_writable

    require_writable(html, json)
    if _is_calibration(file):
        _inspect_calibration(file, html, json)
        return
    with open_frames(file) as stack:
        told: dict[str, Any] = {}
        if stack.recording is not None:
            told = recording_figures(stack.recording)
            results().print(recording_table(file, told))
        if not len(stack):
            write_json(json, told)
            return
        view = FrameView.of(stack)
        findings = view.findings()
        rows, columns = stack.frames.shape[1:]
        title = f"{len(stack)} frames of {rows} × {columns} pixels ({stack.source})"
        results().print(table(title, COLUMNS, [finding.cells for finding in findings]))
        for finding in findings:
            if finding.good is False:
                results().print(f"{finding.name}: {finding.remedy}", highlight=False, markup=False)
        if html is not None:
            write_text(html, _page(file, view))
        write_json(json, told | {"view": view.figures()})


def _inspect_calibration(file: Path, html: Path | None, json: Path | None) -> None:
    from calibration.calibration_file import Calibration
    from tools.calibration_view import calibration_figures, calibration_settings, kept_page
    from tools.quality_table import quality_table

    calibration = Calibration.load(file)
    results().print(facts(f"Calibration {file}", calibration_settings(calibration).items()))
    results().print(quality_table(calibration.quality))
    if html is not None:
        write_text(html, kept_page(file.name, calibration))
    write_json(json, calibration_figures(calibration))


def _page(file: Path, view: FrameView) -> str:
    """The page of a file of frames."""
    from importlib.metadata import version

    from tools.report import Report

    stack = view.stack
    rows, columns = stack.frames.shape[1:]
    wrong = sum(finding.good is False for finding in view.findings())
    report = Report(
        f"Frames of {file.name}",
        f"{stack.source}. "
        + (f"{wrong} figures want a look." if wrong else "All figures are as they should be."),
        {
            "frames": str(len(stack)),
            "pixels": f"{rows} × {columns}",
            "contrast": f"{view.light.contrast:.3f}",
            "grain": "none" if view.grain is None else f"{view.grain[0]:.2f} px",
            "visibility": "-" if view.steady is None else f"{view.steady.visibility:.0%}",
        },
    )
    view.add_to(report)
    if stack.recording is not None:
        then = stack.recording.conditions
        report.section("Conditions")
        report.settings(
            {"bench": then.bench, "began": f"{then.began_at}, opu {then.software}"}
            | {kind: str(who) for kind, who in then.identities.items()}
            | then.environment
        )
    return report.html(f"opu {version('opu')}")


def _is_calibration(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(15) == b"opu-calibration"
    except OSError:
        return False


def recording_figures(recording: Recording) -> dict[str, Any]:
    """What can be measured on the frames of a recording."""
    import numpy as np

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
            + (f"; {missing} more were asked for: it is not complete" if missing > 0 else ""),
            "patterns": f"{figures['patterns']} ({c.subject})",
            "began": f"{c.began_at}, opu {c.software}",
            "bench": c.bench,
            **{kind: str(who) for kind, who in c.identities.items()},
            "exposure": f"{c.settings.exposure_us:.4g} µs at {c.rate_hz:.4g} Hz, gain "
            f"{c.settings.gain_db:g} dB, {c.settings.trigger.value} trigger",
            "laser power": f"{c.power_mw:g} mW",
            "mean": f"{figures['mean_grey']:.4g} grey values, "
            f"{figures['mean_fraction']:.2%} of full scale",
            "contrast": f"{figures['contrast']:.3f} (deviation over mean, fringes included)",
            "saturated pixels": f"{figures['saturated_fraction']:.2g}",
            "carrier": carrier,
        }.items(),
    )
