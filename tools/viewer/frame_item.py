"""A frame in a scene: as many of its pixels as the screen has, looked up and painted."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QPointF, QRectF
from PySide6.QtGui import QImage, QPainter

from tools.viewer.glimpse import Frame
from tools.viewer.look import graph

_GREYS = np.arange(256, dtype=np.uint32) * np.uint32(0x010101) | np.uint32(0xFF000000)


class FrameItem(graph.GraphicsObject):  # type: ignore[misc]  # pyqtgraph has no types
    """Paints a frame between two levels, pixel by pixel.

    pyqtgraph's own item scales all of a frame at each paint; this one takes the pixels that are
    seen, so that what it costs is the screen's to say, not the camera's.

    Attributes:
        levels: Grey values that are drawn black and white.
    """

    def __init__(self) -> None:
        super().__init__()
        self.levels = (0.0, 255.0)
        self._frame: Frame | None = None
        self._lookup: NDArray[np.uint32] | None = None
        self._looked_up: tuple[Any, ...] = ()

    def show(self, frame: Frame, levels: tuple[float, float]) -> None:
        """Paint a frame `[row, column]` soon; it is not copied."""
        if self._frame is None or self._frame.shape != frame.shape:
            self.prepareGeometryChange()
        self._frame, self.levels = frame, levels
        self.update()

    def boundingRect(self) -> QRectF:  # noqa: N802 (Qt's name)
        """All of the frame, pixels."""
        rows, columns = (0, 0) if self._frame is None else self._frame.shape
        return QRectF(0, 0, columns, rows)

    def paint(self, painter: QPainter, *_: Any) -> None:
        """Paint what is seen of it."""
        if self._frame is None:
            return
        to_view = painter.worldTransform()  # where the view lies on the screen is not in it
        seen = to_view.mapRect(self.boundingRect())
        view = self.getViewWidget().viewport()
        ratio = painter.device().devicePixelRatio()
        rows = _pixels(
            ratio * seen.top(), ratio * to_view.m22(), self._frame.shape[0], ratio * view.height()
        )
        columns = _pixels(
            ratio * seen.left(), ratio * to_view.m11(), self._frame.shape[1], ratio * view.width()
        )
        if rows is None or columns is None:
            return
        top, of_row = rows
        left, of_column = columns
        seen_of_it = self._frame.take(of_row, axis=0, mode="clip")
        colours = self._looked(seen_of_it.take(of_column, axis=1, mode="clip"))
        height, width = colours.shape
        image = QImage(colours.data, width, height, 4 * width, QImage.Format.Format_RGB32)
        image.setDevicePixelRatio(ratio)
        painter.save()
        painter.resetTransform()
        painter.drawImage(QPointF(left / ratio, top / ratio), image)
        painter.restore()

    def _looked(self, values: Frame) -> NDArray[np.uint32]:
        """The colours that grey values are drawn in."""
        low, high = self.levels
        if values.dtype not in (np.dtype(np.uint8), np.dtype(np.uint16)):
            return _between(values, low, high)
        wanted = (values.dtype, low, high)
        if self._lookup is None or self._looked_up != wanted:
            every = np.arange(1 << 8 * values.dtype.itemsize)
            self._lookup, self._looked_up = _between(every, low, high), wanted
        return self._lookup.take(values, mode="clip")


def _between(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint32]:
    scaled = (values.astype(np.float32) - low) * np.float32(255 / (high - low))
    colours: NDArray[np.uint32] = _GREYS.take(
        np.clip(np.nan_to_num(scaled), 0, 255).astype(np.uint8)
    )
    return colours


def _pixels(
    start: float, scale: float, count: int, room: float
) -> tuple[int, NDArray[np.int64]] | None:
    """The first screen pixel of one axis that a frame covers, and the frame's pixel at each."""
    first, last = max(round(start), 0), min(round(start + scale * count), round(room))
    if last <= first or scale <= 0:
        return None
    at = np.floor((np.arange(first, last) + 0.5 - start) / scale).astype(np.int64)
    return first, np.clip(at, 0, count - 1)
