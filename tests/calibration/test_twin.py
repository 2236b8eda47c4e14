"""The digital twin of matrices that are held, and of those that are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from calibration import twin
from calibration.twin import DigitalTwin


@pytest.mark.parametrize("held", [0, 1 << 30])
@pytest.mark.parametrize("block", [1, 100, 1 << 26])
def test_it_is_the_matrix_in_the_order_of_the_outputs(monkeypatch, held: int, block: int) -> None:
    monkeypatch.setattr(twin, "HELD_BYTES", held)
    monkeypatch.setattr(twin, "_BLOCK_BYTES", block)
    rng = np.random.default_rng(0)
    T = (rng.standard_normal((12, 5)) + 1j * rng.standard_normal((12, 5))).astype(np.complex64)
    modes = rng.permutation(12)
    digital = DigitalTwin(T, modes, 3.0, "it")
    codes = torch.from_numpy(rng.integers(-3, 4, (7, 5)))
    fields = 3 * codes.numpy() @ T[modes].T
    expected = np.stack([fields.real, fields.imag], axis=2).reshape(7, 24)
    np.testing.assert_allclose(digital.project(codes).numpy(), expected, rtol=1e-5, atol=1e-4)
    assert digital.project(codes).dtype == torch.float32
    assert (digital.n_inputs, digital.n_outputs) == (5, 24)
    assert digital.totals() == {"rows": 14.0}
    assert digital.fingerprint() == "it"
