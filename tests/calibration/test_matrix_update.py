"""A matrix that follows a medium that moves, against theory and against measuring anew."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.hadamard import HadamardVectors
from calibration.matrix_update import MatrixUpdate
from calibration.quality import relative_error
from opu_driver.errors import SettingError

INPUTS, MODES = 32, 400


def gaussian(rng: np.random.Generator, *shape: int) -> NDArray[np.complex64]:
    parts = rng.standard_normal((*shape, 2), np.float32) * np.float32(np.sqrt(0.5))
    return parts.view(np.complex64)[..., 0]


class Medium:
    """A matrix that renews the part q of its power from one signed field to the next."""

    def __init__(self, q: float, noise: float, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._q, self._noise = q, noise
        self.T = gaussian(self._rng, MODES, INPUTS)

    def show(self, signs: NDArray[np.float32]) -> NDArray[np.complex64]:
        fields = np.empty((len(signs), MODES), np.complex64)
        for field, s in zip(fields, signs, strict=True):
            self.T = np.float32(np.sqrt(1 - self._q)) * self.T
            self.T += np.float32(np.sqrt(self._q)) * gaussian(self._rng, MODES, INPUTS)
            field[...] = self.T @ s + np.float32(np.sqrt(self._noise)) * gaussian(self._rng, MODES)
        return fields


def hadamard_signs(repeats: int) -> NDArray[np.float32]:
    vectors = HadamardVectors(INPUTS, repeats)
    return 2 * vectors.bits(range(vectors.count)).astype(np.float32) - 1


@pytest.mark.parametrize("noise", [0.3, 3.0])
@pytest.mark.parametrize("q", [1e-4, 1e-3])
def test_it_errs_as_it_says_itself(q: float, noise: float) -> None:
    medium = Medium(q, noise)
    update = MatrixUpdate(medium.T, error=0.0, decorrelation=q, noise_to_signal=noise)
    signs = hadamard_signs(8)
    update.add(signs, medium.show(signs))
    error = np.linalg.norm(update.matrix - medium.T) / np.sqrt(update.matrix.size)
    assert error == pytest.approx(update.expected_error, rel=0.05)


def test_it_beats_measuring_anew_at_as_many_exposures() -> None:
    q, noise = 1e-3, 0.5
    medium = Medium(q, noise)
    update = MatrixUpdate(medium.T, error=0.0, decorrelation=q, noise_to_signal=noise)
    anew, left, ours, theirs = medium.T, medium.T, [], []
    for _ in range(6):
        signs = hadamard_signs(1)
        fields = []
        for first in range(0, INPUTS, 8):  # both are in use while the next is measured
            fields.append(medium.show(signs[first : first + 8]))
            update.add(signs[first : first + 8], fields[-1])
            ours.append(relative_error(update.matrix, medium.T))
            theirs.append(relative_error(anew, medium.T))
        anew = np.concatenate(fields).T @ signs / np.float32(INPUTS)
    assert np.mean(ours[8:]) < 0.9 * np.mean(theirs[8:])
    assert np.mean(ours) < 0.7 * relative_error(left, medium.T)


def test_a_still_medium_is_measured_ever_better() -> None:
    medium = Medium(0.0, 1.0)
    start = gaussian(np.random.default_rng(5), MODES, INPUTS)
    update = MatrixUpdate(start, error=1e3, decorrelation=0.0, noise_to_signal=1.0)
    errors = []
    for _ in range(3):
        signs = hadamard_signs(4)
        update.add(signs, medium.show(signs))
        errors.append(relative_error(update.matrix, medium.T))
        assert errors[-1] == pytest.approx(update.expected_error, rel=0.05)
    assert errors[2] == pytest.approx(errors[0] / np.sqrt(3), rel=0.05)


def test_time_without_measurements_makes_it_worse() -> None:
    medium = Medium(1e-3, 0.1)
    update = MatrixUpdate(medium.T, error=0.0, decorrelation=1e-3, noise_to_signal=0.1)
    medium.show(hadamard_signs(4))
    update.wait(4 * INPUTS)
    assert update.expected_error == pytest.approx(np.sqrt(1 - 0.999 ** (4 * INPUTS)))
    error = np.linalg.norm(update.matrix - medium.T) / np.sqrt(update.matrix.size)
    assert error == pytest.approx(update.expected_error, rel=0.05)


def test_the_measured_matrix_is_left_as_it_was() -> None:
    medium = Medium(1e-3, 0.1)
    before = medium.T.copy()
    start = medium.T
    update = MatrixUpdate(start, error=0.1, decorrelation=1e-3, noise_to_signal=0.1)
    update.add(hadamard_signs(1), medium.show(hadamard_signs(1)))
    np.testing.assert_array_equal(start, before)


@pytest.mark.parametrize(
    "wrong", [{"decorrelation": 2.0}, {"noise_to_signal": 0.0}, {"error": -1.0}]
)
def test_wrong_numbers_are_refused(wrong: dict[str, float]) -> None:
    right = {"error": 0.1, "decorrelation": 0.1, "noise_to_signal": 1.0}
    with pytest.raises(SettingError, match=next(iter(wrong))):
        MatrixUpdate(np.zeros((4, 2), np.complex64), **(right | wrong))


@pytest.mark.parametrize(
    ("signs", "fields"), [((3, 2), (3, 5)), ((3, 1), (3, 4)), ((2, 2), (3, 4))]
)
def test_fields_that_do_not_fit_are_refused(signs, fields) -> None:
    update = MatrixUpdate(
        np.zeros((4, 2), np.complex64), error=0.1, decorrelation=0.1, noise_to_signal=1.0
    )
    with pytest.raises(SettingError, match="4 modes and 2 inputs"):
        update.add(np.ones(signs, np.float32), np.zeros(fields, np.complex64))
