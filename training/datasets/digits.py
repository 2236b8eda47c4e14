"""The digits that come with scikit-learn: 1797 images of 8 x 8."""

from __future__ import annotations

import numpy as np
import torch

from training.datasets.dataset import Dataset, Examples

N_TEST = 360
SPLIT_SEED = 2019


def digits() -> Dataset:
    """1437 training and 360 test images, 8 x 8, in [0, 1]; the division is fixed."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    examples = Examples(
        torch.from_numpy(bunch.images.astype(np.float32) / 16),
        torch.from_numpy(bunch.target.astype(np.int64)),
    )
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(SPLIT_SEED))
    return Dataset("digits", 10, examples.take(order[N_TEST:]), examples.take(order[:N_TEST]))
