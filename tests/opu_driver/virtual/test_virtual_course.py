"""A medium on the course that somebody has measured."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from opu_driver import simulated_bench
from opu_driver.errors import SettingError
from opu_driver.virtual.course import STEPS
from opu_driver.virtual.medium import Medium
from opu_driver.virtual.settings import SceneSettings, preset

INPUTS, OUTPUTS, FRAMES = 12, 20, 100


def measured(folder: Path, count: int = 3, seed: int = 0) -> list[NDArray[np.complex128]]:
    """Files of matrices that move away from the first, each with a phase of its own."""
    rng = np.random.default_rng(seed)
    kinds = rng.standard_normal((count, 2, OUTPUTS, INPUTS))
    fresh = kinds[:, 0] + 1j * kinds[:, 1]
    matrices = [fresh[0]]
    for k in range(1, count):
        turned = np.exp(1j * rng.uniform(-3, 3))
        matrices.append(turned * (0.95 * matrices[-1] + 0.3 * fresh[k]))
    for k, matrix in enumerate(matrices):
        np.savez(folder / f"{k}.npz", T=matrix)
    return matrices


def medium(folder: Path, **changes: Any) -> Medium:
    values = preset("ideal").model_dump() | {
        "cells": (3, 4),
        "measured_matrices": sorted(folder.glob("*.npz")),
        "frames_per_matrix": FRAMES,
    }
    return Medium(SceneSettings.model_validate(values | changes), (32, 32), 0)


def correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(abs(np.vdot(a, b)) / np.linalg.norm(a) / np.linalg.norm(b))


def seen_by_modes(m: Medium, age: int) -> NDArray[np.complex64]:
    """The matrix `[input, mode]` at an age."""
    m.grow_to(age)
    return m.modes(np.eye(INPUTS, INPUTS + 1, dtype=np.float32))


def test_the_medium_passes_each_matrix_at_its_time(tmp_path: Path) -> None:
    matrices = measured(tmp_path)
    m = medium(tmp_path)
    first = seen_by_modes(m, 0)
    for k, matrix in enumerate(matrices):
        now = seen_by_modes(m, k * FRAMES)
        assert correlation(now, first) == pytest.approx(correlation(matrix, matrices[0]), abs=1e-6)
        # Not only the whole matrix: all products of its inputs' fields.
        gram = now.conj() @ now.T
        expected = (matrix.conj().T @ matrix) * gram[0, 0].real / np.linalg.norm(matrix[:, 0]) ** 2
        np.testing.assert_allclose(gram, expected, rtol=1e-4, atol=1e-4 * abs(gram[0, 0]))


def test_the_first_has_the_power_of_a_random_medium(tmp_path: Path) -> None:
    measured(tmp_path)
    first = seen_by_modes(medium(tmp_path), 0)
    assert np.mean(np.abs(first) ** 2) == pytest.approx(1, rel=1e-4)


def test_in_between_it_goes_smoothly(tmp_path: Path) -> None:
    measured(tmp_path)
    m = medium(tmp_path)
    passed = [seen_by_modes(m, age) for age in range(2 * FRAMES + 1)]
    steps = [1 - correlation(a, b) for a, b in pairwise(passed)]
    assert max(steps) < 20 / STEPS**2
    assert correlation(passed[0], passed[FRAMES]) < correlation(passed[0], passed[FRAMES // 2]) < 1


def test_the_last_one_stays(tmp_path: Path) -> None:
    measured(tmp_path)
    m = medium(tmp_path)
    last = seen_by_modes(m, 2 * FRAMES)
    np.testing.assert_allclose(seen_by_modes(m, 10 * FRAMES), last, atol=1e-6)


def test_a_bench_takes_it_from_its_file(tmp_path: Path) -> None:
    measured(tmp_path)
    paths = [str(path) for path in sorted(tmp_path.glob("*.npz"))]
    with simulated_bench("quiet", cells=(3, 4), measured_matrices=paths) as bench:
        frames = bench.expose(bench.layout(INPUTS).render(np.eye(INPUTS, dtype=np.uint8)))
    assert frames.shape[0] == INPUTS


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"T": np.ones((5, INPUTS + 1))}, r"shapes \[\[5, 13\]\].*12 inputs"),
        ({"T": np.ones((5, INPUTS)), "more": np.ones(3)}, "one matrix"),
        ({"T": np.full((5, INPUTS), np.nan)}, "not finite"),
        ({"T": np.zeros((5, INPUTS))}, "zero everywhere"),
        ({"T": np.ones((5000, INPUTS))}, r"\[5000\] outputs.*modes"),
    ],
)
def test_what_is_no_such_matrix_is_refused(
    tmp_path: Path, content: dict[str, NDArray[Any]], told: str
) -> None:
    np.savez(tmp_path / "wrong.npz", **content)
    with pytest.raises(SettingError, match=told):
        medium(tmp_path)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "wrong.npz").write_text("not numpy")
    with pytest.raises(SettingError, match=r"wrong\.npz cannot be read"):
        medium(tmp_path)
    with pytest.raises(SettingError, match=r"gone\.npz cannot be read"):
        medium(tmp_path, measured_matrices=[tmp_path / "gone.npz"])
