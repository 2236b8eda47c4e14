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

A refusal carries the name and the text of the error in `error` and `message` instead.
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
from dataclasses import asdict
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TextIO

from opu_driver.audit_log import AuditLog
from opu_driver.errors import DeviceStateError, LaserSafetyError, OpuError
from opu_driver.laser import ArmedToken, Laser

BEAT_S = 0.15
"""Time between two beats of the owner."""

SILENCE_S = 0.6
"""Silence of the owner after which the light goes off."""

_POLL_S = 0.2  # between two looks at interlock, key and faults


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
        self._audit = AuditLog(None)

    def serve(self, requests: SimpleQueue[str | None]) -> None:
        """Serve until the owner is gone, that is until None comes; dark at the end."""
        try:
            while True:
                try:
                    line = requests.get(timeout=_POLL_S if self._lit else None)
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
        what = request.pop("do")
        if what == "silent":
            if self._lit:
                self._darken(f"the owner has been silent for {SILENCE_S:g} s")
            return
        try:
            value = getattr(self, f"_do_{what}")(**request)
        except OpuError as error:
            self._audit.write(f"{what} refused", why=str(error))
            self._answer({"error": type(error).__name__, "message": str(error)})
        else:
            self._answer({"value": value})

    def _poll(self) -> None:
        """Look after the light at least every `_POLL_S`, whatever the owner does."""
        if not self._lit or time.monotonic() - self._polled < _POLL_S:
            return
        self._polled = time.monotonic()
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

        laser = build_laser(driver, options)
        laser.open()
        self._laser = laser
        self._audit = AuditLog(Path(audit) if audit else None, laser=str(laser.identity))
        self._audit.write("opened, dark", owner=os.getppid())
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
            self._audit.write(
                "found dark", why=status.obstacle or "the laser has turned itself off"
            )
        self._shone = status.emitting
        return asdict(status)

    def _do_get_power(self) -> float:
        return self._device.power_mw

    def _do_set_power(self, power_mw: float) -> float:
        accepted = self._device.set_power_mw(power_mw)
        self._audit.write("power", power_mw=accepted)
        return accepted

    def _do_arm(self, ceiling_mw: float) -> None:
        self._token = self._device.arm("the owner of the guardian", ceiling_mw)
        self._why_dark = ""
        self._audit.write("armed", ceiling_mw=ceiling_mw)

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
        self._audit.write("emission on", power_mw=self._device.power_mw)

    def _do_darken(self) -> None:
        self._device.darken()
        self._lit = False
        self._audit.write("emission off")

    def _do_disarm(self) -> None:
        self._token = None
        self._device.disarm()
        self._lit = False
        self._audit.write("disarmed, dark")

    def _do_close(self) -> None:
        device, self._laser = self._device, None
        self._lit = False
        self._token = None
        device.close()
        self._audit.write("closed, dark")

    def _darken(self, why: str) -> None:
        self._why_dark = why
        self._audit.write("emission off by the guardian", why=why)
        try:
            self._device.darken()
            self._lit = False
        except OpuError as error:  # it stays lit for us: the next poll tries again
            self._audit.write("emission off failed", why=str(error))

    def _end(self) -> None:
        if self._laser is None:
            return
        if self._lit:
            self._audit.write("emission off by the guardian", why="the owner is gone")
        laser, self._laser = self._laser, None
        try:
            laser.close()
        except OpuError as error:
            self._audit.write("the laser could not be darkened", why=str(error))
            raise
        self._audit.write("closed, dark")


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
        while not gone.wait(SILENCE_S / 6):
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
