from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.dfa import DFA, Mode
from training.errors import SettingsError
from training.physical_layer import PhysicalLayer
from training.projector import DenseProjector


def slope(a: Tensor) -> Tensor:
    return 1 - torch.tanh(a) ** 2


def numpy_tanh(a: Tensor) -> Tensor:
    return torch.from_numpy(np.tanh(a.numpy()))


def network(activation: nn.Module) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Sequential(nn.Linear(7, 6), activation),
            nn.Sequential(nn.Linear(6, 5), activation),
            nn.Linear(5, 4),
        )


def learned(activation: nn.Module, mode: Mode) -> list[Tensor]:
    wrapped = DFA(network(activation), DenseProjector(4, 11, seed=0), ["0", "1"])
    generator = torch.Generator().manual_seed(3)
    x, y = torch.randn(8, 7, generator=generator), torch.randint(4, (8,), generator=generator)
    wrapped.audit(x)
    wrapped.mode = mode
    functional.cross_entropy(wrapped(x), y).backward()
    return [p.grad for p in wrapped.parameters() if p.grad is not None]


@pytest.mark.parametrize("mode", get_args(Mode))
def test_a_black_box_gated_by_its_derivative_is_the_activation(mode: Mode) -> None:
    physical = learned(PhysicalLayer(numpy_tanh, slope), mode)
    activation = learned(nn.Tanh(), mode)
    assert len(physical) == (2 if mode == "shallow" else 6)
    for found, expected in zip(physical, activation, strict=True):
        torch.testing.assert_close(found, expected)


def test_the_gate_is_all_that_autograd_sees() -> None:
    calls: list[Tensor] = []

    def response(a: Tensor) -> Tensor:
        calls.append(a)
        assert not torch.is_grad_enabled() or not a.requires_grad
        return a.round()

    a = torch.linspace(-2, 2, 5, requires_grad=True)
    answer = PhysicalLayer(response, torch.cos)(a)
    assert torch.equal(answer, a.detach().round())
    answer.backward(2 * torch.ones(5))
    torch.testing.assert_close(a.grad, 2 * torch.cos(a.detach()))
    assert len(calls) == 1


def test_a_response_may_be_its_own_argument_or_an_old_one() -> None:
    a = torch.ones(3, requires_grad=True)
    kept = torch.zeros(3)
    for response in (lambda x: x, lambda _: kept):
        answer = PhysicalLayer(response, torch.ones_like)(a)
        answer.detach().add_(1)
    assert torch.equal(a.detach(), torch.ones(3))
    assert torch.equal(kept, torch.zeros(3))


def test_another_shape_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"answers \(2, 4\) by \(2, 2\)"):
        PhysicalLayer(lambda x: x[:, :2], torch.cos)(torch.ones(2, 4))
