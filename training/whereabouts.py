"""Where the processes of a team run, and which of them are gone, as far as one machine can tell."""

from __future__ import annotations

import os
import platform
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

_CONNECTIONS_CLOSE_BEFORE_S = 1.0
"""How much earlier than the process itself its connections may end."""


@dataclass(frozen=True)
class Whereabouts:
    """Where a process runs.

    Attributes:
        machine: Its name and hardware address.
        pid: The process there.
    """

    machine: str
    pid: int

    @classmethod
    def own(cls) -> Whereabouts:
        """Of this process."""
        return cls(f"{platform.node()} {uuid.getnode():012x}", os.getpid())

    def gone(self) -> bool:
        """Whether the process runs no more; of one on another machine that is not known."""
        if self.machine != Whereabouts.own().machine:
            return False
        try:
            status = psutil.Process(self.pid).status()
        except psutil.NoSuchProcess:
            return True
        return status in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD, psutil.STATUS_STOPPED)


def ranks_gone(everyone: Sequence[Whereabouts]) -> list[int]:
    """Who is gone, now that a connection has ended; empty where this machine cannot tell."""
    until = time.monotonic() + _CONNECTIONS_CLOSE_BEFORE_S
    while True:
        gone = [rank for rank, where in enumerate(everyone) if where.gone()]
        if gone or time.monotonic() > until:
            return gone
        time.sleep(0.01)
