"""Classifying images: what all networks that do have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from training.batch import Batch
from training.datasets.dataset import Dataset
from training.datasets.image_batches import ImageBatches, Scaling
from training.score import accuracy, accuracy_score
from training.taps import Layout, Tap
from training.task import Task

N_PROBE = 256
SPLIT_SEED = 0


def classification(
    module: nn.Module,
    taps: Sequence[str | Tap],
    data: Dataset,
    *,
    seed: int,
    batch_size: int,
    max_shift: int,
    n_validation: int,
    standardise: bool = True,
    layout: Layout = "concat",
) -> Task:
    """A task of images and classes: cross-entropy, judged by accuracy.

    Args:
        module: float32 `[image, pixel]` -> logits `[image, class]`.
        taps: Where it gets feedback.
        data: The images.
        seed: Decides their order and shifts.
        batch_size: Images of a batch.
        max_shift: Random shifts of training images, pixels.
        n_validation: Training images that are evaluated instead of learned from.
        standardise: Inputs with mean 0 and deviation 1 over the training set; otherwise [0, 1].
        layout: Which outputs of the projector feed which tap.

    Raises:
        DatasetError: Too many validation images.
    """
    train, validation = data.split(n_validation, SPLIT_SEED)
    scaling = Scaling.standardising(train) if standardise else Scaling()
    parts = {"validation": validation} if n_validation else {}
    some = train.take(torch.arange(min(N_PROBE, len(train))))
    return Task(
        module,
        taps,
        batches=ImageBatches(train, batch_size, seed, scaling, max_shift),
        loss=functional.cross_entropy,
        guessing=math.log(data.n_classes),
        score=accuracy_score(len(data.test)),
        evaluate={
            name: accuracy(scaling.inputs(part.images), part.labels)
            for name, part in {**parts, "test": data.test}.items()
        },
        probe=Batch((scaling.inputs(some.images),), some.labels),
        layout=layout,
    )
