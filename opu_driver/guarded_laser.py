"""A laser behind its guardian: the same contract, and dark also when this process is killed."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from opu_driver import errors
from opu_driver.device import Identity
from opu_driver.driver_options import build_laser
from opu_driver.errors import DeviceLostError, DeviceStateError, OpuError
from opu_driver.guardian import BEAT_S
from opu_driver.laser import Laser, LaserStatus

log = logging.getLogger("opu.laser")

_GOODBYE_S = 3.0


class GuardedLaser(Laser):
    """The laser of any driver, driven by a guardian process (see `opu_driver.guardian`).

    Args:
        driver: Name of the laser's driver.
        options: The keyword arguments of the driver's constructor, plain values.
        audit_log: Where every command to the light is kept; None for nowhere.

    Raises:
        BenchFileError: There is no such driver.
        DriverMissingError: Its library is not installed.
        SettingError: As the driver's constructor.
    """

    guarded = True

    def __init__(self, driver: str, options: Mapping[str, Any], audit_log: Path | None) -> None:
        self._driver = driver
        self._options = dict(options)
        self._audit_log = audit_log
        # Never opened here; it checks the options and knows the address.
        self._plain = build_laser(driver, self._options)
        self._guardian: subprocess.Popen[str] | None = None
        self._left_behind: subprocess.Popen[str] | None = None
        self._facts: dict[str, Any] = {}
        self._lost = ""
        self._number = 0
        self._asking = threading.RLock()
        self._writing = threading.Lock()
        self._closing = threading.Event()
        self._pulse: threading.Thread | None = None

    @property
    def address(self) -> str | None:
        """That of the driver behind the guardian."""
        return self._plain.address

    @property
    def identity(self) -> Identity:
        """Who the laser says it is."""
        return Identity(**self._known("identity"))

    @property
    def wavelength_nm(self) -> float:
        """Vacuum wavelength, nanometres."""
        return float(self._known("wavelength_nm"))

    @property
    def power_limits_mw(self) -> tuple[float, float]:
        """Lowest and highest power that can be set, milliwatts."""
        low, high = self._known("power_limits_mw")
        return float(low), float(high)

    def _known(self, name: str) -> Any:
        if not self._facts:
            raise DeviceStateError("The laser has not been opened yet; open it first.")
        return self._facts[name]

    def _open(self) -> None:
        if self._left_behind is not None:  # it holds the line, and opening darkens as well
            self._left_behind.kill()
            self._left_behind.wait(_GOODBYE_S)
            self._left_behind = None
        self._guardian = _start()
        self._lost = ""
        self._closing.clear()
        self._facts = self._ask(
            "open",
            driver=self._driver,
            options=self._options,
            audit=str(self._audit_log) if self._audit_log else None,
        )
        self._pulse = threading.Thread(target=self._beat, daemon=True, name="laser-heartbeat")
        self._pulse.start()

    def _close(self) -> None:
        self._closing.set()
        guardian, self._guardian = self._guardian, None
        if guardian is None:
            return
        with self._writing, suppress(OSError, ValueError):
            pipe = _stdin(guardian)
            # Closing the pipe would do, were there not forked processes that hold it open, too.
            pipe.write(json.dumps({"do": "close"}) + "\n")
            pipe.close()
        try:
            guardian.wait(_GOODBYE_S)
        except subprocess.TimeoutExpired:
            log.error("The laser does not answer; its guardian goes on trying to darken it.")
            self._left_behind = guardian
            threading.Thread(target=guardian.wait, daemon=True, name="laser-guardian").start()
        if guardian.stdout is not None:
            guardian.stdout.close()
        if self._pulse is not None:
            self._pulse.join()
            self._pulse = None

    def _status(self) -> LaserStatus:
        return LaserStatus(**self._ask("status"))

    def _get_power_mw(self) -> float:
        return float(self._ask("get_power"))

    def _set_power_mw(self, power_mw: float) -> None:
        self._ask("set_power", power_mw=power_mw)

    def _set_emission(self, on: bool) -> None:
        self._ask("emit" if on else "darken")

    def _arm(self, ceiling_mw: float) -> None:
        self._ask("arm", ceiling_mw=ceiling_mw)

    def _disarm(self) -> None:
        if self._guardian is not None:
            self._ask("disarm")

    def _ask(self, what: str, **arguments: Any) -> Any:
        with self._asking:
            guardian = self._guardian
            if guardian is None:
                raise DeviceLostError(self._lost or "The laser has no guardian; open it.")
            self._number += 1
            answer: dict[str, Any] = {}
            try:
                self._send({"do": what, "number": self._number, **arguments})
                while answer.get("number") != self._number:  # an interrupt may have left old ones
                    answer = json.loads(
                        "" if guardian.stdout is None else guardian.stdout.readline()
                    )
            except (OSError, ValueError):  # also an answer that is none: the pipe's end
                self._rescue(guardian)
        if "error" in answer:
            raise getattr(errors, answer["error"])(answer["message"])
        return answer["value"]

    def _send(self, request: dict[str, Any]) -> None:
        guardian = self._guardian
        if guardian is None:
            return
        with self._writing:
            pipe = _stdin(guardian)
            pipe.write(json.dumps(request) + "\n")
            pipe.flush()

    def _beat(self) -> None:
        while not self._closing.wait(BEAT_S):
            guardian = self._guardian
            if guardian is None or guardian.poll() is not None:
                if not self._closing.is_set():
                    with suppress(DeviceLostError):
                        self._ask("status")  # finds the guardian dead, and has another darken
                return
            with suppress(OSError, ValueError):
                self._send({"do": "beat"})

    def _rescue(self, guardian: subprocess.Popen[str]) -> None:
        """The guardian has died: darken through another, whose opening leaves the laser dark.

        Raises:
            DeviceLostError: Always; what the laser did in between nobody has watched.
        """
        self._guardian = None
        guardian.kill()
        guardian.wait(_GOODBYE_S)
        for pipe in (guardian.stdin, guardian.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        if not self._facts:
            raise DeviceLostError(
                "The laser's guardian process ended before the laser was open; its own message is "
                "on standard error."
            )
        log.error("The laser's guardian has died; another one darkens the laser.")
        try:
            with GuardedLaser(self._driver, self._options, self._audit_log) as other:
                dark = not other.emitting
        except OpuError as error:
            log.error("It could not: %s", error)
            dark = False
        self._lost = (
            "The laser's guardian process has died. "
            + ("The laser has been darkened" if dark else "THE LASER MAY STILL EMIT: turn its key")
            + "; close and open the bench."
        )
        raise DeviceLostError(self._lost)


def _start() -> subprocess.Popen[str]:
    apart: dict[str, Any] = {"start_new_session": True}  # the terminal's Ctrl-C is not for it
    if sys.platform == "win32":
        # A console of its own, too: closing a console ends all that share it.
        apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return subprocess.Popen(
        [sys.executable, "-c", "from opu_driver.guardian import main; main()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        **apart,
    )


def _stdout(guardian: subprocess.Popen[str]) -> Any:
    return guardian.stdout


def _stdin(guardian: subprocess.Popen[str]) -> Any:
    return guardian.stdin
