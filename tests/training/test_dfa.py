from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.dfa import DFA
from training.encoding import Encoder, Ternary
from training.errors import FingerprintError, LeakError, SettingsError, TapError
from training.models.mlp import mlp
from training.projector import DenseProjector, MatrixProjector
from training.taps import Tap

WIDTHS = (7, 6, 5, 4)


class CountingProjector(MatrixProjector):
    calls = 0

    def project(self, codes: Tensor) -> Tensor:
        self.calls += 1
        return super().project(codes)


def projector(n_outputs: int = 11, n_inputs: int = 4) -> CountingProjector:
    generator = torch.Generator().manual_seed(5)
    return CountingProjector(
        torch.randn(n_outputs, n_inputs, generator=generator, dtype=torch.float64)
    )


def model(**options: Any) -> DFA:
    options = {"projector": projector(), "taps": ["blocks.*"]} | options
    return DFA(mlp(WIDTHS, seed=1).double(), **options)


def batch(rows: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(rows, 7, generator=generator, dtype=torch.float64)
    return x, torch.randint(4, (rows,), generator=generator)


def gradients(wrapped: DFA, x: Tensor, y: Tensor, scale: float = 1.0) -> dict[str, Tensor]:
    wrapped.zero_grad()
    (scale * functional.cross_entropy(wrapped(x), y)).backward()
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in wrapped.module.named_parameters()
    }


def by_hand(wrapped: DFA, x: Tensor, y: Tensor, feedback: Tensor) -> dict[str, Tensor]:
    """dW_i = [(B_i e) * (1 - h_i^2)]^T h_{i-1}; the top layer exact."""
    net = dict(wrapped.module.named_parameters())
    h1 = torch.tanh(x @ net["blocks.0.0.weight"].T + net["blocks.0.0.bias"])
    h2 = torch.tanh(h1 @ net["blocks.1.0.weight"].T + net["blocks.1.0.bias"])
    e = error(wrapped, x, y)
    d1 = feedback[:, :6] * (1 - h1**2)
    d2 = feedback[:, -5:] * (1 - h2**2)
    return {
        "blocks.0.0.weight": d1.T @ x,
        "blocks.0.0.bias": d1.sum(0),
        "blocks.1.0.weight": d2.T @ h1,
        "blocks.1.0.bias": d2.sum(0),
        "head.weight": e.T @ h2,
        "head.bias": e.sum(0),
    }


def error(wrapped: DFA, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return (wrapped.module(x).softmax(1) - functional.one_hot(y, 4)) / len(y)


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-12, atol=1e-12, msg=name)


def test_gradients_are_those_by_hand() -> None:
    wrapped, (x, y) = model(), batch()
    B = projector().project(torch.eye(4, dtype=torch.float64)).T
    assert_same(gradients(wrapped, x, y), by_hand(wrapped, x, y, error(wrapped, x, y) @ B.T))


@pytest.mark.parametrize("scaled", [1.0, 1024.0])
def test_the_published_threshold_means_per_sample_errors(scaled: float) -> None:
    """Whatever the reduction divides by and a gradient scaler multiplies."""
    wrapped = model(encoder=Ternary(0.25, restore=False), loss_scale=lambda: scaled)
    x, y = batch()
    per_sample = error(wrapped, x, y) * len(y)
    codes = per_sample.sign() * (per_sample.abs() >= 0.25)
    B = projector().project(torch.eye(4, dtype=torch.float64)).T
    expected = by_hand(wrapped, x, y, codes @ B.T / len(y))
    found = gradients(wrapped, x, y, scaled)
    assert_same({name: gradient / scaled for name, gradient in found.items()}, expected)
    assert 0 < int((codes != 0).sum()) < codes.numel()


def test_sums_need_no_unit() -> None:
    x, y = batch()
    summed = model(encoder=Ternary(0.25), reduction="sum")
    summed.zero_grad()
    functional.cross_entropy(summed(x), y, reduction="sum").backward()
    mean = gradients(model(encoder=Ternary(0.25)), x, y)
    for name, parameter in summed.module.named_parameters():
        torch.testing.assert_close(parameter.grad, mean[name] * len(y), rtol=1e-12, atol=1e-12)


def test_a_gradient_scaler_changes_nothing() -> None:
    x, y = batch()
    plain = gradients(model(encoder=Ternary(0.25)), x, y)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    wrapped = model(encoder=Ternary(0.25), loss_scale=scaler.get_scale)
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.1)
    scaler.scale(functional.cross_entropy(wrapped(x), y)).backward()
    scaler.unscale_(optimizer)
    for name, parameter in wrapped.module.named_parameters():
        torch.testing.assert_close(parameter.grad, plain[name], rtol=1e-12, atol=1e-12)


def test_an_overflow_is_seen_by_the_gradient_scaler() -> None:
    wrapped, (x, y) = model(encoder=Ternary(0.3, relative=True)), batch()
    (functional.cross_entropy(wrapped(x), y) * torch.inf).backward()
    for parameter in wrapped.parameters():
        assert parameter.grad is not None
        assert not parameter.grad.isfinite().all()


def test_shared_prefix_feeds_all_taps_from_the_first_outputs() -> None:
    wrapped, (x, y) = model(projector=projector(6), layout="shared_prefix"), batch()
    feedback = projector(6).project(error(wrapped, x, y))
    assert_same(
        gradients(wrapped, x, y),
        by_hand(wrapped, x, y, torch.cat([feedback, feedback[:, :5]], 1)),
    )


def test_feedback_by_the_true_weights_is_backpropagation() -> None:
    """One linear tap below the head: with B the head's own weights, both are equal."""
    net = nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 4)).double()
    x, y = batch()
    wrapped = DFA(net, MatrixProjector(net[1].weight.detach().T), taps=["0"])
    feedback = gradients(wrapped, x, y)
    wrapped.mode = "bp"
    assert_same(feedback, gradients(wrapped, x, y))


def test_bp_is_the_bare_module() -> None:
    wrapped, (x, y) = model(), batch()
    wrapped.mode = "bp"
    bare = mlp(WIDTHS, seed=1).double()
    functional.cross_entropy(bare(x), y).backward()
    expected = {name: p.grad for name, p in bare.named_parameters() if p.grad is not None}
    assert_same(gradients(wrapped, x, y), expected)
    assert isinstance(wrapped.projector, CountingProjector)
    assert wrapped.projector.calls == 0


def test_shallow_reaches_the_head_only() -> None:
    wrapped, (x, y) = model(), batch()
    wrapped.mode = "shallow"
    functional.cross_entropy(wrapped(x), y).backward()
    reached = {name for name, p in wrapped.module.named_parameters() if p.grad is not None}
    assert reached == {"head.weight", "head.bias"}


def test_output_is_that_of_the_module_in_every_mode() -> None:
    wrapped, (x, _) = model(), batch()
    for mode in ("dfa", "bp", "shallow"):
        wrapped.mode = mode  # type: ignore[assignment]
        assert torch.equal(wrapped(x), wrapped.module(x))


def test_one_projector_call_a_backward_and_none_without_gradients() -> None:
    projected = projector()
    wrapped, (x, y) = model(projector=projected), batch()
    with torch.no_grad():
        wrapped(x)
    loss = functional.cross_entropy(wrapped(x), y)
    assert projected.calls == 0
    loss.backward()
    assert projected.calls == 1


def test_frozen_blocks_cost_no_projection() -> None:
    projected = projector()
    wrapped, (x, y) = model(projector=projected), batch()
    for parameter in wrapped.module.get_submodule("blocks").parameters():
        parameter.requires_grad_(False)
    functional.cross_entropy(wrapped(x), y).backward()
    assert projected.calls == 0


def test_two_live_forwards_and_accumulation() -> None:
    wrapped, (x, y) = model(), batch()
    both = gradients(wrapped, x, y)
    wrapped.zero_grad()
    first = functional.cross_entropy(wrapped(x[:4]), y[:4])
    second = functional.cross_entropy(wrapped(x[4:]), y[4:])
    second.backward()
    first.backward()
    for name, parameter in wrapped.module.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad / 2, both[name], rtol=1e-12, atol=1e-12)


def test_several_rows_per_sample() -> None:
    wrapped, (x, y) = model(), batch()
    flat = gradients(wrapped, x, y)
    wrapped.zero_grad()
    logits = wrapped(x.view(2, 4, 7))
    functional.cross_entropy(logits.flatten(0, 1), y).backward()
    assert_same(
        {name: p.grad for name, p in wrapped.module.named_parameters() if p.grad is not None}, flat
    )


def test_error_taken_below_the_output() -> None:
    """What lies above `error_at` learns by backpropagation."""
    net = nn.Sequential(
        nn.Sequential(nn.Linear(7, 6), nn.Tanh()), nn.Linear(6, 5), nn.Linear(5, 4)
    ).double()
    x, y = batch()
    projected = projector(6, 5)
    wrapped = DFA(net, projected, taps=["0"], error_at="1")
    found = gradients(wrapped, x, y)
    wrapped.mode = "bp"
    true = gradients(wrapped, x, y)
    for name in ("1.weight", "1.bias", "2.weight", "2.bias"):
        torch.testing.assert_close(found[name], true[name], rtol=1e-12, atol=1e-12)
    e = error(wrapped, x, y) @ net[2].weight.detach()
    h = torch.tanh(net[0][0](x)).detach()
    expected = (projected.project(e) * (1 - h**2)).T @ x
    torch.testing.assert_close(found["0.0.weight"], expected, rtol=1e-12, atol=1e-12)


def test_half_precision_errors_are_projected() -> None:
    wrapped = DFA(mlp(WIDTHS, seed=1), DenseProjector(4, 11, seed=0), taps=["blocks.*"])
    x, y = batch()
    with torch.autocast("cpu", torch.bfloat16):
        loss = functional.cross_entropy(wrapped(x.float()), y)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in wrapped.parameters())


class ResidualLeak(nn.Module):
    """The tap sits inside the branch: the sum leads backpropagation around it."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(7, 5)
        self.branch = nn.Linear(5, 5)
        self.head = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        stream = self.embed(x)
        logits: Tensor = self.head(stream + self.branch(stream))
        return logits


def test_audit_passes_blocks_and_finds_leaks() -> None:
    x, _ = batch()
    model().audit(x)
    leaky = DFA(ResidualLeak().double(), projector(5), taps=["branch"])
    with pytest.raises(LeakError, match="embed.weight, embed.bias"):
        leaky.audit(x)


class BeginsAtZero(ResidualLeak):
    """A way around its tap on which nothing passes at first."""

    def __init__(self) -> None:
        super().__init__()
        self.skip = nn.Linear(5, 5)
        nn.init.zeros_(self.skip.weight)

    def forward(self, x: Tensor) -> Tensor:
        stream = self.embed(x)
        logits: Tensor = self.head(self.branch(stream) + self.skip(stream))
        return logits


def test_audit_finds_leaks_on_which_nothing_passes_at_first() -> None:
    leaky = DFA(BeginsAtZero().double(), projector(5), taps=["branch"])
    with pytest.raises(LeakError, match="embed.weight, embed.bias"):
        leaky.audit(batch()[0])


@pytest.mark.parametrize("layer", [nn.LazyLinear(6), nn.LazyBatchNorm1d()])
def test_what_has_no_size_yet_has_to_run_first(layer: nn.Module) -> None:
    wrapped = DFA(nn.Sequential(layer, nn.Linear(6, 4)), DenseProjector(4, 6, 0), taps=["0"])
    x = torch.randn(8, 6)
    for look in (wrapped.build, wrapped.audit):
        with pytest.raises(TapError, match="0.weight' has no size yet"):
            look(x)
    wrapped(x)
    wrapped.audit(x)


class Classes(nn.Module):
    """Ends in a function of its last layer, as many examples do."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(7, 4)
        self.fc2 = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(x).tanh()).log_softmax(1)


@pytest.mark.parametrize("replay", [False, True])
def test_an_output_layer_is_found_behind_a_function(replay: bool) -> None:
    x, y = batch()
    wrapped = DFA(Classes().double(), projector(8), taps=["fc*"], replay=replay)
    with pytest.raises(TapError, match="'fc2' makes the output"):
        functional.nll_loss(wrapped(x), y).backward()
    with pytest.raises(TapError, match="'fc2' makes the output"):
        wrapped.audit(x)


def test_a_frozen_output_layer_is_no_function() -> None:
    x, y = batch()
    net = Classes().double()
    net.fc2.requires_grad_(False)
    wrapped = DFA(net, projector(4), taps=["fc1"])
    wrapped.audit(x)
    functional.nll_loss(wrapped(x), y).backward()
    assert net.fc1.weight.grad is not None


def test_backward_hooks_that_would_see_nothing_are_refused() -> None:
    wrapped = model()
    block = wrapped.module.get_submodule("blocks.1")
    hook = block.register_full_backward_pre_hook(lambda *_: None)
    with pytest.raises(TapError, match=r"'blocks.1' has backward hooks"):
        wrapped(batch()[0])
    hook.remove()
    seen: list[Any] = []
    block[1].register_full_backward_hook(lambda *each: seen.append(each))  # type: ignore[index]
    wrapped(batch()[0]).sum().backward()
    assert len(seen) == 1


def test_looking_leaves_no_trace() -> None:
    net = nn.Sequential(
        nn.Sequential(nn.Linear(7, 6), nn.BatchNorm1d(6), nn.Dropout(0.5)), nn.Linear(6, 4)
    ).double()
    projected = projector(6)
    wrapped, (x, _) = DFA(net, projected, taps=["0"]), batch()
    before = copy.deepcopy(wrapped.state_dict())
    random = torch.get_rng_state()
    points = wrapped.build(x)
    wrapped.audit(x)
    assert [(point.name, point.columns) for point in points] == [("0", slice(0, 6))]
    assert torch.equal(random, torch.get_rng_state())
    assert projected.calls == 0
    for name, value in wrapped.state_dict().items():
        assert name == "_extra_state" or torch.equal(value, before[name])
    assert all(parameter.grad is None for parameter in wrapped.parameters())


def test_build_tells_which_outputs_feed_which_tap() -> None:
    points = model().build(batch()[0])
    assert [(p.name, p.columns) for p in points] == [
        ("blocks.0", slice(0, 6)),
        ("blocks.1", slice(6, 11)),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"projector": projector(10)}, "take 11 outputs .* has 10"),
        ({"projector": projector(5), "layout": "shared_prefix"}, "take 6 outputs"),
        ({"projector": projector(11, 3)}, "4 components, the projector takes 3"),
        ({"error_at": "blocks.0"}, "did not run .* before the error .* blocks.1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_early(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TapError, match=message):
        model(**options).build(batch()[0])


def test_rows_that_do_not_fit_are_refused() -> None:
    net = nn.Sequential(nn.Conv1d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(14, 4)).double()
    wrapped = DFA(net, projector(), taps=["0"])
    with pytest.raises(TapError, match=r"'0' convolves, and puts out \(8, 2, 7\)"):
        wrapped(batch()[0].unsqueeze(1))
    wrapped = DFA(wrapped.unwrap(), projector(), taps=[Tap("0", features="last")])
    with pytest.raises(TapError, match=r"'0' puts out \(8, 2, 7\), rows \(8, 2\)"):
        wrapped(batch()[0].unsqueeze(1))


def test_a_tap_that_does_not_run_is_refused() -> None:
    net = mlp(WIDTHS, seed=0).double()
    net.add_module("spare", nn.Linear(2, 2))
    wrapped = DFA(net, projector(), taps=["blocks.*", "spare"])
    with pytest.raises(TapError, match="did not run in this forward pass: spare"):
        wrapped(batch()[0])


def test_outputs_that_are_no_tensor_are_refused() -> None:
    net = nn.Sequential(nn.LSTM(7, 5, batch_first=True))
    with pytest.raises(TapError, match="returns a tuple"):
        DFA(net, projector(), taps=["0"])(torch.zeros(2, 3, 7))
    with pytest.raises(TapError, match="shape \\(4,\\)"):
        DFA(nn.Sequential(nn.Linear(7, 4)), projector(), taps=["0"])(torch.zeros(7))


@pytest.mark.parametrize("taps", [[], ["block.*"], ["blocks.*", "nothing"], "blocks.*"])
def test_globs_that_match_nothing_are_refused(taps: Any) -> None:
    with pytest.raises(TapError, match="[Tt]ap"):
        model(taps=taps)


def test_a_glob_matches_one_level() -> None:
    assert model(taps=["blocks.*"]).tap_names == ("blocks.0", "blocks.1")
    assert model(taps=["*.1"]).tap_names == ("blocks.1",)


@pytest.mark.parametrize("options", [{"layout": "rows"}, {"reduction": "max"}])
def test_unknown_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="choose"):
        model(**options)
    with pytest.raises(TapError, match="no submodule"):
        model(error_at="nowhere")
    with pytest.raises(SettingsError, match="choose one of dfa, bp, shallow"):
        model().mode = "backprop"  # type: ignore[assignment]


@pytest.mark.parametrize("encoder", [None, Ternary(0.3, relative=True)])
def test_a_checkpoint_knows_its_feedback(encoder: Encoder | None) -> None:
    saved = model(encoder=encoder).state_dict()
    model().load_state_dict(saved)
    other = DFA(mlp(WIDTHS, seed=2).double(), DenseProjector(4, 11, seed=9), taps=["blocks.*"])
    with pytest.raises(FingerprintError, match="other feedback: projector 'matrix-"):
        other.load_state_dict(saved)
    with pytest.raises(FingerprintError, match=r"taps \['blocks.0', 'blocks.1'\] instead of"):
        model(taps=["blocks.0"]).load_state_dict(saved)
    other.other_feedback = True
    nn.Sequential(other).load_state_dict({f"0.{key}": value for key, value in saved.items()})
    torch.testing.assert_close(other.module.get_parameter("head.bias"), saved["module.head.bias"])


def test_a_loss_made_inside_is_found_to_pass_by() -> None:
    class OwnLoss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(7, 6), nn.Linear(6, 4)

        def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
            logits = self.head(self.body(x).tanh())
            return {"loss": functional.cross_entropy(logits, y), "logits": logits}

    def wrapped(error_at: Any) -> DFA:
        return DFA(OwnLoss().double(), projector(6), ["body"], error_at=error_at)

    x, y = batch()
    with pytest.raises(LeakError, match="1 of the tensors that this OwnLoss returns"):
        wrapped(Tap("", output="logits")).audit(x, y)
    inside = wrapped("head")
    inside.audit(x, y)
    inside(x, y)["loss"].backward()
    assert inside.module.get_parameter("body.weight").grad is not None


def test_a_sparse_embedding_is_audited() -> None:
    net = nn.Sequential(nn.Embedding(7, 6, sparse=True), nn.Linear(6, 4)).double()
    DFA(net, projector(6), ["0"]).audit(torch.tensor([1, 2, 3]))
    leaky = nn.Sequential(nn.Embedding(7, 6, sparse=True), ResidualLeak().double()).double()
    leaky[1].get_submodule("embed").requires_grad_(False)
    leaky[1].embed = nn.Linear(6, 5).double()
    with pytest.raises(LeakError, match=r"0\.weight"):
        DFA(leaky, projector(5), ["1.branch"]).audit(torch.tensor([1, 2, 3]))


def test_what_a_model_returns_may_be_overwritten() -> None:
    """As in `logits /= temperature`."""
    x, y = batch()
    plain, wrapped = model(), model()
    functional.cross_entropy(plain(x) / 2, y).backward()
    logits = wrapped(x)
    logits /= 2
    functional.cross_entropy(logits, y).backward()
    for one, other in zip(plain.parameters(), wrapped.parameters(), strict=True):
        assert one.grad is not None
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-12, atol=1e-12)


def test_feedback_is_scaled_and_nothing_else() -> None:
    x, y = batch()
    plain = gradients(model(), x, y)
    for name, gradient in gradients(model(feedback_scale=0.25), x, y).items():
        part = 1.0 if ".head." in name or name.startswith("head") else 0.25
        torch.testing.assert_close(gradient, part * plain[name], rtol=1e-12, atol=1e-12)
    with pytest.raises(FingerprintError, match=r"feedback_scale 0\.25 instead of None"):
        model().load_state_dict(model(feedback_scale=0.25).state_dict())


def test_an_empty_batch_teaches_nothing() -> None:
    wrapped = model()
    wrapped(torch.zeros(0, 7, dtype=torch.float64)).sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in wrapped.parameters())


def test_a_module_that_was_refused_can_be_wrapped() -> None:
    net = mlp(WIDTHS, seed=1)
    for options, message in (
        ({"error_at": "nowhere"}, "nowhere"),
        ({"tied": ["nothing"]}, "nothing"),
        ({"error_at": ["head"]}, "taken at one output"),
        ({"feedback_scale": 0.0}, "feedback_scale"),
    ):
        with pytest.raises((TapError, SettingsError), match=message):
            DFA(net, projector(), ["blocks.*"], **options)
    with pytest.raises(SettingsError, match=r"A Tensor is no projector: .* MatrixProjector"):
        DFA(net, torch.zeros(3, 4), ["blocks.*"])  # type: ignore[arg-type]
    DFA(net, projector(), ["blocks.*"])


def test_an_unwrapped_module_is_itself_again() -> None:
    x, y = batch()
    wrapped = model()
    true = gradients(model(), x, y)  # so that only the wrapper makes the difference
    net = wrapped.unwrap()
    functional.cross_entropy(net(x), y).backward()
    bare = mlp(WIDTHS, seed=1).double()
    functional.cross_entropy(bare(x), y).backward()
    for (name, one), other in zip(net.named_parameters(), bare.parameters(), strict=True):
        assert one.grad is not None
        assert torch.equal(one.grad, other.grad) if other.grad is not None else False, name
    with pytest.raises(TapError, match=r"unwrap\(\) took the taps off"):
        wrapped(x)
    again = DFA(net, projector(), ["blocks.*"])
    assert all(torch.equal(found, true[name]) for name, found in gradients(again, x, y).items())


def test_a_wrapped_module_by_itself_is_ordinary() -> None:
    """Its taps belong to the wrapper: whoever calls it bare gets backpropagation."""
    x, y = batch()
    net = model().module
    functional.cross_entropy(net(x), y).backward()
    bare = mlp(WIDTHS, seed=1).double()
    functional.cross_entropy(bare(x), y).backward()
    for one, other in zip(net.parameters(), bare.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad, other.grad)


class BenchProjector(CountingProjector):
    """There is one of it, as there is one bench."""

    def __deepcopy__(self, memo: Any) -> BenchProjector:
        raise TypeError("cannot copy a bench")


def test_copies_learn_apart_through_one_projector() -> None:
    x, y = batch()
    wrapped = model(projector=BenchProjector(projector()._matrix))
    expected = gradients(wrapped, x, y)
    averaged = torch.optim.swa_utils.AveragedModel(wrapped)
    other = copy.deepcopy(wrapped)
    assert other.projector is wrapped.projector is averaged.module.projector
    wrapped.zero_grad()
    assert all(torch.equal(g, expected[n]) for n, g in gradients(other, x, y).items())
    assert all(parameter.grad is None for parameter in wrapped.parameters())
    assert wrapped.projector.calls == 2  # type: ignore[attr-defined]
    alone = copy.deepcopy(wrapped.module)
    assert isinstance(alone, nn.Module)


def test_a_model_tells_its_taps() -> None:
    assert "taps: blocks.0, blocks.1; concat; CountingProjector 4 -> 11" in repr(model())
