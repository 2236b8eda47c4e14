"""Transformers, denoisers, deep networks: their shapes, their taps, and that they learn."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from training.datasets import text as texts
from training.datasets.dataset import Dataset, Examples
from training.datasets.text import Passages, Text, passages_in_order
from training.dfa import DFA
from training.errors import DatasetError, SettingsError
from training.experiments import RECIPES, Recipe, run
from training.experiments.diffusion import DIGITS
from training.experiments.fully_connected import RECIPES as FULLY_CONNECTED
from training.experiments.text import SHAKESPEARE, TextRecipe
from training.experiments.vision import CLOTHES, VisionRecipe
from training.models.diffusion import noisy, samples, shares
from training.models.mlp import mlp
from training.models.transformer import Attention, Decoder, taps_of
from training.models.vision_transformer import VisionTransformer
from training.projector import DenseProjector

VERSE = "the light crosses the scattering medium, and the camera sees the speckle. " * 40


class Verses(TextRecipe):
    def data(self) -> Text:
        return Text.of("verses", VERSE)


class Patches(VisionRecipe):
    def data(self) -> Dataset:
        generator = torch.Generator().manual_seed(0)
        labels = torch.randint(4, (160,), generator=generator)
        images = 0.3 * torch.rand(160, 8, 8, generator=generator)
        for image, label in zip(images, labels.tolist(), strict=True):
            row, column = divmod(label, 2)
            image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 0.5
        examples = Examples(images, labels)
        return Dataset(
            "patches", 4, examples.take(torch.arange(120)), examples.take(torch.arange(120, 160))
        )


def small(recipe: Recipe, kind: type[Recipe], **changes: object) -> Recipe:
    values = {**vars(recipe), **changes}
    return kind(**values)


TEXT = small(
    SHAKESPEARE, Verses, context=16, width=16, depth=2, heads=2, batch_size=8, per_epoch=30,
    epochs=8, learning_rate=1e-2,
)  # fmt: skip
VISION = small(
    CLOTHES, Patches, side=8, patch=4, width=16, depth=2, heads=2, n_classes=4, max_shift=0,
    batch_size=16, epochs=60, learning_rate=1e-2,
)  # fmt: skip
DIFFUSION = replace(
    DIGITS,
    width=64,
    depth=2,
    times=20,
    per_epoch=100,
    epochs=2,
    learning_rate=1e-2,
)
DEEP = next(recipe for recipe in FULLY_CONNECTED if recipe.name == "deep-10")


@pytest.mark.parametrize("feedback", ["digital", "ternary", "backprop"])
@pytest.mark.parametrize("points", ["macro", "micro"])
def test_text_is_learned_better_than_by_the_last_layer_alone(feedback: str, points: str) -> None:
    recipe = small(TEXT, Verses, points=points)
    learned = run(recipe, feedback, seed=1)  # type: ignore[arg-type]
    shallow = run(recipe, "shallow", seed=1)
    assert learned.score.name == "perplexity"
    assert learned.test < shallow.test < len(set(VERSE))


@pytest.mark.parametrize("feedback", ["digital", "ternary", "backprop"])
def test_images_are_learned_by_a_transformer(feedback: str) -> None:
    assert run(VISION, feedback, seed=1).test > 60  # type: ignore[arg-type]


@pytest.mark.parametrize("feedback", ["digital", "ternary", "backprop"])
def test_noise_is_learned(feedback: str) -> None:
    rows = run(DIFFUSION, feedback, seed=1).rows  # type: ignore[arg-type]
    assert rows[-1].score["test"] < 0.75 < rows[0].score["test"]


@pytest.mark.parametrize(
    "recipe",
    [TEXT, small(TEXT, Verses, points="micro"), VISION, DIFFUSION],
)
def test_no_error_passes_by_the_taps(recipe: Recipe) -> None:
    task = recipe.prepare(0, 0)
    model = DFA(
        task.module,
        DenseProjector(recipe.n_inputs, recipe.n_feedback, seed=0),
        task.taps,
        layout=task.layout,
        error_at=task.error_at,
    )
    model.audit(*task.batches.at(0).inputs)
    shared = slice(0, recipe.n_feedback)
    assert all(point.columns == shared for point in model.build(*task.batches.at(0).inputs))


@pytest.mark.parametrize("recipe", [TEXT, VISION, DIFFUSION])
def test_batches_are_functions_of_seed_and_step(recipe: Recipe) -> None:
    first, again, other = (recipe.prepare(seed, 0).batches for seed in (1, 1, 2))
    for step in (5, 0, 3):
        mine, same = first.at(step), again.at(step)
        pairs = zip((*mine.inputs, mine.targets), (*same.inputs, same.targets), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(first.at(0).inputs[0], other.at(0).inputs[0])


def test_deep_networks_share_one_projection() -> None:
    assert DEEP.n_feedback == 256
    assert DEEP.network == "784 – 10 x 256 – 10, tanh"


def test_a_decoder_does_not_look_ahead() -> None:
    torch.manual_seed(0)
    decoder = Decoder(11, 12, 8, 2, 2)
    tokens = torch.randint(11, (3, 12))
    changed = tokens.clone()
    changed[:, 7:] = (changed[:, 7:] + 1) % 11
    before, after = decoder(tokens), decoder(changed)
    torch.testing.assert_close(before[:, :7], after[:, :7])
    assert not torch.allclose(before[:, 7:], after[:, 7:])


def test_a_vision_transformer_sees_patches_where_they_are() -> None:
    torch.manual_seed(0)
    module = VisionTransformer(8, 4, 16, 1, 2, 3)
    images = torch.rand(2, 8, 8)
    rolled = images.roll(4, 2)
    assert not torch.allclose(module(images.flatten(1)), module(rolled.flatten(1)))
    with torch.no_grad():
        module.position.zero_()
    torch.testing.assert_close(module(images.flatten(1)), module(rolled.flatten(1)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Attention(10, 3, causal=True),
        lambda: VisionTransformer(28, 5, 8, 1, 2, 10),
        lambda: taps_of("nano"),  # type: ignore[arg-type]
        lambda: Passages(torch.arange(5), 5, 2, 1, seed=0),
    ],
)
def test_what_cannot_be_is_refused(make: object) -> None:
    with pytest.raises(SettingsError):
        make()  # type: ignore[operator]


@given(st.integers(2, 40), st.integers(1, 12))
def test_passages_in_order_are_the_text(n: int, context: int) -> None:
    positions = torch.arange(n)
    inputs, targets = passages_in_order(positions, context)
    assert inputs.shape == targets.shape == ((n - 1) // context, context)
    assert torch.equal(inputs.flatten(), positions[: inputs.numel()])
    assert torch.equal(targets, inputs + 1)


@given(st.text(min_size=20, max_size=200))
def test_texts_keep_their_characters(content: str) -> None:
    made = Text.of("any", content)
    positions = torch.cat([made.train, made.test])
    assert "".join(made.symbols[i] for i in positions.tolist()) == content
    train, validation = made.split(3)
    assert torch.equal(torch.cat([train, validation]), made.train)
    with pytest.raises(DatasetError, match="at least one"):
        made.split(len(made.train))


def test_noise_takes_the_image_over() -> None:
    left = shares(100)
    assert bool((left.diff() < 0).all())
    assert left[0] > 0.999
    assert left[-1] < 1e-3
    images, noise = torch.ones(2, 5), torch.zeros(2, 5)
    shown = noisy(images, noise, torch.tensor([0, 99]), left)
    torch.testing.assert_close(shown[:, 0], left[[0, 99]].sqrt())


def test_a_perfect_denoiser_draws_the_one_image_there_is() -> None:
    left = shares(50)
    image = torch.tensor([0.5, -0.5, 1.0])

    class Perfect(nn.Module):
        def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
            share = left[time][:, None]
            return (x - share.sqrt() * image) / (1 - share).sqrt()

    drawn = samples(Perfect(), 4, 3, left, seed=0)
    torch.testing.assert_close(drawn, image.expand(4, 3), atol=0.02, rtol=0)
    assert torch.equal(drawn, samples(Perfect(), 4, 3, left, seed=0))


def data() -> Path:
    root = os.environ.get("OPU_DATA")
    if not root:
        pytest.skip("OPU_DATA is not set: no folder with texts")
    return Path(root)


@pytest.mark.parametrize(("name", "symbols"), [("shakespeare", 65), ("dialogue", 90)])
def test_the_texts(name: str, symbols: int) -> None:
    data()
    found = texts.text(name)
    assert len(found.symbols) == symbols
    assert len(found.test) == pytest.approx(len(found.train) / 9, rel=0.01)


@pytest.mark.parametrize("damage", ["cut", "other", "missing"])
def test_damaged_texts_are_named(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = texts.SOURCES["dialogue"].file
    monkeypatch.setenv("OPU_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cornell_excerpt").mkdir()
    path = tmp_path / "cornell_excerpt" / file.name
    expected = {"cut": "bytes, expected", "other": "SHA-256", "missing": "put utterances_16517.txt"}
    if damage == "cut":
        path.write_bytes(b"half")
    elif damage == "other":
        path.write_bytes(bytes(file.size))
    with pytest.raises(DatasetError, match=expected[damage]):
        texts.text("dialogue")
    with pytest.raises(DatasetError, match="choose one of"):
        texts.text("encyclopaedia")


def test_every_recipe_says_what_it_is() -> None:
    for recipe in RECIPES:
        assert recipe.network
        assert recipe.schooling
        assert min(recipe.n_inputs, recipe.n_feedback, recipe.widest) >= 2


def test_square_layers_may_begin_as_the_identity() -> None:
    """Then a hundred of them still tell of the input, which Xavier's weights forget."""
    x = torch.randn(400, 20, generator=torch.Generator().manual_seed(0))

    def told(init: str) -> float:
        """Share of the input's variance that the last hidden layer explains linearly."""
        with torch.no_grad():
            h = mlp((20, *[32] * 100, 4), seed=0, init=init).blocks(x)
        residue = x - h @ torch.linalg.lstsq(h, x).solution
        return 1 - float(residue.square().sum() / x.square().sum())

    net = mlp((20, 32, 32, 4), seed=0, init="identity")
    assert torch.equal(net.blocks[1].get_parameter("0.weight"), torch.eye(32))
    glorot = mlp((20, 32, 32, 4), seed=0, init="xavier")
    assert torch.equal(net.head.weight, glorot.head.weight)
    assert told("identity") > 0.7
    assert told("xavier") < 0.5
    with pytest.raises(SettingsError, match="'lecun', 'xavier' or 'identity'"):
        mlp((20, 32, 4), seed=0, init="zero")
