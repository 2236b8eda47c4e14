"""One process owns a device at a time, and who else wants it is told who has it.

The lock is the operating system's: it ends with the process, however that ends, so a crash leaves
nothing to clean up. Who holds it stands in a file beside it, which is only read when the lock is
taken.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import platform
import sys
import tempfile
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from opu_driver.errors import DeviceBusyError, DeviceError


def default_folder() -> Path:
    """Where the locks lie: for all users of the machine, or of the folder for temporary files."""
    return Path(tempfile.gettempdir()) / "opu-locks"


class Ownership(AbstractContextManager["Ownership"]):
    """The right of this process to devices, while the `with` block lasts.

    Args:
        addresses: What the devices are known by to all processes, see `Device.address`.
        folder: Where the locks lie.

    Raises:
        DeviceBusyError: On entering: another process has one of them; the message names it.
    """

    def __init__(self, addresses: list[str], folder: Path | None = None) -> None:
        self._addresses = sorted(set(addresses))
        self._folder = folder or default_folder()
        self._held = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as taking:
            for address in self._addresses:
                taking.callback(self._taken(address).release)
            self._held = taking.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._held.close()

    def _taken(self, address: str) -> FileLock:
        name = hashlib.sha256(address.encode()).hexdigest()[:16]
        lock = FileLock(self._folder / f"{name}.lock", mode=0o666, timeout=0)
        owner = self._folder / f"{name}.owner"
        try:
            if not self._folder.is_dir():
                self._folder.mkdir(parents=True, exist_ok=True)
                self._folder.chmod(0o777)  # other users' processes lock here, too
            lock.acquire()
            owner.unlink(missing_ok=True)
            owner.write_text(json.dumps(_myself(address)), encoding="utf-8")
        except OSError as error:
            lock.release()
            if isinstance(error, Timeout):
                raise self._refusal(address, owner) from None
            raise DeviceError(
                f"{address} cannot be locked against other processes: {error}. Mend the rights of "
                f"{self._folder}, or delete it while no bench is open."
            ) from error
        return lock

    def _refusal(self, address: str, owner: Path) -> DeviceBusyError:
        return DeviceBusyError(
            f"{address} is in use by {_named(owner)}. Close the bench there, or end that process, "
            "and try again."
        )


def _myself(address: str) -> dict[str, str | int]:
    return {
        "address": address,
        "process": os.getpid(),
        "user": _user(),
        "host": platform.node(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200],
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user without a name
        return "a user without a name"


def _named(owner: Path) -> str:
    try:
        who = json.loads(owner.read_text(encoding="utf-8"))
        return (
            f"process {who['process']} of {who['user']} on {who['host']} since {who['since']} "
            f"({who['command']})"
        )
    except (OSError, ValueError, KeyError, TypeError):
        return "another process that has not said who it is"
