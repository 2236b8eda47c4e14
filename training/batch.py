"""One step's worth of examples, and where they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Batch:
    """What a module is given in one step.

    Attributes:
        inputs: Its positional arguments. A module that needs keyword arguments is wrapped in one
            whose `forward` passes them on.
        targets: What the loss compares its output with.
        weight: What its loss counts for, where batches are parts of larger ones.
    """

    inputs: tuple[Any, ...]
    targets: Any
    weight: float = 1.0


class Batches(Protocol):
    """Batches in a random order that is a function of the step, so that a run can be resumed."""

    @property
    def per_epoch(self) -> int:
        """Steps in an epoch."""
        ...

    def at(self, step: int) -> Batch:
        """The batch of a step, from 0; the same one whenever it is asked for."""
        ...
