import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opu_driver import simulated_bench
from opu_driver.errors import PatternError
from tools.viewer.shown_pattern import Kind, ShownPattern


@pytest.fixture(scope="module")
def bench():
    with simulated_bench("ideal") as opened:
        yield opened


def lit(bench, pattern):
    """Which fraction of the used mirrors is on."""
    layout = bench.layout(pattern.inputs)
    mirrors = int(np.unpackbits(pattern.on(bench)).sum())
    return mirrors / (layout.mirrors_per_input * pattern.inputs)


@given(inputs=st.integers(1, 500), data=st.data())
def test_patterns_light_what_their_names_say(bench, inputs, data):
    assert lit(bench, ShownPattern(Kind.ON, inputs)) == 1.0
    assert lit(bench, ShownPattern(Kind.OFF, inputs)) == 0.0
    which = data.draw(st.integers(0, inputs - 1))
    one = ShownPattern(Kind.ONE, inputs, which)
    np.testing.assert_array_equal(
        one.on(bench)[0], bench.layout(inputs).render(np.eye(inputs, dtype=np.uint8)[[which]])[0]
    )


def test_neighbours_differ_on_a_checkerboard(bench):
    pattern = ShownPattern(Kind.CHECKERBOARD, 64)
    mirrors = np.unpackbits(pattern.on(bench)[0], axis=1)
    layout = bench.layout(64)
    height, width = layout.macropixel
    board = mirrors[height // 2 :: height, width // 2 :: width][: layout.grid[0], : layout.grid[1]]
    assert (board[1:] != board[:-1]).all()
    assert (board[:, 1:] != board[:, :-1]).all()


def test_a_seed_is_a_random_pattern(bench):
    patterns = [ShownPattern(Kind.RANDOM, 256, seed).on(bench) for seed in (1, 1, 2)]
    assert (patterns[0] == patterns[1]).all()
    assert (patterns[0] != patterns[2]).any()
    assert 0.3 < lit(bench, ShownPattern(Kind.RANDOM, 256, 1)) < 0.7


def test_a_macropixel_that_is_not_there_is_refused(bench):
    with pytest.raises(PatternError, match="0 to 15"):
        ShownPattern(Kind.ONE, 16, 16).on(bench)
