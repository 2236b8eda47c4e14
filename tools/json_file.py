"""Figures as JSON: written whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

JsonOption = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Also write the figures to a JSON file."),
]


def write_text(path: Path, text: str) -> None:
    """Write a text file, replacing one of before; a reader sees the old or the new, never a part.

    Raises:
        OSError: It cannot be written.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    aside = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        aside.chmod(0o644)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: Path | None, content: Any) -> None:
    """Write figures; numbers that are not finite become null. Without a path nothing happens.

    Raises:
        OSError: It cannot be written.
    """
    if path is not None:
        write_text(path, json.dumps(plain(content), indent=2, allow_nan=False) + "\n")


def plain(content: Any) -> Any:
    """Dataclasses, mappings, sequences, arrays and paths as what JSON knows."""
    if dataclasses.is_dataclass(content) and not isinstance(content, type):
        return {f.name: plain(getattr(content, f.name)) for f in dataclasses.fields(content)}
    if isinstance(content, Mapping):
        return {str(key): plain(value) for key, value in content.items()}
    if hasattr(content, "tolist"):  # an array, or a number of numpy
        return plain(content.tolist())
    if isinstance(content, list | tuple | set | frozenset):
        return [plain(value) for value in content]
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, str | int | bool) or content is None:
        return content
    return str(content)
