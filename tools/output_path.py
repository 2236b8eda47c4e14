"""Whether results will find their place: asked before hours of work, not after."""

from __future__ import annotations

import os
from collections.abc import Callable
from json import loads
from pathlib import Path

from opu_driver.errors import InputError

RECORDINGS = (".h5", ".hdf5")
"""How the name of a recording ends: whatever reads one knows it by that."""


class OutputError(InputError):
    """A place for results that cannot be used."""


def require_writable(
    *paths: Path | None,
    json: Path | None = None,
    html: Path | None = None,
    folder: Path | None = None,
) -> None:
    """Refuse places that the results of one command cannot go to; None is no place.

    A JSON file and a page replace one of before, but nothing else: it may be a day of measuring.

    Args:
        paths: Of files that replace nothing; `require_free` asks for that.
        json: Of figures.
        html: Of a page.
        folder: That the command fills, and makes where it is missing.

    Raises:
        OutputError: The folder of a file is missing or cannot be written, two results would go to
            one place, or something else is in the place of a JSON file or a page.
    """
    files = [path for path in (*paths, json, html) if path is not None]
    for path in files:
        _require_room(path)
    places = [path.resolve() for path in (*files, folder) if path is not None]
    for path, place in zip(files, places, strict=False):
        if places.count(place) > 1:
            raise OutputError(
                f"{path} is named for two results, and only the later would be left. Name a place "
                "for each."
            )
    _require_kind(json, "JSON file", _is_json)
    _require_kind(html, "HTML page", _is_html)


def _require_room(path: Path) -> None:
    folder = path.absolute().parent
    if not folder.is_dir():
        raise OutputError(f"{path} cannot be written: there is no folder {folder}. Create it.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(
            f"{path} cannot be written: you may not write to {folder}. Name another place."
        )
    if path.is_dir():
        raise OutputError(f"{path} is a folder, and a file has to go there. Name a file.")


def _require_kind(path: Path | None, kind: str, alike: Callable[[Path], bool]) -> None:
    """Refuse to replace what is of another kind; an empty file is of any."""
    if path is None or not path.exists():
        return
    if not path.is_file() or (path.stat().st_size and not alike(path)):
        raise OutputError(
            f"{path} exists already and is no {kind}, which is all that would be replaced there. "
            "Move it away or name another place."
        )


def _is_json(path: Path) -> bool:
    """Whether all of it is JSON: TOML and logs begin like it."""
    if not _beginning(path).startswith((b"{", b"[")):
        return False
    try:
        loads(path.read_bytes())
    except ValueError:
        return False
    return True


def _is_html(path: Path) -> bool:
    return _beginning(path).lower().startswith((b"<!doctype html", b"<html"))


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(256).lstrip()


def require_recording(path: Path | None) -> None:
    """Refuse a name for a recording by which nothing would know it; None is no place.

    Raises:
        OutputError: It ends in something else.
    """
    if path is not None and path.suffix.lower() not in RECORDINGS:
        raise OutputError(
            f"{path} is no name for a recording: it has to end in {' or '.join(RECORDINGS)}, or "
            "nothing would open it. Name it so."
        )


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
