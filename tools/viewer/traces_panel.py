"""The figures of the last minutes, one curve each."""

from __future__ import annotations

import numpy as np
from PySide6.QtWidgets import QGridLayout, QLabel, QWidget

from tools.viewer.history import SPAN_S, TRACES, History
from tools.viewer.look import MUTED, ROW, TEXT, graph, quiet


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
        grid = QGridLayout(self.widget)
        grid.setContentsMargins(2, 2, 2, 2)
        grid.setSpacing(1)
        for line, (told, plot) in enumerate(zip(self._told, self._plots, strict=True)):
            quiet(plot)
            plot.setMouseEnabled(x=False, y=False)
            plot.getViewBox().setLimits(yMin=0.0)
            plot.setMinimumHeight(34)
            plot.getAxis("left").setWidth(58)
            plot.getAxis("left").setStyle(maxTickLevel=0)
            if line < len(TRACES) - 1:
                plot.hideAxis("bottom")
            else:
                plot.setLabel("bottom", "seconds")
            told.setMinimumWidth(92)
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
            self._curves[i].setData(ages, values, connect="finite")
            self._plots[i].setXRange(since_s, 0.0, padding=0)
