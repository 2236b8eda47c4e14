"""Examples in random order, each batch a function of the seed and the step alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from training.batch import Batch
from training.datasets.dataset import Examples
from training.errors import SettingsError
from training.randomness import ORDER, SHIFTS, generator


@dataclass(frozen=True)
class Scaling:
    """How grey values become inputs: `(grey - mean) / deviation`."""

    mean: float = 0.0
    deviation: float = 1.0

    @classmethod
    def standardising(cls, examples: Examples) -> Scaling:
        """The scaling that gives these examples mean 0 and deviation 1 over all pixels."""
        return cls(float(examples.images.mean()), float(examples.images.std()))

    def inputs(self, images: Tensor) -> Tensor:
        """float32 `[image, pixel]` of `[image, row, column]`."""
        return ((images - self.mean) / self.deviation).flatten(1)


class ImageBatches:
    """Shuffled batches of one training set, epoch after epoch.

    Args:
        examples: What is learned from; held as one tensor.
        batch_size: Rows of a batch; the last of an epoch may be smaller.
        seed: Decides order and shifts.
        scaling: Grey values -> inputs.
        max_shift: Each image is shifted by up to so many pixels in either direction, edges
            filled with black.

    Raises:
        SettingsError: A batch size or shift that makes no sense.
    """

    def __init__(
        self,
        examples: Examples,
        batch_size: int,
        seed: int,
        scaling: Scaling,
        max_shift: int = 0,
    ) -> None:
        if not 1 <= batch_size <= len(examples):
            raise SettingsError(f"Batch size {batch_size}: 1 to {len(examples)} are possible.")
        rows, columns = examples.images.shape[1:]
        if not 0 <= max_shift < min(rows, columns):
            raise SettingsError(f"Shifts of {max_shift} pixels: 0 to {min(rows, columns) - 1}.")
        self.examples = examples
        self.batch_size = batch_size
        self._seed = seed
        self._max_shift = max_shift
        black = -scaling.mean / scaling.deviation
        inputs = scaling.inputs(examples.images).view(-1, rows, columns)
        self._padded = functional.pad(inputs, [max_shift] * 4, value=black).flatten(1)
        self._wide = columns + 2 * max_shift
        self._window = (torch.arange(rows)[:, None] * self._wide + torch.arange(columns)).flatten()
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    @property
    def per_epoch(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.examples) // self.batch_size)

    def at(self, step: int) -> Batch:
        """Inputs float32 `[rows, pixel]` and labels int64 `[rows]` of a step, from 0."""
        epoch, batch = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            order = torch.randperm(
                len(self.examples), generator=generator(self._seed, ORDER, epoch)
            )
            self._epoch, self._order = epoch, order
        rows = self._order[batch * self.batch_size : (batch + 1) * self.batch_size]
        inputs = self._shifted(self._padded[rows], step)
        return Batch((inputs,), self.examples.labels[rows])

    def _shifted(self, padded: Tensor, step: int) -> Tensor:
        if not self._max_shift:
            return padded
        offsets = torch.randint(
            2 * self._max_shift + 1,
            (len(padded), 2),
            generator=generator(self._seed, SHIFTS, step),
        )
        corner = offsets[:, :1] * self._wide + offsets[:, 1:]
        return padded.gather(1, corner + self._window)
