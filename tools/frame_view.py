"""Frames of any file, measured: what `frame_findings` judges and `frame_page` draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from calibration.carrier import Carrier, find_carrier
from calibration.demodulation import Demodulator
from calibration.grey_values import GreyValues, guess_full_scale
from calibration.plain_fringes import PlainFringes
from calibration.speckle import GRAIN_FRAMES, Light, Steadiness, grain_size, likeness
from opu_driver.bench import MARKERS
from opu_driver.errors import InputError, OpuError, SaturationError
from opu_driver.exposure_run import Role
from tools.frame_files import FrameFileError, FrameStack
from tools.frame_series import Alike, Series, frames_by_setting

if TYPE_CHECKING:
    from opu_driver.recording import Recording

CARRIER_FRAMES = 32
_SMALLEST = 32  # pixels a side
_DARK_FRAMES = 16
_CALM = 0.25  # of the frames' own deviation: frames without light show no speckle


@dataclass(frozen=True)
class Levels:
    """What grey values mean, and how that is known.

    Attributes:
        black: Grey value without light; 0 where nobody knows.
        black_known: Whether somebody does.
        full: Grey value of a full pixel; None where nothing tells.
        guess: Why full scale is taken as that; empty where it is known.
    """

    black: float
    black_known: bool
    full: float | None
    guess: str

    @classmethod
    def of(
        cls, stack: FrameStack, grey: GreyValues, black: float | None, full: float | None
    ) -> Self:
        """Those that were given, or that the file says, or that its values suggest.

        Raises:
            InputError: Levels for a recording, which knows them; or black above full.
        """
        if stack.recording is not None and (black is not None or full is not None):
            raise InputError(
                f"--black and --full: {stack.path} is a recording, which says both itself. Leave "
                "them out."
            )
        known = stack.black_level if black is None else black
        guess = ""
        if full is None:
            full = stack.saturation_level
        if full is None and (guessed := guess_full_scale(grey, stack.frames.dtype)) is not None:
            full, guess = guessed
        if full is not None and full <= (known or 0.0):
            raise InputError(
                f"--black {known:g} and full scale {full:g}: a full pixel is brighter than a black "
                "one. Give both, in the grey values of the file."
            )
        return cls(known or 0.0, known is not None, full, "" if guess == "8 bits" else guess)


@dataclass(frozen=True)
class Walk:
    """How far the phase goes from one frame to its neighbour.

    Attributes:
        rms_rad: Root mean square of the steps, radians.
        apart: Exposures from one to the next.
        apart_s: The same in seconds; None where nothing tells.
    """

    rms_rad: float
    apart: int
    apart_s: float | None

    @classmethod
    def of(cls, series: Series, demodulate: Demodulator) -> Self | None:
        """That of frames which follow each other; None for fewer than two."""
        if len(series) < 2:
            return None
        fields = demodulate(series.frames)
        gaps = np.diff(series.numbers)
        near = gaps == gaps.min()
        steps = np.angle(np.sum(fields[1:] * fields[:-1].conj(), axis=(1, 2)))[near]
        times = None if series.times_s is None else float(np.mean(np.diff(series.times_s)[near]))
        return cls(float(np.sqrt(np.mean(steps**2))), int(gaps.min()), times)


@dataclass(frozen=True)
class FrameView:
    """What can be measured on frames.

    Attributes:
        stack: The frames.
        grey: Their grey values, of all frames.
        levels: What these mean.
        light: Power, contrast and saturation.
        dark: Measured grey value without light, and what it was measured on.
        off_share: Light of frames with all inputs off over that with all on; None without any.
        grain: Size of a speckle grain and its error, pixels, by autocorrelation; None without any.
        carrier: Their carrier, or why there is none.
        plain: Their plain fringes, where there is no carrier of speckle; None without any.
        demodulate: What makes fields of them; None without fringes.
        visibility: Of the fringes; NaN without any.
        alike: Which of them ought to be alike.
        series: Some of those, over the recording.
        likeness: Correlation of each of the series with its first.
        steady: The series' fields against the first; None without fringes.
        walk: How far the phase goes between neighbours; None without fringes, or of one frame.
        missing: Frames that are missing; None where nothing counts them.
    """

    stack: FrameStack
    grey: GreyValues
    levels: Levels
    light: Light
    dark: tuple[float, str]
    off_share: float | None
    grain: tuple[float, float] | None
    carrier: Carrier | str
    plain: PlainFringes | None
    demodulate: Demodulator | None
    visibility: float
    alike: Alike
    series: Series
    likeness: NDArray[np.float64]
    steady: Steadiness | None
    walk: Walk | None
    missing: int | None

    @classmethod
    def of(
        cls,
        stack: FrameStack,
        *,
        black: float | None = None,
        full: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Self:
        """Measure frames.

        Args:
            stack: One frame at least.
            black: Grey value without light, where the file does not say it.
            full: Grey value of a full pixel, where the file does not say it.
            progress: Is told (frames done, frames in all).

        Raises:
            FrameFileError: Frames of less than 32 x 32 pixels.
            InputError: Levels that cannot be.
        """
        rows, columns = stack.frames.shape[1:]
        if min(rows, columns) < _SMALLEST:
            raise FrameFileError(
                f"{stack.path} holds frames of {rows} x {columns} pixels; {_SMALLEST} x "
                f"{_SMALLEST} are the least that speckle can be measured on. Give larger ones."
            )
        grey = GreyValues.of(stack.frames, progress)
        levels = Levels.of(stack, grey, black, full)
        carrier, setting = find_carrier_of(stack, levels)
        alike = Alike.of(stack, setting)
        series = alike.evenly()
        plain, demodulate, steady, walk, visibility = None, None, None, None, float("nan")
        if isinstance(carrier, str):
            plain = _plain(stack)
            demodulate = None if plain is None else plain.demodulate
        else:
            demodulate = Demodulator((rows, columns), carrier)
        if demodulate is not None and np.isfinite(series.frames).all():
            steady = Steadiness.of(series.frames, demodulate, black_level=levels.black)
            walk = Walk.of(alike.neighbours(), demodulate)
            visibility = steady.visibility
        return cls(
            stack,
            grey,
            levels,
            Light.from_grey(grey, black_level=levels.black, saturation_level=levels.full),
            _dark(stack, grey),
            _off_share(stack, levels.black),
            grain_size(stack.frames[:GRAIN_FRAMES]),
            carrier,
            plain,
            demodulate,
            visibility,
            alike,
            series,
            likeness(series.frames),
            steady,
            walk,
            _missing(stack),
        )

    @property
    def first_field(self) -> NDArray[np.complex64] | None:
        """The field of the first frame, complex64 `[grid row, grid column]`, if it has one."""
        if self.demodulate is None or self.steady is None:
            return None
        fields = self.demodulate(self.series.frames[:1])
        return np.asarray(fields[0], np.complex64)

    @property
    def power(self) -> NDArray[np.float64]:
        """float64 `[frame]`, mean above black of each frame of the series."""
        means = self.series.frames.mean(axis=(1, 2), dtype=np.float64)
        return np.asarray(means - self.levels.black, np.float64)

    def figures(self) -> dict[str, Any]:
        """All numbers, for JSON."""
        steady, plain = self.steady, self.plain
        return {
            "source": self.stack.source,
            "frames": len(self.stack),
            "mean_grey": float(self.grey.frame_mean.mean()),
            "black_level": self.levels.black if self.levels.black_known else None,
            "dark_level": self.dark[0],
            "full_scale": self.levels.full,
            "contrast": self.light.contrast,
            "contrast_sigma": self.light.contrast_sigma,
            "saturated_fraction": self.light.saturated_fraction,
            "grain": self.grain,
            "carrier": self.carrier,
            "plain_fringes": None if plain is None else plain.tone,
            "visibility": self.visibility,
            "power": self.light.power,
            "likeness": self.likeness,
            "times_s": self.series.times_s,
            "phase_rad": None if steady is None else steady.phase_rad,
            "fidelity": None if steady is None else steady.fidelity,
            "walk": self.walk,
            "lost": self.missing,
        }


def find_carrier_of(stack: FrameStack, levels: Levels) -> tuple[Carrier | str, int]:
    """The carrier of the first frames of one setting, or why there is none; and which setting.

    It is the setting that there are most frames of, of those whose frames are not saturated.
    """
    told = "There are no frames."
    by_setting = frames_by_setting(stack)
    for setting, numbers in by_setting.items():
        try:
            frames = stack.frames[numbers[:CARRIER_FRAMES]]
            found = find_carrier(frames, saturation_level=levels.full, black_level=levels.black)
        except SaturationError as error:
            told = str(error)
        except OpuError as error:
            return str(error), setting
        else:
            return found, setting
    return told, next(iter(by_setting), 0)


def _plain(stack: FrameStack) -> PlainFringes | None:
    try:
        return PlainFringes.of(stack.frames[0])
    except OpuError:  # why there is no carrier of speckle is told, and stands for both
        return None


def _dark(stack: FrameStack, grey: GreyValues) -> tuple[float, str]:
    """The grey value without light, from dark frames, or else at most that of dark pixels."""
    if stack.recording is not None and (frames := _dark_frames(stack.recording, grey)) is not None:
        return float(frames.mean(dtype=np.float64)), f"{len(frames)} dark frames"
    return grey.histogram.quantile(1e-3), "darkest pixels"


def _dark_frames(recording: Recording, grey: GreyValues) -> NDArray[Any] | None:
    """Frames without markers that show no light either: others were exposed to find a lag."""
    roles = recording.roles
    for run in recording.runs:
        if run.count and (roles[run.first : run.first + run.count] == Role.DARK).all():
            frames = recording.exposures(run.first, run.first + _DARK_FRAMES).frames[: run.count]
            calm = frames[0].std() < _CALM * float(np.nanmean(grey.frame_deviation))
            if calm and frames.mean() < grey.histogram.quantile(0.5):
                return np.asarray(frames)
    return None


def _off_share(stack: FrameStack, black: float) -> float | None:
    if stack.recording is None:
        return None
    markers = np.flatnonzero(stack.recording.roles == Role.MARKER)[:MARKERS]
    if len(markers) < MARKERS:
        return None
    on, off = (
        float(stack.recording.exposures(int(n), int(n) + 1).frames.mean()) - black
        for n in markers[1:]
    )
    return off / on if on > 0 else None


def _missing(stack: FrameStack) -> int | None:
    if stack.recording is None:
        return None
    return sum(max(run.lost, run.shown - run.count) for run in stack.recording.runs)
