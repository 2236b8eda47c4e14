from __future__ import annotations

import gc
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from training.dfa import DFA
from training.encoding import Ternary
from training.errors import TrainingError
from training.models.mlp import mlp
from training.models.transformer import Decoder, taps_of
from training.physical_layer import PhysicalLayer
from training.projector import MatrixProjector
from training.taps import Tap

pytestmark = pytest.mark.filterwarnings(  # the compiler warns of its own habits
    "ignore:.*should not be instantiated:DeprecationWarning",
    "ignore:.*torch.jit.* is deprecated:DeprecationWarning",
)


class CountingProjector(MatrixProjector):
    calls = 0

    def project(self, codes: Tensor) -> Tensor:
        self.calls += 1
        return super().project(codes)


@pytest.fixture(autouse=True)
def _fresh_compiler() -> None:
    torch.compiler.reset()


def model(seed: int = 1, **options: Any) -> DFA:
    matrix = torch.randn(11, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    net = mlp((7, 6, 5, 4), seed=seed).double()
    return DFA(net, CountingProjector(matrix), taps=["blocks.*"], **options)


def compiled(wrapped: nn.Module) -> Any:
    return torch.compile(wrapped, fullgraph=True, backend="aot_eager")


def batch(rows: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(rows, 7, generator=generator, dtype=torch.float64)
    return x, torch.randint(4, (rows,), generator=generator)


def gradients(run: Any, wrapped: DFA, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    wrapped.zero_grad()
    functional.cross_entropy(run(x), y).backward()
    return gathered(wrapped)


def gathered(wrapped: DFA) -> dict[str, Tensor]:
    return {
        name: p.grad.clone() for name, p in wrapped.module.named_parameters() if p.grad is not None
    }


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-12, atol=1e-12, msg=name)


def calls(wrapped: DFA) -> int:
    assert isinstance(wrapped.projector, CountingProjector)
    return wrapped.projector.calls


def test_compiled_gradients_are_eager_with_one_projector_call_a_backward() -> None:
    """Also with other numbers of rows: the second is compiled with a symbolic one."""
    wrapped = model(encoder=Ternary(0.25))
    run = compiled(wrapped)
    for n, rows in enumerate((8, 6, 5), start=1):
        found = gradients(run, wrapped, *batch(rows))
        assert calls(wrapped) == 2 * n - 1
        assert_same(found, gradients(wrapped, wrapped, *batch(rows)))


@pytest.mark.skipif(sys.platform == "win32", reason="needs g++")
def test_machine_code_learns_what_eager_learns() -> None:
    wrapped = model()
    found = gradients(torch.compile(wrapped, fullgraph=True), wrapped, *batch())
    assert calls(wrapped) == 1
    assert_same(found, gradients(wrapped, wrapped, *batch()))


def test_a_transformer_with_feedback_in_every_step_compiles() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Decoder(symbols=5, context=6, width=4, depth=2, heads=2).double()
    matrix = torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wrapped = DFA(
        net,
        CountingProjector(matrix),
        taps_of("micro"),
        error_at="norm",
        layout="shared_prefix",
    )
    tokens = torch.randint(5, (3, 6), generator=torch.Generator().manual_seed(1))

    def learned(run: Any) -> dict[str, Tensor]:
        wrapped.zero_grad()
        functional.cross_entropy(run(tokens).flatten(0, 1), tokens.flatten()).backward()
        return gathered(wrapped)

    found = learned(compiled(wrapped))
    assert calls(wrapped) == 1
    assert_same(found, learned(wrapped))


def test_several_compiled_models_keep_to_their_own_projectors() -> None:
    models = [model(seed) for seed in (1, 2, 3)]
    runs = [compiled(wrapped) for wrapped in models]
    prints = [wrapped.projector.fingerprint() for wrapped in models]
    losses = [functional.cross_entropy(run(batch()[0]), batch()[1]) for run in runs]
    for loss in reversed(losses):
        loss.backward()
    for wrapped in models:
        found = gathered(wrapped)
        assert calls(wrapped) == 1
        assert_same(found, gradients(wrapped, wrapped, *batch()))
    assert [wrapped.projector.fingerprint() for wrapped in models] == prints
    assert len(set(prints)) == 3


def test_two_live_compiled_forwards() -> None:
    wrapped, (x, y) = model(), batch()
    expected = {n: 2 * g for n, g in gradients(wrapped, wrapped, x, y).items()}
    run = compiled(wrapped)
    wrapped.zero_grad()
    first = functional.cross_entropy(run(x[:4]), y[:4])
    second = functional.cross_entropy(run(x[4:]), y[4:])
    second.backward()
    first.backward()
    assert calls(wrapped) == 3
    assert_same(
        {n: p.grad for n, p in wrapped.module.named_parameters() if p.grad is not None}, expected
    )


def test_modes_and_audit_of_a_compiled_model() -> None:
    wrapped, (x, y) = model(), batch()
    run = compiled(wrapped)
    eager: dict[str, dict[str, Tensor]] = {}
    for mode in ("dfa", "bp", "shallow"):
        wrapped.mode = mode  # type: ignore[assignment]
        eager[mode] = gradients(wrapped, wrapped, x, y)
        assert_same(gradients(run, wrapped, x, y), eager[mode])
    wrapped.audit(x)
    wrapped.mode = "dfa"
    assert_same(gradients(run, wrapped, x, y), eager["dfa"])


def test_the_loss_scale_is_that_of_the_backward_pass() -> None:
    """A gradient scaler changes its scale: nothing of it is frozen into the graph."""
    scale = 1.0
    wrapped = model(encoder=Ternary(0.25, restore=False), loss_scale=lambda: scale)
    run = compiled(wrapped)
    x, y = batch()
    plain = gradients(run, wrapped, x, y)
    scale = 64.0
    wrapped.zero_grad()
    (scale * functional.cross_entropy(run(x), y)).backward()
    assert_same(
        {n: p.grad / scale for n, p in wrapped.module.named_parameters() if p.grad is not None},
        plain,
    )


def test_a_backward_pass_needs_its_compiled_model() -> None:
    wrapped, (x, y) = model(), batch()
    loss = functional.cross_entropy(compiled(wrapped)(x), y)
    del wrapped
    torch.compiler.reset()
    gc.collect()
    with pytest.raises(TrainingError, match="keep the model"):
        loss.backward()


def slope(a: Tensor) -> Tensor:
    return 1 - torch.tanh(a) ** 2


def test_gates_pixels_and_physical_layers_compile() -> None:
    answered: list[int] = []

    def numpy_tanh(a: Tensor) -> Tensor:
        answered.append(len(a))
        return torch.from_numpy(np.tanh(a.numpy()))

    net = nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.Sequential(nn.Conv2d(3, 2, 1), PhysicalLayer(numpy_tanh, slope)),
        nn.Flatten(),
        nn.Linear(10, 4),
    ).double()
    own = Tap("0", features="all", gate=torch.cos)
    same = Tap("1", features="channels", broadcast=True)
    matrix = torch.randn(32, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wrapped = DFA(net, CountingProjector(matrix), [own, same])
    x, y = batch()
    images = x[:, None, None, :].expand(8, 1, 3, 7)
    found = gradients(compiled(wrapped), wrapped, images, y)
    assert calls(wrapped) == 1
    assert answered == [8]
    assert len(found) == 6
    assert_same(found, gradients(wrapped, wrapped, images, y))


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        net = mlp((7, 6, 5, 4), seed=1).double()
        self.blocks, self.head = net.blocks, net.head

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(checkpoint(self.blocks, x, use_reentrant=False))
        return logits


def test_checkpointed_blocks_compile() -> None:
    wrapped, (x, y) = DFA(Checkpointed(), model().projector, taps=["blocks.*"]), batch()
    expected = gradients(wrapped, wrapped, x, y)
    with torch._dynamo.config.patch(skip_fwd_side_effects_in_bwd_under_checkpoint=True):
        assert_same(gradients(compiled(wrapped), wrapped, x, y), expected)
    assert calls(wrapped) == 2
