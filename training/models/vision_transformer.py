"""A small vision Transformer (Dosovitskiy et al., arXiv:2010.11929), without a class token."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.errors import SettingsError
from training.models.transformer import blocks


class VisionTransformer(nn.Module):
    """Patches as tokens, blocks of attention and feed-forward, and the mean over tokens to a class.

    Args:
        side: Rows and columns of an image.
        patch: Rows and columns of a patch, which divide them.
        width: Features of a token.
        depth: Blocks.
        heads: Attention heads.
        n_classes: Outputs.

    Raises:
        SettingsError: Patches that do not fill the image.
    """

    def __init__(
        self, side: int, patch: int, width: int, depth: int, heads: int, n_classes: int
    ) -> None:
        super().__init__()
        if side % patch:
            raise SettingsError(f"Patches of {patch} pixels do not fill a side of {side}.")
        self.side, self.patch = side, patch
        self.embedding = nn.Linear(patch * patch, width)
        self.position = nn.Parameter(0.02 * torch.randn((side // patch) ** 2, width))
        self.blocks = blocks(width, depth, heads, causal=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, n_classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits `[image, class]` of pixels `[image, side * side]`."""
        images = pixels.view(-1, 1, self.side, self.side)
        patches = functional.unfold(images, self.patch, stride=self.patch).transpose(1, 2)
        x = self.blocks(self.embedding(patches) + self.position)
        logits: Tensor = self.head(self.norm(x.mean(1)))
        return logits
