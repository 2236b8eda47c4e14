"""The pictures of frames whose patterns nobody needs to know."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from calibration.grey_values import GreyHistogram
from calibration.plain_fringes import PlainFringes
from calibration.speckle import Light, Steadiness
from calibration.spectrum import power_spectrum

_MEASURED, _OTHER, _LIMIT = "#33659c", "#e0a030", "#d1495b"
_FRINGES = "#39d0ff"
_BARS = 130
_LEAST_SPAN = 0.02  # of the values' size: an axis does not enlarge what nobody can measure


def light_figure(light: Light) -> Figure:
    """Mean and deviation of every pixel over the frames; of one frame, the frame."""
    many = len(light.power) > 1
    pictures = [(light.mean, "Mean over the frames" if many else "The frame")]
    if many:
        pictures.append((light.deviation, "Standard deviation over the frames"))
    figure = Figure(figsize=(9.6 if many else 6.4, 4.5), layout="constrained")
    for axes, (image, name) in zip(
        np.atleast_1d(figure.subplots(1, len(pictures))), pictures, strict=True
    ):
        top = float(np.quantile(image, 0.998))
        shown = axes.imshow(image, cmap="gray", vmin=float(image.min()), vmax=max(top, 1e-9))
        axes.set(xlabel="column", ylabel="row")
        axes.set_title(name, loc="left", fontweight="bold")
        figure.colorbar(shown, ax=axes, label="grey values", shrink=0.88, pad=0.02)
    return figure


def grey_figure(
    histogram: GreyHistogram, *, black_level: float | None, saturation_level: float | None
) -> Figure:
    """How often each grey value occurs.

    Args:
        histogram: Of all frames.
        black_level: Grey value without light; None where nobody knows it.
        saturation_level: Grey value of a full pixel; None where nobody knows it.
    """
    figure = Figure(figsize=(7.6, 4.0), layout="constrained")
    axes = figure.subplots()
    values, counts = histogram.values, histogram.counts
    low = min(float(values[0]), 0.0)
    top = float(values[-1]) if saturation_level is None else max(saturation_level, values[-1])
    together = max(round((top - low) / histogram.width / _BARS), 1)
    offset = round((float(values[0]) - low) / histogram.width) % together
    padded = np.pad(counts, (offset, -(offset + len(counts)) % together))
    bars = padded.reshape(-1, together).sum(axis=1)
    width = together * histogram.width
    left = float(values[0]) - offset * histogram.width - 0.5 * histogram.width
    axes.bar(left + width * np.arange(len(bars)), bars, width, align="edge", color=_MEASURED)
    axes.set_yscale("log")
    axes.set_ylim(0.7, 60 * max(float(bars.max()), 1.0))
    mean = float(values @ counts) / max(histogram.total, 1)
    marks = [(mean, f" mean: {mean:.4g}", "left", 0.88)]
    if black_level is not None:
        marks.append((black_level, f" black: {black_level:.3g}", "left", 0.98))
    if saturation_level is not None:
        full = histogram.fraction_from(saturation_level)
        marks.append((saturation_level, f"full: {full:.2g} of the pixels ", "right", 0.98))
        axes.axvspan(saturation_level, 1.04 * top, color=_LIMIT, alpha=0.25, lw=0)
    for at, name, side, height in marks:
        axes.axvline(at, ymax=height, color=_LIMIT, lw=1.6, ls="--")
        transform = axes.get_xaxis_transform()
        axes.text(at, height, name, ha=side, va="top", color=_LIMIT, transform=transform)
    axes.set(xlabel="grey value", ylabel="pixels", xlim=(left, top + 0.04 * (top - low)))
    axes.set_title("Grey values of all frames", loc="left", fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def spectrum_figure(frames: NDArray[Any], fringes: PlainFringes | None) -> Figure:
    """The spectrum of frames without a carrier of speckle, with their plain fringes if any.

    Args:
        frames: Grey values `[frame, row, column]`; their spectra are averaged.
        fringes: Whose tone is marked, with the disc that the field is taken from.
    """
    power = np.fft.fftshift(power_spectrum(frames))
    level = 10 * np.log10(np.maximum(power, np.finfo(float).tiny))
    level -= float(np.median(level))
    low, high = np.quantile(level, [0.02, 0.9995])
    figure = Figure(figsize=(7.2, 6.0), layout="constrained")
    axes = figure.subplots()
    rows, columns = power.shape
    edges = (-0.5 - 0.5 / columns, 0.5 - 0.5 / columns, 0.5 - 0.5 / rows, -0.5 - 0.5 / rows)
    image = axes.imshow(
        level, cmap="inferno", vmin=low, vmax=max(high, low + 1), extent=edges, aspect="equal"
    )
    title = "Spectrum: no fringes were found"
    if fringes is not None:
        tone = fringes.tone
        _ring(axes, (tone.column, tone.row), fringes.radius, "-", "fringes, and the field's disc")
        _ring(axes, (-tone.column, -tone.row), fringes.radius, "--", "twin")
        axes.plot(tone.column, tone.row, "+", color=_FRINGES, ms=11, mew=1.6)
        title = (
            f"Plain fringes ({tone.row:+.4f}, {tone.column:+.4f}) cycles/pixel,\n"
            f"{1 / np.hypot(tone.row, tone.column):.2f} pixels from one to the next"
        )
    axes.set(xlabel="column frequency (cycles/pixel)", ylabel="row frequency (cycles/pixel)")
    axes.set(xlim=(-0.5, 0.5), ylim=(0.5, -0.5))
    axes.set_title(title, loc="left", fontweight="bold")
    figure.colorbar(image, ax=axes, shrink=0.9, label="power (dB above its median)", pad=0.02)
    return figure


def object_figure(field: NDArray[np.complex64], decimation: int) -> Figure:
    """Amplitude and phase of a field without speckle.

    Args:
        field: `[grid row, grid column]`, grey values.
        decimation: Camera pixels between grid points.
    """
    rows, columns = (decimation * n for n in field.shape)
    edges = (-0.5, columns - 0.5, rows - 0.5, -0.5)
    figure = Figure(figsize=(9.6, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    top = float(np.quantile(np.abs(field), 0.998)) or 1.0
    amplitude = left.imshow(np.abs(field), cmap="viridis", vmin=0, vmax=top, extent=edges)
    phase = right.imshow(np.angle(field), cmap="twilight", vmin=-np.pi, vmax=np.pi, extent=edges)
    for axes, name in ((left, "Amplitude |R*S|"), (right, "Phase")):
        axes.set(xlabel="column (camera pixels)")
        axes.set_title(name, loc="left", fontweight="bold")
    left.set(ylabel="row (camera pixels)")
    figure.colorbar(amplitude, ax=left, label="grey values", shrink=0.88, pad=0.02)
    bar = figure.colorbar(phase, ax=right, label="radians", shrink=0.88, pad=0.02)
    bar.set_ticks([-np.pi, 0, np.pi], labels=["−π", "0", "π"])
    return figure


def course_figure(
    light: Light,
    alike: NDArray[np.float64],
    steady: Steadiness | None,
    *,
    frames_at_s: NDArray[np.float64] | None = None,
    alike_at_s: NDArray[np.float64] | None = None,
) -> Figure:
    """Power, likeness, phase and carrier over the recording.

    Args:
        light: Whose power is drawn.
        alike: Correlation of frames of one pattern with the first of them.
        steady: Their fields against the first; None where there is no carrier.
        frames_at_s: When each frame of `light` was exposed, seconds; None to count frames.
        alike_at_s: The same of the frames of one pattern; None to spread them evenly.
    """
    lines: list[tuple[Any, str]] = [
        (light.power, "mean\n(grey values)"),
        (alike, "likeness of\none pattern"),
    ]
    if steady is not None:
        lines += [
            (steady.fidelity, "fidelity\nof its field"),
            (steady.phase_rad, "phase (rad)"),
            (1e6 * steady.carrier, "carrier moved\n(1e-6 cycles/pixel)"),
        ]
    timed = frames_at_s is not None and alike_at_s is not None
    figure = Figure(figsize=(9.6, 1.6 * len(lines) + 0.5), layout="constrained")
    all_axes = figure.subplots(len(lines), 1, sharex=True)
    for k, (axes, (values, name)) in enumerate(zip(all_axes, lines, strict=True)):
        at = frames_at_s if k == 0 else alike_at_s
        if not timed:
            at = np.linspace(0, len(light.power) - 1, len(values))
        marker = "o-" if len(values) < 80 else "-"
        if np.ndim(values) == 2:
            axes.plot(at, values[:, 0], marker, ms=3, lw=1, color=_MEASURED, label="row")
            axes.plot(at, values[:, 1], marker, ms=3, lw=1, color=_OTHER, label="column")
            axes.legend(frameon=False, ncols=2, loc="best")
        else:
            axes.plot(at, values, marker, ms=3, lw=1, color=_MEASURED)
        _spread(axes, values)
        axes.set_ylabel(name)
        axes.grid(axis="y", color="#dddddd", lw=0.7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.ticklabel_format(axis="y", useOffset=False)
    all_axes[-1].set_xlabel("seconds from the first exposure" if timed else "frame")
    figure.align_ylabels(all_axes)
    return figure


def _spread(axes: Axes, values: NDArray[np.float64]) -> None:
    """Keep an axis from enlarging differences that nobody can measure."""
    known = values[np.isfinite(values)]
    if not known.size:
        return
    low, high = float(known.min()), float(known.max())
    least = _LEAST_SPAN * max(abs(low), abs(high)) or 1.0
    if high - low < least:
        middle = (low + high) / 2
        axes.set_ylim(middle - least, middle + least)


def _ring(axes: Axes, centre: tuple[float, float], radius: float, line: str, name: str) -> None:
    axes.add_patch(Circle(centre, radius, fill=False, ec="black", lw=3.2, alpha=0.6))
    axes.add_patch(Circle(centre, radius, fill=False, ec=_FRINGES, ls=line, lw=1.8))
    down = 1 if centre[1] >= 0 else -1
    axes.text(
        centre[0],
        centre[1] + down * (radius + 0.012),
        name,
        color=_FRINGES,
        ha="center",
        va="top" if down > 0 else "bottom",
        path_effects=[withStroke(linewidth=3, foreground="black")],
    )
