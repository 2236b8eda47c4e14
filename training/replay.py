"""The forward pass again, once the error is known: activations of one block instead of all.

Feedback asks nothing of the layers above. Once the error is projected, a block can learn from its
own input alone, so nothing of a forward pass has to be kept: it runs once without a graph, to find
the error, and once more from below, where each block finds its feedback at hand, and is done with
its activations before the next one runs. Memory for activations is that of the largest block,
however many there are; the arithmetic is that of backpropagation, whose error goes all the way
down where here the input goes up a second time.

Checkpointing (Chen et al., arXiv:1604.06174) keeps the inputs of all blocks for the same arithmetic
on top of backpropagation's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from training.errors import ReplayError
from training.probe import undisturbed
from training.sink import Feedback, projected
from training.taps import FeedbackPoint, Tap, tensors_in


class ForwardPass:
    """A call of a module, with all that decides what comes of it.

    Args:
        module: What is called; its buffers are kept as they are now, its parameters are not.
        args: The positional arguments, and
        kwargs: the others. They are kept, not copied.

    Raises:
        ReplayError: An argument requires a gradient.
    """

    def __init__(self, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self._module, self._args, self._kwargs = module, args, kwargs
        if any(tensor.requires_grad for tensor in self._given()):
            raise ReplayError(
                "An argument requires a gradient, and replay=True keeps no graph that leads to it: "
                "detach it, wrap what makes it together with the module, or use replay=False."
            )
        kinds = sorted({"cpu"} | {p.device.type for p in module.parameters()})
        self._casts = [
            (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))
            for kind in kinds
        ]
        self._versions = self._read_versions()
        self._buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
        self._random = torch.get_rng_state()
        self._random_cuda = torch.cuda.get_rng_state() if "cuda" in kinds else None

    def again(self) -> None:
        """Run once more, with a graph; generators and buffers are afterwards as they are now.

        Raises:
            ReplayError: Arguments or parameters have been changed since.
        """
        if self._read_versions() != self._versions:
            raise ReplayError(
                "Parameters or arguments were changed between the forward pass and its backward "
                "pass, which replays it: call backward before the optimizer's step, and change "
                "arguments in copies."
            )
        with undisturbed(self._module), ExitStack() as casts, torch.enable_grad():
            for name, buffer in self._module.named_buffers():
                buffer.copy_(self._buffers[name])
            torch.set_rng_state(self._random)
            if self._random_cuda is not None:
                torch.cuda.set_rng_state(self._random_cuda)
            for kind, dtype, enabled in self._casts:
                casts.enter_context(torch.autocast(kind, dtype, enabled, cache_enabled=False))
            self._module(*self._args, **self._kwargs)

    def _given(self) -> list[Tensor]:
        return tensors_in([*self._args, *self._kwargs.values()])

    def _read_versions(self) -> list[int]:
        return [tensor._version for tensor in (*self._given(), *self._module.parameters())]


class Over(BaseException):
    """Ends a replay where the error was taken: what lies above has learned already."""


class Replay:
    """Feeds a forward pass while it runs.

    Args:
        points: What was tapped in the first run, in order.
        project: Makes the projection, `[*rows, n_outputs]`; called where the first parameters want
            feedback.
        error: What arrived at the output.
    """

    def __init__(
        self, points: Sequence[FeedbackPoint], project: Callable[[], Tensor], error: Tensor
    ) -> None:
        self._waiting = list(reversed(points))
        self._project = project
        self._error = error

    @cached_property
    def _projection(self) -> Tensor:
        return self._project()

    @contextmanager
    def _as_in_backward(self) -> Iterator[None]:
        """Only the run is cast: a backward pass finds the precision that forward left behind."""
        device = self._error.device.type
        with torch.autocast("cpu", enabled=False), torch.autocast(device, enabled=False):
            yield

    def feed(self, name: str, tensor: Tensor) -> None:
        """The block below this tapped output learns, and is done.

        Raises:
            ReplayError: It did not run like this in the first run.
        """
        if not self._waiting or self._waiting[-1].tap.glob != name:
            raise self._differs(f"{name!r} ran")
        point = self._waiting.pop()
        if not tensor.requires_grad:
            return
        with self._as_in_backward():
            part = point.feedback(self._projection, tensor.shape).to(tensor)
            if point.tap.gate is not None:
                part = part * point.tap.gate(tensor.detach())
            torch.autograd.backward(tensor, part)

    def end(self, output: Tensor) -> None:
        """What lies above the taps learns from the error itself.

        Raises:
            Over: Always, unless
            ReplayError: not all have run that ran in the first run.
        """
        if self._waiting:
            raise self._differs(f"{self._waiting[-1].name!r} did not run")
        if output.requires_grad:
            with self._as_in_backward():
                torch.autograd.backward(output, self._error)
        raise Over

    def _differs(self, what: str) -> ReplayError:
        return ReplayError(
            f"{what} where the forward pass was replayed, unlike the first time: replay=True needs "
            "a module that does the same whenever it is called. Use replay=False."
        )


class Blind(torch.autograd.Function):
    """The output of a run without graph; backward, the error starts the replay."""

    @staticmethod
    def forward(
        ctx: Any,
        replay: Callable[[Callable[[], Tensor], Tensor], None],
        feedback: Feedback,
        at: Tap,
        output: Tensor,
        _anchor: Tensor,
    ) -> Tensor:
        """The output. An anchor that requires a gradient makes autograd come back here."""
        ctx.replay, ctx.feedback, ctx.at = replay, feedback, at
        return output.view_as(output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, error: Tensor) -> tuple[None, ...]:
        """Nothing: the replay has given every parameter its gradient."""
        ctx.replay(lambda: projected(ctx.feedback, ctx.at, error), error)
        return (None,) * 5
