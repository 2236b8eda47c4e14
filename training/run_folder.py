"""A run on disk: `metrics.jsonl`, one row an epoch under a header, and `checkpoint.pt`.

Whatever is killed when, both files are whole: they are written beside, synchronised, and renamed.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from training.errors import CheckpointError
from training.seal import require_sealed, seal

SCHEMA = 2
METRICS = "metrics.jsonl"


class RunFolder:
    """The folder of one run, of which there is one only.

    Args:
        path: The folder; made if missing.
        settings: What decides the run, as JSON values; resuming needs the same.
        resume: Go on with a run that is there.

    Raises:
        CheckpointError: Something is there and `resume` is false, or it is no run with these
            settings, or the folder cannot be made.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], resume: bool = False) -> None:
        self.path = path
        self.metrics = path / METRICS
        self.checkpoint = path / "checkpoint.pt"
        self._settings = as_told(settings)
        self._header = {"schema": SCHEMA, "settings": self._settings}
        try:
            path.mkdir(parents=True, exist_ok=True)
            occupied = any(entry.suffix != ".part" for entry in path.iterdir())
            if not occupied:
                self.write_metrics([])
        except OSError as error:
            raise CheckpointError(f"Run folder {path}: {error.strerror}.") from error
        if occupied and not resume:
            raise CheckpointError(
                f"{path} is not empty, and a run is never overwritten. Resume it, or choose "
                "another folder."
            )
        if occupied:
            self._check_header()

    def write_metrics(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Header and all rows so far."""
        lines = [self._header, *rows]
        text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
        _replace(self.metrics, text.encode())

    def save(self, state: Mapping[str, Any]) -> None:
        """Put a new checkpoint in the place of the last one."""
        part = self.checkpoint.with_suffix(".part")
        with part.open("w+b") as file:
            torch.save(dict(state), file)
            seal(file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.checkpoint)
        _sync_folder(self.path)

    def load(self) -> dict[str, Any] | None:
        """The last checkpoint, or None before the first. Loading executes nothing.

        One without the seal that `save` puts on it is refused, too: a run goes on from what is
        known to be whole, or not at all.

        Raises:
            CheckpointError: The file is damaged or holds something else.
        """
        if not self.checkpoint.exists():
            return None
        try:
            require_sealed(self.checkpoint)
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except (RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
            raise CheckpointError(
                f"{self.checkpoint} is no checkpoint that can be read ({_first_line(error)}). "
                "Delete it to begin the run again."
            ) from error
        if not isinstance(state, dict):
            raise CheckpointError(
                f"{self.checkpoint} holds a {type(state).__name__}, not a checkpoint of this "
                "program. Delete it to begin the run again."
            )
        return state

    def _check_header(self) -> None:
        try:
            with self.metrics.open() as file:
                header = json.loads(file.readline())
            found = dict(header["settings"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise CheckpointError(
                f"{self.path} is not the folder of a run: no {self.metrics.name} with a header. "
                "Choose another folder."
            ) from error
        require_same_settings(self.path, found, self._settings)
        if header != self._header:
            raise CheckpointError(
                f"{self.path} holds a run of schema {header.get('schema')!r}, this program writes "
                f"{SCHEMA}. Resume with the version of opu that wrote it, or choose another folder."
            )


def require_same_settings(path: Path, found: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Refuse a run that was made with other settings.

    Args:
        path: Its folder.
        found: Its settings, as the header tells them.
        own: What they have to be, as JSON values.

    Raises:
        CheckpointError: One is another; the message names each, and both values.
    """
    keys = sorted(key for key in {*found, *own} if found.get(key) != own.get(key))
    if keys:
        raise CheckpointError(
            f"{path} holds a run with other settings ({', '.join(keys)}): "
            + "; ".join(f"{key} was {found.get(key)!r}, now {own.get(key)!r}" for key in keys)
            + ". Resume with the same, or choose another folder."
        )


def as_told(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a header tells them: JSON has no tuples."""
    told: dict[str, Any] = json.loads(json.dumps(settings))
    return told


def _replace(path: Path, content: bytes) -> None:
    part = path.with_suffix(path.suffix + ".part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    if os.name == "posix":  # Windows cannot open folders, and its renames need no such help
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
