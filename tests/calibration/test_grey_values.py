import numpy as np
import pytest

from calibration.grey_values import GreyValues


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_one_pass_gives_what_numpy_does(dtype):
    frames = np.random.default_rng(0).integers(3, 200, (5, 40, 50)).astype(dtype)
    if dtype == np.float32:
        frames /= 7
    told = []
    grey = GreyValues.of(frames, lambda *at: told.append(at))
    exact = frames.astype(np.float64)
    np.testing.assert_allclose(grey.mean, exact.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(grey.deviation, exact.std(axis=0), rtol=1e-5)
    np.testing.assert_allclose(grey.frame_mean, exact.mean(axis=(1, 2)), rtol=1e-9)
    np.testing.assert_allclose(grey.frame_deviation, exact.std(axis=(1, 2)), rtol=1e-6)
    assert grey.histogram.total == frames.size
    width = grey.histogram.width
    assert (width == 1) == (dtype != np.float32)
    for share in (0.001, 0.5, 1.0):
        expected = np.quantile(exact, share, method="inverted_cdf")
        assert grey.histogram.quantile(share) == pytest.approx(expected, abs=width)
    assert grey.histogram.fraction_from(float(frames.max())) == pytest.approx(
        np.mean(frames == frames.max()), abs=1e-3
    )
    assert told[-1] == (5, 5)


def test_bins_grow_wider_with_what_comes():
    frames = np.stack([np.full((32, 32), value) for value in (1.0, -3.0, 1e6, 0.25)])
    grey = GreyValues.of(frames)
    assert grey.histogram.total == frames.size
    assert len(grey.histogram.counts) <= 1 << 16
    assert grey.histogram.brightest == pytest.approx(1e6, rel=1e-4)
    assert grey.histogram.values[0] == pytest.approx(-3.0, abs=grey.histogram.width)


def test_what_is_no_number_is_counted_and_left_out():
    frames = np.ones((2, 32, 32), np.float32)
    frames[0, :8] = np.nan
    grey = GreyValues.of(frames)
    assert grey.not_finite == pytest.approx(0.125)
    assert grey.histogram.total == frames.size - 256
    np.testing.assert_array_equal(grey.mean, 1.0)
