"""The window as an application: it runs until it is closed, and faults end it in the dark."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from platformdirs import user_config_path
from PySide6.QtCore import QSettings
from PySide6.QtWidgets import QApplication

from opu_driver import Bench
from opu_driver.errors import RecordingError
from opu_driver.recording import Recording
from tools.viewer.live import Live
from tools.viewer.look import darken_room
from tools.viewer.playback import Playback
from tools.viewer.window import Window

_SWITCH_S = 0.001  # that drawing waits for another thread's Python at most; 5 ms are half a frame


def view_bench(bench: Bench) -> None:
    """Show a bench, live, until the window is closed.

    Raises:
        BaseException: What was raised in a slot, Ctrl-C among it; the light is off by then.
    """
    app = application()
    live = Live(bench)
    try:
        run(app, Window(live, bench.name, remembered_layout("bench")))
    finally:
        live.close()


def view_recording(path: Path) -> None:
    """Play a recording until the window is closed.

    Raises:
        RecordingError: It cannot be opened, or has no frames.
        BaseException: What was raised in a slot, Ctrl-C among it.
    """
    with Recording(path) as recording:
        if not len(recording):
            raise RecordingError(f"The recording {path} has no frames; there is nothing to play.")
        app = application()
        run(app, Window(Playback(recording), path.name, remembered_layout("recording")))


def application() -> QApplication:
    """The application of this process, in the colours of a dark room."""
    app = QApplication.instance()
    if not isinstance(app, QApplication):
        app = QApplication(["opu view"])
    darken_room(app)
    sys.setswitchinterval(_SWITCH_S)
    return app


def remembered_layout(what: str) -> QSettings:
    """Where the layout of a window is remembered."""
    path = user_config_path("opu") / f"view-{what}.ini"
    return QSettings(str(path), QSettings.Format.IniFormat)


def run(app: QApplication, window: Window) -> None:
    """Show a window until it is closed.

    Raises:
        BaseException: What was raised in a slot.
    """
    raised: list[BaseException] = []
    with _raised_in_slots(app, raised):
        window.show()
        app.exec()
        window.close()
    if raised:
        raise raised[0]


@contextmanager
def _raised_in_slots(app: QApplication, raised: list[BaseException]) -> Iterator[None]:
    """Qt's event loop only prints what a slot raises, and goes on; here it ends."""
    before = sys.excepthook

    def end(
        _kind: type[BaseException], error: BaseException, _traceback: TracebackType | None
    ) -> None:
        raised.append(error)
        app.quit()

    sys.excepthook = end
    try:
        yield
    finally:
        sys.excepthook = before
