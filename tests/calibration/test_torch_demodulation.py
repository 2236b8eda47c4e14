import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.carrier import Carrier
from calibration.demodulation import Demodulator
from calibration.demodulation_path import REFERENCE
from calibration.torch_demodulation import TorchDemodulator
from opu_driver.errors import SettingError


@settings(max_examples=15)
@given(
    row=st.floats(-0.37, 0.37), column=st.floats(0.0, 0.37), radius=st.floats(0.05, 0.125),
    rows=st.integers(8, 24), columns=st.integers(8, 24),
    kind=st.sampled_from([np.uint8, np.uint16, np.float32, np.float64]), seed=st.integers(0, 99),
)  # fmt: skip
def test_equals_the_reference(row, column, radius, rows, columns, kind, seed):
    shape, carrier = (4 * rows, 4 * columns), Carrier(row, column, 0.0, 0.0, radius, 0.0)
    frames = np.random.default_rng(seed).integers(0, 256, (3, *shape)).astype(kind)
    there = TorchDemodulator(shape, carrier, decimation=4, device="cpu")
    here = Demodulator(shape, carrier, decimation=4)
    assert np.allclose(there(frames), here(frames), atol=1e-4)
    assert there.noise_gain == here.noise_gain
    assert there.path == REFERENCE
    assert there.engine == "torch on cpu"


def test_batches_read_only_and_strided_frames():
    carrier = Carrier(0.3, 0.3, 0.0, 0.0, 0.12, 0.0)
    frames = np.random.default_rng(0).integers(0, 256, (40, 64, 128), dtype=np.uint8)
    there, here = (
        TorchDemodulator((64, 64), carrier, device="cpu"),
        Demodulator((64, 64), carrier),
    )
    expected = here(frames[:, :, ::2])
    frames.flags.writeable = False
    out = np.empty_like(expected)
    assert there(frames[:, :, ::2], out) is out
    assert np.allclose(out, expected, atol=1e-4)


def test_a_device_that_is_not_there():
    with pytest.raises(SettingError, match="no device 'cuda:77' here.*Take 'cpu'"):
        TorchDemodulator((64, 64), Carrier(0.3, 0.3, 0.0, 0.0, 0.12, 0.0), device="cuda:77")
