"""Colours of the window: dark, for a dark laboratory."""

from __future__ import annotations

from typing import Any

from PySide6.QtGui import QColor, QPalette
from PySide6.QtWidgets import QApplication, QStyleFactory, QWidget

from opu_driver.extras import vendor_library

GROUND, RAISED, TEXT, MUTED = "#15181c", "#22262c", "#e4e7eb", "#8a929c"
ROW, COLUMN = "#4cc9f0", "#f9a03f"
SIDEBAND, SPECKLE = "#39d0ff", "#ffffff"
LIT, DARK, WRONG = "#ff4d3d", "#3a4048", "#ff6b5e"

graph = vendor_library("pyqtgraph", "gui")
"""The module pyqtgraph, which has no types."""

graph.setConfigOptions(
    imageAxisOrder="row-major", background=GROUND, foreground=MUTED, antialias=False
)


def quiet(plot: Any) -> None:
    """No menus, no buttons, and numbers as they are: nothing in thousandths."""
    plot.setMenuEnabled(False)
    plot.hideButtons()
    for side in ("left", "bottom"):
        plot.getAxis(side).enableAutoSIPrefix(False)


def dress(widget: QWidget, style: str) -> None:
    """Give a widget a style sheet; the same one again costs nothing, where Qt would paint anew."""
    if widget.styleSheet() != style:
        widget.setStyleSheet(style)


def darken_room(app: QApplication) -> None:
    """Give an application the colours of a dark room, whatever the desktop's are."""
    app.setStyle(QStyleFactory.create("Fusion"))
    roles = {
        QPalette.ColorRole.Window: RAISED,
        QPalette.ColorRole.Base: GROUND,
        QPalette.ColorRole.AlternateBase: RAISED,
        QPalette.ColorRole.Button: "#2d323a",
        QPalette.ColorRole.ToolTipBase: RAISED,
        QPalette.ColorRole.WindowText: TEXT,
        QPalette.ColorRole.Text: TEXT,
        QPalette.ColorRole.ButtonText: TEXT,
        QPalette.ColorRole.ToolTipText: TEXT,
        QPalette.ColorRole.PlaceholderText: MUTED,
        QPalette.ColorRole.Highlight: "#33659c",
        QPalette.ColorRole.HighlightedText: "#ffffff",
    }
    palette = QPalette()
    for role, colour in roles.items():
        palette.setColor(role, QColor(colour))
    for role in (QPalette.ColorRole.Text, QPalette.ColorRole.ButtonText):
        palette.setColor(QPalette.ColorGroup.Disabled, role, QColor("#5c646e"))
    palette.setColor(QPalette.ColorGroup.Disabled, QPalette.ColorRole.WindowText, QColor("#5c646e"))
    app.setPalette(palette)
