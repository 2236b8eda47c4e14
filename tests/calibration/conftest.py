"""Synthetic holograms for the tests of calibration's optics, independent of the virtual bench."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray


@dataclass(frozen=True)
class Holograms:
    """Holograms and what is true of them.

    Attributes:
        light: float64 `[frame, row, column]`, expected electrons a pixel.
        field: complex128, the same shape: R* S at baseband, electrons.
        signal: Mean of |S|^2, electrons.
    """

    light: NDArray[np.float64]
    field: NDArray[np.complex128]
    signal: float

    def frames(self, rng: np.random.Generator, read: float = 2.5, gain: float = 1.0):
        """Frames with shot and read noise, float32 grey values of `1 / gain` electrons."""
        noisy = rng.poisson(self.light) + read * rng.standard_normal(self.light.shape)
        return (noisy / gain).astype(np.float32)

    def grey(self, rng: np.random.Generator, read: float = 2.5) -> NDArray[np.uint8]:
        """8-bit frames, full scale at eight times the mean."""
        gain = 8 * self.light.mean() / 255
        return np.clip(np.rint(self.frames(rng, read, gain)), 0, 255).astype(np.uint8)


def make_holograms(
    rng: np.random.Generator,
    shape: tuple[int, int] = (128, 128),
    *,
    count: int = 1,
    carrier: tuple[float, float] = (0.27, 0.25),
    radius: float = 0.12,
    electrons: float = 2000.0,
    ratio: float = 4.0,
    waist: float = 3.0,
    carry: bool = True,
) -> Holograms:
    """Band-limited speckle, cropped from a larger field, and a tilted Gaussian reference.

    Args:
        rng: Source of the speckle.
        shape: Rows and columns.
        count: Frames, each of its own speckle.
        carrier: Sideband centre, cycles/pixel.
        radius: Sideband radius, cycles/pixel.
        electrons: Mean electrons a pixel.
        ratio: Reference to signal power.
        waist: The reference's amplitude falls to 1/e at this many half frames from the centre.
        carry: Whether the reference interferes at all.
    """
    rows, columns = (int(1.37 * n) for n in shape)
    modes = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(columns)) < radius
    spectrum = np.zeros((count, rows, columns), complex)
    kinds = rng.standard_normal((2, count, int(modes.sum())))
    spectrum[:, modes] = kinds[0] + 1j * kinds[1]
    speckle = np.fft.ifft2(spectrum)[:, : shape[0], : shape[1]]
    signal = electrons / (1 + ratio)
    speckle *= np.sqrt(signal * rows * columns / (2 * modes.sum())) * np.sqrt(rows * columns)
    i, j = np.ogrid[: shape[0], : shape[1]]
    away = ((i / shape[0] - 0.5) ** 2 + (j / shape[1] - 0.5) ** 2) * 4 / waist**2
    reference = np.exp(-away)
    reference *= np.sqrt(signal * ratio / np.mean(reference**2))
    tilt = np.exp(2j * np.pi * (carrier[0] * i + carrier[1] * j))
    field = reference * speckle
    light = reference**2 + np.abs(speckle) ** 2
    if carry:
        light = light + 2 * (field * tilt).real
    return Holograms(light, field, signal)


@pytest.fixture
def holograms() -> Callable[..., Holograms]:
    """The maker of synthetic holograms."""
    return make_holograms
