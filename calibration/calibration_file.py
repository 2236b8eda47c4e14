"""The calibration: what was measured, on what, how well, and when it stops being true.

On disk it is an HDF5 file behind a user block of 512 bytes, whose one line of text names the
schema and the SHA-256 of all that follows: a damaged file is recognised before it is parsed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Self

import h5py
import numpy as np
from numpy.typing import NDArray

from calibration.errors import CalibrationFileError, StaleCalibrationError
from calibration.quality import Quality
from calibration.setup import Setup, from_json, to_json
from calibration.twin import DigitalTwin
from opu_driver.bench import Bench

SCHEMA_VERSION = 1

_MAGIC = b"opu-calibration"
_USER_BLOCK = 512


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

    @property
    def n_modes(self) -> int:
        """Complex modes, points of the field's grid."""
        return len(self.T)

    @property
    def n_outputs(self) -> int:
        """Real outputs: real and imaginary part of each mode."""
        return 2 * self.n_modes

    @cached_property
    def scale(self) -> float:
        """Factor from fields to outputs that gives the entries of B unit mean square."""
        return float(np.sqrt(2.0 / np.mean(np.abs(self.T) ** 2, dtype=np.float64)))

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
        digest.update(self.T.tobytes())
        return digest.hexdigest()[:32]

    def twin(self) -> DigitalTwin:
        """A digital projector of the same matrix."""
        return DigitalTwin(self.matrix, self.fingerprint())

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

        Raises:
            CalibrationFileError: The file exists already, or cannot be written.
        """
        path = Path(path)
        refuse_existing(path)
        try:
            with _written_aside(path) as aside:
                self._write(aside)
                refuse_existing(path)
                aside.replace(path)
        except OSError as error:
            raise CalibrationFileError(
                f"The calibration cannot be written to {path}: {error}. Name a folder that exists "
                "and that you may write to."
            ) from error
        return path

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a calibration that `save` has written.

        Raises:
            CalibrationFileError: The file is missing, damaged, truncated, of another schema, or
                no calibration; the message says which, and what was expected.
        """
        path = Path(path)
        _verify(path)
        try:
            with h5py.File(path, "r") as file:
                setup, more = from_json(file.attrs["header"])
                quality = Quality(
                    **more.pop("quality"), singular_values=file["singular_values"][...]
                )
                return cls(
                    **{name: getattr(setup, name) for name in Setup.__dataclass_fields__},
                    T=file["T"][...],
                    reference=file["reference"][...],
                    bias=file["bias"][...],
                    quality=quality,
                    **more,
                )
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise CalibrationFileError(
                f"{path} is intact but does not hold what schema {SCHEMA_VERSION} asks for: "
                f"{error}. It was written by other software."
            ) from error

    def _write(self, path: Path) -> None:
        quality = asdict(self.quality)
        singular_values = quality.pop("singular_values")
        with h5py.File(path, "w", userblock_size=_USER_BLOCK) as file:
            file.attrs["header"] = to_json(
                self, quality=quality, made_at=self.made_at, expires_at=self.expires_at
            )
            file["T"] = self.T
            file["T"].attrs["unit"] = "grey values / (us mW)"
            file["reference"] = self.reference
            file["bias"] = self.bias
            file["singular_values"] = singular_values
        digest = _digest(path)
        with path.open("r+b") as block:
            block.write(_seal(digest))
            block.flush()
            os.fsync(block.fileno())


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


@contextlib.contextmanager
def _written_aside(path: Path) -> Iterator[Path]:
    """A temporary file in the same folder, gone at the end unless it was renamed."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield aside
    finally:
        aside.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(_USER_BLOCK)
        return hashlib.file_digest(file, "sha256").hexdigest()


def _seal(digest: str) -> bytes:
    line = b"%s schema %d sha256 %s\n" % (_MAGIC, SCHEMA_VERSION, digest.encode())
    return line.ljust(_USER_BLOCK, b"\0")


def _verify(path: Path) -> None:
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
    if words[2] != b"%d" % SCHEMA_VERSION:
        raise CalibrationFileError(
            f"{path} has schema {words[2].decode(errors='replace')}; this software reads schema "
            f"{SCHEMA_VERSION}. Calibrate again, or use the software that has written it."
        )
    if seal != _seal(digest):
        raise CalibrationFileError(
            f"{path} is damaged or truncated: its content has the SHA-256 {digest}, it was written "
            f"with {words[4].decode(errors='replace')}. Restore it from a copy, or calibrate again."
        )
