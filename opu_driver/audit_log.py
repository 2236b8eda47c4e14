"""The audit log of a laser: every command that touches the light, with its time."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from platformdirs import user_log_path


def default_path() -> Path:
    r"""Where the lasers of bench files are logged: one file for this user.

    On Linux `~/.local/state/opu/log`, on Windows `%LOCALAPPDATA%\opu\Logs`, on macOS
    `~/Library/Logs/opu`; a bench file cannot name another.
    """
    return user_log_path("opu", appauthor=False) / "laser-audit.jsonl"


class AuditLog:
    """Lines of JSON, appended one by one; each is on its way to the disk when `write` returns.

    Args:
        path: The file; None to keep nothing.
        **always: What each line says.
    """

    def __init__(self, path: Path | None, **always: str | float) -> None:
        self._path = path
        self._always = always
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)

    def of(self, laser: str) -> Self:
        """The same log, whose lines say which laser they are about."""
        return type(self)(self._path, **{**self._always, "laser": laser})

    def write(self, what: str, **more: str | float) -> None:
        """Add a line: the time (UTC), the process, what happened, and its particulars.

        Raises:
            OSError: It cannot be written.
        """
        if self._path is None:
            return
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "process": os.getpid(),
            **self._always,
            "what": what,
            **more,
        }
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
