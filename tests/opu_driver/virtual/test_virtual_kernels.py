import numpy as np
import pytest
from scipy import stats

from opu_driver.virtual import kernels
from opu_driver.virtual.drift import random_bits


def expose(light, *, shot=1.0, read=0.0, gain=1.0, black=0.0, top=1e9, dtype=np.float32, **more):
    """Frames of an even light, `light[frame]` electrons on each of `pixels` pixels."""
    light = np.atleast_1d(np.asarray(light, np.float32))
    pixels = more.get("pixels", 50_000)
    frames = np.zeros((len(light), pixels), dtype)
    zero = np.zeros((1, 2 * pixels), np.float32)
    reference = np.tile(np.array([1, 0], np.float32), pixels)
    keys = more.get("keys", random_bits(7, 0, np.arange(len(light))))
    for begin, end in more.get("pieces", [(0, pixels)]):
        kernels.expose(
            frames,
            zero,
            np.zeros(2 * len(light) + 1, np.int64),
            np.zeros(0, np.int32),
            np.zeros(0, np.complex64),
            np.zeros(len(light), np.float32),
            reference,
            np.ones(pixels, np.float32),
            light,
            np.ones(2 * len(light), np.complex64),
            np.float32(1.0),
            keys,
            np.float32(more.get("dark", 0.0)),
            np.float32(shot),
            np.float32(read),
            np.float32(gain),
            np.float32(black),
            np.float32(top),
            dtype != np.float32,
            begin,
            end,
        )
    return frames


def test_noise_is_normal_up_to_four_sigma():
    noise = expose(np.zeros(80), shot=0.0, read=1.0, black=100.0).ravel().astype(float) - 100
    n = noise.size
    assert abs(noise.mean()) < 4 / np.sqrt(n)
    assert abs(noise.var() - 1) < 4 * np.sqrt(2 / n)
    assert abs(stats.skew(noise)) < 4 * np.sqrt(6 / n)
    assert abs(stats.kurtosis(noise)) < 0.04
    for sigma in (1, 2, 3, 4):
        expected = 2 * stats.norm.sf(sigma)
        beyond = np.mean(np.abs(noise) > sigma)
        assert beyond == pytest.approx(expected, rel=0.08, abs=4 * np.sqrt(expected / n))


@pytest.mark.parametrize("lag", [1, 2, 8, 64, 128, 1024])
def test_noise_of_neighbours_is_independent(lag):
    noise = expose(np.zeros(20), shot=0.0, read=1.0, black=100.0).astype(float) - 100
    product = noise[:, lag:] * noise[:, :-lag]
    assert abs(product.mean()) < 4.5 / np.sqrt(product.size)


@pytest.mark.parametrize("lag", [1, 2, 7])
def test_noise_of_frames_is_independent_of_other_frames(lag):
    noise = expose(np.zeros(40), shot=0.0, read=1.0, black=100.0).astype(float) - 100
    product = noise[lag:] * noise[:-lag]
    assert abs(product.mean()) < 4.5 / np.sqrt(product.size)
    shifted = noise[lag:, 1:] * noise[:-lag, :-1]
    assert abs(shifted.mean()) < 4.5 / np.sqrt(shifted.size)


@pytest.mark.parametrize("mean", [0.02, 0.7, 1.0, 3.3, 12.0, 31.9, 49.9])
def test_few_photons_are_poisson(mean):
    counts = expose([mean] * 4).ravel().astype(int)
    largest = int(stats.poisson.ppf(1 - 1e-3, mean)) + 1
    expected = stats.poisson.pmf(np.arange(largest), mean) * counts.size
    seen = np.bincount(np.minimum(counts, largest), minlength=largest + 1)[:-1]
    usual = expected > 20
    chi2 = np.sum((seen[usual] - expected[usual]) ** 2 / expected[usual])
    assert stats.chi2.sf(chi2, usual.sum()) > 1e-4


@pytest.mark.parametrize("mean", [5.0, 49.0, 51.0, 400.0, 5000.0])
def test_variance_is_shot_noise_plus_read_noise(mean):
    read = 3.0
    light = expose([mean] * 4, read=read, black=100.0).ravel().astype(float) - 100
    variance = mean + read**2
    assert light.mean() == pytest.approx(mean, abs=4 * np.sqrt(variance / light.size))
    assert light.var() == pytest.approx(variance, rel=4 * np.sqrt(2 / light.size) + 1e-3)


def test_dark_current_adds_to_the_mean_and_to_the_noise():
    dark = expose([0.0] * 4, dark=300.0, read=2.0).ravel().astype(float)
    assert dark.mean() == pytest.approx(300, rel=1e-3)
    assert dark.var() == pytest.approx(304, rel=0.03)


def test_without_noise_every_value_is_exact():
    assert (expose([123.25, 0.0], shot=0.0) == np.array([[123.25], [0.0]], np.float32)).all()


def test_values_are_rounded_and_cut_at_both_ends():
    values = expose([0.4, 0.6, 7.5, 300.0], shot=0.0, top=255.0, dtype=np.uint8)[:, 0]
    assert values.tolist() == [0, 1, 8, 255]
    below = expose([0.0], shot=0.0, read=5.0, dtype=np.uint8)
    assert below.min() == 0
    assert 0.4 < np.mean(below == 0) < 0.6


@pytest.mark.parametrize("light", [3.0, 800.0])
def test_noise_depends_on_frame_and_pixel_alone(light):
    whole = expose([light] * 6, read=2.0)
    assert np.unique(whole[:, 0]).size > 1
    pieces = [(0, 1000), (1000, 1001), (1001, 4096), (4096, 50_000)]
    assert (expose([light] * 6, read=2.0, pieces=pieces) == whole).all()
    later = random_bits(7, 0, np.arange(3, 6))
    assert (expose([light] * 3, read=2.0, keys=later) == whole[3:]).all()


def test_an_eight_bit_camera_gives_its_gain_back():
    """Photon transfer: the slope of variance over mean is grey values per electron."""
    gain = 0.02
    light = np.repeat([200.0, 800.0, 3000.0, 9000.0], 4)
    grey = expose(light, read=13.0, gain=gain, black=5.0, top=255.0, dtype=np.uint8)
    mean = grey.mean(axis=1, dtype=float).reshape(4, 4).mean(axis=1)
    variance = grey.var(axis=1, dtype=float).reshape(4, 4).mean(axis=1)
    slope, offset = np.polyfit(mean - 5.0, variance, 1)
    assert slope == pytest.approx(gain, rel=0.02)
    assert offset == pytest.approx((13 * gain) ** 2 + 1 / 12, rel=0.3)
