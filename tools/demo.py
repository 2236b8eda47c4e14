"""`opu demo`: everything once, on a simulated bench: light, calibration, training, a report."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tools.json_file import JsonOption, plain, write_json, write_text
from tools.terminal import remarks, results, stages, table

if TYPE_CHECKING:
    from calibration.quality import Quality
    from tools.calibration_view import CalibrationView
    from training.experiments import RunResult

_LEFT_BEHIND = ("bench.toml", "calibration.h5", "report.html", "summary.json")
_PRESET = "realistic"
_RUNS = 3  # seeds of each way of feedback: one run alone would be an anecdote
_MANY_INPUTS = 256  # enough for a histogram of singular values


def demo(
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Where the results go.")
    ] = Path("opu-demo"),
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Of the bench; the runs take it and the next ones.")
    ] = 0,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", min=1, help="Instead of the recipe's, to be done sooner."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the results of an earlier demo.")
    ] = False,
    json: JsonOption = None,
) -> None:
    """See it all in two minutes: calibrate a simulated bench, and train networks through it.

    Leaves a folder with report.html, summary.json, the calibration and the bench file. Needs no
    network and no hardware.
    """
    from tools.output_path import require_writable

    left = [out / name for name in _LEFT_BEHIND] if out.is_dir() else [out]
    require_writable(*left, json=json)
    _require_room(out, force)
    with _built_aside(out) as folder:
        summary = _everything(folder, seed, epochs)
    write_json(json, summary)
    results().print(f"The report is in {out / 'report.html'}.")


def _require_room(out: Path, force: bool) -> None:
    """Refuse a folder that holds anything, or, with force, anything that no demo leaves.

    Raises:
        OutputError: It does.
    """
    from tools.output_path import OutputError

    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file, and a folder has to go there. Name another place.")
    names = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    others = [name for name in names if name not in _LEFT_BEHIND]
    if force and others:
        raise OutputError(
            f"{out} also holds {', '.join(others[:5])}, which no demo has left there; --force "
            "replaces only results of a demo. Name another folder with --out."
        )
    if names and not force:
        raise OutputError(
            f"{out} holds results already. Name another folder with --out, or replace them with "
            "--force."
        )


@contextmanager
def _built_aside(out: Path) -> Iterator[Path]:
    """A temporary folder whose files move to their place when all of them are whole.

    Raises:
        OutputError: There is no room for one beside that place.
    """
    from tools.output_path import OutputError

    beside = out.absolute().parent
    try:
        made = tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=beside)
    except OSError as error:
        raise OutputError(
            f"{out} cannot be made: {beside} takes no folder ({error.strerror}). Name another "
            "place with --out."
        ) from error
    with made as aside:
        yield Path(aside)
        out.mkdir(exist_ok=True)
        for file in Path(aside).iterdir():
            file.replace(out / file.name)


class _Clock:
    """How long each part took, in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = time.perf_counter()

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[part] = time.perf_counter() - began

    @property
    def total(self) -> float:
        return time.perf_counter() - self._began


def _everything(folder: Path, seed: int, epochs: int | None) -> dict[str, Any]:
    """Bench, calibration, training and report, all into a folder; returns the summary."""
    clock = _Clock()
    with clock("loading the software"):
        from calibration.pipeline import calibrate
        from calibration.projector import OpticalProjector
        from opu_driver import open_bench
        from tools.bench_template import simulated_template
        from tools.calibration_view import CalibrationView
        from tools.results_table import result_columns, results_of
        from tools.training_runs import Series
        from training.experiments import FEEDBACKS, named_recipe
        from training.figures import feedback_name

    recipe = named_recipe("best", "digits")
    series = Series(recipe, range(seed, seed + _RUNS), epochs)
    bench_file = folder / "bench.toml"
    write_text(bench_file, simulated_template(_PRESET, seed))
    runs: list[RunResult] = []
    with open_bench(bench_file) as bench:
        with clock("calibration"), stages("calibrating") as tell:
            calibration = calibrate(bench, recipe.n_inputs, seed=seed, progress=tell)
        calibration.save(folder / "calibration.h5")
        with clock("a look at the bench"):
            view = CalibrationView.of(bench, calibration, seed)
            wide = calibrate(bench, _MANY_INPUTS, seed=seed).quality
        remarks().print(
            f"Calibrated: light and arithmetic agree with correlation {view.correlation:.4f}",
            highlight=False,
        )
        for way in FEEDBACKS:
            with clock(feedback_name(way, recipe.encoder)):
                if way == "optical":
                    runs += series.train(way, lambda: OpticalProjector(bench, calibration))
                else:
                    runs += series.train(way)
    came_to = results_of(runs)
    rows = [result.cells for result in came_to]
    results().print(table("Digits, test set", result_columns(runs[0].score), rows))
    with clock("report"):
        page = _page(view, wide, runs, clock)
    write_text(folder / "report.html", page)
    summary = _summary(view, runs, clock, seed)
    write_json(folder / "summary.json", summary)
    return summary


def _summary(
    view: CalibrationView, runs: list[RunResult], clock: _Clock, seed: int
) -> dict[str, Any]:
    from tools.calibration_view import calibration_figures
    from tools.results_table import results_of

    summary: dict[str, Any] = plain(
        {
            "made_at": view.calibration.made_at,
            "software": view.calibration.software,
            "preset": _PRESET,
            "seed": seed,
            "machine": _machine(),
            "calibration": calibration_figures(view.calibration),
            "projections": {
                "correlation": view.correlation,
                "relative_error": view.relative_error,
                **view.totals,
            },
            "results": results_of(runs),
            "runs": [run.as_json() for run in runs],
            "seconds": {**clock.seconds, "total": clock.total},
        }
    )
    return summary


def _page(view: CalibrationView, wide: Quality, runs: list[RunResult], clock: _Clock) -> str:
    from tools.calibration_view import calibration_settings
    from tools.report import Report
    from tools.results_table import results_of
    from tools.training_view import add_training, recipe_settings

    calibration = view.calibration
    by_way = {result.feedback: result for result in results_of(runs)}
    optical = by_way["optical"]
    report = Report(
        "Training a network with light",
        "A simulated optical processing unit: a laser, a micromirror device, a scattering medium "
        "and a camera. It was calibrated, and then a network learned to read handwritten digits "
        "while every error vector crossed the light.",
        {
            "learned by light": f"{optical.test:.1f} %",
            "by backpropagation": f"{by_way['backprop'].test:.1f} %",
            "last layer only": f"{by_way['shallow'].test:.1f} %",
            "exposures a run": f"{optical.exposures:,.0f}",
            "light against arithmetic": f"{view.correlation:.4f}",
            "time for all": f"{clock.total:.0f} s",
        },
    )
    view.add_to(report, wide)
    add_training(report, runs)
    report.section("Settings", "Everything that is needed to do it again.")
    report.settings(
        {
            "bench": f"simulated, preset {_PRESET}; bench.toml beside this page holds its numbers",
            **calibration_settings(calibration),
            **recipe_settings(runs),
        }
    )
    report.section("Times", f"On {_machine()}.")
    report.table(
        ("Part", "seconds"), [(part, f"{taken:.1f}") for part, taken in clock.seconds.items()]
    )
    return report.html(f"opu {calibration.software}, {calibration.made_at}")


def _machine() -> str:
    import os
    import platform

    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors"
