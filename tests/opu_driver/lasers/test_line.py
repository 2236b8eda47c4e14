"""The conversation in lines, without any port."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opu_driver.errors import DeviceLostError, OpuError
from opu_driver.laser import Laser
from opu_driver.lasers.cobolt import Cobolt
from opu_driver.lasers.line import Line, insist_on_darkness, number
from opu_driver.lasers.obis import Obis
from opu_driver.lasers.serial_line import SerialLine


class ScriptedLine(Line):
    """Answers whatever is asked with what comes next."""

    def __init__(self, answers: Iterable[bytes]) -> None:
        super().__init__("scripted line", 0.01)
        self._answers = iter(answers)
        self._buffer = b""
        self.said: list[str] = []

    @property
    def _failures(self) -> tuple[type[BaseException], ...]:
        return (OSError,)

    def _connect(self) -> None:
        pass

    def _disconnect(self) -> None:
        pass

    def _send(self, command: str) -> None:
        self.said.append(command)
        self._buffer += next(self._answers, b"")

    def _waiting(self) -> bool:
        return bool(self._buffer)

    def _receive(self, timeout_s: float) -> bytes:
        line, newline, rest = self._buffer.partition(b"\n")
        self._buffer = rest
        return line + newline


class Interrupted:
    """A port whose reader did not run for a while: its time was up in the middle of a line."""

    timeout = 0.5

    def __init__(self, *parts: bytes) -> None:
        self._parts = list(parts)

    @property
    def in_waiting(self) -> int:
        return len(self._parts[0]) if self._parts else 0

    def write(self, data: bytes) -> None:
        pass

    def read_until(self, ending: bytes, size: int) -> bytes:
        return self._parts.pop(0) if self._parts else b""


@pytest.mark.parametrize("parts", [(b"1\r\n",), (b"1", b"\r\n"), (b"", b"1\r", b"\n")])
def test_what_came_while_nobody_could_read_has_come_in_time(parts):
    line = SerialLine("COM9", 115200, "\r", 0.5)
    line._port = Interrupted(*parts)
    line._require_silence = lambda when: None
    assert line.ask("l?") == ["1"]


def test_half_a_line_is_told():
    line = SerialLine("COM9", 115200, "\r", 0.5)
    line._port = Interrupted(b"1")
    line._require_silence = lambda when: None
    with pytest.raises(DeviceLostError, match="only b'1' came back"):
        line.ask("l?")


def test_a_line_comes_back_without_its_ending():
    assert ScriptedLine([b"12.5 \r\n"]).ask("p?") == ["12.5"]


def test_an_answer_may_have_several_lines():
    line = ScriptedLine([b"CWP\r\nOK\r\n", b"OK\r\n"])
    assert line.ask("mode?", lambda text: text == "OK") == ["CWP", "OK"]
    assert line.ask("on", lambda text: text == "OK") == ["OK"]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"", "nothing"),
        (b"12.", "only b'12.'"),
        (b"1\r\n1\r\n", "doubled"),
        (b"\xfe1\r\n", "noise"),
        (b"\x001\r\n", "noise"),
    ],
)
def test_what_is_wrong_with_an_answer_is_told_and_the_next_one_is_well(answer, told):
    line = ScriptedLine([answer, b"7\r\n"])
    with pytest.raises(DeviceLostError, match=told):
        line.ask("p?")
    assert line.ask("q?") == ["7"]


def test_what_comes_unasked_is_not_taken_for_an_answer():
    line = ScriptedLine([b"1\r\n", b"2\r\n"])
    line._buffer = b"OK\r\n"
    with pytest.raises(DeviceLostError, match="asked for"):
        line.ask("p?")
    assert line.said == []
    assert line.ask("p?") == ["1"]


def test_a_failing_port_is_lost():
    def fail():
        yield b"1\r\n"
        raise OSError(5, "Input/output error")

    line = ScriptedLine(fail())
    assert line.ask("p?") == ["1"]
    with pytest.raises(DeviceLostError, match="Input/output error"):
        line.ask("p?")


@pytest.mark.parametrize("answer", ["nan", "inf", "", "1,0", "OK"])
def test_what_is_no_number_is_refused(answer):
    with pytest.raises(DeviceLostError, match="a number"):
        number(ScriptedLine([]), "p?", answer)


def test_darkness_is_said_again_to_a_line_that_cannot_be_understood():
    line = ScriptedLine([b"\xff", b"\xff"] * 3)
    with pytest.raises(DeviceLostError, match="may still emit"):
        insist_on_darkness(line, "l0", lambda: line.ask("l0") == ["OK"])
    assert line.said.count("l0") >= 6


def test_a_laser_may_take_a_moment_to_fade():
    answers = iter([False, False, True])
    insist_on_darkness(ScriptedLine([]), "l0", lambda: next(answers))
    assert next(answers, None) is None


def test_a_laser_that_goes_on_to_emit_is_given_up():
    with pytest.raises(DeviceLostError, match="It says that it emits"):
        insist_on_darkness(ScriptedLine([]), "l0", lambda: False)


def test_a_line_that_never_stops_is_not_listened_to_for_ever():
    line = ScriptedLine([])
    line._receive = lambda timeout_s: b"noise"
    with pytest.raises(DeviceLostError, match="stop sending"):
        line.tell("l0")
    assert line.said == ["l0"]


_PLAUSIBLE = [
    *[b"OK", b"0", b"1", b"0.0100", b"0532-06-91-0100-700", b"Syntax error: illegal command"],
    *[b"CWP\r\nOK", b"ON\r\nOK", b"OFF\r\nOK", b"00000000\r\nOK", b"ERR-100"],
]
_LINES = st.sampled_from([line + b"\r\n" for line in _PLAUSIBLE])


@given(st.lists(_LINES | st.binary(max_size=12), max_size=40), st.sampled_from([Cobolt, Obis]))
def test_whatever_comes_is_an_error_of_ours_or_an_open_laser(answers, driver: type[Laser]):
    laser = driver("anywhere")
    laser._line = ScriptedLine(answers)
    try:
        laser.open()
        laser.set_power_mw(1.0)
        _ = laser.status
        laser.close()
    except OpuError:
        pass
    assert laser._line.said[:1] in (["l0"], ["SYST:COMM:HAND ON"])
