from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import hadamard

from training.errors import CodeError, SettingsError
from training.hadamard_projector import HadamardProjector, walsh_hadamard
from training.projector import (
    DenseProjector,
    GeneratedProjector,
    MatrixProjector,
    Projector,
    counts,
)


def matrix(projector: Projector) -> torch.Tensor:
    return projector.project(torch.eye(projector.n_inputs)).T


@pytest.mark.parametrize("kind", [DenseProjector, GeneratedProjector, HadamardProjector])
def test_projects_linearly_with_normal_entries(kind: type[DenseProjector]) -> None:
    projector = kind(40, 3000, seed=7)
    B = matrix(projector)
    codes = torch.randint(-1, 2, (5, 40), dtype=torch.int8)
    projection = projector.project(codes)

    assert isinstance(projector, Projector)
    projector.project(codes).zero_()  # whoever asks may write into the answer
    assert projection.dtype == torch.float32
    torch.testing.assert_close(projection, codes.float() @ B.T, rtol=1e-5, atol=1e-5)
    n = B.numel()
    assert abs(float(B.mean())) < 4 / n**0.5
    assert float((B**2).mean()) == pytest.approx(1, abs=4 * (2 / n) ** 0.5)
    assert float((B**4).mean()) == pytest.approx(3, abs=4 * (96 / n) ** 0.5)
    correlation = torch.corrcoef(B.T) - torch.eye(40)
    assert float(correlation.abs().max()) < 6 / 3000**0.5


@pytest.mark.parametrize("kind", [DenseProjector, GeneratedProjector, HadamardProjector])
def test_seed_decides_the_matrix_and_its_fingerprint(kind: type[DenseProjector]) -> None:
    first, again, other = kind(6, 9, seed=1), kind(6, 9, seed=1), kind(6, 9, seed=2)
    assert torch.equal(matrix(first), matrix(again))
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    assert not torch.allclose(matrix(first), matrix(other))


def test_generated_tiles_are_independent() -> None:
    projector = GeneratedProjector(64, 64, seed=0, tile=(32, 32))
    B = matrix(projector)
    tiles = torch.stack([B[i : i + 32, j : j + 32].flatten() for i in (0, 32) for j in (0, 32)])
    assert float((torch.corrcoef(tiles) - torch.eye(4)).abs().max()) < 0.15


LARGE = (1_000_000, 100_000)


def columns(projector: Projector, inputs: list[int]) -> torch.Tensor:
    """Some columns of a matrix that nobody can store, `[column, n_outputs]`."""
    codes = torch.zeros(len(inputs), projector.n_inputs, dtype=torch.int8)
    codes[torch.arange(len(inputs)), inputs] = 1
    return projector.project(codes)


def test_a_hadamard_matrix_of_1e5_by_1e6_is_random_normal() -> None:
    some = columns(HadamardProjector(*LARGE, seed=0), [0, 1, 15, 16, 500_000, 999_999])
    n = some.shape[1]
    sigma = n**-0.5
    assert float(some.mean(1).abs().max()) < 5 * sigma
    assert float((some.var(1) - 1).abs().max()) < 5 * 2**0.5 * sigma
    assert float(((some**4).mean(1) - 3).abs().max()) < 5 * 96**0.5 * sigma  # of normal numbers
    assert float((torch.corrcoef(some) - torch.eye(6)).abs().max()) < 5 * sigma
    halves = torch.corrcoef(torch.cat([some[:, : n // 2], some[:, n // 2 :]]))  # rows are unlike
    assert float((halves - torch.eye(12)).abs().max()) < 5 * (2 / n) ** 0.5


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 5))
def test_rows_of_a_hadamard_matrix_are_signs_before_and_orthogonal_after(
    n_inputs: int, n_outputs: int, seed: int
) -> None:
    B = matrix(HadamardProjector(n_inputs, n_outputs, seed)).double()
    size = 1 << (max(n_inputs, n_outputs) - 1).bit_length()
    if n_inputs == size:
        torch.testing.assert_close(B @ B.T / size, torch.eye(n_outputs).double())
    whole = matrix(HadamardProjector(size, size, seed))
    torch.testing.assert_close(B.float(), whole[:n_outputs, :n_inputs])


def test_the_walsh_hadamard_transform_is_scipys() -> None:
    expected = torch.from_numpy(hadamard(32)).float() / 32**0.5
    torch.testing.assert_close(walsh_hadamard(torch.eye(32)), expected)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 7), st.integers(1, 7))
def test_generated_projects_the_same_row_by_row(
    n_inputs: int, n_outputs: int, high: int, wide: int
) -> None:
    projector = GeneratedProjector(n_inputs, n_outputs, seed=3, tile=(high, wide))
    codes = torch.ones(3, n_inputs, dtype=torch.int16)
    together = projector.project(codes)
    assert together.shape == (3, n_outputs)
    torch.testing.assert_close(projector.project(codes[:1]), together[:1])


@pytest.mark.parametrize(
    "codes", [torch.zeros(3), torch.zeros(2, 5), torch.zeros(2, 4, 4)], ids=["1d", "wide", "3d"]
)
def test_codes_of_the_wrong_shape_are_refused(codes: torch.Tensor) -> None:
    for projector in (DenseProjector(4, 5, seed=0), GeneratedProjector(4, 5, seed=0)):
        with pytest.raises(CodeError, match="takes \\[rows, 4\\]"):
            projector.project(codes)


def test_rows_are_counted() -> None:
    projector = DenseProjector(3, 4, seed=0)
    projector.project(torch.zeros(5, 3))
    projector.project(torch.zeros(0, 3))
    projector.project(torch.zeros(2, 3))
    assert projector.totals() == {"rows": 7}


def test_what_adds_up_is_told_by_its_name() -> None:
    totals = {"rows": 3.0, "reference_exposures": 4.0, "saturated_pixels": 1.0, "snr": 9.5}
    assert counts(totals) == {"rows": 3, "reference_exposures": 4, "saturated_pixels": 1}


def test_nonsense_matrices_are_refused() -> None:
    with pytest.raises(SettingsError, match="finite"):
        MatrixProjector(torch.full((2, 2), torch.nan))
    with pytest.raises(SettingsError, match="int64"):
        MatrixProjector(torch.ones(2, 2, dtype=torch.int64))
    with pytest.raises(SettingsError, match="at least 1"):
        DenseProjector(0, 3, seed=0)


def test_the_matrix_cannot_be_changed_from_outside() -> None:
    B = torch.ones(2, 2)
    projector = MatrixProjector(B)
    before = projector.fingerprint()
    B.zero_()
    assert projector.fingerprint() == before
    assert matrix(projector).sum() == 4
