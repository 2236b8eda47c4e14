"""Frames of any file, measured: each number with what it should be and what to do if it is not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from calibration.carrier import MAX_SATURATED_FRACTION, Carrier, find_carrier
from calibration.speckle import Light, Steadiness, grain_size, likeness
from opu_driver.bench import MARKERS
from opu_driver.errors import OpuError
from opu_driver.exposure_run import Role
from tools.frame_files import FrameStack

if TYPE_CHECKING:
    from calibration.demodulation import Demodulation
    from tools.report import Report

_CARRIER_FRAMES = 32
_SERIES_FRAMES = 64
_COARSEST = 9.9  # pixels; coarser grains are not told apart

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


@dataclass(frozen=True)
class FrameView:
    """What can be measured on frames.

    Attributes:
        stack: The frames.
        light: Their grey values.
        grain: Size of a speckle grain and its error, pixels, by autocorrelation; None without any.
        carrier: Their carrier, or why there is none.
        demodulator: What makes fields of them; None without a carrier.
        series: Frames `[frame, row, column]` of one and the same pattern, over the recording.
        alike: Correlation of each of the series with its first.
        steady: The series' fields against the first; None without a carrier.
        missing: Frames that are missing; None where nothing counts them.
    """

    stack: FrameStack
    light: Light
    grain: tuple[float, float] | None
    carrier: Carrier | str
    demodulator: Demodulation | None
    series: NDArray[Any]
    alike: NDArray[np.float64]
    steady: Steadiness | None
    missing: int | None

    @classmethod
    def of(cls, stack: FrameStack) -> Self:
        """Measure frames; there has to be one at least, of 32 x 32 pixels."""
        black = stack.black_level or 0.0
        full = stack.saturation_level
        carrier: Carrier | str
        try:
            carrier = find_carrier(
                stack.frames[:_CARRIER_FRAMES], saturation_level=full, black_level=black
            )
        except OpuError as error:
            carrier = str(error)
        series = _series(stack)
        demodulator, steady = None, None
        if not isinstance(carrier, str):
            from calibration.demodulation import Demodulator

            demodulator = Demodulator(stack.frames.shape[1:], carrier)
            steady = Steadiness.of(series, demodulator, black_level=black)
        return cls(
            stack,
            Light.of(stack.frames, black_level=black, saturation_level=full),
            grain_size(stack.frames),
            carrier,
            demodulator,
            series,
            likeness(series),
            steady,
            _missing(stack),
        )

    def findings(self) -> list[Finding]:
        """The numbers, one by one."""
        return [*self._of_light(), *self._of_fringes(), *self._of_time()]

    def _of_light(self) -> list[Finding]:
        light, full = self.light, self.stack.saturation_level
        black = self.stack.black_level
        mean = float(light.power.mean())
        found = [
            Finding("dark level", "not known" if black is None else f"{black:.4g} grey values"),
            Finding("darkest pixels", f"{light.darkest:.4g} grey values", "just above black"),
        ]
        if full is not None:
            share = mean / (full - (black or 0.0))
            found += [
                Finding(
                    "mean above black",
                    f"{mean:.4g} grey values, {share:.1%} of full scale",
                    "5 % to 30 %",
                    0.05 <= share <= 0.3,
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
        return [
            *found,
            Finding(
                "contrast",
                f"{light.contrast:.3f}" + _error(light.contrast_sigma),
                "0.3 to 1",
                0.3 <= light.contrast <= 1.1,
                "Low: something blurs the speckle (vibration, incoherent light, stray light); "
                "high: few bright spots. Look at the frame.",
            ),
        ]

    def _of_fringes(self) -> list[Finding]:
        size = (
            Finding("speckle grain", "none", "3 to 8 pixels", False, "No speckle: check the focus.")
            if self.grain is None
            else Finding(
                "speckle grain",
                f"{self.grain[0]:.2f}{_error(self.grain[1])} pixels"
                if self.grain[0] < _COARSEST
                else f"{_COARSEST:g} pixels or more",
                "3 to 8 pixels",
                3 <= self.grain[0] <= 8,
                "Set the aperture or the magnification: finer grains cannot be resolved with their "
                "fringes, coarser ones waste pixels.",
            )
        )
        if isinstance(self.carrier, str) or self.steady is None:
            none = Finding("carrier of speckle", "none", "one", False, str(self.carrier))
            return [size, none, *_plain_fringes(self.stack.frames[0])]
        c = self.carrier
        reach = max(abs(c.row), abs(c.column)) + c.radius
        return [
            size,
            Finding(
                "carrier",
                f"({c.row:+.6f} ± {c.row_sigma:.1g}, {c.column:+.6f} ± {c.column_sigma:.1g}) "
                "cycles/pixel",
            ),
            Finding(
                "sideband radius", f"{c.radius:.4f} ± {c.radius_sigma:.1g}, grain {c.grain:.2f} px"
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
                f"{reach:.3f} cycles/pixel",
                "below 0.5",
                reach < 0.5,
                "Tilt the reference less, or make the speckle coarser: it aliases.",
            ),
            Finding(
                "fringe visibility",
                f"{self.steady.visibility:.1%}",
                "20 % or more",
                self.steady.visibility >= 0.2,
                "Balance the arms (reference to signal about 4:1), check path lengths and shaking.",
            ),
        ]

    def _of_time(self) -> list[Finding]:
        power = self.series.mean(axis=(1, 2), dtype=np.float64) - (self.stack.black_level or 0.0)
        found = []
        if self.missing is not None:
            found.append(
                Finding(
                    "lost frames",
                    str(self.missing),
                    "0",
                    self.missing == 0,
                    "Lower the rate, check cable, buffers and trigger line.",
                )
            )
        if len(power) > 1 and power.mean() > 0:
            spread = float(power.std() / power.mean())
            found.append(
                Finding(
                    "power over time",
                    f"{spread:.2%} rms over {len(power)} frames of one pattern",
                    "below 2 %",
                    spread < 0.02,
                    "Let the laser warm up; look at its power, and at what cuts the beam.",
                )
            )
        if len(self.series) > 1:
            found.append(
                Finding(
                    "likeness, last to first",
                    f"{self.alike[-1]:.4f} over {len(self.series)} frames of one pattern",
                    "above 0.9",
                    bool(self.alike[-1] > 0.9),
                    "The speckle has changed: calm the medium, wait for it to warm up; or these "
                    "frames show different patterns.",
                )
            )
        if len(self.series) > 1 and self.steady is not None:
            walk = float(np.sqrt(np.mean(np.diff(self.steady.phase_rad) ** 2)))
            moved = float(np.abs(self.steady.carrier).max())
            found += [
                Finding(
                    "decorrelation of the field",
                    f"{1 - self.steady.fidelity[-1]:.2%}",
                    "below 5 %, noise included",
                    bool(self.steady.fidelity[-1] > 0.95),
                    "Mount the medium more firmly, shield it from air; calibrate anew when it "
                    "exceeds what the calibration may lose.",
                ),
                Finding(
                    "phase, frame to frame",
                    f"{walk:.3g} rad rms",
                    "below 0.5 rad",
                    walk < 0.5,
                    "Shield the arms from air and vibration; or expose faster.",
                ),
                Finding(
                    "carrier moved by",
                    f"{moved:.2g} cycles/pixel at most",
                    "below 1e-4",
                    moved < 1e-4,
                    "The reference beam drifts: clamp its mirrors, let the bench warm up.",
                ),
            ]
        return found

    def figures(self) -> dict[str, Any]:
        """All numbers, for JSON."""
        steady = self.steady
        return {
            "source": self.stack.source,
            "frames": len(self.stack),
            "mean_grey": float(self.light.mean.mean()),
            "contrast": self.light.contrast,
            "contrast_sigma": self.light.contrast_sigma,
            "saturated_fraction": self.light.saturated_fraction,
            "grain": self.grain,
            "carrier": self.carrier,
            "visibility": None if steady is None else steady.visibility,
            "power": self.light.power,
            "likeness": self.alike,
            "phase_rad": None if steady is None else steady.phase_rad,
            "fidelity": None if steady is None else steady.fidelity,
            "lost": self.missing,
            "findings": [finding.cells for finding in self.findings()],
        }

    def add_to(self, report: Report) -> None:
        """The pictures and the table."""
        from calibration import figures, frame_figures

        found = self.findings()
        report.section("Figures", "What was measured, and what it should be.")
        report.table(COLUMNS, [finding.cells for finding in found])
        for finding in found:
            if finding.good is False:
                report.note(f"{finding.name}: {finding.remedy}")
        full = self.stack.saturation_level
        report.section("The frames")
        if not isinstance(self.carrier, str):
            report.figure(
                figures.frame_figure(self.stack.frames[0], self.carrier, saturation_level=full),
                "The first frame",
                "Enlarged: the fringes on the speckle grains.",
            )
        report.figure(
            frame_figures.light_figure(self.light),
            "Mean and deviation",
            "What stays in the mean of different speckle is the illumination, stray light and "
            "dust; what does not change at all is dark or dead in the deviation.",
        )
        if full is not None:
            report.figure(
                figures.exposure_figure(
                    self.stack.frames[:_CARRIER_FRAMES],
                    black_level=self.stack.black_level or 0.0,
                    saturation_level=full,
                ),
                "Grey values",
                "Pixels at the right edge are full: what they saw is lost.",
                width_px=680,
            )
        if self.demodulator is not None and not isinstance(self.carrier, str):
            some = self.stack.frames[:_CARRIER_FRAMES]
            report.section("The field")
            report.figure(
                figures.spectrum_figure(some, self.carrier),
                "Spectrum",
                "The sideband must touch neither the dotted disc of |S|² nor the edge.",
                width_px=680,
            )
            report.figure(
                figures.field_figure(
                    self.demodulator(some[:1])[0], self.carrier, self.demodulator.decimation
                ),
                "The demodulated field",
                "Of the first frame.",
            )
        report.section("Over the recording")
        report.figure(
            frame_figures.course_figure(self.light, self.alike, self.steady),
            "How steady it was",
            f"Power of all {len(self.light.power)} frames; the others are of {len(self.series)} "
            "frames of one pattern (the markers, where there are several patterns), each against "
            "the first.",
        )


def _plain_fringes(frame: NDArray[Any]) -> list[Finding]:
    """The frequency of the fringes of a hologram without speckle, if it has any."""
    from calibration.tone import find_tone

    try:
        tone = find_tone(frame)
    except OpuError:
        return []
    return [
        Finding(
            "plain fringes",
            f"({tone.row:+.6f} ± {tone.row_sigma:.1g}, {tone.column:+.6f} ± "
            f"{tone.column_sigma:.1g}) cycles/pixel, amplitude {tone.amplitude:.3g}",
        )
    ]


def _error(sigma: float) -> str:
    return f" ± {sigma:.1g}" if np.isfinite(sigma) else ""


def _series(stack: FrameStack) -> NDArray[Any]:
    """Frames of one pattern, evenly over the whole: markers where patterns differ."""
    recording = stack.recording
    if recording is not None and len(np.unique(recording.shown)) > 1:
        markers = np.flatnonzero(recording.roles == Role.MARKER)
        numbers = markers[np.arange(len(markers)) % MARKERS != MARKERS - 1]  # the last is dark
        if len(numbers) > 1:
            numbers = numbers[_evenly(len(numbers))]
            frames = [recording.exposures(int(n), int(n) + 1).frames[0] for n in numbers]
            return np.stack(frames)
        numbers = np.flatnonzero(recording.shown == recording.shown[0])
        return np.asarray(stack.frames[numbers[_evenly(len(numbers))]])
    return np.asarray(stack.frames[_evenly(len(stack))])


def _evenly(count: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, count - 1, min(count, _SERIES_FRAMES)).round().astype(np.int64))


def _missing(stack: FrameStack) -> int | None:
    if stack.recording is None:
        return None
    return sum(max(run.lost, run.shown - run.count) for run in stack.recording.runs)
