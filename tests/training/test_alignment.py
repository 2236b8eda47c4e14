from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.alignment import Alignment, angle_deg, measure_alignment
from training.batch import Batch
from training.dfa import DFA
from training.encoding import Ternary
from training.models.mlp import mlp
from training.projector import DenseProjector, MatrixProjector


def probe() -> Batch:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(64, 20, generator=generator)
    return Batch((inputs,), torch.randint(4, (64,), generator=generator))


def test_random_feedback_starts_at_right_angles() -> None:
    model = DFA(mlp((20, 300, 300, 4), seed=0), DenseProjector(4, 600, seed=1), taps=["blocks.*"])
    angles = measure_alignment(model, probe(), functional.cross_entropy)
    assert list(angles.feedback) == ["blocks.0", "blocks.1"] == list(angles.weights)
    assert all(75 < angle < 105 for angle in angles.feedback.values())
    assert all(75 < angle < 105 for angle in angles.weights.values())
    assert angles.cost == {"rows": 64}


@pytest.mark.parametrize(("sign", "angle"), [(1, 0.0), (-1, 180.0)])
def test_the_true_weights_as_feedback_are_aligned(sign: int, angle: float) -> None:
    net = nn.Sequential(nn.Linear(20, 9), nn.Linear(9, 4))
    model = DFA(net, MatrixProjector(sign * net[1].weight.detach().T), taps=["0"])
    angles = measure_alignment(model, probe(), functional.cross_entropy)
    assert angles.feedback["0"] == pytest.approx(angle, abs=0.1)
    assert angles.weights["0"] == pytest.approx(angle, abs=0.1)


def test_training_aligns_the_layers() -> None:
    model = DFA(
        mlp((20, 64, 64, 4), seed=0),
        DenseProjector(4, 128, seed=1),
        taps=["blocks.*"],
        encoder=Ternary(0.3, relative=True),
    )
    batch = probe()
    (x,), y = batch.inputs, batch.targets
    before = measure_alignment(model, batch, functional.cross_entropy)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(60):
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    after = measure_alignment(model, batch, functional.cross_entropy)
    assert after.feedback["blocks.1"] < before.feedback["blocks.1"] - 8


@pytest.mark.parametrize("mode", ["dfa", "bp", "shallow"])
def test_measuring_disturbs_nothing(mode: str) -> None:
    block = nn.Sequential(nn.Linear(20, 9), nn.BatchNorm1d(9), nn.Dropout(0.5))
    net = nn.Sequential(block, nn.Linear(9, 4))
    model = DFA(net, DenseProjector(4, 9, seed=0), taps=["0"])
    model.mode = mode  # type: ignore[assignment]
    batch = probe()
    (x,), y = batch.inputs, batch.targets
    functional.cross_entropy(model(x), y).backward()
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    buffers = [buffer.clone() for buffer in model.buffers()]
    random = torch.get_rng_state()
    measure_alignment(model, batch, functional.cross_entropy)
    assert model.mode == mode
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), buffers, strict=True))
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert gradient is None or torch.equal(parameter.grad, gradient)  # type: ignore[arg-type]


def test_angles_of_nothing_are_nothing() -> None:
    assert math.isnan(angle_deg([torch.zeros(3)], [torch.ones(3)]))
    assert angle_deg([torch.tensor([1.0, 0.0])], [torch.tensor([1.0, 1.0])]) == pytest.approx(45)


def test_angles_of_every_feedback_point_that_learns() -> None:
    """A shared module has one a run, a frozen one none."""
    shared = nn.Sequential(nn.Linear(9, 9), nn.Tanh())
    net = nn.Sequential(nn.Linear(20, 9), shared, nn.Linear(9, 9), nn.Linear(9, 4))
    net.insert(2, shared)
    net[3].requires_grad_(False)
    model = DFA(net, DenseProjector(4, 36, seed=0), taps=["0", "1", "3"])
    angles = measure_alignment(model, probe(), functional.cross_entropy)
    assert list(angles.feedback) == ["0", "1", "1#2"]
    assert list(angles.weights) == ["0", "1"]
    assert angles.cost == {"rows": 64}


def test_a_parameter_that_is_not_used_counts_for_nothing() -> None:
    def angles(net: nn.Sequential) -> Alignment:
        model = DFA(net, DenseProjector(4, 600, seed=1), taps=["blocks.*"])
        return measure_alignment(model, probe(), functional.cross_entropy)

    plain, spare = (mlp((20, 300, 300, 4), seed=0) for _ in range(2))
    spare.get_submodule("blocks.0").register_parameter("spare", nn.Parameter(torch.ones(9)))
    assert angles(spare) == angles(plain)


class Forgetful(nn.Module):
    """Nothing above asks for what one of its blocks puts out."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.forgotten = nn.Linear(20, 9), nn.Linear(20, 9)
        self.last = nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        self.forgotten(x)
        return self.last(self.used(x))


def test_where_the_true_gradient_is_zero_there_is_no_angle() -> None:
    model = DFA(Forgetful(), DenseProjector(4, 18, seed=0), taps=["used", "forgotten"])
    angles = measure_alignment(model, probe(), functional.cross_entropy)
    for found in (angles.feedback, angles.weights):
        assert set(found) == {"used", "forgotten"}
        assert 0 < found["used"] < 180
        assert math.isnan(found["forgotten"])


def test_where_nothing_learns_there_is_no_angle() -> None:
    net = nn.Sequential(nn.Linear(20, 9), nn.Linear(9, 4))
    net[0].requires_grad_(False)
    model = DFA(net, DenseProjector(4, 9, seed=0), taps=["0"])
    found = measure_alignment(model, probe(), functional.cross_entropy)
    assert found == Alignment({}, {}, {"rows": 0})
