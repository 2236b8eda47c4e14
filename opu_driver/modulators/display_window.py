"""The window of a `Display`: `python -m opu_driver.modulators.display_window`.

In a process of its own, Qt has its own main thread and event loop, whatever the user's program does
with Qt, and nothing else disturbs the pace. The window is driven over its standard input and
answers each request with one line of JSON on its standard output; `display_process.DisplayProcess`
speaks to it. It ends with its parent, because its standard input does.

Requests are lines of JSON, `{"do": ..., ...}`; `load` is followed by the patterns themselves:

    screens                     the screens that there are
    open: screen, shape, greys  cover a screen; `greys` are the grey values of the levels
    load: patterns, bytes       a batch of patterns, as `Modulator` stores them
    show: index                 a pattern of the batch; -1 is level 0 everywhere
    play: period_s, hold_s, compare
                                the batch, a pattern a period, each for `hold_s` at least
    progress                    how far the batch is that plays
    compare                     is scanned out what was shown?

Qt documentation: classes QWindow, QBackingStore (`beginPaint`, `flush`), QImage and QScreen
(`grabWindow`); "High DPI" for what is turned off here.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QEvent, QObject, QRect, Qt, QTimer, Signal
from PySide6.QtGui import (
    QBackingStore,
    QGuiApplication,
    QImage,
    QPainter,
    QRegion,
    QScreen,
    QWindow,
    qRgb,
)

Answer = dict[str, Any]


class WindowError(Exception):
    """What the window cannot do.

    Attributes:
        kind: `missing`, `unfit`, `wrong` or `lost`; the parent raises an error of its own for each.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class PatternWindow(QWindow):
    """Covers one screen with an image, pixel for pixel: no frame, no focus, no cursor."""

    def __init__(self, screen: QScreen) -> None:
        super().__init__(screen)
        self.setFlags(
            Qt.WindowType.FramelessWindowHint
            | Qt.WindowType.BypassWindowManagerHint
            | Qt.WindowType.NoDropShadowWindowHint
            | Qt.WindowType.WindowStaysOnTopHint
            | Qt.WindowType.WindowDoesNotAcceptFocus
        )
        self.setCursor(Qt.CursorShape.BlankCursor)
        self.setGeometry(screen.geometry())
        self._store = QBackingStore(self)
        self._image = QImage()

    def show_image(self, image: QImage) -> None:
        """Paint, and wait until the window system has taken it."""
        self._image = image
        self._paint()
        self.screen().grabWindow(0, 0, 0, 1, 1)  # answered after all that was asked before

    def event(self, event: QEvent) -> bool:
        """Paint again what the window system has forgotten."""
        if event.type() is QEvent.Type.Expose and self.isExposed() and not self._image.isNull():
            self._paint()
        return super().event(event)

    def _paint(self) -> None:
        whole = QRegion(QRect(0, 0, self.width(), self.height()))
        self._store.resize(self.size())
        self._store.beginPaint(whole)
        painter = QPainter(self._store.paintDevice())
        painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_Source)
        painter.drawImage(0, 0, self._image)
        painter.end()
        self._store.endPaint()
        self._store.flush(whole)


@dataclass
class Run:
    """A batch that plays.

    Attributes:
        patterns: How many it has.
        period_s: From one pattern to the next on the clock.
        hold_s: What each pattern is shown for at least.
        compare: Whether each pattern is compared with what is scanned out.
        started_s: When its first pattern was put up.
        shown: Patterns that have been up for `hold_s`.
        late_s: How far the worst pattern was behind the clock.
        failure: Why the run ended early.
    """

    patterns: int
    period_s: float
    hold_s: float
    compare: bool
    started_s: float
    shown: int = 0
    late_s: float = 0.0
    failure: WindowError | None = None


class PatternShow(QObject):
    """What is shown on one screen, request by request."""

    requested = Signal(object, object)
    ended = Signal()

    def __init__(self, app: QGuiApplication, answers: BinaryIO) -> None:
        super().__init__()
        self._app = app
        self._answers = answers
        self._window: PatternWindow | None = None
        self._lost: WindowError | None = None
        self._greys: list[int] = [0, 255]
        self._patterns = b""
        self._count = 0
        self._shown = QImage()
        self._run: Run | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._turn_over)
        self._do: dict[str, Callable[..., Answer]] = {
            "screens": self.screens,
            "open": self.open,
            "load": self.load,
            "show": self.show,
            "play": self.play,
            "progress": self.progress,
            "compare": self.compare,
        }
        self.requested.connect(self._answer)
        self.ended.connect(app.quit)
        app.screenRemoved.connect(self._screen_removed)

    def screens(self) -> Answer:
        """The screens that there are, and which is the desktop's own."""
        own = self._app.primaryScreen()
        screens = self._app.screens()
        return {"screens": [_described(screen) | {"primary": screen == own} for screen in screens]}

    def open(self, screen: str | int, shape: list[int] | None, greys: list[int]) -> Answer:
        """Cover a screen of the given rows and columns, None for any, with level 0."""
        chosen = self._choose(screen)
        there = _described(chosen)["shape"]
        if shape is not None and shape != there:
            raise WindowError(
                "unfit",
                f"The screen {chosen.name()!r} is set to {there[0]} rows x {there[1]} columns; "
                f"shape = {shape} was asked for. Set the monitor to its own resolution, or choose "
                "another screen.",
            )
        self._greys = greys
        self._window = PatternWindow(chosen)
        if self._app.platformName() == "xcb":
            self._window.show()
        else:
            self._window.showFullScreen()
        self._await_exposure(self._window)
        ratio = self._window.devicePixelRatio()
        if ratio != 1.0 or self._window.geometry() != chosen.geometry():
            raise WindowError(
                "wrong",
                f"The window on screen {chosen.name()!r} is scaled by {ratio:g} and covers "
                f"{self._window.width()} x {self._window.height()} of {chosen.size().width()} x "
                f"{chosen.size().height()} pixels. Set the screen's scaling to 100 %.",
            )
        chosen.geometryChanged.connect(self._screen_changed)
        self.show(-1)
        return _described(chosen)

    def load(self, patterns: int, payload: bytes) -> Answer:
        """Keep a batch."""
        self._patterns = payload
        self._count = patterns
        return {}

    def show(self, index: int) -> Answer:
        """Put one pattern up; a batch that plays ends."""
        self._timer.stop()
        self._put_up(index)
        return {}

    def play(self, period_s: float, hold_s: float, compare: bool) -> Answer:
        """Put up the batch, a pattern a period."""
        self._timer.stop()
        self._run = Run(self._count, period_s, hold_s, compare, time.perf_counter())
        self._put_up(0)
        self._timer.start(_milliseconds(hold_s if self._count == 1 else max(period_s, hold_s)))
        return {}

    def progress(self) -> Answer:
        """How far the batch is; raises what ended it early."""
        if self._run is None:
            return {"running": False, "shown": 0, "late_s": 0.0}
        if self._run.failure:
            raise self._run.failure
        return {
            "running": self._timer.isActive(),
            "shown": self._run.shown,
            "late_s": self._run.late_s,
        }

    def compare(self) -> Answer:
        """Compare what is scanned out with what was shown last."""
        window = self._opened
        wanted = self._shown.convertToFormat(QImage.Format.Format_RGB32)
        found = window.screen().grabWindow(0).toImage().convertToFormat(QImage.Format.Format_RGB32)
        if found.isNull():
            raise WindowError(
                "wrong",
                f"The window system ({self._app.platformName()}) lets nobody see what is scanned "
                "out, so that patterns cannot be verified. Use an X11 session (QT_QPA_PLATFORM=xcb "
                "under Wayland).",
            )
        if found != wanted:
            raise WindowError("wrong", _difference(_pixels(wanted), _pixels(found)))
        return {}

    @property
    def _opened(self) -> PatternWindow:
        if self._lost:
            raise self._lost
        if self._window is None:
            raise WindowError("wrong", "No screen has been opened.")
        return self._window

    def _choose(self, screen: str | int) -> QScreen:
        screens = self._app.screens()
        if self._app.platformName() in ("offscreen", "minimal"):
            screens = []
        for index, candidate in enumerate(screens):
            if screen in (index, candidate.name()):
                return candidate
        there = ", ".join(
            f"{index}: {s.name()!r} of {s.size().height()} x {s.size().width()}"
            for index, s in enumerate(screens)
        )
        raise WindowError(
            "missing",
            f"There is no screen {screen!r}; there are: {there or 'none'}. Check the cable, that "
            "the screen is switched on and that the desktop is extended to it, not mirrored.",
        )

    def _await_exposure(self, window: QWindow) -> None:
        deadline_s = time.perf_counter() + 5.0
        while not window.isExposed():
            if time.perf_counter() > deadline_s:
                raise WindowError("wrong", "The window system does not show the window.")
            self._app.processEvents()
            time.sleep(1e-3)

    def _put_up(self, index: int) -> None:
        window = self._opened
        if not window.isExposed():
            raise WindowError("wrong", "The window is covered or minimised. Leave its screen free.")
        self._shown = self._image(index)
        window.show_image(self._shown)

    def _image(self, index: int) -> QImage:
        """A pattern with the grey values as its colour table: no pixel is computed."""
        size = self._opened.size()
        if len(self._greys) == 2:
            stride, stored = -(-size.width() // 8), QImage.Format.Format_Mono
        else:
            stride, stored = size.width(), QImage.Format.Format_Indexed8
        length = stride * size.height()
        data = self._patterns[index * length : (index + 1) * length] if index >= 0 else b""
        image = QImage(data or bytes(length), size.width(), size.height(), stride, stored)
        image.setColorTable([qRgb(grey, grey, grey) for grey in self._greys])
        return image.copy()  # owns its pixels

    def _turn_over(self) -> None:
        """Take note of the pattern that was up, and put up the next."""
        run = self._run
        if run is None:
            return
        try:
            if run.compare:
                self.compare()
            run.shown += 1
            if run.shown == run.patterns:
                return
            due_s = run.started_s + run.shown * run.period_s
            time.sleep(max(due_s - time.perf_counter(), 0.0))  # the timer counts milliseconds
            self._put_up(run.shown)
            now_s = time.perf_counter()
            run.late_s = max(run.late_s, now_s - due_s)
            last = run.shown + 1 == run.patterns
            next_s = 0.0 if last else due_s + run.period_s - now_s
            self._timer.start(_milliseconds(max(next_s, run.hold_s)))
        except WindowError as error:
            run.failure = error

    def _screen_removed(self, screen: QScreen) -> None:
        if self._window and self._window.screen() in (screen, None):
            self._lose("The screen is gone. Check its cable and power")

    def _screen_changed(self) -> None:
        self._lose("The screen has another resolution or place now. Set it back")

    def _lose(self, what: str) -> None:
        """Off the desktop at once: the window system would move the window to another screen."""
        self._lost = WindowError("lost", f"{what}, then close and open the modulator.")
        self._timer.stop()
        if self._run:
            self._run.failure = self._lost
        if self._window:
            self._window.hide()

    def _answer(self, request: dict[str, Any], payload: bytes) -> None:
        arguments = dict(request)
        if arguments.pop("bytes", None) is not None:
            arguments["payload"] = payload
        try:
            answer = self._do[arguments.pop("do")](**arguments)
        except WindowError as error:
            answer = {"error": error.kind, "message": str(error)}
        self._answers.write(json.dumps(answer).encode() + b"\n")
        self._answers.flush()


def _described(screen: QScreen) -> Answer:
    size = screen.size() * screen.devicePixelRatio()
    return {
        "name": screen.name(),
        "vendor": screen.manufacturer(),
        "model": screen.model(),
        "serial": screen.serialNumber(),
        "shape": [size.height(), size.width()],
        "refresh_hz": screen.refreshRate(),
    }


def _milliseconds(seconds: float) -> int:
    return max(int(1e3 * seconds), 0)


def _pixels(image: QImage) -> NDArray[np.uint8]:
    """`[row, column, (blue, green, red)]` of an RGB32 image."""
    flat = np.frombuffer(image.constBits(), np.uint8)
    return flat.reshape(image.height(), image.bytesPerLine() // 4, 4)[:, : image.width(), :3]


def _difference(wanted: NDArray[np.uint8], found: NDArray[np.uint8]) -> str:
    if wanted.shape != found.shape:
        return (
            f"The screen is scanned out with {found.shape[0]} x {found.shape[1]} pixels, not "
            f"{wanted.shape[0]} x {wanted.shape[1]}. Set its scaling to 100 %."
        )
    wrong = (wanted != found).any(axis=2)
    row, column = np.argwhere(wrong)[0]
    return (
        f"{np.count_nonzero(wrong)} of {wrong.size} pixels are scanned out with another value than "
        f"was asked for; the first, at row {row}, column {column}, as (red, green, blue) "
        f"{tuple(found[row, column, ::-1].tolist())} for "
        f"{tuple(wanted[row, column, ::-1].tolist())}. Keep other windows off this screen, set its "
        "scaling to 100 %, and turn off colour management, night light and dithering."
    )


def _listen(show: PatternShow, requests: BinaryIO) -> None:
    """Pass requests on to the event loop, until the parent is gone."""
    with contextlib.suppress(OSError, ValueError):
        for line in requests:
            request = json.loads(line)
            show.requested.emit(request, requests.read(request.get("bytes", 0)))
    show.ended.emit()
    time.sleep(2.0)
    os._exit(0)  # the event loop hangs


def main() -> int:
    """Run until the standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints is no answer
    os.environ["QT_ENABLE_HIGHDPI_SCALING"] = "0"
    for scaling in ("QT_SCALE_FACTOR", "QT_SCREEN_SCALE_FACTORS", "QT_USE_PHYSICAL_DPI"):
        os.environ.pop(scaling, None)
    app = QGuiApplication(sys.argv[:1])
    app.setQuitOnLastWindowClosed(False)
    show = PatternShow(app, answers)
    requests = os.fdopen(os.dup(0), "rb")
    threading.Thread(target=_listen, args=(show, requests), daemon=True).start()
    app.exec()
    os._exit(0)  # the thread still reads


if __name__ == "__main__":
    main()
