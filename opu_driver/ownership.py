"""One process owns a device at a time, and who else wants it is told who has it.

The lock is the operating system's: it ends with the process, however that ends, so a crash leaves
nothing to clean up. Who holds it stands in a file beside it, which is only read when the lock is
taken.

All users of a machine share one folder of locks, since a device is no user's own. Nobody removes
files there: where a folder is sticky, only their owners may, and a lock whose file has been removed
and made again is two locks. (Nor does Linux let anybody open another's file there with O_CREAT:
kernel documentation, sysctl/fs, protected_regular.)
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import platform
import subprocess
import sys
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from opu_driver.errors import DeviceBusyError, DeviceError

_MACHINE_WIDE = {
    "win32": Path(os.environ.get("PROGRAMDATA", r"C:\ProgramData"), "opu-locks"),
    "darwin": Path("/Users/Shared/opu-locks"),  # its /tmp is swept while locks are held
}
_OPEN_TO_ALL = 0o666
_STICKY = 0o1777


def default_folder() -> Path:
    r"""Where the locks lie, for all users of the machine and whatever their `TMPDIR`.

    `/tmp/opu-locks`; on Windows `%PROGRAMDATA%\opu-locks`, on macOS `/Users/Shared/opu-locks`. The
    environment variable `OPU_LOCKS` names another folder, which has to be the same for all who
    share a bench.
    """
    named = os.environ.get("OPU_LOCKS")
    return Path(named) if named else _MACHINE_WIDE.get(sys.platform, Path("/tmp/opu-locks"))


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
        lock = FileLock(self._folder / f"{name}.lock", mode=_OPEN_TO_ALL, timeout=0)
        owner = self._folder / f"{name}.owner"
        try:
            _make_for_all(self._folder)
            lock.acquire()
            _overwrite(owner, json.dumps(_myself(address)))
        except (OSError, subprocess.SubprocessError) as error:
            lock.release()
            if isinstance(error, Timeout):
                raise self._refusal(address, owner) from None
            raise DeviceError(
                f"{address} cannot be locked against other processes: {error}. Mend the rights of "
                f"{self._folder}, or delete it while no bench is open; OPU_LOCKS names another."
            ) from error
        return lock

    def _refusal(self, address: str, owner: Path) -> DeviceBusyError:
        return DeviceBusyError(
            f"{address} is in use by {_named(owner)}. Close the bench there, or end that process, "
            "and try again."
        )


def _make_for_all(folder: Path) -> None:
    """Make the folder, unless it is there, so that every user can lock in it."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return
    if sys.platform == "win32":  # there, rights are lists that folders hand down to their files
        users_may_modify = "*S-1-5-32-545:(OI)(CI)M"
        subprocess.run(
            ["icacls", str(folder), "/grant", users_may_modify], check=True, capture_output=True
        )
    else:
        folder.chmod(_STICKY)


def _overwrite(owner: Path, text: str) -> None:
    """Write a file that may be another user's."""
    try:
        file = os.open(owner, os.O_WRONLY | os.O_TRUNC)
    except FileNotFoundError:
        file = os.open(owner, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        owner.chmod(_OPEN_TO_ALL)  # whatever this user's umask
    with os.fdopen(file, "w", encoding="utf-8") as opened:
        opened.write(text)


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
