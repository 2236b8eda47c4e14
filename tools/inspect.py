"""`opu inspect`: what a calibration, a recording or any file of frames holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tools.json_file import JsonOption, write_json, write_text
from tools.terminal import facts, results, table

if TYPE_CHECKING:
    from tools.frame_view import FrameView


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
    from tools.recording_table import recording_figures, recording_table

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
