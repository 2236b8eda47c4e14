"""`opu compare`: what has changed between two calibrations, or two sets of training runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opu_driver.errors import InputError
from tools.json_file import JsonOption, write_json, write_text
from tools.terminal import results, table

if TYPE_CHECKING:
    from calibration.calibration_file import Calibration
    from calibration.comparison import Comparison

COLUMNS = ("", "earlier", "later")


class ComparisonError(InputError):
    """Two paths of which nothing can be compared."""


def compare(
    earlier: Annotated[
        Path,
        typer.Argument(metavar="A", help="The earlier calibration, or a folder of training runs."),
    ],
    later: Annotated[Path, typer.Argument(metavar="B", help="The later one.")],
    json: JsonOption = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE.html", help="Also write a page with pictures."),
    ] = None,
) -> None:
    """Tell what has changed between two calibrations, or two folders of training runs.

    Of calibrations: the matrix, the bench, the quality. Of runs: settings, scores, curves; those
    that are not finished are told, and left out of the scores.
    """
    from tools.output_path import require_writable

    require_writable(json=json, html=html)
    _require_two_of_a_kind(earlier, later)
    if earlier.is_dir():
        _compare_runs(earlier, later, json, html)
    else:
        _compare_calibrations(earlier, later, json, html)


def _require_two_of_a_kind(*paths: Path) -> None:
    """Refuse what is not there, and runs beside a calibration.

    Raises:
        ComparisonError: Names the path, and what it is.
    """
    wanted = "Name two calibrations, or two folders of training runs."
    for path in paths:
        if not path.exists():
            raise ComparisonError(f"{path} does not exist. {wanted}")
    folders = [path for path in paths if path.is_dir()]
    files = [path for path in paths if not path.is_dir()]
    if folders and files:
        raise ComparisonError(
            f"{folders[0]} is a folder, as training runs are, and {files[0]} a file, as a "
            f"calibration is: they cannot be compared. {wanted}"
        )


def _compare_runs(earlier: Path, later: Path, json: Path | None, html: Path | None) -> None:
    from tools.run_comparison import compare_runs

    found = compare_runs(earlier, later)
    results().print(table("Training runs", found.columns, found.rows()))
    for line in found.left_out:
        results().print(line, highlight=False, soft_wrap=True)
    differing = found.settings()
    if differing:
        cells = [setting.cells for setting in differing]
        results().print(table("Settings that differ", COLUMNS, cells))
    else:
        results().print(found.nothing_differs)
    write_json(json, found.as_json())
    if html is not None:
        write_text(html, found.page())


def _compare_calibrations(earlier: Path, later: Path, json: Path | None, html: Path | None) -> None:
    from calibration.calibration_file import Calibration
    from calibration.comparison import compare as compared

    made = Calibration.load(earlier), Calibration.load(later)
    found = compared(*made)
    results().print(table("Calibrations", COLUMNS, comparison_rows(*made)))
    for line in comparison_words(found):
        results().print(line, highlight=False)
    write_json(json, comparison_figures(found, (earlier, later)))
    if html is not None:
        write_text(html, _page(found, *made))


def comparison_rows(earlier: Calibration, later: Calibration) -> list[tuple[str, str, str]]:
    """Both calibrations side by side."""
    from tools.calibration_view import calibration_settings
    from tools.quality_table import quality_rows

    then, now = calibration_settings(earlier), calibration_settings(later)
    rows = [(name, then[name], now[name]) for name in then]
    pairs = zip(quality_rows(earlier.quality), quality_rows(later.quality), strict=True)
    return [*rows, *((a.words, a.value, b.value) for a, b in pairs)]


def comparison_words(found: Comparison) -> list[str]:
    """The comparison in sentences."""
    known = not math.isnan(found.noiseless_fidelity)
    noiseless = f", {min(found.noiseless_fidelity, 1.0):.4f} without noise" if known else ""
    first = f"Fidelity of the two matrices: {found.fidelity:.4f}{noiseless}."
    if found.related:
        row, column = found.carrier_shift
        first += (
            f" Phase ({found.phase_rad:+.2f} rad), gain ({found.gain:.4g}) and tilt ({row:+.2g}, "
            f"{column:+.2g} cycles/pixel) are taken out."
        )
    return [first, *(found.changes or ("Nothing else has changed: it is the same bench.",))]


def comparison_figures(found: Comparison, files: tuple[Path, Path]) -> dict[str, Any]:
    """The comparison for JSON."""
    return {
        "earlier": files[0],
        "later": files[1],
        "fidelity": found.fidelity,
        "noiseless_fidelity": found.noiseless_fidelity,
        "gain": found.gain,
        "phase_rad": found.phase_rad,
        "carrier_shift": found.carrier_shift,
        "carrier_shift_sigma": found.carrier_shift_sigma,
        "grain_ratio": found.grain_ratio,
        "changes": found.changes,
        "mode_correlations": found.mode_correlations,
    }


def _page(found: Comparison, earlier: Calibration, later: Calibration) -> str:
    from calibration import figures
    from calibration.comparison import hours_between
    from tools.report import Report

    report = Report(
        "Two calibrations compared",
        "The same inputs, through the same modes, measured twice. What belongs to the moment, the "
        "phase of the interferometer, its gain and its tilt, is taken out before that.",
        {
            "fidelity": f"{found.fidelity:.4f}",
            "hours between": f"{hours_between(earlier, later):.3g}",
            "gain": f"{found.gain:.3g}" if found.related else "–",
            "phase": f"{found.phase_rad:+.2f} rad" if found.related else "–",
        },
    )
    report.section("What has changed")
    for line in comparison_words(found):
        report.note(line)
    report.figure(
        figures.comparison_figure(found, earlier.decimation),
        "Correlation of the two matrices, mode by mode",
        "Each point is one mode, one row of both matrices. Bright all over: the same medium. A "
        "dark patch has lost its light, or something moved there. Dark all over: another medium, "
        "or another alignment.",
    )
    report.figure(
        figures.two_spectra_figure(earlier.quality, later.quality),
        "Singular values of both",
        "Both follow the law of random matrices if both are sound; a value far off in one of them "
        "tells of inputs without light or of a field common to all inputs.",
        width_px=680,
    )
    report.section("Side by side")
    report.table(COLUMNS, comparison_rows(earlier, later))
    return report.html(f"opu {later.software}: {earlier.made_at} and {later.made_at}")
