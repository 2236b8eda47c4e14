"""A bench that runs on and on, in a thread of its own, and what it takes to steer it meanwhile.

The bench has no free run, and needs none: short sequences of one pattern follow each other, each
with its markers and its proof. Whatever is asked for is done between two of them. Only the light
is turned off from outside, at once; a sequence that is cut short is thrown away by the bench.

After darkness that was asked for, and after every failure of a device, the bench is closed: its
laser is disarmed, and stays so until somebody asks to open it again.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from opu_driver import Bench
from opu_driver.bench import MARKERS, SMALLEST_CAPACITY, Sequence
from opu_driver.camera import CameraSettings, Frames
from opu_driver.errors import DeviceLostError, FrameError, OpuError
from opu_driver.exposure_log import logged
from opu_driver.modulator import Patterns
from opu_driver.recording_file import partial_path, require_room
from tools.viewer.glimpse import Frame, Glimpse, GreyRange
from tools.viewer.shown_pattern import ShownPattern

_SEQUENCES_PER_S = 60.0  # a glimpse each
_MOST_FRAMES = 32  # of a sequence: whatever is asked for waits for its end
_RATE_OVER_S = 2.0
_PATIENCE_S = 0.5  # before frames that could not be trusted are tried anew
_JOIN_S = 20.0
_BY_HAND = "The laser does not obey: switch it off by hand!"


class State(StrEnum):
    """What a live bench does."""

    OPENING = "opening"
    LIVE = "live"
    PAUSED = "paused"
    RECORDING = "recording"
    DARK = "dark"
    FAILED = "failed"
    CLOSED = "closed"

    @property
    def open(self) -> bool:
        """Whether the devices are in use."""
        return self in (State.LIVE, State.PAUSED, State.RECORDING)


@dataclass(frozen=True)
class Limits:
    """What the devices of an open bench can be set to.

    Attributes:
        exposure_us: Shortest and longest exposure, microseconds.
        gain_db: Lowest and highest gain, decibels.
        power_mw: Lowest power and the highest that the laser is armed for, milliwatts.
        sensor_shape: Rows and columns of the whole sensor.
    """

    exposure_us: tuple[float, float]
    gain_db: tuple[float, float]
    power_mw: tuple[float, float]
    sensor_shape: tuple[int, int]

    @classmethod
    def of(cls, bench: Bench) -> Limits:
        """The limits of an open bench."""
        start = bench.start
        ceiling_mw = start.power_mw if start.ceiling_mw is None else start.ceiling_mw
        low_mw, high_mw = bench.laser.power_limits_mw
        return cls(
            bench.camera.exposure_limits_us,
            bench.camera.gain_limits_db,
            (low_mw, min(high_mw, ceiling_mw)),
            bench.camera.sensor_shape,
        )


@dataclass(frozen=True)
class Status:
    """A live bench at one moment.

    Attributes:
        state: What it does.
        emitting: Whether light comes out of the laser; None if it does not obey any more.
        power_mw: The power that is set, milliwatts.
        settings: The camera's; None before the bench was first open.
        limits: None before the bench was first open.
        pattern: What is shown.
        frames: Frames taken so far.
        lost: Frames thrown away, because they could not be proven to belong to their patterns.
        rate_hz: Frames a second over the last two seconds.
        recorded: Frames recorded, and how many were asked for; None if nothing is recorded.
        message: What went wrong last, or was done last; empty if there is nothing to tell.
        trouble: Whether the message is of something that went wrong.
    """

    state: State = State.OPENING
    emitting: bool | None = False
    power_mw: float = 0.0
    settings: CameraSettings | None = None
    limits: Limits | None = None
    pattern: ShownPattern = field(default_factory=ShownPattern)
    frames: int = 0
    lost: int = 0
    rate_hz: float = 0.0
    recorded: tuple[int, int] | None = None
    message: str = ""
    trouble: bool = False


class Live:
    """A bench in a thread of its own. It opens at once, and shows until it is closed.

    Args:
        bench: A bench; nobody else uses it meanwhile.
        pattern: What to show first.
    """

    def __init__(self, bench: Bench, pattern: ShownPattern | None = None) -> None:
        self._bench = bench
        self._status = Status(pattern=pattern or ShownPattern())
        self._newest: Glimpse | None = None
        self._wishes: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._wake = threading.Event()
        self._again = threading.Event()
        self._dark = threading.Event()
        self._telling = threading.Lock()
        self._ending = threading.Event()
        self._stop_recording = threading.Event()
        self._paused = False
        self._untrusted = False
        self._unproven = 0
        self._obeys = True
        self._patterns: Patterns | None = None
        self._restored: tuple[CameraSettings, float] | None = None
        self._taken: deque[tuple[float, int]] = deque()
        self._thread = threading.Thread(target=self._run, daemon=True, name="live-bench")
        self._thread.start()

    @property
    def newest(self) -> Glimpse | None:
        """The newest glimpse; None before the first."""
        return self._newest

    @property
    def status(self) -> Status:
        """What the bench does now."""
        return self._status

    def darken(self) -> None:
        """Turn the light off, at once; the bench closes, and stays dark until `reopen`.

        The status says so if the laser does not obey.
        """
        self._dark.set()
        self._wake.set()
        self._turn_off()
        threading.Thread(target=self._keep_dark, daemon=True, name="dark-key").start()

    def reopen(self) -> None:
        """Open the bench again, with the settings that it had, after darkness or a failure."""
        if self._status.state in (State.DARK, State.FAILED):
            self._dark.clear()
            self._again.set()
            self._wake.set()

    def pause(self, paused: bool) -> None:
        """Make no exposures, in the dark; or go on."""

        def do() -> None:
            self._paused = paused
            if paused:
                self._bench.darken()
                self._tell(state=State.PAUSED, emitting=False, rate_hz=0.0, message="")

        self._ask(do)

    def configure(self, change: Callable[[CameraSettings], CameraSettings]) -> None:
        """Change the camera's settings.

        Args:
            change: Makes the new settings of those in force.
        """
        self._ask(lambda: self._set(change))

    def set_power_mw(self, power_mw: float) -> None:
        """Change the laser's power, milliwatts."""

        def do() -> None:
            self._bench.laser.set_power_mw(power_mw)
            self._tell_settings()

        self._ask(do)

    def show(self, pattern: ShownPattern) -> None:
        """Show another pattern."""

        def do() -> None:
            self._patterns = pattern.on(self._bench)
            self._tell(pattern=pattern, message="", trouble=False)

        self._ask(do)

    def fit_exposure(self) -> None:
        """Measure the exposure time that suits the pattern that is shown."""

        def do() -> None:
            advice = self._bench.fit_exposure(self._shown())
            self._tell_settings(
                f"Exposure {advice.settings.exposure_us:.4g} µs: the mean is "
                f"{advice.mean_fraction:.1%} of full scale."
            )

        self._ask(do)

    def record(self, path: Path, n_frames: int) -> None:
        """Record frames of the pattern that is shown, and show them; see `exposure_log.logged`."""
        self._ask(lambda: self._record(path, n_frames))

    def stop_recording(self) -> None:
        """End a recording early; it holds the frames until then."""
        self._stop_recording.set()

    def close(self) -> None:
        """Darken, and close the bench."""
        self._ending.set()
        if self._thread.is_alive():
            self.darken()
        self._thread.join(_JOIN_S)

    def _ask(self, wish: Callable[[], None]) -> None:
        self._wishes.put(wish)
        self._wake.set()

    def _tell(self, **changes: Any) -> None:
        with self._telling:
            self._status = replace(self._status, **changes)

    def _tell_settings(self, message: str = "") -> None:
        bench = self._bench
        self._restored = bench.settings, bench.power_mw
        self._tell(
            settings=bench.settings,
            power_mw=bench.power_mw,
            limits=Limits.of(bench),
            message=message,
            trouble=False,
        )

    @property
    def _over(self) -> bool:
        return self._dark.is_set() or self._ending.is_set()

    def _keep_dark(self) -> None:
        """Whoever was about to turn the light on as it was turned off finds it off again."""
        while self._dark.is_set() and self._status.state.open:
            self._turn_off()
            time.sleep(0.02)

    def _turn_off(self) -> None:
        try:
            self._bench.laser.disarm()  # darkens, and the next sequence finds no token to emit with
        except OpuError as error:
            self._obeys = False
            self._tell(emitting=None, message=f"{_BY_HAND} {_named(error)}", trouble=True)
        else:
            self._obeys = True

    @contextmanager
    def _dark_at_the_end(self) -> Iterator[None]:
        """A closed laser cannot be asked any more, so it is seen to obey before."""
        try:
            yield
        finally:
            self._turn_off()

    def _run(self) -> None:
        while not self._ending.is_set():
            self._until_closed()
            while not (self._again.is_set() or self._ending.is_set()):
                self._wake.wait()
                self._wake.clear()
            self._again.clear()
        self._tell(state=State.CLOSED)

    def _until_closed(self) -> None:
        """Open the bench, and show until there is an end to it."""
        self._tell(state=State.OPENING, message="", trouble=False)
        try:
            with self._bench, self._dark_at_the_end():
                self._begin()
                while not self._over:
                    self._grant_wishes()
                    self._go_on()
        except Exception as error:  # also what a vendor's library may raise: nobody else hears it
            asked = self._dark.is_set() and isinstance(error, OpuError)
            self._rest("" if asked else _named(error))
        else:
            self._rest("")

    def _begin(self) -> None:
        if self._restored is not None:
            settings, power_mw = self._restored
            self._bench.laser.set_power_mw(power_mw)
            self._bench.configure(settings)
        self._patterns = self._status.pattern.on(self._bench)
        self._paused = False
        self._taken.clear()
        self._tell_settings()

    def _rest(self, failure: str) -> None:
        if not self._obeys:
            failure = f"{_BY_HAND} {failure}".rstrip()
        state = State.FAILED if failure else State.DARK
        if self._ending.is_set() and not failure:
            state = State.CLOSED
        self._tell(
            state=state,
            emitting=False if self._obeys else None,
            rate_hz=0.0,
            recorded=None,
            message=failure or self._status.message,
            trouble=bool(failure) or self._status.trouble,
        )

    def _grant_wishes(self) -> None:
        self._wake.clear()
        while not self._wishes.empty() and not self._over:
            wish = self._wishes.get()
            try:
                wish()
            except DeviceLostError:
                raise
            except OpuError as error:
                self._tell_settings()
                self._tell(message=_named(error), trouble=True, recorded=None)

    def _go_on(self) -> None:
        """Expose until something is asked for."""
        if self._over:
            return
        if self._paused:
            self._wake.wait()
            return
        self._tell(state=State.LIVE)
        try:
            for sequence in self._bench.stream(self._batches()):
                self._note(sequence)
        except FrameError as error:
            lost = self._status.lost + len(self._batch())
            self._untrusted = True
            self._tell(emitting=False, lost=lost, message=_named(error), trouble=True, rate_hz=0.0)
            self._look_without_proof()

    def _look_without_proof(self) -> None:
        """Show what the camera sees all the same, for whoever aligns the bench by it."""
        end_s = time.monotonic() + _PATIENCE_S
        try:
            while self._wishes.empty() and not self._over and time.monotonic() < end_s:
                frames = self._bench.unproven(np.repeat(self._shown(), 2, axis=0))
                self._unproven += len(frames)
                self._tell(emitting=True)
                self._put(frames, off=None, proven=False)
        except FrameError:  # not even that: the first message tells more
            self._tell(emitting=False)
            self._wake.wait(_PATIENCE_S)

    def _batches(self) -> Iterator[Patterns]:
        while self._wishes.empty() and not self._over:
            yield self._batch()

    def _batch(self) -> Patterns:
        """The pattern as often as makes a glimpse every sixtieth of a second, at least twice."""
        bench = self._bench
        wanted = int(bench.rate_hz / _SEQUENCES_PER_S) - MARKERS
        room = bench.modulator.capacity - SMALLEST_CAPACITY + 1
        return np.repeat(self._shown(), max(min(wanted, _MOST_FRAMES, room), min(2, room)), axis=0)

    def _shown(self) -> Patterns:
        if self._patterns is None:
            self._patterns = self._status.pattern.on(self._bench)
        return self._patterns

    def _note(self, sequence: Sequence) -> None:
        count = len(sequence)
        taken = self._status.frames + count
        self._tell(emitting=True, frames=taken, rate_hz=self._rate_hz(count))
        self._put(sequence.frames, off=sequence.markers[2], proven=True)
        if self._untrusted:
            self._untrusted = False
            self._tell(message="", trouble=False)

    def _put(self, frames: Frames, off: Frame | None, *, proven: bool) -> None:
        """A new glimpse, of the last of some frames."""
        camera = self._bench.camera
        self._newest = Glimpse(
            self._status.frames + self._unproven,
            frames[-1],
            frames[-2] if len(frames) > 1 else None,
            off,
            GreyRange(camera.black_level, camera.saturation_level),
            proven,
        )

    def _rate_hz(self, count: int) -> float:
        now_s = time.monotonic()
        self._taken.append((now_s, count))
        while self._taken[0][0] < now_s - _RATE_OVER_S:
            self._taken.popleft()
        passed_s = now_s - self._taken[0][0]
        since_first = sum(n for _, n in self._taken) - self._taken[0][1]
        return since_first / passed_s if passed_s else 0.0

    def _set(self, change: Callable[[CameraSettings], CameraSettings]) -> None:
        wanted = change(self._bench.settings)
        if wanted.exposure_us != self._bench.settings.exposure_us:
            nearest_us = self._bench.camera.nearest_exposure_us(wanted.exposure_us)
            wanted = replace(wanted, exposure_us=nearest_us)
        self._bench.configure(wanted)
        self._tell_settings()

    def _record(self, path: Path, n_frames: int) -> None:
        self._stop_recording.clear()
        region, dtype = self._bench.settings.region, self._bench.settings.pixel_format.dtype
        subject = str(self._status.pattern)
        require_room(path.parent, n_frames * region.height * region.width * dtype.itemsize)
        done = 0
        self._tell(state=State.RECORDING, recorded=(0, n_frames), message="", trouble=False)
        try:
            with logged(self._bench, path, subject=subject, asked=n_frames) as log:
                for sequence in self._bench.stream(self._batches_of(n_frames)):
                    log.settle()
                    done += len(sequence)
                    self._note(sequence)
                    self._tell(recorded=(done, n_frames))
        except OpuError as error:
            if done:
                error.add_note(f"The frames until then are in {partial_path(path)}.")
            raise
        message = f"{done} of {n_frames} frames are in {path}."
        self._tell(state=State.LIVE, recorded=None, message=message)

    def _batches_of(self, n_frames: int) -> Iterator[Patterns]:
        """The pattern so often, or until somebody wants no more."""
        left = n_frames
        while left > 0 and not (self._stop_recording.is_set() or self._over):
            batch = self._batch()[:left]
            left -= len(batch)
            yield batch


def _named(error: BaseException) -> str:
    """What went wrong, by name."""
    return " ".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])
