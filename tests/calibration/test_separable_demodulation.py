import os
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calibration.carrier import Carrier
from calibration.demodulation import Demodulator
from calibration.errors import FramesError
from calibration.separable_demodulation import LARGEST_LEAK, SeparableDemodulator
from calibration.wiener import Levels
from opu_driver.errors import SettingError


def carrier_at(row: float, column: float, radius: float = 0.12) -> Carrier:
    return Carrier(row, column, 0.0, 0.0, radius, 0.0)


CLEAR = carrier_at(0.3, 0.3)


def relative(measured, true) -> float:
    return float(np.linalg.norm(measured - true) / np.linalg.norm(true))


def by_definition(frames, demodulator):
    """The sum over each grid point's window, term by term, in double precision."""
    taps, d = demodulator.taps, demodulator.decimation
    matrices = []
    for axis, frequency, length in (
        (taps.down, demodulator.carrier.row, frames.shape[1]),
        (taps.across, demodulator.carrier.column, frames.shape[2]),
    ):
        matrix = np.zeros((length // d, length), complex)
        for i, (start, border) in enumerate(zip(axis.starts, axis.borders, strict=True)):
            row = axis.centred if border < 0 else axis.skewed[border]
            wave = np.exp(-2j * np.pi * frequency * d * i)
            matrix[i, start : start + len(row)] = row * wave
        matrices.append(matrix)
    return matrices[0] @ frames.astype(float) @ matrices[1].T


@pytest.mark.parametrize(
    ("shape", "carrier", "reach", "dtype"),
    [
        ((128, 96), CLEAR, 8, np.uint8),
        ((128, 96), CLEAR, 8, np.uint16),
        ((128, 96), CLEAR, 8, np.float32),
        ((128, 96), CLEAR, 8, np.float64),
        ((132, 2400), carrier_at(-0.31, 0.2913), 8, np.uint8),  # more than one tile across
        ((48, 4400), CLEAR, 12, np.uint16),
        ((24, 20), CLEAR, 8, np.uint16),  # shorter than two windows
        ((16, 12), CLEAR, 8, np.uint8),  # shorter than one: every point is at the border
        ((48, 36), carrier_at(0.313, 0.302, 0.15), 6, np.uint8),  # every third pixel
        ((31, 37), carrier_at(0.31, 0.33, 0.16), 4, np.uint8),  # every pixel
        ((128, 96), CLEAR, 8, np.dtype(">u2")),
        ((128, 96), CLEAR, 8, np.int16),
        ((64, 72), carrier_at(0.2, 0.15, 0.06), 16, np.uint8),  # every eighth
    ],
)
def test_is_the_separable_sum(shape, carrier, reach, dtype):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, *shape)).astype(dtype)
    decimation = 1 if shape == (31, 37) else None
    demodulator = SeparableDemodulator(shape, carrier, reach=reach, decimation=decimation)
    fields = demodulator(frames)
    assert fields.dtype == np.complex64
    assert fields.shape == (3, *demodulator.grid_shape)
    assert relative(fields, by_definition(frames, demodulator)) < 2e-6


@pytest.mark.parametrize("bits", [8, 10, 12])
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    row=st.floats(0.29, 0.37), column=st.floats(0.29, 0.37), sign=st.sampled_from([-1, 1]),
    radius=st.floats(0.08, 0.12), rows=st.integers(24, 40), columns=st.integers(24, 40),
    seed=st.integers(0, 1000),
)  # fmt: skip
def test_fields_are_true(holograms, bits, row, column, sign, radius, rows, columns, seed):
    """Away from the border the truth to the predicted error, and nowhere far from it."""
    rng = np.random.default_rng(seed)
    shape = 4 * rows, 4 * columns
    place = sign * row, column
    truth = holograms(rng, shape, carrier=place, radius=radius, electrons=8000)
    gain = 8 * truth.light.mean() / (2**bits - 1)
    grey = np.clip(np.rint(truth.frames(rng, 2.5, gain)), 0, 2**bits - 1)
    frames = grey.astype(np.uint8 if bits == 8 else np.uint16)
    noise = (truth.light.mean() + 2.5**2 + gain**2 / 12) / truth.signal**2
    demodulator = SeparableDemodulator(
        shape, carrier_at(*place, radius), decimation=4, levels=Levels(4.0, noise)
    )
    field, true = demodulator(frames)[0] * gain, truth.field[0, ::4, ::4]
    inside = np.s_[4:-4, 4:-4]
    assert relative(field[inside], true[inside]) < 1.6 * demodulator.taps.error
    assert relative(field, true) < 0.08
    reference = Demodulator(shape, carrier_at(*place, radius), decimation=4)
    assert reference.grid_shape == demodulator.grid_shape
    assert reference.n_modes == demodulator.n_modes
    far = np.s_[8:-8, 8:-8]
    other = reference(frames)[0] * gain
    assert relative(field[far], other[far]) < 0.08


@pytest.mark.parametrize(("radius", "clean", "noisy"), [(0.08, 0.005, 0.02), (0.12, 0.015, 0.022)])
def test_errors_in_figures(holograms, radius, clean, noisy):
    """At 3750 electrons a pixel and 12 bits, over all modes but those of the outermost grain."""
    rng = np.random.default_rng(5)
    truth = holograms(rng, (512, 512), carrier=(0.3, 0.3), radius=radius, electrons=3750)
    levels = Levels(4.0, truth.light.mean() / truth.signal**2)
    demodulator = SeparableDemodulator(
        (512, 512), carrier_at(0.3, 0.3, radius), decimation=4, levels=levels
    )
    inside = np.s_[2:-2, 2:-2]
    true = truth.field[0, ::4, ::4][inside]
    assert relative(demodulator(truth.light)[0][inside], true) < clean
    assert relative(demodulator(truth.frames(rng))[0][inside], true) < noisy


def test_predicts_its_error(holograms):
    rng = np.random.default_rng(6)
    truth = holograms(rng, (512, 512), carrier=(0.27, 0.25), waist=30)
    demodulator = SeparableDemodulator((512, 512), carrier_at(0.27, 0.25))
    inside = np.s_[8:-8, 8:-8]
    true = truth.field[0, ::4, ::4][inside]
    error = relative(demodulator(truth.light)[0][inside], true)
    assert error == pytest.approx(demodulator.taps.leak, rel=0.1)
    assert demodulator.taps.leak > LARGEST_LEAK  # these orders are too close for it


def test_a_plane_wave_has_the_sign_of_the_carrier():
    i, j = np.ogrid[:96, :128]
    frame = 100 + 30 * np.cos(2 * np.pi * (0.31 * i + 0.29 * j) + 0.7)
    field = SeparableDemodulator(frame.shape, CLEAR, decimation=4)(frame[None])[0]
    expected = 15 * np.exp(2j * np.pi * (0.01 * i - 0.01 * j) + 0.7j)[::4, ::4]
    assert relative(field, expected) < 0.03


@given(row=st.integers(0, 40), column=st.integers(0, 40))
@settings(max_examples=10)
def test_a_shifted_region_shifts_the_field(row, column):
    """Away from the borders, whatever the place in the tiles."""
    rng = np.random.default_rng(2)
    large = rng.integers(0, 256, (232, 232), dtype=np.uint8)
    demodulator = SeparableDemodulator((64, 64), CLEAR)
    whole = SeparableDemodulator((232, 232), CLEAR)(large[None])[0]
    top, left = 4 * row, 4 * column
    part = demodulator(large[None, top : top + 64, left : left + 64])[0]
    phase = np.exp(2j * np.pi * (0.3 * top + 0.3 * left))
    inside = np.s_[2:-2, 2:-2]
    expected = phase * whole[row : row + 16, column : column + 16][inside]
    assert np.allclose(part[inside], expected, atol=2e-3)


def test_what_is_constant_vanishes():
    for carrier in (CLEAR, carrier_at(0.2, 0.35)):
        fields = SeparableDemodulator((64, 64), carrier)(np.full((1, 64, 64), 4095, np.uint16))
        assert np.abs(fields).max() < 4095 * 1e-6


@given(seed=st.integers(0, 1000), factor=st.floats(-3, 3))
@settings(max_examples=10)
def test_linear_and_frame_by_frame(seed, factor):
    rng = np.random.default_rng(seed)
    demodulator = SeparableDemodulator((64, 64), CLEAR)
    a, b = rng.random((2, 5, 64, 64), np.float32)
    together = demodulator(a + np.float32(factor) * b)
    assert np.allclose(together, demodulator(a) + np.float32(factor) * demodulator(b), atol=4e-6)
    one_by_one = np.concatenate([demodulator(frame[None]) for frame in a])
    assert np.array_equal(demodulator(a), one_by_one)


def test_noise_gain():
    rng = np.random.default_rng(3)
    demodulator = SeparableDemodulator((128, 128), CLEAR)
    noise = demodulator(rng.normal(0, 3, (64, 128, 128)).astype(np.float32))
    assert np.mean(np.abs(noise) ** 2) == pytest.approx(9 * demodulator.noise_gain, rel=0.02)


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_threads_change_nothing(threads):
    rng = np.random.default_rng(4)
    frames = rng.integers(0, 256, (5, 128, 128), dtype=np.uint8)
    alone = SeparableDemodulator((128, 128), CLEAR, threads=1)(frames)
    several = SeparableDemodulator((128, 128), CLEAR, threads=threads)(frames)
    assert np.array_equal(alone, several)


def test_callers_do_not_disturb_each_other():
    rng = np.random.default_rng(4)
    batches = rng.integers(0, 256, (16, 3, 64, 96), dtype=np.uint8)
    demodulator = SeparableDemodulator((64, 96), CLEAR, threads=2)
    expected = [demodulator(frames) for frames in batches]
    with ThreadPoolExecutor(4) as callers:
        for field, true in zip(callers.map(demodulator, batches), expected, strict=True):
            assert np.array_equal(field, true)


def test_the_environment_says_how_many_threads():
    code = (
        "from calibration.carrier import Carrier\n"
        "from calibration.separable_demodulation import SeparableDemodulator as S\n"
        "print(S((64, 64), Carrier(0.3, 0.3, 0, 0, 0.12, 0)).engine)"
    )
    for threads, words in ((1, "numba, 1 thread"), (3, "numba, 3 threads")):
        environment = {**os.environ, "NUMBA_NUM_THREADS": str(threads)}
        run = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert run.stdout.strip() == words


@pytest.mark.parametrize(
    ("dtype", "part"),
    [
        (np.uint8, np.s_[:16]),
        (np.uint8, np.s_[::2]),
        (np.float32, np.s_[:16]),
        (">u2", np.s_[:16]),
        (np.int16, np.s_[::2]),
    ],
)
def test_no_memory_for_a_frame(dtype, part):
    """A call for many frames allocates no more than a call for one."""
    rng = np.random.default_rng(5)
    large = rng.integers(0, 256, (32, 270, 260), dtype=np.uint8).astype(dtype)
    frames = large[part, 5:261, 2:258]
    demodulator = SeparableDemodulator((256, 256), CLEAR, threads=1)
    out = np.empty((16, *demodulator.grid_shape), np.complex64)
    demodulator(frames, out)
    peaks = []
    for count in (1, 16):
        tracemalloc.start()
        assert demodulator(frames[:count], out[:count]) is not None
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert abs(peaks[1] - peaks[0]) < frames[0].size / 4


def test_writes_where_it_is_told():
    rng = np.random.default_rng(5)
    frames = rng.integers(0, 256, (4, 64, 64), dtype=np.uint8)
    demodulator = SeparableDemodulator((64, 64), CLEAR)
    out = np.zeros((6, 16, 16), np.complex64)
    assert np.array_equal(demodulator(frames, out[1:5]), demodulator(frames))
    assert not out[[0, 5]].any()
    assert out[1:5].any()


def test_strided_and_read_only_frames():
    rng = np.random.default_rng(5)
    frames = rng.integers(0, 256, (4, 64, 128), dtype=np.uint8)
    demodulator = SeparableDemodulator((64, 64), CLEAR)
    expected = demodulator(frames[:, :, ::2].copy())
    frames.flags.writeable = False
    assert np.array_equal(demodulator(frames[:, :, ::2]), expected)


def test_no_frames():
    demodulator = SeparableDemodulator((64, 64), CLEAR)
    assert demodulator(np.zeros((0, 64, 64), np.uint8)).shape == (0, 16, 16)


class TestRefusals:
    def test_settings(self):
        with pytest.raises(SettingError, match="can be decimated by 1 to 4"):
            SeparableDemodulator((128, 128), CLEAR, decimation=5)
        with pytest.raises(SettingError, match=r"reach = 6; .*multiple of the decimation, 4"):
            SeparableDemodulator((128, 128), CLEAR, reach=6)
        with pytest.raises(SettingError, match="threads = 0"):
            SeparableDemodulator((128, 128), CLEAR, threads=0)

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
            SeparableDemodulator((64, 64), CLEAR)(frames)

    @pytest.mark.parametrize(
        "out",
        [
            np.zeros((2, 16, 16), np.complex64),
            np.zeros((1, 16, 16), complex),
            np.zeros((1, 16, 32), np.complex64)[:, :, ::2],
        ],
    )
    def test_out(self, out):
        for kind in (SeparableDemodulator, Demodulator):
            with pytest.raises(FramesError, match="out is"):
                kind((64, 64), CLEAR)(np.zeros((1, 64, 64)), out)
