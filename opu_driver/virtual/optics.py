"""From patterns to the fields on a region of the sensor, the cheaper way of two.

Few groups of mirrors: the groups' fields are kept pixel by pixel, and a pattern's field is the
sum of those that are lit. Many: cells to modes by a matrix product, modes to pixels by a transform.
Both are the same linear algebra, both are done anew for each exposure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from opu_driver.camera import Region
from opu_driver.modulator import Patterns
from opu_driver.virtual.drift import normals
from opu_driver.virtual.medium import Medium, sum_of
from opu_driver.virtual.mirrors import Amplitudes, Groups, Mirrors
from opu_driver.virtual.reference_arm import ReferenceArm
from opu_driver.virtual.settings import SceneSettings

# What both ways cost a processor, measured; only their ratios matter.
_SUM_NS = 0.1  # to add one group's field to a pixel
_MOVE_NS = 2.0  # to bring one pixel of one group's field to the medium's next step
_PRODUCT_NS = 0.08  # to add one cell's light to a mode, by one part of the medium
_TRANSFORM_NS = 4.0  # to transform modes, a pixel of the field

_SENSITIVITY = 30  # the stream of random numbers
_Plane = TypeVar("_Plane", np.float32, np.complex64)
_Value = TypeVar("_Value", np.intp, np.float32)
_FIELDS_BYTES = 5 << 29
_BATCH_BYTES = 1 << 28
_PRODUCT_ROWS = 256
_SPREAD_ROWS = 16
_CACHE_PERIOD = 1 << 14  # pixels after which addresses share their cache sets
_STAGGER = 1032  # pixels from a row's place in the caches to the next one's


@dataclass(frozen=True)
class Superposition:
    """Fields of exposures as weighted sums of rows of `fields`.

    Attributes:
        fields: complex64 `[field, pixel]`; rows may be longer than needed.
        starts: int64 `[2 exposure + 1]`; see `kernels.expose`.
        which: int32 `[entry]`, rows of `fields`.
        weights: complex64 `[entry]`.
    """

    fields: NDArray[np.complex64]
    starts: NDArray[np.int64]
    which: NDArray[np.int32]
    weights: NDArray[np.complex64]

    def __len__(self) -> int:
        return len(self.starts) // 2

    def now(self) -> Iterator[NDArray[np.complex64]]:
        """The field `[pixel]` of what each exposure shows."""
        for begin, end in zip(self.starts[:-1:2], self.starts[1::2], strict=True):
            yield self.weights[begin:end] @ self.fields[self.which[begin:end]]

    @classmethod
    def of(cls, fields: NDArray[np.complex64], weights: NDArray[np.complex64]) -> Superposition:
        """The sums that dense weights `[exposure, side, field]` say, zeros left out."""
        flat = weights.reshape(-1, weights.shape[-1])
        sums, which = np.nonzero(flat)
        starts = np.zeros(len(flat) + 1, np.int64)
        np.cumsum(np.bincount(sums, minlength=len(flat)), out=starts[1:])
        return cls(fields, starts, which.astype(np.int32), flat[sums, which])


@dataclass(frozen=True)
class Shown:
    """What the modulator showed during exposures.

    Attributes:
        patterns: As stored, `[pattern, ...]`.
        now: `[exposure]`, which of them is there when it starts.
        following: `[exposure]`, which comes next.
        mixing: float32 `[exposure]`, part of the exposure that sees the one that comes next.
    """

    patterns: Patterns
    now: NDArray[np.intp]
    following: NDArray[np.intp]
    mixing: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.now)

    def __getitem__(self, some: slice) -> Shown:
        return Shown(self.patterns, self.now[some], self.following[some], self.mixing[some])

    def late_from(self, exposure: int) -> Shown:
        """The same, with an exposure of the pattern before put in and all later ones one late."""
        before = max(int(self.now[exposure]) - 1, 0)

        def late(values: NDArray[_Value], new: float) -> NDArray[_Value]:
            return np.insert(values, exposure, new)[: len(values)]

        return Shown(
            self.patterns,
            late(self.now, before),
            late(self.following, before),
            late(self.mixing, 0),
        )


class Optics:
    """Modulator, medium, reference and sensor at rest; what moves is an argument.

    Args:
        settings: Of the scene.
        modulator_shape: Rows and columns of mirrors.
        levels: Of the modulator.
        sensor_shape: Rows and columns of pixels.
        seed: Of medium and sensor.

    Attributes:
        sensor_shape: As given.
        medium: Between the modulator and the sensor.
        mirrors: Those of the modulator that light the medium.
        reference_arm: What the others do to the reference.
    """

    def __init__(
        self,
        settings: SceneSettings,
        modulator_shape: tuple[int, int],
        levels: int,
        sensor_shape: tuple[int, int],
        seed: int,
    ) -> None:
        self._settings = settings
        self.sensor_shape = sensor_shape
        self.medium = Medium(settings, sensor_shape, seed)
        rows, columns = modulator_shape
        self.mirrors = Mirrors(
            (rows - settings.reference_rows, columns),
            levels,
            settings.cells,
            settings.leakage,
            self._most_groups(),
        )
        self.reference_arm = ReferenceArm(
            modulator_shape,
            levels,
            settings.reference_rows,
            settings.reference_period,
            settings.leakage,
        )
        gap = (1 - settings.fill_factor) / settings.fill_factor
        self._gaps = np.float32(gap * math.sqrt(self.medium.n_sources - 1))
        self._kept: _Kept | None = None
        deviations = normals(seed, _SENSITIVITY, np.arange(math.prod(sensor_shape)))
        response = 1 + settings.prnu * deviations.reshape(sensor_shape)
        self._response = response.astype(np.float32)

    def response(self, region: Region) -> NDArray[np.float32]:
        """Relative sensitivities `[pixel]`."""
        return np.maximum(_cut(self._response, region), 0).ravel()

    def reference(self, region: Region, offset: tuple[float, float]) -> NDArray[np.complex64]:
        """Reference field `[pixel]` at full strength.

        Its tilt is `offset` cycles/pixel away from the set carrier.
        """
        rows, columns = self.sensor_shape
        row, column = np.ogrid[:rows, :columns]
        waist = self._settings.reference_waist * max(rows, columns)
        away = (row - (rows - 1) / 2) ** 2 + (column - (columns - 1) / 2) ** 2
        profile = np.exp(-away / waist**2)
        profile *= math.sqrt(self._settings.reference_ratio / float(np.mean(profile**2)))
        f = [carrier + jump for carrier, jump in zip(self.medium.carrier, offset, strict=True)]
        tilt = np.exp(-2j * np.pi * (f[0] * row + f[1] * column))
        return _cut((profile * tilt).astype(np.complex64), region).ravel()

    def superpose(self, shown: Shown, region: Region) -> Iterator[Superposition]:
        """The fields of exposures, some at a time, through the medium as it is now."""
        weights = self.mirrors.weights(self.reference_arm.signal(shown.patterns))
        if weights is None:
            for k in range(0, len(shown), _PRODUCT_ROWS):
                yield from self._by_cells(shown[k : k + _PRODUCT_ROWS], region)
            return
        static = np.ones((len(weights), 1), np.complex64)
        lit = np.concatenate([static, weights], axis=1)
        following = lit[shown.following] * (shown.mixing > 0)[:, None]
        sides = np.stack([lit[shown.now], following], axis=1)
        yield Superposition.of(self._group_fields(region), sides)

    def _by_cells(self, shown: Shown, region: Region) -> Iterator[Superposition]:
        """Cells to modes to pixels; each exposure, and each pattern mixed into one, by itself."""
        count = 1 + (shown.mixing > 0)
        first = np.concatenate([[0], np.cumsum(count)])
        which = shown.now[np.repeat(np.arange(len(shown)), count)]
        which[first[1:][count == 2] - 1] = shown.following[count == 2]
        cells = self.mirrors.cells(self.reference_arm.signal(shown.patterns[which]))
        modes = self.medium.modes(self._sources(cells))
        step = max(1, _BATCH_BYTES // (16 * region.height * region.width))
        for k in range(0, len(shown), step):
            ends = first[k : k + step + 1]
            fields = self.medium.fields(modes[ends[0] : ends[-1]], region)
            starts = np.empty(2 * len(ends) - 1, np.int64)
            starts[::2] = ends - ends[0]
            starts[1::2] = starts[:-1:2] + 1
            yield Superposition(
                fields,
                starts,
                np.arange(len(fields), dtype=np.int32),
                np.ones(len(fields), np.complex64),
            )

    def _group_fields(self, region: Region) -> NDArray[np.complex64]:
        """Fields of the static light and of each group, through the medium as it is now."""
        kept = self._kept
        made_for = (self.mirrors.groups, region, self.medium.renewals)
        if kept is None or kept.made_for != made_for:
            self._kept = None
            shares = self.mirrors.shares()
            static = self._sources(self.mirrors.resting[None])
            groups = np.pad(shares, ((0, 0), (0, 1)))
            modes = self.medium.parts(np.concatenate([static, groups]))
            kept = _Kept(made_for, [self._spread(part, region) for part in modes])
            self._kept = kept
        kept.move_to(self.medium)
        return kept.fields

    def _spread(self, modes: NDArray[np.complex64], region: Region) -> NDArray[np.complex64]:
        """Fields `[n, pixel]` with rows that begin in different places of the caches."""
        pixels = region.height * region.width
        fields = np.zeros((len(modes), pixels + (_STAGGER - pixels) % _CACHE_PERIOD), np.complex64)
        for k in range(0, len(modes), _SPREAD_ROWS):
            rows = slice(k, k + _SPREAD_ROWS)
            fields[rows, :pixels] = self.medium.fields(modes[rows], region)
        return fields

    def _sources(self, cells: Amplitudes) -> Amplitudes:
        """Light of the cells with that of the gaps, `[n, source]`."""
        gaps = np.full((len(cells), 1), self._gaps, cells.dtype)
        return cast(Amplitudes, np.concatenate([cells, gaps], axis=1))

    def _most_groups(self) -> int:
        """Groups beyond which going by cells is cheaper than summing those that are lit."""
        medium = self.medium
        parts = len(medium.shares)
        pixels = math.prod(self.sensor_shape)
        product = _PRODUCT_NS * parts * medium.n_sources * medium.n_modes
        by_cells = product + _TRANSFORM_NS * math.prod(medium.grid)
        a_group = pixels * (_SUM_NS / 2 + _MOVE_NS * min(medium.steps_per_frame, 1))
        copies = 3 if parts > 1 else 1
        return max(1, min(int(by_cells / a_group), _FIELDS_BYTES // (8 * pixels * copies)))


class _Kept:
    """Fields of groups, kept while the groups, the region and the medium's parts are the same.

    Args:
        made_for: Groups, region and renewal.
        parts: Fields `[group, pixel]` through each part of the medium.
    """

    def __init__(
        self, made_for: tuple[Groups, Region, int], parts: list[NDArray[np.complex64]]
    ) -> None:
        self.made_for = made_for
        self.fields = np.empty_like(parts[0]) if len(parts) > 1 else parts[0]
        self._parts = parts
        self._moment: int | None = None

    def move_to(self, medium: Medium) -> None:
        """Bring the fields to the medium's present moment."""
        if medium.moment != self._moment:
            sum_of(self._parts, medium.shares, out=self.fields)
            self._moment = medium.moment


def _cut(plane: NDArray[_Plane], region: Region) -> NDArray[_Plane]:
    rows = slice(region.row, region.row + region.height)
    return plane[rows, region.column : region.column + region.width]
