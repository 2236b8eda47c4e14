import time

import numpy as np
import pytest

from opu_driver.recording import Recording
from tools.viewer.glimpse import Glimpse, GreyRange
from tools.viewer.live import State
from tools.viewer.playback import Playback

QtTest = pytest.importorskip("PySide6.QtTest", reason="PySide6 is missing", exc_type=ImportError)
QtCore = pytest.importorskip("PySide6.QtCore", reason="PySide6 is missing", exc_type=ImportError)
QtGui = pytest.importorskip("PySide6.QtGui", reason="PySide6 is missing", exc_type=ImportError)
QTest, Qt, QPoint = QtTest.QTest, QtCore.Qt, QtCore.QPoint
LEFT = Qt.MouseButton.LeftButton


class Still:
    """The same frame for ever."""

    def __init__(self, frame, full=255.0):
        self.newest = Glimpse(1, frame, None, None, GreyRange(0.0, full))
        self.closed = False

    def close(self):
        self.closed = True


def dark(live):
    return lambda: live.status.state is State.DARK


def type_into(box, text, wait_until):
    box.window().activateWindow()
    box.setFocus()
    wait_until(box.hasFocus)
    box.selectAll()
    QTest.keyClicks(box, text)
    QTest.keyClick(box, Qt.Key.Key_Return)


@pytest.mark.parametrize("key", [Qt.Key.Key_Escape, Qt.Key.Key_Space])
@pytest.mark.parametrize("where", ["window", "exposure", "kind", "record"])
def test_one_key_darkens_whatever_has_the_keyboard(window, wait_until, key, where):
    parts = {
        "window": window,
        "exposure": window.controls.exposure_us,
        "kind": window.controls.kind,
        "record": window.controls.record,
    }
    parts[where].setFocus()
    laser = window.feed._bench.laser
    QTest.keyClick(parts[where], key)
    assert not laser.emitting
    wait_until(dark(window.feed))
    wait_until(lambda: window.light.told == "○ dark")
    assert window.isVisible()
    assert not window.controls.exposure_us.isEnabled()


def test_the_light_is_told_and_comes_back_by_a_click(window, wait_until):
    wait_until(lambda: window.light.told == "● LASER ON  10 mW")
    assert not window.light.reopen.isVisible()
    QTest.mouseClick(window.light.dark, LEFT)
    assert not window.feed._bench.laser.emitting
    wait_until(lambda: window.light.reopen.isVisible())
    taken = window.feed.status.frames
    QTest.mouseClick(window.light.reopen, LEFT)
    wait_until(lambda: window.feed.status.frames > taken)
    wait_until(lambda: window.light.told == "● LASER ON  10 mW")


def test_a_laser_that_does_not_obey_is_told(window, monkeypatch, wait_until):
    from opu_driver.errors import DeviceLostError

    def lost(_on):
        raise DeviceLostError("The laser does not answer.")

    with monkeypatch.context() as broken:
        broken.setattr(window.feed._bench.laser, "_set_emission", lost)
        QTest.keyClick(window, Qt.Key.Key_Escape)
        assert "switch it off by hand" in window.message.text()
        assert window.message.isVisible()
        wait_until(lambda: window.light.told == "● LASER UNKNOWN")
        wait_until(lambda: window.feed.status.state is State.FAILED)
        wait_until(lambda: "switch it off by hand" in window.message.text())
        assert window.light.told == "● LASER UNKNOWN"


def test_pause_and_go_on(window, wait_until):
    QTest.mouseClick(window.light.pause, LEFT)
    wait_until(lambda: window.feed.status.state is State.PAUSED)
    wait_until(lambda: window.light.told == "○ dark")
    QTest.mouseClick(window.light.pause, LEFT)
    wait_until(lambda: window.feed.status.state is State.LIVE)


def test_what_is_typed_comes_into_force(window, wait_until):
    live, controls = window.feed, window.controls
    type_into(controls.exposure_us, "52", wait_until)
    wait_until(lambda: live.status.settings.exposure_us == 52.0)
    type_into(controls.gain_db, "1.5", wait_until)
    wait_until(lambda: live.status.settings.gain_db == 1.5)
    type_into(controls.power_mw, "12.5", wait_until)
    wait_until(lambda: live.status.power_mw == 12.5)
    assert controls.power_mw.maximum() == 20.0
    wait_until(lambda: window.light.told.endswith("12.5 mW"))


def test_a_region_is_set_and_taken_back(window, wait_until):
    controls = window.controls
    for box, value in zip(controls.region, ("32", "16", "64", "96"), strict=True):
        type_into(box, value, wait_until)
    QTest.mouseClick(controls.apply_region, LEFT)
    wait_until(lambda: window.feed.newest.frame.shape == (64, 96))
    wait_until(lambda: window.image.cross_hair == (32, 48))
    QTest.mouseClick(controls.whole_sensor, LEFT)
    wait_until(lambda: window.feed.newest.frame.shape == (128, 128))
    wait_until(lambda: [box.value() for box in controls.region] == [0, 0, 128, 128])


def test_an_impossible_region_is_told(window, wait_until):
    type_into(window.controls.region[0], "100", wait_until)
    QTest.mouseClick(window.controls.apply_region, LEFT)
    wait_until(lambda: "does not lie on a sensor" in window.message.text())
    assert window.feed.status.settings.region.row == 0


def test_a_pattern_is_chosen_with_the_keyboard(window, wait_until):
    controls = window.controls
    controls.kind.setFocus()
    QTest.keyClicks(controls.kind, "one")
    wait_until(lambda: window.feed.status.pattern.kind == "one macropixel")
    type_into(controls.which, "63", wait_until)
    wait_until(lambda: window.feed.status.pattern.which == 63)
    type_into(controls.which, "64", wait_until)
    wait_until(lambda: "0 to 63" in window.message.text())


def test_the_exposure_is_fitted_by_a_click(window, wait_until):
    QTest.mouseClick(window.controls.fit, LEFT)
    wait_until(lambda: "of full scale" in window.feed.status.message, longest_s=120)
    advised_us = window.feed.status.settings.exposure_us
    wait_until(lambda: abs(window.controls.exposure_us.value() - advised_us) < 0.01)


def test_a_click_puts_the_cross_hair_and_keys_move_it(shown):
    frame = np.arange(100 * 80, dtype=np.float32).reshape(100, 80)
    window = shown(Still(frame, full=8000.0))
    view = window.image.view
    assert window.image.cross_hair == (50, 40)
    centre = view.viewport().rect().center()
    QTest.mouseClick(view.viewport(), LEFT, pos=centre)
    QTest.qWait(50)
    row, column = window.image.cross_hair
    assert abs(row - 50) <= 1
    assert abs(column - 40) <= 1
    for key in (Qt.Key.Key_Down, Qt.Key.Key_Down, Qt.Key.Key_Left):
        QTest.keyClick(view, key)
    assert window.image.cross_hair == (row + 2, column - 1)
    _, y = window.image._row.getData()
    np.testing.assert_array_equal(y, frame[row + 2])
    assert f"<b>{frame[row + 2, column - 1]:.6g}</b>" in window.image._value.text()


def test_the_wheel_and_keys_zoom(shown):
    window = shown(Still(np.zeros((100, 80), np.uint8)))
    box = window.image._box

    def width():
        (low, high), _ = box.viewRange()
        return high - low

    whole = width()
    QTest.keyClick(window, Qt.Key.Key_Plus)
    assert width() < 0.8 * whole
    QTest.keyClick(window, Qt.Key.Key_F)
    assert width() == pytest.approx(whole, rel=0.02)


def test_full_pixels_are_red_and_counted(shown, wait_until):
    frame = np.full((64, 64), 100, np.uint8)
    frame[:8, :8] = 255
    window = shown(Still(frame))
    wait_until(lambda: "1.562% saturated" in window.histogram._told.text())
    assert window.histogram.saturated == 64 / 64**2
    edges, full = window.histogram._full.getData()
    assert edges[0] > 100
    assert full[0] == pytest.approx(np.log10(65))


def test_levels_follow_the_region_and_fit(shown):
    frame = np.random.default_rng(0).integers(20, 60, (64, 64)).astype(np.uint8)
    window = shown(Still(frame))
    low, high = window.histogram.levels
    assert 19 <= low <= 22
    assert 57 <= high <= 60
    QTest.mouseClick(window.histogram._whole, LEFT)
    assert window.histogram.levels == (0.0, 255.0)
    QTest.qWait(150)
    assert tuple(window.image._image.levels) == (0.0, 255.0)
    QTest.keyClick(window, Qt.Key.Key_L)
    assert window.histogram.levels == (low, high)


def painted(window):
    """Grey values that the image's part of the screen shows, `[row, column]`."""
    view = window.image.view.viewport()
    for line in window.image._lines.values():
        line.hide()
    corner = view.mapTo(window, QPoint(0, 0))  # not the window's: the view lies somewhere in it
    whole = window.grab(QtCore.QRect(corner, view.size()))
    picture = whole.toImage().convertToFormat(QtGui.QImage.Format.Format_Grayscale8)
    rows, columns = picture.height(), picture.width()
    bits = np.frombuffer(picture.constBits(), np.uint8)
    return bits.reshape(rows, picture.bytesPerLine())[:, :columns].copy()  # the picture goes


@pytest.mark.parametrize(
    ("dtype", "zoom"), [(np.uint8, 1.0), (np.uint8, 8.0), (np.uint16, 1.0), (np.float32, 1.0)]
)
def test_each_pixel_of_the_screen_is_the_frames(shown, wait_until, dtype, zoom):
    frame = np.random.default_rng(0).integers(0, 250, (1100, 900)).astype(dtype)
    window = shown(Still(frame))
    window.histogram.whole_range()
    window.image.zoom(zoom)
    wait_until(lambda: window.image.levels == (0.0, 255.0))
    grey = painted(window)
    to_view = window.image._image.deviceTransform(window.image.view.viewportTransform())
    row = (np.arange(grey.shape[0]) + 0.5 - to_view.dy()) / to_view.m22()
    column = (np.arange(grey.shape[1]) + 0.5 - to_view.dx()) / to_view.m11()
    i, j = np.floor(row).astype(int), np.floor(column).astype(int)
    inside = ((i >= 0) & (i < 1100))[:, None] & ((j >= 0) & (j < 900))
    expected = frame[np.clip(i, 0, 1099)][:, np.clip(j, 0, 899)].astype(int)
    alike = np.abs(grey.astype(int) - expected) <= 1
    assert inside.mean() > 0.3
    assert np.mean(alike[inside]) > 0.97  # at the edges of pixels, rounding decides


def test_traces_do_not_enlarge_noise_and_their_labels_have_room(shown, wait_until):
    traces = shown(Still(np.zeros((64, 64), np.uint8))).traces
    traces._fit(0, np.array([100.0, 100.2, np.nan]), 0.1)
    low, high = traces._plots[0].getViewBox().viewRange()[1]
    assert high - low > 10
    traces._fit(1, np.zeros(3), 1.0)
    assert traces._plots[1].getViewBox().viewRange()[1][0] > -0.01
    for plot in traces._plots[:2]:
        assert len(plot.getAxis("left")._tickLevels[0]) == 2
        assert plot.getViewBox().height() > 20


def test_the_spectrum_and_the_field_are_large_enough_to_see(shown):
    window = shown(Still(np.zeros((64, 64), np.uint8)))
    window.resize(1440, 960)
    QTest.qWait(100)
    box = window.spectrum._plot.getViewBox()
    assert min(box.width(), box.height()) > 200
    assert "grey values" in window.field.widget.ci.getItem(0, 0).text
    assert window.field._bars[1].levels() == (-np.pi, np.pi)


def test_carrier_traces_and_field_are_shown(window, wait_until):
    wait_until(lambda: "cycles/pixel" in window.spectrum.told)
    wait_until(lambda: "–" not in window.traces.values)
    assert not window.field.drawn
    window.field_dock.raise_()
    wait_until(lambda: window.field.drawn)


def test_why_there_is_no_carrier_is_told_by_name(shown, wait_until):
    window = shown(Still(np.random.default_rng(1).integers(10, 60, (128, 128)).astype(np.uint8)))
    wait_until(lambda: "NoCarrierError" in window.spectrum.told)
    assert window.traces.values[2] == "–"


def test_an_unplugged_camera_is_told_and_opened_again_by_a_click(live, shown, wait_until):
    made = live(faults={"camera_lost_at": 300})
    window = shown(made)
    wait_until(lambda: "DeviceLostError" in window.message.text())
    assert window.message.isVisible()
    taken = made.status.frames
    wait_until(lambda: window.light.reopen.isVisible())
    QTest.mouseClick(window.light.reopen, LEFT)
    wait_until(lambda: made.status.frames > taken)
    wait_until(lambda: not window.message.isVisible())


def test_frames_that_nobody_can_prove_are_drawn_and_marked(live, shown, wait_until):
    made = live(camera={"exposure_us": 50_000.0})
    wait_until(lambda: made.newest)
    window = shown(made)
    wait_until(lambda: window.image.doubt.isVisible())
    wait_until(lambda: "SaturationError" in window.message.text())
    assert window.histogram.levels == (0.0, 255.0)  # full, and white
    made.fit_exposure()
    wait_until(lambda: made.status.frames and not window.image.doubt.isVisible(), longest_s=120)


def test_display_never_holds_up_the_bench(window, wait_until):
    taken, drawn = window.feed.status.frames, window._drawn
    time.sleep(0.5)  # nothing is drawn
    assert window._drawn == drawn
    assert window.feed.status.frames > taken + 64
    wait_until(lambda: window._drawn > drawn)
    assert window.feed.status.lost == 0


def test_a_snapshot_and_a_recording_go_where_one_says(running, shown, wait_until, tmp_path):
    places = {"Save the frame": tmp_path / "a.tif", "Record frames": tmp_path / "a.h5"}
    window = shown(running, ask_path=lambda title, _name: places[title])
    QTest.keyClick(window, Qt.Key.Key_S, Qt.KeyboardModifier.ControlModifier)
    assert places["Save the frame"].exists()
    wait_until(lambda: "The frame is in" in window.message.text())
    window.save_snapshot()
    wait_until(lambda: "exists already" in window.message.text())
    type_into(window.controls.n_frames, "40", wait_until)
    wait_until(window.controls.record.isEnabled)
    QTest.mouseClick(window.controls.record, LEFT)
    wait_until(places["Record frames"].exists)
    with Recording(places["Record frames"]) as recording:
        assert len(recording) == 40


def test_a_recording_is_stopped_by_the_same_button(running, shown, wait_until, tmp_path):
    window = shown(running, ask_path=lambda *_: tmp_path / "a.h5")
    type_into(window.controls.n_frames, "500000", wait_until)
    wait_until(window.controls.record.isEnabled)
    QTest.mouseClick(window.controls.record, LEFT)
    wait_until(lambda: window.controls.record.text() == "Stop recording")
    wait_until(lambda: running.status.recorded and running.status.recorded[0])
    QTest.mouseClick(window.controls.record, LEFT)
    wait_until(lambda: running.status.state is State.LIVE)
    assert "of 500000 frames are in" in running.status.message


def test_thinking_better_of_it_does_nothing(running, shown):
    window = shown(running, ask_path=lambda *_: None)
    window.save_snapshot()
    window.record()
    QTest.qWait(50)
    assert running.status.recorded is None


def test_the_layout_is_remembered(shown, tmp_path):
    def layout():
        path = str(tmp_path / "view.ini")
        return QtCore.QSettings(path, QtCore.QSettings.Format.IniFormat)

    frame = np.zeros((64, 64), np.uint8)
    first = shown(Still(frame), layout=layout())
    first.resize(770, 730)
    first.field_dock.setVisible(False)
    first.close()
    again = shown(Still(frame), layout=layout())
    assert (again.width(), again.height()) == (770, 730)
    assert not again.field_dock.isVisible()
    forgetful = shown(Still(frame))
    assert (forgetful.width(), forgetful.height()) != (770, 730)


def test_closing_the_window_closes_what_it_shows(window, shown):
    window.close()
    assert window.feed.status.state is State.CLOSED
    assert not window.feed._bench.laser.emitting
    still = Still(np.zeros((64, 64), np.uint8))
    shown(still).close()
    assert still.closed


@pytest.fixture
def recording(tmp_path):
    from opu_driver import simulated_bench
    from opu_driver.recording import record

    with simulated_bench("realistic", 1) as bench:
        bits = np.random.default_rng(0).integers(0, 2, (1, 16), np.uint8)
        record(bench, bench.layout(16).render(bits), 12, tmp_path / "a.h5")
    with Recording(tmp_path / "a.h5") as opened:
        yield opened


def test_a_recording_plays(recording, shown, wait_until):
    playback = Playback(recording)
    window = shown(playback)
    assert window.light is None
    wait_until(lambda: playback.position > 3)
    QTest.keyClick(window, Qt.Key.Key_Space)
    assert not playback.playing
    window.player.slider.setValue(9)
    QTest.qWait(50)
    assert playback.position == 9
    wait_until(lambda: "frame 10 of 12" in window.player._told.text())
    assert "pattern" in window.player._told.text()
    assert "µs at 10 mW" in window.player._told.text()
    QTest.mouseClick(window.player.play, LEFT)
    assert playback.playing
    wait_until(lambda: "cycles/pixel" in window.spectrum.told)
