"""The calibration of a bench without a tilt: measured, kept in a file, and bound to its bench.

The file is a sealed one (see `sealed_file`), never believed and never half written, like that of a
bench with a carrier; what is in it differs, so that neither is taken for the other.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
import scipy.fft
from pydantic import TypeAdapter, ValidationError

from calibration.errors import LowVisibilityError, StaleCalibrationError
from calibration.hadamard import hadamard_order
from calibration.method import ENOUGH_VECTORS
from calibration.phase_stepping import FOUR_STEPS, TWO_STEPS, MeasuredSteps, SteppedDemodulator
from calibration.pipeline import LONGEST_VALID_H
from calibration.sealed_file import SealedFormat, array, blocks, header, moment
from calibration.setup import device_mismatches, layout_mismatches, refuse_impossible_bench
from calibration.stepped_matrix import MEMORY_GB, SteppedMatrix, probe_steps, stepped_matrix
from calibration.stepped_projector import SteppedProjector
from calibration.stepped_reference import SteppedReference
from calibration.verdict import QualityLimits
from opu_driver.bench import Bench
from opu_driver.camera import CameraSettings
from opu_driver.damage import first_damage
from opu_driver.device import Identity
from opu_driver.errors import PatternError, SettingError
from opu_driver.layout import Layout

STEPPED_METHODS = {"four-step": FOUR_STEPS, "two-step": TWO_STEPS}
"""The methods without a tilt, and the phases of the reference, in turns."""

FORMAT = SealedFormat(
    "opu-stepped-calibration", "stepped calibration", 1, (1,), "`calibrate_stepped`"
)

_SPECTRA = 16  # that are averaged
_WRONG_STEPS = 4.0  # standard errors from which on measured steps are taken for the nominal ones
_RANGES = {
    "split_half": (0.0, 1.01),
    "held_out_correlation": (0.0, 1.01),
    "held_out_error": (0.0, math.inf),
    "held_out_noise": (0.0, math.inf),
}


@dataclass(frozen=True, kw_only=True)
class SteppedSetup:
    """A bench without a tilt at the time of a measurement, and how its frames become fields.

    Attributes:
        identities: Who the devices are: keys `modulator`, `camera`, `laser`.
        settings: The camera's settings.
        power_mw: Laser power, milliwatts.
        relative_exposure: `Bench.relative_exposure`, us mW.
        reference: What steps.
        n_inputs: Length of the vectors.
        turns: The phases that the demodulator takes the steps for.
        radius: Of the speckle's band, cycles/pixel.
        decimation: Pixels between two points of the field's grid.
        software: Version of this software.
    """

    identities: dict[str, Identity]
    settings: CameraSettings
    power_mw: float
    relative_exposure: float
    reference: SteppedReference
    n_inputs: int
    turns: tuple[float, ...]
    radius: float
    decimation: int
    software: str

    def demodulator(self) -> SteppedDemodulator:
        """What turns the frames of this setup into its fields."""
        return SteppedDemodulator(
            self.settings.region.shape, self.turns, radius=self.radius, decimation=self.decimation
        )

    def layout(self) -> Layout:
        """Where the inputs lie on the modulator."""
        return self.reference.layout(self.n_inputs)


@dataclass(frozen=True, kw_only=True, eq=False)
class SteppedCalibration(SteppedSetup):
    """A measured bench without a tilt.

    Attributes:
        matrix: What was measured, and how good it is.
        made_at: When, UTC, ISO 8601.
        expires_at: When it stops being true, UTC, ISO 8601.
    """

    matrix: SteppedMatrix
    made_at: str
    expires_at: str

    def check(self, bench: Bench) -> None:
        """Refuse a bench that this calibration does not describe.

        Raises:
            StaleCalibrationError: It does not fit or has expired; the message lists every reason.
        """
        reasons = device_mismatches(self.identities, self.settings, bench)
        now = (bench.modulator.shape, bench.modulator.levels)
        if now != (self.reference.shape, self.reference.levels):
            reasons.append(
                f"the modulator has (shape, levels) = {now}, it had "
                f"{(self.reference.shape, self.reference.levels)}"
            )
        reasons += layout_mismatches(self.layout(), self.layout)
        if datetime.now(UTC) > datetime.fromisoformat(self.expires_at):
            reasons.append(f"it expired at {self.expires_at}")
        if reasons:
            raise StaleCalibrationError(
                f"The calibration of {self.made_at} does not fit bench {bench.name!r}: "
                f"{'; '.join(reasons)}. Calibrate the bench as it is now, or set it as it was."
            )

    def projector(self, bench: Bench, **more: Any) -> SteppedProjector:
        """The bench as a linear map, at the exposure of this calibration.

        Args:
            bench: An open bench.
            **more: Of `SteppedProjector`.

        Raises:
            StaleCalibrationError: As `check`.
            SettingError: As `SteppedProjector`.
        """
        self.check(bench)
        bench.configure(self.settings)
        bench.laser.set_power_mw(self.power_mw)
        return SteppedProjector(bench, self.reference, self.demodulator(), self.matrix, **more)

    def save(self, path: str | Path) -> Path:
        """Write the calibration; it is there whole or not at all.

        Raises:
            CalibrationFileError: The file exists already, or cannot be written.
        """
        return FORMAT.save(Path(path), self._fill)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a calibration that `save` has written; a large matrix is mapped.

        Raises:
            CalibrationFileError: The file is missing, damaged, truncated, of another schema, or no
                such calibration; the message says which, and what was expected.
        """
        return FORMAT.load(Path(path), cls._read)

    def _fill(self, file: h5py.File) -> None:
        setup = {f.name: getattr(self, f.name) for f in fields(SteppedSetup)}
        setup["identities"] = {kind: asdict(who) for kind, who in self.identities.items()}
        for name in ("settings", "reference"):
            setup[name] = asdict(setup[name])
        figures = {name: getattr(self.matrix, name) for name in ("visibility", *_RANGES)}
        content = {
            "setup": setup,
            "quality": figures,
            "made_at": self.made_at,
            "expires_at": self.expires_at,
        }
        file.attrs["header"] = json.dumps(content)
        T = self.matrix.T.T
        stored = file.create_dataset("T", T.shape, T.dtype)
        first = 0
        for rows in blocks(T):
            stored[first : first + len(rows)] = rows
            first += len(rows)
        file.create_dataset("pair_sum", data=self.matrix.pair_sum)
        for name in ("T", "pair_sum"):
            file[name].attrs["unit"] = "grey values"

    @classmethod
    def _read(cls, file: h5py.File, path: Path, schema: int) -> Self:
        del schema  # there is one
        content = json.loads(header(file))
        if not isinstance(content, dict):
            raise ValueError("no setup")
        setup = _setup(content.get("setup"))
        demodulate = setup.demodulator()
        kind = np.dtype(np.float32 if len(setup.turns) == 2 else np.complex64)
        shape = (setup.n_inputs, demodulate.n_modes)
        matrix = SteppedMatrix(
            array(file, path, "T", kind, shape).T,
            array(file, path, "pair_sum", kind, shape[1:]),
            **_figures(content.get("quality")),
        )
        return cls(
            **{f.name: getattr(setup, f.name) for f in fields(SteppedSetup)},
            matrix=matrix,
            made_at=moment(content, "made_at"),
            expires_at=moment(content, "expires_at"),
        )


def calibrate_stepped(
    bench: Bench,
    n_inputs: int,
    *,
    reference_rows: int,
    method: str = "four-step",
    radius: float | None = None,
    repeats: int | None = None,
    seed: int = 0,
    fit_exposure: bool = True,
    valid_for_h: float = 24.0,
    memory_gb: float = MEMORY_GB,
    limits: QualityLimits | None = None,
) -> SteppedCalibration:
    """Measure the transmission matrix of an open bench without a tilt, and how good it is.

    Args:
        bench: An open bench.
        n_inputs: Length of the vectors that will be projected.
        reference_rows: How many of the modulator's last rows light the reference arm.
        method: `four-step`, two outputs a mode, or `two-step`, one; see `phase_stepping`.
        radius: Of the speckle's band, cycles/pixel; None measures it.
        repeats: How often the Hadamard vectors are shown; None for as often as brings a small
            matrix to hundreds of vectors.
        seed: Of all random vectors.
        fit_exposure: Whether to measure the exposure time; otherwise that of the bench is kept.
        valid_for_h: Hours after which the calibration expires, at most `LONGEST_VALID_H`.
        memory_gb: What may be taken.
        limits: What its quality must reach.

    Raises:
        SettingError: An argument out of its limits, or more memory than is allowed.
        LowVisibilityError: No fringes, too faint ones, or speckle without grains.
        NoiseError, QualityError: As `SteppedMatrix.check`.
        PatternError, FrameMismatchError, CaptureTimeoutError, LaserSafetyError, SaturationError: As
            `Bench.stream`.
    """
    if method not in STEPPED_METHODS or not 0 < valid_for_h <= LONGEST_VALID_H:
        raise SettingError(
            f"method = {method!r}, valid_for_h = {valid_for_h:g}; one of "
            f"{', '.join(STEPPED_METHODS)}, and more than 0 to {LONGEST_VALID_H:g} hours."
        )
    reference = SteppedReference.on(bench, reference_rows, turns=STEPPED_METHODS[method])
    layout = reference.layout(n_inputs)
    if fit_exposure:
        brightest = reference.patterns(layout.all_on())
        bench.fit_exposure(np.concatenate([brightest, bench.layout(1).all_on()]))
    steps = probe_steps(bench, reference, layout, seed)
    if radius is None:
        radius = _radius(bench, reference, layout, seed)
    shape = bench.settings.region.shape
    demodulate = SteppedDemodulator(shape, _turns(reference, steps), radius=radius)
    if repeats is None:
        repeats = max(1, ENOUGH_VECTORS // hadamard_order(n_inputs))
    matrix = stepped_matrix(
        bench,
        reference,
        demodulate,
        n_inputs,
        repeats=repeats,
        seed=seed,
        memory_gb=memory_gb,
        limits=limits,
    )
    now = datetime.now(UTC)
    return SteppedCalibration(
        identities=bench.identities,
        settings=bench.settings,
        power_mw=bench.power_mw,
        relative_exposure=bench.relative_exposure,
        reference=reference,
        n_inputs=n_inputs,
        turns=demodulate.turns,
        radius=radius,
        decimation=demodulate.decimation,
        software=version("opu"),
        matrix=matrix,
        made_at=now.isoformat(),
        expires_at=(now + timedelta(hours=valid_for_h)).isoformat(),
    )


def _turns(reference: SteppedReference, steps: MeasuredSteps | None) -> tuple[float, ...]:
    """The steps as measured, where four of them are surely others than they should be."""
    if steps is None or len(reference.turns) != len(steps.turns):
        return reference.turns
    off = np.abs(np.subtract(steps.turns, reference.turns))
    return steps.turns if off.max() > _WRONG_STEPS * steps.uncertainty_turns else reference.turns


def _radius(bench: Bench, reference: SteppedReference, layout: Layout, seed: int) -> float:
    """The radius of the speckle's band: where the spectrum of the fields falls to a half.

    Raises:
        LowVisibilityError: It is as bright everywhere.
    """
    rng = np.random.default_rng([seed, 3])
    bits = rng.integers(0, 2, (_SPECTRA, layout.n_inputs), np.uint8)
    frames = bench.expose(reference.patterns(layout.render(bits)))
    rows, columns = shape = bench.settings.region.shape
    fields = SteppedDemodulator(shape, reference.turns)(frames)
    power = np.mean(np.abs(scipy.fft.fft2(fields)) ** 2, axis=0)
    f = np.hypot(scipy.fft.fftfreq(rows)[:, None], scipy.fft.fftfreq(columns))
    width = 1 / min(shape)
    ring = np.rint(f / width).astype(int).ravel()
    profile = np.bincount(ring, power.ravel()) / np.maximum(np.bincount(ring), 1)
    # The outermost rings, in the corners, have too few bins to tell, the innermost the bias.
    dark = float(np.median(power[f > 0.45]))
    bright = float(np.median(power[(f > 2 * width) & (f < max(0.1, 5 * width))]))
    half = (bright + dark) / 2
    beyond = np.flatnonzero((profile[3:] < half) & (np.arange(3, len(profile)) * width < 0.6))
    if not beyond.size or bright < 2 * dark:
        raise LowVisibilityError(
            "The spectrum of the fields is as bright everywhere: speckle without grains, or noise. "
            "Make the speckle coarser, or give its radius."
        )
    k = int(beyond[0]) + 3
    inner, outer = profile[k - 1], profile[k]
    return float((k - 1 + (inner - half) / (inner - outer)) * width)


def _setup(content: Any) -> SteppedSetup:
    """A setup, checked.

    Raises:
        ValueError: Names what is wrong.
    """
    try:
        setup = TypeAdapter(SteppedSetup).validate_python(content)
        setup.layout()
        setup.demodulator()
    except ValidationError as error:
        raise ValueError(f"setup, {first_damage(error)}") from error
    except (SettingError, PatternError) as error:
        raise ValueError(f"setup, {error}") from error
    refuse_impossible_bench(
        setup.identities, setup.settings, setup.power_mw, setup.relative_exposure
    )
    if len(setup.turns) != len(setup.reference.turns):
        raise ValueError(f"setup, turns = {setup.turns} of a reference of {setup.reference.turns}")
    return setup


def _figures(content: Any) -> dict[str, float]:
    """The quality's figures.

    Raises:
        ValueError: One is missing, unknown, no number, or one that nothing measures.
    """
    if not isinstance(content, dict) or set(content) != {"visibility", *_RANGES}:
        raise ValueError("the quality is another")
    for name, value in content.items():
        low, high = _RANGES.get(name, (0.0, 1e3))
        number = isinstance(value, int | float) and not isinstance(value, bool)
        unmeasured = name == "visibility" and number and math.isnan(value)
        if not number or not (low <= value <= high or unmeasured):
            raise ValueError(f"the quality's {name} is {value!r}; from {low:g} to {high:g}")
    return {name: float(value) for name, value in content.items()}
