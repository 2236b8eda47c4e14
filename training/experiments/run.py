"""One run of one recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from training.datasets import load
from training.datasets.batches import Batches, Scaling
from training.datasets.dataset import Dataset, Examples
from training.dfa import DFA, Mode
from training.encoding import Encoder, Identity
from training.errors import SettingsError
from training.experiments.recipe import Recipe
from training.models.mlp import mlp
from training.projector import DenseProjector, Projector
from training.randomness import FEEDBACK, GLOBAL, WEIGHTS, derived_seed
from training.run_folder import RunFolder
from training.trainer import EpochRow, Labelled, Observer, Trainer

Feedback = Literal["optical", "digital", "ternary", "backprop", "shallow"]
FEEDBACKS: tuple[Feedback, ...] = get_args(Feedback)
N_PROBE = 256
SPLIT_SEED = 0


@dataclass(frozen=True)
class RunResult:
    """What a run came to.

    Attributes:
        recipe: Name of the recipe.
        dataset: Name of the data set.
        feedback: How it was trained.
        seed: Of weights, order, shifts and digital feedback.
        rows: One for each epoch, and one before the first.
        fingerprint: Identity of the projector.
    """

    recipe: str
    dataset: str
    feedback: Feedback
    seed: int
    rows: tuple[EpochRow, ...]
    fingerprint: str

    @property
    def test_accuracy(self) -> float:
        """After the last epoch, %."""
        return self.rows[-1].accuracy["test"]

    @property
    def seconds(self) -> float:
        """Time of the whole run."""
        return self.rows[-1].seconds

    @property
    def projector(self) -> Mapping[str, float | None]:
        """The projector's account of the whole run, alignment probes included."""
        return self.rows[-1].projector

    def as_json(self) -> dict[str, Any]:
        """The result as JSON values."""
        return asdict(self) | {"test_accuracy": self.test_accuracy, "seconds": self.seconds}


def run(
    recipe: Recipe,
    feedback: Feedback,
    projector: Projector | None = None,
    *,
    seed: int,
    folder: Path | None = None,
    resume: bool = False,
    other_feedback: bool = False,
    epochs: int | None = None,
    n_validation: int = 0,
    dataset: Dataset | None = None,
    checkpoint_every: int | None = None,
    observer: Observer | None = None,
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
        other_feedback: Resume even with another projector.
        epochs: Instead of the recipe's.
        n_validation: Training examples that are evaluated instead of learned from; the figures to
            report are those with 0, hyperparameters are chosen with more.
        dataset: Instead of loading the recipe's.
        checkpoint_every: Steps between checkpoints, besides those after each epoch.
        observer: Who wants to see it.

    Raises:
        TrainingError: And what grows from it; see `Trainer.fit`, `RunFolder` and `load`.
    """
    if feedback not in FEEDBACKS:
        raise SettingsError(f"Feedback {feedback!r}: choose one of {', '.join(FEEDBACKS)}.")
    if feedback == "optical" and projector is None:
        raise SettingsError("Optical feedback needs a projector: calibrate a bench first.")
    if epochs is not None:
        recipe = replace(recipe, epochs=epochs)
    if projector is None:
        projector = DenseProjector(
            recipe.widths[-1], recipe.n_feedback, derived_seed(seed, FEEDBACK)
        )
    settings = asdict(recipe) | {
        "feedback": feedback,
        "seed": seed,
        "n_validation": n_validation,
    }
    data = load(recipe.dataset) if dataset is None else dataset
    train, validation = data.split(n_validation, SPLIT_SEED)
    scaling = Scaling.standardising(train) if recipe.standardise else Scaling()
    shallow = feedback == "shallow"
    max_shift = recipe.shallow.max_shift if shallow else recipe.max_shift
    batches = Batches(train, recipe.batch_size, seed, scaling, max_shift)
    held_out = {"validation": validation} if n_validation else {}
    torch.manual_seed(derived_seed(seed, GLOBAL))
    model = _model(recipe, feedback, projector, seed)
    model.build(_labelled(train.take(torch.arange(1)), scaling).inputs)
    rate = recipe.shallow.learning_rate / recipe.learning_rate if shallow else 1.0
    steps = recipe.epochs * batches.per_epoch
    trainer = Trainer(
        model,
        torch.optim.Adam(model.parameters(), lr=recipe.learning_rate, fused=True),
        batches,
        lambda step: rate * recipe.learning_rate_at(step, steps),
        epochs=recipe.epochs,
        evaluate={
            name: _labelled(part, scaling) for name, part in {**held_out, "test": data.test}.items()
        },
        probe=_labelled(train.take(torch.arange(min(N_PROBE, len(train)))), scaling),
        checkpoint_every=checkpoint_every,
        observer=observer,
    )
    if folder is not None:  # last: what is refused leaves no folder in the way of the next try
        trainer.folder = RunFolder(folder, settings, resume)
    rows = trainer.fit(other_feedback=other_feedback)
    return RunResult(recipe.name, recipe.dataset, feedback, seed, rows, projector.fingerprint())


def _model(recipe: Recipe, feedback: Feedback, projector: Projector, seed: int) -> DFA:
    shallow = feedback == "shallow"
    encoder: Encoder = recipe.encoder if feedback in ("optical", "ternary") else Identity()
    model = DFA(
        mlp(
            recipe.widths,
            seed=derived_seed(seed, WEIGHTS),
            init=recipe.shallow.init if shallow else recipe.init,
        ),
        projector,
        taps=["blocks.*"],
        encoder=encoder,
    )
    modes: dict[str, Mode] = {"backprop": "bp", "shallow": "shallow"}
    model.mode = modes.get(feedback, "dfa")
    return model


def _labelled(examples: Examples, scaling: Scaling) -> Labelled:
    return Labelled(scaling.inputs(examples.images), examples.labels)
