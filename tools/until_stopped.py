"""Work without an end of its own: Ctrl-C ends it well, a second Ctrl-C at once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def until_stopped() -> Iterator[Callable[[], bool]]:
    """Heed Ctrl-C only where the block asks whether the user has said that it is enough."""
    enough = False
    before = signal.getsignal(signal.SIGINT)

    def heard(_number: int, _frame: FrameType | None) -> None:
        nonlocal enough
        enough = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, heard)
    try:
        yield lambda: enough
    finally:
        signal.signal(signal.SIGINT, before)
