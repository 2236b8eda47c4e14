"""The training's part of a report: curves, angles, results, and what the light cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tools.results_table import light_table, result_columns, results_of
from tools.terminal import counted

if TYPE_CHECKING:
    from tools.report import Report
    from training.experiments import RunResult

_NONE: Mapping[str, Any] = MappingProxyType({})


def add_training(report: Report, runs: Sequence[RunResult]) -> None:
    """Add the results of training runs to a report."""
    from training import figures

    score = runs[0].score
    results = results_of(runs)
    report.section(
        "Training",
        "The same network, trained in several ways. Backpropagation sends the error back through "
        "the transposed weights; direct feedback alignment sends it to every layer through one "
        "fixed random matrix, which light or arithmetic multiplies by.",
    )
    report.table(
        result_columns(score),
        [result.cells for result in results],
        note="Shallow training updates the last layer only, with settings tuned for it: what any "
        "feedback has to beat."
        + (
            f" Digital {runs[0].encoder.words} feedback has the codes that the bench shows."
            if any(run.feedback == "ternary" for run in runs)
            else ""
        ),
        marked=next((i for i, r in enumerate(results) if r.feedback == "optical"), None),
    )
    report.figure(
        figures.learning_curves(runs),
        "Learning curves",
        f"{score.shortfall_name.capitalize()}, after every epoch, on a logarithmic axis: mean of "
        "the runs, and a band from the best to the worst; beside each name, its last "
        f"{score.name}."
        + (f" One example of the test set is {score.step:.2g} {score.unit}." if score.step else ""),
    )
    lit = [run for run in runs if run.feedback == "optical"]
    fed = lit or [run for run in runs if run.rows[0].alignment_deg]
    if fed:
        report.figure(
            figures.alignment_angles(fed[0]),
            "Alignment angles",
            "The feedback is random and never changes, so at first it has nothing to do with the "
            "true gradient. The layers above then arrange themselves so that it points their way: "
            "below 90 degrees, following the feedback lowers the error. A line is a tap, by its "
            f"module's name; of more than {figures.MOST_TAPS}, some at equal distances.",
        )
    if not lit:
        return
    report.section("What the light cost")
    report.table(
        *light_table(lit),
        note=f"{_exposures_of_a_vector(lit[0])}; vectors without any part are not shown. "
        "References follow the interferometer's phase.",
    )


def _exposures_of_a_vector(run: RunResult) -> str:
    from training.encoding import exposures_a_row

    planes = exposures_a_row(run.encoder) // 2
    if planes == 1:
        return "A vector takes two exposures, one for its positive and one for its negative part"
    return (
        f"A vector takes {2 * planes} exposures, one for the positive and one for the negative "
        f"part of each of its {planes} bits"
    )


def training_page(runs: Sequence[RunResult], conditions: Mapping[str, Any] = _NONE) -> str:
    """A page about training runs of one recipe; `conditions` decided the light of optical ones."""
    from tools.report import Report
    from training.run_folder import by_dotted_name

    results = results_of(runs)
    score = runs[0].score
    report = Report(
        f"Learning {runs[0].task}",
        f"Recipe {runs[0].recipe}. What is told is the {score.name} on the test set after the last "
        "epoch.",
        {result.name: score.shown(result.test) for result in results},
    )
    add_training(report, runs)
    report.section("Settings", "Everything that is needed to do it again.")
    calibrations = dict.fromkeys(
        row.fingerprint for run in runs if run.feedback == "optical" for row in run.rows
    )
    report.settings(
        recipe_settings(runs)
        | {key: str(value) for key, value in by_dotted_name(conditions).items()}
        | ({"calibration": ", then ".join(calibrations)} if calibrations else {})
    )
    return report.html("opu train")


def recipe_settings(runs: Sequence[RunResult]) -> dict[str, str]:
    """What runs of one recipe were trained with, for tables."""
    from training.experiments import named_recipe

    recipe = named_recipe(runs[0].recipe, runs[0].task)
    epochs = counted(runs[0].rows[-1].epoch, "epoch", "epochs")
    return {
        "data": recipe.task,
        "network": recipe.network,
        "training": f"{recipe.schooling}, {epochs}",
        "codes": str(recipe.encoder),
        "seeds": ", ".join(sorted({str(run.seed) for run in runs})),
    }
