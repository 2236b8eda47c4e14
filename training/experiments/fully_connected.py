"""Images, learned by a fully connected tanh network: what the published bench was shown to do."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, Self

import torch
from torch.nn import functional

from training.batch import Batch
from training.datasets import load
from training.datasets.dataset import Dataset
from training.datasets.image_batches import ImageBatches, Scaling
from training.encoding import Ternary
from training.experiments.recipe import Feedback, Recipe
from training.models.mlp import mlp
from training.randomness import WEIGHTS, derived_seed
from training.score import accuracy, accuracy_score
from training.task import Task

Init = Literal["lecun", "xavier"]
N_PROBE = 256
SPLIT_SEED = 0


@dataclass(frozen=True)
class Shallow:
    """The baseline's own tuned settings: hidden layers stay random, only the last one learns."""

    learning_rate: float
    init: Init
    max_shift: int = 0


@dataclass(frozen=True, kw_only=True)
class FullyConnected(Recipe):
    """A fully connected tanh network, trained by Adam and cross-entropy.

    Attributes:
        widths: Inputs, hidden layers, outputs.
        init: Initial weights, see `training.models.mlp`.
        standardise: Inputs with mean 0 and deviation 1 over the training set; otherwise [0, 1].
        max_shift: Random shifts of training images, pixels.
        batch_size: Rows of a batch.
        shallow: Settings of the shallow baseline, tuned for it.
    """

    widths: tuple[int, ...]
    init: Init
    standardise: bool
    max_shift: int
    batch_size: int
    shallow: Shallow

    @property
    def n_inputs(self) -> int:
        """One for each class."""
        return self.widths[-1]

    @property
    def n_feedback(self) -> int:
        """One for each hidden unit."""
        return sum(self.widths[1:-1])

    @property
    def widest(self) -> int:
        """Units of the largest layer."""
        return max(self.widths)

    @property
    def network(self) -> str:
        """All widths."""
        return " – ".join(str(width) for width in self.widths) + ", tanh"

    @property
    def schooling(self) -> str:
        """Optimizer and batches."""
        return f"{super().schooling}, batches of {self.batch_size}"

    def tuned_for(self, feedback: Feedback) -> Self:
        """The shallow baseline has settings of its own."""
        if feedback != "shallow":
            return self
        own = self.shallow
        return replace(
            self, learning_rate=own.learning_rate, init=own.init, max_shift=own.max_shift
        )

    def data(self) -> Dataset:
        """What it learns from."""
        return load(self.task)

    def prepare(self, seed: int, n_validation: int) -> Task:
        """Data and network of one run."""
        data = self.data()
        train, validation = data.split(n_validation, SPLIT_SEED)
        scaling = Scaling.standardising(train) if self.standardise else Scaling()
        parts = {"validation": validation} if n_validation else {}
        some = train.take(torch.arange(min(N_PROBE, len(train))))
        return Task(
            mlp(self.widths, seed=derived_seed(seed, WEIGHTS), init=self.init),
            taps=["blocks.*"],
            batches=ImageBatches(train, self.batch_size, seed, scaling, self.max_shift),
            loss=functional.cross_entropy,
            guessing=math.log(data.n_classes),
            score=accuracy_score(len(data.test)),
            evaluate={
                name: accuracy(scaling.inputs(part.images), part.labels)
                for name, part in {**parts, "test": data.test}.items()
            },
            probe=Batch((scaling.inputs(some.images),), some.labels),
        )


LIGHT_IN_THE_LOOP = FullyConnected(
    name="light-in-the-loop",
    task="mnist",
    widths=(784, 1024, 1024, 10),
    init="xavier",
    standardise=False,
    max_shift=0,
    encoder=Ternary(0.1, restore=False),
    learning_rate=0.01,
    cosine=False,
    batch_size=128,
    epochs=10,
    shallow=Shallow(0.01, "xavier"),
)
"""The published settings (Launay et al., arXiv:2006.01475); batch size and weights are ours."""

BEST = FullyConnected(
    name="best",
    task="mnist",
    widths=(784, 1024, 1024, 10),
    init="lecun",
    standardise=True,
    max_shift=1,
    encoder=Ternary(0.3, relative=True, dark_below=0.02),
    learning_rate=1e-3,
    cosine=True,
    batch_size=128,
    epochs=10,
    shallow=Shallow(0.01, "xavier"),
)
"""Ours, chosen on 10,000 images of MNIST's training set with ternary feedback."""


RECIPES = (
    BEST,
    LIGHT_IN_THE_LOOP,
    replace(BEST, task="fashion-mnist"),
    replace(LIGHT_IN_THE_LOOP, task="fashion-mnist"),
    replace(  # 1437 images that fill their 8 x 8 pixels: small batches, and no room for shifts
        BEST,
        task="digits",
        widths=(64, 48, 48, 10),
        batch_size=32,
        epochs=20,
        max_shift=0,
        learning_rate=3e-3,
        shallow=Shallow(0.1, "xavier"),
    ),
)
