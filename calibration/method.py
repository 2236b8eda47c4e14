"""How a matrix is measured: which vectors are shown, and how they are exposed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from calibration.complementary_pairs import ComplementaryPairs
from calibration.hadamard import HadamardVectors, hadamard_order
from calibration.interleaved_references import InterleavedReferences
from calibration.phase_steps import PhaseSteps
from calibration.random_vectors import RandomVectors
from calibration.scheme import Scheme
from calibration.vectors import Vectors
from opu_driver.errors import SettingError

METHODS = {
    "hadamard-pairs": "Hadamard vectors and their complements; undoes drift by itself",
    "hadamard": "Hadamard vectors alone, with references in between: half the exposures",
    "random": "random vectors, with references in between: any number of them",
    "phase-steps": "Hadamard vectors in four phases, on a phase modulator: least noise",
}
"""The methods, and what they are."""

DEFAULT_METHOD = "hadamard-pairs"

ENOUGH_VECTORS = 256
"""Vectors after which the error of a small matrix no longer counts in its projections."""

LARGEST_EXPOSURES = 10**8
"""At the rate of the fastest modulators, more than an hour of them."""

RANDOM_PER_INPUT = 4
"""Random vectors an input, if nothing is said."""


@dataclass(frozen=True)
class Method:
    """A way to measure a matrix.

    Attributes:
        name: One of `METHODS`.
        vectors: What is shown.
        scheme: How it is exposed.
    """

    name: str
    vectors: Vectors
    scheme: Scheme

    @classmethod
    def of(cls, name: str, n_inputs: int, *, repeats: int | None = None, seed: int = 0) -> Method:
        """The method of this name.

        Args:
            name: One of `METHODS`.
            n_inputs: Length of the vectors.
            repeats: How often the Hadamard vectors are shown, and the results averaged; of random
                vectors, how many there are for each input. None for as often as brings a small
                matrix to `ENOUGH_VECTORS`, which costs next to nothing there, and for
                `RANDOM_PER_INPUT`.
            seed: Of random vectors.

        Raises:
            SettingError: There is no such method, a number is not positive, or there would be more
                than `LARGEST_EXPOSURES`.
        """
        if name not in METHODS:
            raise SettingError(f"method = {name!r}; there are {', '.join(METHODS)}.")
        if repeats is None:
            shown = RANDOM_PER_INPUT * n_inputs if name == "random" else hadamard_order(n_inputs)
            enough = max(1, ENOUGH_VECTORS // max(shown, 1))
            repeats = RANDOM_PER_INPUT * enough if name == "random" else enough
        if repeats < 1 or seed < 0:
            raise SettingError(
                f"repeats = {repeats}, seed = {seed}; at least 1 repeat, and a seed that is not "
                "negative."
            )
        schemes: dict[str, Scheme] = {
            "hadamard-pairs": ComplementaryPairs(),
            "hadamard": InterleavedReferences(),
            "random": InterleavedReferences(),
            "phase-steps": PhaseSteps(),
        }
        vectors: Vectors = HadamardVectors(n_inputs, repeats)
        if name == "random":
            vectors = RandomVectors(n_inputs, repeats * n_inputs, seed)
        exposures = schemes[name].exposures(vectors.count)
        if exposures > LARGEST_EXPOSURES:
            raise SettingError(
                f"{n_inputs} inputs with repeats = {repeats} by {name} take {exposures:.3g} "
                f"exposures; at most {LARGEST_EXPOSURES:.3g}. Take fewer repeats or inputs."
            )
        return cls(name, vectors, schemes[name])

    def noise_to_signal(self, snr: float) -> float:
        """Variance of a signed field over the mean square of an entry of T.

        Args:
            snr: Signal to noise (powers) of one binary exposure with half of the inputs lit.
        """
        return self.scheme.noise * self.vectors.n_inputs / (2 * snr)

    def expected_error(self, snr: float) -> float:
        """Relative error of T, by theory, without drift.

        Args:
            snr: Signal to noise (powers) of one binary exposure with half of the inputs lit.
        """
        return math.sqrt(self.vectors.variance(self.noise_to_signal(snr)))
