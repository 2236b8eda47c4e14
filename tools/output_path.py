"""Whether results will find their place: asked before hours of work, not after."""

from __future__ import annotations

import os
from pathlib import Path

from opu_driver.errors import InputError


class OutputError(InputError):
    """A place for results that cannot be used."""


def require_writable(*paths: Path | None) -> None:
    """Refuse places whose folder is missing or cannot be written; None is no place.

    Raises:
        OutputError: Names the folder.
    """
    for path in paths:
        if path is None:
            continue
        folder = path.absolute().parent
        if not folder.is_dir():
            raise OutputError(f"{path} cannot be written: there is no folder {folder}. Create it.")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(
                f"{path} cannot be written: you may not write to {folder}. Name another place."
            )
        if path.is_dir():
            raise OutputError(f"{path} is a folder, and a file has to go there. Name a file.")


def require_free(path: Path, remedy: str = "") -> None:
    """Refuse a place that is taken.

    Args:
        path: The place.
        remedy: What else than moving it away can be done.

    Raises:
        OutputError: There is something already.
    """
    if path.exists():
        raise OutputError(
            f"{path} exists already, and results are never overwritten. Move it away or name "
            f"another place. {remedy}".rstrip()
        )
