"""A forward pass that is run twice teaches what one teaches whose activations are kept."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from training.dfa import DFA
from training.encoding import Ternary
from training.errors import ReplayError, SettingsError
from training.models.mlp import mlp
from training.projector import DenseProjector, MatrixProjector
from training.taps import Tap


class CountingProjector(MatrixProjector):
    calls = 0

    def project(self, codes: Tensor) -> Tensor:
        self.calls += 1
        return super().project(codes)


def projector(n_outputs: int, n_inputs: int = 4) -> CountingProjector:
    generator = torch.Generator().manual_seed(5)
    return CountingProjector(
        torch.randn(n_outputs, n_inputs, generator=generator, dtype=torch.float64)
    )


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return make().double()


def perceptron(**options: Any) -> DFA:
    net = mlp((7, 6, 5, 4), seed=1).double()
    return DFA(net, projector(11), ["blocks.*"], encoder=Ternary(0.25), **options)


class Noisy(nn.Module):
    """Dropout, running means and a count of its runs in the blocks, one of which runs twice."""

    runs: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(7, 6), nn.Dropout(0.5), nn.Tanh())
        self.again = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Tanh())
        self.head = nn.Sequential(nn.Linear(6, 5), nn.Dropout(0.5), nn.Linear(5, 4))
        self.register_buffer("runs", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        x = x / self.runs
        logits: Tensor = self.head(self.again(self.again(self.first(x))))
        return logits


def noisy(**options: Any) -> DFA:
    return DFA(seeded(Noisy), projector(18), ["first", "again"], **options)


class Tied(nn.Module):
    """The embedding is the vocabulary layer too; the error is taken below that."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(4, 5)
        self.blocks = nn.ModuleList(nn.Linear(5, 5) for _ in range(3))
        self.norm = nn.LayerNorm(5)

    def forward(self, x: Tensor) -> Tensor:
        stream: Tensor = self.embed((x[:, :3] > 0).long())
        for block in self.blocks:
            stream = block(stream).tanh()
        return functional.linear(self.norm(stream).mean(1), self.embed.weight)


def tied(**options: Any) -> DFA:
    return DFA(
        seeded(Tied),
        projector(15, 5),
        ["embed", "blocks.*"],
        layout="shared_prefix",
        error_at="norm",
        tied=["embed.weight"],
        **options,
    )


class Picture(nn.Module):
    """Pixels below, one vector a sample above; feedback through a gate, a tuple, by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 2)
        self.pair = nn.Module()
        self.pair.forward = lambda h: (h.flatten(1), None)
        self.linear = nn.Linear(18, 6)
        self.head = nn.Linear(6, 4)

    def forward(self, *, picture: Tensor) -> dict[str, Tensor]:
        h, _ = self.pair(self.conv(picture).tanh())
        return {"logits": self.head(self.linear(h).tanh())}


class AtHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = seeded(Picture)

    def forward(self, x: Tensor) -> Tensor:
        picture = x.repeat(1, 2)[:, :12].reshape(-1, 1, 4, 3)
        logits: Tensor = self.net(picture=picture)["logits"]
        return logits


def picture(**options: Any) -> DFA:
    taps = [
        Tap("net.conv", features="all"),
        Tap("net.linear", gate=lambda a: 1 - a.tanh().square()),
    ]
    return DFA(AtHead(), projector(24), taps, error_at="net.head", **options)


class Conditioned(nn.Module):
    """Blocks that all read one embedding, which nobody taps, and whose sum goes on to the end."""

    def __init__(self) -> None:
        super().__init__()
        self.condition = nn.Linear(7, 6)
        self.blocks = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.head = nn.Linear(6, 4)
        self.register_buffer("mask", torch.eye(6).sum(0))

    def forward(self, x: Tensor) -> Tensor:
        condition = self.condition(x).tanh()
        h = condition
        for block in self.blocks:
            h = block(h + condition).tanh()
        logits: Tensor = self.head(h * self.mask + condition)
        return logits * self.mask[:4]


def conditioned(**options: Any) -> DFA:
    return DFA(seeded(Conditioned), projector(18), ["blocks.*"], **options)


class Checkpointed(nn.Module):
    """All blocks within one checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        net = mlp((7, 6, 5, 4), seed=1)
        self.blocks, self.head = net.blocks, net.head

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(checkpoint(self.blocks, x, use_reentrant=False))
        return logits


def checkpointed(**options: Any) -> DFA:
    return DFA(seeded(Checkpointed), projector(11), ["blocks.*"], **options)


WRAPPED = [perceptron, noisy, tied, picture, conditioned, checkpointed]


def batch(rows: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(rows, 7, generator=generator, dtype=torch.float64)
    return x, torch.randint(4, (rows,), generator=generator)


def gradients(wrapped: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in wrapped.named_parameters() if p.grad is not None}


def backward(output: Tensor, y: Tensor, scale: float = 1.0) -> None:
    loss: Any = scale * functional.cross_entropy(output, y)
    loss.backward()


def learned(wrapped: DFA, seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    x, y = batch()
    wrapped.zero_grad()
    backward(wrapped(x), y)
    return gradients(wrapped)


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        assert gradient.any(), name
        torch.testing.assert_close(gradient, expected[name], rtol=1e-12, atol=1e-12, msg=name)


@pytest.mark.parametrize("make", WRAPPED)
def test_a_replay_teaches_what_kept_activations_teach(make: Callable[..., DFA]) -> None:
    """Dropout, running means, ties, gates: and one projector call a backward pass."""
    kept, replayed = make(), make(replay=True)
    for seed in (1, 2):  # twice, so that buffers matter
        expected, random = learned(kept, seed), torch.get_rng_state()
        found = learned(replayed, seed)
        assert torch.equal(torch.get_rng_state(), random)
        if make is tied:
            found = {n: g for n, g in found.items() if g.any()}
            expected = {n: g for n, g in expected.items() if g.any()}
        assert_same(found, expected)
    assert isinstance(replayed.projector, CountingProjector)
    assert replayed.projector.calls == 2
    for (name, buffer), (_, other) in zip(
        replayed.named_buffers(), kept.named_buffers(), strict=True
    ):
        assert torch.equal(buffer, other), name


class Kept:
    """What a graph keeps of a forward pass, until it lets go."""

    def __init__(self, tensor: Tensor) -> None:
        with torch.no_grad():
            self.tensor = tensor.clone()  # what is detached still holds on to what it came from


@pytest.mark.parametrize("replay", [False, True])
def test_one_block_is_kept_at_a_time(replay: bool) -> None:
    """Numbers that graphs keep while blocks run, and after the forward pass, by depth."""

    def most_kept(depth: int) -> tuple[int, int]:
        alive: weakref.WeakSet[Kept] = weakref.WeakSet()

        def pack(tensor: Tensor) -> Kept:
            kept = Kept(tensor)
            if not isinstance(tensor, nn.Parameter) and not isinstance(tensor._base, nn.Parameter):
                alive.add(kept)
            return kept

        def numbers() -> int:
            return sum(kept.tensor.numel() for kept in alive)

        net = mlp((7, *[20] * depth, 4), seed=0)
        feedback = DenseProjector(4, 20, 0)
        wrapped = DFA(net, feedback, ["blocks.*"], layout="shared_prefix", replay=replay)
        most: list[int] = []
        for block in net.blocks:
            block.register_forward_hook(lambda *_: most.append(numbers()))
        x, y = batch()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
            output = wrapped(x.float())
            after = numbers()
            backward(output, y)
        assert len(most) == (2 * depth if replay else depth)
        return max(most), after

    assert (most_kept(3) == most_kept(30)) is replay
    if replay:
        assert most_kept(3)[1] == 0


def test_a_loss_that_is_kept_does_not_keep_its_batch() -> None:
    """As in `losses.append(loss)`."""
    wrapped, (x, y) = perceptron(replay=True), batch()
    loss = functional.cross_entropy(wrapped(x), y)
    gone = weakref.ref(x)
    del x
    loss.backward()  # type: ignore[no-untyped-call]
    assert gone() is None
    assert loss.isfinite()


class Drawing(MatrixProjector):
    """A projector that draws random numbers, as noise would."""

    def project(self, codes: Tensor) -> Tensor:
        torch.rand(3)
        return super().project(codes)


@pytest.mark.parametrize("change", ["eval", "mode", "drawing", "hook", "inference", "no_grad"])
def test_a_replay_is_of_the_moment_of_the_forward_pass(change: str) -> None:
    """Whatever happens in between, and whoever else draws random numbers."""

    def by(replay: bool) -> tuple[dict[str, Tensor], Tensor]:
        wrapped = noisy(replay=replay)
        if change == "drawing":
            wrapped.projector = Drawing(projector(18)._matrix)
        if change == "hook":
            weight = wrapped.module.get_parameter("first.0.weight")
            weight.register_hook(lambda gradient: gradient + 0 * torch.rand(()))
        x, y = batch()
        torch.manual_seed(2)
        output = wrapped(x)
        if change == "eval":
            wrapped.eval()
        if change == "mode":
            wrapped.mode = "bp"
        around = {"inference": torch.inference_mode, "no_grad": torch.no_grad}
        loss = functional.cross_entropy(output, y)
        with around.get(change, contextlib.nullcontext)():
            loss.backward()  # type: ignore[no-untyped-call]
        assert wrapped.training is (change != "eval")
        return gradients(wrapped), torch.get_rng_state()

    (found, after), (expected, kept_after) = by(replay=True), by(replay=False)
    assert_same(found, expected)
    assert torch.equal(after, kept_after)


def test_buffers_that_were_handed_out_stay_what_they_are() -> None:
    """A buffer that is the output, and one that only exists after the first run."""

    class Remembering(nn.Module):
        last: Tensor | None

        def __init__(self) -> None:
            super().__init__()
            self.below, self.head = nn.Linear(7, 6), nn.Linear(6, 4)
            self.register_buffer("last", None)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.head(self.below(x).tanh())
            self.last = logits.detach()
            return logits

    net = seeded(Remembering)
    wrapped, (x, y) = DFA(net, projector(6), ["below"], replay=True), batch()
    output = wrapped(x)
    before, last = output.detach().clone(), net.last
    backward(output, y)
    assert torch.equal(output, before)
    assert net.last is last


def test_live_forwards_and_accumulation() -> None:
    expected = {name: 2 * g for name, g in learned(perceptron()).items()}
    wrapped, (x, y) = perceptron(replay=True), batch()
    first, second = wrapped(x[:4]), wrapped(x[4:])
    backward(second, y[4:])
    backward(first, y[:4])
    assert_same(gradients(wrapped), expected)
    with pytest.raises(ReplayError, match="has been replayed already"):
        backward(first, y[:4])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_mixed_precision_is_replayed_in_the_same_precision(dtype: torch.dtype) -> None:
    def unscaled(replay: bool) -> dict[str, Tensor]:
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        wrapped = DFA(
            seeded(Tied).float(),
            DenseProjector(5, 20, 0),
            ["embed", "blocks.*"],
            error_at="norm",
            tied=["embed.weight"],
            loss_scale=scaler.get_scale,
            replay=replay,
        )
        x, y = batch()
        with torch.autocast("cpu", dtype):
            output = wrapped(x.float())
        backward(output, y, scaler.get_scale())
        return gradients(wrapped)

    found, expected = unscaled(True), unscaled(False)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        assert torch.equal(gradient, expected[name]), name


class Twice(nn.Module):
    """The same weights below the error and above it."""

    def __init__(self) -> None:
        super().__init__()
        self.below = nn.Linear(7, 7)
        self.middle = nn.Linear(7, 7)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(self.middle(self.below(x)), self.below.weight)


def test_weights_that_were_cast_without_a_graph_are_cast_anew() -> None:
    def learned_by(replay: bool) -> dict[str, Tensor]:
        net = seeded(Twice).float()
        feedback = DenseProjector(7, 7, 0)
        wrapped = DFA(
            net, feedback, ["below"], error_at="middle", tied=["below.weight"], replay=replay
        )
        x, y = batch()
        with torch.autocast("cpu", torch.bfloat16):
            output = wrapped(x.float())
        backward(output, y)
        return gradients(wrapped)

    found, expected = learned_by(replay=True), learned_by(replay=False)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=0.02, atol=0.02, msg=name)


def test_gradients_can_be_used_up_as_they_come() -> None:
    """An optimizer's step within the backward pass: no gradient outlives its layer."""
    x, y = batch()
    stepped: list[list[Tensor]] = []
    for replay in (False, True):
        wrapped = perceptron(replay=replay)

        def step(parameter: Tensor) -> None:
            assert parameter.grad is not None
            with torch.no_grad():
                parameter -= 0.1 * parameter.grad
            parameter.grad = None

        for parameter in wrapped.parameters():
            parameter.register_post_accumulate_grad_hook(step)  # type: ignore[no-untyped-call]
        backward(wrapped(x), y)
        stepped.append([parameter.detach() for parameter in wrapped.parameters()])
    for one, other in zip(*stepped, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_frozen_blocks_cost_no_projection() -> None:
    wrapped = perceptron(replay=True)
    wrapped.module.get_submodule("blocks").requires_grad_(False)
    assert learned(wrapped).keys() == {"module.head.weight", "module.head.bias"}
    assert isinstance(wrapped.projector, CountingProjector)
    assert wrapped.projector.calls == 0
    wrapped.requires_grad_(False)
    assert not wrapped(batch()[0]).requires_grad


def test_other_modes_and_looking_are_as_ever() -> None:
    x, _ = batch()
    wrapped = perceptron(replay=True)
    wrapped.audit(x)
    assert [point.name for point in wrapped.build(x)] == ["blocks.0", "blocks.1"]
    assert len(wrapped.record(x).taps) == 2
    for mode in ("bp", "shallow"):
        kept = perceptron()
        kept.mode = wrapped.mode = mode
        assert_same(learned(wrapped), learned(kept))
    with torch.no_grad():
        assert not wrapped(x).requires_grad


def test_what_cannot_be_replayed_is_refused() -> None:
    x, y = batch()
    wrapped = perceptron(replay=True)
    with pytest.raises(ReplayError, match="An argument requires a gradient"):
        wrapped(x.clone().requires_grad_())
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=1.0)
    output = wrapped(x)
    optimizer.step()  # without gradients, no change
    backward(output, y)
    output = wrapped(x)
    optimizer.step()
    with pytest.raises(ReplayError, match="call backward before the optimizer's step"):
        backward(output, y)
    wrapped = perceptron(replay=True)
    output = wrapped(x)
    wrapped.module.get_submodule("head").weight = nn.Parameter(torch.zeros(4, 5).double())
    with pytest.raises(ReplayError, match="were changed between"):
        backward(output, y)


class Fickle(nn.Module):
    """Skips a block whenever it is told to."""

    skipped = -1

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(7, 7) for _ in range(2))
        self.head = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.blocks):
            x = x if i == self.skipped else block(x)
        logits: Tensor = self.head(x)
        return logits


@pytest.mark.parametrize("skipped", [0, 1])
def test_a_module_that_runs_otherwise_the_second_time_is_refused(skipped: int) -> None:
    net, (x, y) = seeded(Fickle), batch()
    output = DFA(net, projector(14), ["blocks.*"], replay=True)(x)
    net.skipped = skipped  # type: ignore[assignment]
    with pytest.raises(ReplayError, match="unlike the first time"):
        backward(output, y)


def test_compilers_do_not_look_into_it() -> None:
    x, y = batch()
    wrapped = perceptron(replay=True)
    with pytest.raises(torch._dynamo.exc.Unsupported, match="runs the module once more"):
        torch.compile(wrapped, fullgraph=True, backend="eager")(x)
    torch._dynamo.reset()
    inside = perceptron(replay=True)
    for block in inside.module.get_submodule("blocks").children():
        block.forward = torch.compile(block.forward, backend="aot_eager", fullgraph=True)
    backward(inside(x), y)
    assert_same(gradients(inside), learned(perceptron()))
    torch._dynamo.reset()


def test_sharded_modules_are_refused() -> None:
    class FSDPLinear(nn.Linear):
        """Named like what `fully_shard` makes of a module."""

    net = nn.Sequential(FSDPLinear(7, 6), nn.Linear(6, 4))
    with pytest.raises(SettingsError, match="in pieces: use replay=False"):
        DFA(net, projector(6), ["0"], replay=True)
