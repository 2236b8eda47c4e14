"""An emulated laser as a program of its own.

It prints the port to open on its first line, keeps a logbook (`opu_driver.emulators.logbook`) in a
file if it is given one, and serves until it is ended or told to. On standard input it takes what
a hand would do to a real laser, a line each:

    interlock open | interlock closed | key off | key on | fault CODE
    unplug | plug in | disturb KIND ... | settle | output | quit

and answers `ok`, or the power that leaves it in milliwatts to `output`.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from opu_driver.emulators.laser_head import LaserHead
from opu_driver.emulators.logbook import Logbook
from opu_driver.emulators.text_server import Disturbance, Instrument, TextServer


class LaserEmulator(Instrument, Protocol):
    """An instrument with a laser in it."""

    head: LaserHead

    def open_interlock(self) -> None:
        """Open the interlock as this laser would take it."""


def serve(emulator: Callable[[LaserHead], LaserEmulator]) -> int:
    """Serve an emulated laser as the command line says; returns the exit status.

    Args:
        emulator: Makes the emulated laser around its head.
    """
    parser = argparse.ArgumentParser(description="An emulated laser that speaks its own protocol.")
    parser.add_argument("--port", default="pty", help="pty, tcp, or the number of a TCP port")
    parser.add_argument("--log", type=Path, help="file for the logbook")
    parser.add_argument("--max-power-mw", type=float, default=100.0)
    parser.add_argument("--wavelength-nm", type=float, default=532.0)
    parser.add_argument("--warm-up-s", type=float, default=0.0)
    parser.add_argument("--delay-s", type=float, default=0.0)
    parser.add_argument("--power-mw", type=float, default=0.0, help="power that is set already")
    parser.add_argument("--emitting", action="store_true", help="emit from the beginning")
    given = parser.parse_args()

    head = LaserHead(
        given.max_power_mw,
        given.wavelength_nm,
        given.warm_up_s,
        given.delay_s,
        Logbook(given.log),
    )
    head.power_mw = given.power_mw
    if given.emitting:
        head.turn_on()
    laser = emulator(head)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with TextServer(laser, given.port) as server:
        print(server.port, flush=True)
        for line in sys.stdin:
            if line.strip() == "quit":
                return 0
            print(by_hand(line.split(), laser, server), flush=True)
        while True:  # nobody is at its buttons; it goes on all the same
            time.sleep(1.0)


def by_hand(words: list[str], laser: LaserEmulator, server: TextServer) -> str:
    """Do what a hand would do to a real laser; returns what there is to say about it."""
    head = laser.head
    match words:
        case ["interlock", "open"]:
            laser.open_interlock()
        case ["interlock", "closed"]:
            head.close_interlock()
        case ["key", "on" | "off" as position]:
            head.turn_key(position == "on")
        case ["fault", code] if code.isdigit():
            head.fail(int(code))
        case ["unplug"]:
            server.unplug()
        case ["plug", "in"]:
            server.plug_in()
        case ["disturb", *kinds] if set(kinds) <= set(Disturbance):
            server.disturb(*map(Disturbance, kinds))
        case ["settle"]:
            server.settle()
        case ["output"]:
            return f"{head.output_mw:g}"
        case _:
            return f"not understood: {' '.join(words)}"
    return "ok"
