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
    """Parameters below a tap that a random error at what is returned still reaches.

    Args:
        parameters: All that learn, by name.
        tapped: The tapped outputs of a forward pass whose feedback is zero.
        returned: What it returned.
        permitted: Names of those that may be reached.
    """
    below = _reached(tapped, list(parameters.values()))
    above = _reached(returned, list(parameters.values()))
    return [
        name
        for name, fed, gradient in zip(parameters, below, above, strict=True)
        if name not in permitted
        and fed is not None
        and gradient is not None
        and bool(_numbers(gradient).count_nonzero())
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


def _reached(tensors: Sequence[Tensor], leaves: Sequence[Tensor]) -> list[Tensor | None]:
    """What random gradients at some tensors make of the leaves' gradients."""
    tensors = [tensor for tensor in tensors if tensor.requires_grad]
    if not tensors:
        return [None] * len(leaves)
    generator = torch.Generator().manual_seed(0)
    errors = [torch.randn(tensor.shape, generator=generator).to(tensor) for tensor in tensors]
    return list(torch.autograd.grad(tensors, leaves, errors, retain_graph=True, allow_unused=True))


def _numbers(gradient: Tensor) -> Tensor:
    return gradient.coalesce().values() if gradient.is_sparse else gradient
