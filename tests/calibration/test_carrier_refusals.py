"""Each way in which a bench has no usable carrier, caused on the simulated one, is told by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from calibration.carrier import Carrier, find_carrier
from calibration.errors import (
    AliasedCarrierError,
    AmbiguousHalfPlaneError,
    LowVisibilityError,
    NoCarrierError,
    OrdersOverlapError,
    PlaneFringesError,
    UndersampledGrainError,
)
from calibration.grain import sideband_radius
from calibration.saturation import clipped
from calibration.spectrum import Spectrum
from opu_driver import simulated_bench
from opu_driver.errors import SaturationError


def carrier_of(
    preset: str = "realistic", seed: int = 1, brighter: float = 1.0, **scene: Any
) -> Carrier:
    """What `find_carrier` says of eight half-lit patterns, exposed as well as the scene allows."""
    with simulated_bench(preset, seed, **scene) as bench:
        bits = np.random.default_rng(seed).integers(0, 2, (8, 64), np.uint8)
        patterns = bench.layout(64).render(bits)
        bench.fit_exposure(patterns)
        exposure_us = brighter * bench.settings.exposure_us
        bench.configure(replace(bench.settings, exposure_us=exposure_us))
        return find_carrier(
            bench.expose(patterns),
            saturation_level=bench.camera.saturation_level,
            black_level=bench.camera.black_level,
        )


@pytest.mark.parametrize(
    ("cause", "refusal", "number"),
    [
        # The reference arm is blocked.
        ({"reference_ratio": 0.0}, NoCarrierError, r"by \d+\.\d more"),
        # The reference is tilted too much, for one axis and for both.
        ({"carrier": (0.45, 0.2)}, AliasedCarrierError, r"resolve 0\.5"),
        ({"carrier": (0.43, 0.43)}, AliasedCarrierError, r"reaches 0\.5\d"),
        # It is tilted too little.
        ({"carrier": (0.17, 0.17)}, OrdersOverlapError, r"lies [12]\.\d\d radii.*adds \d+%"),
        # The fringes vary from row to row alone.
        ({"carrier": (0.37, 0.0)}, AmbiguousHalfPlaneError, r"deviations \(0\.\d+\)"),
        ({"carrier": (-0.37, 1e-5)}, AmbiguousHalfPlaneError, "also vary from column to column"),
        # Next to no light comes through the medium.
        ({"reference_ratio": 5e3}, LowVisibilityError, r"visibility of 2\.\d+%"),
        # The aperture behind the medium is too wide.
        ({"speckle_radius": 0.3}, UndersampledGrainError, r"has 1\.[67]\d pixels"),
        ({"speckle_radius": 0.4}, UndersampledGrainError, r"has 1\.[23]\d pixels"),
    ],
    ids=str,
)
def test_each_cause_has_its_name_and_number(
    cause: dict[str, Any], refusal: type[Exception], number: str
) -> None:
    with pytest.raises(refusal, match=number):
        carrier_of(**cause)


def test_too_long_an_exposure() -> None:
    with pytest.raises(SaturationError, match=r"\d%.* of the pixels are full"):
        carrier_of(brighter=5.0)


@pytest.mark.parametrize("preset", ["ideal", "quiet", "realistic", "rough"])
@pytest.mark.parametrize(
    ("carrier", "radius"),
    [
        ((0.2713, 0.2664), 0.12),
        ((-0.2713, 0.2664), 0.12),
        ((0.25, 0.25), 0.11),
        ((0.01, 0.37), 0.12),  # on an axis, as far as that goes
        ((0.37, 0.01), 0.12),
        ((0.16, 0.14), 0.06),
        ((0.3, 0.3), 0.16),
    ],
)
def test_good_benches_are_not_refused(
    preset: str, carrier: tuple[float, float], radius: float
) -> None:
    for seed in range(2):
        found = carrier_of(preset, seed, carrier=carrier, speckle_radius=radius)
        assert found.row == pytest.approx(carrier[0], abs=0.005)  # half a bin: "ideal" is on one
        assert found.column == pytest.approx(carrier[1], abs=0.005)
        assert found.radius == pytest.approx(radius, abs=0.005)


@pytest.mark.parametrize("radius", [0.06, 0.12, 0.2, 0.3, 0.45])
def test_the_grain_is_known_even_where_it_is_too_small(holograms: Any, radius: float) -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        frames = holograms(rng, radius=radius, count=4, electrons=200).frames(rng)
        assert sideband_radius(Spectrum.of(frames)) == pytest.approx(radius, rel=0.08)


def test_noise_has_no_grain() -> None:
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(size=(2, 96, 96))
        assert sideband_radius(Spectrum.of(noise)) is None


def noisy(seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(100, 10, (4, 256, 256)).astype(np.float32)


def plane(amplitude: float) -> Any:
    i, j = np.ogrid[:256, :256]
    return noisy() + (amplitude * np.cos(2 * np.pi * (0.21 * i + 0.23 * j))).astype(np.float32)


def hot() -> Any:
    frames = noisy()
    row, column = np.random.default_rng(4).integers(0, 256, (2, 50))
    frames[:, row, column] = 5000
    return frames


def banded() -> Any:
    return noisy() + np.random.default_rng(1).normal(0, 20, (4, 256, 1)).astype(np.float32)


@pytest.mark.parametrize(
    ("frames", "refusal", "told"),
    [
        # Bright and faint fringes, and no medium between them.
        (lambda: plane(50.0), PlaneFringesError, r"without speckle at \(\+0\.2100"),
        (lambda: plane(2.0), PlaneFringesError, r"without speckle at \(\+0\.2[01]"),
        # What is not light at all.
        (hot, NoCarrierError, r"rises above the spectrum's background by .*5% is needed"),
        (banded, NoCarrierError, r"explains the spectrum by \d\.\d more"),
    ],
)
def test_what_is_no_speckle_is_told_by_name(frames: Any, refusal: Any, told: str) -> None:
    with pytest.raises(refusal, match=told):
        find_carrier(frames(), saturation_level=None)


@pytest.mark.parametrize("level", [None, 1e5])
@pytest.mark.parametrize("kind", [np.float32, np.uint16, np.uint8])
def test_light_that_is_cut_off_below_full_scale(holograms: Any, kind: Any, level: Any) -> None:
    rng = np.random.default_rng(0)
    frames = holograms(rng, electrons=60.0 if kind == np.uint8 else 2000.0).frames(rng)
    low, high = np.quantile(frames, [0, 0.7])
    whole = frames if kind == np.float32 else np.clip(np.rint(frames), 0, np.iinfo(kind).max)
    find_carrier(whole.astype(kind), saturation_level=level)
    with pytest.raises(SaturationError, match=r"3\d\.\d+% of the pixels have the largest"):
        find_carrier(np.clip(whole, low, np.rint(high)).astype(kind), saturation_level=level)


@pytest.mark.parametrize("light", [0.02, 0.5, 2.0, 8.0])
def test_dim_frames_are_not_cut_off(light: float) -> None:
    frames = np.random.default_rng(0).poisson(light, (2, 64, 64)).astype(np.uint8)
    assert clipped(frames)[1] == 0
