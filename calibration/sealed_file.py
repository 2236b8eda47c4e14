"""Files that are there whole or not at all, and are not believed when they are read.

On disk such a file is HDF5 behind a user block of 512 bytes, whose one line of text names the kind
of file, its schema and the SHA-256 of all that follows: a damaged file is recognised before it is
parsed. It is written aside, to a name with a leading dot, synced, and given its name in one step.
What a killed writer has left aside is deleted by the next one in the same folder: a writer holds a
lock on what it writes, which the system takes back from the dead.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from calibration.errors import CalibrationFileError

if sys.platform != "win32":
    import fcntl

Content = TypeVar("Content")
Number = TypeVar("Number", bound=np.generic)

USER_BLOCK = 512
"""Bytes before the HDF5 content."""

_BLOCK_BYTES = 1 << 26  # of a matrix that are looked at at a time
_IN_MEMORY_BYTES = 1 << 30  # a larger array stays in its file, and is mapped
_SETTLED_S = 60.0  # what was written to since then may belong to somebody who has no lock yet

_UNREADABLE = (OSError, KeyError, TypeError, ValueError, RuntimeError, OverflowError)
"""What h5py raises on content that it cannot make sense of, and our own checks."""

_ASIDE = re.compile(r"\..+\.[0-9a-f]{32}")
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_NO_SYNC = (errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EOPNOTSUPP)


@dataclass(frozen=True)
class SealedFormat:
    """One kind of sealed file.

    Attributes:
        magic: First word of the file.
        what: What is in it, in the words of messages.
        schema: The one that is written.
        readable: Those that are read.
        maker: What makes such a file.
    """

    magic: str
    what: str
    schema: int
    readable: tuple[int, ...]
    maker: str

    def save(self, path: Path, fill: Callable[[h5py.File], None]) -> Path:
        """Write a file; it is there whole or not at all.

        Whatever happens on the way, a full disk or a killed process, no file of that name appears
        or changes; of two who write to one name at the same time, one is refused.

        Raises:
            CalibrationFileError: The file exists already, or cannot be written.
        """
        refuse_existing(path)
        try:
            with written_aside(path) as aside:
                self._write(aside, fill)
                publish(aside, path)
        except OSError as error:
            raise CalibrationFileError(
                f"The {self.what} cannot be written to {path}: {error}. Name a folder that exists, "
                "that you may write to, and that has room."
            ) from error
        return path

    def load(self, path: Path, read: Callable[[h5py.File, Path, int], Content]) -> Content:
        """What `read` makes of the open file, its path and its schema.

        Raises:
            CalibrationFileError: The file is missing, damaged, truncated, of another schema, or of
                another kind; the message says which, and what was expected.
        """
        schema = self._verify(path)
        try:
            with h5py.File(path, "r") as file:
                return read(file, path, schema)
        except _UNREADABLE as error:
            raise CalibrationFileError(
                f"{path} is intact but does not hold what schema {schema} asks for: "
                f"{error}. It was written by other software."
            ) from error

    def recognises(self, path: Path) -> bool:
        """Whether a file's first word is that of this kind."""
        try:
            with path.open("rb") as file:
                return file.read(USER_BLOCK).startswith(f"{self.magic} ".encode())
        except OSError:
            return False

    def _write(self, path: Path, fill: Callable[[h5py.File], None]) -> None:
        with (
            PatientFile(path) as storage,
            h5py.File(
                path, "w", driver="fileobj", fileobj=storage, userblock_size=USER_BLOCK
            ) as file,
        ):
            fill(file)
        digest = _digest(path)
        with path.open("r+b") as block:
            block.write(self._seal(self.schema, digest))
            block.flush()
            os.fsync(block.fileno())

    def _seal(self, schema: int, digest: str) -> bytes:
        line = f"{self.magic} schema {schema} sha256 {digest}\n".encode()
        return line.ljust(USER_BLOCK, b"\0")

    def _verify(self, path: Path) -> int:
        """The schema of a file that is what was written.

        Raises:
            CalibrationFileError: It is not, or cannot be read.
        """
        try:
            with path.open("rb") as file:
                seal = file.read(USER_BLOCK)
            digest = _digest(path)
        except OSError as error:
            raise CalibrationFileError(
                f"The {self.what} {path} cannot be read: {error.strerror}. {self.maker} makes one."
            ) from error
        words = seal.rstrip(b"\0").split()
        if len(words) != 5 or words[0] != self.magic.encode():
            raise CalibrationFileError(
                f"{path} is no {self.what}: it does not begin with '{self.magic} schema ...'. "
                f"Name a file that {self.maker} has written."
            )
        schemas = {b"%d" % schema: schema for schema in self.readable}
        if words[2] not in schemas:
            readable = " and ".join(map(str, self.readable))
            raise CalibrationFileError(
                f"{path} has schema {words[2].decode(errors='replace')}; this software reads "
                f"schemas {readable}. Calibrate again, or use the software that has written it."
            )
        schema = schemas[words[2]]
        if seal != self._seal(schema, digest):
            raise CalibrationFileError(
                f"{path} is damaged or truncated: its content has the SHA-256 {digest}, it was "
                f"written with {words[4].decode(errors='replace')}. Restore it from a copy, or "
                "calibrate again."
            )
        return schema


def header(file: h5py.File) -> str:
    """The text that describes what is in a file.

    Raises:
        ValueError: It is no text.
    """
    text = file.attrs["header"]
    if not isinstance(text, str):
        raise ValueError(f"the header is {type(text).__name__}, no text")
    return text


def blocks(matrix: NDArray[Number]) -> Iterator[NDArray[Number]]:
    """A matrix by rows, some at a time: it may be one that does not fit into memory."""
    step = max(1, _BLOCK_BYTES // max(1, matrix[:1].nbytes))
    for first in range(0, len(matrix), step):
        yield matrix[first : first + step]


def array(
    file: h5py.File,
    path: Path,
    name: str,
    dtype: np.dtype[Any],
    shape: tuple[int | None, ...],
    *,
    finite: bool = True,
) -> NDArray[Any]:
    """One array of a file, of the kind and shape it has to be; a large one is mapped.

    Args:
        file: The open file.
        path: Where it lies.
        name: Of the array.
        dtype: What it has to be.
        shape: Likewise; None for any length.
        finite: Whether its values have to be.

    Raises:
        ValueError: It is missing, or another.
    """
    part = file.get(name) if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
    if not isinstance(part, h5py.Dataset):
        raise ValueError(f"it has no {name}")
    fits = len(part.shape) == len(shape) and all(
        wanted in (None, there) for wanted, there in zip(shape, part.shape, strict=True)
    )
    if part.dtype != dtype or not fits:
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(f"{name} is {part.dtype} {list(part.shape)}, no {dtype} [{wanted}]")
    place = part.id.get_offset()
    if part.size and (place is None or place + part.nbytes > path.stat().st_size):
        raise ValueError(f"{name} does not lie in one piece")
    values: NDArray[Any]
    if part.nbytes > _IN_MEMORY_BYTES:
        values = np.memmap(path, dtype, "r", place, part.shape)
    else:
        values = part[...]
    if finite and not all(np.isfinite(rows).all() for rows in blocks(values)):
        raise ValueError(f"{name} has values that are not finite")
    return values


def moment(content: dict[str, Any], name: str) -> str:
    """A time with its zone, as ISO 8601 text.

    Raises:
        ValueError: There is none of this name.
    """
    text = content.get(name)
    if not isinstance(text, str):
        raise ValueError(f"it has no {name}")
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError(f"{name} = {text!r} has no time zone")
    return text


def refuse_existing(path: Path) -> None:
    """Raise if there is a file already: a calibration is never overwritten.

    Raises:
        CalibrationFileError: There is.
    """
    if path.exists():
        raise CalibrationFileError(
            f"{path} exists already, and a calibration is never overwritten. Name another file, "
            "or move this one away."
        )


class PatientFile:
    """A file whose errors wait until they are asked for, or it is closed; then the first is raised.

    HDF5 does not survive a disk that is full: it ends the process when it closes what it could not
    write. So it is told that all went well, and what it has written is not believed.

    Args:
        path: Where it lies.
        mode: "w+b" for a new file, "r+b" for one that there is.
    """

    def __init__(self, path: Path, mode: Literal["w+b", "r+b"] = "w+b") -> None:
        self._file = path.open(mode)
        self._error: OSError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._try(self._file.close)
        self.check()

    def check(self) -> None:
        """Raise the first error that there has been.

        Raises:
            OSError: Something could not be written or read.
        """
        if self._error is not None:
            raise self._error

    def fileno(self) -> int:
        """Its number, for the system."""
        return self._file.fileno()

    def write(self, content: memoryview) -> int:
        """Write all of it, as far as HDF5 is told; likewise below."""
        self._try(lambda: self._file.write(content))
        return len(content)

    def readinto(self, room: memoryview) -> int:
        """Fill the room."""
        self._try(lambda: self._file.readinto(room))
        return len(room)

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place; returns it."""
        return self._try(lambda: self._file.seek(place, whence)) or 0

    def tell(self) -> int:
        """The place."""
        return self._try(self._file.tell) or 0

    def truncate(self, size: int) -> int:
        """Give it this size."""
        self._try(lambda: self._file.truncate(size))
        return size

    def flush(self) -> None:
        """Hand everything to the system."""
        self._try(self._file.flush)

    def _try(self, act: Callable[[], int | None]) -> int | None:
        try:
            return act()
        except OSError as error:
            self._error = self._error or error
            return None


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A temporary file in the same folder, gone at the end unless it was renamed.

    Those of writers that have died are deleted first.
    """
    _sweep(path.parent)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with _held(aside):
            yield aside
    finally:
        aside.unlink(missing_ok=True)


@contextlib.contextmanager
def _held(aside: Path) -> Iterator[None]:
    """Hold a lock on a new file, where the system can: it tells others that its writer lives.

    (Windows does not delete what is open.)
    """
    if sys.platform == "win32":
        yield
        return
    with aside.open("xb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sweep(folder: Path) -> None:
    """Delete what dead writers have left aside; who may not do so leaves it."""
    for aside in folder.glob(".*"):
        if _ASIDE.fullmatch(aside.name):
            with contextlib.suppress(OSError):
                if time.time() - aside.stat().st_mtime > _SETTLED_S:
                    _delete_unheld(aside)


def _delete_unheld(aside: Path) -> None:
    if sys.platform == "win32":
        aside.unlink()
        return
    with aside.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        aside.unlink()


def publish(aside: Path, path: Path) -> None:
    """Give a file its name, unless somebody has taken it: in one step that cannot be half done.

    Raises:
        CalibrationFileError: There is a file of that name by now.
        OSError: It cannot be named so.
    """
    try:
        # A link is refused where there is a file; on Windows, so is a new name.
        if os.name == "nt":
            aside.rename(path)
        else:
            path.hardlink_to(aside)
    except FileExistsError:
        refuse_existing(path)
        raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        refuse_existing(path)  # on a file system without links, one has to look and then act
        aside.rename(path)
    if os.name == "posix":
        _sync(path.parent)


def _sync(folder: Path) -> None:
    """Have the disk keep a folder's names, too; a file system that cannot is left alone."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(number)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(USER_BLOCK)
        return hashlib.file_digest(file, "sha256").hexdigest()
