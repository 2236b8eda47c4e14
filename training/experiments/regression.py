"""Regression: a Transformer foretells a field, as others foretell the weather.

A row of the error is a patch of the field, so that light carries sixteen numbers for each. The
score is the root mean square error of test fields, relative to their own root mean square.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.batch import Batch
from training.datasets.fields import N_TEST, N_TRAIN, Fields, separating
from training.encoding import Ternary
from training.experiments.recipe import Feedback, Recipe
from training.models.field_transformer import FieldTransformer, patches
from training.randomness import ORDER, WEIGHTS, derived_seed, generator
from training.score import Evaluation, Score
from training.task import Task

RELATIVE_ERROR = Score("relative error")
N_PROBE = 64


@dataclass(frozen=True)
class ShuffledFields:
    """Fields in a random order that is a function of the step.

    Attributes:
        inputs: `[field, row, column]`.
        targets: `[field, patch, pixel]`.
        batch_size: Fields of a batch.
        seed: Decides the order.
    """

    inputs: Tensor
    targets: Tensor
    batch_size: int
    seed: int

    @property
    def per_epoch(self) -> int:
        """Full batches."""
        return len(self.inputs) // self.batch_size

    def at(self, step: int) -> Batch:
        """Fields and what becomes of them."""
        epoch, within = divmod(step, self.per_epoch)
        order = torch.randperm(len(self.inputs), generator=generator(self.seed, ORDER, epoch))
        rows = order[within * self.batch_size : (within + 1) * self.batch_size]
        return Batch((self.inputs[rows],), self.targets[rows])


@dataclass(frozen=True, kw_only=True)
class ForecastRecipe(Recipe):
    """A Transformer over patches, trained by Adam on the mean square error.

    Attributes:
        side: Rows and columns of a field.
        time: How far it looks ahead, in units of the Allen-Cahn equation.
        patch: Rows and columns of a patch.
        width: Features of a token.
        depth: Blocks.
        heads: Attention heads.
        batch_size: Fields of a batch.
        rates: Learning rates of ways of feedback that need another; chosen on validation fields.
    """

    side: int
    time: float
    patch: int
    width: int
    depth: int
    heads: int
    batch_size: int
    rates: Mapping[Feedback, float]

    @property
    def n_inputs(self) -> int:
        """One for each pixel of a patch."""
        return self.patch**2

    @property
    def n_feedback(self) -> int:
        """One for each feature of a token, shared by all blocks."""
        return self.width

    @property
    def widest(self) -> int:
        """Inside of a feed-forward step."""
        return 4 * self.width

    @property
    def network(self) -> str:
        """Sizes of the Transformer."""
        return (
            f"Transformer, {self.depth} blocks of {self.width}, {self.heads} heads, "
            f"{(self.side // self.patch) ** 2} patches of {self.n_inputs}"
        )

    @property
    def schooling(self) -> str:
        """Optimizer and batches."""
        return f"{super().schooling}, batches of {self.batch_size}"

    def tuned_for(self, feedback: Feedback) -> Self:
        """Ways of feedback have learning rates of their own."""
        return replace(self, learning_rate=self.rates.get(feedback, self.learning_rate))

    def prepare(self, seed: int, n_validation: int, device: str = "cpu") -> Task:
        """Data and network of one run."""
        train, validation = separating(N_TRAIN, self.side, self.time, 0).split(n_validation)
        test = separating(N_TEST, self.side, self.time, 1)
        with torch.random.fork_rng(devices=[]), torch.device(device):
            torch.manual_seed(derived_seed(seed, WEIGHTS))
            module = FieldTransformer(self.side, self.patch, self.width, self.depth, self.heads)
        targets = patches(train.after, self.patch)
        parts = {"validation": validation} if n_validation else {}
        return Task(
            module,
            taps=["blocks.*"],
            batches=ShuffledFields(train.before, targets, self.batch_size, seed),
            loss=functional.mse_loss,
            guessing=float(targets.square().mean()),
            score=RELATIVE_ERROR,
            evaluate={
                name: _relative_error(part, self.patch)
                for name, part in {**parts, "test": test}.items()
            },
            probe=Batch((train.before[:N_PROBE],), targets[:N_PROBE]),
            layout="shared_prefix",
        )


def _relative_error(fields: Fields, patch: int) -> Evaluation:
    wanted = patches(fields.after, patch)

    def evaluate(module: nn.Module) -> float:
        missed = functional.mse_loss(module(fields.before), wanted)
        return float((missed / wanted.square().mean()).sqrt())

    return evaluate


SEPARATION = ForecastRecipe(
    name="forecast",
    task="separating-fields",
    side=16,
    time=3.0,
    patch=4,
    width=32,
    depth=4,
    heads=4,
    batch_size=64,
    encoder=Ternary(0.3, relative=True),
    learning_rate=1e-2,
    rates={"shallow": 3e-2},
    cosine=True,
    epochs=10,
)

RECIPES = (SEPARATION,)
