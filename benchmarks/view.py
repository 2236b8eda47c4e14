"""How fast the live window draws, and how much of that is left when everything else is drawn too.

Frames come from memory, a new one whenever the window asks, so that nothing but the drawing and the
measuring counts. Beside it stands a bare Qt window that paints the same frames and nothing else,
timed in the same run, the drawing thread's own work for each image (everything else that it draws
included), which others' load does not touch, and the rate at which figures, carrier and spectrum
keep up meanwhile.

    python -P benchmarks/view.py [--json FILE] [--seconds 5]
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtCore import QEvent, QObject, QTimer
from PySide6.QtGui import QImage, QPainter, QPaintEvent
from PySide6.QtWidgets import QApplication, QWidget

from opu_driver import simulated_bench
from tools.viewer.application import application
from tools.viewer.glimpse import Glimpse, GreyRange
from tools.viewer.window import Window

SIDES = (512, 1024, 2048)
FRAMES = 8


class Memory:
    """A new glimpse whenever somebody asks, or the same one again and again."""

    def __init__(self, frames: np.ndarray) -> None:
        self.frames = frames
        self.number = 0

    @property
    def newest(self) -> Glimpse:
        """The next frame."""
        self.number += 1
        at = self.number % len(self.frames)
        return Glimpse(
            self.number, self.frames[at], self.frames[at - 1], None, GreyRange(5.0, 255.0)
        )

    def close(self) -> None:
        """Nothing to let go of."""


class Paints(QObject):
    """Counts the times that a widget is painted."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def eventFilter(self, _watched: QObject, event: QEvent) -> bool:  # noqa: N802 (Qt's name)
        """Count, and let it pass."""
        self.count += event.type() is QEvent.Type.Paint
        return False


class Bare(QWidget):
    """Paints frames, and nothing else, in the same size on the screen."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self.memory = memory
        self.resize(530, 530)
        self.timer = QTimer(self)
        self.timer.timeout.connect(self.update)
        self.timer.start(0)

    def paintEvent(self, _event: QPaintEvent) -> None:  # noqa: N802 (Qt's name)
        """Paint the next frame."""
        frame = self.memory.newest.frame
        rows, columns = frame.shape
        image = QImage(frame.data, columns, rows, columns, QImage.Format.Format_Grayscale8)
        painter = QPainter(self)
        painter.drawImage(self.rect(), image)
        painter.end()


def frames_of(side: int) -> np.ndarray:
    """Holograms `[frame, row, column]` of a simulated bench."""
    camera = {"sensor_shape": (side, side), "exposure_us": 60.0}
    with simulated_bench("realistic", 1, camera=camera) as bench:
        bits = np.random.default_rng(0).integers(0, 2, (FRAMES, 64), np.uint8)
        return bench.expose(bench.layout(64).render(bits))


def paints_per_s(app: QApplication, watched: QObject, seconds: float) -> tuple[float, float]:
    """How often a widget is painted, and the drawing thread's milliseconds of work each time."""
    paints = Paints()
    watched.installEventFilter(paints)
    _process(app, lambda: paints.count >= 3, 10.0)
    paints.count, begin, work = 0, time.perf_counter(), time.thread_time()
    _process(app, lambda: time.perf_counter() - begin > seconds, 2 * seconds)
    rate = paints.count / (time.perf_counter() - begin)
    watched.removeEventFilter(paints)
    return rate, 1e3 * (time.thread_time() - work) / max(paints.count, 1)


def _process(app: QApplication, until: Callable[[], bool], longest_s: float) -> None:
    end = time.perf_counter() + longest_s
    while not until() and time.perf_counter() < end:
        app.processEvents()


def case(app: QApplication, side: int, seconds: float) -> dict[str, float]:
    frames = frames_of(side)
    bare = Bare(Memory(frames))
    bare.show()
    bare_hz, _ = paints_per_s(app, bare, seconds)
    bare.timer.stop()
    bare.hide()

    window = Window(Memory(frames), f"{side} x {side}")
    window.show()
    _process(app, lambda: window.analyst.latest is not None, 60.0)
    readings = [window.analyst.latest]

    def note() -> None:
        if window.analyst.latest is not readings[-1]:
            readings.append(window.analyst.latest)

    timer = QTimer()
    timer.timeout.connect(note)
    timer.start(20)
    begin = time.perf_counter()
    hz, work_ms = paints_per_s(app, window.image.view.viewport(), seconds)
    readings_hz = (len(readings) - 1) / (time.perf_counter() - begin)
    timer.stop()
    window.close()
    return {
        "side": side,
        "bare_hz": bare_hz,
        "window_hz": hz,
        "work_ms": work_ms,
        "readings_hz": readings_hz,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    app = application()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(f"{os.cpu_count()} processors, load {load:.1f}")
    print("frame          bare window   live window   of bare   work a paint   readings")
    rows = []
    for side in SIDES:
        row = case(app, side, arguments.seconds)
        rows.append(row)
        bare_hz, hz = row["bare_hz"], row["window_hz"]
        print(
            f"{side:4d} x {side:4d}   {bare_hz:8.0f} /s   {hz:8.0f} /s   {hz / bare_hz:7.2f}"
            f"   {row['work_ms']:9.1f} ms   {row['readings_hz']:6.2f} /s",
            flush=True,
        )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"load": load, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
