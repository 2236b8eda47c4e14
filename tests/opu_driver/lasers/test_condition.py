"""What an answer means, in the words of a bench file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opu_driver.errors import SettingError
from opu_driver.lasers.condition import Condition


@pytest.mark.parametrize(
    ("words", "meets", "fails"),
    [
        ("ON", ["ON", "on"], ["OFF", "", "1"]),
        ("1|ON", ["1", "+1", "1.0", "on"], ["0", "OFF", "11"]),
        ("not 0", ["1", "fault"], ["0", "+0", "0.00"]),
        ("0", ['0,"No error"', "+0"], ['-113,"Undefined header"', "10"]),
        ("bit 3", ["8", "15"], ["7", "16"]),
        ("not bit 2", ["3", "0"], ["4", "7"]),
        ("hex bit 31", ["C8001002"], ["00000001"]),
    ],
)
def test_conditions(words, meets, fails):
    condition = Condition.parse(words, "key_on_if")
    assert all(condition.holds(answer) for answer in meets)
    assert not any(condition.holds(answer) for answer in fails)


@pytest.mark.parametrize("words", ["", "ON|", "bit", "bit x", "hex 3", "not ", "bit 3 set"])
def test_words_that_make_no_condition_are_refused_by_key(words):
    with pytest.raises(SettingError, match="warm_if"):
        Condition.parse(words, "warm_if")


def test_bits_are_of_integers():
    with pytest.raises(ValueError, match="ON"):
        Condition.parse("bit 1", "key_on_if").holds("ON")


@given(st.integers(0, 2**32 - 1), st.integers(0, 31))
def test_not_turns_round_and_bases_agree(word, bit):
    condition = Condition.parse(f"bit {bit}", "key")
    assert condition.holds(str(word)) is bool(word & 1 << bit)
    assert condition.holds(str(word)) is not Condition.parse(f"not bit {bit}", "k").holds(str(word))
    assert condition.holds(str(word)) is Condition.parse(f"hex bit {bit}", "k").holds(f"{word:X}")
