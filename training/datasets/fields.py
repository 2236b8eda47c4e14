"""Fields that separate into two phases, and what the Allen-Cahn equation makes of them.

    du/dt = D laplace(u) + u - u^3

on a periodic square (Allen and Cahn, 1979): small domains vanish, large ones grow and their walls
straighten. What comes of a field depends on its neighbourhood, not linearly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from training.errors import SettingsError
from training.randomness import FIELDS, generator

DIFFUSION = 0.5
TIME_STEP = 0.1
N_TRAIN, N_TEST = 6000, 600


@dataclass(frozen=True)
class Fields:
    """Fields before and after.

    Attributes:
        before: float32 `[field, row, column]`, mean square 1.
        after: What has become of them, of the same shape, from -1 to 1.
    """

    before: Tensor
    after: Tensor

    def __len__(self) -> int:
        """How many there are."""
        return len(self.before)

    def split(self, n: int) -> tuple[Fields, Fields]:
        """All but the last `n`, and these."""
        cut = len(self) - n
        if not 0 <= n < len(self):
            raise SettingsError(f"{n} validation fields of {len(self)}: leave some to learn from.")
        return (
            Fields(self.before[:cut], self.after[:cut]),
            Fields(self.before[cut:], self.after[cut:]),
        )


def separating(n: int, side: int, time: float, index: int) -> Fields:
    """Smooth random fields, and what they are after some time.

    Args:
        n: Fields.
        side: Rows and columns.
        time: In units of the equation.
        index: Of the set: each has fields of its own, which are always the same.
    """
    draw = generator(0, FIELDS, index)
    noise = torch.randn(n, side, side, generator=draw)
    smooth = torch.fft.irfft2(torch.fft.rfft2(noise) * torch.exp(-_k2(side)), s=(side, side))
    before = smooth / smooth.square().mean((1, 2), keepdim=True).sqrt()
    return Fields(before, evolved(before, time))


def evolved(field: Tensor, time: float) -> Tensor:
    """A field after some time: diffusion implicitly in Fourier space, reaction explicitly.

    Args:
        field: `[field, row, column]`.
        time: A multiple of the time step, 0.1; others are rounded up.
    """
    side = field.shape[-1]
    damping = 1 + TIME_STEP * DIFFUSION * _k2(side)
    for _ in range(math.ceil(time / TIME_STEP - 1e-9)):
        pushed = torch.fft.rfft2(field + TIME_STEP * (field - field**3))
        field = torch.fft.irfft2(pushed / damping, s=(side, side))
    return field


def _k2(side: int) -> Tensor:
    """Squared wave numbers of pixels one apart, `[row, column // 2 + 1]`."""
    rows = 2 * math.pi * torch.fft.fftfreq(side)
    columns = 2 * math.pi * torch.fft.rfftfreq(side)
    squares: Tensor = rows[:, None] ** 2 + columns**2
    return squares
