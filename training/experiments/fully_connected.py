"""Images, learned by a fully connected tanh network: what the published bench was shown to do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Self

import torch

from training.datasets import load
from training.datasets.dataset import Dataset
from training.encoding import BitPlanes, Ternary
from training.experiments.images import classification
from training.experiments.recipe import Feedback, Recipe
from training.models.mlp import mlp
from training.randomness import WEIGHTS, derived_seed
from training.taps import Layout
from training.task import Task

Init = Literal["lecun", "xavier", "identity"]


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
        layout: Which outputs of the projector feed which hidden layer.
        backprop_rate: Learning rate of backpropagation, where it needs another; None otherwise.
        shallow: Settings of the shallow baseline, tuned for it.
    """

    widths: tuple[int, ...]
    init: Init
    standardise: bool
    max_shift: int
    batch_size: int
    shallow: Shallow
    layout: Layout = "concat"
    backprop_rate: float | None = None

    @property
    def n_inputs(self) -> int:
        """One for each class."""
        return self.widths[-1]

    @property
    def n_feedback(self) -> int:
        """One for each hidden unit, or for those of the widest layer if all share them."""
        hidden = self.widths[1:-1]
        return sum(hidden) if self.layout == "concat" else max(hidden)

    @property
    def widest(self) -> int:
        """Units of the largest layer."""
        return max(self.widths)

    @property
    def network(self) -> str:
        """All widths."""
        n_in, *hidden, n_out = self.widths
        if len(hidden) > 4 and len(set(hidden)) == 1:
            return f"{n_in} – {len(hidden)} x {hidden[0]} – {n_out}, tanh"
        return " – ".join(str(width) for width in self.widths) + ", tanh"

    @property
    def schooling(self) -> str:
        """Optimizer and batches."""
        return f"{super().schooling}, batches of {self.batch_size}"

    def tuned_for(self, feedback: Feedback) -> Self:
        """The shallow baseline has settings of its own, and backpropagation perhaps a rate."""
        if feedback == "backprop":
            return replace(self, learning_rate=self.backprop_rate or self.learning_rate)
        if feedback != "shallow":
            return self
        own = self.shallow
        return replace(
            self, learning_rate=own.learning_rate, init=own.init, max_shift=own.max_shift
        )

    def data(self) -> Dataset:
        """What it learns from."""
        return load(self.task)

    def prepare(self, seed: int, n_validation: int, device: str = "cpu") -> Task:
        """Data and network of one run."""
        with torch.device(device):
            module = mlp(self.widths, seed=derived_seed(seed, WEIGHTS), init=self.init)
        return classification(
            module,
            ["blocks.*"],
            self.data(),
            seed=seed,
            batch_size=self.batch_size,
            max_shift=self.max_shift,
            n_validation=n_validation,
            standardise=self.standardise,
            layout=self.layout,
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


def _deep(depth: int) -> FullyConnected:
    """Plain tanh layers, one on the other: all share the outputs of one projection."""
    return replace(
        BEST,
        name=f"deep-{depth}",
        widths=(784, *[256] * depth, 10),
        init="xavier",
        layout="shared_prefix",
        max_shift=0,
        encoder=BitPlanes(4),  # of two levels too little is left after thirty layers
        epochs=3,
        learning_rate=3e-3,
        backprop_rate=3e-4,
        shallow=Shallow(0.01, "identity"),
    )


DEEPEST = replace(_deep(100), init="identity", learning_rate=1e-3, backprop_rate=1e-4)
"""A hundred layers of Xavier's weights forget the input, and feedback alignment gets nowhere."""

RECIPES = (
    BEST,
    LIGHT_IN_THE_LOOP,
    replace(BEST, task="fashion-mnist"),
    replace(LIGHT_IN_THE_LOOP, task="fashion-mnist"),
    *(_deep(depth) for depth in (10, 30)),
    DEEPEST,
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
