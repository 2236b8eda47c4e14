"""The course that a medium's transmission matrix takes as it ages.

A course is a row of matrices, `STEPS` steps from each to the next, and a rule for what lies between
them. Smooth steps are how a bench changes from one frame to the next.

*Random*: `T <- sqrt(1-e) T + sqrt(e) N` a frame. New matrices are drawn only where e has added up
to `RENEWAL`; in between T moves along the great circle from one to the next,

    T(u) = cos(u w) T + sin(u w) N,   cos(w) = sqrt(1 - RENEWAL),   0 <= u < 1.

A step changes the field by 5e-4 of itself; statistics are the same at all times, and from one
renewal to any other the decorrelation is as stated.

*Measured*: matrices that somebody has measured on a medium while it changed, and straight lines
between them. The last one stays.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from opu_driver.errors import SettingError
from opu_driver.virtual.parallel import in_parallel
from opu_driver.virtual.settings import SceneSettings

RENEWAL = 1e-3
"""Part of the field's power that a step from one drawn matrix to the next renews."""

STEPS = 64
"""Steps of the course from one matrix to the next; in between the medium is still."""


class Course(Protocol):
    """The matrices that a medium passes.

    Attributes:
        steps_per_frame: How fast; 0 for a medium that never changes.
    """

    steps_per_frame: float

    def matrix(self, number: int) -> NDArray[np.complex64]:
        """The matrix of a number, complex64 `[source, mode]`, entries of unit mean square."""
        ...

    def shares(self, step: int) -> tuple[float, float]:
        """What T has of a matrix and of the next one, `step` of `STEPS` on the way."""
        ...


class RandomCourse:
    """Complex Gaussian matrices, each but the first what is renewed of the one before.

    Args:
        shape: Sources and modes.
        decorrelation: e.
        seed: Of all matrices.
    """

    def __init__(self, shape: tuple[int, int], decorrelation: float, seed: int) -> None:
        self.steps_per_frame = decorrelation / RENEWAL * STEPS
        self._shape = shape
        self._seed = seed

    def matrix(self, number: int) -> NDArray[np.complex64]:
        """As `Course.matrix`: each source by a seed of its own."""
        matrix = np.empty(self._shape, np.complex64)

        def draw(begin: int, end: int) -> None:
            for source in range(begin, end):
                rng = np.random.default_rng([self._seed, number, source])
                pairs = matrix[source].view(np.float32)
                rng.standard_normal(dtype=np.float32, out=pairs)
                pairs *= np.float32(math.sqrt(0.5))

        in_parallel(draw, self._shape[0])
        return matrix

    def shares(self, step: int) -> tuple[float, float]:
        """As `Course.shares`: on a great circle."""
        angle = step / STEPS * math.asin(math.sqrt(RENEWAL))
        return math.cos(angle), math.sin(angle)


class MeasuredCourse:
    """Measured matrices, brought to the modes of the speckle.

    A measured matrix `[output, input]` has an input for each cell of the modulator. Its outputs are
    spread over the modes by one random isometry, which leaves every product of fields as it is; the
    gaps between the mirrors, of which no measurement knows, get light that does not change. Each
    measurement has a phase of its own, which is taken out from one to the next.

    Args:
        shape: Sources (the cells and the gaps) and modes.
        settings: Of the scene.
        seed: Of the isometry, and of the gaps' light.

    Raises:
        SettingError: Files that do not hold such matrices, or too few modes for them.
    """

    def __init__(self, shape: tuple[int, int], settings: SceneSettings, seed: int) -> None:
        sources, modes = shape
        measured = [_read(path, sources - 1) for path in settings.measured_matrices]
        outputs = len(measured[0])
        if any(len(T) != outputs for T in measured) or modes < outputs:
            raise SettingError(
                f"scene.measured_matrices have {sorted({len(T) for T in measured})} outputs, and "
                f"the speckle has {modes} modes. Name matrices of one size, and make "
                "scene.speckle_radius or the sensor larger until there is a mode for each output."
            )
        self.steps_per_frame = STEPS / settings.frames_per_matrix
        rng = np.random.default_rng([seed, 0, 0])
        pairs = rng.standard_normal((2, modes, outputs))
        isometry = np.linalg.qr(pairs[0] + 1j * pairs[1])[0]
        unit = math.sqrt(modes * (sources - 1)) / float(np.linalg.norm(measured[0]))
        static = (rng.standard_normal(modes) + 1j * rng.standard_normal(modes)) / math.sqrt(2)
        self._matrices: list[NDArray[np.complex64]] = []
        turn = 1.0 + 0j
        for T, before in zip(measured, [measured[0], *measured], strict=False):
            overlap = complex(np.vdot(T, before))
            turn *= overlap / abs(overlap)
            spread = unit * turn * (isometry @ T).T
            self._matrices.append(np.vstack([spread, static]).astype(np.complex64))

    def matrix(self, number: int) -> NDArray[np.complex64]:
        """As `Course.matrix`: the last one for good."""
        return self._matrices[min(number, len(self._matrices) - 1)].copy()

    def shares(self, step: int) -> tuple[float, float]:
        """As `Course.shares`: on a straight line."""
        return 1 - step / STEPS, step / STEPS


def _read(path: Path, inputs: int) -> NDArray[np.complex128]:
    """The one matrix of a `.npy` or `.npz` file, `[output, input]`."""
    try:
        loaded: Any = np.load(path)
        arrays = [loaded] if isinstance(loaded, np.ndarray) else [loaded[k] for k in loaded.files]
    except (OSError, ValueError) as error:
        raise SettingError(
            f"scene.measured_matrices: {path} cannot be read: {error}. Name files of numpy, .npy "
            "or .npz."
        ) from error
    shapes = [list(array.shape) for array in arrays]
    if len(arrays) != 1 or arrays[0].ndim != 2 or arrays[0].shape[1] != inputs:
        raise SettingError(
            f"scene.measured_matrices: {path} holds arrays of the shapes {shapes}; one matrix "
            f"[output, input] with {inputs} inputs is wanted, one for each of the scene.cells."
        )
    matrix: NDArray[np.complex128] = arrays[0].astype(np.complex128)
    if not np.isfinite(matrix).all() or not matrix.any():
        raise SettingError(f"scene.measured_matrices: {path} is not finite, or zero everywhere.")
    return matrix
