"""The light of a bench: on while exposures are made, off soon after the last, and watched."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

from opu_driver.errors import DeviceStateError, LaserSafetyError, SettingError
from opu_driver.laser import ArmedToken, Laser, log

Progress = Callable[[float], None]
"""Told, while the light is in use, for how many seconds from now on nothing may happen."""

_LATE_S = 0.5  # that a sign of progress may be overdue

_LOOK_S = 0.4  # between two looks at the light


class Light:
    """The laser's light as a bench uses it.

    A thread watches over it. It darkens a bench whose work has stopped on the way, within a second
    of when the next sign of it was due, and an idle one after the time that it may be idle: also
    where a stopped event loop or a thread that waits for ever keeps it so. It polls the interlock,
    the key and the faults while the laser emits. Once one of these has ended the emission, the
    bench stays dark until it is opened anew.

    Args:
        laser: The laser.
        holder: What stands in the log as the one who armed it.
        ceiling_mw: The power that is never exceeded, milliwatts.
        idle_after_s: Seconds without exposures after which the light goes off.
        warm_up_s: Seconds that the laser may take to warm up.

    Raises:
        SettingError: A time that is not positive.
    """

    def __init__(
        self,
        laser: Laser,
        holder: str,
        ceiling_mw: float,
        *,
        idle_after_s: float,
        warm_up_s: float,
    ) -> None:
        for name, value in (("idle_after_s", idle_after_s), ("warm_up_s", warm_up_s)):
            if not value > 0:
                raise SettingError(f"{name} = {value:g}; it must be above 0.")
        self._laser = laser
        self._holder = holder
        self._ceiling_mw = ceiling_mw
        self._idle_after_s = idle_after_s
        self._warm_up_s = warm_up_s
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._needed_until = 0.0
        self._working = False  # whether something uses the light
        self._token: ArmedToken | None = None
        self._tripped = ""
        self._watch: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._token = self._laser.arm(self._holder, self._ceiling_mw)
        self._tripped = ""
        self._stop.clear()
        self._watch = threading.Thread(target=self._watch_over, daemon=True, name="bench-light")
        self._watch.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        try:
            self._laser.disarm()
        finally:
            self._token = None
            if self._watch is not None:
                self._watch.join()

    @contextmanager
    def in_use(self, allowance_s: float) -> Iterator[Progress]:
        """Light for the exposures in the block; raises at its end if it went out on the way.

        Args:
            allowance_s: How long the work may go on without a sign of progress. The block calls
                what it is given with the time until the next sign.

        Raises:
            LaserSafetyError: Something forbids emission, or ended it.
            DeviceStateError: The bench is not open.
        """
        if self._token is None:
            raise DeviceStateError("The bench is not open; use it inside `with bench:`.")
        with self._lock:
            self._require_trusted()
            if self._laser.emitting:
                self._look()
            else:
                self._need_for(allowance_s)  # also if the next line is interrupted on its way back
                self._laser.emit(self._token)
                self._warm_up()
            self._need_for(allowance_s)
            self._working = True
        try:
            yield self._need_for
        finally:
            with self._lock:
                self._working = False
                self._need_for(0.0)
                status = self._laser.status
        if not status.emitting:
            why = status.obstacle or "the interlock opened for a moment, or somebody turned it off"
            self._trip(f"the laser went dark during a sequence ({why})")
            raise LaserSafetyError(
                f"No frame of this sequence is used: {self._tripped}. Find out why, then close and "
                "open the bench."
            )

    def off(self) -> None:
        """Turn the light off, at once, whatever else goes on; the next use turns it on again."""
        self._laser.darken()

    def _need_for(self, seconds: float) -> None:
        # A simulated laser harms nobody, and simulated frames take the time that they take.
        lasting = math.inf if self._laser.simulated and seconds > 0 else seconds
        self._needed_until = time.monotonic() + lasting

    def _require_trusted(self) -> None:
        if self._tripped:
            raise LaserSafetyError(
                f"The bench has been dark since {self._tripped}. Find out why, then close and open "
                "the bench."
            )

    def _watch_over(self) -> None:
        while not self._stop.wait(min(self._idle_after_s / 4, _LOOK_S)):
            with self._lock:
                try:
                    self._look_after()
                except Exception as error:  # whatever it is, the watch goes on
                    self._trip(f"the light could not be watched ({error})")
                    log.error("The bench's light goes off: %s", error)
                    with suppress(Exception):
                        self._laser.darken()

    def _look_after(self) -> None:
        if not self._laser.emitting:
            return
        late_s = time.monotonic() - self._needed_until
        if self._working and late_s > _LATE_S:
            self._trip(f"the work on the bench has given no sign of itself for {late_s:.2g} s")
            self._laser.darken()
        elif late_s > self._idle_after_s:
            self._laser.darken()
        else:
            self._look()

    def _look(self) -> None:
        with self._tripping():
            self._laser.check()

    def _warm_up(self) -> None:
        with self._tripping():
            self._laser.wait_until_warm(self._warm_up_s)

    @contextmanager
    def _tripping(self) -> Iterator[None]:
        try:
            yield
        except LaserSafetyError as error:
            self._trip(f"something ended the emission ({error})")
            raise

    def _trip(self, why: str) -> None:
        self._tripped = self._tripped or why
