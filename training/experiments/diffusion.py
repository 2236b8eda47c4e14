"""Digits drawn from noise: a denoiser, whose error is as wide as the image.

The score is the mean square of the noise that the denoiser misses on test images, relative to the
noise: 1 for guessing nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.batch import Batch
from training.datasets.digits import digits
from training.encoding import BitPlanes
from training.experiments.recipe import Feedback, Recipe
from training.models.denoiser import Denoiser
from training.models.diffusion import noisy, shares
from training.randomness import ORDER, WEIGHTS, derived_seed, generator
from training.score import Evaluation, Score
from training.task import Task

MISSED = Score("share of noise missed")
SPLIT_SEED = 0
EVALUATION_SEED = 1


@dataclass(frozen=True)
class NoisyImages:
    """Random images at random times with fresh noise: each batch a function of seed and step.

    Attributes:
        images: float32 `[image, pixel]`.
        left: What is left of an image at each time.
        batch_size: Images of a batch.
        per_epoch: Batches of an epoch.
        seed: Decides all.
    """

    images: Tensor
    left: Tensor
    batch_size: int
    per_epoch: int
    seed: int

    def at(self, step: int) -> Batch:
        """Noisy images and their times; the noise is the target."""
        draw = generator(self.seed, ORDER, step)
        rows = torch.randint(len(self.images), (self.batch_size,), generator=draw)
        time = torch.randint(len(self.left), (self.batch_size,), generator=draw)
        noise = torch.randn(self.batch_size, self.images.shape[1], generator=draw)
        return Batch((noisy(self.images[rows], noise, time, self.left), time), noise)


@dataclass(frozen=True, kw_only=True)
class DiffusionRecipe(Recipe):
    """A denoiser of small images, trained by Adam on the mean square of what it misses.

    Attributes:
        pixels: Of an image.
        width: Units of a block.
        depth: Blocks.
        times: Times of the diffusion.
        batch_size: Images of a batch.
        per_epoch: Batches of an epoch.
        shallow_rate: Learning rate of the shallow baseline, tuned for it.
    """

    pixels: int
    width: int
    depth: int
    times: int
    batch_size: int
    per_epoch: int
    shallow_rate: float

    @property
    def n_inputs(self) -> int:
        """One for each pixel."""
        return self.pixels

    @property
    def n_feedback(self) -> int:
        """One for each unit of a block, shared by all blocks."""
        return self.width

    @property
    def widest(self) -> int:
        """Units of a block."""
        return self.width

    @property
    def network(self) -> str:
        """Sizes of the denoiser."""
        return f"denoiser, {self.depth} residual blocks of {self.width}, {self.times} times"

    @property
    def schooling(self) -> str:
        """Optimizer and batches."""
        return f"{super().schooling}, {self.per_epoch} batches of {self.batch_size} an epoch"

    def tuned_for(self, feedback: Feedback) -> Self:
        """The shallow baseline has a learning rate of its own."""
        return replace(self, learning_rate=self.shallow_rate) if feedback == "shallow" else self

    def prepare(self, seed: int, n_validation: int, device: str = "cpu") -> Task:
        """Data and network of one run."""
        data = digits()
        train, validation = data.split(n_validation, SPLIT_SEED)
        left = shares(self.times)
        with torch.random.fork_rng(devices=[]), torch.device(device):
            torch.manual_seed(derived_seed(seed, WEIGHTS))
            module = Denoiser(self.pixels, self.width, self.depth, self.times)
        parts = {"validation": validation} if n_validation else {}
        batches = NoisyImages(centred(train.images), left, self.batch_size, self.per_epoch, seed)
        return Task(
            module,
            taps=["blocks.*"],
            batches=batches,
            loss=functional.mse_loss,
            guessing=1.0,
            score=MISSED,
            evaluate={
                name: _missed(centred(part.images), left)
                for name, part in {**parts, "test": data.test}.items()
            },
            probe=replace(batches, seed=EVALUATION_SEED).at(0),
            layout="shared_prefix",
        )


def centred(images: Tensor) -> Tensor:
    """Pixels from -1 to 1, `[image, pixel]`, of grey values from 0 to 1 `[image, row, column]`."""
    return 2 * images.flatten(1) - 1


def _missed(images: Tensor, left: Tensor) -> Evaluation:
    """Always the same noise: every image at eight times spread over the diffusion."""
    draw = torch.Generator().manual_seed(EVALUATION_SEED)
    time = torch.linspace(0, len(left) - 1, 8).round().long().repeat_interleave(len(images))
    all_images = images.repeat(8, 1)
    noise = torch.randn(all_images.shape, generator=draw)
    shown = noisy(all_images, noise, time, left)

    def evaluate(module: nn.Module) -> float:
        return float(functional.mse_loss(module(shown, time), noise))

    return evaluate


DIGITS = DiffusionRecipe(
    name="diffusion",
    task="digits-diffusion",
    pixels=64,
    width=256,
    depth=4,
    times=100,
    batch_size=128,
    per_epoch=200,
    encoder=BitPlanes(2),
    learning_rate=3e-3,
    cosine=True,
    epochs=10,
    shallow_rate=1e-2,
)

RECIPES = (DIGITS,)
