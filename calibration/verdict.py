"""What becomes of a calibration's figures: each passes, warns or fails, and failures have names.

Limits follow theory at the measured signal to noise. An error is split into the part that noise
makes and the unexplained rest, in squares: what is limited is the rest, so that an honest dim bench
passes (with a warning that says what it will reach), and a bright one that is off by as much fails.
A medium that loses 1 - F of its fidelity from the first to the last quarter of a measurement leaves
an unexplained error of (2/3) sqrt(1 - F), whence the limit of the stability.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TypedDict, Unpack

from calibration.errors import (
    DeadPixelsError,
    HalfPlaneError,
    NoiseError,
    NonlinearityError,
    QualityError,
    SingularValuesError,
    UnsteadyError,
)
from calibration.quality import Quality

_WORRYING = 1 / 3  # of what is allowed: from there on there is a warning
_NOISY = 0.3  # relative error of a projection beyond which a bench is called dim
_DEVIATIONS = 5.0  # standard deviations of chance that no limit counts
_PROBES = 16  # vectors that an error is measured on: more do not make it surer


_ADVICE = {
    "dead_fraction": "Pixels that never change carry no field, and leak |S|^2 into that of others: "
    "choose a region without them, or look at the camera.",
    "dark_modes": "No light of the modulator reaches these modes: dead pixels, dust, or a region "
    "beyond the speckle. Choose a region that is lit all over.",
    "saturated_fraction": "Shorten the exposure or lower the laser power.",
    "conjugate_correlation": "Measured fields are the complex conjugates of the predicted ones: "
    "the fringes tilt the other way than before, or the camera's image was turned over. Find out "
    "what has moved, and calibrate anew.",
    "snr": "Fields of the same pattern do not repeat: there is noise and no signal. Check that the "
    "light of the modulator reaches the camera and is coherent with the reference.",
    "visibility": "The fringes are faint: balance the two arms, and look at the laser's coherence, "
    "at the polarisations, and for vibrations during the exposure.",
    "split_half": "Noise makes much of the matrix: show the vectors more often (repeats), lengthen "
    "the exposure or raise the power.",
    "stability": "The field of all inputs on has changed during the measurement: medium or "
    "alignment move. Let the bench warm up, calm it, or measure faster (fewer repeats or inputs).",
    "linearity": "Fields do not add up as noise alone would let them: look for saturation, for "
    "|S|^2 in the sideband (more reference, coarser grain), and for a medium that moves.",
    "law_deviation": "Singular values leave the law of random matrices: there are inputs without "
    "light (a beam smaller than the modulator), or a field common to all inputs.",
    "distance_scatter": "Distances are not kept as by a random matrix of so many modes: fewer are "
    "independent than grain and region promise.",
    "held_out_correlation": "Vectors that were not used for the matrix are not predicted as well "
    "as noise would allow: look at the stability of the interferometer.",
    "held_out_error": "What theory expects is noise: more light or more repeats lower it. What is "
    "beyond comes from drift, from saturation or from a medium that moves.",
}


@dataclass(frozen=True)
class QualityLimits:
    """What a calibration must reach to be used, beyond what theory asks for.

    Attributes:
        unexplained: Relative error that noise does not explain: at most.
        split_half: Correlation of the matrix with the truth: at least.
        visibility: At least.
        saturated_fraction: At most.
        dead_fraction: Of the pixels, at most; of the modes without light, four times as much.
        law_deviation: From the law of random matrices, beyond what so few modes explain: at most.
            Infinite for a medium that is no random one, such as a short fibre.
        distance_scatter: Over that of a random matrix: at most. Likewise.
    """

    unexplained: float = 0.1
    split_half: float = 0.8
    visibility: float = 0.05
    saturated_fraction: float = 1e-3
    dead_fraction: float = 0.01
    law_deviation: float = 0.1
    distance_scatter: float = 2.5


class Verdict(StrEnum):
    """What becomes of a figure."""

    PASS = "pass"
    WARNING = "warning"
    FAIL = "FAIL"
    UNKNOWN = "not measured"


@dataclass(frozen=True)
class Finding:
    """One figure beside its limit.

    Attributes:
        name: The attribute of `Quality`.
        value: What was measured.
        expected: What theory expects of a perfect bench at this signal to noise; NaN if nothing.
        limit: What it must reach.
        at_most: Whether the limit is an upper one.
        verdict: What becomes of it.
        advice: What to do about it; empty if it passes.
        cause: The error that it raises if it fails.
    """

    name: str
    value: float
    expected: float
    limit: float
    at_most: bool
    verdict: Verdict
    advice: str
    cause: type[QualityError]


class _Judged(TypedDict):
    """By what a figure is judged: its limit, and the value from which on there is a warning."""

    limit: float
    worrying: float
    expected: float
    cause: type[QualityError]


def findings(quality: Quality, limits: QualityLimits | None = None) -> list[Finding]:
    """All figures that have limits, causes before what they cause.

    Args:
        quality: The figures.
        limits: What they must reach beyond theory; None for the defaults.
    """
    return list(_findings(quality, limits or QualityLimits()))


def check(quality: Quality, limits: QualityLimits | None = None) -> None:
    """Refuse a calibration whose figures lie outside their limits.

    Args:
        quality: The figures.
        limits: What they must reach beyond theory; None for the defaults.

    Raises:
        QualityError: Its subclass names the first cause (`NoiseError`, `DeadPixelsError`,
            `HalfPlaneError`, `UnsteadyError`, `NonlinearityError`, `SingularValuesError`);
            the message each figure that fails (or was not measured), its value and its limit.
    """
    failed = [
        found
        for found in findings(quality, limits)
        if found.verdict in (Verdict.FAIL, Verdict.UNKNOWN)
    ]
    if failed:
        told = ", ".join(
            f"{f.name} = {f.value:.4g} ({'at most' if f.at_most else 'at least'} {f.limit:.3g})"
            for f in failed
        )
        raise failed[0].cause(f"The calibration is not good enough: {told}. {failed[0].advice}")


def _findings(q: Quality, limits: QualityLimits) -> Iterator[Finding]:
    n_inputs = max(len(q.singular_values), 1)
    samples = q.effective_modes * min(n_inputs, _PROBES)
    chance = _DEVIATIONS / math.sqrt(samples)  # of a power that is measured
    allowed, worrying = limits.unexplained, limits.unexplained * _WORRYING

    def error(noise: float, unexplained: float) -> float:
        return math.sqrt(noise**2 * (1 + chance) + unexplained**2)

    def agreement(noise: float, unexplained: float) -> float:
        return 1 / math.sqrt(1 + noise**2 * (1 + chance) + unexplained**2)

    yield _at_most(
        "dead_fraction",
        q.dead_fraction,
        limit=limits.dead_fraction,
        worrying=limits.dead_fraction / 10,
        expected=0.0,
        cause=DeadPixelsError,
    )
    yield _at_most(
        "dark_modes",
        q.dark_modes,
        limit=4 * limits.dead_fraction,
        worrying=2 * limits.dead_fraction,
        expected=math.nan,
        cause=DeadPixelsError,
    )
    yield _at_most(
        "saturated_fraction",
        q.saturated_fraction,
        limit=limits.saturated_fraction,
        worrying=limits.saturated_fraction / 2,
        expected=0.0,
        cause=QualityError,
    )
    yield _at_most(
        "conjugate_correlation",
        q.conjugate_correlation,
        limit=0.5,
        worrying=0.5 * _WORRYING + chance,
        expected=1 / math.sqrt(samples),
        cause=HalfPlaneError,
    )
    yield _at_least(
        "snr",
        q.snr,
        limit=chance,
        worrying=4 * chance,
        expected=math.nan,
        cause=NoiseError,
    )
    yield _at_least(
        "visibility",
        q.visibility,
        limit=limits.visibility,
        worrying=4 * limits.visibility,
        expected=math.nan,
        cause=QualityError,
    )
    yield _at_least(
        "split_half",
        q.split_half,
        limit=max(limits.split_half, agreement(q.matrix_noise, allowed)),
        worrying=max(0.95, agreement(q.matrix_noise, worrying)),
        expected=1 / math.sqrt(1 + q.matrix_noise**2),
        cause=NoiseError,
    )
    surely = _DEVIATIONS / math.sqrt(q.effective_modes * max(q.snr, 1e-12))
    yield _at_least(
        "stability",
        q.stability,
        limit=1 - 2.25 * allowed**2 - surely,
        worrying=1 - 2.25 * worrying**2 - surely,
        expected=1.0,
        cause=UnsteadyError,
    )
    yield _at_most(
        "linearity",
        q.linearity,
        limit=error(q.linearity_noise, allowed),
        worrying=error(q.linearity_noise, worrying),
        expected=q.linearity_noise,
        cause=NonlinearityError,
    )
    yield _at_most(
        "law_deviation",
        q.law_deviation if n_inputs < q.effective_modes else 0.0,
        limit=limits.law_deviation + 3 / math.sqrt(q.effective_modes),
        worrying=0.05 + 1.5 / math.sqrt(q.effective_modes),
        expected=1 / math.sqrt(q.effective_modes),
        cause=SingularValuesError,
    )
    kept = (1 + 1 / max(q.snr, 1e-12)) / math.sqrt(q.effective_modes)
    yield _at_most(
        "distance_scatter",
        q.distance_scatter,
        limit=limits.distance_scatter * kept,
        worrying=1.75 * kept,
        expected=kept,
        cause=SingularValuesError,
    )
    apart = _noise_between(q.held_out_noise, q.matrix_noise)
    yield _at_least(
        "held_out_correlation",
        q.held_out_correlation,
        limit=agreement(apart, allowed),
        worrying=agreement(apart, worrying),
        expected=1 / math.sqrt(1 + apart**2),
        cause=QualityError,
    )
    yield _at_most(
        "held_out_error",
        q.held_out_error,
        limit=error(q.held_out_noise, allowed),
        worrying=min(error(q.held_out_noise, worrying), _NOISY),
        expected=q.held_out_noise,
        cause=QualityError,
    )


def _noise_between(held_out_noise: float, matrix_noise: float) -> float:
    """The n of a correlation 1 / sqrt(1 + n^2) between noisy fields and a noisy prediction.

    With noise 1/SNR of the fields and eps^2 of the matrix, 1 + n^2 = (1 + 1/SNR)(1 + eps^2).
    """
    if math.isinf(held_out_noise):
        return math.inf
    predicted = 1 + matrix_noise**2
    noisy_fields = 1 + held_out_noise**2 * predicted - matrix_noise**2
    return math.sqrt(max(noisy_fields * predicted - 1, 0.0))


def _at_most(name: str, value: float, **judged: Unpack[_Judged]) -> Finding:
    return _finding(name, value, at_most=True, **judged)


def _at_least(name: str, value: float, **judged: Unpack[_Judged]) -> Finding:
    return _finding(name, value, at_most=False, **judged)


def _finding(name: str, value: float, *, at_most: bool, **judged: Unpack[_Judged]) -> Finding:
    def beyond(bound: float) -> bool:
        return value > bound if at_most else value < bound

    if math.isnan(value):
        verdict = Verdict.UNKNOWN
    elif beyond(judged["limit"]):
        verdict = Verdict.FAIL
    elif beyond(judged["worrying"]):
        verdict = Verdict.WARNING
    else:
        verdict = Verdict.PASS
    return Finding(
        name=name,
        value=value,
        expected=judged["expected"],
        limit=judged["limit"],
        at_most=at_most,
        verdict=verdict,
        advice="" if verdict is Verdict.PASS else _ADVICE[name],
        cause=judged["cause"],
    )
