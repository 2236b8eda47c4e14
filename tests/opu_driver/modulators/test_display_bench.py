"""A bench of a monitor and a web camera that looks at what the monitor is sent: no line between."""

import numpy as np
import pytest

from opu_driver.bench_file import build_bench, parse_bench
from opu_driver.emulators.network_camera import NetworkCamera
from opu_driver.emulators.screens import EmulatedScreens
from opu_driver.errors import DriverMissingError
from opu_driver.extras import vendor_library

SHAPE = (48, 64)


class SpeckleCamera(NetworkCamera):
    """Sees a speckle whose brightness is the part of the mirrors that are on."""

    def __init__(self, screens):
        self._screens = screens
        self._speckle = np.random.default_rng(0).exponential(30.0, SHAPE)
        super().__init__(self.scene, rate_hz=50.0)

    @property
    def scene(self):
        lit = self._screens.scanned_out("dmd").mean() / 255.0
        return np.minimum(lit * self._speckle, 255.0).astype(np.uint8)

    @scene.setter
    def scene(self, scene):
        del scene


@pytest.fixture
def bench(monkeypatch):
    pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install 'opu[gui]'")
    try:
        vendor_library("cv2", "opencv")
        screens = EmulatedScreens({"desk": (64, 96), "dmd": SHAPE})
    except DriverMissingError as error:
        pytest.skip(str(error))
    with screens, SpeckleCamera(screens) as camera:
        monkeypatch.setenv("DISPLAY", screens.display)
        monkeypatch.delenv("QT_QPA_PLATFORM", raising=False)
        described = {
            "modulator": {"driver": "display", "screen": "dmd", "pitch_um": 8.0, "levels": 2}
            | {"latency_frames": 1},
            "camera": {"driver": "opencv", "source": camera.url, "backend": "FFMPEG"}
            | {"pitch_um": 3.0, "fixed_exposure_us": 1000.0, "exposure_us": 1000.0}
            | {"trigger": "software"},
            "laser": {"driver": "virtual", "power_mw": 1.0},
            "scene": {"preset": "quiet"},
        }
        with build_bench(parse_bench(described)) as bench:
            yield bench


def test_frames_belong_to_patterns_without_a_trigger_line(bench):
    lit = np.array([[1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 0]], np.uint8)
    frames = bench.expose(bench.layout(4).render(lit))
    brightness = frames.mean(axis=(1, 2)) / frames[1].mean()
    assert brightness == pytest.approx(lit.mean(axis=1), abs=0.05)
