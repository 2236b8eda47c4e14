"""One pass over raw pixels: a separable complex filter, decimating, down the columns first.

Taps at -n and n are conjugates, t = a + i b, so that two pixels share a multiplication:

    t(n) x(n) + t(-n) x(-n) = a (x(n) + x(-n)) + i b (x(n) - x(-n)).

A tile of a frame is unpacked so that all pixels of a row that lie p beyond a grid point follow each
other (a phase of the tile, of which there are as many as the decimation): then every loop runs over
neighbours in memory, and the compiler makes vector instructions of it. Tuples (`phases`, `chunks`)
are here for their length alone, which the compiler knows as part of their type.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

BLOCK = 544
"""Grid points of a tile, with those of its margins."""

_VECTOR = 16  # loops run over a multiple of this; what lies beyond is never read
_at = np.uint64  # an index that is never negative, which lets loops become vector instructions


@njit(nogil=True, error_model="numpy", cache=True)
def _unpack(
    tile: NDArray[np.float32],
    frame: NDArray[Any],
    step: int,
    top: int,
    bottom: int,
    left: int,
    count: int,
    phases: tuple[int, ...],
) -> None:
    """Bring `count` grid points' pixels of the rows from `top` to `bottom` to the tile.

    Rows of the frame begin `step` pixels apart.
    """
    wide = len(phases) * BLOCK
    for row in range(top, bottom):
        first = row * step + len(phases) * left
        pixels = frame[first : first + len(phases) * count]
        unpacked = tile[(row - top) * wide : (row - top + 1) * wide]
        for k in range(count):
            for p in range(len(phases)):
                unpacked[_at(p * BLOCK) + _at(k)] = pixels[_at(len(phases)) * _at(k) + _at(p)]


@njit(nogil=True, error_model="numpy", fastmath={"contract"}, cache=True)
def _down(
    real: NDArray[np.float32],
    imaginary: NDArray[np.float32],
    tile: NDArray[np.float32],
    taps: NDArray[np.float32],
    count: int,
    phases: tuple[int, ...],
    chunk: tuple[int, ...],
) -> None:
    """Filter the columns of one phase; the tile begins at the window's first row."""
    wide = len(phases) * BLOCK
    reach = taps.shape[1] - 1
    middle = tile[reach * wide :]
    for k in range(count):
        real[k] = taps[0, 0] * middle[k]
        imaginary[k] = 0
    for n in range(1, reach + 1, len(chunk)):
        above = tile[(reach - n - len(chunk) + 1) * wide :]
        below = tile[(reach + n) * wide :]
        a, b = taps[0, n : n + len(chunk)], taps[1, n : n + len(chunk)]
        for k in range(count):
            re, im = real[k], imaginary[k]
            for m in range(len(chunk)):
                up = above[_at((len(chunk) - 1 - m) * wide) + _at(k)]
                low = below[_at(m * wide) + _at(k)]
                re += a[m] * (low + up)
                im += b[m] * (low - up)
            real[k] = re
            imaginary[k] = im


@njit(nogil=True, error_model="numpy", fastmath={"contract"}, cache=True)
def _down_at_border(
    real: NDArray[np.float32],
    imaginary: NDArray[np.float32],
    tile: NDArray[np.float32],
    taps: NDArray[np.float32],
    count: int,
    wide: int,
) -> None:
    """The same by any taps, `[real or imaginary, row of the window]`."""
    real[:count] = 0
    imaginary[:count] = 0
    for n in range(taps.shape[1]):
        row = tile[n * wide : n * wide + count]
        a, b = taps[0, n], taps[1, n]
        for k in range(count):
            real[k] += a * row[k]
            imaginary[k] += b * row[k]


@njit(nogil=True, error_model="numpy", fastmath={"contract"}, cache=True)
def _across(
    real: NDArray[np.float32],
    imaginary: NDArray[np.float32],
    lines: NDArray[np.float32],
    first: int,
    taps: NDArray[np.float32],
    count: int,
    phases: tuple[int, ...],
    chunk: tuple[int, ...],
) -> None:
    """Filter a row, at `count` grid points from the tile's `first` on.

    Args:
        real: Real part of the result, `[point]`.
        imaginary: Imaginary part.
        lines: All phases of the row's real part, then of its imaginary part.
        first: Grid point of the tile.
        taps: `[real or imaginary, 0 to reach]`.
        count: Grid points.
        phases: As many as the decimation.
        chunk: As many as the taps on one side that are taken at a time: a multiple of `phases`.
    """
    other = len(phases) * BLOCK  # from a real part to its imaginary part
    reach = taps.shape[1] - 1
    points = len(chunk) // len(phases)
    middle, middle_i = lines[first:], lines[other + first :]
    for k in range(count):
        real[k] = taps[0, 0] * middle[k]
        imaginary[k] = taps[0, 0] * middle_i[k]
    for n in range(1, reach + 1, len(chunk)):
        after = lines[first + (n - 1) // len(phases) :]
        before = lines[first - (n - 1) // len(phases) - points :]
        a, b = taps[0, n : n + len(chunk)], taps[1, n : n + len(chunk)]
        for k in range(count):
            re, im = real[k], imaginary[k]
            for m in range(len(chunk)):
                # Pixel n + m, and pixel -n - m; n - 1 is a multiple of the decimation.
                ahead = (1 + m) % len(phases) * BLOCK + (1 + m) // len(phases)
                behind = (-1 - m) % len(phases) * BLOCK + (-1 - m) // len(phases) + points
                after_re, after_im = after[_at(ahead) + _at(k)], after[_at(ahead + other) + _at(k)]
                before_re = before[_at(behind) + _at(k)]
                before_im = before[_at(behind + other) + _at(k)]
                re += a[m] * (after_re + before_re)
                re -= b[m] * (after_im - before_im)
                im += a[m] * (after_im + before_im)
                im += b[m] * (after_re - before_re)
            real[k] = re
            imaginary[k] = im


@njit(nogil=True, error_model="numpy", fastmath={"contract", "reassoc"}, cache=True)
def _across_at_border(
    lines: NDArray[np.float32],
    first: int,
    taps: NDArray[np.float32],
    window: NDArray[np.float32],
    phases: tuple[int, ...],
) -> tuple[np.float32, np.float32]:
    """One grid point by any taps, of the window that begins `first` pixels into the tile."""
    size = taps.shape[1]
    for n in range(size):
        at = (first + n) % len(phases) * BLOCK + (first + n) // len(phases)
        window[0, n] = lines[at]
        window[1, n] = lines[at + len(phases) * BLOCK]
    re = im = np.float32(0)
    for n in range(size):
        re += taps[0, n] * window[0, n] - taps[1, n] * window[1, n]
        im += taps[0, n] * window[1, n] + taps[1, n] * window[0, n]
    return re, im


@njit(nogil=True, error_model="numpy", fastmath={"contract"}, cache=True)
def _turn(
    fields: NDArray[np.float32],
    real: NDArray[np.float32],
    imaginary: NDArray[np.float32],
    turn: complex,
    turns: NDArray[np.float32],
    count: int,
) -> None:
    """Write a filtered row with the carrier brought to zero, real and imaginary parts in turn."""
    a, b = np.float32(turn.real), np.float32(turn.imag)
    for k in range(count):
        c = a * turns[2 * k] - b * turns[2 * k + 1]
        d = a * turns[2 * k + 1] + b * turns[2 * k]
        fields[2 * k] = real[k] * c - imaginary[k] * d
        fields[2 * k + 1] = real[k] * d + imaginary[k] * c


@njit(nogil=True, error_model="numpy", cache=True)
def demodulate(
    fields: NDArray[np.float32],
    pixels: NDArray[Any],
    frame_step: int,
    row_step: int,
    down: NDArray[np.float32],
    down_starts: NDArray[np.int64],
    down_borders: NDArray[np.int64],
    down_skewed: NDArray[np.float32],
    down_wave: NDArray[np.complex64],
    across: NDArray[np.float32],
    across_edges: NDArray[np.int64],
    across_starts: NDArray[np.int64],
    across_skewed: NDArray[np.float32],
    across_wave: NDArray[np.complex64],
    band: int,
    phases: tuple[int, ...],
    down_chunk: tuple[int, ...],
    across_chunk: tuple[int, ...],
    begin: int,
    end: int,
) -> None:
    """Fields of frames, for the bands from `begin` to `end`, counted through all frames.

    Args:
        fields: `[frame, grid row, 2 grid column]`, real and imaginary parts in turn; written.
        pixels: uint8, uint16 or float32, all from the first frame's first to the last one's last.
        frame_step: Pixels from one frame's first to the next one's.
        row_step: Pixels from one row's first to the next one's.
        down: Taps down the columns, `[real or imaginary, 0 to reach]`.
        down_starts: `[grid row]`, first pixel of its window.
        down_borders: `[grid row]`, which of `down_skewed` it takes, or -1 for `down`.
        down_skewed: `[border, real or imaginary, row of the window]`.
        down_wave: `[grid row]`, what brings the carrier to zero.
        across: The same along the rows.
        across_edges: `[border]`, the grid columns that take one of `across_skewed`.
        across_starts: `[border]`, first pixel of their windows.
        across_skewed: `[border, real or imaginary, column of the window]`.
        across_wave: `[grid column]`.
        band: Grid rows that are taken at a time.
        phases: As many as the decimation.
        down_chunk: As many as the taps on one side of `down` that are taken at a time.
        across_chunk: The same of `across`.
        begin: First band.
        end: One beyond the last.
    """
    decimation = len(phases)
    wide = decimation * BLOCK
    grid_rows, grid_columns = len(down_starts), len(across_wave)
    margin = (across.shape[1] - 1) // decimation
    inner = max(grid_columns - 2 * margin, 0)
    blocks = max(-(-inner // (BLOCK - 2 * margin)), 1)
    window_rows, window_columns = down_skewed.shape[2], across_skewed.shape[2]
    tile = np.zeros((decimation * (band - 1) + window_rows) * wide + _VECTOR, np.float32)
    lines = np.zeros((band, 2 * wide + _VECTOR + margin), np.float32)
    real, imaginary = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    window = np.empty((2, window_columns), np.float32)
    turns = across_wave.view(np.float32)
    bands = -(-grid_rows // band)
    for unit in range(begin, end):
        frame, out = pixels[unit // bands * frame_step :], fields[unit // bands]
        first_row = unit % bands * band
        rows = min(band, grid_rows - first_row)
        top = down_starts[first_row]
        bottom = down_starts[first_row + rows - 1] + window_rows
        for block in range(blocks):
            left = inner * block // blocks
            count = inner * (block + 1) // blocks - left
            points = min(count + 2 * margin, grid_columns)
            padded = -(-points // _VECTOR) * _VECTOR
            _unpack(tile, frame, row_step, top, bottom, left, points, phases)
            for p in range(decimation):
                for j in range(rows):
                    row = first_row + j
                    filtered = tile[(down_starts[row] - top) * wide + p * BLOCK :]
                    real_line = lines[j, p * BLOCK :]
                    imaginary_line = lines[j, wide + p * BLOCK :]
                    border = down_borders[row]
                    if border < 0:
                        _down(real_line, imaginary_line, filtered, down, padded, phases, down_chunk)
                    else:
                        _down_at_border(
                            real_line, imaginary_line, filtered, down_skewed[border], points, wide
                        )
            for j in range(rows):
                row = first_row + j
                turn = down_wave[row]
                if count:
                    padded = min(-(-count // _VECTOR) * _VECTOR, BLOCK)
                    _across(real, imaginary, lines[j], margin, across, padded, phases, across_chunk)
                    column = left + margin
                    _turn(out[row, 2 * column :], real, imaginary, turn, turns[2 * column :], count)
                for border in range(len(across_edges)):
                    first = across_starts[border] - decimation * left
                    if first < 0 or first + window_columns > decimation * points:
                        continue
                    re, im = _across_at_border(
                        lines[j], first, across_skewed[border], window, phases
                    )
                    column = across_edges[border]
                    value = (re + 1j * im) * turn * across_wave[column]
                    out[row, 2 * column] = value.real
                    out[row, 2 * column + 1] = value.imag
