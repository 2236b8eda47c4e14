"""Where the error is taken: the one autograd function of direct feedback alignment.

Forward, the output passes unchanged. Backward, the true error goes on to the output layer, and each
tap gets its part of one projection of that error. Where a tapped output is handed on, what comes
back from above can be made to end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from training.taps import FeedbackPoint, Tap, as_rows

Feedback = Callable[[Tensor], Tensor]


def projected(
    feedback: Feedback, at: Tap, points: Sequence[FeedbackPoint], error: Tensor
) -> Tensor:
    """The projection of the error that arrived at a tensor, `[*rows, n_outputs]`."""
    rows = as_rows(error, at.features)
    half = rows.dtype in (torch.float16, torch.bfloat16)
    flat = rows.reshape(-1, rows.shape[-1])
    projection = feedback(flat.float() if half else flat)
    if len(points) > 1 and any(point.columns == slice(0, projection.shape[-1]) for point in points):
        # A parameter of an output's own shape takes what it is handed for its gradient, and several
        # would share one; it copies what does not lie in one piece.
        projection = functional.pad(projection, (0, 1))[:, :-1]
    return projection.reshape(*rows.shape[:-1], projection.shape[-1])


class Sink(torch.autograd.Function):
    """The output passes unchanged; backward, the error feeds every tap through one projection."""

    @staticmethod
    def forward(
        ctx: Any,
        feedback: Feedback,
        at: Tap,
        points: Sequence[FeedbackPoint],
        output: Tensor,
        *tapped: Tensor | None,
    ) -> Tensor:
        """The output; `tapped` are all tapped outputs, and then what multiplies their feedback."""
        tensors, factors = tapped[: len(points)], tapped[len(points) :]
        ctx.feedback, ctx.at, ctx.points = feedback, at, points
        ctx.shapes = [tensor.shape for tensor in tensors if tensor is not None]
        ctx.dtypes = [tensor.dtype for tensor in tensors if tensor is not None]
        ctx.save_for_backward(*factors)
        return output.clone()  # not a view: loops may overwrite what a model returns

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, error: Tensor) -> tuple[Tensor | None, ...]:
        """The true error for the output, and its projection, cut into slices, for the taps."""
        wanted = ctx.needs_input_grad[4 : 4 + len(ctx.points)]
        without = (None,) * len(wanted)
        if not any(wanted):
            return (None, None, None, error, *without, *without)
        projection = projected(ctx.feedback, ctx.at, ctx.points, error)
        parts = [
            point.feedback(projection, shape).to(error.device, dtype) if want else None
            for point, shape, dtype, want in zip(
                ctx.points, ctx.shapes, ctx.dtypes, wanted, strict=True
            )
        ]
        slices = (
            part if part is None or factor is None else part * factor
            for part, factor in zip(parts, ctx.saved_tensors, strict=True)
        )
        return (None, None, None, error, *slices, *without)


class Stop(torch.autograd.Function):
    """A tensor passes unchanged; backward, its gradient ends here."""

    @staticmethod
    def forward(_ctx: Any, tensor: Tensor, _anchor: Tensor) -> Tensor:
        """The tensor. An anchor that requires a gradient makes autograd come here."""
        return tensor.view_as(tensor)

    @staticmethod
    @once_differentiable
    def backward(_ctx: Any, _gradient: Tensor) -> tuple[None, None]:
        """Nothing."""
        return None, None
