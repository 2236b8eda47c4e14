"""Recipes: everything that decides a training run but the feedback and the seed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from training.encoding import Ternary
from training.errors import SettingsError

Init = Literal["lecun", "xavier"]


@dataclass(frozen=True)
class Shallow:
    """The baseline's own tuned settings: hidden layers stay random, only the last one learns."""

    learning_rate: float
    init: Init
    max_shift: int = 0


@dataclass(frozen=True)
class Recipe:
    """A fully connected tanh network, trained by Adam and cross-entropy.

    Attributes:
        name: As on the command line.
        dataset: What it learns.
        widths: Inputs, hidden layers, outputs.
        init: Initial weights, see `training.models.mlp`.
        standardise: Inputs with mean 0 and deviation 1 over the training set; otherwise [0, 1].
        max_shift: Random shifts of training images, pixels.
        encoder: What the bench shows of an error, digital ternary feedback too.
        learning_rate: Of Adam, at its highest.
        cosine: It falls to zero along half a cosine; otherwise it is constant.
        batch_size: Rows of a batch.
        epochs: Passes over the training set.
        shallow: Settings of the shallow baseline, tuned for it.
    """

    name: str
    dataset: str
    widths: tuple[int, ...]
    init: Init
    standardise: bool
    max_shift: int
    encoder: Ternary
    learning_rate: float
    cosine: bool
    batch_size: int
    epochs: int
    shallow: Shallow

    @property
    def n_feedback(self) -> int:
        """Outputs that a projector needs: one for each hidden unit."""
        return sum(self.widths[1:-1])

    def learning_rate_at(self, step: int, steps: int) -> float:
        """Learning rate of a step, from 0 to `steps - 1`."""
        if not self.cosine:
            return self.learning_rate
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))


WIDTHS = {
    "mnist": (784, 1024, 1024, 10),
    "fashion-mnist": (784, 1024, 1024, 10),
    "digits": (64, 48, 48, 10),
}

LIGHT_IN_THE_LOOP = Recipe(
    name="light-in-the-loop",
    dataset="mnist",
    widths=WIDTHS["mnist"],
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

BEST = Recipe(
    name="best",
    dataset="mnist",
    widths=WIDTHS["mnist"],
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

RECIPES = {recipe.name: recipe for recipe in (BEST, LIGHT_IN_THE_LOOP)}


def named_recipe(name: str, dataset: str) -> Recipe:
    """A recipe for a data set.

    Raises:
        SettingsError: No such recipe or data set.
    """
    if name not in RECIPES:
        raise SettingsError(f"Recipe {name!r}: choose one of {', '.join(RECIPES)}.")
    if dataset not in WIDTHS:
        raise SettingsError(f"Data set {dataset!r}: choose one of {', '.join(WIDTHS)}.")
    recipe = replace(RECIPES[name], dataset=dataset, widths=WIDTHS[dataset])
    if dataset == "digits":  # 1437 images that fill their 8 x 8 pixels: no room for shifts
        recipe = replace(recipe, batch_size=32, epochs=20, max_shift=0)
        if name == "best":
            recipe = replace(recipe, learning_rate=3e-3, shallow=Shallow(0.1, "xavier"))
    return recipe
