"""The training's part of a report: curves, angles, results, and what the light cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tools.results_table import RESULT_COLUMNS, light_table, results_of

if TYPE_CHECKING:
    from tools.report import Report
    from training.experiments import RunResult


def add_training(report: Report, runs: Sequence[RunResult]) -> None:
    """Add the results of training runs to a report."""
    from training import figures
    from training.datasets import load

    n_test = len(load(runs[0].dataset).test)
    results = results_of(runs)
    report.section(
        "Training",
        "The same network, trained in five ways. Backpropagation sends the error back through the "
        "transposed weights; direct feedback alignment sends it to every layer through one fixed "
        "random matrix, which light or arithmetic multiplies by.",
    )
    report.table(
        RESULT_COLUMNS,
        [result.cells for result in results],
        note="Shallow training updates the last layer only, with settings tuned for it: what any "
        "feedback has to beat. Ternary feedback is digital, with the codes that the bench shows.",
        marked=next((i for i, r in enumerate(results) if r.feedback == "optical"), None),
    )
    report.figure(
        figures.learning_curves(runs),
        "Learning curves",
        "Test error after every epoch, on a logarithmic axis: mean of the runs, and a band from "
        f"the best to the worst. The test set has {n_test} images; one of them is "
        f"{100 / n_test:.2g} %.",
    )
    lit = [run for run in runs if run.feedback == "optical"]
    if not lit:
        return
    report.figure(
        figures.alignment_angles(lit[0]),
        "Alignment angles",
        "The feedback is random and never changes, so at first it has nothing to do with the true "
        "gradient. The layers above then arrange themselves so that it points their way: below 90 "
        "degrees, following the feedback lowers the error.",
    )
    report.section("What the light cost")
    report.table(
        *light_table(lit),
        note="A vector takes two exposures, one for its positive and one for its negative part; "
        "vectors without any part are not shown. References follow the interferometer's phase.",
    )


def recipe_settings(runs: Sequence[RunResult]) -> dict[str, str]:
    """What runs of one recipe were trained with, for tables."""
    from training.experiments import named_recipe

    recipe = named_recipe(runs[0].recipe, runs[0].dataset)
    return {
        "data": recipe.dataset,
        "network": " – ".join(str(width) for width in recipe.widths) + ", tanh",
        "training": f"Adam, learning rate {recipe.learning_rate:g}"
        + (", cosine" if recipe.cosine else "")
        + f", batches of {recipe.batch_size}, {runs[0].rows[-1].epoch} epochs",
        "codes": str(recipe.encoder),
        "seeds": ", ".join(sorted({str(run.seed) for run in runs})),
    }
