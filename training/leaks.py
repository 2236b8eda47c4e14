"""Ways on which gradients pass by the taps, or losses by the error."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor


def leaking(
    parameters: Mapping[str, Tensor],
    tapped: Sequence[Tensor],
    returned: Sequence[Tensor],
    permitted: Collection[str],
) -> list[str]:
    """Parameters below a tap that are still reached from what is returned.

    A way counts, whatever passes on it now: a branch that begins at zero will not stay there.

    Args:
        parameters: All that learn, by name.
        tapped: The tapped outputs of a forward pass without any feedback.
        returned: What it returned.
        permitted: Names of those that may be reached.
    """
    below = _reached(tapped, list(parameters.values()))
    above = _reached(returned, list(parameters.values()))
    return [
        name
        for name, fed, leaks in zip(parameters, below, above, strict=True)
        if fed and leaks and name not in permitted
    ]


def passing_by(returned: Sequence[Tensor], error: Tensor, sunk: Tensor) -> int:
    """How many returned tensors hang on a tensor, but not on what stands in its place."""
    if not error.requires_grad:
        return 0
    around = 0
    for tensor in returned:
        if tensor is not sunk and tensor.requires_grad:
            to = torch.autograd.grad(
                tensor.sum(), [error, sunk], retain_graph=True, allow_unused=True
            )
            around += to[0] is not None and to[1] is None
    return around


def _reached(tensors: Sequence[Tensor], leaves: Sequence[Tensor]) -> list[bool]:
    """Which of the leaves a gradient at some tensors arrives at."""
    tensors = [tensor for tensor in tensors if tensor.requires_grad]
    if not tensors:
        return [False] * len(leaves)
    ones = [torch.ones_like(tensor) for tensor in tensors]
    gradients = torch.autograd.grad(tensors, leaves, ones, retain_graph=True, allow_unused=True)
    return [gradient is not None for gradient in gradients]
