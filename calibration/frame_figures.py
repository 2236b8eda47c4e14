"""The pictures of frames whose patterns nobody needs to know."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from calibration.speckle import Light, Steadiness

_MEASURED = "#33659c"


def light_figure(light: Light) -> Figure:
    """Mean and deviation of every pixel over the frames."""
    figure = Figure(figsize=(9.6, 4.5), layout="constrained")
    for axes, image, name in zip(
        figure.subplots(1, 2),
        (light.mean, light.deviation),
        ("Mean over the frames", "Standard deviation over the frames"),
        strict=True,
    ):
        top = float(np.quantile(image, 0.998))
        shown = axes.imshow(image, cmap="gray", vmin=float(image.min()), vmax=max(top, 1e-9))
        axes.set(xlabel="column", ylabel="row")
        axes.set_title(name, loc="left", fontweight="bold")
        figure.colorbar(shown, ax=axes, label="grey values", shrink=0.88, pad=0.02)
    return figure


def course_figure(light: Light, alike: NDArray[np.float64], steady: Steadiness | None) -> Figure:
    """Power, likeness, phase and carrier over the recording.

    Args:
        light: Whose power is drawn.
        alike: Correlation of frames of one pattern with the first of them.
        steady: Their fields against the first; None where there is no carrier.
    """
    lines: list[tuple[Any, str]] = [
        (light.power / max(float(light.power.mean()), 1e-9), "power\n(over its mean)"),
        (alike, "likeness of\none pattern"),
    ]
    if steady is not None:
        lines += [
            (steady.fidelity, "fidelity\nof its field"),
            (steady.phase_rad, "phase (rad)"),
            (1e6 * steady.carrier, "carrier moved\n(1e-6 cycles/pixel)"),
        ]
    figure = Figure(figsize=(9.6, 1.6 * len(lines) + 0.5), layout="constrained")
    for axes, (values, name) in zip(figure.subplots(len(lines), 1), lines, strict=True):
        at = np.linspace(0, 1, len(values)) if len(values) > 1 else np.zeros(1)
        marker = "o-" if len(values) < 80 else "-"
        if np.ndim(values) == 2:
            axes.plot(at, values[:, 0], marker, ms=3, lw=1, color=_MEASURED, label="row")
            axes.plot(at, values[:, 1], marker, ms=3, lw=1, color="#d1495b", label="column")
            axes.legend(frameon=False, ncols=2, loc="best")
        else:
            axes.plot(at, values, marker, ms=3, lw=1, color=_MEASURED)
        axes.set_ylabel(name)
        axes.grid(axis="y", color="#dddddd", lw=0.7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.ticklabel_format(axis="y", useOffset=False)
    axes.set_xlabel("from the first frame (0) to the last (1)")
    return figure
