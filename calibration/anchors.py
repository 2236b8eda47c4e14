"""Linear outputs from intensities: inputs that stay lit are the reference, through the same medium.

With some inputs as an anchor a, the others showing x, and the field b of everything off,

    |T(x + a) + b|^2 - |T x + b|^2 - |T a + b|^2 + |b|^2 = 2 Re((T a)* T x),

linear in x and real, at every pixel, whatever b is. Of a signed vector e = e+ - e-, the frames of
the anchor alone and of the dark cancel:

    I(e+ and a) - I(e+) - I(e- and a) + I(e-) = 2 Re((T a)* T e).

So four exposures make a row of real outputs without any reference beam: nothing to align, and no
phase to drift, since anchor and signal take one path. The price: an output is as bright as its
anchor's speckle, dark ones are noise; and the outputs are one real number a grain.

*Noise.* With N_a and N_e electrons a pixel of the anchor's and the vector's light, mean electrons
I_k of the four exposures, a relative noise u of the laser's power and q electrons a grey value,

    rel^2 = [sum_k (I_k + read^2 + q^2/12) / n + 2 u^2 sum_k I_k^2 s] / (2 N_a N_e s),

since <(2 Re A* E)^2> = 2 <|A|^2> <|E|^2> over speckle, and <I^2> = 2 <I>^2. Of pixels that are
binned, n make an output, and s is the mean of mu^2 over their pairs, mu the field's correlation
(n = s = 1 for single pixels).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calibration.errors import CodesError, DecorrelationError, NoiseError
from calibration.hadamard import HadamardVectors
from calibration.quality import correlation, split_half
from calibration.saturation import checked_saturation
from opu_driver.bench import Bench
from opu_driver.camera import Frames
from opu_driver.errors import SettingError

if TYPE_CHECKING:
    from torch import Tensor

EXPOSURES = 4
"""What a row of codes takes."""

_TESTS = 32  # random codes that tell how well B predicts
_LONGEST = 256  # exposures in a sequence, at most


class Anchor:
    """Ternary codes to real linear outputs 2 Re((T a)* T e), in grey values, by intensities alone.

    Args:
        bench: An open bench; its exposure is set, and no reference beam is needed.
        n_inputs: Length of the codes.
        n_anchor: Inputs of the anchor, beside those: as many as are lit in a code are best.
        binning: Pixels along rows and columns whose mean is an output; a grain has 0.5/r of them.
        max_saturated_fraction: Largest allowed fraction of pixels at full scale.

    Attributes:
        n_inputs: As given.
        n_outputs: Outputs of a code.
        exposures: Exposures of codes so far.

    Raises:
        SettingError: No inputs or anchor, a binning that does not divide the frame, or a modulator
            that does not hold a row's exposures.
        PatternError: Codes and anchor do not fit on the modulator.
    """

    def __init__(
        self,
        bench: Bench,
        n_inputs: int,
        n_anchor: int,
        *,
        binning: int = 1,
        max_saturated_fraction: float = 1e-3,
    ) -> None:
        rows, columns = bench.settings.region.shape
        if n_inputs < 1 or n_anchor < 1:
            raise SettingError(f"n_inputs = {n_inputs}, n_anchor = {n_anchor}; at least 1 each.")
        if binning < 1 or rows % binning or columns % binning:
            raise SettingError(
                f"binning = {binning}; it has to divide the frame's {rows} x {columns} pixels."
            )
        self._most = min(_LONGEST, bench.longest_sequence) // EXPOSURES
        if self._most < 1:
            raise SettingError(
                f"A modulator that holds {bench.modulator.capacity} patterns has room for "
                f"sequences of {bench.longest_sequence}; a row takes {EXPOSURES}. "
                "Raise its capacity."
            )
        self._bench = bench
        self._layout = bench.layout(n_inputs + n_anchor)
        self._binning = binning
        self._grid = (rows // binning, columns // binning)
        self._max_saturated_fraction = max_saturated_fraction
        self.n_inputs = n_inputs
        self.n_outputs = math.prod(self._grid)
        self.exposures = 0

    def outputs(self, codes: NDArray[Any]) -> NDArray[np.float32]:
        """Outputs of each row of codes, linear in it.

        Args:
            codes: -1, 0 and 1 of any real type, `[row, input]`. Rows of zeros take no exposures.

        Returns:
            float32 `[row, output]`, outputs in reading order of the frame.

        Raises:
            CodesError: Codes that cannot be shown; nothing was exposed.
            SaturationError: Too many pixels at full scale.
            FrameMismatchError, CaptureTimeoutError, LaserSafetyError: As `Bench.stream`.
        """
        ternary = checked_ternary(codes, self.n_inputs)
        shown = np.flatnonzero(ternary.any(axis=1))
        batches = (
            self._layout.render(self._bits(ternary[shown[k : k + self._most]]))
            for k in range(0, len(shown), self._most)
        )
        outputs = np.zeros((len(ternary), self.n_outputs), np.float32)
        done = 0
        for sequence in self._bench.stream(batches):
            checked_saturation(
                sequence, self._bench.camera.saturation_level, self._max_saturated_fraction
            )
            count = len(sequence) // EXPOSURES
            outputs[shown[done : done + count]] = self._combined(sequence.frames)
            done += count
            self.exposures += len(sequence)
        return outputs

    def matrix(self, repeats: int = 1) -> NDArray[np.float32]:
        """The real matrix B `[output, input]` that codes are multiplied with, measured.

        By the rows of a Hadamard matrix, shown as codes: an entry has 1 / (K repeats) of the noise
        variance of an output, K the matrix's order.

        Args:
            repeats: How often each row is shown.

        Raises:
            SettingError: No repeats.
            SaturationError, FrameMismatchError, CaptureTimeoutError, LaserSafetyError: As
                `outputs`.
        """
        if repeats < 1:
            raise SettingError(f"repeats = {repeats}; at least 1.")
        vectors = HadamardVectors(self.n_inputs, repeats)
        total = np.zeros((self.n_inputs, self.n_outputs), np.float32)
        for first in range(0, vectors.count, self._most):
            some = range(first, min(first + self._most, vectors.count))
            signs = 2 * vectors.bits(some).astype(np.float32) - 1
            total += signs.T @ self.outputs(signs)
        return np.ascontiguousarray(total.T / np.float32(vectors.count))

    def _bits(self, codes: NDArray[np.int8]) -> NDArray[np.uint8]:
        """e+ and a, e+, e- and a, e- of each row: `[4 x row, input]`."""
        bits = np.zeros((len(codes), EXPOSURES, self._layout.n_inputs), np.uint8)
        bits[:, 0:2, : self.n_inputs] = (codes > 0)[:, None]
        bits[:, 2:4, : self.n_inputs] = (codes < 0)[:, None]
        bits[:, 0::2, self.n_inputs :] = 1
        return bits.reshape(-1, self._layout.n_inputs)

    def _combined(self, frames: Frames) -> NDArray[np.float32]:
        """Outputs `[row, output]` of frames `[4 x row, row, column]`."""
        d = self._binning
        grey = frames.reshape(-1, self._grid[0], d, self._grid[1], d).mean((2, 4), np.float32)
        with_plus, plus, with_minus, minus = grey.reshape(-1, EXPOSURES, self.n_outputs).swapaxes(
            0, 1
        )
        outputs: NDArray[np.float32] = (with_plus - plus) - (with_minus - minus)
        return outputs


class AnchoredProjector:
    """An anchored bench as a linear map, with the interface of every projector.

    B is measured on construction, in two halves: how much they agree tells how good it is. Each
    call compares its projections with what B says of their codes: a medium that has moved, or light
    that has gone, shows as a correlation below that of the measurement.

    Args:
        anchor: The inputs, and the light that they meet.
        repeats: How often each Hadamard row is shown for B, in each half.
        min_split_half: Smallest allowed correlation of B with the truth.
        min_fidelity: Smallest allowed square of a call's correlation with B, over that of random
            codes when B was measured.
        seed: Of those codes.

    Attributes:
        n_inputs: Length of a code.
        n_outputs: Outputs of a code.
        matrix: B, float32 `[output, input]`, of unit mean square.
        split_half: Correlation of B with the truth.

    Raises:
        SettingError: A number out of its limits.
        NoiseError: The halves of B hardly agree.
        SaturationError, FrameMismatchError, CaptureTimeoutError, LaserSafetyError: As
            `Bench.stream`.
    """

    def __init__(
        self,
        anchor: Anchor,
        *,
        repeats: int = 2,
        min_split_half: float = 0.8,
        min_fidelity: float = 0.8,
        seed: int = 0,
    ) -> None:
        if not 0 <= min_fidelity <= 1:
            raise SettingError(f"min_fidelity = {min_fidelity:g}; from 0 to 1.")
        one, other = anchor.matrix(repeats), anchor.matrix(repeats)
        self.split_half = split_half(one, other)
        if not self.split_half >= min_split_half:
            raise NoiseError(
                f"The matrix correlates with the truth by split_half = {self.split_half:.3f}; at "
                f"least {min_split_half:g} is needed. Show it more often (repeats), bin more "
                "pixels, or raise the light of the anchor and of the inputs."
            )
        mean = (one + other) / 2
        self._scale = np.float32(1 / math.sqrt(np.mean(mean**2)))
        self.matrix: NDArray[np.float32] = (mean * self._scale).astype(np.float32)
        self.n_inputs, self.n_outputs = anchor.n_inputs, anchor.n_outputs
        self._anchor = anchor
        self._min_fidelity = min_fidelity
        codes = np.random.default_rng(seed).integers(-1, 2, (_TESTS, self.n_inputs))
        codes[~codes.any(axis=1), 0] = 1
        self._expected = correlation(anchor.outputs(codes), codes @ self.matrix.T)
        self._spent = anchor.exposures
        self._rows = 0
        self._least_fidelity = 1.0

    def fingerprint(self) -> str:
        """Identity of B."""
        digest = hashlib.sha256(repr(self.matrix.shape).encode())
        digest.update(self.matrix.tobytes())
        return digest.hexdigest()[:32]

    def totals(self) -> Mapping[str, float]:
        """The account since construction: sums, and the least fidelity of a call."""
        return {
            "rows": float(self._rows),
            "exposures": float(self._anchor.exposures - self._spent),
            "calibration_exposures": float(self._spent),
            "fidelity": self._least_fidelity,
        }

    def project(self, codes: Tensor) -> Tensor:
        """B times each row of codes, through the light.

        Args:
            codes: -1, 0 and 1 of any real dtype, `[row, input]`. Rows of zeros take no exposures.

        Returns:
            float32 `[row, output]` on the CPU: codes @ B.T.

        Raises:
            CodesError: Codes that cannot be shown; nothing was exposed.
            DecorrelationError: The light no longer is that of B.
            SaturationError: Too many pixels at full scale.
            FrameMismatchError, CaptureTimeoutError, LaserSafetyError: As `Bench.stream`.
        """
        import torch

        shown = codes.detach().cpu().numpy()
        outputs = self._anchor.outputs(shown) * self._scale
        self._rows += len(shown)
        predicted = shown.astype(np.float32) @ self.matrix.T
        if predicted.any():
            fidelity = (correlation(outputs, predicted) / self._expected) ** 2
            self._least_fidelity = min(self._least_fidelity, fidelity)
            if fidelity < self._min_fidelity:
                raise DecorrelationError(
                    f"The projections have a fidelity of {fidelity:.3f} to the measured matrix; at "
                    f"least {self._min_fidelity:g} is needed. The medium or the alignment has "
                    "changed, or the light is less: measure the matrix again."
                )
        return torch.from_numpy(outputs)


@dataclass(frozen=True)
class AnchorBudget:
    """What the light of a projection by anchors is, in electrons a pixel.

    Attributes:
        exposures: Mean electrons of the four exposures, in their order.
        anchor: N_a, of the anchor alone.
        signal: N_e, of the signed vector: of e+ and e- added as they interfere, on average the sum.
        read: Read noise.
        grey_value: q, electrons of one grey value; 0 for values that are not rounded.
        laser_noise: u, relative noise of the power from exposure to exposure.
        binned: n, pixels whose mean is an output.
        coherence: s, the mean of mu^2 over the pairs of those pixels.
    """

    exposures: Sequence[float]
    anchor: float
    signal: float
    read: float = 0.0
    grey_value: float = 0.0
    laser_noise: float = 0.0
    binned: int = 1
    coherence: float = 1.0

    def __post_init__(self) -> None:
        if len(self.exposures) != EXPOSURES or not (self.anchor > 0 and self.signal > 0):
            raise SettingError(
                f"{len(self.exposures)} exposures, {self.anchor:g} electrons of the anchor and "
                f"{self.signal:g} of the signal; {EXPOSURES} exposures, and light in both."
            )
        if self.binned < 1 or not 0 < self.coherence <= 1:
            raise SettingError(
                f"binned = {self.binned}, coherence = {self.coherence:g}; 1 or more, and above 0 "
                "to 1."
            )

    @property
    def relative_error(self) -> float:
        """Of an output, rms over rms: see this module's text."""
        counted = sum(self.exposures) + EXPOSURES * (self.read**2 + self.grey_value**2 / 12)
        flicker = 2 * self.laser_noise**2 * sum(mean**2 for mean in self.exposures)
        noise = counted / self.binned + flicker * self.coherence
        return math.sqrt(noise / (2 * self.anchor * self.signal * self.coherence))


def checked_ternary(codes: NDArray[Any], n_inputs: int) -> NDArray[np.int8]:
    """Codes as int8 `[row, input]`.

    Raises:
        CodesError: Another shape, or values other than -1, 0 and 1.
    """
    if codes.ndim != 2 or codes.shape[1] != n_inputs:
        raise CodesError(f"Codes of shape {list(codes.shape)}; this takes [row, {n_inputs}].")
    if codes.dtype.kind not in "iufb" or not np.isin(codes, (-1, 0, 1)).all():
        raise CodesError(
            f"Codes of {codes.dtype} with values other than -1, 0 and 1. Quantise them first, or "
            "show larger integers as several ternary ones."
        )
    return codes.astype(np.int8)
