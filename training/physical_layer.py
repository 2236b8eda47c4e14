"""Layers that are experiments: something happens to the numbers, and nobody knows its derivative.

A physical layer only runs forward. What learns below it needs a factor in place of the derivative,
the gate; direct feedback alignment forgives one that is far from it (Nakajima et al., Nat. Commun.
13, 7847, 2022).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from training.errors import SettingsError
from training.outside import Outside
from training.taps import Gate


class PhysicalLayer(nn.Module):
    """A black box, elementwise in shape, with a gate in place of its derivative.

    Autograd does not look into the black box, and neither does a compiler. It is called once in
    each forward pass, and once more where the layer is checkpointed: with noise of its own.

    Args:
        response: What the experiment makes of a tensor: another one of the same shape.
        gate: An elementwise function of the layer's input, which multiplies the gradient.
    """

    def __init__(self, response: Callable[[Tensor], Tensor], gate: Gate) -> None:
        super().__init__()
        self.response = response
        self.gate = gate
        self._outside = Outside(self._respond)

    def forward(self, x: Tensor) -> Tensor:
        """The response to `x`, of the same shape and dtype."""
        response: Tensor = _Gated.apply(self._outside, self.gate, x)  # type: ignore[no-untyped-call]
        return response

    def _respond(self, x: Tensor) -> Tensor:
        """The response, in memory of its own.

        Raises:
            SettingsError: It is of another shape.
        """
        response = self.response(x)
        if response.shape != x.shape:
            raise SettingsError(
                f"A physical layer answers {tuple(x.shape)} by {tuple(response.shape)}: a gate "
                "needs the same shape. Tap what comes before such a layer, Tap(..., gate=...), "
                "and run it without gradients."
            )
        return response.clone()


class _Gated(torch.autograd.Function):
    """Forward the black box, backward the gate."""

    @staticmethod
    def forward(ctx: Any, outside: Outside, gate: Gate, x: Tensor) -> Tensor:
        ctx.gate = gate
        ctx.save_for_backward(x)
        return outside(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        return None, None, gradient * ctx.gate(x)
