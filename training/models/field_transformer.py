"""A Transformer from one field to another: patches in, patches out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.errors import SettingsError
from training.models.transformer import blocks


class FieldTransformer(nn.Module):
    """Patches as tokens, blocks of attention and feed-forward, and a patch from every token.

    Args:
        side: Rows and columns of a field.
        patch: Rows and columns of a patch, which divide them.
        width: Features of a token.
        depth: Blocks.
        heads: Attention heads.

    Raises:
        SettingsError: Patches that do not fill the field.
    """

    def __init__(self, side: int, patch: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        if side % patch:
            raise SettingsError(f"Patches of {patch} do not fill a side of {side}.")
        self.patch = patch
        self.embedding = nn.Linear(patch * patch, width)
        self.position = nn.Parameter(0.02 * torch.randn((side // patch) ** 2, width))
        self.blocks = blocks(width, depth, heads, causal=False)
        self.head = nn.Linear(width, patch * patch)

    def forward(self, fields: Tensor) -> Tensor:
        """Patches `[field, patch, pixel]` of fields `[field, row, column]`."""
        tokens = self.embedding(patches(fields, self.patch)) + self.position
        result: Tensor = self.head(self.blocks(tokens))
        return result


def patches(fields: Tensor, side: int) -> Tensor:
    """`[field, patch, pixel]` of fields `[field, row, column]`."""
    return functional.unfold(fields[:, None], side, stride=side).transpose(1, 2)
