"""The guardian: a process that drives a laser and darkens it when its owner dies or hangs.

The laser's driver runs here and nowhere else, since a serial port can be open only once; the owner
speaks to it through `opu_driver.guarded_laser`, one line of JSON each way over standard input and
output. Two things end the emission without the owner's doing: the end of its pipe, which comes
with its death however it dies, and `SILENCE_S` without a line, since the owner beats `BEAT_S`
apart. While the laser emits, its interlock, key and faults are polled here.

Requests, and what their answers carry in `value`:

    open: driver, options, audit     identity, wavelength_nm, power_limits_mw
    beat                             nothing, and no answer
    status                           the fields of `LaserStatus`
    get_power / set_power: power_mw  power_mw
    arm: ceiling_mw                  nothing
    emit / darken / disarm / close   nothing

A refusal carries the name and the text of the error in `error` and `message` instead. Requests have
a `number`, which their answers repeat: an owner that was interrupted in its waiting knows old ones.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TextIO

from opu_driver.audit_log import AuditLog
from opu_driver.errors import DeviceError, DeviceStateError, LaserSafetyError, OpuError
from opu_driver.laser import ArmedToken, Laser

BEAT_S = 0.1
"""Time between two beats of the owner."""

SILENCE_S = 0.75
"""Silence of the owner after which the light goes off."""

_POLL_S = 0.2  # between two looks at interlock, key and faults

_LISTEN_S = 0.05  # between two looks at how long the owner has been silent

_PATIENCE_S = 60.0  # with a laser that does not answer when its owner is gone


class Guardian:
    """Serves the requests of one owner.

    Args:
        answer: Takes the answers, one at a time.
    """

    def __init__(self, answer: Callable[[dict[str, Any]], None]) -> None:
        self._answer = answer
        self._laser: Laser | None = None
        self._token: ArmedToken | None = None
        self._lit = False  # whether it was told to emit, and not yet to be dark
        self._shone = False  # whether it did when it was asked last
        self._polled = 0.0
        self._why_dark = ""
        self._must_be_dark = False  # whether it was told to be dark, and has not confirmed it
        self._ended = False
        self._audit = AuditLog(None)

    def serve(self, requests: SimpleQueue[str | None]) -> None:
        """Serve until the owner says so or is gone, that is until None comes; dark at the end."""
        try:
            while not self._ended:
                watched = self._lit or self._must_be_dark
                try:
                    line = requests.get(timeout=_POLL_S if watched else None)
                except Empty:
                    line = ""
                if line is None:
                    break
                self._attend(line)
                self._poll()
        finally:
            self._end()

    def _attend(self, line: str) -> None:
        if not line:
            return
        request = json.loads(line)
        what, number = request.pop("do"), request.pop("number", 0)
        if what == "silent":
            if self._lit:
                self._darken(
                    f"the owner has been silent for {SILENCE_S:g} s (it hung, or called something "
                    "that held Python for so long)"
                )
            return
        try:
            value = getattr(self, f"_do_{what}")(**request)
        except OpuError as error:
            self._note(f"{what} refused", why=str(error))
            self._answer({"number": number, "error": _our_class(error), "message": str(error)})
        else:
            self._answer({"number": number, "value": value})

    def _poll(self) -> None:
        """Look after the light at least every `_POLL_S`, whatever the owner does."""
        if not (self._lit or self._must_be_dark) or time.monotonic() - self._polled < _POLL_S:
            return
        self._polled = time.monotonic()
        if self._must_be_dark:
            self._try_to_darken()
            return
        try:
            self._device.check()
        except OpuError as error:
            self._darken(str(error))

    @property
    def _device(self) -> Laser:
        if self._laser is None:
            raise DeviceStateError("The guardian has no laser open.")
        return self._laser

    def _do_open(self, driver: str, options: dict[str, Any], audit: str | None) -> dict[str, Any]:
        from opu_driver.driver_options import build_laser

        try:
            self._audit = AuditLog(Path(audit) if audit else None)
            self._audit.write("opening", owner=os.getppid())
        except OSError as error:
            raise DeviceError(
                f"The laser's audit log {audit} cannot be written ({error}), and without it nobody "
                "could tell what the laser did. Make room or mend its rights; it is at "
                "opu_driver.audit_log.default_path()."
            ) from error
        laser = build_laser(driver, options)
        laser.open()
        self._laser = laser
        self._audit = self._audit.of(str(laser.identity))
        self._note("opened, dark", owner=os.getppid())
        return {
            "identity": asdict(laser.identity),
            "wavelength_nm": laser.wavelength_nm,
            "power_limits_mw": laser.power_limits_mw,
        }

    def _do_status(self) -> dict[str, Any]:
        status = self._device.status
        # Some lasers emit seconds after they were told to: one that does not emit is watched until
        # it has been turned off.
        if self._lit and self._shone and not status.emitting:
            self._note("found dark", why=status.obstacle or "the laser has turned itself off")
        self._shone = status.emitting
        if self._why_dark and not status.fault:
            status = replace(status, fault=f"its guardian has darkened it, since {self._why_dark}")
        return asdict(status)

    def _do_get_power(self) -> float:
        return self._device.power_mw

    def _do_set_power(self, power_mw: float) -> float:
        accepted = self._device.set_power_mw(power_mw)
        self._note("power", power_mw=accepted)
        return accepted

    def _do_arm(self, ceiling_mw: float) -> None:
        self._token = self._device.arm("the owner of the guardian", ceiling_mw)
        self._why_dark = ""
        self._note("armed", ceiling_mw=ceiling_mw)

    def _do_emit(self) -> None:
        if self._why_dark:
            raise LaserSafetyError(
                f"The guardian has darkened the laser: {self._why_dark}. Find out why, then close "
                "and open the bench."
            )
        if self._token is None:
            raise LaserSafetyError("Emission needs an armed laser; call arm() first.")
        self._shone = False
        self._lit = True  # before, so that no way out of the next line leaves it unwatched
        self._device.emit(self._token)
        self._polled = time.monotonic()
        self._note("emission on", power_mw=self._device.power_mw)

    def _do_darken(self) -> None:
        self._must_be_dark = True  # until it has said so
        self._device.darken()
        self._is_dark("emission off")

    def _do_disarm(self) -> None:
        self._token = None
        self._must_be_dark = True
        self._device.disarm()
        self._is_dark("disarmed, dark")

    def _do_close(self) -> None:
        self._ended = True  # what is left to do is done at the end

    def _darken(self, why: str) -> None:
        self._why_dark = why
        self._must_be_dark = True
        self._try_to_darken()
        self._note("emission off by the guardian", why=why)

    def _try_to_darken(self) -> None:
        try:
            self._device.darken()
        except OpuError as error:  # the next poll tries again
            self._note("emission off failed", why=str(error))
        else:
            self._is_dark("dark")

    def _is_dark(self, what: str) -> None:
        self._lit = self._must_be_dark = False
        self._note(what)

    def _end(self) -> None:
        """Leave the laser dark and closed, and try again for a while if it does not answer."""
        laser, self._laser = self._laser, None
        if laser is None:
            return
        lit = self._lit
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                if laser.is_open:
                    laser.close()
                else:
                    laser.open().close()  # opening darkens
                break
            except OpuError as error:
                self._note("the laser could not be darkened", why=str(error))
                if time.monotonic() > deadline:
                    raise
            time.sleep(_POLL_S)
        if lit:
            self._note("emission off by the guardian", why="the owner is gone")
        self._note("closed, dark")

    def _note(self, what: str, **more: str | float) -> None:
        """Write to the audit log; a full disk must not come between a laser and its guardian."""
        try:
            self._audit.write(what, **more)
        except OSError as error:
            print(f"opu guardian: {what} (the audit log fails: {error})", file=sys.stderr)


def _our_class(error: OpuError) -> str:
    """The nearest class that the owner knows, too."""
    return next(c.__name__ for c in type(error).__mro__ if c.__module__ == OpuError.__module__)


def _listen(lines: TextIO, requests: SimpleQueue[str | None]) -> None:
    """Pass on the owner's lines, its silence and its end.

    Beats are not passed on: a guardian that is busy with a slow laser would find a heap of them
    and take old ones for signs of life.
    """
    last = time.monotonic()
    told = False
    gone = threading.Event()

    def watch() -> None:
        nonlocal told
        while not gone.wait(_LISTEN_S):
            silent = time.monotonic() - last > SILENCE_S
            if silent and not told:
                requests.put('{"do": "silent"}')
            told = silent

    threading.Thread(target=watch, daemon=True).start()
    for line in lines:
        last = time.monotonic()
        if line.strip() != '{"do": "beat"}':
            requests.put(line)
    gone.set()
    requests.put(None)


def main() -> None:
    """Guard the laser that the owner at the other end of standard input opens."""
    # Whatever a vendor's library prints goes to standard error: answers are alone on their pipe.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    if sys.stderr is None:  # a Windows program without a console
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    requests: SimpleQueue[str | None] = SimpleQueue()

    def answer(content: dict[str, Any]) -> None:
        with suppress(OSError):  # the owner is gone; its end is on its way through the queue
            print(json.dumps(content), file=answers, flush=True)

    def told_to_end(number: int, frame: object) -> None:
        del number, frame
        requests.put(None)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the owner's Ctrl-C is the owner's
    signal.signal(signal.SIGTERM, told_to_end)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    threading.Thread(target=_listen, args=(sys.stdin, requests), daemon=True).start()
    Guardian(answer).serve(requests)
