"""The calibration: what was measured, on what, how well, and when it stops being true.

On disk it is an HDF5 file behind a user block of 512 bytes, whose one line of text names the
schema and the SHA-256 of all that follows: a damaged file is recognised before it is parsed. What
is parsed is not believed either: every part is checked for its kind, its shape and its values.

Schema 2 has the figures and curves that `quality.Quality` gives a default. A file of schema 1 is
read as a calibration in which they were not measured; the file itself is never changed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, fields
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from calibration.errors import CalibrationFileError, StaleCalibrationError
from calibration.quality import Quality
from calibration.setup import Setup, from_json, to_json
from calibration.twin import DigitalTwin
from opu_driver.bench import Bench
from opu_driver.card import card, picture

SCHEMA_VERSION = 2

READABLE_VERSIONS = (1, 2)

_MAGIC = b"opu-calibration"
_USER_BLOCK = 512
_BLOCK_BYTES = 1 << 26  # of the matrix that are looked at at a time
_IN_MEMORY_BYTES = 1 << 30  # a larger matrix stays in its file, and is mapped

_UNREADABLE = (OSError, KeyError, TypeError, ValueError, RuntimeError, OverflowError)
"""What h5py raises on content that it cannot make sense of, and our own checks."""

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)

_ARRAYS = {
    "T": np.dtype(np.complex64),
    "reference": np.dtype(np.complex64),
    "bias": np.dtype(np.complex64),
    "singular_values": np.dtype(np.float32),
    "gains": np.dtype(np.complex64),
    "fidelities": np.dtype(np.float32),
}
_CURVES = ("singular_values", "gains", "fidelities")  # of the quality
_CURVES_OF_1 = ("singular_values",)


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration(Setup):
    """A measured bench.

    Attributes:
        T: complex64 `[mode, input]`, the transmission matrix, in grey values per unit of relative
            exposure (us mW).
        reference: complex64 `[mode]`, the field of the all-on marker, in the same unit and phase.
        bias: complex64 `[mode]`, the field of the all-off marker, likewise.
        quality: How good the measurement is.
        made_at: When it was measured, UTC, ISO 8601.
        expires_at: When it stops being true, UTC, ISO 8601.
    """

    T: NDArray[np.complex64]
    reference: NDArray[np.complex64]
    bias: NDArray[np.complex64]
    quality: Quality
    made_at: str
    expires_at: str

    def _repr_html_(self) -> str:
        """A card for notebooks."""
        carrier, quality, settings = self.carrier, self.quality, self.settings
        rows, columns = (n // self.decimation for n in settings.region.shape)
        facts = {
            **{kind: str(who) for kind, who in self.identities.items()},
            "maps": f"{self.n_inputs} inputs to {self.n_outputs} real outputs, by the {self.path}",
            "frames": f"{settings.region.height} × {settings.region.width} pixels, exposure "
            f"{settings.exposure_us:.4g} µs at {self.power_mw:g} mW",
            "carrier": f"({carrier.row:+.5f}, {carrier.column:+.5f}) cycles/pixel, a grain of "
            f"{carrier.grain:.2f} pixels",
            "held out": f"correlation {quality.held_out_correlation:.5f}, error "
            f"{quality.held_out_error:.3g}",
            "signal to noise": f"{quality.snr:.4g} an exposure",
            "made": f"{self.made_at}, expires {self.expires_at}",
        }
        field = np.abs(self.reference[: rows * columns]).reshape(rows, columns)
        return card("Calibration", facts, {"amplitude with all inputs on": picture(field)})

    @property
    def n_outputs(self) -> int:
        """Real outputs: real and imaginary part of each mode."""
        return 2 * self.n_modes

    @cached_property
    def scale(self) -> float:
        """Factor from fields to outputs that gives the entries of B unit mean square."""
        power = sum(float(np.linalg.norm(rows)) ** 2 for rows in _blocks(self.T))
        return float(np.sqrt(2.0 * self.T.size / power))

    @cached_property
    def output_modes(self) -> NDArray[np.intp]:
        """The modes in the order of the outputs, `[mode]`: far from the border first.

        A network that needs few outputs gets those that are demodulated best.
        """
        rows, columns = (n // self.decimation for n in self.settings.region.shape)
        row, column = np.ogrid[:rows, :columns]
        inwards = np.minimum(
            np.minimum(row, rows - 1 - row), np.minimum(column, columns - 1 - column)
        )
        return np.argsort(-inwards.ravel(), kind="stable")

    @property
    def matrix(self) -> NDArray[np.float32]:
        """B, float32 `[output, input]`.

        Rows are the real and the imaginary part of each of the `output_modes`, times `scale`.
        """
        T = self.T[self.output_modes]
        parts = np.stack([T.real, T.imag], axis=1)
        scaled: NDArray[np.float32] = parts.reshape(self.n_outputs, self.n_inputs)
        return scaled * np.float32(self.scale)

    def fingerprint(self) -> str:
        """Identity of B: a hash of T."""
        digest = hashlib.sha256(repr(self.T.shape).encode())
        for rows in _blocks(self.T):
            digest.update(rows.tobytes())
        return digest.hexdigest()[:32]

    def twin(self) -> DigitalTwin:
        """A digital projector of the same matrix."""
        return DigitalTwin(self.T, self.output_modes, self.scale, self.fingerprint())

    def check(self, bench: Bench) -> None:
        """Refuse a bench that this calibration does not describe.

        Raises:
            StaleCalibrationError: It does not fit or has expired; the message lists every reason.
        """
        reasons = self.mismatches(bench)
        if datetime.now(UTC) > datetime.fromisoformat(self.expires_at):
            reasons.append(f"it expired at {self.expires_at}")
        if reasons:
            raise StaleCalibrationError(
                f"The calibration of {self.made_at} does not fit bench {bench.name!r}: "
                f"{'; '.join(reasons)}. Calibrate the bench as it is now, or set it as it was."
            )

    def save(self, path: str | Path) -> Path:
        """Write the calibration; it is there whole or not at all.

        Whatever happens on the way, a full disk or a killed process, no file of that name appears
        or changes; of two who write to one name at the same time, one is refused.

        Raises:
            CalibrationFileError: The file exists already, or cannot be written.
        """
        path = Path(path)
        refuse_existing(path)
        try:
            with written_aside(path) as aside:
                self._write(aside)
                publish(aside, path)
        except OSError as error:
            raise CalibrationFileError(
                f"The calibration cannot be written to {path}: {error}. Name a folder that exists, "
                "that you may write to, and that has room."
            ) from error
        return path

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a calibration that `save` has written, also one of an earlier schema.

        Raises:
            CalibrationFileError: The file is missing, damaged, truncated, of another schema, or
                no calibration; the message says which, and what was expected.
        """
        path = Path(path)
        schema = _verify(path)
        try:
            with h5py.File(path, "r") as file:
                return cls._read(file, path, schema)
        except _UNREADABLE as error:
            raise CalibrationFileError(
                f"{path} is intact but does not hold what schema {schema} asks for: "
                f"{error}. It was written by other software."
            ) from error

    @classmethod
    def _read(cls, file: h5py.File, path: Path, schema: int) -> Self:
        """The calibration in an open file.

        Raises:
            ValueError: What is in it is no calibration; the message says what.
        """
        header = file.attrs["header"]
        if not isinstance(header, str):
            raise ValueError(f"the header is {type(header).__name__}, no text")
        setup, more = from_json(header)
        curves = _CURVES_OF_1 if schema == 1 else _CURVES
        n_modes = setup.n_modes
        shapes = {"T": (n_modes, setup.n_inputs), "reference": (n_modes,), "bias": (n_modes,)}
        measured: dict[str, Any] = {
            name: _array(file, path, name, shape) for name, shape in shapes.items()
        }
        figures: dict[str, Any] = _numbers(more.get("quality"), schema)
        drawn: dict[str, Any] = {name: _array(file, path, name, (None,)) for name in curves}
        return cls(
            **{name: getattr(setup, name) for name in Setup.__dataclass_fields__},
            **measured,
            quality=Quality(**figures, **drawn),
            made_at=_moment(more, "made_at"),
            expires_at=_moment(more, "expires_at"),
        )

    def _write(self, path: Path) -> None:
        curves = {name: getattr(self.quality, name) for name in _CURVES}
        arrays = {"T": self.T, "reference": self.reference, "bias": self.bias, **curves}
        with (
            PatientFile(path) as storage,
            h5py.File(
                path, "w", driver="fileobj", fileobj=storage, userblock_size=_USER_BLOCK
            ) as file,
        ):
            file.attrs["header"] = to_json(
                self,
                quality=self.quality.numbers(),
                made_at=self.made_at,
                expires_at=self.expires_at,
            )
            for name, values in arrays.items():
                file.create_dataset(name, data=values, dtype=_ARRAYS[name])
            for name in ("T", "reference", "bias"):
                file[name].attrs["unit"] = "grey values / (us mW)"
        digest = _digest(path)
        with path.open("r+b") as block:
            block.write(_seal(SCHEMA_VERSION, digest))
            block.flush()
            os.fsync(block.fileno())


def _quality_numbers() -> list[str]:
    return [f.name for f in fields(Quality) if f.name not in _CURVES]


def _blocks(matrix: NDArray[np.complex64]) -> Iterator[NDArray[np.complex64]]:
    """A matrix by rows, some at a time: it may be one that does not fit into memory."""
    step = max(1, _BLOCK_BYTES // max(1, matrix[:1].nbytes))
    for first in range(0, len(matrix), step):
        yield matrix[first : first + step]


def _array(file: h5py.File, path: Path, name: str, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """One array of a file, of the kind and shape it has to be; a large one is mapped.

    Raises:
        ValueError: It is missing, or another.
    """
    part = file.get(name) if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
    if not isinstance(part, h5py.Dataset):
        raise ValueError(f"it has no {name}")
    dtype = _ARRAYS[name]
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
    if name != "fidelities" and not all(np.isfinite(rows).all() for rows in _blocks(values)):
        raise ValueError(f"{name} has values that are not finite")
    return values


def _numbers(content: Any, schema: int) -> dict[str, float]:
    """The quality's figures; of schema 1 those that it knew.

    Raises:
        ValueError: One is missing, unknown or no number.
    """
    if not isinstance(content, dict):
        raise ValueError("it has no quality")
    known = _quality_numbers()
    later = {f.name for f in fields(Quality) if f.default is not MISSING} if schema == 1 else set()
    for name in known:
        if name not in content and name not in later:
            raise ValueError(f"the quality has no {name}")
    for name, value in content.items():
        if name not in known or name in later:
            raise ValueError(f"the quality has {name}, which is unknown")
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(f"the quality's {name} is {value!r}, no number")
    return {name: float(value) for name, value in content.items()}


def _moment(content: dict[str, Any], name: str) -> str:
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
    """A temporary file in the same folder, gone at the end unless it was renamed."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield aside
    finally:
        aside.unlink(missing_ok=True)


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


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(_USER_BLOCK)
        return hashlib.file_digest(file, "sha256").hexdigest()


def _seal(schema: int, digest: str) -> bytes:
    line = b"%s schema %d sha256 %s\n" % (_MAGIC, schema, digest.encode())
    return line.ljust(_USER_BLOCK, b"\0")


def _verify(path: Path) -> int:
    """The schema of a file that is what was written.

    Raises:
        CalibrationFileError: It is not, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            seal = file.read(_USER_BLOCK)
        digest = _digest(path)
    except OSError as error:
        raise CalibrationFileError(
            f"The calibration {path} cannot be read: {error.strerror}. `opu calibrate` makes one."
        ) from error
    words = seal.rstrip(b"\0").split()
    if len(words) != 5 or words[0] != _MAGIC:
        raise CalibrationFileError(
            f"{path} is no calibration: it does not begin with '{_MAGIC.decode()} schema ...'. "
            "Name a file that `opu calibrate` has written."
        )
    schemas = {b"%d" % schema: schema for schema in READABLE_VERSIONS}
    if words[2] not in schemas:
        readable = " and ".join(map(str, READABLE_VERSIONS))
        raise CalibrationFileError(
            f"{path} has schema {words[2].decode(errors='replace')}; this software reads schemas "
            f"{readable}. Calibrate again, or use the software that has written it."
        )
    schema = schemas[words[2]]
    if seal != _seal(schema, digest):
        raise CalibrationFileError(
            f"{path} is damaged or truncated: its content has the SHA-256 {digest}, it was written "
            f"with {words[4].decode(errors='replace')}. Restore it from a copy, or calibrate again."
        )
    return schema
