"""`opu init`: write a commented bench file for what is connected, and tell what is left to do."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tools.terminal import results

if TYPE_CHECKING:
    from tools.bench_template import BenchTemplate
    from tools.devices import DriverState


def init(
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE.toml", help="Where the bench file goes.")
    ] = Path("bench.toml"),
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            help="The simulated bench, `ideal`, `quiet`, `realistic` or `rough`, whatever is "
            "connected.",
        ),
    ] = None,
) -> None:
    """Write a bench file for the devices that are connected, every setting in it explained.

    What nobody but you can know is marked FILL IN, also a device that was not found. Without any
    device it is the simulated bench; the two are never mixed. Settings that keep their defaults are
    commented out.
    """
    from opu_driver.bench_file import build_bench, parse_bench
    from tools.bench_template import found_template, simulated_template
    from tools.devices import driver_states
    from tools.json_file import write_text
    from tools.output_path import require_free, require_writable

    require_writable(out)
    require_free(out)
    states = [] if preset is not None else driver_states()
    template = found_template(states)
    real = bool(template.taken)
    text = template.text if real else simulated_template(preset or "realistic")
    content = tomllib.loads(text)
    if not (real and template.left):
        build_bench(parse_bench(content))
    write_text(out, text)
    if preset is None:
        _tell_found(states, template)
    results().print(f"Written to {out}.", markup=False)
    if real and template.left:
        _tell_left(template, out)
    else:
        results().print(f"Try: opu doctor --bench {out}", markup=False)


def _tell_found(states: list[DriverState], template: BenchTemplate) -> None:
    """Which devices stand in the file, and which do not, and why."""
    from tools.devices import described

    told = results()
    if not template.taken:
        told.print("No device was found (opu devices tells more): this is the simulated bench.")
    for kind, (driver, device) in template.taken.items():
        told.print(f"{kind.value}: {driver}, {described(device)}", markup=False)
    for state in states:
        for device in state.found:
            if device.reservation:
                told.print(f"Not taken: {state.name}, {described(device)}", markup=False)


def _tell_left(template: BenchTemplate, out: Path) -> None:
    """What has to be filled in, key by key."""
    told = results()
    told.print(f"Left to fill in, where {out} says FILL IN:", markup=False)
    for key, explanation in template.left.items():
        told.print(f"  {key}: {explanation}", markup=False)
    told.print("docs/devices.md has an example for each driver.")
    told.print(f"Then: opu doctor --bench {out}", markup=False)
    told.print("Or, for the simulated bench: opu init --preset realistic --out simulated.toml")
