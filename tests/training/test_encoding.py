from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.encoding import BitPlanes, Encoder, Identity, Sign, Ternary
from training.errors import SettingsError

RELATIVE: list[Encoder] = [
    Identity(),
    Ternary(0.3, relative=True),
    Ternary(1.0, relative=True),
    Sign(),
    BitPlanes(1),
    BitPlanes(8),
]
ABSOLUTE: list[Encoder] = [
    Ternary(0.1),
    Ternary(0.1, restore=False),
    Ternary(0.3, relative=True, restore=False),
    Ternary(0.3, relative=True, dark_below=0.02),
]
ERRORS = st.lists(
    st.lists(st.floats(-1, 1, width=32, allow_subnormal=False), min_size=4, max_size=4),
    min_size=1,
    max_size=5,
).map(lambda rows: torch.tensor(rows, dtype=torch.float64))
POWERS = st.integers(-12, 12).map(lambda k: 2.0**k)  # exact in floating point


def value(encoder: Encoder, error: torch.Tensor, unit: float) -> torch.Tensor:
    encoded = encoder.encode(error, unit)
    return encoded.decode(encoded.codes)


@pytest.mark.parametrize("encoder", RELATIVE, ids=repr)
@given(error=ERRORS, k=POWERS)
def test_relative_encoders_scale_with_the_loss(
    encoder: Encoder, error: torch.Tensor, k: float
) -> None:
    assert torch.equal(value(encoder, k * error, 1.0), k * value(encoder, error, 1.0))


@pytest.mark.parametrize("encoder", RELATIVE + ABSOLUTE, ids=repr)
@given(error=ERRORS, k=POWERS)
def test_all_encoders_scale_with_loss_and_unit(
    encoder: Encoder, error: torch.Tensor, k: float
) -> None:
    assert torch.equal(value(encoder, k * error, k), k * value(encoder, error, 1.0))
    codes = encoder.encode(k * error, k).codes
    assert codes.is_floating_point() or torch.equal(codes, encoder.encode(error, 1.0).codes)


def test_an_absolute_threshold_is_not_equivariant_by_itself() -> None:
    error = torch.tensor([[0.05, -0.5, 0.2]])
    encoder = Ternary(0.1, restore=False)
    assert encoder.encode(error, 1.0).codes.tolist() == [[0, -1, 1]]
    assert encoder.encode(error / 10, 1.0).codes.tolist() == [[0, 0, 0]]
    assert encoder.encode(error / 10, 0.1).codes.tolist() == [[0, -1, 1]]


@given(error=ERRORS)
def test_codes_fit_the_bench(error: torch.Tensor) -> None:
    for encoder, limit in ((Ternary(0.3, relative=True), 1), (Sign(), 1), (BitPlanes(5), 31)):
        codes = encoder.encode(error, 1.0).codes
        assert not codes.is_floating_point()
        assert int(codes.abs().max()) <= limit


@given(error=ERRORS, bits=st.integers(1, 8))
def test_bit_planes_err_by_half_a_step(error: torch.Tensor, bits: int) -> None:
    step = error.abs().amax(1, keepdim=True) / (2**bits - 1)
    assert bool(((value(BitPlanes(bits), error, 1.0) - error).abs() <= step * 0.500001).all())


def test_restored_rows_keep_their_size() -> None:
    error = torch.tensor([[0.4, -0.1, 0.2], [0.004, -0.001, 0.002]])
    encoded = Ternary(0.3, relative=True).encode(error, 1.0)
    assert encoded.codes.tolist() == [[1, 0, 1], [1, 0, 1]]
    assert encoded.scale.flatten().tolist() == pytest.approx([0.4, 0.004])


def test_what_is_learned_is_not_shown() -> None:
    error = torch.tensor([[0.4, -0.1], [0.019, -0.001]]) / 64
    encoded = Ternary(0.3, relative=True, dark_below=0.02).encode(error, 1 / 64)
    assert encoded.codes.tolist() == [[1, 0], [0, 0]]


@pytest.mark.parametrize("encoder", RELATIVE[1:] + ABSOLUTE, ids=repr)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_rows_that_are_not_finite_are_not_shown_and_not_hidden(
    encoder: Encoder, bad: float
) -> None:
    error = torch.tensor([[0.5, bad, -0.5], [0.5, 0.0, -0.5]])
    encoded = encoder.encode(error, 1.0)
    assert encoded.codes[0].tolist() == [0, 0, 0]
    assert encoded.decode(torch.ones(2, 1))[:, 0].isnan().tolist() == [True, False]


@pytest.mark.parametrize("encoder", RELATIVE + ABSOLUTE, ids=repr)
def test_no_error_needs_no_light(encoder: Encoder) -> None:
    assert not encoder.encode(torch.zeros(2, 3), 1.0).codes.any()
    assert not value(encoder, torch.zeros(2, 3), 1.0).any()


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.1, math.nan])
def test_impossible_settings_are_refused(threshold: float) -> None:
    with pytest.raises(SettingsError, match="threshold"):
        Ternary(threshold)
    with pytest.raises(SettingsError, match="dark_below"):
        Ternary(0.1, dark_below=threshold - 1 if threshold <= 0 else threshold)
    with pytest.raises(SettingsError, match="bit planes"):
        BitPlanes(9)
