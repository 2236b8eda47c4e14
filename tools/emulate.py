"""`opu emulate`: a bench without hardware that real drivers drive, to rehearse on."""

from __future__ import annotations

import sys
import threading
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Annotated

import typer

from tools.terminal import results

if TYPE_CHECKING:
    from opu_driver.emulators.laser_head import LaserHead

_POWER_MW = 5.0
_EXPOSURE_US = 150.0  # Basler's emulation has no shorter one than 100
_PIXELS = 128
_PITCH_UM = 5.5
_LOOK_S = 0.1


def emulate(
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE.toml", help="Where the bench file goes.")
    ] = Path("emulated-bench.toml"),
    preset: Annotated[
        str, typer.Option("--preset", help="`ideal`, `quiet`, `realistic` or `rough`.")
    ] = "realistic",
    seed: Annotated[int, typer.Option("--seed", help="Seed of the medium and all noise.")] = 0,
    warm_up_s: Annotated[
        float, typer.Option("--warm-up-s", help="How long the laser warms up.")
    ] = 0.0,
    for_s: Annotated[
        float | None, typer.Option("--for-s", help="End after so many seconds.")
    ] = None,
) -> None:
    """Run an emulated laser, and write a bench file whose every device is emulated.

    The drivers are the real ones: ViALUX's library is replaced by one that keeps its mirrors in
    memory, Basler's camera emulation takes the frames, and a Cobolt answers on a serial line. Work
    on the bench from another terminal. This one tells what the laser does, and takes what a hand
    would do to it: `interlock open`, `interlock closed`, `key off`, `key on`, `unplug`, `plug in`.
    Ctrl-C ends it.
    """
    from opu_driver.emulators.cobolt import CoboltEmulator
    from opu_driver.emulators.laser_head import LaserHead
    from opu_driver.emulators.laser_program import by_hand
    from opu_driver.emulators.logbook import Logbook
    from opu_driver.emulators.text_server import TextServer
    from opu_driver.errors import InputError
    from opu_driver.extras import vendor_library
    from tools.json_file import write_text
    from tools.output_path import require_free, require_writable

    if seed < 0 or not 0 <= warm_up_s < 3600 or (for_s is not None and not for_s > 0):
        raise InputError(
            f"--seed {seed}, --warm-up-s {warm_up_s:g}, --for-s {for_s}: a natural number, less "
            "than an hour, and some time."
        )
    require_writable(out)
    require_free(out)
    vendor_library("serial", "serial")
    vendor_library("pypylon.pylon", "pylon")
    log = out.with_name(f"{out.name}.laser.jsonl").absolute()
    head = LaserHead(warm_up_s=warm_up_s, logbook=Logbook(log))
    laser = CoboltEmulator(head)
    with TextServer(laser, "tcp" if sys.platform == "win32" else "pty") as server:
        write_text(out, bench_text(server.port, log, preset, seed))
        try:
            results().print(
                f"{out} describes the emulated bench, as long as this runs. In another terminal:\n"
                f"  opu doctor --bench {out}\n"
                f"  opu calibrate --bench {out} --inputs 10 --out emulated-10.h5\n"
                f"  opu train digits --feedback optical --bench {out} --calibration emulated-10.h5",
                highlight=False,
            )
            _watch(head, lambda words: by_hand(words, laser, server), for_s)
        finally:
            out.unlink(missing_ok=True)  # it describes devices that are gone


def bench_text(port: str, log: Path, preset: str, seed: int) -> str:
    """The bench file of an emulated bench, as text.

    Raises:
        BenchFileError: There is no such preset, or what the devices need is not installed.
    """
    from opu_driver.bench_file import build_bench, parse_bench

    text = f"""# An emulated bench: real drivers, and devices that stand in for hardware.
# Made by `opu emulate`, which has to run meanwhile: it is the laser.

name = "emulated, {preset}, seed {seed}"

[modulator]
driver = "alp"

[camera]
driver = "pylon"
pitch_um = {_PITCH_UM}  # the emulation does not tell it
exposure_us = {_EXPOSURE_US}
region = {{ row = 0, column = 0, height = {_PIXELS}, width = {_PIXELS} }}

[laser]
driver = "cobolt"
port = "{port}"
power_mw = {_POWER_MW}

# The optics between the devices; the keys are those of [scene] of a simulated bench.
[emulation]
laser_log = '{log}'
preset = "{preset}"
seed = {seed}
black_level = 0.0  # Basler's emulation has none
"""
    build_bench(parse_bench(tomllib.loads(text)))
    return text


def _watch(head: LaserHead, do: Callable[[list[str]], str], for_s: float | None) -> None:
    """Tell each change of the light, and do what is typed, until it is enough."""
    typed: SimpleQueue[str] = SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            typed.put(line)

    threading.Thread(target=listen, daemon=True).start()
    begin = time.monotonic()
    told = None

    def tell() -> None:
        nonlocal told
        light = f"{head.output_mw:.3g} mW" if head.shining else "dark"
        if light != told:
            results().print(f"{time.strftime('%H:%M:%S')}  laser {light}", highlight=False)
            told = light

    try:
        while for_s is None or time.monotonic() - begin < for_s:
            tell()
            try:
                line = typed.get(timeout=_LOOK_S)
            except Empty:
                continue
            if line.split():
                results().print(do(line.split()), highlight=False)
    finally:
        tell()  # it may have changed since the last look
