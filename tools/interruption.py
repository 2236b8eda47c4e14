"""How a command ends early: Ctrl-C, SIGTERM and a closed terminal all unwind it the same way."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
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
def advice(text: str, if_there: Path) -> Iterator[None]:
    """Add what to do next to whatever ends the block early, if it has left a file behind.

    Wrong input has left nothing behind: a file that was there before is not advised on then.
    """
    was_there = if_there.exists()
    try:
        yield
    except BaseException as error:
        from opu_driver.errors import InputError
        from training.errors import TrainingInputError

        refused = was_there and isinstance(error, (InputError, TrainingInputError))
        if if_there.exists() and not refused:
            error.add_note(text)
        raise
