"""`opu train`: train a network by light, and by what light is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tools.bench_choice import (
    BenchOption,
    PresetOption,
    SceneOption,
    SceneSeedOption,
    chosen_bench,
    chosen_scene,
)
from tools.json_file import JsonOption, write_json, write_text
from tools.terminal import remarks, results, stages, table

if TYPE_CHECKING:
    from calibration.calibration_file import Calibration
    from opu_driver import Bench
    from tools.training_runs import Series
    from training.experiments import Feedback, RunResult
    from training.projector import Projector
    from training.team import Team


def train(
    task: Annotated[
        str, typer.Argument(metavar="TASK", help="What to learn: `opu recipes` names all.")
    ],
    feedback: Annotated[
        list[str],
        typer.Option(
            "--feedback",
            help="`optical` (errors cross the bench), `digital` (a digital projection), `ternary` "
            "(digital, with the codes that the bench shows of the recipe, ternary or of several "
            "bits), `backprop`, `shallow` (only the last layer "
            "learns), or `all`. Several: with commas, or repeated.",
        ),
    ],
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Of the task; its first one otherwise.")
    ] = None,
    seeds: Annotated[
        str, typer.Option("--seeds", help="Seeds of the runs, with commas: 0,1,2.")
    ] = "0",
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="Instead of the recipe's.")
    ] = None,
    bench: BenchOption = None,
    preset: PresetOption = None,
    scene_seed: SceneSeedOption = None,
    scene: SceneOption = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration",
            metavar="FILE.h5",
            help="Of the bench, for optical feedback; without it the bench is calibrated first.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Of the runs; runs/TASK-RECIPE otherwise."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the runs that are in the folder.")
    ] = False,
    checkpoint_every: Annotated[
        int | None,
        typer.Option(
            "--checkpoint-every", help="Steps between checkpoints, besides those of each epoch."
        ),
    ] = None,
    drift_tracking: Annotated[
        bool,
        typer.Option(
            "--drift-tracking/--no-drift-tracking",
            help="Follow the interferometer's phase through reference exposures; without it the "
            "phase is measured once, for comparison.",
        ),
    ] = True,
    recalibrate: Annotated[
        bool,
        typer.Option(
            "--recalibrate",
            help="Calibrate anew, and go on, where the medium has become another one; otherwise "
            "the training ends there. Runs that are resumed may have been trained with any "
            "calibration of their folder; the newest one is gone on with.",
        ),
    ] = False,
    min_fidelity: Annotated[
        float | None,
        typer.Option(
            "--min-fidelity",
            help="Fidelity below which the medium counts as another one; if nothing is said, 0.98.",
        ),
    ] = None,
    tensorboard: Annotated[
        bool,
        typer.Option(
            "--tensorboard", help="Also write TensorBoard's event files: FOLDER/tensorboard."
        ),
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report", metavar="FILE.html", help="Also write a page with curves and angles."
        ),
    ] = None,
    json: JsonOption = None,
) -> None:
    """Train a network, by one or several ways of feedback, with one or several seeds.

    Under `torchrun` the processes share every batch, and the first one's bench serves all.

    The table at the end gives the score on the test set after the last epoch, mean and deviation
    over seeds, with what the light cost.
    """
    from tools.light_conditions import light_conditions
    from tools.output_path import require_writable
    from tools.results_table import (
        light_table,
        no_better_than_shallow,
        result_columns,
        results_of,
    )
    from tools.training_runs import Series
    from tools.training_view import training_page
    from training.experiments import named_recipe
    from training.team import team_of_environment

    require_writable(json=json, html=report, folder=out)
    ways = _ways(feedback)
    if "optical" not in ways:
        _refuse_light(
            ways,
            {
                "--bench": bench,
                "--preset": preset,
                "--scene-seed": scene_seed,
                "--scene": scene,
                "--calibration": calibration,
                "--no-drift-tracking": None if drift_tracking else True,
                "--recalibrate": recalibrate or None,
                "--min-fidelity": min_fidelity,
            },
        )
    chosen = named_recipe(recipe, task)
    folder = out or Path("runs") / f"{task}-{chosen.name}"
    finished: list[RunResult] = []
    with team_of_environment() as team:
        series = Series(
            chosen,
            numbers(seeds),
            epochs,
            folder,
            resume=resume,
            event_files=tensorboard,
            checkpoint_every=checkpoint_every,
            team=team,
        )
        if not resume:
            _require_free(series, ways)
        conditions: dict[str, Any] = {}
        for way in ways:
            if way != "optical":
                finished += series.train(way)
            elif not series.leads:
                finished += series.train(way, lambda: _shared(None, team))
            else:
                from calibration.projector import MIN_FIDELITY

                least = MIN_FIDELITY if min_fidelity is None else min_fidelity
                with chosen_bench(bench, preset, scene_seed, scene) as opened:
                    conditions = light_conditions(  # before a calibration sets the bench
                        opened,
                        chosen_scene(bench, preset, scene_seed, scene),
                        drift_tracking=drift_tracking,
                        min_fidelity=least,
                        recalibrate=recalibrate,
                    )
                    measured = _calibration(opened, calibration, series, recalibrate)
                    lit = replace(series, conditions=conditions)
                    if recalibrate:
                        lit = replace(
                            lit,
                            earlier_feedback=_earlier(calibration, folder),
                            earlier_conditions={"recalibrate": False},
                        )
                    light = _optical(opened, measured, lit, drift_tracking, recalibrate, least)
                    with _told_of_recalibration(recalibrate):
                        finished += lit.train(way, light)
    if not series.leads:
        return
    came_to = results_of(finished)
    title = f"{task}, recipe {chosen.name}, test set"
    columns = result_columns(finished[0].score)
    results().print(table(title, columns, [result.cells for result in came_to]))
    outdone = "; ".join(result.name for result in no_better_than_shallow(came_to))
    if outdone:
        results().print(
            f"No better than the last layer alone: {outdone}. A longer training (--epochs) may be.",
            highlight=False,
            soft_wrap=True,
        )
    optical = [run for run in finished if run.feedback == "optical"]
    if optical:
        results().print(table("What the light cost", *light_table(optical)))
    if report is not None:
        write_text(report, training_page(finished, conditions))
    write_json(json, {"results": came_to, "runs": [run.as_json() for run in finished]})


@contextmanager
def _told_of_recalibration(chosen: bool) -> Iterator[None]:
    """Whoever loses the calibration, or has a later one, learns that a training can renew it.

    No training begins with the calibration of another bench, or with one that has expired.
    """
    from calibration.errors import DecorrelationError
    from training.errors import FingerprintError

    try:
        yield
    except DecorrelationError as error:
        if not chosen:
            error.add_note(
                "With --resume --recalibrate the bench is calibrated anew, and the training goes "
                "on."
            )
        raise
    except FingerprintError as error:
        if not chosen:
            error.add_note("With --recalibrate it goes on with the newest calibration there is.")
        raise


def _ways(asked: list[str]) -> list[Feedback]:
    """The ways of feedback that were asked for, each once.

    Raises:
        SettingsError: One that there is not.
    """
    from training.errors import SettingsError
    from training.experiments import FEEDBACKS

    names = [name.strip() for part in asked for name in part.split(",")]
    for name in names:
        if name not in (*FEEDBACKS, "all"):
            raise SettingsError(
                f"--feedback {name!r}: choose from {', '.join(FEEDBACKS)}, or all of them by 'all'."
            )
    return [way for way in FEEDBACKS if way in names or "all" in names]


def _refuse_light(ways: list[Feedback], options: dict[str, object]) -> None:
    """Refuse the options of optical feedback where there is none: they would change nothing.

    Raises:
        SettingsError: One of them was given; it names all that were.
    """
    from training.errors import SettingsError

    given = [name for name, value in options.items() if value is not None]
    if given:
        raise SettingsError(
            f"{', '.join(given)}: only optical feedback takes a bench, and --feedback is "
            f"{','.join(ways)}. Leave out what is of the bench, or add optical."
        )


def numbers(text: str) -> list[int]:
    """Seeds.

    Raises:
        SettingsError: No whole numbers from 0, or one of them twice.
    """
    from training.errors import SettingsError

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise SettingsError(
            f"--seeds {text!r}: give whole numbers from 0, with commas, each once: 0,1,2."
        )
    return [int(part) for part in parts]


def _require_free(series: Series, ways: list[Feedback]) -> None:
    from tools.output_path import require_free

    for way in ways:
        for seed in series.seeds:
            folder = series.run_folder(way, seed)
            if folder is not None:
                require_free(folder, "--resume goes on with it.")


def _calibration(bench: Bench, given: Path | None, series: Series, newest: bool) -> Calibration:
    """The calibration that was named, or that of the folder, or a new one, kept there.

    Args:
        bench: What is calibrated.
        given: The calibration that was named.
        series: What is trained with it.
        newest: A later one of the folder takes the place of the one that was named.
    """
    from calibration.calibration_file import Calibration
    from calibration.pipeline import calibrate

    folder = series.folder or Path()
    kept = _kept(folder)
    if given is not None:
        named = Calibration.load(given)
        last = Calibration.load(kept[-1]) if kept and newest else named
        if _made_at(last) <= _made_at(named):
            return named
        remarks().print(f"{kept[-1]} is gone on with: later than {given}.", highlight=False)
        return last
    if kept:
        return Calibration.load(kept[-1])
    with stages("calibrating") as tell:
        measured = calibrate(bench, series.recipe.n_inputs, progress=tell)
    _keep(measured, folder)
    return measured


def _made_at(calibration: Calibration) -> datetime:
    return datetime.fromisoformat(calibration.made_at)


def _earlier(given: Path | None, folder: Path) -> frozenset[str]:
    """Fingerprints of all calibrations with which runs of a folder may have been trained."""
    from calibration.calibration_file import Calibration

    files = [*([] if given is None else [given]), *_kept(folder)]
    return frozenset(Calibration.load(file).fingerprint() for file in files)


def _kept(folder: Path) -> list[Path]:
    """The calibrations of a folder of runs, the first one first."""
    return sorted(folder.glob("calibration*.h5"), key=lambda path: (len(path.name), path.name))


def _keep(calibration: Calibration, folder: Path) -> Path:
    """Save one more: `calibration.h5`, `calibration-2.h5`, ..."""
    n = len(_kept(folder)) + 1
    path = folder / ("calibration.h5" if n == 1 else f"calibration-{n}.h5")
    folder.mkdir(parents=True, exist_ok=True)
    calibration.save(path)
    return path


def _optical(
    bench: Bench,
    calibration: Calibration,
    series: Series,
    track_drift: bool,
    recalibrate: bool,
    min_fidelity: float,
) -> Callable[[], Projector]:
    """Makes the projector of a run; with the last calibration, if there were new ones meanwhile."""
    newest = calibration

    def keep(renewed: Calibration) -> None:
        nonlocal newest
        newest = renewed
        path = _keep(renewed, series.folder or Path())
        remarks().print(f"The medium has changed: calibrated anew, {path}.", highlight=False)

    def measured(bench: Bench) -> Calibration:
        from calibration.pipeline import calibrate

        with stages("calibrating anew") as tell:
            return calibrate(bench, calibration.n_inputs, progress=tell)

    def projector() -> Projector:
        from calibration.projector import OpticalProjector
        from tools.training_projector import KeepingProjector

        own = OpticalProjector(
            bench,
            newest,
            track_drift=track_drift,
            min_fidelity=min_fidelity,
            recalibrate=measured if recalibrate else None,
        )
        return _shared(KeepingProjector(own, keep), series.team)

    return projector


def _shared(own: Projector | None, team: Team | None) -> Projector:
    """The bench's projector; among several processes, the one that all of them share."""
    from training.shared_projector import SharedProjector

    if team is not None:
        return SharedProjector(own, team)
    assert own is not None
    return own
