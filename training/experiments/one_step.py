"""One step of a recipe, really taken: what it needs and how long it lasts."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from training.dfa import DFA
from training.errors import MemoryShortageError
from training.experiments.recipe import Recipe
from training.experiments.step_cost import StepCost
from training.memory import is_shortage, memory_limits
from training.projector import DenseProjector

ROOM = 1.1
"""Over the counted memory: what libraries keep for themselves."""


@dataclass(frozen=True)
class OneStep:
    """A step of direct feedback alignment with a stored digital matrix.

    Attributes:
        loss: Before the step.
        after: On the same batch, after it.
        build_s: To make the network and its data.
        forward_s: Forward pass.
        backward_s: Backward pass, projection included.
        update_s: The optimizer's step.
    """

    loss: float
    after: float
    build_s: float
    forward_s: float
    backward_s: float
    update_s: float


def take_step(recipe: Recipe, cost: StepCost, seed: int) -> OneStep:
    """Build the network and take one step.

    Args:
        recipe: What and how.
        cost: Its cost.
        seed: Of weights, data and feedback.

    Raises:
        MemoryShortageError: It does not fit into the memory that is free.
    """
    needed = ROOM * (cost.memory_bytes + cost.matrix_bytes)
    limit = min(memory_limits(), key=lambda each: each.free)
    told = (
        f"A step of {recipe.name} needs {needed / 1e9:.3g} GB of memory, and "
        f"{limit.free / 1e9:.3g} GB are free {limit.where}"
    )
    if needed > limit.free:
        raise MemoryShortageError(f"{told}. {limit.remedy}")
    try:
        return _taken(recipe, seed)
    except (MemoryError, RuntimeError) as error:
        if not is_shortage(error):
            raise
        found = str(error) or type(error).__name__
        raise MemoryShortageError(f"{told}, and yet: {found}. {limit.remedy}") from error


def _taken(recipe: Recipe, seed: int) -> OneStep:
    start = time.perf_counter()
    task = recipe.prepare(seed, 0)
    model = DFA(
        task.module,
        DenseProjector(recipe.n_inputs, recipe.n_feedback, seed),
        task.taps,
        encoder=recipe.encoder,
        layout=task.layout,
        error_at=task.error_at,
        tied=task.tied,
    )
    optimizer = recipe.optimizer(task.module)
    batch = task.batches.at(0)
    built = time.perf_counter()
    loss = task.loss(model(*batch.inputs), batch.targets)
    forward = time.perf_counter()
    torch.autograd.backward(loss)
    backward = time.perf_counter()
    optimizer.step()
    updated = time.perf_counter()
    optimizer.zero_grad()
    with torch.no_grad():
        after = task.loss(model(*batch.inputs), batch.targets)
    return OneStep(
        float(loss.detach()),
        float(after),
        built - start,
        forward - built,
        backward - forward,
        updated - backward,
    )
