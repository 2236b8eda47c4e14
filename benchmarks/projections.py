"""How fast codes become projections where frames cost nothing: all that the software does.

    python -m benchmarks.projections [--rounds N] [--json FILE]

A bench that hands out frames made beforehand stands in for the light: holograms of 2048 x 1088
pixels, 8 bits, for each pattern that is asked for, as `benchmarks.demodulation` makes them. What is
timed is everything else of `OpticalProjector.project`, from codes to outputs: patterns, saturation,
demodulation, phase, gain and tilt of the references, fidelity to the map, subtraction and order.
Rates are exposures (those of references, too) a second, the best of all rounds; beside them stands
the rate at which as many frames are read, every byte once, on one core.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numba
import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray

from benchmarks.demodulation import DECIMATION, FULL_WELL, PLACE, RATIO, READ, SHAPE, read, show
from calibration.calibration_file import Calibration
from calibration.carrier import Carrier
from calibration.demodulation_path import DemodulationPath
from calibration.projector import OpticalProjector
from calibration.quality import Quality
from calibration.separable_demodulation import SeparableDemodulator
from calibration.wiener import measure_levels
from opu_driver.bench import Bench, Sequence
from opu_driver.camera import CameraSettings, Region
from opu_driver.device import Identity
from opu_driver.layout import Layout

RATE_HZ = 1500.0
MODULATOR = (64, 64)
LIT = 10  # inputs that the codes use; the matrix has noise for the others
ROWS = 53  # of codes: one sequence of what fits into its memory
WARM_UP = 6  # calls, after which references are as rare as they become


class PreparedBench:
    """As much of a bench as a projector asks for; its frames are made once, and cost nothing after.

    Args:
        radius: Of the sideband, cycles/pixel.
        n_inputs: Length of the codes.
    """

    name = "prepared"
    longest_sequence = 512
    relative_exposure = 1.0
    camera = SimpleNamespace(saturation_level=255)
    modulator = SimpleNamespace(capacity=512)

    def __init__(self, radius: float, n_inputs: int) -> None:
        rng = np.random.default_rng(0)
        self.identities = {k: Identity("none", k, "0") for k in ("modulator", "camera", "laser")}
        self.settings = CameraSettings(100.0, Region(0, 0, *SHAPE))
        self.exposures = 0
        self.carrier = Carrier(*PLACE, 0.0, 0.0, radius, 0.0)
        self._rng = rng
        self._layout = Layout.fit(n_inputs, MODULATOR)
        self._mean, self._grey = FULL_WELL / 5, 255 / FULL_WELL
        self._amplitude = np.sqrt(self._mean * RATIO / (1 + RATIO))
        i, j = np.ogrid[: SHAPE[0], : SHAPE[1]]
        self._tilt = np.exp(2j * np.pi * (PLACE[0] * i + PLACE[1] * j)).astype(np.complex64)
        self._inputs = [self._speckle() for _ in range(LIT)]
        self._on = self._speckle() * np.float32(math.sqrt(LIT))
        self._frames: dict[bytes, NDArray[np.uint8]] = {}
        self._sequences: dict[bytes, Sequence] = {}

    def calibration(self) -> Calibration:
        """Its matrix, without error in the inputs that are used."""
        some = np.stack([self._frame_of(self._on), self._frame_of(self._inputs[0])])
        levels = measure_levels(some, self.carrier)
        demodulate = SeparableDemodulator(SHAPE, self.carrier, decimation=DECIMATION, levels=levels)
        columns = [self._fringes(demodulate, speckle) for speckle in self._inputs]
        n_inputs, size = self._layout.n_inputs, np.abs(columns[0]).std()
        T = np.empty((demodulate.n_modes, n_inputs), np.complex64)
        T.real, T.imag = size * self._rng.standard_normal((2, *T.shape), np.float32)
        T[:, :LIT] = np.stack(columns, axis=1)
        curves = {"singular_values": np.ones(1), "gains": np.ones(1), "fidelities": np.ones(1)}
        figures = {f.name: 0.0 for f in fields(Quality) if f.name not in curves}
        return Calibration(
            identities=self.identities,
            settings=self.settings,
            power_mw=1.0,
            relative_exposure=1.0,
            layout=self._layout,
            carrier=self.carrier,
            decimation=DECIMATION,
            path=DemodulationPath("separable", demodulate.reach, levels),
            seed=0,
            software="benchmark",
            T=T,
            reference=self._fringes(demodulate, self._on),
            bias=np.zeros(demodulate.n_modes, np.complex64),
            quality=Quality(**cast(Any, figures | curves)),
            made_at="2026-01-01T00:00:00+00:00",
            expires_at="2999-01-01T00:00:00+00:00",
        )

    def layout(self, n_inputs: int) -> Layout:
        """As `Bench.layout`; likewise below."""
        return Layout.fit(n_inputs, MODULATOR)

    def configure(self, settings: CameraSettings) -> None:
        """Nothing is to be set."""
        del settings

    def stream(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[Sequence]:
        """The frames of patterns, as they were made the first time."""
        for patterns in batches:
            key = patterns.tobytes()
            if key not in self._sequences:
                self._sequences = {key: self._sequence(patterns)}  # memory for one
            self.exposures += len(patterns) + 3
            yield self._sequences[key]

    def _sequence(self, patterns: NDArray[np.uint8]) -> Sequence:
        frames = np.stack([self._frame(pattern) for pattern in patterns])
        on = self._frame(self.layout(1).all_on()[0])
        markers = np.stack([on, on, self._frame(np.zeros_like(patterns[0]))])
        nothing = np.zeros(len(frames))
        return Sequence(frames, nothing.astype(np.int64), nothing, 0, markers)

    def _frame(self, pattern: NDArray[np.uint8]) -> NDArray[np.uint8]:
        key = pattern.tobytes()
        if key not in self._frames:
            all_on = np.array_equal(pattern, self.layout(1).all_on()[0])
            lit = self._on if all_on else self._superposed(pattern)
            self._frames[key] = self._frame_of(lit)
        return self._frames[key]

    def _superposed(self, pattern: NDArray[np.uint8]) -> NDArray[np.complex64]:
        """The field of the inputs that a pattern lights."""
        field = np.zeros(SHAPE, np.complex64)
        for k, speckle in enumerate(self._inputs):
            alone = np.zeros((1, self._layout.n_inputs), np.uint8)
            alone[0, k] = 1
            mirrors = self._layout.render(alone)[0]  # eight in a byte
            if np.array_equal(pattern & mirrors, mirrors):
                field += speckle
        return field

    def _frame_of(self, speckle: NDArray[np.complex64]) -> NDArray[np.uint8]:
        light = np.abs(self._amplitude + speckle * self._tilt) ** 2
        electrons = self._rng.poisson(light) + READ * self._rng.standard_normal(SHAPE)
        return np.clip(np.rint(electrons * self._grey), 0, 255).astype(np.uint8)

    def _fringes(
        self, demodulate: SeparableDemodulator, speckle: NDArray[np.complex64]
    ) -> NDArray[np.complex64]:
        """The field of the interference alone."""
        fringes = 2 * self._grey * self._amplitude * (speckle * self._tilt).real
        return demodulate(fringes.astype(np.float32)[None]).ravel()

    def _speckle(self) -> NDArray[np.complex64]:
        """A field of an input; half of all of them lit give the reference over `RATIO`."""
        large = tuple(int(1.1 * n) for n in SHAPE)
        row, column = scipy.fft.fftfreq(large[0])[:, None], scipy.fft.fftfreq(large[1])
        disc = np.hypot(row, column) < self.carrier.radius
        spectrum = np.zeros(large, np.complex64)
        spectrum[disc] = self._rng.standard_normal((int(disc.sum()), 2)).view(complex)[:, 0]
        speckle = scipy.fft.ifft2(spectrum, overwrite_x=True)[: SHAPE[0], : SHAPE[1]]
        power = 2 / LIT * self._mean / (1 + RATIO)
        return np.asarray(speckle * np.sqrt(power / np.mean(np.abs(speckle) ** 2)), np.complex64)


def rates(radius: float, n_inputs: int, rounds: int) -> list[dict[str, object]]:
    """Exposures a second, with one thread and with two."""
    bench = PreparedBench(radius, n_inputs)
    calibration = bench.calibration()
    rng = np.random.default_rng(1)
    codes = np.zeros((ROWS, n_inputs), np.int64)
    codes[:, :LIT] = rng.integers(-1, 2, (8, LIT))[np.arange(ROWS) % 8]
    codes[:, 0] = 1
    rows: list[dict[str, object]] = []
    for threads in (1, 2):
        numba.config.NUMBA_NUM_THREADS = threads
        projector = OpticalProjector(cast(Bench, bench), calibration, max_saturated_fraction=0.01)
        shortest = once = spent = math.inf
        for turn in range(WARM_UP + rounds):
            before = bench.exposures
            start, cpu = time.perf_counter(), time.process_time()
            projector.project(torch.from_numpy(codes))
            took, used = time.perf_counter() - start, time.process_time() - cpu
            exposures = bench.exposures - before
            (sequence,) = bench._sequences.values()
            start = time.perf_counter()
            read(sequence.frames)
            reading = (time.perf_counter() - start) / len(sequence)
            if turn >= WARM_UP:
                shortest, spent = min(shortest, took / exposures), min(spent, used / exposures)
                once = min(once, reading)
        assert projector.last is not None
        rows.append(
            {
                "radius": radius,
                "inputs": n_inputs,
                "outputs": projector.n_outputs,
                "threads": threads,
                "exposures/s": 1 / shortest,
                "per core": 1 / spent,
                "of reading": once / shortest,
                "map fidelity": projector.last.map_fidelity,
                "references": projector.last.reference_exposures / exposures,
                "keeps up": 1 / shortest >= RATE_HZ,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--rounds", type=int, default=20, help="calls of each way")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = [
        row
        for radius, n_inputs in ((0.08, 10), (0.12, 10), (0.12, 256))
        for row in rates(radius, n_inputs, arguments.rounds)
    ]
    show(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    main()
