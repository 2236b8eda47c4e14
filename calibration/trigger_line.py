"""The line between modulator and camera: edges that were given against frames that came.

Everything here happens in the dark. Whose frame is whose is the bench's business, see
`opu_driver.integrity`; here frames are only counted, so that lost edges are found by their name
also where too many of them are lost for anything else.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from opu_driver.bench import Bench
from opu_driver.camera import FrameBlock, Trigger
from opu_driver.errors import CaptureTimeoutError
from opu_driver.integrity import first_slip, joined

_EDGES = 128
_STEPS = 32
_SURPLUS = 8  # frames beyond the edges that are looked for
_HALVINGS = 8
_REFINEMENTS = 5
_PATIENCE_S = 0.5


@dataclass(frozen=True)
class Count:
    """Edges and frames of one batch.

    Attributes:
        rate_hz: Edges a second; of a modulator that is stepped, frames a second.
        edges: Patterns that the modulator has shown, each with its edge; or steps.
        frames: Frames that came.
        lost: Frames that the camera says it lost.
        slip: The first frame whose counter or time does not follow the one before; None if all do.
    """

    rate_hz: float
    edges: int
    frames: int
    lost: int
    slip: int | None

    @property
    def whole(self) -> bool:
        """Whether each edge gave its frame."""
        return self.frames == self.edges and not self.lost and self.slip is None


@dataclass(frozen=True)
class TopRate:
    """The highest rate without loss.

    Attributes:
        rate_hz: That rate; 0 if there is none.
        ceiling_hz: What modulator and camera say they can, at the shortest exposure.
        exposure_us: That exposure, microseconds.
        best: The count at the highest rate without loss; None if there is none.
        worst: The count at the lowest rate with a loss; None if there is none.
    """

    rate_hz: float
    ceiling_hz: float
    exposure_us: float
    best: Count | None
    worst: Count | None


def stepped(bench: Bench) -> bool:
    """Whether the bench steps modulator and camera by software, for want of a line."""
    return bench.settings.trigger is Trigger.SOFTWARE


def count(bench: Bench, rate_hz: float | None = None) -> Count:
    """Show a batch of dark patterns, and count edges and frames.

    Args:
        bench: An open bench; its light goes off.
        rate_hz: Edges a second; None for the bench's own rate. A bench that is stepped has none.

    Raises:
        DeviceError: A device does not answer.
    """
    bench.darken()
    patterns = min(_STEPS if stepped(bench) else _EDGES, bench.modulator.capacity)
    bench.load(np.repeat(bench.layout(1).all_off(), patterns, axis=0))
    bench.camera.arm(patterns + _SURPLUS)
    try:
        if stepped(bench):
            return _stepped(bench, patterns)
        return _run(bench, patterns, bench.rate_hz if rate_hz is None else rate_hz)
    finally:
        bench.camera.disarm()


def top_rate(bench: Bench) -> TopRate:
    """The highest rate at which no frame is lost, at the camera's shortest exposure.

    It is looked for from what modulator and camera say they can downwards: halved until nothing is
    lost, then bracketed to 3 %. The bench's settings are in force again afterwards.

    Raises:
        DeviceError: A device does not answer.
        SettingError: The camera does not take its own shortest exposure.
    """
    before = bench.settings
    shortest_us = bench.camera.exposure_limits_us[0]
    exposure_us = min(bench.camera.nearest_exposure_us(shortest_us), before.exposure_us)
    try:
        bench.configure(replace(before, exposure_us=exposure_us))
        ceiling_hz = bench.rate_hz
        best, worst = _bracketed(bench, ceiling_hz)
    finally:
        bench.configure(before)
    return TopRate(best.rate_hz if best else 0.0, ceiling_hz, exposure_us, best, worst)


@contextmanager
def no_faster_than(bench: Bench, rate_hz: float) -> Iterator[None]:
    """Keep the bench below a rate, whatever its exposure, by a longer trigger delay."""
    delay_us = bench.settings.trigger_delay_us
    bench.configure(replace(bench.settings, trigger_delay_us=max(delay_us, 1e6 / rate_hz)))
    try:
        yield
    finally:
        bench.configure(replace(bench.settings, trigger_delay_us=delay_us))


def _bracketed(bench: Bench, ceiling_hz: float) -> tuple[Count | None, Count | None]:
    """The counts at the highest rate without loss and at the lowest with one."""
    worst: Count | None = None
    for halvings in range(_HALVINGS):
        tried = count(bench, ceiling_hz / 2**halvings)
        if tried.whole or stepped(bench):
            break
        worst = tried
    else:
        return None, worst
    if not tried.whole:
        return None, tried
    best = tried
    for _ in range(_REFINEMENTS if worst else 0):
        tried = count(bench, float(np.sqrt(best.rate_hz * (worst.rate_hz if worst else 0.0))))
        best, worst = (tried, worst) if tried.whole else (best, tried)
    return best, worst


def _run(bench: Bench, patterns: int, rate_hz: float) -> Count:
    blocks: list[FrameBlock] = []
    taken = 0
    timeout_s = _PATIENCE_S + 4.0 / rate_hz
    bench.modulator.start(rate_hz)
    edges = None
    try:
        while taken < patterns + _SURPLUS:
            try:
                blocks.append(bench.camera.read(patterns + _SURPLUS - taken, timeout_s))
            except CaptureTimeoutError:
                break  # there are no more
            taken += len(blocks[-1])
        edges = bench.modulator.wait(timeout_s + patterns / rate_hz)
    finally:
        if edges is None:
            bench.modulator.stop()
    if not blocks:
        return Count(rate_hz, edges, 0, 0, None)
    block = joined(blocks)
    slip = first_slip(block, 1e6 / rate_hz, otherwise=len(block))
    return Count(rate_hz, edges, taken, block.lost, slip if slip < len(block) else None)


def _stepped(bench: Bench, patterns: int) -> Count:
    blocks: list[FrameBlock] = []
    timeout_s = 1.0 + 2.0 / bench.rate_hz
    begin = time.monotonic()
    for _ in range(patterns):
        bench.modulator.step()
        bench.camera.trigger()
        try:
            blocks.append(bench.camera.read(1, timeout_s))
        except CaptureTimeoutError:
            continue  # it is counted
    seconds = time.monotonic() - begin
    if not blocks:
        return Count(0.0, patterns, 0, 0, None)
    block = joined(blocks)
    clock_s = 1e-6 * float(block.timestamps_us[-1] - block.timestamps_us[0])
    steps = len(block) - 1
    rate_hz = steps / clock_s if steps and clock_s > 0 else len(block) / seconds
    return Count(rate_hz, patterns, len(block), block.lost, None)
