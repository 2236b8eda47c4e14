"""What engineers put into their loops changes nothing of the feedback."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from training.dfa import DFA
from training.encoding import BitPlanes, Encoder, Identity, Sign, Ternary
from training.errors import TapError
from training.models.mlp import mlp
from training.projector import MatrixProjector

ENCODERS: list[Encoder] = [
    Identity(),
    Ternary(0.3, relative=True),
    Ternary(0.25, restore=False),
    Sign(),
    BitPlanes(4),
]


class CountingProjector(MatrixProjector):
    calls = 0

    def project(self, codes: Tensor) -> Tensor:
        self.calls += 1
        return super().project(codes)


def projector(dtype: torch.dtype = torch.float64) -> CountingProjector:
    generator = torch.Generator().manual_seed(5)
    return CountingProjector(torch.randn(11, 4, generator=generator).to(dtype))


def model(**options: Any) -> DFA:
    return DFA(mlp((7, 6, 5, 4), seed=1).double(), projector(), ["blocks.*"], **options)


def batch(rows: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(rows, 7, generator=generator, dtype=torch.float64)
    return x, torch.randint(4, (rows,), generator=generator)


def gradients(wrapped: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in wrapped.named_parameters() if p.grad is not None}


def learned(wrapped: DFA) -> dict[str, Tensor]:
    x, y = batch()
    wrapped.zero_grad()
    functional.cross_entropy(wrapped(x), y).backward()
    return gradients(wrapped)


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], rtol: float = 1e-12) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=rtol, atol=rtol, msg=name)


@pytest.mark.parametrize("encoder", ENCODERS, ids=repr)
def test_accumulated_gradients_are_those_of_the_whole_batch(encoder: Encoder) -> None:
    """The loss of a part is divided by the number of parts: `loss_scale` says so."""
    expected = learned(model(encoder=encoder))
    wrapped = model(encoder=encoder, loss_scale=1 / 4)
    x, y = batch()
    for part in range(0, 8, 2):
        rows = slice(part, part + 2)
        (functional.cross_entropy(wrapped(x[rows]), y[rows]) / 4).backward()
    assert_same(gradients(wrapped), expected)


def test_clipping_sees_the_gradients_that_an_optimizer_sees() -> None:
    expected = learned(model())
    norm = torch.stack([gradient.square().sum() for gradient in expected.values()]).sum().sqrt()
    wrapped = model()
    learned(wrapped)
    clipped = nn.utils.clip_grad_norm_(wrapped.parameters(), float(norm) / 2)
    torch.testing.assert_close(clipped, norm)
    halves = {name: gradient / 2 for name, gradient in expected.items()}
    assert_same(gradients(wrapped), halves, rtol=1e-5)


@pytest.mark.parametrize("encoder", ENCODERS, ids=repr)
def test_a_gradient_scaler_of_any_scale_changes_no_bit(encoder: Encoder) -> None:
    """In half precision forward and full backward of the loss; scales are powers of two."""

    def unscaled(scale: float) -> dict[str, Tensor]:
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        wrapped = DFA(
            mlp((7, 6, 5, 4), seed=1),
            projector(torch.float32),
            ["blocks.*"],
            encoder=encoder,
            loss_scale=scaler.get_scale,
        )
        x, y = batch()
        with torch.autocast("cpu", torch.bfloat16):
            loss = functional.cross_entropy(wrapped(x.float()), y)
        scaler.scale(loss).backward()
        scaler.unscale_(torch.optim.SGD(wrapped.parameters(), lr=0.1))
        assert isinstance(wrapped.projector, CountingProjector)
        assert wrapped.projector.calls == 1
        return gradients(wrapped)

    plain = unscaled(1.0)
    for scale in (2.0**-6, 2.0**12):
        for name, gradient in unscaled(scale).items():
            assert torch.equal(gradient, plain[name])
            assert gradient.any()


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float16, 0.01), (torch.bfloat16, 0.1)], ids=str
)
def test_mixed_precision_with_a_scaler_is_full_precision_but_for_its_digits(
    dtype: torch.dtype, tolerance: float
) -> None:
    """Of each parameter's gradient; float16 has 10 bits after the first, bfloat16 seven."""

    def unscaled(scale: float) -> dict[str, Tensor]:
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, enabled=scale > 1)
        wrapped = DFA(
            mlp((7, 6, 5, 4), seed=1),
            projector(torch.float32),
            ["blocks.*"],
            loss_scale=scaler.get_scale,
        )
        x, y = batch()
        with torch.autocast("cpu", dtype, enabled=scale > 1):
            loss = functional.cross_entropy(wrapped(x.float()), y)
        scaler.scale(loss).backward()
        if scale > 1:
            scaler.unscale_(torch.optim.SGD(wrapped.parameters(), lr=0.1))
        return gradients(wrapped)

    full = unscaled(1.0)
    for name, gradient in unscaled(2.0**10).items():
        assert float((gradient - full[name]).norm() / full[name].norm()) < tolerance, name


def test_an_overflow_skips_the_step_and_lowers_the_scale() -> None:
    wrapped = DFA(mlp((7, 6, 5, 4), seed=1), projector(torch.float32), ["blocks.*"])
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    before = [p.detach().clone() for p in wrapped.parameters()]
    x, y = batch()
    scaler.scale(1e6 * functional.cross_entropy(wrapped(x.float()), y)).backward()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0**126
    assert all(torch.equal(p, b) for p, b in zip(wrapped.parameters(), before, strict=True))


class Checkpointed(nn.Module):
    """The perceptron with each of its blocks checkpointed, or all at once."""

    def __init__(self, together: bool, use_reentrant: bool = False) -> None:
        super().__init__()
        net = mlp((7, 6, 5, 4), seed=1).double()
        self.blocks, self.head = net.blocks, net.head
        self.together, self.use_reentrant = together, use_reentrant

    def forward(self, x: Tensor) -> Tensor:
        for block in [self.blocks] if self.together else self.blocks:
            x = checkpoint(block, x, use_reentrant=self.use_reentrant)
        logits: Tensor = self.head(x)
        return logits


@pytest.mark.parametrize("together", [False, True], ids=["each", "together"])
def test_checkpointed_activations_are_projected_once(together: bool) -> None:
    """The blocks run again in the backward pass; the projector does not."""
    wrapped = DFA(Checkpointed(together), projector(), ["blocks.*"])
    runs: list[None] = []
    wrapped.module.get_submodule("blocks.0").register_forward_pre_hook(lambda *_: runs.append(None))
    assert_same(learned(wrapped), learned(model()))
    assert len(runs) == 2
    assert isinstance(wrapped.projector, CountingProjector)
    assert wrapped.projector.calls == 1
    wrapped.audit(batch()[0])


def test_two_live_checkpointed_forwards() -> None:
    wrapped = DFA(Checkpointed(together=True), projector(), ["blocks.*"])
    expected = {name: 2 * gradient for name, gradient in learned(wrapped).items()}
    x, y = batch()
    wrapped.zero_grad()
    first = functional.cross_entropy(wrapped(x[:4]), y[:4])
    second = functional.cross_entropy(wrapped(x[4:]), y[4:])
    first.backward()
    second.backward()
    assert_same(gradients(wrapped), expected)


def test_reentrant_checkpoints_are_refused() -> None:
    wrapped = DFA(Checkpointed(together=True, use_reentrant=True), projector(), ["blocks.*"])
    with pytest.raises(TapError, match=r"'blocks\.0' ran without gradients .* use_reentrant=False"):
        wrapped(batch()[0].requires_grad_())
