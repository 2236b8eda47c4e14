"""Pictures of training: learning curves and alignment angles, as matplotlib figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from training.errors import SettingsError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from training.encoding import Encoder
    from training.experiments.recipe import Feedback
    from training.experiments.run import RunResult
    from training.score import Score

T = TypeVar("T")

COLOURS = {
    "optical": "#c1121f",
    "ternary": "#e58606",
    "digital": "#2a9d8f",
    "backprop": "#264653",
    "shallow": "#8d99ae",
}
_NAMES = {
    "optical": "DFA, optical",
    "digital": "DFA, not quantised",
    "backprop": "backpropagation",
    "shallow": "last layer only",
}
TAP_COLOURS = ("#3a0ca3", "#f72585", "#4cc9f0", "#7209b7", "#e58606", "#2a9d8f")
MOST_TAPS = len(TAP_COLOURS)
_LABEL_HEIGHT = 0.065  # of the axes


def feedback_name(feedback: Feedback, encoder: Encoder) -> str:
    """A way of feedback in words; that with the bench's codes is named by them."""
    return f"DFA, digital {encoder.words}" if feedback == "ternary" else _NAMES[feedback]


def learning_curves(results: Sequence[RunResult]) -> Figure:
    """What is left to gain against epochs, a line for each feedback: mean over seeds, and range.

    The test error, or a score of which less is better, is on a logarithmic axis, where equal
    distances are equal factors.

    Raises:
        SettingsError: No results, or of different tasks.
    """
    figure, axes = _figure()
    by_feedback = _grouped(results)
    score = results[0].score
    ends: list[tuple[float, str, str]] = []
    for feedback, runs in by_feedback.items():
        epochs = [row.epoch for row in runs[0].rows]
        errors = np.array(
            [[score.shortfall(row.score["test"]) for row in run.rows] for run in runs]
        )
        if score.step is not None:
            errors = np.maximum(errors, 1e-2)  # a faultless test set has a place on the axis, too
        mean = errors.mean(0)
        colour = COLOURS[feedback]
        axes.plot(epochs, mean, color=colour, linewidth=2.2)
        if len(runs) > 1:
            axes.fill_between(
                epochs, errors.min(0), errors.max(0), color=colour, alpha=0.18, linewidth=0
            )
        ends.append((float(mean[-1]), f"{_name(runs[0])}  {_end(runs)}", colour))
    axes.set_yscale("log")
    _label_ends(axes, ends, max(run.rows[-1].epoch for run in results))
    axes.set_xlabel("epoch")
    axes.set_ylabel(score.shortfall_name)
    axes.yaxis.set_major_formatter("{x:g}")
    ticks = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100]
    low, high = axes.get_ylim()
    axes.set_yticks([tick for tick in ticks if low <= tick <= high])
    axes.minorticks_off()
    seeds = len(next(iter(by_feedback.values())))
    axes.set_title(
        f"Learning {results[0].task}" + (f", mean and range of {seeds} seeds" if seeds > 1 else ""),
        loc="left",
    )
    return figure


def _name(result: RunResult) -> str:
    return feedback_name(result.feedback, result.encoder)


def _end(runs: Sequence[RunResult]) -> str:
    mean = float(np.mean([run.test for run in runs]))
    return runs[0].score.shown(mean)


def alignment_angles(result: RunResult) -> Figure:
    """Angle between feedback and true gradient at each tap, against epochs.

    Of many taps some are drawn, from the first to the last at equal distances; the title says so.

    Raises:
        SettingsError: The run had no feedback.
    """
    taps = list(result.rows[0].alignment_deg)
    if not taps:
        raise SettingsError(
            f"A run with feedback {result.feedback!r} has no alignment angles: choose optical, "
            "digital or ternary."
        )
    figure, axes = _figure()
    epochs = [row.epoch for row in result.rows]
    ends = []
    drawn_taps = some_evenly(taps, MOST_TAPS)
    for depth, tap in enumerate(drawn_taps):
        angles = [row.alignment_deg[tap] for row in result.rows]
        drawn = np.array([np.nan if angle is None else angle for angle in angles])
        colour = TAP_COLOURS[depth]
        axes.plot(epochs, drawn, color=colour, linewidth=2.2, marker="o", markersize=5)
        ends.append((float(drawn[-1]), f"{tap}  {_degrees(drawn[-1])}", colour))
    axes.axhline(90, color="0.6", linewidth=1, linestyle=(0, (4, 3)))
    axes.annotate(
        "90°: nothing in common",
        (0, 90),
        xytext=(4, 4),
        textcoords="offset points",
        color="0.4",
        fontsize=10,
    )
    axes.set_ylim(0, 100)
    axes.set_yticks(range(0, 91, 15))
    _label_ends(axes, ends, epochs[-1])
    axes.set_xlabel("epoch")
    axes.set_ylabel("angle between feedback and gradient, degrees")
    some = f", {len(drawn_taps)} of {len(taps)} taps" if len(drawn_taps) < len(taps) else ""
    axes.set_title(f"The layers align with the feedback ({_name(result)}){some}", loc="left")
    return figure


def some_evenly(items: Sequence[T], most: int) -> list[T]:
    """No more than so many, from the first to the last at equal distances."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def _degrees(angle: float) -> str:
    return "–" if np.isnan(angle) else f"{angle:.0f}°"


def sweep_figure(
    points: Sequence[tuple[float, Sequence[float]]], words: str, score: Score, floor: float
) -> Figure:
    """Scores against how bad something was: the mean, and a dot a run; a cross without any.

    Args:
        points: Value and scores, from harmless to fatal; no scores where all runs were refused.
        words: What was varied, with its unit.
        score: What was judged.
        floor: The score of the shallow baseline.
    """
    figure, axes = _figure()
    colour = COLOURS["optical"]
    values = [value for value, _ in points]
    means = [(value, np.mean(scores)) for value, scores in points if scores]
    axes.plot(*zip(*means, strict=True), color=colour, linewidth=2.2)
    for value, scores in points:
        axes.plot([value] * len(scores), scores, "o", color=colour, markersize=4, alpha=0.6)
        if not scores:
            axes.plot(
                [value],
                [0.0],
                "x",
                color=colour,
                markersize=8,
                markeredgewidth=2,
                transform=axes.get_xaxis_transform(),
                clip_on=False,
            )
    axes.axhline(floor, color=COLOURS["shallow"], linewidth=1.6, linestyle=(0, (4, 3)))
    axes.annotate(
        f"last layer only  {score.shown(floor)}",
        (0.0, floor),
        xycoords=("axes fraction", "data"),
        xytext=(4, 4),
        textcoords="offset points",
        color="0.4",
        fontsize=10,
    )
    if min(values) > 0 and max(values) > 5 * min(values):
        axes.set_xscale("log")
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.minorticks_off()
    if values[0] > values[-1]:
        axes.invert_xaxis()
    axes.set_xlabel(words)
    axes.set_ylabel(f"test {score.name}" + (f", {score.unit}" if score.unit else ""))
    return figure


def _figure() -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 4.6), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _grouped(results: Sequence[RunResult]) -> Mapping[str, list[RunResult]]:
    if not results or len({(result.task, len(result.rows)) for result in results}) != 1:
        raise SettingsError(
            f"Learning curves of {len(results)} runs: give at least one, all of one task and "
            "length."
        )
    found: dict[str, list[RunResult]] = {}
    for feedback in COLOURS:
        if runs := [result for result in results if result.feedback == feedback]:
            found[feedback] = runs
    return found


def _label_ends(axes: Axes, ends: list[tuple[float, str, str]], last_epoch: int) -> None:
    """Names at the right ends of lines, pushed apart where they would overlap."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(0, last_epoch)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    to_axes = axes.transData.transform
    low, high = (to_axes((0, y))[1] for y in axes.get_ylim())
    places: list[float] = []
    ends = sorted(ends, key=lambda end: (np.isnan(end[0]), end[0]))
    for value, _, _ in ends:
        wanted = (to_axes((last_epoch, value))[1] - low) / (high - low)
        above = places[-1] + _LABEL_HEIGHT if places else 0.0
        places.append(float(np.fmax(wanted, above)))
    for below, _ in enumerate(ends, start=1):  # what was pushed above the axes goes down again
        places[-below] = min(places[-below], 1.0 - (below - 1) * _LABEL_HEIGHT)
    for place, (_, text, colour) in zip(places, ends, strict=True):
        axes.annotate(
            text,
            (1.0, place),
            xytext=(8, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            color=colour,
            va="center",
            fontsize=11,
            annotation_clip=False,
        )
