"""The fields of a running measurement, sequence by sequence, safe against a killed process.

All room is made when the log is created, so that an append changes numbers in their places and
nothing of the file's structure. A sequence counts only once `done` has been raised, and that comes
last: what a killed process leaves is whole sequences.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Self

import h5py
import numpy as np
from numpy.typing import NDArray

from calibration.errors import CalibrationFileError

_SCHEMA = "opu-fields 1"


class FieldLog:
    """Fields measured so far; use it in a `with` block. `create` and `resume` make one."""

    def __init__(self, file: h5py.File) -> None:
        self._file = file

    @classmethod
    def create(
        cls, path: Path | None, header: str, exposures: int, sequence: int, modes: int
    ) -> Self:
        """An empty log.

        Args:
            path: Where it lies; None for a log in memory.
            header: What `resume` will want to know.
            exposures: How many there will be in all.
            sequence: Exposures in a sequence; the last may be shorter.
            modes: Modes of a field.

        Raises:
            CalibrationFileError: There is a file already, it cannot be written, or the disk has no
                room for it.
        """
        if path is None:
            file = h5py.File("fields", "w", driver="core", backing_store=False)
            _make_room(file, header, exposures, sequence, modes)
            return cls(file)
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            _require_room(
                path.resolve().parent, exposures * modes * np.dtype(np.complex64).itemsize
            )
            try:
                with h5py.File(aside, "w") as file:
                    _make_room(file, header, exposures, sequence, modes)
                aside.rename(path)
            finally:
                aside.unlink(missing_ok=True)
            return cls(h5py.File(path, "r+"))
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
            file = h5py.File(path, "r+")
        except OSError as error:
            raise CalibrationFileError(
                f"{path} cannot be resumed: {error}. If no other measurement is using it, delete "
                "it and start anew."
            ) from error
        if file.attrs.get("schema") != _SCHEMA:
            file.close()
            raise CalibrationFileError(
                f"{path} is no log of a measurement ({_SCHEMA!r} was expected). Name the file of "
                "the interrupted measurement, or one that does not exist to start anew."
            )
        damage = _damage(file)
        if damage:
            file.close()
            raise CalibrationFileError(f"{path} is damaged: {damage}. Delete it to start anew.")
        return cls(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    @property
    def header(self) -> str:
        """The text it was created with."""
        return str(self._file.attrs["header"])

    @property
    def sequence(self) -> int:
        """Exposures in a sequence."""
        return int(self._file.attrs["sequence"])

    @property
    def done(self) -> int:
        """Sequences that are complete."""
        return int(self._file["done"][()])

    @property
    def exposures(self) -> int:
        """Exposures that there will be in all."""
        return len(self._file["fields"])

    @property
    def fields(self) -> NDArray[np.complex64]:
        """complex64 `[exposure, mode]`; zeros where nothing has been measured yet."""
        fields: NDArray[np.complex64] = self._file["fields"][...]
        return fields

    @property
    def markers(self) -> NDArray[np.complex64]:
        """complex64 `[sequence, 3, mode]`: all on before it; all on, all off after it."""
        markers: NDArray[np.complex64] = self._file["markers"][...]
        return markers

    @property
    def saturated_fraction(self) -> float:
        """Mean fraction of saturated pixels of the sequences so far."""
        return float(np.mean(self._file["saturated"][: self.done]))

    def append(
        self,
        fields: NDArray[np.complex64],
        markers: NDArray[np.complex64],
        saturated_fraction: float,
    ) -> None:
        """Add one sequence; when this returns it has left the process."""
        k = self.done
        first = k * self.sequence
        self._file["fields"][first : first + len(fields)] = fields
        self._file["markers"][k] = markers
        self._file["saturated"][k] = saturated_fraction
        self._file.flush()
        self._file["done"][()] = k + 1
        self._file.flush()


def _require_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise CalibrationFileError(
            f"The fields of this measurement take {needed / 1e9:.3g} GB and {folder} has "
            f"{free / 1e9:.3g} GB free. Take fewer repeats or inputs, or name another folder."
        )


def _damage(file: h5py.File) -> str:
    """What of a log is missing or does not fit together; empty if it is whole."""
    for name in ("header", "sequence"):
        if name not in file.attrs:
            return f"it has no {name}"
    for name, axes in {"fields": 2, "markers": 3, "saturated": 1, "done": 0}.items():
        part = file.get(name)
        if not isinstance(part, h5py.Dataset) or part.ndim != axes:
            return f"it has no {name}"
    sequence, done = file.attrs["sequence"], file["done"][()]
    if not (isinstance(sequence, np.integer) and sequence > 0 and isinstance(done, np.integer)):
        return f"sequences of {sequence} exposures, {done} of them done"
    exposures, modes = file["fields"].shape
    sequences = -(-exposures // int(sequence))
    if (
        file["markers"].shape != (sequences, 3, modes)
        or file["saturated"].shape != (sequences,)
        or not 0 <= done <= sequences
    ):
        return f"{done} sequences done, and its parts are not those of {sequences} sequences"
    return ""


def _make_room(file: h5py.File, header: str, exposures: int, sequence: int, modes: int) -> None:
    sequences = -(-exposures // sequence)
    file.attrs["schema"] = _SCHEMA
    file.attrs["header"] = header
    file.attrs["sequence"] = sequence
    for name, shape, kind in (
        ("fields", (exposures, modes), np.complex64),
        ("markers", (sequences, 3, modes), np.complex64),
        ("saturated", (sequences,), np.float64),
    ):
        room = file.create_dataset(name, shape, kind)
        room[-1] = 0  # HDF5 sets the whole room aside at the first write
    file["done"] = 0
