"""The file of a recording, while it grows.

HDF5, written as for a concurrent reader (SWMR): the library then orders what it writes so that the
file can be opened after any of its steps, also when the process is killed between two of them. A
run counts once `done` has been raised, and that comes last. The file lies under a partial name
until it is complete; what is left there opens like any other recording. One that ends with an
error before anything was proven makes way for another try: it is deleted if it holds no frame at
all, and is given a name of its own (`refused_path`) if it does.

    frames         [exposure, row, column]; one chunk a frame
    ids            int64 [exposure], the camera's counter
    timestamps_us  float64 [exposure], the camera's clock, microseconds
    shown          int64 [exposure], which of the patterns
    role           uint8 [exposure], a `Role`
    patterns       [pattern, ...], as the modulator stores them; each only once
    runs           uint8 [byte], one line of JSON a run
    asked          frames that were asked for; -1 if nobody knew
    done           exposures that are there
    complete       whether all frames that were asked for are there
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from opu_driver.camera import FrameBlock
from opu_driver.errors import RecordingError
from opu_driver.exposure_run import CONDITIONS, RUN, Conditions, Role, Run
from opu_driver.modulator import Patterns

SCHEMA = "opu-recording 2"

RESERVE_BYTES = 4 << 20
"""Room that a recording leaves on the disk, to be able to end well."""

_SLACK_BYTES = 1 << 20  # for what the library writes beside frames and patterns

_SUPERBLOCK_BYTES = 48
_END_OF_FILE = 28  # HDF5 File Format Specification, "Disk Format: Level 0A", superblock version 3
_ROWS = 4096  # of the small tables, in a chunk


def partial_path(path: Path) -> Path:
    """Where a recording lies until it is complete."""
    return path.with_suffix(f".partial{path.suffix}")


def refused_path(path: Path) -> Path:
    """Where frames go of which none could be proven: the first such name that is free."""
    for number in count(1):
        place = path.with_suffix(f".refused-{number}{path.suffix}")
        if not place.exists():
            return place
    raise AssertionError  # there is no last number


class RecordingFile:
    """A recording that grows run by run; use it in a `with` block.

    Args:
        path: Where it goes when it is complete; until then it is at `partial_path(path)`.
        conditions: What the bench is.
        pattern_shape: Shape of one pattern.
        asked: Frames that are asked for; None if nobody knows.

    Raises:
        RecordingError: A file is in the way, or the folder cannot be written.
    """

    def __init__(
        self,
        path: Path,
        conditions: Conditions,
        pattern_shape: tuple[int, int],
        asked: int | None = None,
    ) -> None:
        self.path = path
        self.partial = partial_path(path)
        for taken in (path, self.partial):
            refuse_existing(taken)
        self.frame_shape = conditions.settings.region.shape
        self.dtype = conditions.settings.pixel_format.dtype
        self.exposures = 0
        self._proven = False
        self._seen: dict[bytes, int] = {}
        with told(self.partial):
            self._file = h5py.File(self.partial, "x", libver="latest")
            self._file.attrs["schema"] = SCHEMA
            self._file.attrs["conditions"] = CONDITIONS.dump_json(conditions).decode()
            self._room("frames", self.frame_shape, self.dtype)
            self._room("patterns", pattern_shape, np.dtype(np.uint8))
            for name in ("ids", "shown"):
                self._room(name, (), np.dtype(np.int64))
            self._room("timestamps_us", (), np.dtype(np.float64))
            for name in ("role", "runs"):
                self._room(name, (), np.dtype(np.uint8))
            self._file["asked"] = -1 if asked is None else asked
            self._file["done"] = 0
            self._file["complete"] = False
            self._file.swmr_mode = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is None:
            with told(self.partial):
                self._file["complete"][()] = True
                self._close()
            give_name(self.path)
            return
        with suppress(OSError, RuntimeError):  # the disk may be full: `done` tells what is good
            self._close()
        if self._proven:
            return
        if not self.exposures:
            self.partial.unlink(missing_ok=True)
            return
        with suppress(OSError):
            place = self.partial.rename(refused_path(self.path))
            if exc is not None:
                exc.add_note(f"Its frames, none of them proven, are in {place}.")

    def append(
        self, run: Run, block: FrameBlock, patterns: Patterns, roles: NDArray[np.uint8]
    ) -> None:
        """Add a run; when this returns it has left the process.

        Args:
            run: What it was.
            block: Its frames.
            patterns: What was shown, `[exposure, ...]`, at least one for each frame.
            roles: uint8 `[exposure]`, a `Role` for each frame.

        Raises:
            RecordingError: The disk is full. What was recorded before stays readable.
        """
        first = self.exposures
        last = first + len(block)
        with told(self.partial):
            self._hold(block.frames.nbytes + patterns.nbytes)
            self._file["frames"].resize(last, 0)
            write_frame = self._file["frames"].id.write_direct_chunk
            for k, frame in enumerate(np.ascontiguousarray(block.frames)):
                write_frame((first + k, 0, 0), frame)
            self._extend("shown", first, self._kept(patterns))
            self._extend("ids", first, block.ids)
            self._extend("timestamps_us", first, block.timestamps_us)
            self._extend("role", first, roles)
            line = np.frombuffer(RUN.dump_json(run) + b"\n", np.uint8)
            self._extend("runs", len(self._file["runs"]), line)
            self._file.flush()
            self._file["done"][()] = last
            self._file.flush()
        self.exposures = last
        self._proven |= bool((roles != Role.REFUSED).any())

    def _hold(self, needed: int) -> None:
        """Take hold of disk space before HDF5 needs it: what it fails to write breaks the file."""
        require_room(self.partial.parent, needed)
        if hasattr(os, "posix_fallocate"):
            with self.partial.open("r+b") as file:
                end = self._file.id.get_filesize() + needed + _SLACK_BYTES
                os.posix_fallocate(file.fileno(), 0, end)

    def _close(self) -> None:
        """Close the file, and give back what of the held space it has not used."""
        self._file.close()
        with self.partial.open("r+b") as file:
            head = file.read(_SUPERBLOCK_BYTES)
            (end,) = struct.unpack_from("<Q", head, _END_OF_FILE)
            file.truncate(end)

    def _kept(self, patterns: Patterns) -> NDArray[np.int64]:
        """The numbers of patterns in the file; those that are not there yet are added."""
        numbers = np.empty(len(patterns), np.int64)
        new = []
        for k, pattern in enumerate(patterns):
            key = hashlib.sha256(pattern.tobytes()).digest()
            if key not in self._seen:
                self._seen[key] = len(self._seen)
                new.append(pattern)
            numbers[k] = self._seen[key]
        if new:
            self._extend("patterns", len(self._seen) - len(new), np.stack(new))
        return numbers

    def _room(self, name: str, shape: tuple[int, ...], kind: np.dtype[Any]) -> None:
        self._file.create_dataset(
            name,
            (0, *shape),
            kind,
            maxshape=(None, *shape),
            chunks=(1, *shape) if shape else (_ROWS,),
        )

    def _extend(self, name: str, first: int, values: NDArray[Any]) -> None:
        part = self._file[name]
        part.resize(first + len(values), 0)
        part[first:] = values


def give_name(path: Path) -> Path:
    """Give a recording that lies under its partial name, closed, the name it was meant to have.

    One that was to go on until somebody ends it is complete then; of others `complete` tells.

    Raises:
        RecordingError: There is a file of that name, or none to be named.
    """
    partial = partial_path(path)
    with told(path):
        partial.stat()  # there has to be one
        refuse_existing(path)
        with h5py.File(partial, "r+") as file:
            if int(file["asked"][()]) < 0:
                file["complete"][()] = True
        with partial.open("rb") as whole:
            os.fsync(whole.fileno())
        partial.rename(path)
    return path


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn what the system says of a file into a RecordingError."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise RecordingError(
            f"The recording cannot be written to {path}: {error}. Name a folder that exists, that "
            "you may write to, and that has room; frames recorded so far stay where they are."
        ) from error


def refuse_existing(path: Path) -> None:
    """Raise if there is a file.

    Raises:
        RecordingError: There is.
    """
    if path.exists():
        raise RecordingError(
            f"{path} exists already, and a recording is never overwritten. Name another file, or "
            "move this one away."
        )


def require_room(folder: Path, needed: int) -> None:
    """Raise if the disk has not so many bytes left, and some to end the recording with.

    Raises:
        RecordingError: It has not.
    """
    with told(folder):
        folder = folder.resolve()
        free = shutil.disk_usage(folder).free
    if needed + RESERVE_BYTES > free:
        raise RecordingError(
            f"The next frames take {needed / 1e9:.3g} GB and {folder} has {free / 1e9:.3g} GB "
            "free. Take fewer frames, or name another folder; frames recorded so far stay where "
            "they are."
        )
