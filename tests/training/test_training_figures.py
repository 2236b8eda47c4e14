from __future__ import annotations

import io
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from tools.results_table import results_of
from tools.training_view import training_page
from training.encoding import BitPlanes, Ternary
from training.errors import SettingsError
from training.experiments import FEEDBACKS, RunResult
from training.figures import COLOURS, alignment_angles, learning_curves, sweep_figure
from training.run_state import EpochRow
from training.score import Score, accuracy_score

SCORE = accuracy_score(360)


def result(feedback: Any = "optical", seed: int = 0, epochs: int = 3) -> RunResult:
    angles = {"blocks.0": 90.0, "blocks.1": None} if feedback in ("optical", "ternary") else {}
    rows = tuple(
        EpochRow(
            epoch,
            0.5 if epoch else None,
            {"test": 10.0 if epoch == 0 else 100.0 - (epoch < 3) - seed},
            1e-3,
            float(epoch),
            "none",
            {},
            angles,
        )
        for epoch in range(epochs + 1)
    )
    return RunResult("best", "digits", feedback, seed, Ternary(0.3), SCORE, rows)


def drawn(figure: Any) -> list[str]:
    figure.savefig(buffer := io.BytesIO(), format="png")
    assert buffer.getvalue().startswith(b"\x89PNG")
    (axes,) = figure.axes
    assert axes.get_xlabel() == "epoch"
    assert axes.get_ylabel()
    return [text.get_text() for text in axes.texts]


def test_learning_curves_name_every_feedback_once() -> None:
    results = [result(feedback, seed) for feedback in FEEDBACKS for seed in (0, 1)]
    figure = learning_curves(results)
    assert len(figure.axes[0].lines) == 5
    texts = drawn(figure)
    assert len(set(texts)) == 5
    assert all(text.endswith("99.50 %") for text in texts)
    assert "2 seeds" in figure.axes[0].get_title("left")


def test_digital_feedback_is_named_by_the_codes_of_the_bench() -> None:
    run = result("ternary")
    assert drawn(learning_curves([run]))[0].startswith("DFA, digital ternary")
    deep = replace(run, encoder=BitPlanes(4))
    assert drawn(learning_curves([deep]))[0].startswith("DFA, digital 4-bit")
    assert results_of([deep])[0].cells[0] == "DFA, digital 4-bit"
    optical = replace(deep, feedback="optical", rows=tuple(map(lit, deep.rows)))
    page = training_page([optical], {"bench": {"scene": {"preset": "quiet"}}})
    assert "A vector takes 8 exposures" in page
    assert "bench.scene.preset" in page
    assert optical.rows[0].fingerprint in page


def lit(row: EpochRow) -> EpochRow:
    account = dict.fromkeys(("rows", "shown_rows", "exposures", "reference_exposures"), 1)
    return replace(row, projector=account | {"snr": 1, "phase_drift_rad": 0, "fidelity": 1})


def test_what_was_refused_is_a_cross_and_values_are_named() -> None:
    points = [(8.0, [96.1]), (2.0, [94.4]), (1.0, [])]
    axes = sweep_figure(points, "bits", result().score, 93.6).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["8", "2", "1"]
    (cross,) = (line for line in axes.lines if line.get_marker() == "x")
    assert list(cross.get_xdata()) == [1.0]


def test_a_faultless_run_can_be_drawn() -> None:
    assert drawn(learning_curves([result()])) == ["DFA, optical  100.00 %"]


def test_alignment_of_each_tap() -> None:
    texts = drawn(alignment_angles(result()))
    assert "blocks.0  90°" in texts
    assert "blocks.1  –" in texts


def test_of_many_taps_some_are_drawn_that_can_be_read() -> None:
    deep = {f"blocks.{i}": 80.0 + i / 100 for i in range(96)}
    run = result()
    run = replace(run, rows=tuple(replace(row, alignment_deg=deep) for row in run.rows))
    figure = alignment_angles(run)
    names = [text.partition("  ")[0] for text in drawn(figure) if "blocks" in text]
    assert names == ["blocks.0", "blocks.19", "blocks.38", "blocks.57", "blocks.76", "blocks.95"]
    (axes,) = figure.axes
    assert "6 of 96 taps" in axes.get_title("left")
    ends = [text.xy[1] for text in axes.texts if "blocks" in text.get_text()]
    assert max(ends) <= 1.0
    assert min(b - a for a, b in pairwise(ends)) >= 0.0649


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(SettingsError, match="0 runs"):
        learning_curves([])
    with pytest.raises(SettingsError, match="of one task and length"):
        learning_curves([result(), result(epochs=2)])
    with pytest.raises(SettingsError, match="'backprop' has no alignment"):
        alignment_angles(result("backprop"))


def test_every_feedback_has_a_colour() -> None:
    assert set(COLOURS) == set(FEEDBACKS)


def test_a_score_of_which_less_is_better_is_drawn_itself() -> None:
    perplexity = replace(result(), score=Score("perplexity"))
    figure = learning_curves([perplexity])
    assert drawn(figure) == ["DFA, optical  100.0"]
    assert figure.axes[0].get_ylabel() == "test perplexity"
    assert list(figure.axes[0].lines[0].get_ydata())[-1] == 100.0


def test_a_run_shows_its_epochs_in_a_notebook() -> None:
    page = result("optical")._repr_html_()
    assert page.startswith("<div>")
    assert page.endswith("</table></div>")
    assert page.count("<tr>") == page.count("</tr>") == 1 + len(result("optical").rows)
    assert "digits, recipe best, optical feedback, seed 0: 100.00 %" in page
