import functools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from calibration.carrier import Carrier
from calibration.demodulation import EDGE, Demodulator, middle
from calibration.errors import FramesError
from calibration.separable_demodulation import SeparableDemodulator
from calibration.torch_demodulation import TorchDemodulator
from opu_driver.errors import SettingError

TorchOnCpu = functools.partial(TorchDemodulator, device="cpu")


def carrier_at(row: float, column: float, radius: float = 0.12) -> Carrier:
    return Carrier(row, column, 0.0, 0.0, radius, 0.0)


def relative(measured, true) -> float:
    return float(np.linalg.norm(measured - true) / np.linalg.norm(true))


def by_definition(frame, carrier, d):
    """The masked inverse Fourier sum, term by term, in double precision."""
    rows, columns = frame.shape
    spectrum = np.fft.fft2(frame.astype(float))
    row, column = np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(columns)
    row = (row - carrier.row + 0.5) % 1 - 0.5
    column = (column - carrier.column + 0.5) % 1 - 0.5
    beyond = np.clip((np.hypot(row, column) / carrier.radius - 1) / EDGE, 0, 1)
    i, j = np.arange(0, rows, d), np.arange(0, columns, d)
    down = np.exp(2j * np.pi * np.outer(i, row[:, 0])) / rows
    across = np.exp(2j * np.pi * np.outer(column, j)) / columns
    return down @ (spectrum * (1 + np.cos(np.pi * beyond)) / 2) @ across


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(
    ("shape", "carrier"),
    [
        ((128, 128), carrier_at(0.27, 0.25)),
        ((128, 128), carrier_at(-0.2713, 0.2507)),
        ((96, 160), carrier_at(0.3611, 0.0042)),
        ((60, 50), carrier_at(0.313, 0.302, 0.1)),
        ((544, 512), carrier_at(0.27, 0.25)),
        ((127, 101), carrier_at(0.27, 0.25)),
    ],
)
def test_is_the_fourier_sum(shape, carrier, dtype):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, *shape)).astype(dtype)
    demodulator = Demodulator(shape, carrier)
    fields = demodulator(frames)
    assert fields.dtype == np.complex64
    assert fields.shape == (3, *demodulator.grid_shape)
    for field, frame in zip(fields, frames[:, *middle(shape, demodulator.decimation)], strict=True):
        assert relative(field, by_definition(frame, carrier, demodulator.decimation)) < 2e-6


def test_a_grid_of_modes():
    demodulator = Demodulator((128, 128), carrier_at(0.27, 0.25))
    assert demodulator.decimation == 4
    assert demodulator.grid_shape == (32, 32)
    assert demodulator.n_modes == 1024
    assert Demodulator((1088, 2048), carrier_at(0.27, 0.25)).n_modes == 272 * 512
    needs_all = carrier_at(0.27, 0.25, 0.26)
    assert Demodulator((127, 128), needs_all).decimation == 1


@pytest.mark.parametrize("kind", [Demodulator, SeparableDemodulator, TorchOnCpu])
def test_any_region_has_a_grid_in_its_middle(kind):
    """What no grid cell covers is left out, half of it on either side."""
    assert kind((2051, 2447), carrier_at(0.3, 0.3)).grid_shape == (512, 611)
    frames = np.random.default_rng(0).integers(0, 256, (2, 127, 130), dtype=np.uint8)
    demodulator = kind((127, 130), carrier_at(0.3, 0.3))
    assert demodulator.grid_shape == (31, 32)
    inner = kind((124, 128), carrier_at(0.3, 0.3))(frames[:, 1:125, 1:129])
    assert np.array_equal(demodulator(frames), inner)


@settings(max_examples=30)
@given(
    row=st.floats(-0.45, 0.45), column=st.floats(0.0, 0.45), phase=st.floats(-3, 3),
    offset=st.floats(0, 6.28),
)  # fmt: skip
def test_a_plane_wave_becomes_its_amplitude(row, column, phase, offset):
    """Whole fringes at any place of the sideband; the carrier's bin fractions do not matter."""
    length = 64
    tone = np.rint(np.array([row, column]) * length) / length
    carrier = carrier_at(*(tone - 0.01 * np.array([np.cos(offset), np.sin(offset)])), radius=0.03)
    assume(np.abs(2 * tone * length).max() >= 6)  # else it lies next to its twin
    i, j = np.ogrid[:length, :length]
    frame = 7 + 2 * np.cos(2 * np.pi * (tone[0] * i + tone[1] * j) + phase)
    demodulator = Demodulator((length, length), carrier, decimation=8)
    beat = (tone[0] - carrier.row) * i + (tone[1] - carrier.column) * j
    expected = np.exp(1j * (2 * np.pi * beat + phase))[::8, ::8]
    assert np.allclose(demodulator(frame[None])[0], expected, atol=1e-5)


def test_noise_free_interior_error(holograms):
    """The mask's response is 1 / (EDGE r) long; beyond that from the borders the field is true."""
    rng = np.random.default_rng(1)
    truth = holograms(rng, (512, 512))
    demodulator = Demodulator((512, 512), carrier_at(0.27, 0.25))
    inside = np.s_[16:-16, 16:-16]
    field, true = demodulator(truth.light)[0][inside], truth.field[0, ::4, ::4][inside]
    assert relative(field, true) < 1e-3


def test_interior_error_at_the_shot_limit(holograms):
    rng = np.random.default_rng(2)
    truth = holograms(rng, (512, 512), electrons=500)
    demodulator = Demodulator((512, 512), carrier_at(0.27, 0.25))
    inside = np.s_[16:-16, 16:-16]
    field = demodulator(truth.frames(rng, read=0))[0][inside]
    error = np.sqrt(np.mean(np.abs(field - truth.field[0, ::4, ::4][inside]) ** 2))
    shot_limit = np.sqrt(np.pi * 0.12**2 * truth.light.mean())
    assert 0.95 < error / shot_limit < 1.15


def test_noise_gain():
    rng = np.random.default_rng(3)
    demodulator = Demodulator((128, 128), carrier_at(0.27, 0.25))
    noise = demodulator(rng.normal(0, 3, (64, 128, 128)).astype(np.float32))
    assert np.mean(np.abs(noise) ** 2) == pytest.approx(9 * demodulator.noise_gain, rel=0.02)
    assert np.abs(np.mean(noise**2)) < 0.03 * np.mean(np.abs(noise) ** 2)
    assert demodulator.noise_gain / (np.pi * 0.12**2) == pytest.approx(1.116, rel=0.01)


@given(seed=st.integers(0, 1000), factor=st.floats(-3, 3))
@settings(max_examples=10)
def test_linear_and_frame_by_frame(seed, factor):
    rng = np.random.default_rng(seed)
    demodulator = Demodulator((64, 64), carrier_at(0.27, 0.25))
    a, b = rng.random((2, 40, 64, 64), np.float32)
    together = demodulator(a + np.float32(factor) * b)
    apart = demodulator(a) + np.float32(factor) * demodulator(b)
    assert np.allclose(together, apart, atol=2e-6)
    one_by_one = np.concatenate([demodulator(frame[None]) for frame in a])
    assert np.allclose(demodulator(a), one_by_one, atol=1e-6)


def test_threads_change_nothing():
    frames = np.random.default_rng(4).integers(0, 256, (30, 128, 128), dtype=np.uint8)
    alone, several = (
        Demodulator((128, 128), carrier_at(0.27, 0.25), threads=n)(frames) for n in (1, 3)
    )
    assert np.array_equal(alone, several)


def test_no_frames():
    assert Demodulator((64, 64), carrier_at(0.27, 0.25))(np.zeros((0, 64, 64))).shape[0] == 0


class TestRefusals:
    @pytest.mark.parametrize("decimation", [0, -4, 5, 8])
    def test_decimation(self, decimation):
        with pytest.raises(SettingError, match="can be decimated by 1 to 4"):
            Demodulator((128, 128), carrier_at(0.27, 0.25), decimation=decimation)

    def test_no_threads(self):
        with pytest.raises(SettingError, match="threads = 0"):
            Demodulator((64, 64), carrier_at(0.27, 0.25), threads=0)

    @pytest.mark.parametrize(
        "frames",
        [
            np.zeros((64, 64)),
            np.zeros((1, 64, 32)),
            np.zeros((1, 64, 64), complex),
            np.full((1, 64, 64), np.nan, np.float32),
        ],
    )
    def test_frames(self, frames):
        with pytest.raises(FramesError):
            Demodulator((64, 64), carrier_at(0.27, 0.25))(frames)
