"""Random numbers that are functions of what they are for, so that a resumed run is the same run."""

from __future__ import annotations

import numpy as np
import torch

from training.errors import SettingsError

WEIGHTS, FEEDBACK, ORDER, SHIFTS, GLOBAL, FIELDS = range(6)


def derived_seed(seed: int, purpose: int, index: int = 0) -> int:
    """A seed of its own for each purpose and index.

    Raises:
        SettingsError: A negative seed.
    """
    if seed < 0:
        raise SettingsError(f"Seed {seed}: it is 0 or larger.")
    return int(np.random.SeedSequence([seed, purpose, index]).generate_state(1, np.uint64)[0] >> 1)


def generator(seed: int, purpose: int, index: int = 0) -> torch.Generator:
    """A generator of its own for each purpose and index."""
    return torch.Generator().manual_seed(derived_seed(seed, purpose, index))
