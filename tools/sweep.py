"""`opu sweep`: how much a bench may suffer before training through it breaks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tools.json_file import JsonOption, write_json, write_text
from tools.terminal import remarks, results, table

if TYPE_CHECKING:
    from training.experiments import Recipe, RunResult
    from training.projector import Projector
    from training.score import Score


@dataclass(frozen=True)
class Axis:
    """One thing that can go wrong by degrees.

    Attributes:
        words: What it is, with its unit.
        values: From harmless to fatal.
        scene: The number of the simulated optics that it is, if it is one.
        camera: The keys of the simulated camera that it sets.
        recipe: What it does to a recipe.
        projector: What it does to a projector.
    """

    words: str
    values: tuple[float, ...]
    scene: str = ""
    camera: Callable[[float], Mapping[str, Any]] = lambda _: {}
    recipe: Callable[[Recipe, float], Recipe] = lambda recipe, _: recipe
    projector: Callable[[Projector, float], Projector] = lambda projector, _: projector


def _threshold(recipe: Recipe, value: float) -> Recipe:
    from training.encoding import Ternary

    own = recipe.encoder if isinstance(recipe.encoder, Ternary) else Ternary(value)
    return replace(recipe, encoder=replace(own, threshold=value, relative=True))


def _camera_bits(value: float) -> Mapping[str, Any]:
    from training.errors import SettingsError

    if value not in CAMERA_BITS:
        raise SettingsError(
            f"A camera of {value:g} bits: the simulated one has {', '.join(map(str, CAMERA_BITS))}."
        )
    return {"pixel_format": f"mono{value:g}"}


def _bits(recipe: Recipe, value: float) -> Recipe:
    from training.encoding import BitPlanes
    from training.errors import SettingsError

    if not float(value).is_integer():
        raise SettingsError(f"A code of {value:g} bits: give whole numbers.")
    return replace(recipe, encoder=BitPlanes(int(value)))


def _dead(projector: Projector, value: float) -> Projector:
    from training.dead_outputs import DeadOutputs

    return DeadOutputs(projector, value, seed=0)


CAMERA_BITS = (12, 10, 8)

AXES: dict[str, Axis] = {
    "read-noise": Axis(
        "read noise, electrons", (13.0, 100.0, 300.0, 1e3, 3e3, 1e4), "read_noise_electrons"
    ),
    "bits": Axis("bits of an error's code", (8, 4, 2, 1), recipe=_bits),
    "camera-bits": Axis("bits of the camera's grey values", CAMERA_BITS, camera=_camera_bits),
    "threshold": Axis(
        "ternary threshold, of the largest component", (0.1, 0.3, 0.5, 0.7, 0.9), recipe=_threshold
    ),
    "phase-walk": Axis(
        "phase walk, rad a frame", (0.003, 0.02, 0.05, 0.1, 0.2, 0.4), "phase_walk_rad"
    ),
    "decorrelation": Axis("decorrelation a frame", (1e-8, 1e-7, 1e-6, 1e-5, 1e-4), "decorrelation"),
    "dead-outputs": Axis("share of dead outputs", (0.0, 0.3, 0.6, 0.9, 0.97, 1.0), projector=_dead),
}


@dataclass(frozen=True)
class Point:
    """What all seeds came to at one value.

    Attributes:
        axis: Its name.
        value: How bad it was.
        scores: On the test set, a seed each; those that were refused are left out.
        snr: Mean signal to noise of a projection.
        fidelity: Lowest fidelity to the calibration.
        refusal: Why a bench was refused, or that a training diverged; empty if there was neither.
    """

    axis: str
    value: float
    scores: tuple[float, ...]
    snr: float | None
    fidelity: float | None
    refusal: str = ""

    @property
    def mean(self) -> float | None:
        """Of the scores; None if there are none."""
        return sum(self.scores) / len(self.scores) if self.scores else None


@dataclass
class Sweep:
    """Runs of one recipe along axes, kept in a folder: what is finished is not done again.

    A refusal finishes a run, too. What is not finished begins again, calibration included: it
    cannot go on, since a simulated medium begins anew and would be younger than its training.

    Attributes:
        recipe: What is trained.
        seeds: One run each, at each value.
        folder: Where the runs are kept.
        preset: Of the simulated bench.
        told: Is told what each run came to.
    """

    recipe: Recipe
    seeds: Sequence[int]
    folder: Path
    preset: str
    told: Callable[[str], None] = field(default=lambda _: None)

    def shallow(self) -> list[float]:
        """The baseline: what no feedback at all comes to, a seed each.

        Raises:
            CheckpointError: Runs with other settings are in the folder.
        """
        from training.experiments import run
        from training.experiments.record import finished_run
        from training.experiments.run import run_settings

        scores = []
        for seed in self.seeds:
            folder = self.folder / "shallow" / f"seed{seed}"
            done = finished_run(folder, run_settings(self.recipe, "shallow", seed))
            done = done or run(self.recipe, "shallow", seed=seed, folder=folder, resume=True)
            scores.append(done.test)
        return scores

    def point(self, axis: str, value: float) -> Point:
        """Train at one value, with every seed.

        Raises:
            CheckpointError: Runs with other settings, or on another bench, are in the folder.
        """
        runs: list[RunResult] = []
        refusal = ""
        for seed in self.seeds:
            came_to = self._run(axis, value, seed)
            if isinstance(came_to, str):
                refusal = came_to
                told = f"refused, {refusal}"
            else:
                runs.append(came_to)
                told = came_to.score.shown(came_to.test)
            self.told(f"{axis} {value:g}, seed {seed}: {told}")
        noise = [run.projector["snr"] for run in runs if run.projector.get("snr") is not None]
        kept = [run.projector["fidelity"] for run in runs]
        return Point(
            axis,
            value,
            tuple(run.test for run in runs),
            sum(filter(None, noise)) / len(noise) if noise else None,
            min((each for each in kept if each is not None), default=None),
            refusal,
        )

    def _run(self, name: str, value: float, seed: int) -> RunResult | str:
        """What a run came to, or why there is nothing that it came to."""
        from calibration.pipeline import calibrate
        from calibration.projector import OpticalProjector
        from opu_driver import simulated_bench
        from opu_driver.errors import InputError, OpuError
        from training.errors import DivergedError
        from training.experiments import run
        from training.experiments.record import finished_run
        from training.experiments.run import run_settings

        axis = AXES[name]
        scene: dict[str, Any] = {axis.scene: value} if axis.scene else {}
        recipe = axis.recipe(self.recipe, value)
        conditions = {"preset": self.preset, "axis": name, "value": value}
        settings = run_settings(recipe, "optical", seed, conditions=conditions)
        folder = self.folder / name / f"{value:g}-seed{seed}"
        refused = folder.with_name(f"{folder.name}-refused.json")
        done = finished_run(folder, settings) or _refusal(refused, settings)
        if done is not None:
            return done
        _forget_progress(folder)
        try:
            with simulated_bench(
                self.preset, seed, camera=dict(axis.camera(value)), **scene
            ) as bench:
                calibration = calibrate(bench, recipe.n_inputs, seed=seed)
                # A bench that is bad enough to matter is not refused for being a little bad.
                projector = OpticalProjector(bench, calibration, min_fidelity=0.9)
                return run(
                    recipe,
                    "optical",
                    axis.projector(projector, value),
                    seed=seed,
                    folder=folder,
                    resume=True,
                    conditions=conditions,
                )
        except InputError:
            raise
        except (OpuError, DivergedError) as error:  # a result, and one that stays
            refusal = f"{type(error).__name__}: {error}"
            refused.parent.mkdir(parents=True, exist_ok=True)
            write_json(refused, {"settings": settings, "refusal": refusal})
            return refusal


def _refusal(kept: Path, settings: Mapping[str, Any]) -> str | None:
    """Why a run was refused, as it was kept; None if it was not.

    Raises:
        CheckpointError: A run with other settings was refused, or the file is damaged.
    """
    import json

    from training.errors import CheckpointError
    from training.run_folder import as_told, require_same_settings

    if not kept.exists():
        return None
    try:
        content = json.loads(kept.read_text(encoding="utf-8"))
        found, refusal = dict(content["settings"]), str(content["refusal"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"{kept} does not tell why a run was refused, or is damaged: {error}. Delete it to "
            "train again."
        ) from error
    require_same_settings(kept, found, as_told(settings))
    return refusal


def _forget_progress(folder: Path) -> None:
    """Let an unfinished run begin at its first step; its settings have been compared before.

    Raises:
        FolderBusyError: Another process is at it.
    """
    from training.run_folder import METRICS
    from training.sole_writer import sole_writer

    if (folder / METRICS).exists():
        with sole_writer(folder):
            (folder / "checkpoint.pt").unlink(missing_ok=True)


def sweep(
    task: Annotated[str, typer.Argument(metavar="TASK", help="What to learn, see `opu recipes`.")],
    over: Annotated[
        str,
        typer.Option(
            "--over",
            help=f"What goes wrong: {', '.join(AXES)}, with commas, or `all`. `bits` are those of "
            "an error's code, `camera-bits` those of the camera's grey values.",
        ),
    ] = "all",
    values: Annotated[
        str | None,
        typer.Option("--values", help="Of one axis, with commas, from harmless to fatal."),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Of the task; its first one otherwise.")
    ] = None,
    seeds: Annotated[str, typer.Option("--seeds", help="Seeds of the runs.")] = "0,1,2",
    epochs: Annotated[int | None, typer.Option("--epochs", help="Instead of the recipe's.")] = None,
    preset: Annotated[
        str, typer.Option("--preset", help="Of the simulated bench, before anything goes wrong.")
    ] = "realistic",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="Of the runs; runs/sweep-TASK-RECIPE-PRESET otherwise.",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE.html", help="Also write a page with pictures."),
    ] = None,
    json: JsonOption = None,
) -> None:
    """Train through simulated benches that get worse by degrees, and tell where learning breaks.

    It breaks at the first value where a bench is refused, where training diverges, or where the
    mean score is no better than with the last layer alone: no feedback would have done as well.
    Where no bench is better, not even at the mildest value, that is told instead: a longer training
    may be. Run it again to go on where it was interrupted: runs that are finished or were refused
    are not repeated, an interrupted one begins again. A folder with runs of other settings is
    refused.
    """
    from tools.output_path import require_writable
    from tools.train import numbers
    from training.experiments import named_recipe

    require_writable(json=json, html=report, folder=out)
    chosen = named_recipe(recipe, task)
    if epochs is not None:
        chosen = replace(chosen, epochs=epochs)
    axes = _axes(over, values)
    folder = out or Path("runs") / f"sweep-{task}-{chosen.name}-{preset}"
    swept = Sweep(
        chosen, numbers(seeds), folder, preset, lambda line: remarks().print(line, highlight=False)
    )
    baseline = swept.shallow()
    points = {name: [swept.point(name, value) for value in wanted] for name, wanted in axes.items()}
    score = _score(swept)
    floor = sum(baseline) / len(baseline)
    for name, found in points.items():
        title = f"{AXES[name].words}: {_ending(found, floor, score)}"
        results().print(table(title, COLUMNS, [_cells(point, score) for point in found]))
    results().print(f"Last layer only: {score.shown(floor)}", highlight=False)
    broken = {name: _broken(found, floor, score) for name, found in points.items()}
    never_better = {name: _never_better(found, floor, score) for name, found in points.items()}
    write_json(
        json,
        {"shallow": baseline, "points": points, "broken": broken, "never_better": never_better},
    )
    if report is not None:
        write_text(report, _page(chosen, points, floor, score))


COLUMNS = ("value", "score", "seeds", "signal to noise", "lowest fidelity", "refused")


def _score(swept: Sweep) -> Score:
    from training.experiments.record import RunRecord

    return RunRecord.read(swept.folder / "shallow" / f"seed{swept.seeds[0]}").result.score


def _axes(over: str, values: str | None) -> Mapping[str, tuple[float, ...]]:
    """The axes that were asked for, with their values.

    Raises:
        SettingsError: One that there is not, or values that are no finite numbers or of several
            axes.
    """
    from training.errors import SettingsError

    names = list(AXES) if over == "all" else [name.strip() for name in over.split(",")]
    for name in names:
        if name not in AXES:
            raise SettingsError(f"--over {name!r}: choose from {', '.join(AXES)}, or 'all'.")
    if values is None:
        return {name: AXES[name].values for name in names}
    if len(names) != 1:
        raise SettingsError(f"--values are those of one axis, and --over names {len(names)}.")
    refusal = f"--values {values!r}: give finite numbers, with commas."
    try:
        wanted = tuple(float(part) for part in values.split(","))
    except ValueError as error:
        raise SettingsError(refusal) from error
    if not all(map(math.isfinite, wanted)):
        raise SettingsError(refusal)
    return {names[0]: wanted}


def _broken(points: Sequence[Point], floor: float, score: Score) -> list[float]:
    """The values at which learning is broken: refused, diverged, or not above the baseline."""
    return [
        point.value
        for point in points
        if point.refusal or point.mean is None or not score.is_better(point.mean, floor)
    ]


def _never_better(points: Sequence[Point], floor: float, score: Score) -> bool:
    """Whether the last layer alone did as well even at the mildest value, where light got through.

    That tells of the training, not of the bench.
    """
    better = [point.mean is not None and score.is_better(point.mean, floor) for point in points]
    return not points[0].refusal and not any(better)


def _ending(points: Sequence[Point], floor: float, score: Score) -> str:
    """Where it breaks for good; or all values that break it, where later ones do not."""
    broken, values = _broken(points, floor, score), [point.value for point in points]
    if _never_better(points, floor, score):
        return f"never better than the last layer alone, even at {values[0]:g}: train longer"
    if not broken:
        return f"holds to {values[-1]:g}"
    if broken == values[-len(broken) :]:
        return f"breaks at {broken[0]:g}"
    return "broken at " + ", ".join(f"{value:g}" for value in broken)


def _cells(point: Point, score: Score) -> tuple[str, ...]:
    spread = ""
    if len(point.scores) > 1:
        import statistics

        spread = f" ± {score.number(statistics.stdev(point.scores))}"
    return (
        f"{point.value:g}",
        "–" if point.mean is None else score.number(point.mean) + spread,
        f"{len(point.scores)}",
        "–" if point.snr is None else f"{point.snr:.3g}",
        "–" if point.fidelity is None else f"{point.fidelity:.4f}",
        point.refusal.partition(":")[0],
    )


def _page(recipe: Recipe, points: Mapping[str, Sequence[Point]], floor: float, score: Score) -> str:
    from tools.report import Report
    from training.figures import sweep_figure

    report = Report(
        f"How much a bench may suffer: {recipe.task}",
        f"Recipe {recipe.name}: {recipe.network}. Everything but the one thing that is varied is "
        "as in the preset. Learning is broken where a bench is refused, where training diverges, "
        "or where it is no better than with the last layer alone.",
        {name: _ending(found, floor, score) for name, found in points.items()},
    )
    for name, found in points.items():
        report.section(AXES[name].words.capitalize())
        if any(point.scores for point in found):
            report.figure(
                sweep_figure(
                    [(point.value, point.scores) for point in found],
                    AXES[name].words,
                    score,
                    floor,
                ),
                AXES[name].words.capitalize(),
                "Mean of the runs, each of them a dot; a cross where all were refused. The dashed "
                "line is training of the last layer alone.",
                width_px=680,
            )
        report.table(COLUMNS, [_cells(point, score) for point in found])
        for refusal in dict.fromkeys(point.refusal for point in found if point.refusal):
            report.note(f"Refused: {refusal}")
    return report.html("opu sweep")
