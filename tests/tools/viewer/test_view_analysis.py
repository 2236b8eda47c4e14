import math
import time

import numpy as np
import pytest

from opu_driver import simulated_bench
from tools.viewer.analysis import Analyst, focus, read, spectrum_db
from tools.viewer.glimpse import Glimpse, GreyRange
from tools.viewer.history import SPAN_S, TRACES, History


def glimpse_of(bits, number=1, **options):
    """Two frames of one vector, the markers' dark one, and the bench's truth."""
    with simulated_bench(camera={"sensor_shape": [128, 128], "exposure_us": 60.0}, **options) as b:
        patterns = b.layout(bits.size).render(np.repeat(bits[None], 2, axis=0))
        sequence = next(iter(b.stream([patterns])))
        grey = GreyRange(b.camera.black_level, b.camera.saturation_level)
        return Glimpse(number, sequence.frames[0], sequence.frames[1], sequence.markers[2], grey)


@pytest.fixture(scope="module")
def glimpse():
    return glimpse_of(np.random.default_rng(0).integers(0, 2, 64, np.uint8), preset="quiet", seed=3)


def test_the_carrier_is_found_and_the_field_measured(glimpse):
    reading = read(glimpse, at_s=7.0)
    assert reading.obstacle == ""
    assert reading.carrier.row == pytest.approx(0.2713, abs=5 * reading.carrier.row_sigma)
    assert reading.grain == pytest.approx(0.5 / 0.12, rel=0.02)
    assert reading.at_s == 7.0
    assert reading.snr > 100
    # R and S as 4:1 make fringes of 2 sqrt(4 * 1) / (4 + 1 + bias) in amplitude, rms 1 / sqrt(2)
    assert 0.3 < reading.visibility < 0.8
    assert reading.saturated == 0
    assert reading.mean_grey == pytest.approx(
        float(glimpse.frame.mean()) - glimpse.grey.black, rel=1e-6
    )
    assert reading.field.dtype == np.complex64


def test_noise_shows_in_the_signal_to_noise(glimpse):
    bits = np.random.default_rng(0).integers(0, 2, 64, np.uint8)
    noisy = read(glimpse_of(bits, preset="quiet", seed=3, read_noise_electrons=300.0), 0.0)
    assert noisy.snr < 0.3 * read(glimpse, 0.0).snr


def test_without_a_sideband_there_is_a_name_for_it(glimpse):
    noise = np.random.default_rng(1).integers(10, 60, glimpse.frame.shape).astype(np.uint8)
    reading = read(Glimpse(1, noise, None, None, glimpse.grey), 0.0)
    assert reading.carrier is None
    assert reading.field is None
    assert reading.obstacle.startswith("NoCarrierError: ")
    assert math.isnan(reading.visibility)
    assert math.isnan(reading.snr)
    assert reading.mean_grey > 0


def test_one_frame_tells_all_but_the_noise(glimpse):
    reading = read(Glimpse(1, glimpse.frame, None, None, glimpse.grey), 0.0)
    assert reading.carrier is not None
    assert reading.visibility > 0
    assert math.isnan(reading.snr)


def test_focus_falls_with_blur_and_knows_no_exposure():
    frame = np.random.default_rng(0).integers(10, 200, (64, 64)).astype(np.float32)
    blurred = (frame + np.roll(frame, 1, 0) + np.roll(frame, 1, 1)) / 3
    assert focus(blurred, 0.0) < 0.5 * focus(frame, 0.0)
    assert focus(10 + 3 * frame, 10.0) == pytest.approx(focus(frame, 0.0), rel=1e-5)
    assert math.isnan(focus(np.zeros((8, 8), np.uint8), 1.0))


@pytest.mark.parametrize("shape", [(128, 96), (1100, 600)])
def test_a_tone_lies_where_its_frequency_is(shape):
    row, column = np.ogrid[: shape[0], : shape[1]]
    frame = np.cos(2 * np.pi * (0.25 * row - 0.125 * column)).astype(np.float32)
    level = spectrum_db(frame)
    assert max(level.shape) <= 1024
    peaks = np.argwhere(level > level.max() - 1.0)
    found = {tuple(np.round(peak / level.shape - 0.5, 2)) for peak in peaks}
    assert (0.25, -0.12) in found or (0.25, -0.13) in found


def test_an_analyst_reads_what_is_new_and_only_that(glimpse, wait_until):
    class Feed:
        newest = None

        def close(self):
            pass

    feed = Feed()
    analyst = Analyst(feed)
    try:
        assert analyst.latest is None
        feed.newest = glimpse
        wait_until(lambda: analyst.latest is not None)
        first = analyst.latest
        time.sleep(0.6)
        assert analyst.latest is first
        feed.newest = Glimpse(2, glimpse.again, None, None, glimpse.grey)
        wait_until(lambda: analyst.latest.number == 2)
        feed.newest = "not a glimpse"
        with pytest.raises(AttributeError):
            wait_until(lambda: analyst.latest is None)
    finally:
        analyst.close()


def test_a_history_forgets_what_is_too_old(glimpse):
    history = History()
    for at_s in (0.0, 10.0, SPAN_S + 5.0):
        history.add(read(glimpse, at_s))
    ages, figures = history.table(SPAN_S + 6.0)
    np.testing.assert_allclose(ages, [10.0 - SPAN_S - 6.0, -1.0])
    assert figures.shape == (len(TRACES), 2)
    assert np.isfinite(figures).all()
