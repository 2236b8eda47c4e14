"""Live benches, and windows over them that are drawn in memory."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from opu_driver import simulated_bench
from tools.viewer.live import Live, State

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


def wait_until(condition: Callable[[], Any], longest_s: float = 60.0) -> None:
    """Wait, and let a window work meanwhile."""
    process = getattr(sys.modules.get("PySide6.QtTest"), "QTest", None)
    end = time.monotonic() + longest_s
    while not condition():
        assert time.monotonic() < end, f"nothing came of it in {longest_s:g} s"
        if process is None:
            time.sleep(0.01)
        else:
            process.qWait(10)


@pytest.fixture(name="wait_until")
def _wait_until() -> Callable[..., None]:
    return wait_until


@pytest.fixture
def live() -> Iterator[Callable[..., Live]]:
    """Start a simulated bench that runs on and on; it is closed after the test."""
    with ExitStack() as started:

        def start(camera: dict[str, Any] | None = None, **options: Any) -> Live:
            made = Live(simulated_bench("realistic", 1, camera=camera, **options))
            started.callback(made.close)
            return made

        yield start


@pytest.fixture
def running(live) -> Live:
    """A bench with its first frames taken."""
    made = live(camera={"exposure_us": 40.0}, laser={"power_mw": 10.0, "ceiling_mw": 20.0})
    wait_until(lambda: made.status.frames)
    return made


@pytest.fixture
def qt(monkeypatch) -> Iterator[Any]:
    """The application; what a slot raises fails the test."""
    reason = "PySide6 or pyqtgraph is not installed, or lacks a system library"
    pytest.importorskip("PySide6.QtWidgets", reason=reason, exc_type=ImportError)
    pytest.importorskip("PySide6.QtTest", reason=reason, exc_type=ImportError)
    pytest.importorskip("pyqtgraph", reason=reason)
    from tools.viewer.application import application

    raised: list[BaseException] = []
    monkeypatch.setattr(sys, "excepthook", lambda _kind, error, _traceback: raised.append(error))
    yield application()
    assert not raised


@pytest.fixture
def shown(qt) -> Iterator[Callable[..., Any]]:
    """Show a window over a feed; it is closed after the test."""
    from tools.viewer.window import Window

    with ExitStack() as opened:

        def show(feed: Any, **options: Any) -> Window:
            window = Window(feed, "test", **options)
            opened.callback(window.close)
            window.show()
            window.activateWindow()
            wait_until(lambda: window.image.cross_hair != (0, 0) or feed.newest is None)
            return window

        yield show


@pytest.fixture
def window(running, shown) -> Any:
    """A window over a bench that runs."""
    made = shown(running)
    wait_until(lambda: running.status.state is State.LIVE and made.controls.exposure_us.isEnabled())
    return made
