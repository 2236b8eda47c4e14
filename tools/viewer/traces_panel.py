"""The figures of the last minutes, one curve each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PySide6.QtWidgets import QGridLayout, QLabel, QWidget

from tools.viewer.history import SPAN_S, TRACES, History
from tools.viewer.look import MUTED, ROW, TEXT, graph, quiet

_LEAST_SPAN = 1e-3
_AXIS_HEIGHT = 46  # of the time axis below the last trace, pixels


class TracesPanel:
    """Draws a history.

    Attributes:
        widget: To be put into a window.
        values: The latest value of each trace, as it is written.
    """

    def __init__(self) -> None:
        self.widget = QWidget()
        self.values = ["–"] * len(TRACES)
        self._told = [QLabel() for _ in TRACES]
        self._plots = [graph.PlotWidget() for _ in TRACES]
        self._curves = [plot.plot(pen=graph.mkPen(ROW, width=1.5)) for plot in self._plots]
        self._shown = [(0.0, 0.0)] * len(TRACES)
        grid = QGridLayout(self.widget)
        grid.setContentsMargins(2, 2, 2, 2)
        grid.setSpacing(1)
        for line, (told, plot) in enumerate(zip(self._told, self._plots, strict=True)):
            quiet(plot)
            plot.setMouseEnabled(x=False, y=False)
            plot.setMinimumHeight(34)
            plot.getAxis("left").setWidth(58)
            plot.getAxis("left").setTicks([[]])
            if line < len(TRACES) - 1:
                plot.getPlotItem().setContentsMargins(0, 4, 0, 4)  # half of a label
            if line < len(TRACES) - 1:
                plot.hideAxis("bottom")
            else:
                plot.setLabel("bottom", "seconds")
                plot.setMinimumHeight(24 + _AXIS_HEIGHT)
                grid.setRowStretch(line, 2)
            told.setMinimumWidth(92)
            grid.setRowStretch(line, max(grid.rowStretch(line), 1))
            grid.addWidget(told, line, 0)
            grid.addWidget(plot, line, 1)

    def show(self, history: History, now_s: float) -> None:
        """Draw the last minutes."""
        ages, figures = history.table(now_s)
        if not ages.size:
            return
        since_s = -min(max(-float(ages[0]), 10.0), SPAN_S)
        for i, (trace, values) in enumerate(zip(TRACES, figures, strict=True)):
            last = float(values[-1])
            self.values[i] = trace.form.format(last) if np.isfinite(last) else "–"
            self._told[i].setText(
                f"<span style='color:{MUTED}'>{trace.label}</span><br>"
                f"<b style='color:{TEXT}'>{self.values[i]}</b>"
            )
            self._curves[i].setData(ages, trace.scale * values, connect="finite")
            self._plots[i].setXRange(since_s, 0.0, padding=0)
            self._fit(i, trace.scale * values, trace.least)

    def _fit(self, line: int, values: NDArray[np.float64], least: float) -> None:
        """Show the values' range, but no less than what differences are worth seeing; two labels.

        Args:
            line: Which trace.
            values: As they are drawn.
            least: The least span, as a part of the highest value; of one unit where all are 0.
        """
        known = values[np.isfinite(values)]
        if not known.size:
            return
        low, high = float(known.min()), float(known.max())
        span = max(high - low, least * abs(high), _LEAST_SPAN)
        middle = (low + high) / 2
        low = max(middle - span / 2, 0.0)
        high = low + span
        if (low, high) == self._shown[line]:
            return
        self._shown[line] = low, high
        self._plots[line].setYRange(low, high, padding=0.25)
        ends = [(value, f"{value:.4g}") for value in (low, high)]
        self._plots[line].getAxis("left").setTicks([ends])
