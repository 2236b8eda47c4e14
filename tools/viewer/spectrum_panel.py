"""The spectrum, with the carrier and its sideband where they were found."""

from __future__ import annotations

import numpy as np
from PySide6.QtCore import QRectF, Qt
from PySide6.QtWidgets import QLabel, QVBoxLayout, QWidget

from tools.viewer.analysis import Reading
from tools.viewer.look import SIDEBAND, SPECKLE, WRONG, graph, quiet

_TURN = np.linspace(0, 2 * np.pi, 121)


class SpectrumPanel:
    """Shows a reading's spectrum in cycles/pixel, and says what was found in it.

    Attributes:
        widget: To be put into a window.
    """

    def __init__(self) -> None:
        self._plot = graph.PlotWidget()
        self._image = graph.ImageItem()
        self._image.setColorMap(graph.colormap.get("inferno"))
        dashed = Qt.PenStyle.DashLine
        self._sideband = graph.PlotCurveItem(pen=graph.mkPen(SIDEBAND, width=2))
        self._twin = graph.PlotCurveItem(pen=graph.mkPen(SIDEBAND, width=1, style=dashed))
        self._speckle = graph.PlotCurveItem(pen=graph.mkPen(SPECKLE, width=1, style=dashed))
        self._centre = graph.ScatterPlotItem(symbol="+", size=12, pen=graph.mkPen(SIDEBAND))
        self._told = QLabel()
        self.widget = self._assembled()

    @property
    def told(self) -> str:
        """What is said about the carrier."""
        return self._told.text()

    def show(self, reading: Reading) -> None:
        """Draw the spectrum of a reading, and its carrier or why there is none."""
        level = reading.spectrum_db
        low, high = np.quantile(level, [0.05, 0.9995])
        self._image.setImage(level, autoLevels=False, levels=(float(low), float(high)))
        rows, columns = level.shape
        self._image.setRect(QRectF(-0.5 - 0.5 / columns, -0.5 - 0.5 / rows, 1.0, 1.0))
        carrier = reading.carrier
        marks = (self._sideband, self._twin, self._speckle, self._centre)
        for mark in marks:
            mark.setVisible(carrier is not None)
        if carrier is None:
            self._told.setText(f"<span style='color:{WRONG}'>{reading.obstacle}</span>")
            return
        across, down = np.cos(_TURN), np.sin(_TURN)
        r, row, column = carrier.radius, carrier.row, carrier.column
        self._sideband.setData(column + r * across, row + r * down)
        self._twin.setData(-column + r * across, -row + r * down)
        self._speckle.setData(2 * r * across, 2 * r * down)
        self._centre.setData([column], [row])
        text = (
            f"carrier <b style='color:{SIDEBAND}'>({row:+.4f}, {column:+.4f})</b> cycles/pixel, "
            f"r = <b>{r:.4f}</b>, grain <b>{carrier.grain:.2f}</b> pixels"
        )
        if reading.obstacle:
            text += f"<br><span style='color:{WRONG}'>{reading.obstacle}</span>"
        self._told.setText(text)

    def _assembled(self) -> QWidget:
        quiet(self._plot)
        box = self._plot.getViewBox()
        box.setAspectLocked(True)
        box.invertY(True)
        box.setRange(xRange=(-0.5, 0.5), yRange=(-0.5, 0.5), padding=0.01)
        self._plot.setLabel("bottom", "column frequency (cycles/pixel)")
        self._plot.setLabel("left", "row frequency")
        marks = (self._image, self._speckle, self._twin, self._sideband, self._centre)
        for item in marks:
            self._plot.addItem(item)
        self._plot.setMinimumHeight(160)
        self._told.setWordWrap(True)
        self._told.setMinimumHeight(36)
        self._told.setContentsMargins(6, 0, 6, 2)
        whole = QWidget()
        column = QVBoxLayout(whole)
        column.setContentsMargins(2, 2, 2, 2)
        column.setSpacing(2)
        column.addWidget(self._plot, 1)
        column.addWidget(self._told)
        return whole
