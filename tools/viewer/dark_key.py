"""The key that turns the light off, whatever has the keyboard."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QEvent, QObject, Qt
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QApplication


class DarkKey(QObject):
    """Sees every key of the application first: Escape and Space.

    While a dialog is open, Space belongs to its text, and Escape closes it as well.

    Args:
        press: Called for each press.
        parent: The window that it belongs to.
    """

    def __init__(self, press: Callable[[], None], parent: QObject) -> None:
        super().__init__(parent)
        self._press = press

    def eventFilter(self, _watched: QObject, event: QEvent) -> bool:  # noqa: N802 (Qt's name)
        """Act on the keys, and let nobody else have them."""
        if event.type() is not QEvent.Type.KeyPress or not isinstance(event, QKeyEvent):
            return False
        dialog = QApplication.activeModalWidget() is not None
        escape = event.key() == Qt.Key.Key_Escape
        if not escape and (dialog or event.key() != Qt.Key.Key_Space):
            return False
        if not event.isAutoRepeat():
            self._press()
        return not dialog
