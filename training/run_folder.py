"""A run on disk: `metrics.jsonl`, one row an epoch under a header, and `checkpoint.pt`.

Whatever is killed when, both files are whole: they are written beside, synchronised, and renamed.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from training.errors import CheckpointError
from training.seal import require_sealed, seal
from training.sole_writer import LOCK, OWNER, sole_writer

SCHEMA = 2
METRICS = "metrics.jsonl"
_NONE: Mapping[str, Any] = MappingProxyType({})


class RunFolder:
    """The folder of one run, of which there is one only; it is written while it is `held`.

    Args:
        path: The folder; made if missing.
        settings: What decides the run, as JSON values; resuming needs the same.
        resume: Go on with a run that is there.
        earlier: Settings by dotted name (see `by_dotted_name`) that a run that is there may have,
            although they are others in `settings`; its header tells the new ones once it goes on.

    Raises:
        CheckpointError: Something is there and `resume` is false, or it is no run with these
            settings, or the folder cannot be made.
    """

    def __init__(
        self,
        path: Path,
        settings: Mapping[str, Any],
        resume: bool = False,
        earlier: Mapping[str, Any] = _NONE,
    ) -> None:
        self.path = path
        self.metrics = path / METRICS
        self.checkpoint = path / "checkpoint.pt"
        self._settings = self._noted = as_told(settings)
        try:
            path.mkdir(parents=True, exist_ok=True)
            occupied = any(not _is_left_over(entry) for entry in path.iterdir())
        except OSError as error:
            raise CheckpointError(f"Run folder {path}: {error.strerror}.") from error
        if occupied and not resume:
            raise CheckpointError(
                f"{path} is not empty, and a run is never overwritten. Resume it, or choose "
                "another folder."
            )
        if occupied:
            self._noted = self._checked_header(earlier)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else writes the folder while the block lasts; a new one gets its header.

        Raises:
            FolderBusyError: Another process holds it.
            CheckpointError: It cannot be locked.
        """
        with sole_writer(self.path):
            if not self.metrics.exists():
                self.write_metrics([])
            yield

    def write_metrics(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Header and all rows so far."""
        lines = [{"schema": SCHEMA, "settings": self._noted}, *rows]
        text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
        _replace(self.metrics, text.encode())

    def save(self, state: Mapping[str, Any]) -> None:
        """Put a new checkpoint in the place of the last one."""
        self._noted = self._settings  # a finished run that is only looked at keeps what it was
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

    def _checked_header(self, earlier: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of the run that is there."""
        try:
            with self.metrics.open() as file:
                header = json.loads(file.readline())
            found = dict(header["settings"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise CheckpointError(
                f"{self.path} is not the folder of a run: no {self.metrics.name} with a header. "
                "Choose another folder."
            ) from error
        require_same_settings(self.path, found, self._settings, earlier)
        if header.get("schema") != SCHEMA:
            raise CheckpointError(
                f"{self.path} holds a run of schema {header.get('schema')!r}, this program writes "
                f"{SCHEMA}. Resume with the version of opu that wrote it, or choose another folder."
            )
        return found


def require_same_settings(
    path: Path, found: Mapping[str, Any], own: Mapping[str, Any], earlier: Mapping[str, Any] = _NONE
) -> None:
    """Refuse a run that was made with other settings.

    Args:
        path: Its folder.
        found: Its settings, as the header tells them.
        own: What they have to be, as JSON values.
        earlier: What they may also be, by dotted name.

    Raises:
        CheckpointError: One is another; the message names each, and both values.
    """
    then, now = by_dotted_name(found), by_dotted_name(own)
    keys = [
        key
        for key in sorted({*then, *now})
        if not any(key in a and key in then and a[key] == then[key] for a in (now, earlier))
    ]
    if keys:
        told = (f"{key} was {_told(then, key)}, now {_told(now, key)}" for key in keys)
        raise CheckpointError(
            f"{path} holds a run with other settings ({', '.join(keys)}): {'; '.join(told)}. "
            "Resume with the same, or choose another folder."
        )


def by_dotted_name(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings one by one, each nested one by the names that lead to it, with dots."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= {f"{key}.{name}": each for name, each in by_dotted_name(value).items()}
        else:
            found[key] = value
    return found


def _told(settings: Mapping[str, Any], key: str) -> str:
    return repr(settings[key]) if key in settings else "not told"


def as_told(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a header tells them: JSON has no tuples."""
    told: dict[str, Any] = json.loads(json.dumps(settings))
    return told


def _is_left_over(path: Path) -> bool:
    """By a run that was killed before it had written its header."""
    return path.suffix == ".part" or path.name in (LOCK, OWNER)


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
