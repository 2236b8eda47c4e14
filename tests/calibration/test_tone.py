import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calibration.errors import FramesError, NoCarrierError
from calibration.tone import find_tone, frequency_bound
from opu_driver.errors import SettingError


def fringes(shape, frequency, phase=0.4, amplitude=1.0, constant=5.0):
    i, j = np.ogrid[: shape[0], : shape[1]]
    turns = frequency[0] * i + frequency[1] * j
    return constant + amplitude * np.cos(2 * np.pi * turns + phase)


@pytest.mark.parametrize("decibels", [-10, 10, 30])
@pytest.mark.parametrize("frequency", [(0.21, 0.17), (-0.3, 0.004), (0.01, 0.013), (0.2, 0.4)])
def test_reaches_the_cramer_rao_bound(decibels, frequency):
    shape, trials = (192, 256), 40
    sigma = np.sqrt(0.5 / 10 ** (decibels / 10))
    bound = np.array(frequency_bound(1.0, sigma, shape))
    errors, stated = [], []
    for seed in range(trials):
        rng = np.random.default_rng(seed)
        truth = np.array(frequency) + rng.uniform(-0.5, 0.5, 2) / shape
        image = fringes(shape, truth, phase=rng.uniform(-3, 3))
        tone = find_tone(image + sigma * rng.standard_normal(shape))
        sign = 1 if tone.column * truth[1] > 0 else -1
        errors.append([sign * tone.row - truth[0], sign * tone.column - truth[1]])
        stated.append([tone.row_sigma, tone.column_sigma])
    # An rms over 80 values scatters by 8 %: 1.3 is 1.07, the taper's cost, and three of those.
    assert np.sqrt(np.mean(np.square(np.array(errors) / bound))) < 1.3
    assert np.allclose(np.mean(stated, axis=0), bound, rtol=0.1)


def test_exact_without_noise():
    tone = find_tone(fringes((100, 90), (-0.123, 0.0721), phase=2.5, amplitude=3.0))
    found = (tone.row, tone.column, tone.phase, tone.amplitude)
    assert np.allclose(found, (-0.123, 0.0721, 2.5, 3.0), rtol=0, atol=1e-9)


def test_half_plane():
    """A tone is reported with a positive column frequency; the phase turns with the sign."""
    tone = find_tone(fringes((64, 64), (0.1, -0.2), phase=0.4))
    assert np.allclose((tone.row, tone.column, tone.phase), (-0.1, 0.2, -0.4), atol=1e-9)


def test_no_tone():
    rng = np.random.default_rng(0)
    for _ in range(10):
        with pytest.raises(NoCarrierError, match="noise alone"):
            find_tone(rng.standard_normal((64, 64)))
    with pytest.raises(NoCarrierError, match="no fringes"):
        find_tone(np.ones((64, 64)))


@pytest.mark.parametrize(
    "image", [np.ones(64), np.ones((4, 64)), np.full((64, 64), np.inf), np.ones((64, 64), complex)]
)
def test_wrong_images(image):
    with pytest.raises(FramesError):
        find_tone(image)


@pytest.mark.parametrize("taper", [0.0, 1.0])
def test_stated_deviations_are_true_under_any_taper(taper):
    pulls, errors = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        truth = np.array([0.21, 0.17]) + rng.uniform(-0.5, 0.5, 2) / 96
        tone = find_tone(fringes((96, 96), truth) + rng.standard_normal((96, 96)), taper=taper)
        errors.append(np.array([tone.row, tone.column]) - truth)
        pulls.append(errors[-1] / [tone.row_sigma, tone.column_sigma])
    # 120 values: their rms scatters by 6 %.
    assert np.sqrt(np.mean(np.square(pulls))) == pytest.approx(1, abs=0.22)


def test_fringes_that_an_object_bends_are_not_stated_as_flat():
    """In the middle of the image they have another frequency than over all of it."""
    i, j = np.ogrid[:128, :128]
    bend = 1.5 * np.exp(-(((i - 90) ** 2 + (j - 64) ** 2) / 600))
    image = np.cos(2 * np.pi * (0.21 * i + 0.17 * j) + bend)
    noise = 0.01 * np.random.default_rng(0).standard_normal(image.shape)
    bent, flat = find_tone(image + noise), find_tone(fringes((128, 128), (0.21, 0.17)) + noise)
    middle = find_tone(image + noise, taper=1.0)
    assert bent.row_sigma > 0.9 * abs(bent.row - middle.row) > 20 * flat.row_sigma
    assert flat.row_sigma == pytest.approx(frequency_bound(1.0, 0.01, (128, 128))[0], rel=0.1)


def test_noise_has_no_tone_under_hanns_window_either():
    for seed in range(20):
        noise = np.random.default_rng(seed).standard_normal((96, 96))
        with pytest.raises(NoCarrierError):
            find_tone(noise, taper=1.0)


@pytest.mark.parametrize("taper", [-0.1, 1.1, np.nan])
def test_wrong_tapers(taper):
    with pytest.raises(SettingError, match="taper"):
        find_tone(fringes((64, 64), (0.1, 0.2)), taper=taper)


def test_measured_holograms():
    """Three phase-shifted holograms of one object: one carrier, repeatable to 1e-6.

    The object bends the fringes by 1e-5. With Hann's window the carrier is that of the data's
    own description.
    """
    if "OPU_DATA" not in os.environ:
        pytest.skip("OPU_DATA is not set: the measured holograms are not at hand")
    folder = Path(os.environ["OPU_DATA"]) / "holograms"
    for taper, carrier, within in (
        (1.0, [0.068213, 0.068221], 1e-6),
        (0.1, [0.0682, 0.0682], 5e-6),
    ):
        found = []
        for k in (1, 2, 3):
            with Image.open(folder / f"Neuron_{k}.tif") as file:
                tone = find_tone(np.asarray(file), taper=taper)
            found.append([tone.row, tone.column])
        assert np.ptp(found, axis=0).max() < 1e-6
        assert np.allclose(found, carrier, rtol=0, atol=within)
