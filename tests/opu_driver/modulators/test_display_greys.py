"""Levels -> grey values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opu_driver.errors import SettingError
from opu_driver.modulators.grey_levels import phase_greys, read_greys


def test_256_levels_are_their_own_grey_values():
    assert phase_greys(256, 256.0, 1.0) == list(range(256))


@given(levels=st.integers(2, 256), levels_per_2pi=st.floats(64, 255), gamma=st.floats(0.5, 3.0))
def test_the_display_turns_greys_back_into_their_phases(levels, levels_per_2pi, gamma):
    greys = np.array(phase_greys(levels, levels_per_2pi, gamma))
    exact = levels_per_2pi * (np.arange(levels) / levels) ** (1 / gamma)
    assert np.abs(greys - exact).max() <= 0.5
    assert (np.diff(greys) >= 0).all()


def test_phases_beyond_white_are_refused():
    with pytest.raises(SettingError, match="grey value 280"):
        phase_greys(4, 373.0, 1.0)


@pytest.mark.parametrize(
    "line", ["{grey}", "{level} {grey}", "{level};{grey}", "{level}, {grey} # x"]
)
def test_tables_of_all_kinds_are_read(tmp_path, line):
    table = tmp_path / "table.txt"
    lines = [line.format(level=k, grey=200 - k) for k in range(16)]
    table.write_text("\n".join(["# a comment", "", *lines]))
    assert read_greys(table, 16) == [200 - k for k in range(16)]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1\n2\n3\n", "3 entries"),
        ("1\n2\n3\n65535\n", "0 to 255"),
        ("1\n2\n3\n-1\n", "0 to 255"),
        ("0 1\n1 2\n3 3\n2 4\n", "count"),
        ("0 1 1\n1 2 2\n2 3 3\n3 4 4\n", "one or two"),
        ("0.5\n1\n2\n3\n", "whole numbers"),
        ("", "0 entries"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path, text, why):
    table = tmp_path / "table.txt"
    table.write_text(text)
    with pytest.raises(SettingError, match=why):
        read_greys(table, 4)
