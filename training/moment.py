"""What decides what a module does, besides its arguments and its parameters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from training.errors import TapError


class Moment:
    """Buffers, training flags, PyTorch's random generators and autocast, as they are now.

    `with Moment(module).again():` is a look that leaves no trace; gradients are left alone by those
    who ask for them with `torch.autograd.grad`. Other generators, and whatever Python remembers,
    are not part of it.

    Args:
        module: Whose moment it is.

    Raises:
        TapError: Some of it has no size before it has run.
    """

    def __init__(self, module: nn.Module) -> None:
        for name, tensor in chain(module.named_parameters(), module.named_buffers()):
            if is_lazy(tensor):
                raise TapError(
                    f"{name!r} has no size yet: run the module once before, on a batch like those "
                    "to come."
                )
        self._module = module
        self._training = [(part, part.training) for part in module.modules()]
        self._buffers = _copied([(part, dict(part._buffers)) for part in module.modules()])
        parameters = list(module.parameters())
        self._devices = sorted({p.device.index or 0 for p in parameters if p.is_cuda})
        self._random = self._generators()
        self._casts = [
            (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))
            for kind in sorted({"cpu"} | {p.device.type for p in parameters})
        ]
        self._outside = self._random

    @contextmanager
    def again(self) -> Iterator[None]:
        """Everything is as it was, and afterwards what it is when this is entered.

        Buffers are exchanged, not overwritten: what they are now may be needed by a graph.
        """
        buffers = [(part, dict(part._buffers)) for part in self._module.modules()]
        training = [(part, part.training) for part in self._module.modules()]
        self._outside = self._generators()
        try:
            _exchange(_copied(self._buffers))
            _tell(self._training)
            self._set_generators(self._random)
            with ExitStack() as casts:
                for kind, dtype, enabled in self._casts:
                    casts.enter_context(torch.autocast(kind, dtype, enabled, cache_enabled=False))
                yield
        finally:
            self._set_generators(self._outside)
            _tell(training)
            _exchange(buffers)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """For a while within `again`, random numbers are those from outside, and nothing is cast.

        What is drawn by those who look on does not change what the module draws.
        """
        own = self._generators()
        self._set_generators(self._outside)
        try:
            with ExitStack() as casts:
                for kind, dtype, _ in self._casts:
                    casts.enter_context(torch.autocast(kind, dtype, enabled=False))
                yield
        finally:
            self._outside = self._generators()
            self._set_generators(own)

    def _generators(self) -> list[Tensor]:
        return [torch.get_rng_state(), *map(torch.cuda.get_rng_state, self._devices)]

    def _set_generators(self, states: list[Tensor]) -> None:
        torch.set_rng_state(states[0])
        for device, state in zip(self._devices, states[1:], strict=True):
            torch.cuda.set_rng_state(state, device)


Buffers = list[tuple[nn.Module, dict[str, Tensor | None]]]


def _copied(buffers: Buffers) -> Buffers:
    """Buffers that are one tensor in several modules stay one."""
    copies: dict[int, Tensor] = {}

    def copy(buffer: Tensor | None) -> Tensor | None:
        if buffer is None:
            return None
        return copies.setdefault(id(buffer), buffer.clone())

    return [(part, {name: copy(own) for name, own in of.items()}) for part, of in buffers]


def _exchange(buffers: Buffers) -> None:
    for part, own in buffers:
        part._buffers.clear()
        part._buffers.update(own)


def _tell(training: list[tuple[nn.Module, bool]]) -> None:
    for part, flag in training:
        part.training = flag
