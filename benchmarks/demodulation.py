"""How fast frames become fields, and how true they are.

    python -m benchmarks.demodulation [--rounds N] [--json FILE]

Holograms of 2048 x 1088 pixels, 8 bits: speckle cropped from a larger field, and a tilted reference
four times as bright; 13,500 electrons at full scale, the mean a fifth of it, 13 electrons of read
noise. The separable filter gets the same light in 10 and in 12 bits (uint16), too. All ways take
turns in the same run, and each shows the shortest of its times. Beside their speeds stands that of
reading every byte of the 8-bit frames once, the bound that memory sets.

The rows of others' software need it: `pip install qpretrieve==0.7.* opencv-python-headless`.

Errors are relative to the true field: over all modes, and without those within 16 pixels of the
border. What others give is first brought to our carrier, sign and scale.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from calibration.carrier import Carrier
from calibration.demodulation import Demodulator
from calibration.separable_demodulation import SeparableDemodulator
from calibration.torch_demodulation import TorchDemodulator
from calibration.wiener import measure_levels

SHAPE = (1088, 2048)
PLACE = (0.3004, 0.2997)
RADII = (0.08, 0.1, 0.12)
DECIMATION = 4
FULL_WELL, READ, RATIO = 13500.0, 13.0, 4.0
OURS = re.compile(r"separable|reference \(scipy")
OF_BITS = re.compile(r", (1\d) bits")
BORDER = 16  # pixels
DIFFERENT = 2  # holograms
DEEP = (10, 12)  # bits, besides 8
MISSING = {"qpretrieve": "qpretrieve==0.7.*", "cv2": "opencv-python-headless"}
AT_A_TIME = 4  # frames that are given to the faster ways
ENOUGH_S = 4.0  # seconds, after which a way gets no more turns

Fields = NDArray[Any]
Way = Callable[[NDArray[Any]], Fields]


@dataclass(frozen=True)
class Holograms:
    """Frames and the truth of the first of them.

    Attributes:
        carrier: Where the sideband is.
        frames: uint8 `[frame, row, column]`.
        light: float32 `[1, row, column]`, the first frame without noise or digits, grey values.
        field: complex `[grid row, grid column]`, R* S of the first, grey values.
        deep: uint16 `[frame, row, column]` of 10 and of 12 bits, the same light.
    """

    carrier: Carrier
    frames: NDArray[np.uint8]
    light: NDArray[np.float32]
    field: NDArray[np.complex64]
    deep: dict[int, NDArray[np.uint16]]


def make_holograms(radius: float, count: int, seed: int = 0) -> Holograms:
    """Holograms of different speckle, over and over."""
    rng = np.random.default_rng(seed)
    large = tuple(int(1.1 * n) for n in SHAPE)
    disc = np.hypot(scipy.fft.fftfreq(large[0])[:, None], scipy.fft.fftfreq(large[1])) < radius
    i, j = np.ogrid[: SHAPE[0], : SHAPE[1]]
    tilt = np.exp(2j * np.pi * (PLACE[0] * i + PLACE[1] * j))
    mean, grey = FULL_WELL / 5, 255 / FULL_WELL
    reference = np.sqrt(mean * RATIO / (1 + RATIO))
    frames = np.empty((DIFFERENT, *SHAPE), np.uint8)
    deep = {bits: np.empty((DIFFERENT, *SHAPE), np.uint16) for bits in DEEP}
    for k in reversed(range(DIFFERENT)):
        spectrum = np.zeros(large, complex)
        spectrum[disc] = rng.standard_normal((int(disc.sum()), 2)).view(complex)[:, 0]
        speckle = scipy.fft.ifft2(spectrum)[: SHAPE[0], : SHAPE[1]]
        speckle *= np.sqrt(mean / (1 + RATIO) / np.mean(np.abs(speckle) ** 2))
        light = np.abs(reference + speckle * tilt) ** 2
        electrons = rng.poisson(light) + READ * rng.standard_normal(SHAPE)
        frames[k] = np.clip(np.rint(electrons * grey), 0, 255)
        for bits, of_bits in deep.items():
            top = 2**bits - 1
            of_bits[k] = np.clip(np.rint(electrons * top / FULL_WELL), 0, top)
    field = (grey * reference * speckle[::DECIMATION, ::DECIMATION]).astype(np.complex64)
    carrier = Carrier(*PLACE, 0.0, 0.0, radius, 0.0)
    repeated = np.resize(frames, (count, *SHAPE))
    deep = {bits: np.resize(of_bits, (count, *SHAPE)) for bits, of_bits in deep.items()}
    return Holograms(carrier, repeated, (light * grey).astype(np.float32)[None], field, deep)


def ways(holograms: Holograms) -> dict[str, Way]:
    """Names and functions of all ways that are installed."""
    carrier, frames = holograms.carrier, holograms.frames
    levels = measure_levels(frames[:DIFFERENT], carrier)
    one, two = (
        SeparableDemodulator(SHAPE, carrier, decimation=DECIMATION, levels=levels, threads=threads)
        for threads in (1, 2)
    )
    length = 2 * one.reach + 1
    found: dict[str, Way] = {
        f"separable, {length} taps, 1 core": buffered(one),
        f"separable, {length} taps, 2 cores": buffered(two),
        **{
            f"separable, {length} taps, {cores}, {bits} bits": buffered(way)
            for bits in DEEP
            for cores, way in (("1 core", one), ("2 cores", two))
        },
        "reference (scipy)": Demodulator(SHAPE, carrier, decimation=DECIMATION, threads=1),
        "reference (torch, CPU)": torch_way(carrier, "cpu"),
        "scipy, full transform": functools.partial(full_transform, carrier=carrier),
        "OpenCV DFT": functools.partial(opencv_transform, carrier=carrier),
        "qpretrieve, carrier given": functools.partial(qpretrieve, carrier=carrier, given=True),
        "qpretrieve, its own search": functools.partial(qpretrieve, carrier=carrier, given=False),
    }
    import torch

    if torch.cuda.is_available():
        found["reference (torch, GPU)"] = torch_way(carrier, "cuda")
    return found


def buffered(demodulator: SeparableDemodulator) -> Way:
    """The same, always into the same memory."""
    out = np.empty((AT_A_TIME, *demodulator.grid_shape), np.complex64)
    return lambda frames: demodulator(frames, out[: len(frames)])


def torch_way(carrier: Carrier, device: str) -> Way:
    import torch

    torch.set_num_threads(1)
    return TorchDemodulator(SHAPE, carrier, decimation=DECIMATION, device=device)


def full_transform(frames: NDArray[Any], carrier: Carrier) -> Fields:
    """By whole complex transforms and a sharp disc."""
    row = scipy.fft.fftfreq(SHAPE[0])[:, None] - carrier.row
    column = scipy.fft.fftfreq(SHAPE[1]) - carrier.column
    inside = np.hypot(row, column) <= carrier.radius
    spectra = scipy.fft.fft2(frames.astype(np.complex64), overwrite_x=True) * inside
    fields = scipy.fft.ifft2(spectra, overwrite_x=True)[:, ::DECIMATION, ::DECIMATION]
    return to_baseband(fields, carrier)


def opencv_transform(frames: NDArray[Any], carrier: Carrier) -> Fields:
    """By OpenCV's transform, the sideband cropped to the grid, and a sharp disc."""
    import cv2

    cv2.setNumThreads(1)
    grid = SHAPE[0] // DECIMATION, SHAPE[1] // DECIMATION
    centre = round(carrier.row * SHAPE[0]), round(carrier.column * SHAPE[1])
    bins = [np.arange(n) - n // 2 for n in grid]
    row, column = ((k + c) / n for k, c, n in zip(bins, centre, SHAPE, strict=True))
    inside = np.hypot(row[:, None] - carrier.row, column - carrier.column) <= carrier.radius
    rows, columns = ((k + c) % n for k, c, n in zip(bins, centre, SHAPE, strict=True))
    fields = []
    for frame in frames:
        spectrum = cv2.dft(frame.astype(np.float32), flags=cv2.DFT_COMPLEX_OUTPUT)
        cropped = spectrum[rows[:, None], columns] * inside[:, :, None]
        shifted = np.ascontiguousarray(scipy.fft.ifftshift(cropped, axes=(0, 1)))
        fields.append(cv2.dft(shifted.astype(np.float32), flags=cv2.DFT_INVERSE))
    pairs = np.stack(fields) / np.float32(SHAPE[0] * SHAPE[1])
    moved = centre[0] / SHAPE[0], centre[1] / SHAPE[1]
    return to_baseband(pairs.view(np.complex64)[..., 0], carrier, moved)


def qpretrieve(frames: NDArray[Any], carrier: Carrier, *, given: bool) -> Fields:
    """By qpretrieve's pipeline, with our carrier and radius or with the carrier it finds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the transforms that it might use and cannot
        from qpretrieve import OffAxisHologram

    fields = []
    for frame in frames:
        hologram = OffAxisHologram(frame)
        place = {"sideband_freq": PLACE} if given else {}
        field = hologram.run_pipeline(
            filter_name="disk", filter_size=carrier.radius / carrier.modulus, **place
        )
        size = hologram.fft_origin.shape[-1]
        moved = [int(f * size) / size for f in hologram.pipeline_kws["sideband_freq"]]
        decimated = field.reshape(SHAPE)[::DECIMATION, ::DECIMATION]
        if tuple(moved[::-1]) < (0.0, 0.0):  # the twin
            decimated, moved = decimated.conj(), [-f for f in moved]
        fields.append(to_baseband(decimated, carrier, (moved[0], moved[1])))
    return np.stack(fields)


def to_baseband(
    fields: Fields, carrier: Carrier, moved: tuple[float, float] = (0.0, 0.0)
) -> Fields:
    """Fields with their carrier, already moved by some frequency, at zero."""
    i, j = np.ogrid[: SHAPE[0] : DECIMATION, : SHAPE[1] : DECIMATION]
    turns = (carrier.row - moved[0]) * i + (carrier.column - moved[1]) * j
    wave = np.exp(-2j * np.pi * turns).astype(np.complex64)
    return np.asarray(fields * wave)


def read(frames: NDArray[np.uint8]) -> Any:
    """Read every byte once."""
    return np.bitwise_xor.reduce(frames.view(np.uint64), axis=None)


def errors(name: str, way: Way, holograms: Holograms) -> dict[str, object]:
    """How far fields are from the truth, and how alike."""
    rows: dict[str, object] = {"radius": holograms.carrier.radius, "way": name}
    left_out = BORDER // DECIMATION
    inner = np.s_[left_out:-left_out, left_out:-left_out]
    seen, unit = frames_for(name, holograms)[:1], np.float32((2 ** bits_of(name) - 1) / 255)
    for kind, frame in (("noise-free", unit * holograms.light), ("digits", seen)):
        field, true = way(frame)[0], unit * holograms.field
        scale = 1.0
        if "qpretrieve" in name:
            scale = np.vdot(field, true) / np.vdot(field, field).real
        difference = scale * field - true
        rows[f"{kind}, inside"] = norm(difference[inner]) / norm(true[inner])
        rows[f"{kind}, all"] = norm(difference) / norm(true)
    rows["correlation"] = float(abs(np.vdot(field, true))) / (norm(field) * norm(true))
    return rows


def bits_of(name: str) -> int:
    """Bits of the frames that a way gets."""
    found = OF_BITS.search(name)
    return int(found[1]) if found else 8


def frames_for(name: str, holograms: Holograms) -> NDArray[Any]:
    """The frames that a way gets."""
    bits = bits_of(name)
    return holograms.deep[bits] if bits in DEEP else holograms.frames


def norm(field: Fields) -> float:
    return float(np.linalg.norm(field))


def speeds(found: dict[str, Way], holograms: Holograms, rounds: int) -> list[dict[str, object]]:
    """Frames a second of all ways, which take their turns."""
    all_frames = holograms.frames
    in_turn: dict[str, Way] = {"reading every byte": read, **found}
    shortest = dict.fromkeys(in_turn, np.inf)
    spent = dict.fromkeys(in_turn, 0.0)
    for name, way in in_turn.items():
        way(frames_for(name, holograms)[:1])
    for turn in range(rounds):
        first = AT_A_TIME * turn % len(all_frames)
        for name, way in in_turn.items():
            if spent[name] > ENOUGH_S:
                continue
            count = AT_A_TIME if name.startswith(("reading", "separable")) else 1
            frames = frames_for(name, holograms)[first : first + count]
            start = time.perf_counter()
            way(frames)
            took = time.perf_counter() - start
            spent[name] += took
            shortest[name] = min(shortest[name], took / count)
    once = shortest["reading every byte"]
    return [
        {
            "radius": holograms.carrier.radius,
            "way": name,
            "outputs": 2 * SHAPE[0] * SHAPE[1] // DECIMATION**2,
            "frames/s": 1 / took,
            "of reading": once / took,
        }
        for name, took in shortest.items()
    ]


def show(rows: list[dict[str, object]]) -> None:
    cells = [[*rows[0]]] + [
        [f"{v:.4g}" if isinstance(v, float) and v < 100 else f"{v:.0f}" if isinstance(v, float)
         else str(v) for v in row.values()]
        for row in rows
    ]  # fmt: skip
    widths = [max(len(line[k]) for line in cells) for k in range(len(cells[0]))]
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--rounds", type=int, default=60, help="turns of each way")
    parser.add_argument("--frames", type=int, default=24, help="more than fit in the cache")
    arguments = parser.parse_args()
    tables: dict[str, list[dict[str, object]]] = {"speeds": [], "errors": []}
    for radius in RADII:
        holograms = make_holograms(radius, arguments.frames)
        found = ways(holograms)
        if radius != RADII[-1]:  # the others are looked at once
            found = {name: way for name, way in found.items() if OURS.match(name)}
        for name in list(found):
            try:
                tables["errors"].append(errors(name, found[name], holograms))
            except ImportError as missing:
                package = MISSING.get(str(missing.name), missing.name)
                print(f"{name}: not measured; pip install {package}")
                del found[name]
        tables["speeds"] += speeds(found, holograms, arguments.rounds)
    for rows in tables.values():
        show(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(tables, indent=2) + "\n")


if __name__ == "__main__":
    main()
