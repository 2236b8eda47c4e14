"""A small denoising network for diffusion (Ho, Jain, Abbeel, arXiv:2006.11239)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """`norm(x + W2 silu(W1 x))`: all paths meet at its output, where feedback can reach it.

    The norm comes last: without it, a feedback that does not know the residual sum lets it grow
    without end.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inside = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """`[row, width]` of the same."""
        result: Tensor = self.norm(x + self.inside(x))
        return result


class Denoiser(nn.Module):
    """Predicts the noise in a noisy image.

    Args:
        pixels: Of an image.
        width: Units of a block.
        depth: Blocks.
        times: How many times of the diffusion there are.
    """

    waves: Tensor

    def __init__(self, pixels: int, width: int, depth: int, times: int) -> None:
        super().__init__()
        self.entry = nn.Linear(pixels, width)
        self.register_buffer("waves", _waves(times, width))
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(depth)))
        self.head = nn.Linear(width, pixels)

    def forward(self, noisy: Tensor, time: Tensor) -> Tensor:
        """Noise `[image, pixel]` in images `[image, pixel]` at times int64 `[image]`."""
        noise: Tensor = self.head(self.blocks(self.entry(noisy) + self.waves[time]))
        return noise


def _waves(times: int, width: int) -> Tensor:
    """Sines and cosines of the time `[time, width]` (Vaswani et al., arXiv:1706.03762, 3.5)."""
    rates = torch.exp(-math.log(1000.0) * torch.arange(width // 2) / (width // 2))
    angles = torch.arange(times)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)
