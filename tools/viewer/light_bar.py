"""The state of the light, always in sight, and what turns it off and on."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QLabel, QPushButton, QSizePolicy, QToolBar, QWidget

from tools.viewer.live import State, Status
from tools.viewer.look import DARK, LIT, TEXT, dress


class LightBar:
    """A bar that cannot be moved or hidden.

    Attributes:
        widget: To be put into a window.
        dark: The button that turns the light off at once.
        pause: Stops exposures, and lets them go on.
        reopen: Opens the bench again.
    """

    def __init__(self) -> None:
        self.widget = QToolBar("Light")
        self.widget.setObjectName("light")
        self.widget.setMovable(False)
        self.widget.toggleViewAction().setEnabled(False)
        self._light = QLabel()
        self._light.setMinimumWidth(190)
        self._light.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._state = QLabel()
        self.dark = QPushButton("Dark now  (Esc, Space)")
        self.pause = QPushButton("Pause")
        self.pause.setCheckable(True)
        self.reopen = QPushButton("Open the bench again")
        self.dark.setStyleSheet(
            "QPushButton { background: #b3261e; color: white; font-weight: bold; padding: 5px 14px;"
            " border-radius: 4px } QPushButton:pressed { background: #7d1a15 }"
        )
        room = QWidget()
        room.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        for part in (self._light, self._state, room):
            self.widget.addWidget(part)
        self._reopening, *_ = [self._add(b) for b in (self.reopen, self.pause, self.dark)]
        self._reopening.setVisible(False)

    @property
    def told(self) -> str:
        """What is said about the light."""
        return self._light.text()

    def show(self, status: Status) -> None:
        """Say whether there is light, and what the bench does."""
        match status.emitting:
            case True:
                text, ground = f"● LASER ON  {status.power_mw:.4g} mW", LIT
            case False:
                text, ground = "○ dark", DARK
            case None:
                text, ground = "● LASER UNKNOWN", LIT
        self._light.setText(text)
        dress(
            self._light,
            f"background: {ground}; color: {'white' if status.emitting is not False else TEXT};"
            "font-weight: bold; font-size: 15px; padding: 5px 12px; border-radius: 4px",
        )
        self._state.setText(f"   {_DOING[status.state]}")
        stopped = status.state in (State.DARK, State.FAILED)
        self._reopening.setVisible(stopped)
        self.pause.setEnabled(status.state in (State.LIVE, State.PAUSED))
        self.pause.setChecked(status.state is State.PAUSED)

    def _add(self, button: QPushButton) -> QAction:
        button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        return self.widget.addWidget(button)


_DOING = {
    State.OPENING: "opening the bench …",
    State.LIVE: "live",
    State.PAUSED: "paused",
    State.RECORDING: "recording",
    State.DARK: "darkened: the bench is closed, and the laser disarmed",
    State.FAILED: "stopped by a failure: the bench is closed",
    State.CLOSED: "closed",
}
