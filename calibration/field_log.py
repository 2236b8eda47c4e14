"""The fields of a running measurement, run by run, safe against a killed process.

All room is made when the log is created, so that an append changes numbers in their places and
nothing of the file's structure. A run counts only once `done` has been raised, and that comes last,
after the file has been asked whether all was written: what a killed process or a failing disk
leaves is whole runs.

Fields come exposure by exposure and go mode by mode, so they lie in tiles of some exposures and
some modes: either way is read in long pieces. A matrix that does not fit into memory has room in
the same file.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import h5py
import numpy as np
from numpy.typing import NDArray

from calibration.errors import CalibrationFileError
from calibration.sealed_file import PatientFile, publish, written_aside

if sys.platform != "win32":
    import fcntl

CHUNK_MODES = 256
"""Modes in a tile of the fields."""

_CHUNK_EXPOSURES = 128
_numbers = itertools.count()  # HDF5 wants logs in memory to have names of their own
_SCHEMA = "opu-fields 2"


class FieldLog:
    """Fields measured so far; use it in a `with` block. `create` and `resume` make one."""

    def __init__(self, file: h5py.File, storage: PatientFile | None = None) -> None:
        self._file = file
        self._storage = storage  # None in memory
        self._name = file.filename

    @classmethod
    def create(
        cls,
        path: Path | None,
        header: str,
        ends: Sequence[int] | NDArray[np.int64],
        modes: int,
        matrix_inputs: int = 0,
    ) -> Self:
        """An empty log.

        Args:
            path: Where it lies; None for a log in memory.
            header: What `resume` will want to know.
            ends: Number of the exposure after each run, rising.
            modes: Modes of a field.
            matrix_inputs: Inputs of the matrix for which there is to be room, too.

        Raises:
            CalibrationFileError: There is a file already, it cannot be written, or the disk has no
                room for it.
        """
        ends = np.asarray(ends, np.int64)
        if path is None:
            file = h5py.File(f"fields {next(_numbers)}", "w", driver="core", backing_store=False)
            _make_room(file, header, ends, modes, matrix_inputs)
            return cls(file)
        try:
            numbers = _whole_tiles(int(ends[-1]), modes) + (3 * len(ends) + matrix_inputs) * modes
            _require_room(path.resolve().parent, numbers * np.dtype(np.complex64).itemsize)
            with written_aside(path) as aside:
                with (
                    PatientFile(aside) as storage,
                    h5py.File(aside, "w", driver="fileobj", fileobj=storage) as file,
                ):
                    _make_room(file, header, ends, modes, matrix_inputs)
                _reserve(aside)
                publish(aside, path)
            return cls._opened(path)
        except OSError as error:
            raise CalibrationFileError(
                f"The measurement cannot be kept in {path}: {error}. Name a folder that exists, "
                "that you may write to, and that has room."
            ) from error

    @classmethod
    def resume(cls, path: Path) -> Self:
        """The log that an interrupted measurement has left.

        Raises:
            CalibrationFileError: It is damaged, no such log, or in use.
        """
        try:
            log = cls._opened(path)
        except OSError as error:
            raise CalibrationFileError(
                f"{path} cannot be resumed: {error}. If no other measurement is using it, delete "
                "it and start anew."
            ) from error
        with ExitStack() as opening:
            opening.enter_context(log)
            if log._file.attrs.get("schema") != _SCHEMA:
                raise CalibrationFileError(
                    f"{path} is no log of a measurement ({_SCHEMA!r} was expected). Name the file "
                    "of the interrupted measurement, or one that does not exist to start anew."
                )
            damage = _damage(log._file)
            log._check()
            if damage:
                raise CalibrationFileError(f"{path} is damaged: {damage}. Delete it to start anew.")
            opening.pop_all()
        return log

    @classmethod
    def _opened(cls, path: Path) -> Self:
        """The log in a file, for this process alone.

        Raises:
            OSError: It cannot be read, is not HDF5, or is in use.
        """
        with ExitStack() as opening:
            storage = opening.enter_context(PatientFile(path, "r+b"))
            _lock(storage)
            file = h5py.File(path, "r+", driver="fileobj", fileobj=storage)
            opening.pop_all()
        return cls(file, storage)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
        if self._storage is not None:
            # What has gone wrong before is more to the point than what that does to the closing.
            with self._told() if exc is None else suppress(OSError), self._storage:
                pass

    def _check(self) -> None:
        """Raise if something could not be written or read.

        Raises:
            CalibrationFileError: So it is.
        """
        if self._storage is not None:
            with self._told():
                self._storage.check()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Tell what goes wrong with the file."""
        try:
            yield
        except OSError as error:
            raise CalibrationFileError(
                f"The fields of the measurement in {self._name} cannot be kept or read: "
                f"{error}. Make room for them and go on with it (resume); what was measured until "
                "then is in it."
            ) from error

    @property
    def header(self) -> str:
        """The text it was created with."""
        return str(self._file.attrs["header"])

    @property
    def ends(self) -> NDArray[np.int64]:
        """Number of the exposure after each run."""
        ends: NDArray[np.int64] = self._file["ends"][...]
        return ends

    @property
    def done(self) -> int:
        """Runs that are complete."""
        return int(self._file["done"][()])

    @property
    def modes(self) -> int:
        """Modes of a field."""
        return int(self._file["fields"].shape[1])

    @property
    def has_room_for_matrix(self) -> bool:
        """Whether it was created with room for the matrix."""
        return "matrix" in self._file

    def fields(self, rows: slice, modes: slice = slice(None)) -> NDArray[np.complex64]:
        """complex64 `[exposure, mode]`; arbitrary where nothing has been measured yet."""
        fields: NDArray[np.complex64] = self._file["fields"][rows, modes]
        self._check()
        return fields

    def markers(self, run: int) -> NDArray[np.complex64]:
        """complex64 `[3, mode]`: all on before a run; all on, all off after it."""
        markers: NDArray[np.complex64] = self._file["markers"][run]
        self._check()
        return markers

    @property
    def saturated_fraction(self) -> float:
        """Mean fraction of saturated pixels of the runs so far."""
        return float(np.mean(self._file["saturated"][: self.done]))

    def append(
        self,
        fields: NDArray[np.complex64],
        markers: NDArray[np.complex64],
        saturated_fraction: float,
    ) -> None:
        """Add one run; when this returns it has left the process.

        Raises:
            CalibrationFileError: It could not be written; the run does not count.
        """
        k = self.done
        last = int(self._file["ends"][k])
        self._file["fields"][last - len(fields) : last] = fields
        self._file["markers"][k] = markers
        self._file["saturated"][k] = saturated_fraction
        self._flush()
        self._file["done"][()] = k + 1
        self._flush()

    def _flush(self) -> None:
        self._file.flush()
        self._check()

    def write_matrix(self, modes: slice, matrix: NDArray[np.complex64]) -> None:
        """Keep some rows `[mode, input]` of the matrix.

        Raises:
            CalibrationFileError: They could not be written.
        """
        self._file["matrix"][modes] = matrix
        self._flush()

    def matrix(self) -> NDArray[np.complex64]:
        """The matrix `[mode, input]`, read only, as it lies in the file: nothing of it is loaded.

        It stays readable when the log is closed.
        """
        self._flush()
        room = self._file["matrix"]
        matrix: NDArray[np.complex64] = np.memmap(
            self._name, room.dtype, "r", room.id.get_offset(), room.shape
        )
        return matrix


def _lock(storage: PatientFile) -> None:
    """Take a log for this process, where the system can; a process that ends gives it back.

    Raises:
        OSError: Another process has it.
    """
    if sys.platform != "win32":
        try:
            fcntl.flock(storage.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OSError("another measurement is using it") from error


def _reserve(path: Path) -> None:
    """Have the disk set a file's blocks aside: until then it may be full of holes.

    Where a system cannot, a full disk is told of when the numbers are written.

    Raises:
        OSError: There is no room for them.
    """
    if sys.platform == "linux":
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _require_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise CalibrationFileError(
            f"The fields of this measurement take {needed / 1e9:.3g} GB and {folder} has "
            f"{free / 1e9:.3g} GB free. Take fewer repeats or inputs, or name another folder."
        )


def _damage(file: h5py.File) -> str:
    """What of a log is missing or does not fit together; empty if it is whole."""
    if "header" not in file.attrs:
        return "it has no header"
    for name, axes in {"fields": 2, "markers": 3, "saturated": 1, "ends": 1, "done": 0}.items():
        part = file.get(name)
        if not isinstance(part, h5py.Dataset) or part.ndim != axes:
            return f"it has no {name}"
    ends, done = file["ends"][...], file["done"][()]
    if not (ends.dtype.kind == done.dtype.kind == "i" and len(ends)):
        return f"runs that end at {ends}, {done} of them done"
    exposures, modes = file["fields"].shape
    if (
        np.diff(ends, prepend=0).min() < 1
        or ends[-1] != exposures
        or file["markers"].shape != (len(ends), 3, modes)
        or file["saturated"].shape != (len(ends),)
        or not 0 <= done <= len(ends)
    ):
        return f"{done} runs done, and its parts are not those of {len(ends)} runs"
    matrix = file.get("matrix")
    if matrix is not None and (matrix.ndim != 2 or len(matrix) != modes):
        return "its room for the matrix is not that of its modes"
    return ""


def _make_room(
    file: h5py.File, header: str, ends: NDArray[np.int64], modes: int, matrix_inputs: int
) -> None:
    file.attrs["schema"] = _SCHEMA
    file.attrs["header"] = header
    file["ends"] = ends
    _tiles(file, "fields", (int(ends[-1]), modes))
    parts: list[tuple[str, tuple[int, ...], type]] = [
        ("markers", (len(ends), 3, modes), np.complex64),
        ("saturated", (len(ends),), np.float64),
    ]
    if matrix_inputs:
        parts.append(("matrix", (modes, matrix_inputs), np.complex64))
    for name, shape, kind in parts:
        room = file.create_dataset(name, shape, kind)
        room[-1] = 0  # HDF5 sets the whole room aside at the first write
    file["done"] = 0


def _tile(exposures: int, modes: int) -> tuple[int, int]:
    """Exposures and modes of a tile."""
    return min(_CHUNK_EXPOSURES, exposures), min(CHUNK_MODES, modes)


def _whole_tiles(exposures: int, modes: int) -> int:
    """Numbers in the tiles of the fields: those at the edges are as large as the others."""
    tall, wide = _tile(exposures, modes)
    return -(-exposures // tall) * tall * -(-modes // wide) * wide


def _tiles(file: h5py.File, name: str, shape: tuple[int, int]) -> None:
    """Room in tiles, all set aside now."""
    tile = _tile(*shape)
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_chunk(tile)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    space = h5py.h5s.create_simple(shape)
    kind = h5py.h5t.py_create(np.dtype(np.complex64), logical=True)
    h5py.h5d.create(file.id, name.encode(), kind, space, layout)
