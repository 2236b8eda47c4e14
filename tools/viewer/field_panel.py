"""The demodulated field: amplitude and phase."""

from __future__ import annotations

from typing import Any

import numpy as np

from tools.viewer.analysis import Fields
from tools.viewer.look import TEXT, graph


class FieldPanel:
    """Shows a field; it is only drawn while somebody looks at it.

    Attributes:
        widget: To be put into a window.
    """

    def __init__(self) -> None:
        self.widget = graph.GraphicsLayoutWidget()
        self._amplitude, self._phase = graph.ImageItem(), graph.ImageItem()
        self._bars = [
            self._add(0, self._amplitude, "Amplitude |R*S| (grey values)", "viridis"),
            self._add(1, self._phase, "Phase (radians)", _wheel()),
        ]
        self._bars[1].setLevels((-np.pi, np.pi))
        ends = [(-np.pi, "−π"), (0.0, "0"), (np.pi, "π")]
        self._bars[1].axis.setTicks([ends])

    @property
    def drawn(self) -> bool:
        """Whether a field has been drawn."""
        return self._amplitude.image is not None

    @property
    def looked_at(self) -> bool:
        """Whether any of it is in sight."""
        return not self.widget.viewport().visibleRegion().isEmpty()

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
        self._bars[0].setLevels((0.0, top))

    def _add(self, place: int, image: Any, name: str, colours: Any) -> Any:
        """One picture beside the other, each with its scale."""
        box = graph.ViewBox(lockAspect=True, invertY=True, enableMenu=False)
        box.addItem(image)
        self.widget.addLabel(name, row=0, col=2 * place, colspan=2, color=TEXT)
        self.widget.addItem(box, row=1, col=2 * place)
        bar = graph.ColorBarItem(colorMap=colours, interactive=False, width=10)
        bar.setImageItem(image)
        self.widget.addItem(bar, row=1, col=2 * place + 1)
        return bar


def _wheel() -> object:
    """Colours that close: -pi looks like pi, and all are about as bright."""
    turn = np.linspace(0.0, 1.0, 13)
    angles = 2 * np.pi * (turn[:, None] + np.array([0, 1 / 3, 2 / 3]))
    colours = np.round(255 * (0.55 + 0.4 * np.cos(angles))).astype(np.uint8)
    return graph.ColorMap(turn, colours)
