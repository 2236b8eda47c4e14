"""What one training step asks of a machine: counted on tensors without memory, nothing is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from training.dfa import DFA, Mode
from training.encoding import exposures_a_row
from training.experiments.recipe import Recipe
from training.task import Task


@dataclass(frozen=True)
class StepCost:
    """One step of a recipe: forward, backward, and what they keep.

    Operations are those of matrix products, attention included, an addition and a multiplication
    counted as two; the rest of a network is small beside them. Sparse products are not counted.

    Attributes:
        parameters: Of the network.
        rows: Error vectors.
        n_inputs: Components of an error vector.
        n_outputs: Numbers that its projection has.
        exposures: To show all of them; codes that are dark cost less.
        forward_flop: Operations of the forward pass.
        backprop_flop: Of the backward pass, by backpropagation.
        feedback_flop: Of the backward pass by direct feedback alignment, without the projection.
        projection_flop: Of the projection as a matrix product.
        activations_bytes: What the forward pass keeps for the backward one.
        parameters_bytes: Weights.
        moments_bytes: What the optimizer keeps.
    """

    parameters: int
    rows: int
    n_inputs: int
    n_outputs: int
    exposures: int
    forward_flop: int
    backprop_flop: int
    feedback_flop: int
    projection_flop: int
    activations_bytes: int
    parameters_bytes: int
    moments_bytes: int

    @property
    def memory_bytes(self) -> int:
        """Weights, their gradients, the optimizer's moments and activations, all at once."""
        return 2 * self.parameters_bytes + self.moments_bytes + self.activations_bytes

    @property
    def traffic_bytes(self) -> int:
        """What a step reads and writes at least, without the projection.

        Weights are read forward and backward, gradients written; the optimizer reads weights,
        gradients and moments and writes weights and moments; activations are written and read.
        """
        return 6 * self.parameters_bytes + 2 * self.moments_bytes + 2 * self.activations_bytes

    @property
    def projection_bytes(self) -> int:
        """What the projection reads and writes, with a stored matrix: that, codes and results."""
        return self.matrix_bytes + 4 * self.rows * (self.n_inputs + self.n_outputs)

    @property
    def matrix_bytes(self) -> int:
        """What `B` would take, stored in float32."""
        return 4 * self.n_inputs * self.n_outputs


class Unmeasured:
    """A projector of no cost whose projections mean nothing; it works on any device.

    Args:
        n_inputs: Length of a code vector.
        n_outputs: Length of a projection.
    """

    def __init__(self, n_inputs: int, n_outputs: int) -> None:
        self.n_inputs, self.n_outputs = n_inputs, n_outputs
        self.rows = 0

    def project(self, codes: Tensor) -> Tensor:
        """Zeros."""
        self.rows += len(codes)
        return torch.zeros(len(codes), self.n_outputs, device=codes.device)

    def fingerprint(self) -> str:
        """That of nothing."""
        return "unmeasured"

    def totals(self) -> Mapping[str, float]:
        """Rows projected."""
        return {"rows": self.rows}


def step_cost(recipe: Recipe) -> StepCost:
    """Count one step of a recipe.

    Raises:
        DatasetError: The recipe's data are missing or damaged.
    """
    task = recipe.prepare(0, 0, recipe.planned_on)
    model, projector = wrapped(recipe, task)
    kept: dict[int, int] = {}
    forward, backprop = _pass(model, task, "bp", recipe.planned_on, kept)
    _, feedback = _pass(model, task, "dfa", recipe.planned_on, {})
    weights = sum(parameter.nbytes for parameter in task.module.parameters())
    return StepCost(
        parameters=sum(parameter.numel() for parameter in task.module.parameters()),
        rows=projector.rows,
        n_inputs=recipe.n_inputs,
        n_outputs=recipe.n_feedback,
        exposures=exposures_a_row(recipe.encoder) * projector.rows,
        forward_flop=forward,
        backprop_flop=backprop,
        feedback_flop=feedback,
        projection_flop=2 * projector.rows * recipe.n_inputs * recipe.n_feedback,
        activations_bytes=sum(kept.values()),
        parameters_bytes=weights,
        moments_bytes=_moments(recipe.optimizer(task.module)) * weights,
    )


def wrapped(recipe: Recipe, task: Task) -> tuple[DFA, Unmeasured]:
    """A task's module with feedback that costs nothing."""
    projector = Unmeasured(recipe.n_inputs, recipe.n_feedback)
    model = DFA(
        task.module,
        projector,
        task.taps,
        encoder=recipe.encoder,
        layout=task.layout,
        error_at=task.error_at,
        tied=task.tied,
    )
    return model, projector


def _pass(model: DFA, task: Task, mode: Mode, device: str, kept: dict[int, int]) -> tuple[int, int]:
    """Operations forward and backward; `kept` gets the bytes of every storage that was saved."""
    batch = task.batches.at(0)
    inputs, targets = tree_map_only(Tensor, lambda t: t.to(device), (batch.inputs, batch.targets))
    own = {parameter.untyped_storage()._cdata for parameter in task.module.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        if not tensor.is_sparse:
            storage = tensor.untyped_storage()
            if storage._cdata not in own:
                kept[storage._cdata] = storage.nbytes()
        return tensor

    with (
        model.in_mode(mode),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        FlopCounterMode(display=False) as forward,
    ):
        loss = task.loss(model(*inputs), targets)
    with model.in_mode(mode), FlopCounterMode(display=False) as backward:
        torch.autograd.backward(loss)
    return forward.get_total_flops(), backward.get_total_flops()


def _moments(optimizer: Optimizer) -> int:
    """Numbers that an optimizer keeps for each parameter: found by one step on a number."""
    number = nn.Parameter(torch.zeros(64))
    number.grad = torch.zeros(64)
    settings = {k: v for k, v in optimizer.defaults.items() if k != "differentiable"}
    probe = type(optimizer)([number], **settings)
    probe.step()
    return sum(value.numel() == 64 for value in probe.state[number].values())
