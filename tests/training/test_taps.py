"""Every tap against what autograd says of one block, with the feedback put in by hand."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.dfa import DFA
from training.errors import FingerprintError, LeakError, SettingsError, TapError
from training.models.mlp import mlp
from training.projector import MatrixProjector
from training.taps import Layout, Tap

N_CLASSES = 4


def projector(n_outputs: int, n_inputs: int = N_CLASSES) -> MatrixProjector:
    generator = torch.Generator().manual_seed(5)
    return MatrixProjector(
        torch.randn(n_outputs, n_inputs, generator=generator, dtype=torch.float64)
    )


def seeded(module: nn.Module, seed: int = 1) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.double().parameters():
        parameter.data.normal_(0, 0.5, generator=generator)
    return module


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def labels(*shape: int) -> Tensor:
    return torch.randint(N_CLASSES, shape, generator=torch.Generator().manual_seed(4))


def loss_of(logits: Tensor) -> Tensor:
    """Cross-entropy; classes last."""
    return functional.cross_entropy(logits.flatten(0, -2), labels(*logits.shape[:-1]).flatten())


def error_of(logits: Tensor) -> Tensor:
    """Its gradient by hand, as rows."""
    rows = logits.detach().flatten(0, -2)
    return (rows.softmax(1) - functional.one_hot(labels(*logits.shape[:-1]).flatten(), 4)) / len(
        rows
    )


def assert_gradients(block: nn.Module, expected: Sequence[Tensor]) -> None:
    parameters = list(block.parameters())
    assert len(parameters) == len(expected) > 0
    for parameter, gradient in zip(parameters, expected, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-12, atol=1e-12)


def by_block(block: nn.Module, output: Tensor, feedback: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(output, list(block.parameters()), feedback)


class Recurrent(nn.Module):
    """Its layer returns a tuple; every time step is a row."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(7, 5, batch_first=True)
        self.head = nn.Linear(5, N_CLASSES)

    def forward(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        states, (last, _) = self.layer(x)
        return {"logits": self.head(states)}, last


class Named(nn.Module):
    """Returns by key what another returns by index."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = Recurrent()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        outputs, last = self.recurrent(x)
        return {"last": last, **outputs}


def test_one_of_several_outputs_is_tapped_and_the_others_get_nothing() -> None:
    net = seeded(Named())
    taps = [Tap("recurrent.layer", output=0)]
    wrapped = DFA(net, projector(5), taps, error_at=Tap("", output="logits"))
    x = normal(3, 6, 7)
    outputs = wrapped(x)
    assert not outputs["last"].requires_grad
    loss_of(outputs["logits"]).backward()
    wrapped.audit(x)
    layer = net.get_submodule("recurrent.layer")
    wrapped.mode = "bp"
    feedback = projector(5).project(error_of(wrapped(x)["logits"])).reshape(3, 6, 5)
    assert_gradients(layer, by_block(layer, layer(x)[0], feedback))


class Images(nn.Module):
    """Two convolutions, and a class of the image or of each pixel."""

    def __init__(self, per_pixel: bool, kernel: int = 3) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(7, 6, kernel, padding=kernel // 2), nn.Tanh())
        self.second = nn.Sequential(nn.Conv2d(6, 5, kernel, padding=kernel // 2), nn.Tanh())
        self.head = nn.Conv2d(5, N_CLASSES, 1) if per_pixel else nn.Linear(5, N_CLASSES)
        self.per_pixel = per_pixel

    def forward(self, x: Tensor) -> Tensor:
        features = self.second(self.first(x))
        logits: Tensor = self.head(features if self.per_pixel else features.mean((2, 3)))
        return logits


def test_a_row_a_pixel_is_a_perceptron_on_pixels() -> None:
    """Convolutions of one pixel: the same network, the rows of the images listed."""
    images = seeded(Images(per_pixel=True, kernel=1))
    listed = mlp((7, 6, 5, N_CLASSES), seed=0).double()
    for own, other in zip(listed.parameters(), images.parameters(), strict=True):
        own.data = other.data.reshape(own.shape)
    x = normal(2, 7, 3, 4)
    taps = [Tap("first", features="channels"), Tap("second", features="channels")]
    wrapped = DFA(images, projector(11), taps, error_at=Tap("", features="channels"))
    loss_of(wrapped(x).movedim(1, -1)).backward()
    loss_of(DFA(listed, projector(11), ["blocks.*"])(x.movedim(1, -1).reshape(24, 7))).backward()
    assert_gradients(
        images,
        [
            p.grad.reshape(own.shape)
            for p, own in zip(listed.parameters(), images.parameters(), strict=True)
            if p.grad is not None
        ],
    )


@pytest.mark.parametrize("layout", ["concat", "shared_prefix"])
def test_pixels_with_feedback_of_their_own_or_that_of_their_image(layout: Layout) -> None:
    net = seeded(Images(per_pixel=False))
    own, same = Tap("first", features="all"), Tap("second", features="channels", broadcast=True)
    wrapped = DFA(net, projector(6 * 12 + 5), [own, same], layout=layout)
    x = normal(2, 7, 3, 4)
    loss_of(wrapped(x)).backward()
    projection = projector(6 * 12 + 5).project(error_of(wrapped(x)))
    wrapped.audit(x)
    wrapped.mode = "bp"
    first, second = net.get_submodule("first"), net.get_submodule("second")
    expected = by_block(first, first(x), projection[:, : 6 * 12].reshape(2, 6, 3, 4))
    assert_gradients(first, expected)
    h = first(x).detach()
    part = projection[:, -5:] if layout == "concat" else projection[:, :5]
    everywhere = part[:, :, None, None].expand(2, 5, 3, 4)
    assert_gradients(second, by_block(second, second(h), everywhere))


class Tokens(nn.Module):
    """Tokens below, one class of the whole above."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Linear(7, 5), nn.Tanh())
        self.head = nn.Linear(5, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.block(x).mean(1))
        return logits


def test_tokens_below_one_class_of_the_whole() -> None:
    net = seeded(Tokens())
    x = normal(3, 6, 7)
    with pytest.raises(TapError, match=r"rows \(3, 6\).* has rows \(3,\).*broadcast=True"):
        DFA(copy.deepcopy(net), projector(5), ["block"])(x)
    wrapped = DFA(net, projector(5), [Tap("block", broadcast=True)])
    loss_of(wrapped(x)).backward()
    feedback = projector(5).project(error_of(wrapped(x)))[:, None].expand(3, 6, 5)
    wrapped.mode = "bp"
    block = wrapped.module.get_submodule("block")
    assert_gradients(block, by_block(block, block(x), feedback))


class Twice(nn.Module):
    """One block that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Linear(5, 5), nn.Tanh())
        self.head = nn.Linear(5, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.block(self.block(x)))
        return logits


@pytest.mark.parametrize("layout", ["concat", "shared_prefix"])
def test_every_call_of_a_shared_module_has_feedback_of_its_own(layout: Layout) -> None:
    net = seeded(Twice())
    wrapped = DFA(net, projector(10), ["block"], layout=layout)
    x = normal(6, 5)
    second = slice(5, 10) if layout == "concat" else slice(0, 5)
    points = [(point.name, point.columns) for point in wrapped.build(x)]
    assert points == [("block", slice(0, 5)), ("block#2", second)]
    loss_of(wrapped(x)).backward()
    projection = projector(10).project(error_of(wrapped(x)))
    wrapped.mode = "bp"
    block = net.get_submodule("block")
    h = block(x).detach()
    calls = zip(
        by_block(block, block(x), projection[:, :5]),
        by_block(block, block(h), projection[:, second]),
        strict=True,
    )
    assert_gradients(block, [a + b for a, b in calls])
    wrapped.audit(x)


class TiedLanguageModel(nn.Module):
    """The embedding is the vocabulary layer, too."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(N_CLASSES, 5)
        self.block = nn.Sequential(nn.Linear(5, 5), nn.Tanh())
        self.head = nn.Linear(5, N_CLASSES, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.block(self.embedding(tokens)))
        return logits


def test_tied_weights_learn_from_both_their_uses() -> None:
    net = seeded(TiedLanguageModel())
    tokens = labels(3, 6)
    taps = ["embedding", "block"]
    with pytest.raises(LeakError, match=r"embedding\.weight around .* name it in tied"):
        DFA(copy.deepcopy(net), projector(10), taps).audit(tokens)
    wrapped = DFA(net, projector(10), taps, tied=["embedding.weight"])
    wrapped.audit(tokens)
    logits = wrapped(tokens)
    loss_of(logits).backward()
    e = error_of(logits)
    feedback = projector(10).project(e)[:, :5]
    h = net.get_submodule("block")(net.get_submodule("embedding")(tokens)).detach()
    below = torch.zeros(N_CLASSES, 5, dtype=torch.float64).index_add_(0, tokens.flatten(), feedback)
    assert_gradients(net.get_submodule("embedding"), [below + e.T @ h.flatten(0, 1)])
    with pytest.raises(TapError, match="TiedLanguageModel has feedback already"):
        DFA(net, projector(10), taps)
    with pytest.raises(TapError, match="tied='head' is no parameter"):
        DFA(net, projector(10), taps, tied=["head"])


def tanh_slope(a: Tensor) -> Tensor:
    return 1 - torch.tanh(a) ** 2


def test_the_gate_of_the_activation_is_direct_feedback_alignment() -> None:
    """Tapped before the activation and gated by its derivative, or tapped after it: the same."""
    x = normal(6, 7)
    after = DFA(mlp((7, 6, 5, 4), seed=1).double(), projector(11), ["blocks.*"])
    gated = Tap("blocks.*.0", gate=tanh_slope)
    before = DFA(mlp((7, 6, 5, 4), seed=1).double(), projector(11), [gated])
    for wrapped in (after, before):
        loss_of(wrapped(x)).backward()
        wrapped.audit(x)
    expected = [p.grad for p in after.parameters() if p.grad is not None]
    assert_gradients(before, expected)


def test_any_other_gate_augments() -> None:
    x = normal(6, 7)
    wrapped = DFA(
        mlp((7, 6, 5, 4), seed=1).double(),
        projector(11),
        [Tap("blocks.0.0", gate=torch.cos), "blocks.*.0"],
    )
    loss_of(wrapped(x)).backward()
    first = wrapped.module.get_submodule("blocks.0.0")
    projection = projector(11).project(error_of(wrapped(x)))
    feedback = projection[:, :6] * torch.cos(first(x).detach())
    assert_gradients(first, [feedback.T @ x, feedback.sum(0)])
    second = wrapped.module.get_submodule("blocks.1.0")
    h = torch.tanh(first(x).detach())
    assert_gradients(second, [projection[:, 6:].T @ h, projection[:, 6:].sum(0)])


def test_a_copy_learns_by_itself() -> None:
    wrapped = DFA(mlp((7, 6, 5, 4), seed=1).double(), projector(11), ["blocks.*"])
    copied = copy.deepcopy(wrapped)
    x = normal(6, 7)
    loss_of(wrapped(x)).backward()
    assert all(parameter.grad is None for parameter in copied.parameters())
    loss_of(copied(x)).backward()
    assert_gradients(copied, [p.grad for p in wrapped.parameters() if p.grad is not None])


def test_options_of_taps_are_part_of_the_feedback() -> None:
    def model(**options: Any) -> DFA:
        return DFA(seeded(Tokens()), projector(30), [Tap("block", **options)])

    saved = model(features="all").state_dict()
    model(features="all").load_state_dict(saved)
    with pytest.raises(FingerprintError, match=r"block \(features all\).*block \(broadcast\)"):
        model(broadcast=True).load_state_dict(saved)
    with pytest.raises(FingerprintError, match="error_at 'head' instead of None"):
        other = DFA(seeded(Tokens()), projector(30), [Tap("block", features="all")])
        other.load_state_dict(
            DFA(
                seeded(Tokens()), projector(30), [Tap("block", features="all")], error_at="head"
            ).state_dict()
        )


class Opaque(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return {"h": {1, 2}, "x": x}


@pytest.mark.parametrize(
    ("taps", "message"),
    [
        ([Tap("layer", output=2)], "returns a tuple without 2"),
        ([Tap("layer", output="h")], "returns a tuple without 'h'"),
        ([Tap("layer", output=1)], "returns a tuple, one tensor is needed"),
        (["layer"], r"one tensor is needed: choose it with Tap\('layer', output=...\)"),
    ],
)
def test_outputs_that_are_not_there_are_refused(taps: Any, message: str) -> None:
    with pytest.raises(TapError, match=message):
        DFA(seeded(Recurrent()), projector(5), taps)(normal(2, 3, 7))


def test_what_might_hide_a_gradient_is_refused() -> None:
    net = nn.Sequential(Opaque())
    with pytest.raises(TapError, match="returns a set, through which gradients might pass"):
        DFA(net, projector(4), [Tap("0", output="x")])(normal(2, 4))


def test_the_error_is_taken_once_and_above_all_taps() -> None:
    x = normal(2, 5)
    net = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 5)).double()
    net.append(net[2])
    with pytest.raises(TapError, match="error_at='2' ran twice"):
        DFA(copy.deepcopy(net), projector(9, 5), ["0"], error_at="2")(x)
    around = nn.Sequential(net[0], net[1], net[0])
    with pytest.raises(TapError, match="'0' ran after the error was taken at '1'"):
        DFA(around, projector(10, 5), ["0"], error_at="1")(x)


@pytest.mark.parametrize("error_at", ["", "1"])
def test_the_output_layer_is_not_tapped(error_at: str) -> None:
    """It would learn from the projection, where the error itself is at hand."""
    net = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5)).double()
    wrapped = DFA(net, projector(10, 5), ["*"], error_at=error_at)
    with pytest.raises(TapError, match="'1' makes the output at which the error is taken"):
        wrapped(normal(2, 5))


@pytest.mark.parametrize("layer", [nn.GRU(5, 4), nn.TransformerEncoderLayer(5, 1)])
def test_samples_come_first_where_they_are_spread(layer: nn.Module) -> None:
    net = nn.Sequential(layer, nn.Linear(5, 5))
    with pytest.raises(TapError, match="'0' has batch_first=False"):
        DFA(net, projector(4, 5), [Tap("0", output=0, broadcast=True)])


def test_a_recurrent_layer_gets_the_feedback_of_its_sample_at_every_step() -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(5, 4, batch_first=True)
            self.head = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            steps, _ = self.rnn(x)
            logits: Tensor = self.head(steps.mean(1))
            return logits

    net = seeded(Reader())
    feedback = projector(4, 3)
    wrapped = DFA(net, feedback, [Tap("rnn", output=0, broadcast=True)])
    x, e = normal(3, 3, 5), normal(3, 3)  # as many steps as samples
    wrapped(x).backward(e)
    steps, _ = net.get_submodule("rnn")(x)
    each = feedback.project(e).unsqueeze(1).expand_as(steps)
    own = list(net.get_submodule("rnn").parameters())
    for parameter, gradient in zip(own, torch.autograd.grad(steps, own, each), strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-12, atol=1e-12)


def test_a_gate_sees_what_was_tapped_whatever_becomes_of_it() -> None:
    """What follows may overwrite the output in place, and so may the gate."""

    def gradient(inplace: bool) -> Tensor:
        net = seeded(nn.Sequential(nn.Linear(5, 4), nn.ReLU(inplace=inplace), nn.Linear(4, 3)))
        DFA(net, projector(4, 3), [Tap("0", gate=lambda a: a.sin_() if inplace else a.sin())])(
            normal(2, 5)
        ).backward(normal(2, 3))
        found = net.get_submodule("0").weight.grad
        assert isinstance(found, Tensor)
        return found

    assert torch.equal(gradient(inplace=True), gradient(inplace=False))


class Answer(OrderedDict[str, Tensor]):
    """A dictionary whose items are attributes too, as some libraries return."""

    def __setitem__(self, key: str, value: Tensor) -> None:
        super().__setitem__(key, value)
        setattr(self, key, value)


def test_dictionaries_stay_of_their_kind() -> None:
    class Answering(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Module()
            self.body.linear = nn.Linear(5, 4)
            self.body.forward = lambda x: Answer(h=self.body.linear(x))
            self.head = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Answer:
            return Answer(logits=self.head(self.body(x).h))

    wrapped = DFA(
        seeded(Answering()), projector(4, 3), [Tap("body", output="h")],
        error_at=Tap("", output="logits"),
    )  # fmt: skip
    wrapped.audit(normal(2, 5))
    answer = wrapped(normal(2, 5))
    assert isinstance(answer, Answer)
    answer.logits.sum().backward()  # type: ignore[attr-defined]
    assert wrapped.module.get_parameter("body.linear.weight").grad is not None


def test_a_dictionary_that_hides_a_tensor_is_refused() -> None:
    """Backpropagation would pass by the tap through an attribute that is no item."""

    class Hiding(dict[str, Tensor]):
        aside: Tensor

    class Body(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(5, 4)

        def forward(self, x: Tensor) -> Hiding:
            answer = Hiding(h=self.linear(x))
            answer.aside = answer["h"].tanh()
            return answer

    class Leaking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = Body(), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            answer = self.body(x)
            logits: Tensor = self.head(answer["h"] + answer.aside)
            return logits

    wrapped = DFA(seeded(Leaking()), projector(4, 3), [Tap("body", output="h")])
    with pytest.raises(TapError, match="'body' returns a Hiding, through which gradients might"):
        wrapped(normal(2, 5))


def test_one_tensor_has_no_parts() -> None:
    net = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3)).double()
    with pytest.raises(TapError, match="'0' returns one tensor, of which output=0"):
        DFA(net, projector(4, 3), [Tap("0", output=0)])(normal(2, 5))


@pytest.mark.parametrize("error_at", [Tap("head", broadcast=True), Tap("head", gate=torch.cos)])
def test_the_error_is_neither_gated_nor_spread(error_at: Tap) -> None:
    with pytest.raises(SettingsError, match="only output and features"):
        DFA(seeded(Tokens()), projector(5), ["block"], error_at=error_at)
    with pytest.raises(SettingsError, match="choose one of last, channels, all"):
        Tap("head", features="rows")  # type: ignore[arg-type]


class Denoiser(nn.Module):
    """Images to images, as wide as they have channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.Tanh())
        self.last = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.last(self.first(x))
        return result


def test_where_features_lie_in_convolved_images_has_to_be_said() -> None:
    x, matrix = normal(3, 4, 4, 4), MatrixProjector(normal(4, 4))
    pixels = Tap("", features="channels")
    with pytest.raises(TapError, match=r"'first' convolves, and puts out \(3, 4, 4, 4\)"):
        DFA(seeded(Denoiser()), matrix, ["first"], error_at=pixels).build(x)
    with pytest.raises(TapError, match=r"The module' convolves, and puts out \(3, 4, 4, 4\)"):
        DFA(seeded(Denoiser()), matrix, [Tap("first", features="channels")]).build(x)
    DFA(seeded(Denoiser()), matrix, [Tap("first", features="last")], error_at=pixels).build(
        x.movedim(1, 2)
    )


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(7, 6, dtype=torch.complex128)
        self.head = nn.Linear(6, N_CLASSES, dtype=torch.complex128)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.layer(x.to(torch.complex128)).abs().to(torch.complex128))
        return result


def test_complex_outputs_are_refused() -> None:
    with pytest.raises(TapError, match="'layer' puts out complex numbers"):
        DFA(Complex(), projector(6), ["layer"]).build(normal(3, 7))

    class Real(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.abs()

    net = Complex()
    net.layer = nn.Sequential(net.layer, Real())  # type: ignore[assignment]
    with pytest.raises(TapError, match="The module' puts out complex numbers"):
        DFA(net, projector(6), ["layer"]).build(normal(3, 7))


class Nodes(nn.Module):
    """Numbers of each node's own, as wide as the error has rows."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = nn.Parameter(normal(9, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.numbers + x


@pytest.mark.parametrize("replay", [False, True])
def test_parameters_in_the_shape_of_the_feedback_keep_gradients_of_their_own(replay: bool) -> None:
    net = nn.Sequential(Nodes(), Nodes(), nn.Linear(5, N_CLASSES)).double()
    wrapped = DFA(net, projector(5), ["0", "1"], layout="shared_prefix", replay=replay)
    own = [net[0].numbers, net[1].numbers]
    sums = []
    for _ in range(2):
        loss_of(wrapped(normal(9, 5))).backward()
        sums.append([parameter.grad.clone() for parameter in own])  # type: ignore[union-attr]
    assert len({parameter.grad.data_ptr() for parameter in own}) == 2  # type: ignore[union-attr]
    for once, twice in zip(*sums, strict=True):
        torch.testing.assert_close(twice, 2 * once)


def test_a_module_with_several_names_is_tapped_by_any_of_them() -> None:
    block = seeded(nn.Sequential(nn.Linear(7, 7), nn.Tanh()))
    net = nn.Sequential(block, block, nn.Linear(7, N_CLASSES).double())
    for taps in (["0"], ["1"], ["0", "1"]):
        wrapped = DFA(net, projector(14), taps)
        assert [point.name for point in wrapped.build(normal(3, 7))] == ["0", "0#2"]
        wrapped.unwrap()


class Translation(nn.Module):
    """What is read has other positions than what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Linear(7, 6)
        self.write = nn.Linear(7, 6)
        self.head = nn.Linear(6, N_CLASSES)

    def forward(self, given: Tensor, wanted: Tensor) -> Tensor:
        result: Tensor = self.head(self.write(wanted) + self.read(given).mean(1, keepdim=True))
        return result


def test_positions_that_differ_are_fed_the_errors_of_their_sample() -> None:
    given, wanted = normal(2, 5, 7), normal(2, 3, 7)
    for tap in ("read", Tap("read", broadcast=True)):
        with pytest.raises(TapError, match=r"error_at=Tap\(\.\.\., features='all'\)"):
            DFA(seeded(Translation()), projector(12), [tap, "write"]).build(given, wanted)
    matrix = MatrixProjector(normal(12, 3 * N_CLASSES))
    taps = [Tap("read", broadcast=True), Tap("write", broadcast=True)]
    wrapped = DFA(seeded(Translation()), matrix, taps, error_at=Tap("", features="all"))
    assert [point.columns.stop for point in wrapped.build(given, wanted)] == [6, 12]
