"""Transformers whose every sub-layer is a block that feedback can reach.

A block is two steps, each with its residual sum inside, so that all paths meet at its output: a tap
there leaves no way around (`audit` proves it). The norm comes after the sum, as at first (Vaswani
et al., arXiv:1706.03762): feedback that does not know the sum would let it grow without end.
Feedback points are macro, one a block (`blocks.*`), or micro, one after each step (`blocks.*.*`),
as in Launay et al., arXiv:2006.12878.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.errors import SettingsError

FeedbackPoints = Literal["macro", "micro"]


def taps_of(points: FeedbackPoints) -> list[str]:
    """Globs of the taps.

    Raises:
        SettingsError: Neither macro nor micro.
    """
    if points not in get_args(FeedbackPoints):
        raise SettingsError(f"Feedback points {points!r}: choose 'macro' or 'micro'.")
    return ["blocks.*"] if points == "macro" else ["blocks.*.*"]


class Attention(nn.Module):
    """`norm(x + attention(x))` with several heads (Vaswani et al., arXiv:1706.03762, 3.1).

    Args:
        width: Features of a token.
        heads: Heads, which divide them.
        causal: Each token sees itself and those before it only.
    """

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        if width % heads:
            raise SettingsError(f"{heads} heads do not divide {width} features of a token.")
        self.norm = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.heads, self.causal = heads, causal

    def forward(self, x: Tensor) -> Tensor:
        """`[sample, token, width]` of the same."""
        samples, tokens, width = x.shape
        parts = self.queries_keys_values(x).chunk(3, -1)
        q, k, v = (part.view(samples, tokens, self.heads, -1).transpose(1, 2) for part in parts)
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        mixed: Tensor = self.mix(seen.transpose(1, 2).reshape(samples, tokens, width))
        normed: Tensor = self.norm(x + mixed)
        return normed


class FeedForward(nn.Module):
    """`norm(x + W2 gelu(W1 x))`, four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inside = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """`[sample, token, width]` of the same."""
        result: Tensor = self.norm(x + self.inside(x))
        return result


def blocks(width: int, depth: int, heads: int, *, causal: bool) -> nn.Sequential:
    """Blocks of attention and feed-forward: `0.0`, `0.1`, `1.0`, ..."""
    return nn.Sequential(
        *(
            nn.Sequential(Attention(width, heads, causal=causal), FeedForward(width))
            for _ in range(depth)
        )
    )


class Decoder(nn.Module):
    """A decoder-only Transformer over symbols.

    `norm` is the last module before the vocabulary layer `head`: with the error taken there, `head`
    learns by backpropagation and a row of the error has `width` components instead of `symbols`.

    Args:
        symbols: Size of the vocabulary.
        context: Most tokens of a sample.
        width: Features of a token.
        depth: Blocks.
        heads: Attention heads.
    """

    def __init__(self, symbols: int, context: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(symbols, width)
        self.position = nn.Parameter(torch.zeros(context, width))
        self.blocks = blocks(width, depth, heads, causal=True)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, symbols)
        self._initialise(depth)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits `[sample, token, symbol]` of tokens int64 `[sample, token]`."""
        x = self.embedding(tokens) + self.position[: tokens.shape[1]]
        logits: Tensor = self.head(self.norm(self.blocks(x)))
        return logits

    def _initialise(self, depth: int) -> None:
        """Normal, 0.02; into residual sums less, by the root of their number; symbols louder."""
        for name, parameter in self.named_parameters():
            if name.endswith("weight") and parameter.ndim == 2:
                residual = name.endswith(("mix.weight", "inside.2.weight"))
                nn.init.normal_(parameter, std=0.02 / (2 * depth) ** 0.5 if residual else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        nn.init.normal_(self.embedding.weight, std=0.3)
        nn.init.normal_(self.position, std=0.15)
