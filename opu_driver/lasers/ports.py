"""Serial ports on which a laser may be, told by what their USB descriptors say."""

from __future__ import annotations

from dataclasses import dataclass

from opu_driver.extras import vendor_library


@dataclass(frozen=True)
class Port:
    """A serial port and what is known of the device behind it without a word to it.

    Attributes:
        name: As a bench file names it.
        product: What the device calls itself; empty if unknown.
        serial: Its serial number in the USB descriptor; empty if unknown.
    """

    name: str
    product: str = ""
    serial: str = ""


def ports_of(vendor_id: int, word: str) -> list[Port]:
    """Serial ports whose USB vendor or description says that a laser is behind them.

    Nothing is opened, and not a byte is sent.

    Args:
        vendor_id: USB vendor number of the laser's maker.
        word: A word of the description that only this laser has.

    Raises:
        DriverMissingError: pyserial is not installed.
    """
    found = []
    for port in vendor_library("serial.tools.list_ports", "serial").comports():
        description = " ".join(filter(None, (port.description, port.product, port.manufacturer)))
        if port.vid == vendor_id or word.casefold() in description.casefold():
            found.append(
                Port(port.device, port.product or port.description or "", port.serial_number or "")
            )
    return found
