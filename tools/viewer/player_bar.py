"""The player of a recording: play, stand still, go to a frame."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLabel, QPushButton, QSlider, QToolBar

from tools.viewer.playback import Playback


class PlayerBar:
    """Plays a recording.

    Attributes:
        widget: To be put into a window.
        play: Plays, or stands still.
        slider: Where in the recording.
        snapshot: Saves the frame that is shown.

    Args:
        playback: The recording.
    """

    def __init__(self, playback: Playback) -> None:
        self._playback = playback
        self.widget = QToolBar("Player")
        self.widget.setObjectName("player")
        self.widget.setMovable(False)
        self.widget.toggleViewAction().setEnabled(False)
        self.play = QPushButton()
        self.play.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, len(playback) - 1)
        self._told = QLabel()
        self._told.setMinimumWidth(400)
        self.snapshot = QPushButton("Snapshot …")
        for part in (self.play, self.slider, self._told, self.snapshot):
            self.widget.addWidget(part)
        self.play.clicked.connect(self.toggle)
        self.slider.valueChanged.connect(playback.seek)

    def toggle(self) -> None:
        """Play, or stand still."""
        if self._playback.playing:
            self._playback.stop()
        else:
            self._playback.play()

    def show(self) -> None:
        """Say where it is."""
        playback = self._playback
        self.play.setText("Stop  (Space)" if playback.playing else "Play  (Space)")
        self.slider.blockSignals(True)
        self.slider.setValue(playback.position)
        self.slider.blockSignals(False)
        self._told.setText(f"  frame {playback.position + 1} of {len(playback)}: {playback.told} ")
