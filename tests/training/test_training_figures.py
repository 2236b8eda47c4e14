from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest

from training.errors import SettingsError
from training.experiments import FEEDBACKS, RunResult
from training.figures import COLOURS, alignment_angles, learning_curves
from training.score import Score, accuracy_score
from training.trainer import EpochRow

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
    return RunResult("best", "digits", feedback, seed, SCORE, rows)


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


def test_a_faultless_run_can_be_drawn() -> None:
    assert drawn(learning_curves([result()])) == ["DFA, optical  100.00 %"]


def test_alignment_of_each_tap() -> None:
    texts = drawn(alignment_angles(result()))
    assert "hidden layer 1  90°" in texts


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
