"""A look at the whole bench with a physicist's eye: each finding with its number and its limit.

Nothing here decides what a calibration is worth; it tells what to mend before one is made.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from calibration import drift, quality
from calibration.carrier import Carrier, find_carrier
from calibration.demodulation import Demodulator
from opu_driver.bench import Bench
from opu_driver.camera import FrameBlock
from opu_driver.errors import FrameError, OpuError
from opu_driver.layout import Layout

Progress = Callable[[str, int, int], None]
"""Told (stage, done, total)."""

_INPUTS = 64
_RUN = 128
_REPEATS = 8
_LOOKS = 60  # at the field, while its stability is watched
_NEIGHBOURS = 4  # all-on exposures a look: their scatter is the noise


class Verdict(StrEnum):
    """How a finding stands to its limit."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: What.
        value: What was found, with its unit, for people.
        number: The same as a number; None where it is none.
        limit: What it should be, for people.
        verdict: How it stands to that.
        advice: What to do about it; empty if all is well.
    """

    name: str
    value: str
    number: float | None
    limit: str
    verdict: Verdict
    advice: str = ""


def checkup(
    bench: Bench, *, stability_s: float = 60.0, seed: int = 0, progress: Progress | None = None
) -> Iterator[Finding]:
    """Look at an open bench, from its devices to its light; findings come as they are made.

    The exposure is fitted on the way. What cannot be measured because of an earlier failure is
    left out.

    Args:
        bench: An open bench.
        stability_s: How long the field is watched, seconds; on a simulated bench as many
            exposures as fit into it, up to 20 000, without waiting.
        seed: Seed of the random patterns.
        progress: Is told how far the watch is.
    """
    layout = bench.layout(_INPUTS)
    half_lit = layout.render(_bits(seed, _RUN))
    yield from _devices(bench)
    yield from _laser(bench)
    yield from _tried("dark level", _dark_level(bench))
    exposure = list(_tried("exposure", _exposure(bench, half_lit[:8])))
    yield from exposure
    if exposure[-1].number is None:
        return
    yield from _tried("trigger rate", _trigger(bench, half_lit))
    try:
        carrier = find_carrier(
            bench.expose(half_lit[:8]),
            saturation_level=bench.camera.saturation_level,
            black_level=bench.camera.black_level,
        )
        demodulate = Demodulator(bench.settings.region.shape, carrier)
    except OpuError as error:
        yield _failed("carrier", error)
        return
    yield from _fringes(carrier)
    yield from _tried("interference", _interference(bench, demodulate, layout, seed))
    yield from _tried("stability", _stability(bench, demodulate, stability_s, progress or _silent))


def _tried(name: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """The findings of one look, or that it failed, and why."""
    try:
        yield from findings
    except OpuError as error:
        yield _failed(name, error)


def _failed(name: str, error: OpuError) -> Finding:
    return Finding(name, "not measured", None, "can be measured", Verdict.FAIL, str(error))


def _silent(stage: str, done: int, total: int) -> None: ...


def _bits(seed: int, count: int) -> NDArray[np.uint8]:
    return np.random.default_rng([seed, 3]).integers(0, 2, (count, _INPUTS), np.uint8)


def _judged(
    name: str,
    number: float,
    value: str,
    limits: tuple[float, float],
    limit: str,
    advice: str,
    *,
    at_least: bool = False,
) -> Finding:
    """A finding against two limits: beyond the first a warning, beyond the second a failure."""
    sign = -1.0 if at_least else 1.0
    warn, fail = (sign * edge for edge in limits)
    verdict = Verdict.PASS
    if not sign * number <= warn:
        verdict = Verdict.WARN if sign * number <= fail else Verdict.FAIL
    return Finding(name, value, number, limit, verdict, "" if verdict is Verdict.PASS else advice)


def _devices(bench: Bench) -> Iterator[Finding]:
    for kind, who in bench.identities.items():
        firmware = f", firmware {who.firmware}" if who.firmware else ""
        told = bool(who.vendor and who.model and who.serial)
        yield Finding(
            kind,
            f"{who}{firmware}",
            None,
            "says who it is",
            Verdict.PASS if told else Verdict.WARN,
            "" if told else "Without a serial number a calibration cannot tell devices apart.",
        )


def _laser(bench: Bench) -> Iterator[Finding]:
    status = bench.laser.status
    yield Finding(
        "laser",
        status.obstacle or f"ready, {bench.power_mw:g} mW set",
        bench.power_mw,
        "interlock closed, key on, no fault",
        Verdict.FAIL if status.obstacle else Verdict.PASS,
        f"Remove what forbids emission: {status.obstacle}." if status.obstacle else "",
    )


def _dark_level(bench: Bench) -> Iterator[Finding]:
    frames = bench.dark_frames(8).astype(np.float64)
    black, full = bench.camera.black_level, bench.camera.saturation_level
    mean = float(frames.mean())
    noise = float(frames.std(axis=0, ddof=1).mean())
    yield _judged(
        "dark level",
        abs(mean - black) / full,
        f"{mean:.2f} grey values (the camera says {black:.2f}), noise {noise:.2f}",
        (0.01, 0.05),
        "within 1 % of full scale of what the camera says",
        "Light reaches the camera without the laser: close the box, switch off the room's light; "
        "or set the camera's black level.",
    )


def _exposure(bench: Bench, patterns: NDArray[np.uint8]) -> Iterator[Finding]:
    advice = bench.fit_exposure(np.concatenate([patterns, bench.layout(1).all_on()]))
    yield _judged(
        "saturation",
        advice.saturated_fraction,
        f"{advice.saturated_fraction:.2g} of the pixels at {advice.settings.exposure_us:.4g} us",
        (1e-4, 1e-3),
        "below 1e-4",
        "Lower the laser power: the exposure could not be made short enough.",
    )


def _trigger(bench: Bench, patterns: NDArray[np.uint8]) -> Iterator[Finding]:
    """Whether every edge gives its frame, how late, at which rate, and by which clock."""
    limit = "a frame for every edge"
    fitted, fastest_hz = bench.settings, bench.rate_hz
    first_error: OpuError | None = None
    for slowdown in (1, 2, 4, 8):
        delay_us = slowdown * 1e6 / fastest_hz - fitted.exposure_us if slowdown > 1 else None
        try:
            if delay_us is not None:
                bench.configure(replace(fitted, trigger_delay_us=delay_us))
            rate_hz = bench.rate_hz
            sequences = list(bench.stream([patterns]))
        except FrameError as error:
            first_error = first_error or error
            continue
        finally:
            bench.configure(fitted)
        lag = bench.frame_offset or 0
        yield Finding(
            "frame to pattern",
            f"{lag} frames late" if lag else "no frame late",
            lag,
            "the same frame; a constant lag is made up for",
            Verdict.WARN if lag else Verdict.PASS,
            "The camera is exposed once before the first pattern: look at the trigger line's idle "
            "level and at the modulator's trigger output."
            if lag
            else "",
        )
        yield Finding(
            "trigger rate",
            f"{rate_hz:,.0f} Hz, {len(patterns)} patterns without loss",
            rate_hz,
            limit,
            Verdict.PASS if slowdown == 1 else Verdict.WARN,
            ""
            if first_error is None
            else f"At a higher rate frames were lost ({first_error}) Look at the trigger line.",
        )
        yield _clock(sequences, rate_hz)
        return
    if first_error is not None:
        raise first_error


def _clock(sequences: Sequence[FrameBlock], rate_hz: float) -> Finding:
    limit = "within 0.1 % of the modulator's"
    times = np.concatenate([sequence.timestamps_us for sequence in sequences])
    if np.isnan(times).any():
        return Finding(
            "clocks",
            "the camera keeps no time",
            None,
            limit,
            Verdict.WARN,
            "Lost triggers can then be told by the frame counter and the markers alone.",
        )
    periods = np.diff(times) * rate_hz / 1e6
    off = float(np.median(periods) - 1)
    scatter = float(periods.std())
    return _judged(
        "clocks",
        abs(off),
        f"{round(1e6 * off):+d} ppm, jitter {1e6 * scatter / rate_hz:.2g} us",
        (1e-3, 1e-2),
        limit,
        "Camera and modulator disagree about time: look for missed or doubled triggers, or a "
        "modulator that rounds its picture time.",
    )


def _fringes(carrier: Carrier) -> Iterator[Finding]:
    yield Finding(
        "carrier",
        f"({carrier.row:+.5f}, {carrier.column:+.5f}) cycles/pixel",
        carrier.modulus,
        f"at least three radii from zero ({3 * carrier.radius:.3f})",
        Verdict.PASS if carrier.modulus >= 3 * carrier.radius else Verdict.WARN,
        ""
        if carrier.modulus >= 3 * carrier.radius
        else "The sideband lies in |S|^2: tilt the reference more, or strengthen it.",
    )
    yield _judged(
        "speckle grain",
        carrier.grain,
        f"{carrier.grain:.2f} pixels",
        (3.0, 2.2),
        "3 pixels or more",
        "Make the grain coarser: a smaller aperture, or the camera farther away.",
        at_least=True,
    )


def _interference(
    bench: Bench, demodulate: Demodulator, layout: Layout, seed: int
) -> Iterator[Finding]:
    owner = np.random.default_rng([seed, 4]).integers(0, 3, _INPUTS)
    one_look = np.concatenate(
        [
            bench.layout(1).all_on(),
            layout.render(
                np.stack([owner == 0, owner == 1, owner < 2, owner < 0]).astype(np.uint8)
            ),
        ]
    )
    (sequence,) = bench.stream([np.tile(one_look, (_REPEATS, 1, 1))])
    fields = demodulate(sequence.frames).reshape(_REPEATS, len(one_look), -1)
    # Each look brings the phase reference for what follows it.
    gains = drift.factors(fields[:, 0], fields[0, 0])
    steady = (fields / gains[:, None, None]).astype(np.complex128)
    whole, a, b, both, off = steady.mean(axis=0)
    noise = float(np.var(steady, axis=0, ddof=1).mean()) / _REPEATS
    grey = float(sequence.frames[3 :: len(one_look)].mean(dtype=np.float64))
    visibility = quality.visibility(both - off, grey - bench.camera.black_level)
    yield _judged(
        "fringe visibility",
        visibility,
        f"{visibility:.1%}",
        (0.2, 0.05),
        "20 % or more",
        "Balance the arms (reference about four times the signal), align polarisations, and match "
        "the path lengths within the laser's coherence.",
        at_least=True,
    )
    deviation = float(np.mean(np.abs(a + b - both - off) ** 2)) - 4 * noise
    linear = math.sqrt(max(deviation, 0.0) / float(np.mean(np.abs(both - off) ** 2)))
    yield _judged(
        "linearity",
        linear,
        f"{linear:.2%} off, noise taken out",
        (0.03, 0.1),
        "3 % or less",
        "Look for saturation, for a grain near 2 pixels, and for a phase that moves within "
        "milliseconds.",
    )
    modulated = float(np.mean(np.abs(whole - off) ** 2))
    share = modulated / (modulated + float(np.mean(np.abs(off) ** 2)))
    yield _judged(
        "modulated light",
        share,
        f"{share:.1%} of the signal arm's light",
        (0.8, 0.3),
        "80 % or more",
        "Light reaches the medium past the mirrors: stop the window's reflection and the other "
        "orders, and fill the modulator evenly.",
        at_least=True,
    )


def _stability(
    bench: Bench, demodulate: Demodulator, stability_s: float, tell: Progress
) -> Iterator[Finding]:
    """Phase, power and form of the all-on field, looked at again and again."""
    real = any(d.address for d in (bench.modulator, bench.camera, bench.laser))
    on = np.repeat(bench.layout(1).all_on(), _NEIGHBOURS, axis=0)
    between_s = stability_s / _LOOKS
    # Simulated time passes by exposures alone.
    waiting = 0 if real else int(min(bench.rate_hz * between_s, 20_000 / _LOOKS))
    room = bench.modulator.capacity // 2
    looks = []
    begin = time.monotonic()
    for k in range(_LOOKS):
        (sequence,) = bench.stream([on])
        looks.append(demodulate(sequence.frames).reshape(_NEIGHBOURS, -1))
        tell("stability", k + 1, _LOOKS)
        if real:
            time.sleep(max(begin + (k + 1) * between_s - time.monotonic(), 0.0))
        for _ in range(0, waiting, room):
            bench.expose(np.repeat(on[:1], min(room, waiting), axis=0))
    fields = np.concatenate(looks)
    gains = drift.factors(fields, looks[0][0])
    steps = np.abs(np.angle(gains[1:] / gains[:-1]).reshape(-1))
    within = np.delete(steps, np.s_[_NEIGHBOURS - 1 :: _NEIGHBOURS])
    step = float(np.sqrt(np.mean(within**2)))
    yield _judged(
        "phase, frame to frame",
        step,
        f"{step:.2g} rad rms",
        (0.1, 0.3),
        "0.1 rad or less",
        "Damp the table, cover the interferometer, shorten its arms: references cannot follow "
        "what happens within a frame or two.",
    )
    swing = float(np.abs(gains).std() / np.abs(gains).mean())
    yield _judged(
        "signal, over the watch",
        swing,
        f"{swing:.2%} rms",
        (0.05, 0.2),
        "5 % or less",
        "Let the laser warm up, and look at its power.",
    )
    noise = drift.noise(looks[0], drift.factors(looks[0], looks[0][0]))
    fidelity = drift.fidelity(fields, np.mean(looks[0], axis=0), noise)
    last = float(fidelity[-_NEIGHBOURS:].mean())
    yield _judged(
        "fidelity, at its end",
        last,
        f"{last:.4f} after {stability_s:g} s",
        (0.98, 0.9),
        "0.98 or more",
        "The medium or the alignment moves: fix the scatterer, wait for the temperature, and "
        "calibrate more often than this.",
        at_least=True,
    )
