"""The window: it draws the newest glimpse at its own rate, and holds nobody up."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from PySide6.QtCore import QSettings, Qt, QTimer
from PySide6.QtGui import QCloseEvent, QKeySequence, QShortcut
from PySide6.QtWidgets import (
    QApplication,
    QDockWidget,
    QFileDialog,
    QLabel,
    QMainWindow,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from opu_driver.errors import OpuError
from tools.viewer.analysis import Analyst
from tools.viewer.controls import Controls
from tools.viewer.dark_key import DarkKey
from tools.viewer.field_panel import FieldPanel
from tools.viewer.glimpse import Feed
from tools.viewer.histogram_panel import HistogramPanel
from tools.viewer.history import History
from tools.viewer.image_panel import ImagePanel
from tools.viewer.light_bar import LightBar
from tools.viewer.live import Live, State
from tools.viewer.look import TEXT, WRONG, dress
from tools.viewer.playback import Playback
from tools.viewer.player_bar import PlayerBar
from tools.viewer.snapshot import save_snapshot
from tools.viewer.spectrum_panel import SpectrumPanel
from tools.viewer.traces_panel import TracesPanel

DRAW_EVERY_MS = 8
_TELL_EVERY_MS = 100
_HURRIED_MS = 1000 / 60  # between looks for a new image; where it takes longer, panels wait
_PANELS_WAIT_S = 0.5
_REMARK_S = 8.0
_RATE_OVER_S = 2.0
_LAYOUT = 1  # of docks; another number where other docks are

AskPath = Callable[[str, str], Path | None]
"""Asks for a file: (title, suggested name), None if the person thinks better of it."""


class Window(QMainWindow):
    """The live window, or the player of a recording.

    Args:
        feed: What to show; the window closes it when it is closed.
        title: What it is called.
        layout: Where the layout is remembered; None to forget it.
        ask_path: Asks where a file goes; None for the usual dialog.
    """

    def __init__(
        self,
        feed: Feed,
        title: str,
        layout: QSettings | None = None,
        ask_path: AskPath | None = None,
    ) -> None:
        super().__init__()
        self.setWindowTitle(f"opu view: {title}")
        self.feed = feed
        self._layout = layout
        self._ask_path = ask_path or self._file_dialog
        self._drawn = -1
        self._setting = 0
        self._tick_ms, self._ticked_s = float(DRAW_EVERY_MS), time.monotonic()
        self._panels_due_s = 0.0
        self._drawn_at: deque[float] = deque()
        self._seen = -1
        self._field_of = -1
        self._remark = ""
        self._remark_until_s = 0.0
        self.history = History()
        self.analyst = Analyst(feed)
        self.image = ImagePanel()
        self.histogram = HistogramPanel()
        self.spectrum = SpectrumPanel()
        self.traces = TracesPanel()
        self.field = FieldPanel()
        self.message = QLabel()
        self.rates = QLabel()
        self.light: LightBar | None = None
        self.controls: Controls | None = None
        self.player: PlayerBar | None = None
        self._dark_key: DarkKey | None = None
        self.field_dock = self._assemble()
        if isinstance(feed, Live):
            self._attach_bench(feed)
        elif isinstance(feed, Playback):
            self._attach_player(feed)
        self._attach_keys()
        self._arrange()
        self._restore_layout()
        self._begin()

    @property
    def drawn_hz(self) -> float:
        """Images drawn a second, over the last two."""
        since_s = time.monotonic() - _RATE_OVER_S
        while self._drawn_at and self._drawn_at[0] < since_s:
            self._drawn_at.popleft()
        return len(self._drawn_at) / _RATE_OVER_S

    def darken(self) -> None:
        """Turn the laser off, at once."""
        if isinstance(self.feed, Live):
            self.feed.darken()
            self._show_status()

    def remark(self, text: str) -> None:
        """Say something for some seconds."""
        self._remark, self._remark_until_s = text, time.monotonic() + _REMARK_S

    def save_snapshot(self) -> None:
        """Ask where the newest frame goes, and save it."""
        glimpse = self.feed.newest
        if glimpse is None:
            self.remark("There is no frame yet.")
            return
        path = self._ask_path("Save the frame", f"frame-{_now()}.npy")
        if path is not None:
            try:
                save_snapshot(glimpse.frame, path)
            except OpuError as error:
                self.remark(f"{type(error).__name__}: {error}")
            else:
                self.remark(f"The frame is in {path}.")

    def record(self) -> None:
        """Ask where a recording goes, and begin it; or end the one that goes on."""
        if not isinstance(self.feed, Live) or self.controls is None:
            return
        if self.feed.status.state is State.RECORDING:
            self.feed.stop_recording()
            return
        path = self._ask_path("Record frames", f"recording-{_now()}.h5")
        if path is not None:
            self.feed.record(path, self.controls.n_frames.value())

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802 (Qt's name)
        """Dark first; then remember the layout and let go of everything."""
        self._draw_timer.stop()
        self._tell_timer.stop()
        try:
            self.feed.close()
        finally:
            self._dark_key_off()
            if self._layout is not None:
                self._layout.setValue("geometry", self.saveGeometry())
                self._layout.setValue("docks", self.saveState(_LAYOUT))
                self._layout.sync()
            self.analyst.close()
            super().closeEvent(event)

    def _assemble(self) -> QDockWidget:
        centre = QWidget()
        column = QVBoxLayout(centre)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        self.message.setWordWrap(True)
        self.message.setContentsMargins(10, 6, 10, 6)
        self.message.setVisible(False)
        self.message.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        column.addWidget(self.message)
        column.addWidget(self.image.widget, 1)
        self.setCentralWidget(centre)
        right = Qt.DockWidgetArea.RightDockWidgetArea
        self._dock("Histogram", self.histogram.widget, right)
        spectrum = self._dock("Spectrum", self.spectrum.widget, right)
        field = self._dock("Field", self.field.widget, right)
        self._dock("Last minutes", self.traces.widget, right)
        self.tabifyDockWidget(spectrum, field)
        spectrum.raise_()
        self.statusBar().addPermanentWidget(self.rates)
        self.resize(1320, 900)
        return field

    def _dock(self, name: str, widget: QWidget, area: Qt.DockWidgetArea) -> QDockWidget:
        dock = QDockWidget(name)
        dock.setObjectName(name)
        dock.setWidget(widget)
        self.addDockWidget(area, dock)
        return dock

    def _attach_bench(self, live: Live) -> None:
        self.light = LightBar()
        self.light.dark.pressed.connect(self.darken)
        self.light.pause.clicked.connect(live.pause)
        self.light.reopen.clicked.connect(live.reopen)
        self.addToolBar(self.light.widget)
        self.controls = Controls(live)
        self.controls.snapshot.clicked.connect(self.save_snapshot)
        self.controls.record.clicked.connect(self.record)
        scroll = QScrollArea()
        scroll.setWidget(self.controls.widget)
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setMinimumWidth(self.controls.widget.minimumSizeHint().width() + 18)
        self._dock("Bench", scroll, Qt.DockWidgetArea.LeftDockWidgetArea)
        self._on_dark_key(self.darken)

    def _attach_player(self, playback: Playback) -> None:
        self.player = PlayerBar(playback)
        self.player.snapshot.clicked.connect(self.save_snapshot)
        self.addToolBar(self.player.widget)
        self._on_dark_key(self.player.toggle)

    def _on_dark_key(self, press: Callable[[], None]) -> None:
        self._dark_key = DarkKey(press, self)
        self._application().installEventFilter(self._dark_key)

    def _dark_key_off(self) -> None:
        if self._dark_key is not None:
            self._application().removeEventFilter(self._dark_key)

    @staticmethod
    def _application() -> QApplication:
        application = QApplication.instance()
        if not isinstance(application, QApplication):
            raise TypeError("a window needs a QApplication")
        return application

    def _attach_keys(self) -> None:
        image = self.image
        keys: dict[str, Callable[[], None]] = {
            "F": image.fit,
            "+": lambda: image.zoom(1.5),
            "-": lambda: image.zoom(1 / 1.5),
            "L": self.histogram.fit_levels,
            "Ctrl+S": self.save_snapshot,
            "Ctrl+R": self.record,
            "Left": lambda: self._move(0, -1),
            "Right": lambda: self._move(0, 1),
            "Up": lambda: self._move(-1, 0),
            "Down": lambda: self._move(1, 0),
        }
        for key, do in keys.items():
            QShortcut(QKeySequence(key), self).activated.connect(do)

    def _move(self, rows: int, columns: int) -> None:
        row, column = self.image.cross_hair
        self.image.put_cross_hair(row + rows, column + columns)

    def _arrange(self) -> None:
        """Give the image the room."""
        sides = {
            Qt.DockWidgetArea.LeftDockWidgetArea: 230,
            Qt.DockWidgetArea.RightDockWidgetArea: 440,
        }
        docks = [d for d in self.findChildren(QDockWidget) if self.dockWidgetArea(d) in sides]
        widths = [sides[self.dockWidgetArea(dock)] for dock in docks]
        self.resizeDocks(docks, widths, Qt.Orientation.Horizontal)
        heights = {"Histogram": 150, "Spectrum": 380, "Last minutes": 370}
        right = [dock for dock in docks if dock.objectName() in heights]
        self.resizeDocks(right, [heights[d.objectName()] for d in right], Qt.Orientation.Vertical)

    def _restore_layout(self) -> None:
        if self._layout is None:
            return
        for name, restore in (
            ("geometry", self.restoreGeometry),
            ("docks", lambda value: self.restoreState(value, _LAYOUT)),
        ):
            value = self._layout.value(name)
            if value is not None:
                restore(value)

    def _begin(self) -> None:
        self._draw_timer, self._tell_timer = QTimer(self), QTimer(self)
        self._draw_timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._draw_timer.timeout.connect(self._draw)
        self._tell_timer.timeout.connect(self._refresh)
        self._draw_timer.start(DRAW_EVERY_MS)
        self._tell_timer.start(_TELL_EVERY_MS)

    def _draw(self) -> None:
        """Draw the newest frame, if it is a new one."""
        now_s = time.monotonic()
        self._tick_ms += 0.1 * (1e3 * (now_s - self._ticked_s) - self._tick_ms)
        self._ticked_s = now_s
        if isinstance(self.feed, Playback):
            self.feed.advance()
        glimpse = self.feed.newest
        if glimpse is None or glimpse.number == self._drawn:
            return
        if self._drawn < 0 or glimpse.setting != self._setting:
            self.histogram.show(glimpse.frame, glimpse.grey)
            self.histogram.fit_levels()
            self._setting = glimpse.setting
        self._drawn = glimpse.number
        self.image.show(glimpse.frame, self.histogram.levels, proven=glimpse.proven)
        self._drawn_at.append(time.monotonic())

    def _refresh(self) -> None:
        """Everything but the image."""
        self._show_status()
        glimpse = self.feed.newest
        now_s = time.monotonic()
        if glimpse is not None:
            if now_s >= self._panels_due_s:
                self.histogram.show(glimpse.frame, glimpse.grey)
                self.image.draw_profile()
                wait_s = _PANELS_WAIT_S if self._tick_ms > _HURRIED_MS else 0.0
                self._panels_due_s = now_s + wait_s
            if self.image.levels != self.histogram.levels:
                self.image.show(glimpse.frame, self.histogram.levels, proven=glimpse.proven)
        reading = self.analyst.latest
        if reading is not None and reading.number != self._seen:
            self._seen = reading.number
            self.history.add(reading)
            self.spectrum.show(reading)
            self.traces.show(self.history, now_s)
        if reading is not None and self.field.looked_at and reading.number != self._field_of:
            self._field_of = reading.number
            self.field.show(reading.field)

    def _show_status(self) -> None:
        drawn = f"drawn <b>{self.drawn_hz:.0f}</b> /s"
        if isinstance(self.feed, Live) and self.light and self.controls:
            status = self.feed.status
            self.light.show(status)
            self.controls.show(status)
            lost = f"<b>{status.lost}</b>"
            if status.lost:
                lost = f"<b style='color:{WRONG}'>{status.lost}</b>"
            self.rates.setText(
                f"camera <b>{status.rate_hz:.0f}</b> frames/s &nbsp; {drawn} &nbsp; taken "
                f"<b>{status.frames}</b> &nbsp; lost {lost} "
            )
            self._tell(status.message, status.trouble)
            return
        if self.player:
            self.player.show()
        self.rates.setText(drawn)
        self._tell("")

    def _tell(self, text: str, trouble: bool = True) -> None:
        """Say what is wrong, or else the latest remark."""
        if time.monotonic() < self._remark_until_s and not (text and trouble):
            text, trouble = self._remark, False
        if text != self.message.text():
            self.message.setText(text)
        ground = "#5a1f1b" if trouble else "#1f3347"
        dress(self.message, f"background: {ground}; color: {TEXT}; font-size: 13px")
        self.message.setVisible(bool(text))

    def _file_dialog(self, title: str, name: str) -> Path | None:
        chosen, _ = QFileDialog.getSaveFileName(self, title, name)
        return Path(chosen) if chosen else None


def _now() -> str:
    return datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
