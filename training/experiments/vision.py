"""Clothes, told apart by a vision Transformer: a row of the error is an image, all tokens alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import nn

from training.datasets import load
from training.datasets.dataset import Dataset
from training.encoding import Ternary
from training.experiments.images import classification
from training.experiments.recipe import Feedback, Recipe
from training.models.vision_transformer import VisionTransformer
from training.randomness import WEIGHTS, derived_seed
from training.taps import Tap
from training.task import Task


@dataclass(frozen=True, kw_only=True)
class VisionRecipe(Recipe):
    """A vision Transformer, trained by Adam and cross-entropy.

    Attributes:
        side: Rows and columns of an image.
        patch: Rows and columns of a patch.
        width: Features of a token.
        depth: Blocks.
        heads: Attention heads.
        n_classes: Outputs.
        max_shift: Random shifts of training images, pixels.
        batch_size: Images of a batch.
        shallow_rate: Learning rate of the shallow baseline, tuned for it.
    """

    side: int
    patch: int
    width: int
    depth: int
    heads: int
    n_classes: int
    max_shift: int
    batch_size: int
    shallow_rate: float

    @property
    def n_inputs(self) -> int:
        """One for each class."""
        return self.n_classes

    @property
    def n_feedback(self) -> int:
        """One for each feature of a token, the same for all blocks and tokens of an image."""
        return self.width

    @property
    def widest(self) -> int:
        """Inside of a feed-forward step."""
        return 4 * self.width

    @property
    def network(self) -> str:
        """Sizes of the Transformer."""
        tokens = (self.side // self.patch) ** 2
        return (
            f"vision Transformer, {self.depth} blocks of {self.width}, {self.heads} heads, "
            f"{tokens} patches"
        )

    @property
    def schooling(self) -> str:
        """Optimizer and batches."""
        return f"{super().schooling}, batches of {self.batch_size}"

    def tuned_for(self, feedback: Feedback) -> Self:
        """The shallow baseline has a learning rate of its own."""
        return replace(self, learning_rate=self.shallow_rate) if feedback == "shallow" else self

    def data(self) -> Dataset:
        """What it learns from."""
        return load(self.task)

    def prepare(self, seed: int, n_validation: int, device: str = "cpu") -> Task:
        """Data and network of one run."""
        with torch.random.fork_rng(devices=[]), torch.device(device):
            torch.manual_seed(derived_seed(seed, WEIGHTS))
            module: nn.Module = VisionTransformer(
                self.side, self.patch, self.width, self.depth, self.heads, self.n_classes
            )
        return classification(
            module,
            [Tap("blocks.*", broadcast=True)],
            self.data(),
            seed=seed,
            batch_size=self.batch_size,
            max_shift=self.max_shift,
            n_validation=n_validation,
            layout="shared_prefix",
        )


CLOTHES = VisionRecipe(
    name="vit",
    task="fashion-mnist",
    side=28,
    patch=7,
    width=64,
    depth=4,
    heads=4,
    n_classes=10,
    max_shift=1,
    batch_size=128,
    encoder=Ternary(0.3, relative=True, dark_below=0.02),
    learning_rate=3e-3,
    cosine=True,
    epochs=4,
    shallow_rate=1e-2,
)

RECIPES = (CLOTHES,)
