"""The histogram of a frame, its full pixels in red, and the levels between black and white."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PySide6.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from tools.viewer.glimpse import Frame, GreyRange
from tools.viewer.look import MUTED, WRONG, graph, quiet

_BARS = 256
_SAMPLED = 1 << 18  # pixels are enough for a histogram; the full ones are counted in all
_DARKEST, _BRIGHTEST = 0.001, 0.999  # quantiles that the levels are fitted to


class HistogramPanel:
    """Counts grey values; the shaded region is what the image shows from black to white.

    Attributes:
        widget: To be put into a window.
        saturated: Fraction of full pixels of the frame that was shown last.
    """

    def __init__(self) -> None:
        self.saturated = 0.0
        self._plot = graph.PlotWidget()
        self._bars = self._plot.plot(
            stepMode="center", fillLevel=0, brush=graph.mkBrush(MUTED), pen=None
        )
        self._full = self._plot.plot(
            stepMode="center", fillLevel=0, brush=graph.mkBrush(WRONG), pen=graph.mkPen(WRONG)
        )
        self._region = graph.LinearRegionItem((0, 255), brush=(90, 140, 220, 40))
        self._told = QLabel()
        self._fit = QPushButton("Fit levels")
        self._whole = QPushButton("Whole range")
        self._frame: Frame | None = None
        self._grey: GreyRange | None = None
        self.widget = self._assembled()
        self._fit.clicked.connect(self.fit_levels)
        self._whole.clicked.connect(self.whole_range)

    @property
    def levels(self) -> tuple[float, float]:
        """The grey values that are shown black and white."""
        low, high = self._region.getRegion()
        return float(low), max(float(high), float(low) + 1e-6)

    def fit_levels(self) -> None:
        """From the darkest to the brightest pixels of the frame, but for one in a thousand.

        A frame of one grey value is drawn in the whole range, so that a full one is white.
        """
        if self._frame is not None:
            low, high = np.quantile(_sampled(self._frame), [_DARKEST, _BRIGHTEST])
            if high - low < 1:
                self.whole_range()
            else:
                self._region.setRegion((float(low), float(high)))

    def whole_range(self) -> None:
        """From 0 to full."""
        if self._grey is not None:
            self._region.setRegion((0.0, self._grey.full))

    def show(self, frame: Frame, grey: GreyRange) -> None:
        """Draw the histogram of a frame."""
        first = self._grey is None or self._grey.full != grey.full
        self._frame, self._grey = frame, grey
        edges = _edges(grey)
        counts = _counted(_sampled(frame), edges)
        height = np.log10(counts + 1.0)
        self._bars.setData(edges, height)
        self._full.setData(edges[-2:], height[-1:])
        self.saturated = float(np.count_nonzero(frame >= grey.full)) / frame.size
        colour = WRONG if self.saturated else MUTED
        self._told.setText(f"<span style='color:{colour}'>{self.saturated:.3%} saturated</span>")
        if first:
            self._region.setBounds((min(0.0, float(edges[0])), float(edges[-1])))
            self._plot.setXRange(float(edges[0]), float(edges[-1]), padding=0.01)
            self._plot.setYRange(0.0, float(np.log10(_SAMPLED)), padding=0.01)  # its axis stays
            self.whole_range()

    def _assembled(self) -> QWidget:
        quiet(self._plot)
        self._plot.setMouseEnabled(x=False, y=False)
        self._plot.setLabel("left", "log₁₀ pixels")
        self._plot.setLabel("bottom", "grey value")
        self._plot.addItem(self._region, ignoreBounds=True)
        self._plot.setMinimumHeight(90)
        whole = QWidget()
        column, row = QVBoxLayout(whole), QHBoxLayout()
        column.setContentsMargins(2, 2, 2, 2)
        column.setSpacing(2)
        column.addWidget(self._plot)
        row.addWidget(self._told, 1)
        row.addWidget(self._fit)
        row.addWidget(self._whole)
        column.addLayout(row)
        return whole


def _counted(values: Frame, edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many values lie between edges; of whole ones by one look at each."""
    if values.dtype.kind != "u" or values.dtype.itemsize > 2:
        return np.histogram(values, edges)[0]
    each = np.bincount(values.ravel(), minlength=int(edges[-1]) + 1)
    up_to = np.concatenate([[0], np.cumsum(each)])
    within = up_to[np.clip(np.ceil(edges), 0, len(each)).astype(np.int64)]
    return np.diff(within)


def _sampled(frame: Frame) -> Frame:
    """Every n-th pixel of every n-th row of a large frame."""
    step = max(int(np.sqrt(frame.size / _SAMPLED)), 1)
    return frame[::step, ::step]


def _edges(grey: GreyRange) -> NDArray[np.float64]:
    """Edges of bars over the grey values; the last bar holds the full pixels alone."""
    width = max(round(grey.full / (_BARS - 1)), 1)
    below = np.arange(0.0, grey.full, width)
    return np.append(below - 0.5, [grey.full - 0.5, grey.full + width - 0.5])
