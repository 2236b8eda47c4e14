"""Emulated lasers of every kind, each with its driver."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from opu_driver.emulators.cobolt import CoboltEmulator
from opu_driver.emulators.laser_head import LaserHead
from opu_driver.emulators.obis import ObisEmulator
from opu_driver.emulators.scpi import BENCH_KEYS, ScpiEmulator
from opu_driver.emulators.text_server import TextServer
from opu_driver.laser import Laser
from opu_driver.lasers.cobolt import Cobolt
from opu_driver.lasers.obis import Obis
from opu_driver.lasers.scpi import Scpi

TIMEOUT_MS = 200.0
SLOW_S = 0.3


@dataclass
class Lab:
    """A laser, its driver, and the cable between them."""

    head: LaserHead
    emulator: Any
    server: TextServer
    driver: Callable[[], Laser]
    off: str

    def laser(self) -> Laser:
        return self.driver()


def _cobolt(server: TextServer) -> Laser:
    return Cobolt(server.port, timeout_ms=TIMEOUT_MS)


def _obis(server: TextServer) -> Laser:
    return Obis(server.port, timeout_ms=TIMEOUT_MS)


def _scpi(server: TextServer) -> Laser:
    if server.port.startswith("socket://"):
        host, port = server.port.removeprefix("socket://").split(":")
        resource = f"TCPIP::{host}::{port}::SOCKET"
    else:
        resource = f"ASRL{server.port}::INSTR"
    keys: dict[str, Any] = dict(BENCH_KEYS)
    return Scpi(resource, 532.0, 100.0, timeout_ms=TIMEOUT_MS, **keys)


_KINDS: dict[str, tuple[Callable[[LaserHead], Any], Callable[[TextServer], Laser], str]] = {
    "cobolt": (CoboltEmulator, _cobolt, "l0"),
    "cobolt without autostart": (
        lambda head: CoboltEmulator(head, autostart=False, has_key=False),
        _cobolt,
        "l0",
    ),
    "cobolt of the newer kind": (
        lambda head: CoboltEmulator(head, model="0488-06-01-0100-1100"),
        _cobolt,
        "l0",
    ),
    "obis": (ObisEmulator, _obis, "SOUR:AM:STAT OFF"),
    "scpi": (ScpiEmulator, _scpi, "OUTP OFF"),
}

_LABS = [
    ("cobolt", "pty"),
    ("cobolt", "tcp"),
    ("cobolt without autostart", "pty"),
    ("cobolt of the newer kind", "pty"),
    ("obis", "pty"),
    ("scpi", "pty"),
    ("scpi", "tcp"),
]


def make_lab(kind: str, port: str, **head: Any) -> Lab:
    """A lab of one kind; its server has to be closed."""
    if port == "pty" and sys.platform == "win32":
        pytest.skip("this system has no pseudo-terminals")
    pytest.importorskip("serial", reason="pyserial is not installed: pip install 'opu[serial]'")
    if kind == "scpi":
        pytest.importorskip("pyvisa_py", reason="not installed: pip install 'opu[visa]'")
    make, drive, off = _KINDS[kind]
    laser_head = LaserHead(**head)
    emulator = make(laser_head)
    server = TextServer(emulator, port, slow_s=SLOW_S)
    return Lab(laser_head, emulator, server, lambda: drive(server), off)


@pytest.fixture(params=_LABS, ids=", ".join)
def any_lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Every kind of laser on every kind of cable."""
    lab = make_lab(*request.param)
    with lab.server:
        yield lab


@pytest.fixture
def lab_of() -> Iterator[Callable[..., Lab]]:
    """Makes labs of a kind; they are closed in the end."""
    labs: list[Lab] = []

    def make(kind: str, port: str = "pty", **head: Any) -> Lab:
        labs.append(make_lab(kind, port, **head))
        return labs[-1]

    yield make
    for lab in labs:
        lab.server.close()
