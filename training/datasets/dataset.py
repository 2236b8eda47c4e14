"""Labelled images, and how they are divided."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.errors import DatasetError


@dataclass(frozen=True)
class Examples:
    """Images and their classes.

    Attributes:
        images: float32 `[image, row, column]` in [0, 1].
        labels: int64 `[image]`.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Tensor) -> Examples:
        """Those examples, in that order."""
        return Examples(self.images[rows], self.labels[rows])


@dataclass(frozen=True)
class Dataset:
    """A data set with its test set apart.

    Attributes:
        name: As on the command line.
        n_classes: Labels are 0 to `n_classes - 1`.
        train: What may be learned from, validation included.
        test: What nothing is chosen on.
    """

    name: str
    n_classes: int
    train: Examples
    test: Examples

    def split(self, n_validation: int, seed: int) -> tuple[Examples, Examples]:
        """Training and validation examples, drawn from the training set by seed.

        Raises:
            DatasetError: More validation examples than the training set can give.
        """
        if not 0 <= n_validation < len(self.train):
            raise DatasetError(
                f"{n_validation} validation examples of {len(self.train)}: at least one has to "
                "remain for training."
            )
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(seed))
        return self.train.take(order[n_validation:]), self.train.take(order[:n_validation])
