"""One run of one recipe."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from training.dfa import DFA, Mode
from training.encoding import Encoder, Identity
from training.errors import SettingsError
from training.experiments.recipe import FEEDBACKS, Feedback, Recipe
from training.projector import DenseProjector, Projector
from training.randomness import FEEDBACK, GLOBAL, derived_seed
from training.run_folder import RunFolder
from training.run_state import EpochRow
from training.score import Score
from training.task import Task
from training.team import Team, weights_digest
from training.trainer import Observer, Trainer


@dataclass(frozen=True)
class RunResult:
    """What a run came to.

    Attributes:
        recipe: Name of the recipe.
        task: What was learned.
        feedback: How it was trained.
        seed: Of weights, order, shifts and digital feedback.
        encoder: What the bench shows of an error.
        score: What the task is judged by.
        rows: One for each epoch, and one before the first.
    """

    recipe: str
    task: str
    feedback: Feedback
    seed: int
    encoder: Encoder
    score: Score
    rows: tuple[EpochRow, ...]

    @property
    def test(self) -> float:
        """The score on the test set after the last epoch."""
        return self.rows[-1].score["test"]

    @property
    def fingerprint(self) -> str:
        """Identity of the projector at the end."""
        return self.rows[-1].fingerprint

    @property
    def seconds(self) -> float:
        """Time of the whole run."""
        return self.rows[-1].seconds

    @property
    def projector(self) -> Mapping[str, float | None]:
        """The projector's account of the whole run, alignment probes included."""
        return self.rows[-1].projector

    def _repr_html_(self) -> str:
        """A table of the epochs, for notebooks."""
        taps = list(self.rows[0].alignment_deg)
        columns = ("epoch", "loss", *(f"{name} {self.score.name}" for name in self.rows[0].score))
        head = "".join(f"<th>{escape(each)}</th>" for each in (*columns, *taps))
        lines = "".join(f"<tr>{_cells(row)}</tr>" for row in self.rows)
        title = f"{self.task}, recipe {self.recipe}, {self.feedback} feedback, seed {self.seed}"
        return (
            f"<div><b>{escape(title)}: {escape(self.score.shown(self.test))}</b>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>"
        )

    def as_json(self) -> dict[str, Any]:
        """The result as JSON values."""
        return asdict(self) | {
            "test": self.test,
            "seconds": self.seconds,
            "fingerprint": self.fingerprint,
        }


def _cells(row: EpochRow) -> str:
    loss = "" if row.train_loss is None else f"{row.train_loss:.3f}"
    angles = ("" if angle is None else f"{angle:.0f}°" for angle in row.alignment_deg.values())
    cells = (f"{row.epoch}", loss, *(f"{value:.2f}" for value in row.score.values()), *angles)
    return "".join(f"<td>{cell}</td>" for cell in cells)


def run(
    recipe: Recipe,
    feedback: Feedback,
    projector: Projector | None = None,
    *,
    seed: int,
    folder: Path | None = None,
    resume: bool = False,
    earlier_feedback: Collection[str] = (),
    epochs: int | None = None,
    n_validation: int = 0,
    conditions: Mapping[str, Any] = MappingProxyType({}),
    earlier_conditions: Mapping[str, Any] = MappingProxyType({}),
    checkpoint_every: int | None = None,
    observer: Observer | None = None,
    team: Team | None = None,
) -> RunResult:
    """Train one network.

    Args:
        recipe: What and how.
        feedback: `"optical"` needs a projector; the others draw their own from the seed, unless
            one is given.
        projector: Where errors are projected.
        seed: Decides weights, order, shifts and digital feedback.
        folder: Where the run is kept; None keeps nothing.
        resume: Go on with the run in `folder`, if there is one.
        earlier_feedback: Fingerprints of other projectors with which the run in `folder` may have
            been trained.
        epochs: Instead of the recipe's.
        n_validation: Training examples that are evaluated instead of learned from; the figures to
            report are those with 0, hyperparameters are chosen with more.
        conditions: What else decides the run, such as the bench that projects, as JSON values:
            noted with the settings, and resuming needs the same.
        earlier_conditions: Conditions that the run in `folder` may have had instead so far; those
            of `conditions` are noted from when it goes on.
        checkpoint_every: Steps between checkpoints, besides those after each epoch.
        observer: Who wants to see it.
        team: The processes that train together: each calls this with its own rank, and with a
            `SharedProjector` where feedback is optical. The first one keeps the folder and
            evaluates; the rows of the others have no scores.

    Raises:
        TrainingError: And what grows from it; see `Trainer.fit`, `RunFolder` and `load`.
    """
    if feedback not in FEEDBACKS:
        raise SettingsError(f"Feedback {feedback!r}: choose one of {', '.join(FEEDBACKS)}.")
    if feedback == "optical" and projector is None:
        raise SettingsError("Optical feedback needs a projector: calibrate a bench first.")
    recipe = recipe.tuned_for(feedback)
    if epochs is not None:
        recipe = replace(recipe, epochs=epochs)
    if projector is None:
        projector = DenseProjector(recipe.n_inputs, recipe.n_feedback, derived_seed(seed, FEEDBACK))
    torch.manual_seed(derived_seed(seed, GLOBAL))
    task = recipe.prepare(seed, n_validation)
    if team is not None:
        task = team.divide(task)
    model = _model(task, recipe, feedback, projector)
    if team is not None:
        team.require_same("projector", projector.fingerprint())
        team.require_same("initial weights", weights_digest(list(task.module.parameters())))
    settings = run_settings(recipe, feedback, seed, n_validation, conditions) | {
        "score": asdict(task.score)
    }
    steps = recipe.epochs * task.batches.per_epoch
    trainer = Trainer(
        model,
        task,
        recipe.optimizer(task.module),
        lambda step: recipe.learning_rate_at(step, steps),
        epochs=recipe.epochs,
        checkpoint_every=checkpoint_every,
        observer=observer,
        team=team,
    )
    if folder is not None and (
        team is None or team.leads
    ):  # last: what is refused leaves no folder in the way of the next try
        earlier = {f"conditions.{name}": value for name, value in earlier_conditions.items()}
        trainer.folder = RunFolder(folder, settings, resume, earlier)
    rows = trainer.fit(earlier_feedback=earlier_feedback)
    return RunResult(recipe.name, recipe.task, feedback, seed, recipe.encoder, task.score, rows)


def run_settings(
    recipe: Recipe,
    feedback: Feedback,
    seed: int,
    n_validation: int = 0,
    conditions: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """What decides a run, as its header tells it; only the task's score comes on top."""
    return {
        **asdict(recipe.tuned_for(feedback)),
        "feedback": feedback,
        "seed": seed,
        "n_validation": n_validation,
        **({"conditions": dict(conditions)} if conditions else {}),
    }


def _model(task: Task, recipe: Recipe, feedback: Feedback, projector: Projector) -> DFA:
    model = DFA(
        task.module,
        projector,
        task.taps,
        encoder=recipe.encoder if feedback in ("optical", "ternary") else Identity(),
        layout=task.layout,
        error_at=task.error_at,
        tied=task.tied,
    )
    modes: dict[str, Mode] = {"backprop": "bp", "shallow": "shallow"}
    model.mode = modes.get(feedback, "dfa")
    model.build(*task.batches.at(0).inputs)
    return model
