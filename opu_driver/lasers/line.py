"""One line of text out, one or more lines back: how lasers are spoken to.

A line of text carries no number, so nothing in it tells which question an answer belongs to. What
guards against answers that have slipped: nothing may be waiting when a question is sent, nothing
may be left when its answer has been read, and after any failure the line is emptied before it is
used again. Drivers add the last guard: they end a status with a question whose answer they know.

Whatever goes wrong here is one error, `DeviceLostError`: the port is gone, nothing comes back, or
what comes back cannot be understood. What the device itself refuses is for its driver to tell.
"""

from __future__ import annotations

import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from opu_driver.errors import DeviceError, DeviceLostError

_QUIET_S = 0.2
"""A line on which nothing came for so long is empty."""

_INSISTENCE = 3
"""How often a laser that does not answer well is told to be dark before it is given up."""

_FADING_S = 1.0
"""How long a laser that was told to be dark may go on to say that it emits."""


def _one_line(line: str) -> bool:
    del line
    return True


class Line(ABC):
    """A conversation in lines of ASCII text, safe to use from several threads.

    Args:
        name: What it is called in messages, such as `serial port COM3`.
        timeout_s: How long one line of an answer may take, seconds.
        spacing_s: Pause that the device needs after an answer, seconds.
    """

    def __init__(self, name: str, timeout_s: float, spacing_s: float = 0.0) -> None:
        self.name = name
        self._timeout_s = timeout_s
        self._spacing_s = spacing_s
        self._lock = threading.RLock()
        self._in_step = True
        self._last_answer = -spacing_s

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def open(self) -> None:
        """Take hold of the port.

        Raises:
            DeviceNotFoundError: There is no such port.
            DeviceBusyError: Somebody else holds it.
            DriverMissingError: The library behind it is not installed.
        """
        with self._lock:
            try:
                self._connect()
            except BaseException:
                self._disconnect()
                raise
            self._in_step = True

    def close(self) -> None:
        """Let go of the port; harmless when it is gone or was never open."""
        with self._lock:
            self._disconnect()

    def ask(self, command: str, last: Callable[[str], bool] = _one_line) -> list[str]:
        """Send a command and read its answer.

        Args:
            command: Text without its ending.
            last: Tells the last line of the answer; the first one if left out.

        Returns:
            The lines, without their endings.

        Raises:
            DeviceLostError: The port is gone, the answer is late, broken or not ASCII, or there is
                more on the line than was asked for.
        """
        with self._lock:
            try:
                self._begin()
                self._send(command)
                answer = [self._line(command)]
                while not last(answer[-1]):
                    answer.append(self._line(command))
                self._require_silence(f"after the answer {answer[-1]!r} to {command!r}")
            except self._failures as error:
                raise self._lost(f"it failed at {command!r} ({error})") from error
            except BaseException:
                self._in_step = False  # whatever interrupted it, its answer may be on its way
                raise
            self._last_answer = time.monotonic()
            return answer

    def say(self, command: str) -> None:
        """Send a command that has no answer.

        Raises:
            DeviceLostError: The port is gone, or there is something on the line.
        """
        with self._lock:
            try:
                self._begin()
                self._send(command)
            except self._failures as error:
                raise self._lost(f"it failed at {command!r} ({error})") from error

    def tell(self, command: str) -> None:
        """Send a command, and throw away whatever comes back until the line is quiet.

        For the first words to a device whose way of answering is not known yet.

        Raises:
            DeviceLostError: The port is gone, or the line does not become quiet.
        """
        with self._lock:
            self.shout(command)
            try:
                self._begin()
            except self._failures as error:
                raise self._lost(f"it failed after {command!r} ({error})") from error

    def shout(self, command: str) -> None:
        """Send a command at once, whatever is on the line, and do not listen.

        Raises:
            DeviceLostError: The port is gone.
        """
        with self._lock:
            self._in_step = False
            try:
                self._send(command)
            except self._failures as error:
                raise self._lost(f"it failed at {command!r} ({error})") from error

    def misunderstood(self, answer: object, question: str, expected: str) -> DeviceLostError:
        """The error for an answer that makes no sense; the line is emptied before it is used again.

        Args:
            answer: What came.
            question: What it came to.
            expected: What should have come.
        """
        return self._lost(f"{answer!r} came back to {question!r} instead of {expected}")

    def _begin(self) -> None:
        """Make sure that the next line to come is the answer to the next command."""
        pause = self._last_answer + self._spacing_s - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        if self._in_step:
            self._require_silence("without having been asked for")
            return
        end = time.monotonic() + self._timeout_s + _QUIET_S
        while self._receive(_QUIET_S):
            if time.monotonic() > end:
                raise self._lost("it does not stop sending")
        self._in_step = True

    def _require_silence(self, when: str) -> None:
        if self._waiting():
            extra = self._receive(_QUIET_S)
            raise self._lost(f"{extra!r} came {when}; an answer was doubled or came too late")

    def _line(self, command: str) -> str:
        raw = self._receive(self._timeout_s)
        if not raw.endswith(b"\n"):
            what = f"only {raw!r}" if raw else "nothing"
            raise self._lost(
                f"{what} came back to {command!r} within {self._timeout_s * 1e3:.0f} ms"
            )
        text = raw.rstrip(b"\r\n")
        if not text.isascii() or not text.decode("ascii").isprintable():
            raise self._lost(f"{raw!r} came back to {command!r}, which is noise")
        return text.decode("ascii").strip()

    def _lost(self, what: str) -> DeviceLostError:
        self._in_step = False
        return DeviceLostError(
            f"The {self.name} cannot be relied on: {what}. Check cable, power and the settings of "
            "the port, then close and open the laser."
        )

    @property
    @abstractmethod
    def _failures(self) -> tuple[type[BaseException], ...]:
        """What the library behind the port raises when it is gone."""

    @abstractmethod
    def _connect(self) -> None: ...

    @abstractmethod
    def _disconnect(self) -> None: ...

    @abstractmethod
    def _send(self, command: str) -> None: ...

    @abstractmethod
    def _waiting(self) -> bool:
        """Whether something has come that was not read."""

    @abstractmethod
    def _receive(self, timeout_s: float) -> bytes:
        """A line with its ending; what there is of it when the time is up."""


def number(line: Line, question: str, answer: str) -> float:
    """The finite number that an answer is.

    Raises:
        DeviceLostError: It is none.
    """
    try:
        value = float(answer)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise line.misunderstood(answer, question, "a number")
    return value


@contextmanager
def dark_unless_done(darken: Callable[[], None]) -> Iterator[None]:
    """Whatever was to be done to the light: if it fails, nobody knows what was, and it goes off."""
    try:
        yield
    except BaseException:
        darken()
        raise


def insist_on_darkness(line: Line, off: str, darken: Callable[[], bool]) -> None:
    """Turn a laser off until it confirms that it is.

    Saying it again is always safe; only here is anything said twice, and said to a line that
    cannot be understood.

    Args:
        line: The line to the laser.
        off: The command that turns emission off.
        darken: Sends it and returns whether the laser says that it is dark.

    Raises:
        DeviceLostError: It never confirmed; it may still emit.
    """
    cause: DeviceError | None = None
    end = time.monotonic() + _FADING_S
    failures = 0
    while failures < _INSISTENCE:
        try:
            if darken():
                return
            cause = None
            if time.monotonic() > end:
                break
            time.sleep(_FADING_S / 20)
        except DeviceError as error:
            cause = error
            failures += 1
            try:
                line.shout(off)
            except DeviceLostError:
                break  # there is nothing left to say it to
    raise DeviceLostError(
        f"The laser on the {line.name} does not confirm that it is dark and may still emit: turn "
        f"its key off or open its interlock. {cause or 'It says that it emits.'}"
    ) from cause
