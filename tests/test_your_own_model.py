"""The examples of docs/your-own-model.md run as they stand there, and do what it says of them."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from calibration.errors import CodesError
from training.dfa import DFA
from training.encoding import Ternary
from training.errors import FingerprintError, LeakError, ReplayError, TapError
from training.models.mlp import mlp
from training.projector import DenseProjector
from training.taps import Tap, rows_of

PAGE = (Path(__file__).parents[1] / "docs" / "your-own-model.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"<!-- example: (\w+) -->\n```python\n(.*?)```", PAGE, re.DOTALL))


class Watched(DenseProjector):
    """Keeps the codes of every call."""

    def __init__(self, n_inputs: int, n_outputs: int, seed: int) -> None:
        super().__init__(n_inputs, n_outputs, seed)
        self.codes: list[Tensor] = []

    def project(self, codes: Tensor) -> Tensor:
        self.codes.append(codes)
        return super().project(codes)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """The names that an example leaves behind."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)

    def execute(name: str) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        imports, _, _ = EXAMPLES["perceptron"].partition("\n\n")
        exec(imports, seen)
        assert seen["DenseProjector"] is DenseProjector
        seen["DenseProjector"] = Watched
        code = EXAMPLES[name].removeprefix(imports)
        exec(compile(code, f"your-own-model.md, {name}", "exec"), seen)
        return seen

    return execute


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {
        name.removeprefix("module."): p.grad.clone()
        for name, p in model.named_parameters()
        if p.grad is not None
    }


def learned(model: DFA, *args: Any, loss: Callable[[Any], Tensor]) -> dict[str, Tensor]:
    torch.manual_seed(0)  # of dropout
    model.zero_grad()
    loss(model(*args)).backward()
    return gradients(model)


def as_classes(output: Tensor) -> Tensor:
    return functional.cross_entropy(output, torch.arange(len(output)) % output.shape[1])


def at_taps(model: DFA, x: Tensor) -> list[Tensor]:
    """What arrives at the taps."""
    recorded = model.record(x)
    return list(
        torch.autograd.grad(as_classes(recorded.output), [tensor for _, tensor in recorded.taps])
    )


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], msg=name)


def test_every_block_of_code_is_an_example() -> None:
    assert len(EXAMPLES) == PAGE.count("```python") == 9


def test_perceptron(run: Callable[[str], dict[str, Any]]) -> None:
    seen = run("perceptron")
    model, x, codes = seen["model"], seen["x"], seen["projector"].codes
    assert [(point.name, point.columns) for point in seen["points"]] == [
        ("blocks.0", slice(0, 64)),
        ("blocks.1", slice(64, 96)),
    ]
    assert len(codes) == 1
    assert codes[0].dtype == torch.int8
    before = mlp((20, 64, 32, 10), seed=0)
    assert as_classes(model(x)) < as_classes(before(x))

    model.mode = "bp"
    assert_same(learned(model, x, loss=as_classes), learned_by_itself(seen["net"], x))
    model.mode = "shallow"
    assert learned(model, x, loss=as_classes).keys() == {"head.weight", "head.bias"}
    assert len(codes) == 1


def learned_by_itself(net: nn.Module, x: Tensor) -> dict[str, Tensor]:
    net.zero_grad()
    as_classes(net(x)).backward()
    return gradients(net)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.below = nn.Linear(20, 10)
        self.branch = nn.Linear(10, 10)
        self.sum = nn.Identity()
        self.head = nn.Linear(10, 10)

    def forward(self, x: Tensor) -> Tensor:
        below = self.below(x)
        logits: Tensor = self.head(self.sum(below + self.branch(below)))
        return logits


def test_where_to_tap() -> None:
    x = torch.randn(6, 20)
    with pytest.raises(LeakError, match=r"below\.weight"):
        DFA(Residual(), DenseProjector(10, 10, 0), ["branch"]).audit(x)
    DFA(Residual(), DenseProjector(10, 10, 0), ["sum"]).audit(x)
    DFA(Residual(), DenseProjector(10, 20, 0), ["below", "branch"]).audit(x)  # a skip from a tap
    with pytest.raises(TapError):
        DFA(Residual(), DenseProjector(10, 20, 0), ["sum", "head"]).build(x)
    with pytest.raises(TapError):
        DFA(mlp((20, 64, 32, 10), seed=0), DenseProjector(10, 106, 0), ["blocks.*", "head"])(x)


def test_sizes() -> None:
    x, net = torch.randn(6, 20), mlp((20, 64, 32, 10), seed=0)

    def build(n_inputs: int, n_outputs: int, **options: Any) -> None:
        projector = DenseProjector(n_inputs, n_outputs, 0)
        DFA(copy.deepcopy(net), projector, ["blocks.*"], **options).build(x)

    with pytest.raises(TapError, match="take 96 outputs"):
        build(10, 95)
    with pytest.raises(TapError, match="take 64 outputs"):
        build(10, 63, layout="shared_prefix")
    with pytest.raises(TapError, match="error has 10 components"):
        build(9, 96)
    build(10, 1000)
    build(10, 64, layout="shared_prefix")


def test_convolutions(run: Callable[[str], dict[str, Any]]) -> None:
    seen = run("convolutions")
    x = torch.randn(4, 1, 8, 8)
    assert [point.columns for point in seen["model"].build(x)] == [slice(0, 8), slice(8, 24)]
    for gradient in at_taps(seen["model"], x):
        torch.testing.assert_close(gradient, gradient[:, :, :1, :1].expand_as(gradient))
    own = Tap("conv*", features="all")
    points = DFA(seen["model"].unwrap(), DenseProjector(10, 192, 0), [own]).build(x)
    assert points[-1].columns.stop == 192
    assert rows_of((1, 64, 56, 56), "channels")[1] == 64
    assert rows_of((1, 64, 56, 56), "all")[1] == 200_704


def test_a_row_a_pixel() -> None:
    net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 10, 1))
    projector = Watched(10, 8, 0)
    at = Tap("", features="channels")
    model = DFA(net, projector, [Tap("0", features="channels")], error_at=at)
    model.audit(torch.randn(2, 1, 4, 3))
    model(torch.randn(2, 1, 4, 3)).square().mean().backward()
    assert projector.codes[0].shape == (2 * 4 * 3, 10)


def test_recurrent(run: Callable[[str], dict[str, Any]]) -> None:
    seen = run("recurrent")
    x = torch.randn(12, 12, 6)
    for model in (seen["steps"], seen["last"]):
        model.audit(x)
        assert len(learned(model, x, loss=as_classes)) == 6
    (every,), (last,) = at_taps(seen["steps"], x), at_taps(seen["last"], x)
    assert every.shape == (12, 12, 24)
    torch.testing.assert_close(every, every[:, :1].expand_as(every))
    assert last.shape == (12, 24)
    net = nn.Sequential(nn.GRU(6, 24), nn.Identity())
    net[1].forward = lambda output: output[0].mean(0)
    net.append(nn.Linear(24, 10))
    broadcast = Tap("0", output=0, broadcast=True)
    with pytest.raises(TapError, match="batch_first"):  # as many steps as samples
        DFA(net, DenseProjector(10, 24, 0), [broadcast]).build(x)


def test_classifier(run: Callable[[str], dict[str, Any]]) -> None:
    seen = run("classifier")
    model, batch = seen["model"], (seen["tokens"], seen["labels"])
    found = learned(model, *batch, loss=lambda output: output["loss"])
    assert found.keys() == dict(model.module.named_parameters()).keys()
    model.mode = "bp"
    exact = learned(model, *batch, loss=lambda output: output["loss"])
    torch.testing.assert_close(found["head.weight"], exact["head.weight"])
    assert not torch.allclose(found["embedding.weight"], exact["embedding.weight"])

    net = model.unwrap()
    projector, taps = DenseProjector(5, 32, 0), [seen["tap"]]
    logits = DFA(net, projector, taps, layout="shared_prefix", error_at=Tap("", output="logits"))
    outside = learned(logits, *batch, loss=lambda output: as_classes(output["logits"]))
    assert_same(outside, found)
    with pytest.raises(LeakError, match="error_at='head'"):
        logits.audit(*batch)


def test_language(run: Callable[[str], dict[str, Any]]) -> None:
    """And a replay teaches the same."""
    seen = run("language")
    model, tokens, options = seen["model"], seen["tokens"], seen["options"]
    assert model.projector.codes[0].shape == (8 * 12, 32)

    def loss(logits: Tensor) -> Tensor:
        return functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    found, net = gradients(model), model.unwrap()
    assert found.keys() == dict(net.named_parameters()).keys()
    untied = {**options, "tied": []}
    with pytest.raises(LeakError, match=r"embedding\.weight"):
        leaky = DFA(copy.deepcopy(net), DenseProjector(32, 32, 0), ["blocks.*"], **untied)
        leaky.audit(tokens[:, :-1])
    again = DFA(net, DenseProjector(32, 32, 0), ["blocks.*"], **options, replay=True)
    assert_same(learned(again, tokens[:, :-1], loss=loss), found)
    twice = loss(again(tokens[:, :-1]))
    twice.backward(retain_graph=True)
    with pytest.raises(ReplayError):
        twice.backward()
    again.mode = "shallow"
    above = learned(again, tokens[:, :-1], loss=loss)["embedding.weight"]
    assert above.any()
    assert not torch.allclose(found["embedding.weight"], above)


class Conditioned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Embedding(10, 8)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(3))
        self.head = nn.Linear(8, 8)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        condition = self.time(t)
        for block in self.blocks:
            x = block(x + condition)
        noise: Tensor = self.head(x)
        return noise


@pytest.mark.parametrize("taps", [["time", "blocks.*"], ["blocks.*"]])
def test_what_feeds_all_blocks_is_replayed(taps: list[str]) -> None:
    """It learns from all of them, and tapped itself from its own feedback alone."""
    x, t = torch.randn(6, 8), torch.arange(6)

    def found(net: nn.Module, **options: Any) -> dict[str, Tensor]:
        options = {"layout": "shared_prefix", **options}
        model = DFA(copy.deepcopy(net), DenseProjector(8, 8, 0), taps, **options)
        model.audit(x, t)
        return learned(model, x, t, loss=lambda output: output.square().mean())

    net = Conditioned()
    kept = found(net)
    assert_same(found(net, replay=True), kept)
    e = net(x, t) * 2 / x.numel()
    alone = DenseProjector(8, 8, 0).project(e.detach())
    assert torch.allclose(kept["time.weight"][:6], alone) == ("time" in taps)


def test_loop(run: Callable[[str], dict[str, Any]]) -> None:
    seen = run("loop")
    x, y = seen["x"], seen["y"]
    before = mlp((20, 64, 4), seed=0)
    error = 2 * (before(x) - y)  # of the squares of one sample
    shown = torch.cat(seen["model"].projector.codes)
    assert torch.equal(shown, (error.sign() * (error.abs() >= 0.1)).to(torch.int8))
    assert bool((shown == 0).any())
    after = dict(seen["net"].named_parameters())
    assert all(not torch.equal(p, after[name]) for name, p in before.named_parameters())
    for block in (seen["net"].blocks[0], seen["net"].head):
        grads = [p.grad for p in block.parameters()]
        assert float(nn.utils.get_total_norm(grads)) < 1 + 1e-5


def test_the_unit_of_a_mean_that_ignores_rows_is_not_that_of_the_rows() -> None:
    """A threshold of 0.1 is one of 0.05 where half of the rows count."""
    net, x, y = mlp((20, 64, 10), seed=0), torch.randn(16, 20), torch.arange(16) % 10
    y[::2] = -100
    projector = Watched(10, 64, 0)
    model = DFA(net, projector, ["blocks.*"], encoder=Ternary(0.1))
    functional.cross_entropy(model(x), y).backward()
    error = net(x)[1::2].softmax(1) - functional.one_hot(y[1::2], 10)
    assert torch.equal(projector.codes[0][1::2] != 0, error.abs() >= 0.05)
    assert bool((error.abs() < 0.1)[projector.codes[0][1::2] != 0].any())


def test_adam_does_not_care_how_large_feedback_is_and_a_common_norm_does() -> None:
    stepped = []
    for scale in (1.0, 0.1):
        net = mlp((20, 64, 10), seed=0)
        projector = DenseProjector(10, 64, 0)
        model = DFA(net, projector, ["blocks.*"], feedback_scale=scale)
        as_classes(model(torch.ones(10, 20).cumsum(0) / 10)).backward()
        torch.optim.Adam(model.parameters(), lr=0.01).step()
        stepped.append(net)
    for one, other in zip(stepped[0].parameters(), stepped[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    block, head = (
        float(nn.utils.get_total_norm([p.grad for p in part.parameters()]))
        for part in (stepped[0].blocks, stepped[0].head)
    )
    assert block > 3 * head


@pytest.mark.parametrize("width", [64, 256])
def test_how_large_the_feedback_is(width: int) -> None:
    """To a tenth, where the entries of `B` and of the layer are as they happen to be."""
    x = torch.randn(128, 20)

    def ratio(scale: float) -> float:
        model = DFA(
            mlp((20, width, 10), seed=0),
            DenseProjector(10, width, 0),
            ["blocks.*"],
            feedback_scale=scale,
        )
        (feedback,) = at_taps(model, x)
        model.mode = "bp"
        (true,) = at_taps(model, x)
        return float(feedback.norm() / true.norm())

    assert ratio(1.0) == pytest.approx((3 * width) ** 0.5, rel=0.1)
    assert ratio((3 * width) ** -0.5) == pytest.approx(1.0, rel=0.1)


def test_broadcast_below_a_mean_is_larger_by_the_number_of_positions() -> None:
    torch.manual_seed(0)
    mean = nn.Identity()
    mean.forward = lambda tokens: tokens.mean(1)
    net = nn.Sequential(nn.Sequential(nn.Linear(20, 64), nn.Tanh()), mean, nn.Linear(64, 10))
    model = DFA(net, DenseProjector(10, 64, 0), [Tap("0", broadcast=True)])
    (feedback,) = at_taps(model, torch.randn(128, 7, 20))
    model.mode = "bp"
    (true,) = at_taps(model, torch.randn(128, 7, 20))
    assert float(feedback.norm() / true.norm()) == pytest.approx(7 * (3 * 64) ** 0.5, rel=0.1)


def test_saving(run: Callable[[str], dict[str, Any]]) -> None:
    seen = run("saving")
    model, plain, x = seen["model"], seen["plain"], torch.randn(6, 20)
    seen["other"].other_feedback = False
    with pytest.raises(FingerprintError):
        seen["other"].load_state_dict(torch.load("model.pt"))
    model.load_state_dict(torch.load("model.pt"))
    assert seen["average"].module.projector is model.projector
    with pytest.raises(TapError):
        model(x)
    assert type(plain).__name__ == "MLP"
    assert not any(part._forward_hooks for part in plain.modules())
    expected = learned_by_itself(mlp((20, 64, 10), seed=0), x)
    assert_same(learned_by_itself(plain, x), expected)
    wrapped = mlp((20, 64, 10), seed=0)
    DFA(wrapped, DenseProjector(10, 64, 0), ["blocks.*"])
    assert_same(learned_by_itself(wrapped, x), expected)


def test_physical(run: Callable[[str], dict[str, Any]]) -> None:
    """dW = [(B e) * gate(a)]^T x, e by hand."""
    seen = run("physical")
    x = torch.randn(12, 20)
    gated = DFA(mlp((20, 64, 10), seed=0), DenseProjector(10, 64, 0), [seen["gated"]])
    for model, first, gate in (
        (seen["model"], "0.0", lambda a: 1 - a.tanh() ** 2),
        (gated, "blocks.0.0", torch.cos),
    ):
        model.audit(x)
        with torch.no_grad():
            output, a = model(x), model.module.get_submodule(first)(x)
            error = (output.softmax(1) - functional.one_hot(torch.arange(12) % 10)) / 12
            expected = (DenseProjector(10, 64, 0).project(error) * gate(a)).T @ x
        found = learned(model, x, loss=as_classes)
        torch.testing.assert_close(found[f"{first}.weight"], expected)


def test_light(run: Callable[[str], dict[str, Any]]) -> None:
    seen = run("light")
    assert seen["projector"].totals()["exposures"] >= 2 * 64
    assert seen["projector"].n_outputs >= 64
    assert len(gradients(seen["model"])) == 4
    with pytest.raises(CodesError):
        seen["projector"].project(torch.randn(2, 10))
