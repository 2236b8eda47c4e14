"""`opu devices`: which drivers there are, what they need, and what is connected."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tools.json_file import JsonOption, write_json
from tools.terminal import results

if TYPE_CHECKING:
    from opu_driver.device import Device, Found
    from opu_driver.registry import Kind


@dataclass(frozen=True)
class DriverState:
    """A driver, as it stands on this machine.

    Attributes:
        kind: Modulator, camera or laser.
        name: What a bench file calls it.
        ready: Whether what it needs is installed.
        searched: Whether devices were looked for; some cannot be without disturbing them.
        found: The devices that are connected now.
        required: The keys that a bench file has to give it, those of a device that is found too.
        remedy: What to install or do; empty if nothing.
    """

    kind: Kind
    name: str
    ready: bool
    searched: bool = False
    found: tuple[Found, ...] = ()
    required: tuple[str, ...] = ()
    remedy: str = ""

    @property
    def connected(self) -> str:
        """What is known of its devices, for people."""
        if not self.ready:
            return ""
        if not self.searched:
            keys = f"its {self.required[0]}" if self.required else "its keys"
            section = f"write {keys} in [{self.kind.value}], see docs/devices.md"
            return f"not searched for: {section}"
        return "\n".join(map(described, self.found)) or "nothing"


def devices(json: JsonOption = None) -> None:
    """List the drivers, what is connected, and what to install for the rest.

    Nothing is opened or disturbed. Serial ports that do not say by their USB identity that they
    are a laser's are not asked.
    """
    from rich.markup import escape
    from rich.table import Table

    from tools.output_path import require_writable

    require_writable(json=json)
    states = driver_states()
    table = Table(title="Drivers", title_justify="left", title_style="bold", header_style="dim")
    for column in ("kind", "driver", "", "connected, with the keys of the bench file"):
        table.add_column(column, overflow="fold")
    for state in states:
        word = "[green]ready[/]" if state.ready else "[yellow]not ready[/]"
        table.add_row(state.kind.value, escape(state.name), word, escape(state.connected))
    results().print(table)
    for state in states:
        if state.remedy:
            results().print(f"[bold]{escape(state.name)}[/]: {escape(state.remedy)}\n")
    results().print("`opu init` writes a bench file for what is connected.")
    write_json(json, states)


def driver_states() -> list[DriverState]:
    """All drivers of this machine but those of no device: virtual ones, and recordings."""
    from opu_driver.registry import Kind, names

    return [
        _state(kind, name)
        for kind in Kind
        for name in names(kind)
        if not name.startswith(("virtual", "recording"))
    ]


def described(found: Found) -> str:
    """A device and how a bench file addresses it."""
    keys = ", ".join(f"{name} = {value!r}" for name, value in found.options.items())
    known = f"{found.identity} ({keys})" if keys else str(found.identity)
    return f"{known}, {found.reservation}" if found.reservation else known


def _state(kind: Kind, name: str) -> DriverState:
    from opu_driver.errors import DeviceError, DriverMissingError
    from opu_driver.registry import find

    try:
        driver = find(kind, name)
        found, remedy = tuple(driver.discover()), ""
    except DriverMissingError as error:
        return DriverState(kind, name, ready=False, remedy=str(error))
    except DeviceError as error:
        found, remedy = (), str(error)
    return DriverState(
        kind,
        name,
        ready=True,
        searched=driver.is_searched_for(),
        found=found,
        required=required_keys(driver),
        remedy=remedy,
    )


def required_keys(driver: type[Device]) -> tuple[str, ...]:
    """The keys that a driver's section of the bench file has to have."""
    parameters = inspect.signature(driver).parameters.items()
    empty = inspect.Parameter.empty
    return tuple(name for name, p in parameters if p.default is empty and name != "scene")
