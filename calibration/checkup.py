"""A look at the whole bench with a physicist's eye: each finding with its number and its limit.

Nothing here decides what a calibration is worth; it tells what to mend before one is made.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from calibration import drift, quality, trigger_line
from calibration.carrier import Carrier, find_carrier
from calibration.checkup_finding import Finding, Verdict, failed, finding, judged
from calibration.demodulation import Demodulator
from opu_driver.bench import Bench
from opu_driver.camera import FrameBlock
from opu_driver.errors import OpuError
from opu_driver.modulator import Patterns

Progress = Callable[[str, int, int], None]
"""Told (stage, done, total)."""

_INPUTS = 64
_RUN = 128
_REPEATS = 8
_EXPOSURES = (0.25, 0.5, 0.75, 1.0)  # of the fitted one: grey values from 1/32 of full scale to 1/8
_LOOKS = 60  # at the field, while its stability is watched
_NEIGHBOURS = 4  # all-on exposures a look: their scatter is the noise


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
    half_lit = bench.layout(_INPUTS).render(_bits(seed, _RUN))
    yield from _devices(bench)
    yield _firmware(bench)
    yield from _laser(bench)
    yield from _tried("trigger line", _edges(bench))
    rates = list(_tried("trigger rate", _rate(bench)))
    yield from rates
    with ExitStack() as restored:
        if rates[-1].verdict is not Verdict.PASS and rates[-1].number:
            # What comes next is not about the line.
            restored.enter_context(trigger_line.no_faster_than(bench, 0.95 * rates[-1].number))
        yield from _in_light(bench, half_lit, stability_s, seed, progress or _silent)


def _in_light(
    bench: Bench, half_lit: Patterns, stability_s: float, seed: int, tell: Progress
) -> Iterator[Finding]:
    """What can be seen once every edge gives its frame."""
    yield from _tried("dark level", _dark_level(bench))
    exposure = list(_tried("exposure", _exposure(bench, half_lit[:8])))
    yield from exposure
    if exposure[-1].number is None:
        return
    yield from _tried("linearity of grey values", _grey_linearity(bench, half_lit[:8]))
    yield from _tried("frame to pattern", _timing(bench, half_lit))
    try:
        carrier = find_carrier(
            bench.expose(half_lit[:8]),
            saturation_level=bench.camera.saturation_level,
            black_level=bench.camera.black_level,
        )
        demodulate = Demodulator(bench.settings.region.shape, carrier)
    except OpuError as error:
        yield failed("carrier", error)
        return
    yield from _fringes(carrier)
    yield from _tried("interference", _interference(bench, demodulate, seed))
    yield from _tried("stability", _stability(bench, demodulate, stability_s, tell))


def _tried(name: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """The findings of one look, or that it failed, and why."""
    try:
        yield from findings
    except OpuError as error:
        yield failed(name, error)


def _silent(stage: str, done: int, total: int) -> None: ...


def _bits(seed: int, count: int) -> NDArray[np.uint8]:
    return np.random.default_rng([seed, 3]).integers(0, 2, (count, _INPUTS), np.uint8)


def _devices(bench: Bench) -> Iterator[Finding]:
    for kind, who in bench.identities.items():
        told = bool(who.vendor and who.model and who.serial)
        yield Finding(
            kind,
            str(who),
            None,
            "says who it is",
            Verdict.PASS if told else Verdict.WARN,
            "" if told else "Without a serial number a calibration cannot tell devices apart.",
        )


def _firmware(bench: Bench) -> Finding:
    """Devices that tell none are nothing that a lab could mend."""
    told = {kind: who.firmware for kind, who in bench.identities.items()}
    return Finding(
        "firmware",
        ", ".join(f"{kind} {version or 'not told'}" for kind, version in told.items()),
        sum(map(bool, told.values())),
        "for the record: what each device tells",
        Verdict.PASS,
    )


def _laser(bench: Bench) -> Iterator[Finding]:
    status = bench.laser.status
    yield Finding(
        "leave to emit",
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
    # Variances are averaged: where rounding hides the noise in most pixels, deviations are too low.
    noise = float(np.sqrt(frames.var(axis=0, ddof=1).mean()))
    yield judged(
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
    yield judged(
        "saturation",
        advice.saturated_fraction,
        f"{advice.saturated_fraction:.2g} of the pixels at {advice.settings.exposure_us:.4g} us",
        (1e-4, 1e-3),
        "below 1e-4",
        "Lower the laser power: the exposure could not be made short enough.",
    )


def _edges(bench: Bench) -> Iterator[Finding]:
    """Whether every edge gives its frame."""
    counted = trigger_line.count(bench)
    where = "" if counted.slip is None else f"; they go wrong from frame {counted.slip} on"
    lost = f", {counted.lost} lost on the way" if counted.lost else ""
    frames = f"{counted.frames} frames{lost}"
    if trigger_line.stepped(bench):
        value = f"no line, stepped by software: {counted.edges} steps, {frames}"
        advice = (
            "The camera does not answer its software trigger each time: see its cable and driver."
        )
    else:
        value = f"{counted.edges} edges, {frames} at {counted.rate_hz:,.0f} Hz{where}"
        advice = (
            "The camera sees edges that nobody gave: terminate the line, raise its threshold, or "
            "set the camera's debouncer."
            if counted.frames > counted.edges
            else "Look at the line's level and length of pulse, at the camera's trigger source and "
            "edge, and at the trigger rate below."
        )
    yield finding(
        "trigger line",
        value,
        counted.frames - counted.edges,
        "a frame for every edge",
        Verdict.PASS if counted.whole else Verdict.FAIL,
        advice,
    )


def _rate(bench: Bench) -> Iterator[Finding]:
    """How fast patterns can follow each other without loss."""
    own_hz = bench.rate_hz
    top = trigger_line.top_rate(bench)
    number = top.rate_hz
    if trigger_line.stepped(bench):
        value = f"{number:,.1f} Hz without loss, stepped by software"
        limit, reached = "a frame for every step", bool(number)
    else:
        value = f"{number:,.0f} Hz without loss, at {top.exposure_us:.4g} us"
        limit = f"what modulator and camera allow, {top.ceiling_hz:,.0f} Hz"
        reached = top.worst is None
    if not number:
        value = "frames are lost at every rate"
    worst = "" if top.worst is None else f"{top.worst.frames} frames for {top.worst.edges} edges "
    yield finding(
        "trigger rate",
        value,
        number,
        limit,
        # As fast as it was set to is enough to work with.
        Verdict.PASS if reached else Verdict.WARN if number >= own_hz else Verdict.FAIL,
        f"There were {worst}at {top.worst.rate_hz if top.worst else 0:,.0f} Hz. Stay below "
        f"{number:,.0f} Hz by a longer exposure or trigger_delay_us, read a smaller region, or "
        "look at the trigger line."
        if number
        else "Look at the trigger line before anything else.",
    )


def _timing(bench: Bench, patterns: Patterns) -> Iterator[Finding]:
    """How late frames are, in frames and by the camera's clock."""
    sequences = list(bench.stream([patterns]))
    lag = bench.frame_offset or 0
    delay_us = bench.settings.trigger_delay_us
    yield finding(
        "frame to pattern",
        f"{f'{lag} frames late' if lag else 'no frame late'}, exposed {delay_us:.4g} us after the "
        f"{'step' if trigger_line.stepped(bench) else 'edge'}",
        lag,
        "the same frame; a constant lag is made up for",
        Verdict.WARN if lag else Verdict.PASS,
        "The camera is exposed once before the first pattern: look at the trigger line's idle "
        "level and at the modulator's trigger output.",
    )
    if not trigger_line.stepped(bench):  # steps have no period
        yield from _clock(sequences, bench.rate_hz)


def _clock(sequences: Sequence[FrameBlock], rate_hz: float) -> Iterator[Finding]:
    limit = "within 0.1 % of the modulator's"
    if any(np.isnan(sequence.timestamps_us).any() for sequence in sequences):
        yield Finding(
            "clocks",
            "the camera keeps no time",
            None,
            limit,
            Verdict.WARN,
            "Lost triggers can then be told by the frame counter and the markers alone.",
        )
        return
    period_us = 1e6 / rate_hz
    intervals_us = np.concatenate([np.diff(sequence.timestamps_us) for sequence in sequences])
    jitter_us = float(intervals_us.std())
    yield judged(
        "frame jitter",
        jitter_us,
        f"{jitter_us:.3f} us rms; a frame every {np.mean(intervals_us):,.3f} us, a pattern every "
        f"{period_us:,.3f} us",
        (0.01 * period_us, 0.1 * period_us),
        "1 % of the modulator's period",
        "Exposures do not follow their edges evenly: use the hardware trigger without the camera's "
        "debouncer or queue, and look for edges that ring.",
    )
    off = float(np.median(intervals_us) / period_us - 1)
    yield judged(
        "clocks",
        abs(off),
        f"{round(1e6 * off):+d} ppm",
        (1e-3, 1e-2),
        limit,
        "Camera and modulator disagree about time: look for missed or doubled triggers, or a "
        "modulator that rounds its picture time.",
    )


def _grey_linearity(bench: Bench, patterns: Patterns) -> Iterator[Finding]:
    """Whether grey values above the dark ones are proportional to the exposure time.

    Light is proportional to time, so this is the camera's response. (EMVA Standard 1288 fits a
    line with an offset; here it goes through the dark level, measured at each exposure.)
    """
    name, limit = "linearity of grey values", "2 % or less, of grey values against exposure time"
    fitted = bench.settings
    shortest_us, _ = bench.camera.exposure_limits_us
    wanted = (max(part * fitted.exposure_us, shortest_us) for part in _EXPOSURES)
    times_us = sorted({bench.camera.nearest_exposure_us(wanted_us) for wanted_us in wanted})
    if len(times_us) < 3 or times_us[-1] < 1.3 * times_us[0]:
        yield Finding(
            name,
            f"not measured: at {fitted.exposure_us:.4g} us there is hardly a shorter exposure",
            None,
            limit,
            Verdict.WARN,
            "Lower the laser power, so that a longer exposure is fitted, and look again.",
        )
        return
    settings = [replace(fitted, exposure_us=exposure_us) for exposure_us in times_us]
    try:
        dark, lit = [], []
        for each in settings:
            bench.configure(each)
            dark.append(float(bench.dark_frames(_REPEATS).mean(dtype=np.float64)))
        for each in settings:
            bench.configure(each)
            lit.append(float(bench.expose(patterns).mean(dtype=np.float64)))
    finally:
        bench.configure(fitted)
    slopes = (np.array(lit) - np.array(dark)) / np.array(times_us)
    off = float(np.abs(slopes / slopes.mean() - 1).max())
    yield judged(
        name,
        off,
        f"{off:.2%} off at most, from {times_us[0]:.4g} to {times_us[-1]:.4g} us",
        (0.02, 0.1),
        limit,
        "Turn off the camera's gamma, automatic gain and tone curve, and see that the laser's "
        "power is steady; very short exposures may differ from what the camera says.",
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
    yield judged(
        "speckle grain",
        carrier.grain,
        f"{carrier.grain:.2f} pixels",
        (3.0, 2.2),
        "3 pixels or more",
        "Make the grain coarser: a smaller aperture, or the camera farther away.",
        at_least=True,
    )


def _interference(bench: Bench, demodulate: Demodulator, seed: int) -> Iterator[Finding]:
    layout = bench.layout(_INPUTS)
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
    yield judged(
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
    yield judged(
        "linearity of fields",
        linear,
        f"{linear:.2%} off, noise taken out",
        (0.03, 0.1),
        "3 % or less",
        "Look for saturation, for a grain near 2 pixels, and for a phase that moves within "
        "milliseconds.",
    )
    modulated = float(np.mean(np.abs(whole - off) ** 2))
    share = modulated / (modulated + float(np.mean(np.abs(off) ** 2)))
    yield judged(
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
    yield judged(
        "phase, frame to frame",
        step,
        f"{step:.2g} rad rms",
        (0.1, 0.3),
        "0.1 rad or less",
        "Damp the table, cover the interferometer, shorten its arms: references cannot follow "
        "what happens within a frame or two.",
    )
    swing = float(np.abs(gains).std() / np.abs(gains).mean())
    yield judged(
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
    yield judged(
        "fidelity, at its end",
        last,
        f"{last:.4f} after {stability_s:g} s",
        (0.98, 0.9),
        "0.98 or more",
        "The medium or the alignment moves: fix the scatterer, wait for the temperature, and "
        "calibrate more often than this.",
        at_least=True,
    )
