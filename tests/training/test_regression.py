"""Fields that separate, and the Transformer that foretells them."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.datasets.fields import Fields, evolved, separating
from training.errors import SettingsError
from training.experiments import run
from training.experiments.regression import SEPARATION
from training.models.field_transformer import FieldTransformer, patches


def test_a_uniform_field_follows_its_own_equation():
    """du/dt = u - u^3 has the solution u = (1 + (u0^-2 - 1) exp(-2 t))^-1/2."""
    start = 0.2
    exact = (1 + (start**-2 - 1) * torch.exp(torch.tensor(-2 * 3.0))) ** -0.5
    found = evolved(torch.full((1, 8, 8), start), 3.0)
    torch.testing.assert_close(found, exact.expand(1, 8, 8), rtol=0.05, atol=0)


def test_small_waves_grow_or_fade_as_diffusion_says():
    """To first order a wave grows by exp((1 - D k^2) t)."""
    column = torch.arange(16) * 2 * torch.pi / 16
    slow, quick = (0.001 * torch.cos(n * column).expand(1, 16, 16) for n in (1, 6))
    k2 = (2 * torch.pi / 16) ** 2
    growth = float(evolved(slow, 1.0).norm() / slow.norm())
    assert growth == pytest.approx(math.exp(1 - 0.5 * k2), rel=0.06)
    assert evolved(quick, 1.0).norm() < 0.5 * quick.norm()


def test_fields_separate_into_two_phases_and_are_always_the_same():
    fields = separating(200, 16, 30.0, 0)
    assert float((fields.after.abs() > 0.9).float().mean()) > 0.8
    assert float(fields.before.square().mean()) == pytest.approx(1, abs=1e-5)
    again, other = separating(200, 16, 30.0, 0), separating(200, 16, 30.0, 1)
    assert torch.equal(again.before, fields.before)
    assert not torch.equal(other.before, fields.before)


@given(st.integers(0, 19))
def test_a_split_loses_nothing(n):
    fields = Fields(torch.arange(20.0), torch.arange(20.0))
    kept, held = fields.split(n)
    assert torch.equal(torch.cat([kept.before, held.before]), fields.before)
    assert len(held) == n


@pytest.mark.parametrize("n", [-1, 20])
def test_a_split_leaves_something(n):
    with pytest.raises(SettingsError, match="validation fields of 20"):
        Fields(torch.arange(20.0), torch.arange(20.0)).split(n)


def test_patches_are_cut_where_the_transformer_puts_them():
    field = torch.arange(64.0).view(1, 8, 8)
    cut = patches(field, 4)
    assert torch.equal(cut[0, 1].view(4, 4), field[0, :4, 4:])
    assert FieldTransformer(8, 4, 8, 1, 2)(field).shape == cut.shape
    with pytest.raises(SettingsError, match="do not fill"):
        FieldTransformer(8, 3, 8, 1, 2)


def test_feedback_learns_more_than_the_last_layer_alone():
    short = replace(SEPARATION, epochs=6)
    learned = run(short, "ternary", seed=0)
    assert learned.score.name == "relative error"
    assert learned.test < 0.5 * learned.rows[0].score["test"]
    assert learned.test < run(short, "shallow", seed=0).test
