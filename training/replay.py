"""The forward pass again, once the error is known: activations of one block instead of all.

Feedback asks nothing of the layers above. Once the error is projected, a block can learn from its
own input alone, so nothing of a forward pass has to be kept: it runs once to find the error, its
blocks' activations dying on the way, and once more from below, where each block finds its feedback
at hand. Memory for activations is that of the largest block, however many there are; the arithmetic
is that of backpropagation, whose error goes all the way down where here the input goes up a second
time.

Checkpointing (Chen et al., arXiv:1604.06174) keeps the inputs of all blocks, for the same
arithmetic on top of backpropagation's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from training.errors import ReplayError
from training.moment import Moment
from training.sink import Feedback, projected
from training.taps import FeedbackPoint, Tap, tensors_in


class ForwardPass:
    """A call of a module, with all that decides what comes of it.

    Args:
        module: What is called.
        args: The positional arguments, and
        kwargs: the others. They are kept, not copied.

    Raises:
        ReplayError: An argument requires a gradient.
    """

    def __init__(self, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        given = tensors_in([*args, *kwargs.values()])
        if any(tensor.requires_grad for tensor in given):
            raise ReplayError(
                "An argument requires a gradient, and replay=True keeps no graph that leads to it: "
                "detach it, wrap what makes it together with the module, or use replay=False."
            )
        self._module, self._args, self._kwargs = module, args, kwargs
        self._given = _versions(given)
        self._parameters = _versions([])
        self.moment = Moment(module)

    def run(self) -> Any:
        """Run for the first time."""
        output = self._module(*self._args, **self._kwargs)
        self._parameters = _versions(self._module.parameters())
        return output

    def run_again(self) -> None:
        """Run once more; generators, flags and buffers are afterwards as they are now.

        Raises:
            ReplayError: Arguments or parameters have been changed since.
        """
        now = [id(parameter) for parameter in self._module.parameters()]
        kept = [*self._given, *self._parameters]
        if now != [id(parameter) for parameter, _ in self._parameters] or any(
            tensor._version != version for tensor, version in kept
        ):
            raise ReplayError(
                "Parameters or arguments were changed between the forward pass and its backward "
                "pass, which replays it: call backward before the optimizer's step, and change "
                "arguments in copies."
            )
        with torch.inference_mode(False), torch.enable_grad(), self.moment.again():
            self._module(*self._args, **self._kwargs)


def _versions(tensors: Iterable[Tensor]) -> list[tuple[Tensor, int]]:
    return [(tensor, tensor._version) for tensor in tensors]


class Over(BaseException):
    """Ends a replay where the error was taken: what lies above has learned already."""


class Replay:
    """Feeds a forward pass while it runs.

    Args:
        points: What was tapped in the first run, in order.
        project: Makes the projection, `[*rows, n_outputs]`; called where the first parameters want
            feedback.
        error: What arrived at the output.
        aside: Within it, nothing that is done belongs to the run.
    """

    def __init__(
        self,
        points: Sequence[FeedbackPoint],
        project: Callable[[], Tensor],
        error: Tensor,
        aside: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._waiting = list(reversed(points))
        self._project = project
        self._error = error
        self._aside = aside

    @cached_property
    def _projection(self) -> Tensor:
        return self._project()

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
        with self._aside():
            part = point.feedback(self._projection, tensor.shape).to(tensor)
            if (factor := point.tap.factor(tensor)) is not None:
                part = part * factor
            # What several blocks read, untapped, learns from each of them: its graph has to stay.
            torch.autograd.backward(tensor, part, retain_graph=True)

    def end(self, output: Tensor) -> None:
        """What lies above the taps learns from the error itself.

        Raises:
            Over: Always, unless
            ReplayError: not all have run that ran in the first run.
        """
        if self._waiting:
            raise self._differs(f"{self._waiting[-1].name!r} did not run")
        if output.requires_grad:
            with self._aside():
                torch.autograd.backward(output, self._error)
        raise Over

    def _differs(self, what: str) -> ReplayError:
        return ReplayError(
            f"{what} where the forward pass was replayed, unlike the first time: replay=True needs "
            "a module that does the same whenever it is called. Use replay=False."
        )


class Blind(torch.autograd.Function):
    """The output of a run of which no graph is kept; backward, the error starts the replay."""

    @staticmethod
    def forward(
        ctx: Any,
        replay: Callable[[Callable[[], Tensor], Tensor], None],
        feedback: Feedback,
        at: Tap,
        points: Sequence[FeedbackPoint],
        output: Tensor,
        _anchor: Tensor,
    ) -> Tensor:
        """The output. An anchor that requires a gradient makes autograd come back here."""
        ctx.replay, ctx.feedback, ctx.at, ctx.points = replay, feedback, at, points
        return output.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, error: Tensor) -> tuple[None, ...]:
        """Nothing: the replay has given every parameter its gradient.

        Raises:
            ReplayError: It has been replayed before.
        """
        replay, ctx.replay = ctx.replay, None  # whoever keeps the loss does not keep the batch
        if replay is None:
            raise ReplayError(
                "This forward pass has been replayed already: with replay=True each can learn from "
                "one backward pass. Add the losses up, or use replay=False."
            )
        replay(lambda: projected(ctx.feedback, ctx.at, ctx.points, error), error)
        return (None,) * 6
