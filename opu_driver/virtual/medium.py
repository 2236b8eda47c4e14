"""The scattering medium: its transmission matrix, how it drifts, and the speckle behind it.

The matrix `T` is complex Gaussian, from the cells of the modulator to the modes of the speckle: the
plane waves whose frequencies lie in a disc of radius r. The field on the sensor is the Fourier sum
of its modes, on a grid larger than the sensor, so that a frame is a part of a larger speckle.

A pixel averages the intensity over its aperture, which weakens fringes by the aperture's transfer
function. Each mode of the field carries what is left of its fringes, relative to those at the
carrier; `contrast` is what is left there. The small and smooth change that this makes to |S|^2,
whose own frequencies are low, is an approximation.

How `T` changes with time stands in `course.py`.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from opu_driver.camera import Region
from opu_driver.errors import SettingError
from opu_driver.virtual.course import STEPS, Course, MeasuredCourse, RandomCourse
from opu_driver.virtual.parallel import in_parallel
from opu_driver.virtual.settings import SceneSettings

MARGIN = 1.25
"""Side of the speckle field relative to that of the sensor, where frames are not periodic."""

MAX_MATRIX_BYTES = 4 << 30
"""Largest transmission matrix that is kept in memory; a drifting medium keeps two."""

Sources = NDArray[np.float32] | NDArray[np.complex64]

_PIECE_BYTES = 1 << 21


def sum_of(
    parts: list[NDArray[np.complex64]],
    shares: tuple[float, ...],
    out: NDArray[np.complex64] | None = None,
) -> NDArray[np.complex64]:
    """The weighted sum of the parts of a drifting matrix, or of the fields that they make."""
    if len(parts) == 1:
        return parts[0]
    total = np.empty_like(parts[0]) if out is None else out
    for row, *rows in zip(total, *parts, strict=True):
        np.multiply(rows[0], np.float32(shares[0]), out=row)
        row += np.float32(shares[1]) * rows[1]
    return total


class Medium:
    """The medium between the modulator's cells and a sensor.

    Fields have the unit in which half of the cells, lit, make a mean intensity of 1.

    Args:
        settings: Of the scene.
        sensor_shape: Rows and columns of the sensor.
        seed: Of the matrix and of all its renewals.

    Attributes:
        grid: Rows and columns of the field of which the sensor sees a part.
        n_modes: Modes in the disc.
        n_sources: Cells, and as the last source the gaps between the mirrors.
        carrier: Row and column frequency of the fringes, cycles/pixel.
        steps_per_frame: How fast the matrix drifts, in steps (see `STEPS`).
        contrast: What the pixel's aperture leaves of fringes at the carrier's frequency.

    Raises:
        SettingError: The matrix would be larger than `MAX_MATRIX_BYTES`, or measured ones do not
            fit.
    """

    def __init__(self, settings: SceneSettings, sensor_shape: tuple[int, int], seed: int) -> None:
        rows, columns = (
            n if settings.periodic else scipy.fft.next_fast_len(math.ceil(MARGIN * n))
            for n in sensor_shape
        )
        self.grid = (rows, columns)
        self.carrier = (
            (
                round(settings.carrier[0] * rows) / rows,
                round(settings.carrier[1] * columns) / columns,
            )
            if settings.periodic
            else settings.carrier
        )
        self._row = scipy.fft.fftfreq(rows)
        self._column = scipy.fft.fftfreq(columns)
        inside = np.hypot(self._row[:, None], self._column) <= settings.speckle_radius
        self._used = np.flatnonzero(inside.any(axis=0))
        self._at_row, self._at_column = np.nonzero(inside[:, self._used])
        self.n_modes = len(self._at_row)
        self.n_sources = settings.cells[0] * settings.cells[1] + 1
        size = 8 * self.n_sources * self.n_modes
        if size > MAX_MATRIX_BYTES:
            raise SettingError(
                f"A medium between {settings.cells[0]} x {settings.cells[1]} cells and "
                f"{self.n_modes} modes takes {size / 2**30:.1f} GiB; at most "
                f"{MAX_MATRIX_BYTES / 2**30:g}. Use fewer scene.cells, a smaller "
                "scene.speckle_radius or a smaller sensor."
            )
        self.contrast = float(_aperture(settings.pixel_fill, *self.carrier))
        relative = (
            _aperture(
                settings.pixel_fill,
                self.carrier[0] + self._row[self._at_row],
                self.carrier[1] + self._column[self._used[self._at_column]],
            )
            / self.contrast
        )
        half_lit = (self.n_sources - 1) / 2
        self._envelope = (relative / math.sqrt(half_lit * self.n_modes)).astype(np.float32)
        shape = self.n_sources, self.n_modes
        self._course: Course = (
            MeasuredCourse(shape, settings, seed)
            if settings.measured_matrices
            else RandomCourse(shape, settings.decorrelation, seed)
        )
        self._renewals = 0
        self._step = 0
        self.steps_per_frame = self._course.steps_per_frame
        self._now = self._course.matrix(0)
        self._next = self._course.matrix(1) if self.steps_per_frame else None

    @property
    def moment(self) -> int:
        """Steps of the drift so far; while it is the same, so is the matrix."""
        return self._renewals * STEPS + self._step

    @property
    def renewals(self) -> int:
        """How often a new matrix was drawn; while it is the same, so are the `parts`."""
        return self._renewals

    @property
    def shares(self) -> tuple[float, ...]:
        """What the matrix now has of each of its `parts`."""
        if self._next is None:
            return (1.0,)
        return self._course.shares(self._step)

    def still_for(self, age: int) -> int | None:
        """Frames from `age` on that see the matrix of `age`; None if it never changes."""
        if self._next is None:
            return None
        step = self._step_at(age)
        frames = max(1, math.ceil((step + 1) / self.steps_per_frame) - age)
        # The quotient may round to either side of a step; the steps themselves decide.
        while frames > 1 and self._step_at(age + frames - 1) > step:
            frames -= 1
        while self._step_at(age + frames) == step:
            frames += 1
        return frames

    def grow_to(self, age: int) -> None:
        """Let the matrix drift up to an age in frames; it does not come back."""
        renewals, step = divmod(self._step_at(age), STEPS)
        while self._next is not None and self._renewals < renewals:
            shares = self._course.shares(STEPS)
            self._now *= np.float32(shares[0])
            self._next *= np.float32(shares[1])
            self._now += self._next
            self._renewals += 1
            self._next = self._course.matrix(self._renewals + 1)
        self._step = step

    def parts(self, sources: Sources) -> list[NDArray[np.complex64]]:
        """Modes `[n, mode]` of light from sources `[n, source]`, by the matrix's parts."""
        parts = [self._now] if self._next is None else [self._now, self._next]
        if np.iscomplexobj(sources):
            return [sources @ part for part in parts]
        real = np.ascontiguousarray(sources, np.float32)
        return [(real @ part.view(np.float32)).view(np.complex64) for part in parts]

    def modes(self, sources: Sources) -> NDArray[np.complex64]:
        """Modes `[n, mode]` of light from sources `[n, source]`."""
        return sum_of(self.parts(sources), self.shares)

    def fields(self, modes: NDArray[np.complex64], region: Region) -> NDArray[np.complex64]:
        """Fields `[n, pixel]` of modes `[n, mode]` on a region of the sensor.

        An inverse Fourier transform of which only what is needed is computed: along the disc's own
        columns first, then along the region's own rows; in pieces that stay in cache.
        """
        fields = np.empty((len(modes), region.height, region.width), np.complex64)
        step = max(1, _PIECE_BYTES // (8 * self.grid[0] * len(self._used)))

        def transform(begin: int, end: int) -> None:
            for k in range(begin, end, step):
                self._transform(
                    modes[k : min(k + step, end)], region, fields[k : min(k + step, end)]
                )

        in_parallel(transform, len(modes))
        return fields.reshape(len(modes), -1)

    def _transform(
        self, modes: NDArray[np.complex64], region: Region, fields: NDArray[np.complex64]
    ) -> None:
        disc = np.zeros((len(modes), self.grid[0], len(self._used)), np.complex64)
        disc[:, self._at_row, self._at_column] = modes * self._envelope
        tall = _inverse(disc)[:, region.row : region.row + region.height]
        lines = tall.reshape(-1, len(self._used))
        seen = fields.reshape(-1, region.width)
        step = max(1, _PIECE_BYTES // (8 * self.grid[1]))
        for k in range(0, len(lines), step):
            wide = np.zeros((len(lines[k : k + step]), self.grid[1]), np.complex64)
            wide[:, self._used] = lines[k : k + step]
            waves = _inverse(wide)
            seen[k : k + step] = waves[:, region.column : region.column + region.width]

    def _step_at(self, age: int) -> int:
        return int(age * self.steps_per_frame)


def _inverse(spectra: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """Inverse transform along axis 1, a sum of waves without a factor."""
    waves: NDArray[np.complex64] = scipy.fft.ifft(spectra, axis=1, norm="forward", overwrite_x=True)
    return waves


def _aperture(
    fill: float, row: float | NDArray[np.float64], column: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Transfer function of a square pixel that collects light on a part `fill` of its area."""
    side = math.sqrt(fill)
    transfer: NDArray[np.float64] = np.sinc(side * np.asarray(row)) * np.sinc(
        side * np.asarray(column)
    )
    return transfer
