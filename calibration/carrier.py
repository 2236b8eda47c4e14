"""The carrier frequency: where in the spectrum of a frame the signal field lies."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from calibration import grain, sideband
from calibration.errors import (
    AliasedCarrierError,
    AmbiguousHalfPlaneError,
    CarrierError,
    FramesError,
    LowVisibilityError,
    NoCarrierError,
    OrdersOverlapError,
    PlaneFringesError,
    UndersampledGrainError,
)
from calibration.saturation import refuse_clipped
from calibration.sideband import Sideband
from calibration.spectrum import HANN_ALIKE, Spectrum, tiles
from calibration.tone import find_tone, tone_share
from opu_driver.camera import Frames
from opu_driver.errors import LowSignalError, SaturationError

MAX_SATURATED_FRACTION = 1e-3
"""Full pixels beyond which the spectrum's harmonics are no longer small."""

MAX_OVERLAP = 0.1
"""Largest part of the field that |S|^2 may add to the sideband: a nonlinear error."""

MIN_VISIBILITY = 0.05
"""Fainter fringes are mostly the shot noise of the light that they modulate."""

MAX_RADIUS = 0.25
"""Sideband radius of a grain of two pixels; two wider discs find no room in any spectrum."""

_SMALLEST = 32  # pixels a side
_PLANE = 0.35  # of the power around a tone; the strongest of speckle has 0.1 to 0.2
_PLANE_BESIDE_A_DISC = 0.9  # where a disc was found, or all rows or columns may flicker
_SMALLEST_RADIUS = 0.0234  # of a disc that is sought, cycles/pixel
_SLOW_BINS = 8.0  # what changes no faster over a frame is its illumination, or speckle
_COLD = 0.998  # of the pixels are no hot ones
_LEAST_LIGHT = 0.01  # of full scale: below it, darkness is why there is no carrier


@dataclass(frozen=True)
class Carrier:
    """The sideband of off-axis holograms: its centre, and the radius of the speckle's band.

    A real frame holds two sidebands, twins of each other. This is the one whose column frequency
    is positive (whose row frequency is positive, if the column frequency is 0); the field
    demodulated there is R* S where the signal arm's wave vector points that way, else R S*.

    Attributes:
        row: Row frequency of the centre, cycles/pixel.
        column: Column frequency of the centre, cycles/pixel.
        row_sigma: Standard deviation of `row`.
        column_sigma: Standard deviation of `column`.
        radius: Radius r of the sideband, cycles/pixel.
        radius_sigma: Standard deviation of `radius`.
    """

    row: float
    column: float
    row_sigma: float
    column_sigma: float
    radius: float
    radius_sigma: float

    @property
    def modulus(self) -> float:
        """Distance of the sideband's centre from zero frequency, cycles/pixel."""
        return math.hypot(self.row, self.column)

    @property
    def grain(self) -> float:
        """Size of a speckle grain, pixels: 0.5 / r."""
        return 0.5 / self.radius


def find_carrier(
    frames: Frames, *, saturation_level: float | None, black_level: float = 0.0
) -> Carrier:
    """The carrier of speckle holograms, blind: from one frame on, with nothing known before.

    Frames of different speckle average the spectrum; several are better than one. Sidebands of
    radius 0.02 (a grain of 25 pixels) to 0.25 cycles/pixel are found.

    Args:
        frames: Grey values `[frame, row, column]`, at least 32 pixels a side, each showing
            speckle (a modulator partly lit).
        saturation_level: The grey value at which a pixel is full; None where there is none.
        black_level: Grey value without light.

    Returns:
        Centre and radius with their standard deviations, from the curvature of the likelihood and
        the measured scatter of the spectrum around its model.

    Raises:
        FramesError: Frames of the wrong shape, or with values that are not finite.
        SaturationError: More than `MAX_SATURATED_FRACTION` of the pixels are full, or cut off at
            a lower value.
        LowSignalError: No carrier, and hardly any light.
        NoCarrierError: Light, but no sideband.
        UndersampledGrainError: The speckle's grain is smaller than two pixels.
        AliasedCarrierError: The sideband crosses the Nyquist frequency.
        OrdersOverlapError: |S|^2 adds more than `MAX_OVERLAP` of the field to the sideband.
        AmbiguousHalfPlaneError: The column frequency is 0 within three standard deviations, so
            that chance would say whether the field or its conjugate is measured.
        LowVisibilityError: The fringes are fainter than `MIN_VISIBILITY`.
        NoSpeckleError: The sideband is no disc of speckle. Its subclass PlaneFringesError: it is
            a tone.
    """
    _refuse_bad_frames(frames)
    if saturation_level is not None:
        _refuse_saturation(frames, saturation_level)
    refuse_clipped(frames, MAX_SATURATED_FRACTION)
    if not np.ptp(frames):
        raise LowSignalError(
            f"All pixels have the grey value {frames.flat[0]:g}: no light reaches the camera. "
            "Check that the laser is on and both arms are open."
        )
    coarse = Spectrum.of(tiles(frames))
    try:
        carrier, found = _fit(frames, coarse)
        _refuse_aliasing(carrier)
        _refuse_overlap(carrier, coarse)
    except CarrierError as error:
        if isinstance(error, NoCarrierError):
            _refuse_darkness(frames, saturation_level, black_level)
        _refuse_plane_fringes(frames[0], _PLANE)
        _refuse_fine_grain(frames)
        raise
    if carrier.radius < _SMALLEST_RADIUS:
        _refuse_plane_fringes(frames[0], _PLANE_BESIDE_A_DISC)
    _refuse_ambiguity(carrier)
    try:
        _refuse_faint_fringes(found, float(frames.mean(dtype=np.float64)) - black_level)
    except LowVisibilityError:
        _refuse_plane_fringes(frames[0], _PLANE)
        raise
    return carrier


def _fit(frames: Frames, coarse: Spectrum) -> tuple[Carrier, Sideband]:
    found, (row_sigma, column_sigma, radius_sigma) = sideband.fit(
        Spectrum.of(frames), sideband.search(coarse)
    )
    carrier = Carrier(
        row=found.row,
        column=found.column,
        row_sigma=row_sigma,
        column_sigma=column_sigma,
        radius=found.radius,
        radius_sigma=radius_sigma,
    )
    return carrier, found


def _refuse_bad_frames(frames: Frames) -> None:
    if frames.ndim != 3 or not len(frames) or min(frames.shape[1:]) < _SMALLEST:
        raise FramesError(
            f"Frames of shape {list(frames.shape)}; a carrier is found in [frame, row, column], at "
            f"least one frame of {_SMALLEST} x {_SMALLEST} pixels."
        )
    if frames.dtype.kind not in "uif" or not np.isfinite(frames).all():
        raise FramesError(
            f"Frames of {frames.dtype} that are not all finite real numbers; give grey values as "
            "the camera delivers them."
        )


def _refuse_saturation(frames: Frames, saturation_level: float) -> None:
    full = float(np.mean(frames >= saturation_level))
    if full > MAX_SATURATED_FRACTION:
        raise SaturationError(
            f"{full:.2%} of the pixels are full (grey value {saturation_level:g}); at most "
            f"{MAX_SATURATED_FRACTION:.2%} may be. Shorten the exposure or lower the laser power."
        )


def _refuse_darkness(frames: Frames, saturation_level: float | None, black_level: float) -> None:
    """Say that frames without a carrier are dark, if they are."""
    light = float(frames.mean(dtype=np.float64)) - black_level
    least = 0.0 if saturation_level is None else _LEAST_LIGHT * (saturation_level - black_level)
    if light <= least:
        raise LowSignalError(
            f"No sideband, and hardly any light: the mean is {light:.3g} grey values above black "
            f"({black_level:g}), and more than {least:.3g} is needed. Check that the laser is on "
            "and both arms are open; lengthen the exposure."
        )


def _refuse_plane_fringes(frame: Frames, least_share: float) -> None:
    """Say that what may be no sideband is a tone, if it is, by its share of the power around it."""
    try:
        tone = find_tone(frame, taper=1.0)
    except NoCarrierError:
        return
    share = tone_share(frame, tone)
    bins = np.abs([tone.row, tone.column]) * frame.shape
    flickers = bins.min() < 1.5  # rows or columns that flicker as a whole make tones on an axis
    if bins.max() > _SLOW_BINS and share > (_PLANE_BESIDE_A_DISC if flickers else least_share):
        raise PlaneFringesError(
            f"Fringes without speckle at ({tone.row:+.5f}, {tone.column:+.5f}) cycles/pixel, of "
            f"amplitude {tone.amplitude:.3g} grey values: they make {share:.0%} of the power "
            f"around them, and of speckle no more than {least_share:.0%}. The medium is missing, "
            "or the signal arm is a plane wave. `find_tone` and `opu inspect` measure such fringes."
        )


def _refuse_fine_grain(frames: Frames) -> None:
    """Say that frames without a usable sideband are under-sampled, if they are.

    Hot pixels are no grains, and neither are rows or columns that flicker as a whole, which lie on
    the axes of the spectrum.
    """
    tame = np.minimum(frames, np.quantile(frames, _COLD)).astype(np.float32)
    spectrum = Spectrum.of(tiles(tame))
    off_axes = np.where(spectrum.trusted, spectrum.power, np.median(spectrum.power))
    radius = grain.sideband_radius(replace(spectrum, power=off_axes))
    if radius is not None and radius > 1.04 * MAX_RADIUS:  # it is known to a few per cent
        raise UndersampledGrainError(
            f"A speckle grain has {0.5 / radius:.2f} pixels (sideband radius {radius:.2f} "
            f"cycles/pixel); {0.5 / MAX_RADIUS:g} pixels are the least that any carrier can serve, "
            "and 4 are clean. Make the speckle coarser: a smaller aperture, or more magnification."
        )


def _refuse_ambiguity(carrier: Carrier) -> None:
    if abs(carrier.column) < 3 * carrier.column_sigma:
        raise AmbiguousHalfPlaneError(
            f"The sideband at ({carrier.row:+.5f}, {carrier.column:+.5f}) cycles/pixel has column "
            f"frequency 0 within three standard deviations ({3 * carrier.column_sigma:.2g}), and "
            "the sign of that frequency is what tells the field from its conjugate twin. Tilt the "
            "reference so that the fringes also vary from column to column."
        )


def _refuse_faint_fringes(found: Sideband, mean_grey: float) -> None:
    fringes = math.sqrt(max(found.bright, 0.0) * math.pi) * found.radius  # rms of |R* S|
    visibility = 2 * fringes / mean_grey if mean_grey > 0 else math.inf
    if visibility < MIN_VISIBILITY:
        raise LowVisibilityError(
            f"The fringes have a visibility of {visibility:.2%}; at least {MIN_VISIBILITY:.0%} is "
            "needed. Balance the two arms (reference to signal about 4:1), and check that their "
            "path difference is well within the laser's coherence length and that nothing shakes."
        )


def _refuse_aliasing(carrier: Carrier) -> None:
    reach = max(abs(carrier.row), abs(carrier.column)) + carrier.radius
    beyond = reach - 0.5
    if beyond > 0.02 * carrier.radius + 2 * carrier.radius_sigma:
        raise AliasedCarrierError(
            f"The sideband, centre ({carrier.row:+.4f}, {carrier.column:+.4f}) and radius "
            f"{carrier.radius:.4f} cycles/pixel, reaches {reach:.4f}; the pixels resolve 0.5. Tilt "
            "the reference less, or make the speckle coarser."
        )


def _refuse_overlap(carrier: Carrier, spectrum: Spectrum) -> None:
    ratio = carrier.modulus / carrier.radius
    if ratio >= 3:
        return
    overlap = _speckle_in_sideband(carrier, spectrum) if ratio > 1.25 else 1.0
    if overlap > MAX_OVERLAP:
        raise OrdersOverlapError(
            f"The sideband, centre ({carrier.row:+.4f}, {carrier.column:+.4f}) and radius "
            f"{carrier.radius:.4f} cycles/pixel, lies {ratio:.2f} radii from zero frequency; "
            f"|S|^2 reaches 2 radii and adds {overlap:.0%} to the field. {MAX_OVERLAP:.0%} is "
            "allowed, and 3 radii are clean: tilt the reference more, make the speckle coarser, "
            "or give the reference more light."
        )


def _speckle_in_sideband(carrier: Carrier, spectrum: Spectrum) -> float:
    """Amplitude of |S|^2 relative to the field, in the sideband.

    The spectrum of |S|^2 is round: it is seen undisturbed a quarter turn from the sideband.
    """
    row, column, radius = carrier.row, carrier.column, carrier.radius
    sidebands = spectrum.disc(row, column, 1.1 * radius)
    sidebands |= spectrum.disc(-row, -column, 1.1 * radius)
    empty = spectrum.trusted & ~sidebands
    turned = empty & spectrum.disc(-column, row, radius)
    background = float(np.mean(spectrum.power[empty & (spectrum.modulus > 2.2 * radius)]))
    bright = float(np.mean(spectrum.power[spectrum.disc(row, column, 0.9 * radius)]))
    scatter = float(np.sum(HANN_ALIKE)) / math.sqrt(turned.sum() * spectrum.looks)
    excess = float(np.mean(spectrum.power[turned])) - background * (1 + 3 * scatter)
    return math.sqrt(max(excess, 0.0) / (bright - background))
