"""Libraries of vendors, imported when a driver first needs them."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from typing import Any

from opu_driver.errors import DriverMissingError


def vendor_library(module: str, extra: str) -> Any:
    """The module of an optional library.

    Args:
        module: Name to import.
        extra: The extra of this package that brings it.

    Raises:
        DriverMissingError: It is not installed, or does not load; the message says how to get it.
    """
    if sys.modules.get(module) is not None:
        return sys.modules[module]
    try:
        with warnings.catch_warnings():
            # SWIG's modules warn of themselves, and crash where warnings are errors.
            warnings.simplefilter("ignore", DeprecationWarning)
            return import_module(module)
    except ImportError as error:
        raise DriverMissingError(
            f"The library {module} cannot be imported ({error}). Install it with "
            f"`pip install 'opu[{extra}]'`; docs/devices.md says what else the device needs."
        ) from error
