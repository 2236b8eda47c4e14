"""Where the error is taken: the one autograd function of direct feedback alignment.

Forward, the output passes unchanged. Backward, the true error goes on to the output layer, and each
tap gets its part of one projection of that error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from training.taps import FeedbackPoint, Tap, as_rows

Feedback = Callable[[Tensor], Tensor]


def projected(feedback: Feedback, at: Tap, error: Tensor) -> Tensor:
    """The projection of the error that arrived at a tensor, `[*rows, n_outputs]`."""
    rows = as_rows(error, at.features)
    half = rows.dtype in (torch.float16, torch.bfloat16)
    flat = rows.reshape(-1, rows.shape[-1])
    projection = feedback(flat.float() if half else flat)
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
        *tapped: Tensor,
    ) -> Tensor:
        """The output."""
        ctx.feedback, ctx.at, ctx.points = feedback, at, points
        ctx.shapes = [tensor.shape for tensor in tapped]
        ctx.dtypes = [tensor.dtype for tensor in tapped]
        ctx.save_for_backward(
            *(
                tensor if point.tap.gate is not None else None
                for point, tensor in zip(points, tapped, strict=True)
            )
        )
        return output.view_as(output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, error: Tensor) -> tuple[Tensor | None, ...]:
        """The true error for the output, and its projection, cut into slices, for the taps."""
        wanted = ctx.needs_input_grad[4:]
        if not any(wanted):
            return (None, None, None, error, *(None for _ in wanted))
        projection = projected(ctx.feedback, ctx.at, error)
        parts = [
            point.feedback(projection, shape).to(error.device, dtype) if want else None
            for point, shape, dtype, want in zip(
                ctx.points, ctx.shapes, ctx.dtypes, wanted, strict=True
            )
        ]
        slices = (
            part if part is None or point.tap.gate is None else part * point.tap.gate(tensor)
            for part, point, tensor in zip(parts, ctx.points, ctx.saved_tensors, strict=True)
        )
        return (None, None, None, error, *slices)
