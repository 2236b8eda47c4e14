"""Make the pictures of `opu view` that the README shows: run it, and look at them.

QT_QPA_PLATFORM=offscreen python -P docs/pictures/make_view_pictures.py
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PySide6.QtTest import QTest

from opu_driver import simulated_bench
from opu_driver.recording import Recording, record
from tools.viewer.application import application
from tools.viewer.live import Live
from tools.viewer.playback import Playback
from tools.viewer.window import Window

HERE = Path(__file__).parent
READINGS = 8  # so that the traces show something
SIZE = 1440, 960


def wait_until(condition: Callable[[], bool], longest_s: float = 300.0) -> None:
    """Let the window work until something is so."""
    end_s = time.monotonic() + longest_s
    while not condition():
        if time.monotonic() > end_s:
            raise TimeoutError("The window does not show what it should.")
        QTest.qWait(20)


def _read(window: Window) -> int:
    """Number of the frame that was measured last."""
    reading = window.analyst.latest
    return -1 if reading is None else reading.number


def live_pictures() -> None:
    """The window over a simulated bench, with its spectrum, and with its field."""
    camera = {"sensor_shape": (384, 384), "exposure_us": 45.0}
    laser = {"power_mw": 10.0, "ceiling_mw": 20.0}
    live = Live(simulated_bench("realistic", 1, camera=camera, laser=laser))
    window = Window(live, "simulated, realistic")
    try:
        window.resize(*SIZE)
        window.show()
        wait_until(lambda: len(window.history) >= READINGS)
        wait_until(lambda: "carrier" in window.spectrum.told)
        window.grab().save(str(HERE / "view-live.png"))
        window.spectrum.widget.grab().save(str(HERE / "view-spectrum.png"))
        window.field_dock.raise_()
        wait_until(lambda: window.field.drawn)
        QTest.qWait(500)
        window.field.widget.grab().save(str(HERE / "view-field.png"))
    finally:
        window.close()


def player_picture() -> None:
    """The window over a recording with three exposure times."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speckle.h5"
        camera = {"sensor_shape": (384, 384), "exposure_us": 45.0}
        with simulated_bench("realistic", 1, camera=camera) as bench:
            bits = np.random.default_rng(1).integers(0, 2, (6, 64), np.uint8)
            patterns = bench.layout(64).render(bits)
            record(bench, patterns, 6, path, exposures_us=(15.0, 30.0, 45.0))
        with Recording(path) as recording:
            playback = Playback(recording)
            window = Window(playback, path.name)
            window.resize(*SIZE)
            window.show()
            playback.seek(14)
            wait_until(lambda: _read(window) == playback.position)
            QTest.qWait(1000)
            window.grab().save(str(HERE / "view-player.png"))
            window.close()


if __name__ == "__main__":
    application()
    live_pictures()
    player_picture()
