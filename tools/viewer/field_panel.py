"""The demodulated field: amplitude and phase."""

from __future__ import annotations

import numpy as np
from PySide6.QtWidgets import QGridLayout, QLabel, QSizePolicy, QWidget

from tools.viewer.analysis import Fields
from tools.viewer.look import TEXT, graph


class FieldPanel:
    """Shows a field; it is only drawn while somebody looks at it.

    Attributes:
        widget: To be put into a window.
    """

    def __init__(self) -> None:
        self.widget = QWidget()
        self._amplitude, self._phase = graph.ImageItem(), graph.ImageItem()
        self._amplitude.setColorMap(graph.colormap.get("viridis"))
        self._phase.setColorMap(_wheel())
        grid = QGridLayout(self.widget)
        grid.setContentsMargins(2, 2, 2, 2)
        for i, (name, image) in enumerate(
            (("Amplitude |R*S|", self._amplitude), ("Phase, −π to π", self._phase))
        ):
            title = QLabel(f"<span style='color:{TEXT}'>{name}</span>")
            title.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
            view = graph.GraphicsView()
            box = graph.ViewBox(lockAspect=True, invertY=True, enableMenu=False)
            view.setCentralItem(box)
            box.addItem(image)
            grid.addWidget(title, 0, i)
            grid.addWidget(view, 1, i)

    @property
    def drawn(self) -> bool:
        """Whether a field has been drawn."""
        return self._amplitude.image is not None

    def show(self, field: Fields | None) -> None:
        """Draw a field; without one, nothing."""
        if field is None:
            self._amplitude.clear()
            self._phase.clear()
            return
        amplitude = np.abs(field)
        top = float(np.quantile(amplitude, 0.998)) or 1.0
        self._amplitude.setImage(amplitude, autoLevels=False, levels=(0.0, top))
        self._phase.setImage(np.angle(field), autoLevels=False, levels=(-np.pi, np.pi))


def _wheel() -> object:
    """Colours that close: -pi looks like pi, and all are about as bright."""
    turn = np.linspace(0.0, 1.0, 13)
    angles = 2 * np.pi * (turn[:, None] + np.array([0, 1 / 3, 2 / 3]))
    colours = np.round(255 * (0.55 + 0.4 * np.cos(angles))).astype(np.uint8)
    return graph.ColorMap(turn, colours)
