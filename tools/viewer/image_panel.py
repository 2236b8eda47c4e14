"""The image, its cross-hair, and the grey values along it."""

from __future__ import annotations

from typing import Any

import numpy as np
from PySide6.QtCore import QPointF, Qt
from PySide6.QtWidgets import QLabel, QSplitter, QVBoxLayout, QWidget

from tools.viewer.frame_item import FrameItem
from tools.viewer.glimpse import Frame
from tools.viewer.look import COLUMN, ROW, WRONG, graph, quiet


class ImagePanel:
    """Shows frames: the wheel zooms, dragging moves, a click puts the cross-hair there.

    Attributes:
        widget: To be put into a window.
        view: Where the image is drawn.
        cross_hair: Row and column, pixels.
        doubt: Seen while the frame that is drawn may be another pattern's.
    """

    def __init__(self) -> None:
        self.view = graph.GraphicsView()
        self.cross_hair = (0, 0)
        self._box = graph.ViewBox(lockAspect=True, invertY=True, enableMenu=False)
        self._image = FrameItem()
        self._lines = {
            "row": graph.InfiniteLine(angle=0, pen=graph.mkPen(ROW, width=1)),
            "column": graph.InfiniteLine(angle=90, pen=graph.mkPen(COLUMN, width=1)),
        }
        self._profile = graph.PlotWidget()
        self._row = self._profile.plot(pen=graph.mkPen(ROW), name="row")
        self._column = self._profile.plot(pen=graph.mkPen(COLUMN), name="column")
        self._value = QLabel("no frame yet")
        self.doubt = QLabel("Not proven to be this pattern's frame: to align by, not to measure")
        self.doubt.setStyleSheet(f"background: {WRONG}; color: black; padding: 3px 6px")
        self.doubt.hide()
        self._frame: Frame | None = None
        self._profile_levels = (0.0, 0.0)
        self.widget = self._assembled()
        self.view.scene().sigMouseClicked.connect(self._clicked)

    @property
    def levels(self) -> tuple[float, float]:
        """The grey values that are drawn black and white."""
        return self._image.levels[0], self._image.levels[1]

    def show(self, frame: Frame, levels: tuple[float, float], *, proven: bool = True) -> None:
        """Draw a frame, black at the one grey value and white at the other.

        Args:
            frame: Grey values `[row, column]`.
            levels: Those that are drawn black and white.
            proven: Whether it is known to be the pattern's that is shown; otherwise it says so.
        """
        self.doubt.setVisible(not proven)
        new_shape = self._frame is None or self._frame.shape != frame.shape
        self._frame = frame
        self._image.show(frame, levels)
        low, high = levels
        if levels != self._profile_levels:  # an axis that moves with every frame is slow to draw
            self._profile_levels = levels
            self._profile.setYRange(low, high, padding=0.1)
        if new_shape:
            self._profile.setXRange(0, max(frame.shape), padding=0.01)
            self.put_cross_hair(frame.shape[0] // 2, frame.shape[1] // 2)
            self.fit()

    def fit(self) -> None:
        """Show all of the image."""
        self._box.autoRange(padding=0.01)

    def zoom(self, factor: float) -> None:
        """Enlarge the image around the cross-hair."""
        row, column = self.cross_hair
        self._box.scaleBy((1 / factor, 1 / factor), center=graph.Point(column + 0.5, row + 0.5))

    def put_cross_hair(self, row: int, column: int) -> None:
        """Move the cross-hair to a pixel of the frame, or to the nearest one."""
        if self._frame is None:
            return
        rows, columns = self._frame.shape
        self.cross_hair = min(max(row, 0), rows - 1), min(max(column, 0), columns - 1)
        self._lines["row"].setPos(self.cross_hair[0] + 0.5)
        self._lines["column"].setPos(self.cross_hair[1] + 0.5)
        self.draw_profile()

    def draw_profile(self) -> None:
        """Draw the grey values along the cross-hair."""
        if self._frame is None:
            return
        row, column = self.cross_hair
        along_row, along_column = self._frame[row], self._frame[:, column]
        self._row.setData(np.arange(along_row.size), along_row)
        self._column.setData(np.arange(along_column.size), along_column)
        self._value.setText(
            f"row <b style='color:{ROW}'>{row}</b>, column "
            f"<b style='color:{COLUMN}'>{column}</b>: grey value "
            f"<b>{self._frame[row, column]:.6g}</b>"
        )

    def _assembled(self) -> QWidget:
        self.view.setCentralItem(self._box)
        self._box.addItem(self._image)
        for line in self._lines.values():
            self._box.addItem(line, ignoreBounds=True)
        quiet(self._profile)
        self._profile.setLabel("bottom", "pixel")
        self._profile.setLabel("left", "grey value")
        self._profile.setMinimumHeight(90)
        self._value.setContentsMargins(6, 2, 6, 2)
        below = QWidget()
        column = QVBoxLayout(below)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.doubt)
        column.addWidget(self._value)
        column.addWidget(self._profile)
        split = QSplitter(Qt.Orientation.Vertical)
        split.addWidget(self.view)
        split.addWidget(below)
        split.setStretchFactor(0, 5)
        split.setStretchFactor(1, 1)
        split.setSizes([600, 150])
        return split

    def _clicked(self, event: Any) -> None:
        if event.button() == Qt.MouseButton.LeftButton:
            at: QPointF = self._box.mapSceneToView(event.scenePos())
            self.put_cross_hair(int(np.floor(at.y())), int(np.floor(at.x())))
