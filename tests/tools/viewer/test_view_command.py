import numpy as np
import pytest

from opu_driver import simulated_bench
from opu_driver.errors import DriverMissingError
from opu_driver.recording import record
from tools.interruption import InterruptError
from tools.main import main


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "a.h5"
    with simulated_bench("realistic", 1) as bench:
        record(bench, bench.layout(1).all_on(), 5, path)
    return path


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A place of its own for the layout."""
    place = tmp_path / "config"
    monkeypatch.setattr("tools.viewer.application.user_config_path", lambda _: place)
    return place


def windows(qt):
    return [
        w for w in qt.topLevelWidgets() if w.windowTitle().startswith("opu view") and w.isVisible()
    ]


def soon(qt, do):
    """Do something once a window shows frames."""
    from PySide6.QtCore import QTimer

    def look():
        for window in windows(qt):
            if window.feed.newest is not None and window.drawn_hz:
                timer.stop()
                do(window)

    timer = QTimer()
    timer.timeout.connect(look)
    timer.start(20)
    return timer


def test_a_bench_is_viewed_until_the_window_is_closed(qt, config):
    seen = []

    def look_and_close(window):
        seen.append(window.feed)
        window.close()

    timer = soon(qt, look_and_close)
    assert main(["view", "--preset", "quiet"]) == 0
    timer.stop()
    assert seen[0].status.frames > 0
    assert seen[0].status.state == "closed"
    assert (config / "view-bench.ini").exists()


def test_a_recording_is_played(qt, config, recording):
    titles = []

    def look_and_close(window):
        titles.append(window.windowTitle())
        window.close()

    timer = soon(qt, look_and_close)
    assert main(["view", str(recording)]) == 0
    timer.stop()
    assert titles == ["opu view: a.h5"]


def test_an_interrupt_in_a_slot_ends_it_in_the_dark(qt, config, capsys):
    feeds = []

    def interrupt(window):
        feeds.append(window.feed)
        raise InterruptError("SIGINT")

    timer = soon(qt, interrupt)
    assert main(["view"]) == 130
    timer.stop()
    assert feeds[0].status.state == "closed"
    assert not feeds[0]._bench.laser.emitting
    assert "Interrupted (SIGINT)" in capsys.readouterr().err


def test_a_recording_and_a_bench_are_two_things(recording, capsys):
    assert main(["view", str(recording), "--preset", "quiet"]) == 2
    assert "Give one of them" in " ".join(capsys.readouterr().err.split())


def test_what_is_no_recording_is_refused(qt, tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.zeros(3))
    assert main(["view", str(tmp_path / "a.npy")]) == 2
    assert "a.npy" in capsys.readouterr().err


def test_without_the_library_there_is_an_install_line(monkeypatch, capsys):
    def missing(module, extra):
        raise DriverMissingError(f"{module} is missing: pip install 'opu[{extra}]'")

    monkeypatch.setattr("opu_driver.extras.vendor_library", missing)
    assert main(["view"]) == 1
    assert "opu[gui]" in capsys.readouterr().err
