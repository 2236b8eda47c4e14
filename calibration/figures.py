"""The pictures of a calibration: matplotlib figures, made to be read at a glance.

Each function returns a `matplotlib.figure.Figure` of its own; nothing global is touched. Save one
with `figure.savefig(path)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Circle, ConnectionPatch, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy.special import j1

from calibration.carrier import Carrier
from calibration.comparison import Comparison
from calibration.quality import (
    Quality,
    correlation,
    marchenko_pastur,
    marchenko_pastur_quantiles,
    relative_error,
)
from calibration.spectrum import power_spectrum

_STYLE: Any = {
    "font.size": 11.0,
    "axes.titlesize": 12.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 11.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 110,
    "savefig.dpi": 160,
    "image.interpolation": "nearest",
}
_SIDEBAND, _TWIN, _SPECKLE = "#39d0ff", "#39d0ff", "#ffffff"
_MEASURED, _THEORY, _MUTED = "#33659c", "#d1495b", "#6b6b6b"

_FEW = 40  # singular values that are shown one by one: a histogram of them would say nothing

_Arguments = ParamSpec("_Arguments")


def _styled(draw: Callable[_Arguments, Figure]) -> Callable[_Arguments, Figure]:
    @wraps(draw)
    def styled(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> Figure:
        with mpl.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return styled


@_styled
def frame_figure(
    frame: NDArray[Any], carrier: Carrier, *, saturation_level: float | None = None
) -> Figure:
    """A camera frame, and beside it the fringes of a few speckle grains, enlarged.

    Args:
        frame: Grey values `[row, column]`.
        carrier: Its carrier; the fringe period is marked.
        saturation_level: Grey value of a full pixel, for the share of full scale in the title.
    """
    rows, columns = frame.shape
    side = int(min(max(7 * carrier.grain, 24), rows, columns))
    top, left = _contrast_window(frame, side)
    limits = {"vmin": float(np.min(frame)), "vmax": float(np.quantile(frame, 0.998))}
    figure = Figure(figsize=(9.6, 4.6), layout="constrained")
    whole, near = figure.subplots(1, 2)
    image = whole.imshow(frame, cmap="gray", **limits)
    whole.set(title=f"Camera frame, {rows} × {columns} pixels", xlabel="column", ylabel="row")
    window = Rectangle((left - 0.5, top - 0.5), side, side, fill=False, ec=_THEORY, lw=1.8)
    whole.add_patch(window)
    part = frame[top : top + side, left : left + side]
    edges = (left - 0.5, left + side - 0.5, top + side - 0.5, top - 0.5)
    near.imshow(part, cmap="gray", extent=edges, **limits)
    near.set(title="Fringes on the speckle grains", xlabel="column")
    for spine in near.spines.values():
        spine.set(visible=True, color=_THEORY, linewidth=1.8)
    for height in (edges[3], edges[2]):
        corner = (left + side - 0.5, height), (edges[0], height)
        joint = ConnectionPatch(*corner, coordsA=whole.transData, coordsB=near.transData)
        joint.set(color=_THEORY, linewidth=1.0, alpha=0.7)
        figure.add_artist(joint)
    _mark_period(near, carrier, edges)
    bar = figure.colorbar(image, ax=[whole, near], shrink=0.85, pad=0.015)
    full = "" if saturation_level is None else f" (full: {saturation_level:g})"
    bar.set_label(f"grey value{full}")
    return figure


@_styled
def spectrum_figure(frames: NDArray[Any], carrier: Carrier) -> Figure:
    """The spectrum of frames with the carrier, the sideband, its twin and |S|^2 drawn on it.

    Args:
        frames: Grey values `[frame, row, column]`; their spectra are averaged.
        carrier: What was found in them.
    """
    power = np.fft.fftshift(power_spectrum(frames))
    level = 10 * np.log10(np.maximum(power, np.finfo(float).tiny))
    level -= float(np.median(level))
    low, high = np.quantile(level, [0.02, 0.999])
    figure = Figure(figsize=(7.2, 6.0), layout="constrained")
    axes = figure.subplots()
    rows, columns = power.shape
    edges = (-0.5 - 0.5 / columns, 0.5 - 0.5 / columns, 0.5 - 0.5 / rows, -0.5 - 0.5 / rows)
    image = axes.imshow(level, cmap="inferno", vmin=low, vmax=high, extent=edges, aspect="equal")
    r = carrier.radius
    outlines = [
        ((carrier.column, carrier.row), r, _SIDEBAND, "-", "sideband R*S"),
        ((-carrier.column, -carrier.row), r, _TWIN, (0, (4, 3)), "twin RS*"),
        ((0.0, 0.0), 2 * r, _SPECKLE, (0, (1.5, 2)), "|S|², radius 2r"),
    ]
    for centre, radius, colour, line, name in outlines:
        axes.add_patch(Circle(centre, radius, fill=False, ec="black", lw=3.6, alpha=0.6))
        axes.add_patch(Circle(centre, radius, fill=False, ec=colour, ls=line, lw=2.2))
        outward = 1 if centre[1] >= 0 else -1
        side = "top" if outward > 0 else "bottom"
        _label(axes, centre[0], centre[1] + outward * (radius + 0.015), name, colour, va=side)
    axes.plot(carrier.column, carrier.row, "+", color=_SIDEBAND, ms=13, mew=2)
    axes.set(xlabel="column frequency (cycles/pixel)", ylabel="row frequency (cycles/pixel)")
    axes.set_title(
        f"Carrier ({carrier.row:+.4f}, {carrier.column:+.4f}) cycles/pixel\n"
        f"sideband radius {carrier.radius:.4f}, grain {carrier.grain:.1f} pixels"
    )
    axes.set(xlim=(-0.5, 0.5), ylim=(0.5, -0.5))
    figure.colorbar(image, ax=axes, shrink=0.9, label="power (dB above its median)", pad=0.02)
    return figure


@_styled
def singular_values_figure(quality: Quality) -> Figure:
    """The matrix's singular values against the law of Marchenko and Pastur.

    Noise alone follows the law too, so the figures that noise would fail stand beside it.
    """
    values = quality.singular_values
    ratio = min(len(values) / quality.effective_modes, 1.0)
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axes = figure.subplots()
    law = f"Marchenko–Pastur, {len(values)} inputs, {quality.effective_modes:.0f} modes"
    draw = _draw_ranks if len(values) < _FEW else _draw_density
    draw(axes, values, ratio, law)
    axes.set_title("Singular values of the transmission matrix")
    axes.set_ylim(top=1.28 * axes.get_ylim()[1])
    axes.legend(frameon=False, loc="upper left")
    axes.text(
        0.985,
        0.97,
        f"held-out correlation {quality.held_out_correlation:.4f}\n"
        f"split-half {quality.split_half:.4f}\n"
        f"signal to noise {quality.snr:,.0f}",
        transform=axes.transAxes,
        ha="right",
        va="top",
        color=_MUTED,
    )
    return figure


def _draw_density(axes: Axes, values: NDArray[np.float32], ratio: float, law: str) -> None:
    """Many singular values: how dense they lie."""
    top = max(1 + math.sqrt(ratio), float(values.max())) * 1.06
    bins = np.linspace(0, top, max(12, min(60, int(2.2 * math.sqrt(len(values)))) + 1))
    axes.hist(values, bins.tolist(), density=True, color=_MEASURED, alpha=0.75, label="measured")
    fine = np.linspace(max(1 - math.sqrt(ratio), 1e-3), 1 + math.sqrt(ratio), 600)
    axes.plot(fine, marchenko_pastur(fine, ratio), color=_THEORY, lw=2.4, label=law)
    axes.set(xlabel="singular value (normalised)", ylabel="density", xlim=(0, top))


def _draw_ranks(axes: Axes, values: NDArray[np.float32], ratio: float, law: str) -> None:
    """Few singular values: each one against the law's quantile of its rank."""
    edges = 1 - math.sqrt(ratio), 1 + math.sqrt(ratio)
    ranks = np.arange(1, len(values) + 1)
    expected = marchenko_pastur_quantiles(len(values), len(values) / ratio)
    axes.axhspan(*edges, color=_THEORY, alpha=0.10, lw=0, label="where the law has any")
    axes.plot(ranks, expected, color=_THEORY, lw=2.4, label=law)
    axes.plot(ranks, np.sort(values)[::-1], "o", color=_MEASURED, ms=8, label="measured")
    axes.set(xlabel="rank", ylabel="singular value (normalised)", ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


@_styled
def projections_figure(measured: NDArray[Any], predicted: NDArray[Any]) -> Figure:
    """Measured projections against those that the calibrated matrix predicts.

    Args:
        measured: Real or complex, of any shape; of complex ones both parts are shown.
        predicted: The same shape.
    """
    seen, expected = _parts(measured), _parts(predicted)
    reach = 1.05 * float(np.quantile(np.abs(np.concatenate([seen, expected])), 0.9999))
    figure = Figure(figsize=(10.2, 4.8), layout="constrained")
    axes, beside = figure.subplots(1, 2, width_ratios=[1.15, 1])
    counts, xs, ys = np.histogram2d(expected, seen, bins=160, range=[[-reach, reach]] * 2)
    filled = np.ma.masked_equal(counts.T, 0)
    image = axes.pcolormesh(xs, ys, filled, cmap="viridis", norm=LogNorm(1), rasterized=True)
    axes.axline((0, 0), slope=1, color=_THEORY, lw=1.2, ls="--")
    axes.text(
        0.03,
        0.97,
        f"correlation {correlation(measured, predicted):.4f}\n"
        f"relative error {relative_error(measured, predicted):.1%}",
        transform=axes.transAxes,
        va="top",
        fontsize=12.5,
        fontweight="bold",
    )
    axes.set(xlabel="predicted by the calibrated matrix", ylabel="measured through the bench")
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axes.set_title(f"{len(seen):,} projections")
    figure.colorbar(image, ax=axes, label="projections per cell", shrink=0.9, pad=0.02)

    errors = (seen - expected) / float(np.sqrt(np.mean(expected**2)))
    sigma = float(np.sqrt(np.mean(errors**2)))
    beside.hist(errors, np.linspace(-4.5, 4.5, 73) * sigma, density=True, color=_MEASURED,
                alpha=0.75, label="errors")  # fmt: skip
    fine = np.linspace(-4.5, 4.5, 300) * sigma
    normal = np.exp(-0.5 * (fine / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
    beside.plot(fine, normal, color=_THEORY, lw=2.2, label=f"normal, σ = {sigma:.3g}")
    beside.set(xlabel="(measured - predicted) / rms of predicted", ylabel="density")
    beside.set_title("Errors")
    beside.set_ylim(top=1.2 * beside.get_ylim()[1])
    beside.legend(frameon=False, loc="upper right")
    return figure


@_styled
def field_figure(field: NDArray[np.complex64], carrier: Carrier, decimation: int) -> Figure:
    """A demodulated field's amplitude and phase, interpolated: it is band-limited.

    Args:
        field: `[grid row, grid column]`, grey values.
        carrier: Its carrier, for the size of a grain.
        decimation: Camera pixels between grid points.
    """
    rows, columns = (decimation * n for n in field.shape)
    smooth = _interpolated(field, max(1, 256 // max(field.shape)))
    figure = Figure(figsize=(9.6, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    edges = (-0.5, columns - 0.5, rows - 0.5, -0.5)
    amplitude = left.imshow(np.abs(smooth), cmap="viridis", vmin=0, extent=edges)
    phase = right.imshow(np.angle(smooth), cmap="twilight", vmin=-np.pi, vmax=np.pi, extent=edges)
    left.set(title="Amplitude |R*S|", xlabel="column (camera pixels)", ylabel="row (camera pixels)")
    right.set(title="Phase", xlabel="column (camera pixels)")
    figure.colorbar(amplitude, ax=left, label="grey values", shrink=0.88, pad=0.02)
    bar = figure.colorbar(phase, ax=right, label="radians", shrink=0.88, pad=0.02)
    bar.set_ticks([-np.pi, 0, np.pi], labels=["−π", "0", "π"])
    grains = f"5 grains, {5 * carrier.grain:.0f} pixels"
    _scale_bar(left, 5 * carrier.grain, grains, rows, columns)
    return figure


@_styled
def drift_figure(quality: Quality) -> Figure:
    """Phase and gain of the interferometer over the measurement, and what became of the field.

    Args:
        quality: Its `gains` and `fidelities` are drawn.
    """
    gains, fidelities = quality.gains, quality.fidelities
    figure = Figure(figsize=(9.6, 5.6), layout="constrained")
    above, middle, below = figure.subplots(3, 1, height_ratios=[1.3, 1, 1], sharex=True)
    exposures = np.arange(len(gains))
    phases = np.unwrap(np.angle(gains))
    line: Any = {"lw": 0.9, "color": _MEASURED}
    above.plot(exposures, phases - phases[:1], **line)
    steps = np.diff(phases)
    walk = float(np.sqrt(np.mean(steps**2))) if steps.size else 0.0
    above.set(ylabel="phase (rad)")
    above.set_title(f"Phase of the interferometer, steps of {walk:.2g} rad rms")
    middle.plot(exposures, 100 * (np.abs(gains) - 1), **line)
    spread = 100 * float(np.std(np.abs(gains))) if gains.size else 0.0
    middle.set(ylabel="gain (%)", title=f"Gain about its mean, {spread:.2g} % rms")
    middles = (np.arange(len(fidelities)) + 0.5) * len(gains) / max(len(fidelities), 1)
    below.axhline(1, color=_THEORY, lw=1.2, ls="--")
    below.plot(middles, fidelities, "o-", color=_MEASURED, ms=4.5, lw=1.2)
    low = float(np.nanmin(fidelities, initial=1.0))
    below.set_ylim(min(0.99, 1 - 1.4 * (1 - low)), max(1.002, 1 + 0.3 * (1 - low)))
    below.set(xlabel="exposure", ylabel="fidelity")
    below.set_title("Fidelity of the field of all inputs on, to the first quarter")
    for axes in (above, middle, below):
        axes.margins(x=0.01)
        axes.grid(axis="y", color="#dddddd", lw=0.7)
    return figure


@_styled
def exposure_figure(frames: NDArray[Any], *, black_level: float, saturation_level: float) -> Figure:
    """How often each grey value occurs, between black and full scale.

    Args:
        frames: Grey values, of any shape.
        black_level: Grey value without light.
        saturation_level: Grey value of a full pixel.
    """
    grey = np.asarray(frames).ravel()
    mean = float(grey.mean(dtype=np.float64))
    full = float(np.mean(grey >= saturation_level))
    share = (mean - black_level) / (saturation_level - black_level)
    figure = Figure(figsize=(7.6, 4.0), layout="constrained")
    axes = figure.subplots()
    top = 1.04 * saturation_level
    width = max(round(top / 130), 1)  # whole grey values, or some bins would hold one more
    bins = np.arange(-0.5, top + width, width)
    axes.hist(grey, bins.tolist(), color=_MEASURED, alpha=0.85, log=True)
    axes.set_ylim(0.7, 40 * axes.get_ylim()[1])
    axes.axvspan(saturation_level, top, color=_THEORY, alpha=0.25, lw=0)
    marks = (
        (black_level, f" black: {black_level:.3g}", "left", 0.98),
        (mean, f" mean, {share:.0%} of full scale", "left", 0.88),
        (saturation_level, f"full: {full:.2g} of the pixels ", "right", 0.98),
    )
    above = axes.get_xaxis_transform()
    for at, name, side, height in marks:
        axes.axvline(at, ymax=height, color=_THEORY, lw=1.6, ls="--")
        axes.text(at, height, name, ha=side, va="top", color=_THEORY, transform=above)
    axes.set(xlabel="grey value", ylabel="pixels", xlim=(0, top))
    axes.set_title("Grey values of half-lit frames")
    return figure


@_styled
def grain_figure(fields: NDArray[np.complex64], carrier: Carrier, decimation: int) -> Figure:
    """How far the speckle's field is alike itself, against the disc that its spectrum fills.

    An even disc of radius r has the coherence 2 J1(2 pi r x) / (2 pi r x): 0 at 0.61 / r.

    Args:
        fields: `[field, grid row, grid column]`, demodulated.
        carrier: Where they come from, with the radius of the sideband.
        decimation: Camera pixels between grid points.
    """
    figure = Figure(figsize=(7.6, 4.0), layout="constrained")
    axes = figure.subplots()
    reach = 2.4 / carrier.radius / 2
    for axis, name, colour in ((1, "along rows", _MEASURED), (2, "along columns", "#e0a030")):
        apart, coherence = _coherence(fields, axis, decimation)
        axes.plot(apart, coherence, "o", ms=3.5, color=colour, label=f"measured, {name}")
    fine = np.linspace(1e-6, reach, 400)
    x = 2 * np.pi * carrier.radius * fine
    axes.plot(fine, np.abs(2 * j1(x) / x), color=_THEORY, lw=2.0, label="an even disc of radius r")
    axes.axvline(carrier.grain, color=_MUTED, lw=1, ls="--")
    axes.text(carrier.grain, 0.97, f"  grain 0.5/r = {carrier.grain:.2f} px", color=_MUTED)
    axes.set(xlim=(0, reach), ylim=(0, 1.03))
    axes.set(xlabel="distance (camera pixels)", ylabel="coherence of the field")
    axes.set_title("Size of a speckle grain")
    axes.legend(frameon=False, loc="upper right", bbox_to_anchor=(1, 0.92))
    return figure


@_styled
def comparison_figure(comparison: Comparison, decimation: int) -> Figure:
    """How well the rows of two matrices agree: where on the camera, and how many.

    Args:
        comparison: Of two calibrations.
        decimation: Camera pixels between grid points.
    """
    correlations = comparison.mode_correlations
    rows, columns = (decimation * n for n in correlations.shape)
    figure = Figure(figsize=(9.6, 4.3), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.15, 1])
    edges = (-0.5, columns - 0.5, rows - 0.5, -0.5)
    image = left.imshow(correlations, cmap="viridis", vmin=0, vmax=1, extent=edges)
    left.set(title="Correlation of each mode", xlabel="column (camera pixels)")
    left.set(ylabel="row (camera pixels)")
    figure.colorbar(image, ax=left, label="correlation", shrink=0.88, pad=0.02)
    lowest = float(np.quantile(correlations, 0.002))
    start = 0.0 if lowest < 0.7 else 1 - 1.3 * (1 - lowest)
    bins = np.linspace(min(start, 1 - 1e-6), 1, 50)
    right.hist(correlations.ravel(), bins.tolist(), color=_MEASURED, alpha=0.85)
    right.set(xlabel="correlation", ylabel="modes")
    right.set_title(f"Median {np.median(correlations):.4f}")
    return figure


@_styled
def two_spectra_figure(earlier: Quality, later: Quality) -> Figure:
    """The singular values of two matrices, rank by rank, and the law of random ones."""
    figure = Figure(figsize=(7.6, 4.2), layout="constrained")
    axes = figure.subplots()
    expected = marchenko_pastur_quantiles(len(later.singular_values), later.effective_modes)
    ranks = np.arange(1, len(expected) + 1)
    axes.plot(ranks, expected, color=_THEORY, lw=2.2, label="Marchenko–Pastur")
    for quality, name, mark, colour in (
        (earlier, "earlier", "o", "#e0a030"),
        (later, "later", ".", _MEASURED),
    ):
        values = np.sort(quality.singular_values)[::-1]
        axes.plot(np.arange(1, len(values) + 1), values, mark, color=colour, label=name, ms=7)
    axes.set(xlabel="rank", ylabel="singular value (normalised)", ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title("Singular values")
    axes.legend(frameon=False, loc="lower left")
    return figure


def _coherence(
    fields: NDArray[np.complex64], axis: int, decimation: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distances in camera pixels, four a grid point, and the modulus of the autocorrelation."""
    count = fields.shape[axis]
    spectrum = np.fft.fftshift(np.fft.fft(fields, axis=axis), axes=axis)
    power = np.mean(np.abs(np.moveaxis(spectrum, axis, 0)) ** 2, axis=(1, 2))
    frequencies = (np.arange(count) - count // 2) / (count * decimation)
    apart = np.arange(0, count * decimation // 2, decimation / 4)
    waves = np.exp(2j * np.pi * apart[:, None] * frequencies)
    return apart, np.asarray(np.abs(waves @ power) / power.sum())


def _parts(values: NDArray[Any]) -> NDArray[np.float64]:
    flat = np.ravel(values)
    if np.iscomplexobj(flat):
        flat = np.concatenate([flat.real, flat.imag])
    return np.asarray(flat, np.float64)


def _interpolated(field: NDArray[np.complex64], times: int) -> NDArray[np.complex128]:
    """A finer grid by zeros around the spectrum."""
    shape = [times * n for n in field.shape]
    spectrum = np.fft.fftshift(np.fft.fft2(field))
    around = [((m - n + 1) // 2, (m - n) // 2) for m, n in zip(shape, field.shape, strict=True)]
    fine: NDArray[np.complex128] = times**2 * np.fft.ifft2(
        np.fft.ifftshift(np.pad(spectrum, around))
    )
    return fine


def _contrast_window(frame: NDArray[Any], side: int) -> tuple[int, int]:
    """Top left corner of the square, of a regular choice, with the strongest fringes."""
    rows, columns = frame.shape
    tops = range(0, rows - side + 1, max(side // 2, 1))
    lefts = range(0, columns - side + 1, max(side // 2, 1))
    return max(
        ((top, left) for top in tops for left in lefts),
        key=lambda at: float(np.std(frame[at[0] : at[0] + side, at[1] : at[1] + side])),
    )


def _mark_period(axes: Axes, carrier: Carrier, edges: tuple[float, float, float, float]) -> None:
    """A double arrow across three fringes."""
    left, right, bottom, _ = edges
    period = 1 / carrier.modulus
    across = np.array([carrier.column, carrier.row]) / carrier.modulus
    middle = np.array([left, bottom]) + (3.4 * period) * np.array([1.0, -1.0])
    start, end = middle - 1.5 * period * across, middle + 1.5 * period * across
    for colour, width in (("black", 4.5), (_SIDEBAND, 2.2)):
        arrow = {"arrowstyle": "<->", "color": colour, "lw": width, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", end.tolist(), start.tolist(), arrowprops=arrow)
    text = f"3 fringes of {period:.2f} px"
    _label(
        axes, left + 0.8, bottom - 0.04 * (right - left), text, _SIDEBAND, ha="left", va="bottom"
    )


def _scale_bar(axes: Axes, length: float, name: str, rows: int, columns: int) -> None:
    right, height = 0.96 * columns, 0.95 * rows
    axes.plot([right - length, right], [height, height], color="white", lw=3.5,
              solid_capstyle="butt")  # fmt: skip
    _label(axes, right, height - 0.02 * rows, name, "white", ha="right", va="bottom")


def _label(
    axes: Axes, x: float, y: float, text: str, colour: str, ha: str = "center", va: str = "top"
) -> None:
    outline = [withStroke(linewidth=3, foreground="black")]
    axes.text(x, y, text, color=colour, ha=ha, va=va, fontsize=10.5, path_effects=outline)
