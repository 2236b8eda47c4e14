"""Work without an end of its own: Ctrl-C ends it well, a second Ctrl-C at once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class StoppedError(Exception):
    """The user has said that it is enough."""


@contextmanager
def until_stopped() -> Iterator[Callable[[], None]]:
    """Heed Ctrl-C only where the block calls what it is given; that raises `StoppedError`.

    The block ends there, without an error.
    """
    asked = False
    before = signal.getsignal(signal.SIGINT)

    def ask(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, before)

    def stop() -> None:
        if asked:
            raise StoppedError

    signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    except StoppedError:
        return
    finally:
        signal.signal(signal.SIGINT, before)
