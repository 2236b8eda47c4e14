import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opu_driver.layout import Layout
from opu_driver.virtual.mirrors import Mirrors

SHAPE = (12, 19)  # columns that fill no whole byte, and mirrors that fill no whole cells
CELLS = (4, 5)


def means(amplitudes):
    """Mean amplitude of each cell `[pattern, cell]`, the slow way."""
    row, column = (np.arange(n) * c // n for c, n in zip(CELLS, SHAPE, strict=True))
    cells = [
        amplitudes[:, row == i][:, :, column == j].mean(axis=(1, 2))
        for i in range(CELLS[0])
        for j in range(CELLS[1])
    ]
    return np.stack(cells, axis=1)


def by_groups(mirrors, patterns):
    weights = mirrors.weights(patterns)
    return None if weights is None else weights @ mirrors.shares() + mirrors.resting


@settings(max_examples=40)
@given(data=st.data())
def test_groups_and_cells_are_the_means_of_their_mirrors(data):
    """Any sequence of batches, of few or of many groups, in any order."""
    mirrors = Mirrors(SHAPE, 2, CELLS, leakage=0.01, limit=40)
    for _ in range(data.draw(st.integers(1, 4))):
        rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
        n_inputs = data.draw(st.sampled_from([1, 2, 5, 7, 10, 60]))
        bits = rng.integers(0, 2, (data.draw(st.integers(1, 9)), n_inputs), np.uint8)
        patterns = Layout.fit(n_inputs, SHAPE).render(bits)
        on = np.unpackbits(patterns, axis=2)[:, :, : SHAPE[1]]
        expected = means(0.1 + 0.9 * on)
        assert mirrors.cells(patterns) == pytest.approx(expected, abs=1e-6)
        sums = by_groups(mirrors, patterns)
        if sums is not None:
            assert sums.real == pytest.approx(expected, abs=1e-6)
            assert len(mirrors.groups) <= 40


def test_phases_are_the_means_of_their_pixels():
    rng = np.random.default_rng(0)
    patterns = Layout.fit(6, (12, 20), 16).render(rng.integers(0, 2, (5, 6), np.uint8))
    patterns = ((patterns + 3 * (np.arange(20) > 9)) % 16).astype(np.uint8)
    mirrors = Mirrors((12, 20), 16, (4, 5), leakage=0.0, limit=100)
    light = np.exp(2j * np.pi * patterns / 16).reshape(5, 4, 3, 5, 4)
    expected = light.mean(axis=(2, 4)).reshape(5, -1)
    assert mirrors.cells(patterns) == pytest.approx(expected, abs=1e-6)
    assert by_groups(mirrors, patterns) == pytest.approx(expected, abs=1e-6)


def test_ten_macropixels_are_ten_groups():
    mirrors = Mirrors((64, 64), 2, (32, 32), leakage=0.0, limit=100)
    bits = np.random.default_rng(0).integers(0, 2, (200, 10), np.uint8)
    layout = Layout.fit(10, (64, 64))
    assert mirrors.weights(layout.render(bits)) is not None
    unused = 10 * layout.mirrors_per_input < 64 * 64
    assert len(mirrors.groups) == 10 + unused


def test_groups_stay_as_long_as_nothing_splits_them():
    mirrors = Mirrors((64, 64), 2, (32, 32), leakage=0.0, limit=100)
    layout = Layout.fit(10, (64, 64))
    mirrors.weights(layout.render(np.eye(10, dtype=np.uint8)))
    groups = mirrors.groups
    mirrors.weights(layout.all_on())
    assert mirrors.groups is groups
    mirrors.weights(Layout.fit(12, (64, 64)).render(np.eye(12, dtype=np.uint8)))
    assert mirrors.groups is not groups


def test_one_mirror_that_moves_alone_is_seen():
    mirrors = Mirrors((64, 64), 2, (32, 32), leakage=0.0, limit=100)
    patterns = np.zeros((300, 64, 8), np.uint8)
    patterns[298, 17, 3] = 1 << 4
    weights = mirrors.weights(patterns)
    assert len(mirrors.groups) == 2
    assert np.count_nonzero(weights) == 1


def test_too_many_groups_are_not_kept():
    mirrors = Mirrors((64, 64), 2, (32, 32), leakage=0.0, limit=20)
    few = Layout.fit(10, (64, 64)).render(np.eye(10, dtype=np.uint8))
    mirrors.weights(few)
    groups = mirrors.groups
    many = Layout.fit(100, (64, 64)).render(np.eye(100, dtype=np.uint8))
    assert mirrors.weights(many) is None
    assert mirrors.groups is groups


def test_groups_that_only_old_patterns_needed_are_given_up():
    mirrors = Mirrors((64, 64), 2, (32, 32), leakage=0.0, limit=20)
    for n_inputs in (10, 15, 7, 16, 10):
        patterns = Layout.fit(n_inputs, (64, 64)).render(np.eye(n_inputs, dtype=np.uint8))
        assert mirrors.weights(patterns) is not None
        assert len(mirrors.groups) <= 20
