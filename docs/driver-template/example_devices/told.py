"""The errors of the makers' library as errors of the bench."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opu_driver.errors import (
    DeviceBusyError,
    DeviceError,
    DeviceLostError,
    DeviceNotFoundError,
)

from example_devices import vendor


@contextmanager
def told(kind: str) -> Iterator[None]:
    """Say what went wrong and what to do; no error of a library gets through.

    Raises:
        DeviceNotFoundError, DeviceBusyError, DeviceLostError, DeviceError: As their names say.
    """
    try:
        yield
    except vendor.VendorError as error:
        if error.code == "absent":
            raise DeviceNotFoundError(
                f"There is {error}; connected is {vendor.SERIALS[kind]!r}. Check cable and power, "
                "or set serial."
            ) from error
        if error.code == "in use":
            raise DeviceBusyError(
                f"The {kind} cannot be opened ({error}). Close the program that uses it."
            ) from error
        if error.code == "gone":
            raise DeviceLostError(
                f"The {kind} does not answer any more ({error}). Check its cable and power, then "
                "close and open it."
            ) from error
        raise DeviceError(f"The {kind} refuses: {error}.") from error
