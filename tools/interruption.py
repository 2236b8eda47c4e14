"""How a command ends early: Ctrl-C, SIGTERM and a closed terminal all unwind it the same way."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn


class InterruptError(BaseException):
    """The user or the system asked the command to end.

    It passes every `except Exception`, so that all `with` blocks on the way close: the laser goes
    dark and temporary files go away.
    """


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn the signals that end a process into `InterruptError` while the block runs.

    Python ignores what is raised in a destructor or a callback from C (HDF5 has many); an interrupt
    that was lost there is raised again a moment later, or else at the end of the block.
    """
    heard: list[str] = []
    again: list[threading.Timer] = []
    ignored_before = sys.unraisablehook

    def ignored(lost: sys.UnraisableHookArgs) -> None:
        if not isinstance(lost.exc_value, InterruptError):
            ignored_before(lost)
            return
        timer = threading.Timer(0.02, signal.raise_signal, [signal.Signals[heard[-1]]])
        timer.daemon = True
        again.append(timer)
        timer.start()

    def interrupt(number: int, _frame: FrameType | None) -> NoReturn:
        heard.append(signal.Signals(number).name)
        raise InterruptError(heard[-1])

    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    numbers = [getattr(signal, name) for name in names]
    before = {number: signal.getsignal(number) for number in numbers}
    heeded = [number for number in numbers if before[number] is not signal.SIG_IGN]
    for number in heeded:
        signal.signal(number, interrupt)
    sys.unraisablehook = ignored
    try:
        yield
    except SystemExit:  # how a command ends that believes it was not interrupted
        if not heard:
            raise
    finally:
        for timer in again:
            timer.cancel()
            timer.join()
        sys.unraisablehook = ignored_before
        for number in heeded:
            signal.signal(number, before[number])
    if heard:
        raise InterruptError(heard[0])


@contextmanager
def advice(
    text: str, if_there: Path, instead: Mapping[type[Exception], str] | None = None
) -> Iterator[None]:
    """Add what to do next to whatever ends the block early, if it has left a file behind.

    Wrong input and another bench have left nothing behind: a file that was there before is not
    advised on then.

    Args:
        text: The advice.
        if_there: The file.
        instead: Another advice for some errors.
    """
    was_there = if_there.exists()
    try:
        yield
    except BaseException as error:
        from calibration.errors import DecorrelationError, StaleCalibrationError
        from opu_driver.errors import InputError
        from training.errors import TrainingInputError

        wrong = isinstance(error, (InputError, TrainingInputError, StaleCalibrationError))
        # The medium of the very bench has changed: something was done until then.
        refused = was_there and wrong and not isinstance(error, DecorrelationError)
        if if_there.exists() and not refused:
            others = (instead or {}).items()
            error.add_note(next((told for kind, told in others if isinstance(error, kind)), text))
        raise
