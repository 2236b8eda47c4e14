"""One process writes the folder of a run at a time, and who else wants to is told who does.

The lock is the operating system's: it ends with the process, however that ends, so a run that was
killed leaves nothing to clean up. Who holds it stands in a file beside it, which is only read where
the lock is taken.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from training.errors import CheckpointError, FolderBusyError
from training.whereabouts import Whereabouts

LOCK, OWNER = "run.lock", "run.owner"


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """The right of this process to write a run's folder, while the block lasts.

    Raises:
        FolderBusyError: Another process has it, or another run of this one; the message names it.
        CheckpointError: The folder cannot be locked.
    """
    lock = FileLock(folder / LOCK, timeout=0, thread_local=False)
    owner = folder / OWNER
    try:
        lock.acquire()
        owner.write_text(json.dumps(_myself()), encoding="utf-8")
    except Timeout:
        raise FolderBusyError(
            f"{folder} is the folder of a run that goes on in {_named(owner)}. Wait for it, or end "
            "that process and resume its run, or choose another folder."
        ) from None
    except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
        lock.release()
        raise CheckpointError(
            f"Run folder {folder} cannot be locked: {error}. Mend its rights, or choose another."
        ) from error
    try:
        yield
    finally:
        with suppress(OSError):  # on Windows, whoever reads it keeps it there
            owner.unlink()
        lock.release()


def _myself() -> dict[str, str | int]:
    own = Whereabouts.own()
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return {"process": own.pid, "machine": own.machine, "since": since}


def _named(owner: Path) -> str:
    try:
        who = json.loads(owner.read_text(encoding="utf-8"))
        return f"process {who['process']} on {who['machine']} since {who['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process that has not said who it is"
