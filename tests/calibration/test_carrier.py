import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from calibration.carrier import Carrier, find_carrier
from calibration.errors import (
    AliasedCarrierError,
    CarrierError,
    FramesError,
    NoCarrierError,
    OrdersOverlapError,
)
from calibration.spectrum import power_spectrum
from opu_driver.errors import InputError, LowSignalError, SaturationError


def errors_of(found: Carrier, carrier: tuple[float, float], radius: float) -> np.ndarray:
    return np.array([found.row - carrier[0], found.column - carrier[1], found.radius - radius])


def sigmas_of(found: Carrier) -> np.ndarray:
    return np.array([found.row_sigma, found.column_sigma, found.radius_sigma])


@pytest.mark.parametrize("carrier", [(0.27, 0.25), (-0.27, 0.25), (0.37, 0.012), (-0.012, 0.37)])
def test_blind_from_one_frame_at_20_electrons(holograms, carrier):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        frames = holograms(rng, carrier=carrier, electrons=20).grey(rng)
        found = find_carrier(frames, saturation_level=255)
        assert np.all(np.abs(errors_of(found, carrier, 0.12)) < [0.004, 0.004, 0.006])


def test_uncertainties_are_true(holograms):
    """Errors over stated standard deviations have an rms of about 1."""
    ratios = []
    for seed in range(24):
        rng = np.random.default_rng(seed)
        carrier = (0.27 + rng.uniform(-1, 1) / 256, 0.25 + rng.uniform(-1, 1) / 256)
        frames = holograms(rng, carrier=carrier, electrons=20).frames(rng, read=13)
        found = find_carrier(frames, saturation_level=None)
        ratios.append(errors_of(found, carrier, 0.12)[:2] / sigmas_of(found)[:2])
    assert 0.7 < np.sqrt(np.mean(np.square(ratios))) < 1.5


@pytest.mark.parametrize(("size", "electrons"), [(128, 2e3), (256, 2e4)])
def test_uncertainties_are_true_where_there_is_little_noise(holograms, size, electrons):
    """There the disc's sharp edge tells most, and neighbours beyond it are not independent."""
    ratios = []
    for seed in range(24):
        rng = np.random.default_rng([size, seed])
        carrier = (0.27 + rng.uniform(-1, 1) / size, 0.25 + rng.uniform(-1, 1) / size)
        frames = holograms(rng, (size, size), carrier=carrier, electrons=electrons).frames(rng)
        found = find_carrier(frames, saturation_level=None)
        ratios.append(errors_of(found, carrier, 0.12) / sigmas_of(found))
    # 48 values of the centre: their rms scatters by a tenth, the radius's by an eighth.
    pulls = np.sqrt(np.mean(np.square(ratios), axis=0))
    assert 0.6 < np.sqrt(np.mean(pulls[:2] ** 2)) < 1.35
    assert 0.5 < pulls[2] < 1.6


def test_more_frames_are_better_and_known_to_be(holograms):
    rng = np.random.default_rng(1)
    frames = holograms(rng, count=16, electrons=200).frames(rng)
    one = find_carrier(frames[:1], saturation_level=None)
    many = find_carrier(frames, saturation_level=None)
    assert np.all(sigmas_of(many) < 0.6 * sigmas_of(one))
    assert np.all(np.abs(errors_of(many, (0.27, 0.25), 0.12)) < [4e-4, 4e-4, 1.2e-3])


def test_the_same_frame_again_is_no_better(holograms):
    """Repeated frames average no speckle; the measured scatter of the spectrum tells so."""
    rng = np.random.default_rng(1)
    frames = np.repeat(holograms(rng, electrons=2000).frames(rng), 8, axis=0)
    one = find_carrier(frames[:1], saturation_level=None)
    again = find_carrier(frames, saturation_level=None)
    assert np.allclose(sigmas_of(again), sigmas_of(one), rtol=0.2)


def test_megapixel_precision(holograms):
    rng = np.random.default_rng(2)
    carrier = (0.27013, 0.24961)
    frames = holograms(rng, (1024, 1024), carrier=carrier, electrons=200).frames(rng)
    found = find_carrier(frames, saturation_level=None)
    assert np.all(np.abs(errors_of(found, carrier, 0.12)) < [1e-4, 1e-4, 3e-4])


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    radius=st.floats(0.05, 0.15),
    angle=st.floats(-np.pi / 2 + 0.05, np.pi / 2),
    seed=st.integers(0, 1000),
    electrons=st.sampled_from([50.0, 2000.0]),
)
def test_any_clean_geometry_is_found(holograms, radius, angle, seed, electrons):
    from_zero = np.array([np.sin(angle), np.cos(angle)])
    room = (0.5 - 1.05 * radius) / np.abs(from_zero).max()
    assume(room >= 3 * radius)  # else there is no clean place for this disc in this direction
    carrier = tuple(from_zero * (3 * radius + room) / 2)
    assume(carrier[1] > 0.01)  # nearer to 0, the half-plane may be ambiguous
    rng = np.random.default_rng(seed)
    frames = holograms(rng, carrier=carrier, radius=radius, electrons=electrons).frames(rng)
    found = find_carrier(frames, saturation_level=None)
    assert np.all(np.abs(errors_of(found, carrier, radius)) < [0.006, 0.006, 0.009])
    assert found.grain == pytest.approx(0.5 / found.radius)


@pytest.mark.parametrize("shape", [(64, 96), (200, 160), (130, 128)])
def test_frames_of_any_shape(holograms, shape):
    rng = np.random.default_rng(3)
    frames = holograms(rng, shape, count=2, electrons=200).grey(rng)
    found = find_carrier(frames, saturation_level=255)
    assert np.all(np.abs(errors_of(found, (0.27, 0.25), 0.12)) < [0.005, 0.005, 0.01])


def test_noiseless_frames_with_tilted_brightness(holograms):
    """Frames without noise have no background; a pixel's aperture makes the disc uneven."""
    rng = np.random.default_rng(4)
    light = holograms(rng, count=2).light
    response = np.sinc(np.fft.fftfreq(128))[:, None] * np.sinc(np.fft.fftfreq(128))
    seen = np.fft.ifft2(np.fft.fft2(light) * response).real.astype(np.float32)
    found = find_carrier(seen, saturation_level=None)
    assert np.all(np.abs(errors_of(found, (0.27, 0.25), 0.12)) < [2e-3, 2e-3, 4e-3])


def test_white_noise_has_the_spectrum_of_its_variance():
    rng = np.random.default_rng(5)
    power = power_spectrum(rng.normal(10, 3, (20, 64, 48)))
    assert power[5:-5, 5:-5].mean() == pytest.approx(9, rel=0.03)


class TestRefusals:
    def test_noise_and_bare_speckle_have_no_carrier(self, holograms):
        for seed in range(6):
            rng = np.random.default_rng(seed)
            bare = holograms(rng, electrons=200, ratio=0.2 * seed, carry=False).frames(rng)
            with pytest.raises(NoCarrierError, match="reference arm"):
                find_carrier(bare, saturation_level=None)
            with pytest.raises(NoCarrierError, match="log likelihood"):
                find_carrier(rng.normal(100, 5, (1, 128, 128)), saturation_level=None)

    @pytest.mark.parametrize("carrier", [(0.45, 0.2), (0.42, 0.42), (0.4, 0.1), (0.45, 0.0)])
    def test_aliased(self, holograms, carrier):
        rng = np.random.default_rng(6)
        with pytest.raises(AliasedCarrierError, match=r"resolve 0\.5"):
            find_carrier(holograms(rng, carrier=carrier).frames(rng), saturation_level=None)

    @pytest.mark.parametrize("radii", [1.2, 1.5, 1.8, 2.1])
    def test_overlapping_orders(self, holograms, radii):
        rng = np.random.default_rng(7)
        carrier = (0.12 * radii / np.sqrt(2),) * 2
        with pytest.raises(OrdersOverlapError, match=r"\|S\|\^2"):
            find_carrier(holograms(rng, carrier=carrier).frames(rng), saturation_level=None)

    def test_a_grain_of_two_pixels_only_with_a_strong_reference(self, holograms):
        rng = np.random.default_rng(8)
        tight = {"carrier": (0.25, 0.25), "radius": 0.25}
        with pytest.raises(OrdersOverlapError):
            find_carrier(holograms(rng, **tight).frames(rng), saturation_level=None)
        strong = holograms(rng, **tight, ratio=100).frames(rng)
        assert find_carrier(strong, saturation_level=None).radius == pytest.approx(0.25, rel=0.02)

    def test_saturated(self, holograms):
        rng = np.random.default_rng(9)
        frames = np.minimum(holograms(rng).frames(rng), 6000)
        with pytest.raises(SaturationError, match="full"):
            find_carrier(frames, saturation_level=6000)

    def test_dark(self):
        rng = np.random.default_rng(10)
        noise = np.clip(rng.normal(10, 2, (2, 128, 128)), 0, 255).astype(np.uint8)
        with pytest.raises(LowSignalError, match="hardly any light"):
            find_carrier(noise, saturation_level=255, black_level=10)
        with pytest.raises(LowSignalError, match="no light"):
            find_carrier(np.full((1, 64, 64), 7, np.uint8), saturation_level=255)

    def test_plain_fringes(self):
        i, j = np.ogrid[:128, :128]
        fringes = 100 + 50 * np.cos(2 * np.pi * (0.2 * i + 0.23 * j))
        with pytest.raises(CarrierError, match="find_tone"):
            find_carrier(fringes[None], saturation_level=None)

    @pytest.mark.parametrize(
        "frames",
        [
            np.ones((128, 128)),
            np.ones((0, 128, 128)),
            np.ones((1, 128, 16)),
            np.full((1, 64, 64), np.nan),
            np.ones((1, 64, 64), complex),
        ],
    )
    def test_wrong_frames(self, frames):
        with pytest.raises(FramesError) as refusal:
            find_carrier(frames, saturation_level=None)
        assert isinstance(refusal.value, InputError)
