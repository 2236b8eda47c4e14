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
    UndersampledGrainError,
)
from calibration.grain import sideband_radius
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
        # It is tilted along the columns alone.
        ({"carrier": (0.37, 0.0)}, AmbiguousHalfPlaneError, r"deviations \(0\.\d+\)"),
        ({"carrier": (-0.37, 1e-5)}, AmbiguousHalfPlaneError, r"deviations \(0\.\d+\)"),
        # Next to no light comes through the medium.
        ({"reference_ratio": 5e3}, LowVisibilityError, r"visibility of 2\.\d+%"),
        # The aperture behind the medium is too wide.
        ({"speckle_radius": 0.3}, UndersampledGrainError, r"has 1\.6\d pixels"),
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
