"""Calls that leave the graph: light is no tensor operation.

What a projector or a physical layer does is neither differentiable nor traceable; a compiler that
looked inside would freeze it. `Outside` makes such a function one opaque operator, of which
autograd and `torch.compile` know the shape of the answer and nothing else.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from training.errors import TrainingError

_LIVE: WeakValueDictionary[int, Outside] = WeakValueDictionary()
_handles = itertools.count()


class Outside:
    """A function of rows as one operator that compilers do not look into.

    Compiled code holds the handle, an integer that no other function of this process ever gets; a
    copy of an `Outside` has a handle of its own.

    Args:
        function: `[..., n]` -> `[..., width]`, of the same dtype and on the same device, in memory
            of its own.
        width: Length of the rows that come back; that of those that went by default.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], width: int | None = None) -> None:
        self.function = function
        self.width = width
        self.handle = next(_handles)
        _LIVE[self.handle] = self

    def __call__(self, rows: Tensor) -> Tensor:
        """The function's answer; gradients end here.

        Raises:
            TrainingError: It is not of the announced width.
        """
        width = rows.shape[-1] if self.width is None else self.width
        if not torch.compiler.is_compiling():
            return self.answer(rows.detach(), width)
        answer: Tensor = torch.ops.opu.outside(rows.detach(), self.handle, width)
        return answer

    def answer(self, rows: Tensor, width: int) -> Tensor:
        """The function's answer, checked.

        Raises:
            TrainingError: It is not of the announced width.
        """
        answer = self.function(rows)
        if answer.shape != (*rows.shape[:-1], width):
            raise TrainingError(
                f"An answer of shape {tuple(answer.shape)} to rows {tuple(rows.shape)}: "
                f"{(*rows.shape[:-1], width)} was announced."
            )
        return answer.to(rows)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.function, self.width)


@torch.library.custom_op("opu::outside", mutates_args=())
def _outside(rows: Tensor, handle: int, width: int) -> Tensor:
    called = _LIVE.get(handle)
    if called is None:
        raise TrainingError(
            f"What answered calls outside the graph under number {handle} is gone: keep the model "
            "as long as there are backward passes to run through it."
        )
    return called.answer(rows, width)


@_outside.register_fake
def _shape(rows: Tensor, _handle: int, width: int) -> Tensor:
    return rows.new_empty((*rows.shape[:-1], width))
