"""How far direct feedback alignment and backpropagation point in the same direction.

The angle between what feedback alignment sends to a tap and the true gradient there: 90 degrees
before training, about 45 once the layers above have aligned with `B`, 0 for backpropagation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from training.batch import Batch
from training.dfa import DFA, Mode
from training.moment import Moment
from training.projector import counts


@dataclass(frozen=True)
class Alignment:
    """Angles of one probe batch.

    Attributes:
        feedback: Degrees between feedback and true gradient at each tap, over the whole batch; by
            the names of the feedback points. Where nothing below a tap learns there is none; NaN
            where nothing above asks for its output, so that the true gradient is zero.
        weights: Degrees between the gradients of each tapped module's parameters, as one vector;
            those that were not used in this pass count for nothing. NaN where all are zero.
        cost: What the probe cost: counts of the projector's account, such as `exposures`.
    """

    feedback: Mapping[str, float]
    weights: Mapping[str, float]
    cost: Mapping[str, int]


def measure_alignment(model: DFA, probe: Batch, loss: Callable[[Any, Any], Tensor]) -> Alignment:
    """Angles on a probe batch, through the model's own projector: one call to it.

    Parameters, gradients, buffers and random generators are left as they were. An optical
    projector shows its exposures; `cost` counts them.

    Args:
        model: A model with taps; its mode does not matter.
        probe: Inputs and targets; see `Batch` for a module that takes keyword arguments.
        loss: `loss(output, targets)`, a scalar.
    """
    before = counts(model.projector.totals())
    feedback, weights = _gradients(model, probe, loss, "dfa")
    true_feedback, true_weights = _gradients(model, probe, loss, "bp")
    return Alignment(
        {name: angle_deg([feedback[name]], [true_feedback[name]]) for name in feedback},
        {name: angle_deg(weights[name], true_weights[name]) for name in weights},
        {key: n - before[key] for key, n in counts(model.projector.totals()).items()},
    )


def angle_deg(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """Angle between two lists of tensors as one vector each, degrees; NaN if one is zero."""
    first = torch.cat([tensor.double().flatten() for tensor in a])
    second = torch.cat([tensor.double().flatten() for tensor in b])
    lengths = float(first.norm() * second.norm())
    if not lengths:
        return math.nan
    return math.degrees(math.acos(min(1.0, max(-1.0, float(first @ second) / lengths))))


def _gradients(
    model: DFA, probe: Batch, loss: Callable[[Any, Any], Tensor], mode: Mode
) -> tuple[dict[str, Tensor], dict[str, list[Tensor]]]:
    """Gradients at each tap, and of each tapped module's parameters, in one mode."""
    with Moment(model).again(), model.in_mode(mode), torch.enable_grad():
        recorded = model.record(*probe.inputs)
        taps = {name: tap for name, tap in recorded.taps if tap.requires_grad}
        owners = [
            (name, parameter)
            for name in model.tap_names
            for parameter in model.module.get_submodule(name).parameters()
            if parameter.requires_grad
        ]
        wanted = [*taps.values(), *(parameter for _, parameter in owners)]
        if not wanted:
            return {}, {}
        gradients = torch.autograd.grad(
            loss(recorded.output, probe.targets),
            wanted,
            materialize_grads=True,  # zero for what was not used
        )
    at_taps = dict(zip(taps, gradients, strict=False))
    of_weights: dict[str, list[Tensor]] = {}
    for (name, _), gradient in zip(owners, gradients[len(taps) :], strict=True):
        of_weights.setdefault(name, []).append(gradient)
    return at_taps, of_weights
