"""A matrix of 1e5 outputs and 1e6 inputs that nobody stores: samples of it, through its codes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from training.projector import GeneratedProjector

N_INPUTS, N_OUTPUTS = 1_000_000, 100_000
HIGH, WIDE = 1024, 128
AT_LEFT = (0, 1, 63, 127)
AT_MIDDLE = (500_096, 500_097, 500_159, 500_223)
AT_RIGHT = (999_936, 999_937, 999_970, 999_999)  # in the last tiles, which are narrower


def generated(seed: int, wide: int = WIDE) -> GeneratedProjector:
    """Of tiles that are narrower than usual: fewer numbers are drawn for a few inputs."""
    return GeneratedProjector(N_INPUTS, N_OUTPUTS, seed, tile=(HIGH, wide))


def one_hot(inputs: Sequence[int]) -> Tensor:
    codes = torch.zeros(len(inputs), N_INPUTS, dtype=torch.int8)
    codes[range(len(inputs)), list(inputs)] = 1
    return codes


@pytest.fixture(scope="module")
def columns() -> Tensor:
    """Columns of `B`, of tiles that lie far apart: float32 `[12, n_outputs]`."""
    return generated(seed=7).project(one_hot(AT_LEFT + AT_MIDDLE + AT_RIGHT))


def test_entries_are_normal(columns: Tensor) -> None:
    B, n = columns.double(), columns.numel()
    assert float(B.mean()) == pytest.approx(0, abs=4 / n**0.5)
    assert float((B**2).mean()) == pytest.approx(1, abs=4 * (2 / n) ** 0.5)
    assert float((B**4).mean()) == pytest.approx(3, abs=4 * (96 / n) ** 0.5)


def test_inputs_are_uncorrelated(columns: Tensor) -> None:
    """Neighbours, those at the two ends, and those at one place of two tiles."""
    correlation = torch.corrcoef(columns) - torch.eye(len(columns))
    assert float(correlation.abs().max()) < 5 / N_OUTPUTS**0.5


@pytest.mark.parametrize("apart", [1, 2, 7, HIGH, 2 * HIGH, 64 * HIGH])
def test_outputs_are_uncorrelated(columns: Tensor, apart: int) -> None:
    """Neighbours, and those at one place of two tiles."""
    products = columns[:, apart:] * columns[:, :-apart]
    assert float(products.mean()) == pytest.approx(0, abs=4.5 / products.numel() ** 0.5)


def test_no_tile_is_like_another(columns: Tensor) -> None:
    full = N_OUTPUTS // HIGH
    tiles = (
        columns[:, : full * HIGH].reshape(3, 4, full, HIGH).transpose(1, 2).reshape(3 * full, -1)
    )
    correlation = torch.corrcoef(tiles) - torch.eye(3 * full)
    assert float(correlation.abs().max()) < 6 / (4 * HIGH) ** 0.5


def test_a_row_is_the_same_alone_among_others_and_again(columns: Tensor) -> None:
    again = generated(seed=7)
    together = one_hot(AT_LEFT[2:3])
    together[0, list(AT_LEFT[:2])] = torch.tensor([1, -1], dtype=torch.int8)
    expected = columns[0] - columns[1] + columns[2]
    torch.testing.assert_close(again.project(together)[0], expected)
    assert torch.equal(again.project(one_hot(AT_LEFT[:1]))[0], columns[0])


def test_another_seed_is_another_matrix_and_so_is_another_tile(columns: Tensor) -> None:
    first = one_hot(AT_LEFT[:1])
    names = {generated(seed=7).fingerprint()}
    for other in (generated(seed=8), generated(seed=7, wide=16)):
        names.add(other.fingerprint())
        both = torch.cat([columns[:1], other.project(first)])
        assert abs(float(torch.corrcoef(both)[0, 1])) < 5 / N_OUTPUTS**0.5
    assert len(names) == 3


def test_dark_codes_cost_nothing() -> None:
    """1e11 numbers would take minutes: the projection of nothing is told without drawing them."""
    projector = generated(seed=7)
    assert not projector.project(torch.zeros(2, N_INPUTS, dtype=torch.int8)).any()
