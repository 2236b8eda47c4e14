"""Inputs -> macropixels -> micromirrors: where each component of a vector is on the modulator."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from opu_driver.errors import PatternError
from opu_driver.modulator import Patterns


@dataclass(frozen=True)
class Layout:
    """A grid of equal macropixels, one for each input, in reading order.

    On a DMD an input is shown as its macropixel's mirrors on or off. On a phase SLM "off" is a
    checkerboard of phases 0 and pi, whose light cancels, and "on" is phase 0.

    Attributes:
        n_inputs: Length of the vectors.
        shape: Rows and columns of the modulator.
        levels: The modulator's levels.
        grid: Rows and columns of macropixels; the last row may be partly unused.
        macropixel: Rows and columns of mirrors in one macropixel.
    """

    n_inputs: int
    shape: tuple[int, int]
    levels: int
    grid: tuple[int, int]
    macropixel: tuple[int, int]

    @classmethod
    def fit(cls, n_inputs: int, shape: tuple[int, int], levels: int = 2) -> Layout:
        """The grid that gives each input the most light: the largest macropixels that fit.

        Raises:
            PatternError: No such number of macropixels fits on the modulator, or its levels have
                none at pi.
        """
        if levels > 2 and levels % 2:
            raise PatternError(
                f"A phase modulator of {levels} levels has none at pi, so that no input can be "
                "dark. Set it to an even number of levels."
            )
        rows, columns = shape
        smallest = 1 if levels == 2 else 2  # a phase checkerboard needs a pair of pixels a side
        best: tuple[int, float] = (0, 0.0)
        grid = (0, 0)
        for grid_rows in range(1, min(n_inputs, rows // smallest) + 1):
            grid_columns = math.ceil(n_inputs / grid_rows)
            height, width = rows // grid_rows, columns // grid_columns
            if levels > 2:
                height, width = height - height % 2, width - width % 2
            if width < smallest:
                continue
            squareness = min(height, width) / max(height, width)
            if (height * width, squareness) > best:
                best, grid = (height * width, squareness), (grid_rows, grid_columns)
        if n_inputs < 1 or not best[0]:
            raise PatternError(
                f"{n_inputs} inputs on a modulator of {rows} x {columns}: it shows 1 to "
                f"{(rows // smallest) * (columns // smallest)}. Use fewer inputs."
            )
        height, width = rows // grid[0], columns // grid[1]
        if levels > 2:
            height, width = height - height % 2, width - width % 2
        return cls(n_inputs, shape, levels, grid, (height, width))

    @property
    def mirrors_per_input(self) -> int:
        """Mirrors in one macropixel."""
        return self.macropixel[0] * self.macropixel[1]

    def render(self, bits: NDArray[np.bool_] | NDArray[np.uint8]) -> Patterns:
        """Patterns that show binary vectors.

        Args:
            bits: bool or uint8 0/1, `[vector, input]`.

        Returns:
            Patterns in the modulator's own storage.

        Raises:
            PatternError: Wrong shape, or values other than 0 and 1.
        """
        if bits.ndim != 2 or bits.shape[1] != self.n_inputs:
            raise PatternError(
                f"Vectors of shape {list(bits.shape)}; this layout takes [n, {self.n_inputs}]."
            )
        if bits.dtype not in (np.bool_, np.uint8) or (bits.size and bits.max() > 1):
            raise PatternError(
                f"Vectors of {bits.dtype} with values up to "
                f"{bits.max() if bits.size else 'none'}; a layout shows bool or uint8 0 and 1. "
                "Encode signed or many-level vectors as several binary ones."
            )
        cells = np.zeros((len(bits), self.grid[0] * self.grid[1]), np.uint8)
        cells[:, : self.n_inputs] = bits
        macropixels = cells.reshape(-1, *self.grid)
        if self.levels == 2:
            return self._render_mirrors(macropixels)
        return self._paint(np.zeros_like(macropixels), macropixels == 1)

    def render_phases(self, steps: NDArray[np.uint8], turn: int) -> Patterns:
        """Patterns that show every input lit, each at a phase of its own.

        Args:
            steps: uint8 `[vector, input]`, phases in units of 2 pi / `turn`.
            turn: Steps in a full turn.

        Returns:
            Patterns in the modulator's own storage.

        Raises:
            PatternError: The modulator does not shift phases, or not by such steps; steps of the
                wrong shape, type or size.
        """
        if self.levels == 2 or self.levels % turn:
            raise PatternError(
                f"A modulator of {self.levels} levels does not shift phases by 1/{turn} of a turn. "
                f"Use a phase modulator whose levels are a multiple of {turn}, or another method."
            )
        if steps.ndim != 2 or steps.shape[1] != self.n_inputs or steps.dtype != np.uint8:
            raise PatternError(
                f"Phases of {steps.dtype} {list(steps.shape)}; this layout takes uint8 "
                f"[n, {self.n_inputs}]."
            )
        if steps.size and steps.max() >= turn:
            raise PatternError(f"Phase {steps.max()} of {turn} to a turn; give 0 to {turn - 1}.")
        cells = np.zeros((len(steps), self.grid[0] * self.grid[1]), np.uint8)
        cells[:, : self.n_inputs] = steps * np.uint8(self.levels // turn)
        used = np.arange(cells.shape[1]) < self.n_inputs
        return self._paint(
            cells.reshape(-1, *self.grid),
            np.broadcast_to(used, cells.shape).reshape(-1, *self.grid),
        )

    def _render_mirrors(self, macropixels: NDArray[np.uint8]) -> Patterns:
        rows, columns = self.shape
        height, width = self.macropixel
        lines = np.zeros((*macropixels.shape[:2], columns), np.uint8)
        lines[:, :, : self.grid[1] * width] = np.repeat(macropixels, width, axis=2)
        packed = np.packbits(lines, axis=2)
        patterns = np.zeros((len(macropixels), rows, packed.shape[2]), np.uint8)
        patterns[:, : self.grid[0] * height] = np.repeat(packed, height, axis=1)
        return patterns

    def _paint(self, levels: NDArray[np.uint8], lit: NDArray[np.bool_]) -> Patterns:
        """Phase levels `[pattern, grid row, grid column]` where lit, the dark pattern elsewhere."""
        height, width = self.macropixel
        patterns = np.broadcast_to(self._dark, (len(levels), *self.shape)).copy()
        wide, mask = (np.repeat(np.repeat(v, height, 1), width, 2) for v in (levels, lit))
        used = patterns[:, : wide.shape[1], : wide.shape[2]]
        used[mask] = wide[mask]
        return patterns

    @cached_property
    def _dark(self) -> NDArray[np.uint8]:
        row, column = np.ogrid[: self.shape[0], : self.shape[1]]
        dark: NDArray[np.uint8] = ((row + column) % 2 * (self.levels // 2)).astype(np.uint8)
        return dark

    def checkerboard(self) -> NDArray[np.uint8]:
        """The vector, uint8 `[input]`, in which neighbouring macropixels differ; the first is 0."""
        row, column = np.divmod(np.arange(self.n_inputs), self.grid[1])
        board: NDArray[np.uint8] = ((row + column) % 2).astype(np.uint8)
        return board

    def all_off(self) -> Patterns:
        """One pattern with every input off."""
        return self.render(np.zeros((1, self.n_inputs), np.uint8))

    def all_on(self) -> Patterns:
        """One pattern with every input on."""
        return self.render(np.ones((1, self.n_inputs), np.uint8))
