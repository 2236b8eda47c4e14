"""The calibration: what was measured, on what, how well, and when it stops being true.

On disk it is a sealed file (see `sealed_file`). What is parsed is not believed either: every part
is checked for its kind, its shape and its values.

Schema 2 has the figures and curves that `quality.Quality` gives a default. A file of schema 1 is
read as a calibration in which they were not measured; the file itself is never changed.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import MISSING, dataclass, fields
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from calibration.errors import StaleCalibrationError
from calibration.quality import Quality
from calibration.sealed_file import SealedFormat, array, blocks, header, moment
from calibration.setup import Setup, from_json, to_json
from calibration.twin import DigitalTwin
from opu_driver.bench import Bench
from opu_driver.card import card, picture

SCHEMA_VERSION = 2

READABLE_VERSIONS = (1, 2)

FORMAT = SealedFormat(
    "opu-calibration", "calibration", SCHEMA_VERSION, READABLE_VERSIONS, "`opu calibrate`"
)

_ARRAYS = {
    "T": np.dtype(np.complex64),
    "reference": np.dtype(np.complex64),
    "bias": np.dtype(np.complex64),
    "singular_values": np.dtype(np.float32),
    "gains": np.dtype(np.complex64),
    "fidelities": np.dtype(np.float32),
}
_ERROR = (0.0, math.inf)  # infinite where nothing but noise was seen
_RANGES = {
    "held_out_correlation": (0.0, 1.01),
    "held_out_error": _ERROR,
    "held_out_noise": _ERROR,
    "split_half": (0.0, 1.5),  # without two halves it is freed from noise, and may pass 1
    "matrix_noise": _ERROR,
    "linearity": _ERROR,
    "linearity_noise": _ERROR,
    "distance_scatter": _ERROR,
    "conjugate_correlation": (0.0, 1.01),
    "stability": (0.0, 10.0),  # freed from noise, too
    "snr": (0.0, math.inf),
    "effective_modes": (1e-6, 1e12),
    "visibility": (0.0, 1e3),
    "saturated_fraction": (0.0, 1.0),
    "dead_fraction": (0.0, 1.0),
    "dark_modes": (0.0, 1.0),
}
"""What a figure of the quality can be."""

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
        power = sum(float(np.linalg.norm(rows)) ** 2 for rows in blocks(self.T))
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
        for rows in blocks(self.T):
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
        return FORMAT.save(Path(path), self._fill)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a calibration that `save` has written, also one of an earlier schema.

        Raises:
            CalibrationFileError: The file is missing, damaged, truncated, of another schema, or
                no calibration; the message says which, and what was expected.
        """
        return FORMAT.load(Path(path), cls._read)

    @classmethod
    def _read(cls, file: h5py.File, path: Path, schema: int) -> Self:
        """The calibration in an open file.

        Raises:
            ValueError: What is in it is no calibration; the message says what.
        """
        setup, more = from_json(header(file))
        curves = _CURVES_OF_1 if schema == 1 else _CURVES
        n_modes = setup.n_modes
        shapes = {"T": (n_modes, setup.n_inputs), "reference": (n_modes,), "bias": (n_modes,)}
        measured: dict[str, Any] = {
            name: array(file, path, name, _ARRAYS[name], shape) for name, shape in shapes.items()
        }
        figures: dict[str, Any] = _numbers(more.get("quality"), schema)
        drawn: dict[str, Any] = {
            name: array(file, path, name, _ARRAYS[name], (None,), finite=name != "fidelities")
            for name in curves
        }
        return cls(
            **{name: getattr(setup, name) for name in Setup.__dataclass_fields__},
            **measured,
            quality=Quality(**figures, **drawn),
            made_at=moment(more, "made_at"),
            expires_at=moment(more, "expires_at"),
        )

    def _fill(self, file: h5py.File) -> None:
        """Write all of it into an open file."""
        curves = {name: getattr(self.quality, name) for name in _CURVES}
        arrays = {"T": self.T, "reference": self.reference, "bias": self.bias, **curves}
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


def _quality_numbers() -> list[str]:
    return [f.name for f in fields(Quality) if f.name not in _CURVES]


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
    numbers = {name: float(value) for name, value in content.items()}
    may_lack = {f.name for f in fields(Quality) if f.default is not MISSING}
    for name, value in numbers.items():
        low, high = _RANGES[name]
        unmeasured = math.isnan(value) and name in may_lack
        if not (low <= value <= high or unmeasured):
            raise ValueError(
                f"the quality's {name} is {value:g}; what is measured lies from {low:g} to {high:g}"
            )
    return numbers
