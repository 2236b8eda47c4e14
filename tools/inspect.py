"""`opu inspect`: what a calibration, a recording or any file of frames holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tools.json_file import JsonOption, write_json, write_text
from tools.terminal import counted, facts, results, stages, table


def inspect(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A calibration, a recording, or frames of any program: TIFF, PNG, NumPy, HDF5, "
            "Zarr, or a folder of images.",
        ),
    ],
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="PAGE", help="Write the pictures to a page, too."),
    ] = None,
    black: Annotated[
        float | None,
        typer.Option(
            help="Grey value without light, of frames of another program.", show_default=False
        ),
    ] = None,
    full: Annotated[
        float | None,
        typer.Option(
            help="Grey value of a full pixel, of frames of another program; otherwise guessed "
            "from the brightest.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = None,
) -> None:
    """Tell what a calibration, a recording or a file of frames holds, and how good it is."""
    from tools.frame_files import open_frames
    from tools.frame_findings import COLUMNS, findings, remarks
    from tools.frame_page import frame_page
    from tools.frame_view import FrameView
    from tools.output_path import require_writable
    from tools.recording_table import measured_figures, recording_figures, recording_table

    require_writable(json=json, html=html)
    if _is_calibration(file):
        _inspect_calibration(file, html, json)
        return
    with open_frames(file) as stack:
        told: dict[str, Any] = {}
        if stack.recording is not None and not len(stack):
            told = recording_figures(stack.recording)
            results().print(recording_table(file, told))
            write_json(json, told)
            return
        with stages("inspect") as tell:
            view = FrameView.of(
                stack,
                black=black,
                full=full,
                progress=lambda done, total: tell("grey values", done, total),
            )
        if stack.recording is not None:
            told = measured_figures(stack.recording, view.grey, view.light, view.carrier)
            results().print(recording_table(file, told))
        found = findings(view)
        rows, columns = stack.frames.shape[1:]
        many = counted(len(stack), "frame", "frames")
        title = f"{many} of {rows} × {columns} pixels ({stack.source})"
        results().print(table(title, COLUMNS, [finding.cells for finding in found]))
        for remark in remarks(view):
            results().print(remark, highlight=False, markup=False)
        if html is not None:
            write_text(html, frame_page(view))
        cells = [finding.cells for finding in found]
        write_json(json, told | {"view": view.figures() | {"findings": cells}})


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


def _is_calibration(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(15) == b"opu-calibration"
    except OSError:
        return False
