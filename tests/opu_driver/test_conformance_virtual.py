"""The virtual devices pass the suite that every device must pass."""

import pytest


@pytest.mark.parametrize("driver", ["virtual-dmd", "virtual-slm"])
def test_the_virtual_bench_conforms(conforms, driver):
    conforms(
        f"""
        [modulator]
        driver = "{driver}"
        capacity = 64

        [camera]
        driver = "virtual"
        exposure_us = 100.0

        [laser]
        driver = "virtual"
        power_mw = 10.0

        [scene]
        preset = "quiet"
        """
    )


def test_the_suite_finds_a_camera_that_lies(conforms, tmp_path, monkeypatch):
    """A suite that cannot fail proves nothing: this camera doubles a frame now and then."""
    (tmp_path / "lying.py").write_text(
        """
from opu_driver.virtual.camera import VirtualCamera

_read = VirtualCamera._read


def _lie(self, max_frames, timeout_s):
    block = _read(self, max_frames, timeout_s)
    block.ids[:] += self._delivered // 3
    return block


VirtualCamera._read = _lie
"""
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    bench = """
        [modulator]
        driver = "virtual-dmd"

        [camera]
        driver = "virtual"
        exposure_us = 100.0

        [laser]
        driver = "virtual"
        power_mw = 10.0

        [scene]
        preset = "quiet"
        """
    with pytest.raises(AssertionError, match="test_frames_are_counted_in_order"):
        conforms(bench, "test_camera", plugins=["lying"])
