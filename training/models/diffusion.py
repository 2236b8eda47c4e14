"""Diffusion: images drown in noise by steps, and a network learns to take it away again.

At time `t` an image `x` has become `sqrt(a_t) x + sqrt(1 - a_t) n`, with normal noise `n` and a
share `a_t` that falls along half a cosine (Nichol and Dhariwal, arXiv:2102.09672, eq. 17).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def shares(times: int) -> Tensor:
    """What is left of an image's power at each time, float32 `[time]`: from almost 1 to near 0."""
    t = (torch.arange(times, dtype=torch.float64) + 1) / times
    left = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
    return (left / math.cos(0.008 / 1.008 * math.pi / 2) ** 2).clamp(1e-4, 0.9999).float()


def noisy(images: Tensor, noise: Tensor, time: Tensor, left: Tensor) -> Tensor:
    """Images `[image, pixel]` with noise, each at its time."""
    share = left[time][:, None]
    return share.sqrt() * images + (1 - share).sqrt() * noise


def samples(denoiser: nn.Module, n: int, pixels: int, left: Tensor, seed: int) -> Tensor:
    """New images, drawn from noise (Ho et al., arXiv:2006.11239, algorithm 2).

    Args:
        denoiser: `(noisy [image, pixel], time [image]) -> noise [image, pixel]`.
        n: How many.
        pixels: Of an image.
        left: What is left of the image at each time.
        seed: Decides all noise.

    Returns:
        float32 `[image, pixel]`; pixels are not limited to a range.
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, pixels, generator=generator)
    before = torch.cat([torch.ones(1), left[:-1]])
    with torch.no_grad():
        for t in reversed(range(len(left))):
            noise = denoiser(x, torch.full((n,), t))
            step = left[t] / before[t]  # power that one step leaves
            x = (x - (1 - step) / (1 - left[t]).sqrt() * noise) / step.sqrt()
            if t:
                spread = ((1 - before[t]) / (1 - left[t]) * (1 - step)).sqrt()
                x = x + spread * torch.randn(n, pixels, generator=generator)
    return x
