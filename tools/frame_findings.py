"""What frames tell, number by number: what each should be, and what to do if it is not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.carrier import MAX_SATURATED_FRACTION
from tools.frame_view import FrameView

_COARSEST = 9.9  # pixels; coarser grains are not told apart
_LONG_S = 1.0  # a drift told from less is mostly the walk

COLUMNS = ("figure", "measured", "should be", "")


@dataclass(frozen=True)
class Finding:
    """A number, and what to make of it.

    Attributes:
        name: What it is.
        value: What was measured, with its unit.
        wanted: What it should be.
        good: Whether it is; None where that depends on what the frames are for.
        remedy: What to do if it is not.
    """

    name: str
    value: str
    wanted: str = ""
    good: bool | None = None
    remedy: str = ""

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """Its line in a table."""
        verdict = "" if self.good is None else "good" if self.good else "look at this"
        return self.name, self.value, self.wanted, verdict


def findings(view: FrameView) -> list[Finding]:
    """The numbers, one by one."""
    return [*_of_light(view), *_of_speckle(view), *_of_fringes(view), *_of_time(view)]


def remarks(view: FrameView) -> list[str]:
    """What to do about each number that is not as it should be, and what was taken for granted."""
    told = [f"{one.name}: {one.remedy}" for one in findings(view) if one.good is False]
    if view.levels.guess:
        told.append(
            f"full scale: taken as {view.levels.full:g} ({view.levels.guess}); --full says it "
            "where that is wrong."
        )
    if not view.levels.black_known:
        told.append(
            "black: not known, and taken as 0; --black says it. Where it is above 0, contrast and "
            "visibility are higher than told."
        )
    return told


def grain_words(view: FrameView) -> str:
    """The size of a speckle grain, in words."""
    if view.grain is None:
        return "none"
    size, sigma = view.grain
    return f"{size:.2f}{_error(sigma)} px" if size < _COARSEST else f"{_COARSEST:g} px or more"


def _of_light(view: FrameView) -> list[Finding]:
    light, levels = view.light, view.levels
    full = levels.full
    found = [_dark_level(view), _darkest(view)]
    if view.grey.not_finite:
        found.append(
            Finding(
                "no numbers",
                f"{view.grey.not_finite:.2g} of the pixels",
                "0",
                False,
                "NaN or infinite grey values: write the frames once more, as the camera gave them.",
            )
        )
    if full is not None:
        share = float(np.nanmean(light.power)) / (full - levels.black)
        found += [
            Finding(
                "mean above black",
                f"{share * (full - levels.black):.4g}, {share:.1%} of full scale",
                "5 % to 30 %",
                0.05 <= share <= 0.3 if view.plain is None else None,
                "Change the exposure time or the laser power: an eighth of full scale is best.",
            ),
            Finding(
                "saturated pixels",
                f"{light.saturated_fraction:.2g}",
                f"below {MAX_SATURATED_FRACTION:g}",
                light.saturated_fraction <= MAX_SATURATED_FRACTION,
                "Shorten the exposure or lower the laser power: what full pixels saw is lost.",
            ),
        ]
    if view.off_share is not None:
        found.append(
            Finding(
                "light, all inputs off",
                f"{view.off_share:.0%} of all on",
                "below 95 %",
                view.off_share < 0.95,
                "The pattern hardly changes the light: open the signal arm, check the modulator "
                "and its trigger.",
            )
        )
    return found


def _dark_level(view: FrameView) -> Finding:
    """What is seen without light, against what the camera says."""
    value, source = view.dark
    levels = view.levels
    if source != "darkest pixels" and levels.full is not None:
        apart = abs(value - levels.black)
        return Finding(
            "dark level",
            f"{value:.4g}, by {source}",
            f"{levels.black:.4g}, ± 1 %",
            apart <= max(1.0, 0.01 * (levels.full - levels.black)),
            "Cover the camera: if it then reads the same, its black level is another than it says; "
            "if not, other light shines in.",
        )
    good = None
    if levels.black_known and np.isfinite(value) and levels.full is not None:
        good = value >= levels.black - max(3.0, 0.02 * (levels.full - levels.black))
    return Finding(
        "dark level",
        f"{value:.4g} at most (darkest)",
        f"{levels.black:.4g} or more" if levels.black_known else "known, by --black",
        good,
        "Pixels are darker than the black level that is said: set it anew, by covered frames.",
    )


def _darkest(view: FrameView) -> Finding:
    histogram = view.grey.histogram
    if not view.grey.whole:
        return Finding("darkest pixels", f"{view.light.darkest:.4g}", "just above black")
    at_zero = 1.0 - histogram.fraction_from(1.0)
    return Finding(
        "darkest pixels",
        f"{view.light.darkest:.4g}; {at_zero:.2g} are at 0",
        "above 0",
        view.light.darkest > 0,
        "What is darker than 0 is cut off, noise included: raise the camera's black level.",
    )


def _of_speckle(view: FrameView) -> list[Finding]:
    light = view.light
    fringes = view.demodulate is not None
    contrast = Finding(
        "contrast",
        f"{light.contrast:.3f}{_error(light.contrast_sigma)}",
        "any, by the reference" if fringes else "0.3 to 1",
        None if fringes else bool(0.3 <= light.contrast <= 1.1),
        "Low: something blurs the speckle (vibration, incoherent light, stray light); "
        "high: few bright spots. Look at the frame.",
    )
    good = view.grain is not None and 3 <= view.grain[0] <= 8
    grain = Finding(
        "speckle grain",
        grain_words(view),
        "3 to 8 px",
        None if view.plain is not None else good,
        "No speckle: check the light and the focus."
        if view.grain is None
        else "Set the aperture or the magnification: finer grains cannot be resolved with their "
        "fringes, coarser ones waste pixels.",
    )
    return [contrast, grain]


def _of_fringes(view: FrameView) -> list[Finding]:
    if view.plain is not None:
        return _of_plain_fringes(view)
    if isinstance(view.carrier, str):
        return [Finding("carrier of speckle", "none", "one", False, view.carrier)]
    c = view.carrier
    reach = max(abs(c.row), abs(c.column)) + c.radius
    precise = max(c.row_sigma, c.column_sigma) < 0.01 * c.radius
    return [
        *_frequency(c.row, c.row_sigma, c.column, c.column_sigma, 0.01 * c.radius, good=precise),
        Finding(
            "sideband radius",
            f"{c.radius:.4f} ± {c.radius_sigma:.1g}",
            "0.0625 to 0.167",
            0.0625 <= c.radius <= 0.5 / 3,
            f"A grain of {c.grain:.2f} pixels: 3 to 8 are good. Set the aperture or the "
            "magnification.",
        ),
        Finding(
            "overlap with |S|²",
            f"{c.modulus / c.radius:.2f} radii from zero",
            "3 or more",
            c.modulus / c.radius >= 3,
            "Tilt the reference more, make the speckle coarser, or the reference brighter.",
        ),
        Finding(
            "reach of the sideband",
            f"{reach:.3f}",
            "below 0.5",
            reach < 0.5,
            "Tilt the reference less, or make the speckle coarser: it aliases.",
        ),
        _visibility(view),
    ]


def _of_plain_fringes(view: FrameView) -> list[Finding]:
    if view.plain is None:
        return []
    tone = view.plain.tone
    precise = max(tone.row_sigma, tone.column_sigma) < 0.01 * view.plain.radius
    reach = max(abs(tone.row), abs(tone.column)) + view.plain.radius
    return [
        Finding("carrier of speckle", "none: plain fringes", "one, for a bench"),
        *_frequency(
            tone.row,
            tone.row_sigma,
            tone.column,
            tone.column_sigma,
            0.01 * view.plain.radius,
            good=precise,
        ),
        Finding(
            "disc of the field",
            f"{view.plain.radius:.4f}",
            "a third of the carrier",
            reach < 0.5,
            "Tilt the reference less: the field has no room below 0.5 cycles/pixel.",
        ),
        _visibility(view),
    ]


def _frequency(
    row: float, row_sigma: float, column: float, column_sigma: float, enough: float, *, good: bool
) -> list[Finding]:
    remedy = "Take more frames, or brighter fringes: the field is blurred by what is not known."
    return [
        Finding(name, f"{value:+.6f} ± {sigma:.1g}", f"± {enough:.1g} or less", good, remedy)
        for name, value, sigma in (
            ("carrier row, cycles/px", row, row_sigma),
            ("carrier column", column, column_sigma),
        )
    ]


def _visibility(view: FrameView) -> Finding:
    return Finding(
        "fringe visibility",
        f"{view.visibility:.1%}",
        "20 % or more",
        bool(view.visibility >= 0.2),
        "Balance the arms (reference to signal about 4:1), check path lengths and shaking.",
    )


def _of_time(view: FrameView) -> list[Finding]:
    found = []
    if view.missing is not None:
        found.append(
            Finding(
                "lost frames",
                str(view.missing),
                "0",
                view.missing == 0,
                "Lower the rate, check cable, buffers and trigger line.",
            )
        )
    if len(view.series) < 2:
        return found
    known = view.alike.one_pattern
    proviso = "" if known else ", if all show one pattern"
    power, alike = view.power, float(view.likeness[-1])
    if power.mean() > 0:
        spread = float(power.std() / power.mean())
        found.append(
            Finding(
                "power over time",
                f"{spread:.2%} rms, {len(power)} {view.alike.words}",
                f"below 2 %{proviso}",
                spread < 0.02 if known else None,
                "Let the laser warm up; look at its power, and at what cuts the beam.",
            )
        )
    found.append(
        Finding(
            "likeness, last to first",
            "no structure" if np.isnan(alike) else f"{alike:.4f} in {view.series.span}",
            f"above 0.9{proviso}",
            alike > 0.9 if known and np.isfinite(alike) else None,
            "The speckle has changed: calm the medium, wait for it to warm up.",
        )
    )
    return [*found, *_of_field_in_time(view, proviso)]


def _of_field_in_time(view: FrameView, proviso: str) -> list[Finding]:
    if view.steady is None or view.walk is None:
        return []
    known = view.alike.one_pattern
    steady, walk, times = view.steady, view.walk, view.series.times_s
    moved = float(np.abs(steady.carrier).max())
    lost = 1 - float(steady.fidelity[-1])
    name = "phase, frame to frame" if walk.apart == 1 else f"phase, {walk.apart} exposures on"
    apart = "" if walk.apart_s is None else f" in {1e3 * walk.apart_s:.3g} ms"
    found = [
        Finding(
            "decorrelation of field",
            f"{lost:.2%} in {view.series.span}",
            f"below 5 %{proviso}",
            lost < 0.05 if known else None,
            "Mount the medium more firmly, shield it from air; calibrate anew when it exceeds what "
            "the calibration may lose. Noise is included: more light lowers that part.",
        ),
        Finding(
            name,
            f"{walk.rms_rad:.3g} rad rms{apart}",
            f"below 0.5 rad{proviso}",
            walk.rms_rad < 0.5 if known else None,
            "Shield the arms from air and vibration; or expose faster.",
        ),
    ]
    rate = ""
    if times is not None:
        span_s = float(times[-1] - times[0])
        phase_rate = _slope(times, steady.phase_rad)
        found.append(
            Finding(
                "phase drift",
                f"{phase_rate:+.3g} rad/s over {span_s:.3g} s",
                "below 1 rad/s",
                abs(phase_rate) < 1 if span_s >= _LONG_S else None,
                "Let the interferometer warm up, shield its arms; make sequences shorter, so that "
                "their markers follow it.",
            )
        )
        if span_s >= _LONG_S:
            rates = [60 * _slope(times, steady.carrier[:, axis]) for axis in (0, 1)]
            rate = f", {max(rates, key=abs):+.2g} a minute"
    found.append(
        Finding(
            "carrier moved by",
            f"{moved:.2g}{rate}",
            f"below 1e-4{proviso}",
            moved < 1e-4 if known else None,
            "The reference beam drifts: clamp its mirrors, let the bench warm up.",
        )
    )
    return found


def _slope(times_s: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """Of the straight line through values, a second."""
    about = times_s - times_s.mean()
    return float(about @ (values - values.mean()) / (about @ about))


def _error(sigma: float) -> str:
    return f" ± {sigma:.1g}" if np.isfinite(sigma) else ""
