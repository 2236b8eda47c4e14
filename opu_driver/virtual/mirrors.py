"""Which mirrors move together, and what light they send into the medium.

Mirrors that have always been switched together are one group with one field on the sensor, so the
field of a pattern is a sum over few groups. Each batch is checked against the groups, mirror by
mirror; a batch that splits a group refines them. Patterns with too many groups are taken cell by
cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from opu_driver.modulator import Patterns

Amplitudes = NDArray[np.float32] | NDArray[np.complex64]

_CHUNK = 1 << 22


@dataclass(frozen=True, eq=False)
class Partition:
    """Positions in groups, those of one group holding equal values.

    Attributes:
        group: `[position]`, the group of each.
        first: `[group]`, one position of each.
    """

    group: NDArray[np.intp]
    first: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.first)

    @classmethod
    def by(cls, keys: NDArray[np.intp]) -> Self:
        """Positions with equal keys together."""
        _, first, group = np.unique(keys, return_index=True, return_inverse=True)
        return cls(group, first)

    def refined(self, values: NDArray[np.uint8], limit: int) -> Partition | None:
        """The coarsest refinement whose groups are even in all of `values[pattern, position]`.

        It is this partition itself where nothing splits; None beyond `limit` groups.
        """
        partition, row = self, 0
        while len(partition) <= limit:
            split = partition._first_split(values[row:])
            if split is None:
                return partition
            row += split
            partition = Partition.by(partition.group * 256 + values[row])
        return None

    def _first_split(self, values: NDArray[np.uint8]) -> int | None:
        """The first pattern in which positions of one group differ."""
        step = max(1, _CHUNK // values.shape[1])
        for k in range(0, len(values), step):
            part = values[k : k + step]
            uneven = (part[:, self.first][:, self.group] != part).any(axis=1)
            if uneven.any():
                return k + int(np.argmax(uneven))
        return None


@dataclass(frozen=True, eq=False)
class Groups:
    """Mirrors in groups: stored bytes first, then the mirrors in one byte of each kind.

    Attributes:
        stored: Groups of the bytes of a stored pattern.
        mirrors: Groups of the mirrors in one byte of each group: eight in a byte for two levels,
            else one.
    """

    stored: Partition
    mirrors: Partition

    @classmethod
    def all_in_one(cls, size: int, per_byte: int) -> Self:
        """`size` stored bytes that all move together."""
        return cls(Partition.by(np.zeros(size, np.intp)), Partition.by(np.zeros(per_byte, np.intp)))

    def __len__(self) -> int:
        return len(self.mirrors)

    @property
    def _per_byte(self) -> int:
        return len(self.mirrors.group) // len(self.stored)

    def refined(self, stored: NDArray[np.uint8], limit: int) -> Groups | None:
        """These groups, split where patterns `[pattern, byte]` need it; None beyond the limit."""
        bytes_ = self.stored.refined(stored, 8 * limit)
        if bytes_ is None:
            return None
        per_byte = self._per_byte
        mirrors = self.mirrors
        if bytes_ is not self.stored:
            known = mirrors.group.reshape(-1, per_byte)[self.stored.group[bytes_.first]]
            mirrors = Partition.by(known.ravel())
        mirrors_ = mirrors.refined(_mirrors_of(stored[:, bytes_.first], per_byte), limit)
        if mirrors_ is None:
            return None
        return self if mirrors_ is self.mirrors else Groups(bytes_, mirrors_)

    def levels(self, stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Levels `[pattern, group]` in patterns `[pattern, byte]`."""
        which, within = np.divmod(self.mirrors.first, self._per_byte)
        values = stored[:, self.stored.first[which]]
        if self._per_byte == 1:
            return values
        bits: NDArray[np.uint8] = values >> (7 - within).astype(np.uint8) & np.uint8(1)
        return bits

    def of_mirrors(self) -> NDArray[np.intp]:
        """The group of each mirror, in the order of the stored patterns, padding included."""
        return self.mirrors.group.reshape(-1, self._per_byte)[self.stored.group].ravel()


class Mirrors:
    """The modulator as the medium sees it: groups of mirrors, on a grid of cells.

    Args:
        shape: Rows and columns of mirrors.
        levels: 2 for mirrors that are on or off; more for phases `2 pi level / levels`.
        cells: Rows and columns of cells, at most `shape`.
        leakage: Intensity of a mirror that is off, relative to one that is on (two levels only).
        limit: Largest number of groups.

    Attributes:
        groups: The groups of the patterns seen so far.
        resting: `[cell]`, amplitudes of what the groups' amplitudes are counted from.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        levels: int,
        cells: tuple[int, int],
        leakage: float,
        limit: int,
    ) -> None:
        self._shape = shape
        self._per_byte = 8 if levels == 2 else 1
        self._stored_columns = -(-shape[1] // self._per_byte)
        self._limit = limit
        self._edges = [-(-np.arange(c) * n // c) for c, n in zip(cells, shape, strict=True)]
        row, column = (np.arange(n) * c // n for c, n in zip(cells, shape, strict=True))
        self._cell = row[:, None] * cells[1] + column
        self._n_cells = cells[0] * cells[1]
        self._in_cell = np.bincount(self._cell.ravel()).astype(np.float32)
        off = np.sqrt(leakage) if levels == 2 else 0.0
        self.resting = np.full(self._n_cells, off, np.float32)
        self._amplitudes = (
            np.array([0, 1 - off], np.complex64)
            if levels == 2
            else np.exp(2j * np.pi * np.arange(levels) / levels).astype(np.complex64)
        )
        self.groups = self._none_yet()

    def weights(self, patterns: Patterns) -> NDArray[np.complex64] | None:
        """Amplitudes `[pattern, group]` of the groups; None for patterns with too many groups.

        Groups that patterns of long ago have split are given up where they get too many.
        """
        stored = patterns.reshape(len(patterns), -1)
        for groups in (self.groups, self._none_yet()):
            refined = groups.refined(stored, self._limit)
            if refined is not None:
                self.groups = refined
                return self._amplitudes[refined.levels(stored)]
        return None

    def shares(self) -> NDArray[np.float32]:
        """Part of each cell `[group, cell]` that belongs to each group."""
        mirrors = self.groups.of_mirrors().reshape(self._shape[0], -1)[:, : self._shape[1]]
        count = np.bincount(
            (mirrors * self._n_cells + self._cell).ravel(),
            minlength=len(self.groups) * self._n_cells,
        )
        shares: NDArray[np.float32] = (
            count.reshape(-1, self._n_cells).astype(np.float32) / self._in_cell
        )
        return shares

    def cells(self, patterns: Patterns) -> Amplitudes:
        """Amplitudes `[pattern, cell]` of the cells, the means of their mirrors' amplitudes.

        Real for two levels, complex for phases.
        """
        binary = self._per_byte == 8
        cells: Amplitudes = (
            np.empty((len(patterns), self._n_cells), np.float32)
            if binary
            else np.empty((len(patterns), self._n_cells), np.complex64)
        )
        step = max(1, _CHUNK // self._cell.size)
        for k in range(0, len(patterns), step):
            levels = _mirrors_of(patterns[k : k + step], self._per_byte)[:, :, : self._shape[1]]
            light = levels if binary else self._amplitudes[levels]
            lines = np.add.reduceat(light, self._edges[1], axis=2, dtype=cells.dtype)
            sums = np.add.reduceat(lines, self._edges[0], axis=1).reshape(-1, self._n_cells)
            cells[k : k + step] = sums / self._in_cell
        if binary:
            cells *= self._amplitudes[1].real
            cells += self.resting
        return cells

    def _none_yet(self) -> Groups:
        return Groups.all_in_one(self._shape[0] * self._stored_columns, self._per_byte)


def _mirrors_of(stored: NDArray[np.uint8], per_byte: int) -> NDArray[np.uint8]:
    """Stored bytes `[..., byte]` as levels `[..., mirror]`."""
    return np.unpackbits(stored, axis=-1) if per_byte == 8 else stored
