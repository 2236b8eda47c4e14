"""The walk of the phase, and the interval that follows it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.phase_walk import LONGEST, SHORTEST, START, TARGET_RAD, PhaseWalk


def references(
    walk: float, jitter: float, interval: int, seed: int, exposures: int = 512
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Phases of the references of one sequence, their positions, and the true walk."""
    rng = np.random.default_rng(seed)
    true = np.cumsum(walk * rng.standard_normal(exposures + 2))
    positions = np.concatenate([[-1], np.arange(interval, exposures, interval), [exposures]])
    phases = true[positions + 1] + jitter * rng.standard_normal(len(positions))
    return phases, positions, true[1:-1]


def after(walk: float, jitter: float, sequences: int = 40) -> PhaseWalk:
    followed = PhaseWalk()
    for seed in range(sequences):
        followed.see(*references(walk, jitter, followed.interval, seed)[:2])
    return followed


@pytest.mark.parametrize(
    ("walk", "jitter"), [(0.003, 0.01), (0.02, 0.0), (0.02, 0.1), (0.05, 0.02)]
)
def test_walk_and_jitter_are_told_apart(walk: float, jitter: float) -> None:
    followed = after(walk, jitter)
    assert followed.walk_rad == pytest.approx(walk, rel=0.3)
    assert followed.jitter_rad == pytest.approx(jitter, abs=0.012)


@pytest.mark.parametrize("walk", [0.015, 0.02, 0.03])
@pytest.mark.parametrize("jitter", [0.0, 0.1])
def test_the_interval_is_that_of_the_stated_error(walk: float, jitter: float) -> None:
    wanted = 6 * TARGET_RAD**2 / walk**2
    assert 0.5 * wanted <= after(walk, jitter).interval <= 2 * wanted


def test_jitter_alone_asks_for_no_more_references() -> None:
    assert after(0.0, 0.1).interval >= 32  # if it were all walk: 4


@pytest.mark.parametrize(("walk", "interval"), [(0.0, LONGEST), (0.001, LONGEST), (0.2, SHORTEST)])
def test_the_interval_stays_within_its_limits(walk: float, interval: int) -> None:
    assert after(walk, 0.0).interval == interval


def test_it_starts_safe_grows_slowly_and_shrinks_soon() -> None:
    followed = PhaseWalk()
    assert followed.interval == START
    intervals = []
    for seed in range(6):
        followed.see(*references(0.001, 0.0, followed.interval, seed)[:2])
        intervals.append(followed.interval)
    assert intervals == [32, 64, 128, 256, 256, 256]
    for seed in range(5):
        followed.see(*references(0.05, 0.0, followed.interval, seed)[:2])
    assert followed.interval <= 12


def test_what_jitters_is_smoothed_and_what_walks_is_not() -> None:
    for walk, jitter, least, most in ((0.02, 0.1, 0.4, 0.8), (0.02, 0.001, 0.9, 1.05)):
        followed = after(walk, jitter)
        plain, smooth = [], []
        for seed in range(100, 120):
            phases, positions, true = references(walk, jitter, 10, seed)
            at = np.arange(len(true))
            plain.append(np.interp(at, positions, phases) - true)
            smoothed = followed.smoothed(phases, positions)
            smooth.append(np.interp(at, positions, smoothed) - true)
        assert least < np.std(smooth) / np.std(plain) < most


def test_nothing_known_is_nothing_smoothed() -> None:
    phases, positions, _ = references(0.02, 0.1, 16, 0)
    np.testing.assert_array_equal(PhaseWalk().smoothed(phases, positions), phases)


def with_neighbours(interval: int, exposures: int = 512) -> NDArray[np.int64]:
    """Positions of references, two of them beside the markers at the ends."""
    return np.concatenate(
        [[-1, 0], np.arange(interval, exposures - 2, interval), [exposures - 1, exposures]]
    )


def test_a_vibration_is_not_taken_for_jitter() -> None:
    followed, rng = PhaseWalk(), np.random.default_rng(0)
    for _ in range(12):
        positions = with_neighbours(followed.interval)
        phases = 0.3 * np.sin(2 * np.pi * (positions / 30 + rng.random()))
        followed.see(phases, positions)
    assert followed.interval == SHORTEST
    assert followed.jitter_rad < 0.05


def test_jitter_that_neighbours_show_is_jitter() -> None:
    followed, rng = PhaseWalk(), np.random.default_rng(0)
    for _ in range(40):
        positions = with_neighbours(followed.interval)
        followed.see(0.1 * rng.standard_normal(len(positions)), positions)
    assert followed.interval >= 32
    assert followed.jitter_rad == pytest.approx(0.1, rel=0.3)
