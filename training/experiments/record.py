"""What is left of a run: its folder, read again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.encoding import encoder_of
from training.errors import CheckpointError, SettingsError
from training.experiments.run import RunResult
from training.run_folder import METRICS, SCHEMA, as_told, require_same_settings
from training.run_state import EpochRow
from training.score import Score


@dataclass(frozen=True)
class RunRecord:
    """A run as its folder tells it.

    Attributes:
        path: The folder.
        settings: What decided the run.
        result: What it came to; as far as it had come, if it was interrupted.
        planned_epochs: What it was to have.
    """

    path: Path
    settings: Mapping[str, Any]
    result: RunResult

    @property
    def planned_epochs(self) -> int:
        """Epochs of the whole run."""
        return int(self.settings["epochs"])

    @classmethod
    def read(cls, path: Path) -> RunRecord:
        """Read the folder of a run.

        Raises:
            CheckpointError: It is no such folder, is damaged, or not one epoch is finished.
        """
        file = path / METRICS
        header, lines = _content(file)
        settings = _settings(file, header)
        try:
            result = RunResult(
                settings["name"],
                settings["task"],
                settings["feedback"],
                settings["seed"],
                encoder_of(settings["encoder"]),
                Score(**settings["score"]),
                tuple(EpochRow(**line) for line in lines),
            )
            settings["epochs"] = int(settings["epochs"])
        except (ValueError, TypeError, KeyError, SettingsError) as error:
            raise _damaged(file, error) from error
        if not result.rows:
            raise CheckpointError(f"{path}: nothing of this run is finished. Resume it first.")
        return cls(path, settings, result)


def _content(file: Path) -> tuple[Any, list[Any]]:
    """Header and rows."""
    try:
        header, *lines = [
            json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()
        ]
    except OSError as error:
        raise CheckpointError(
            f"{file} cannot be read ({error.strerror}). Name the folder of a run, which opu "
            "train makes, or a folder of such folders."
        ) from error
    except ValueError as error:
        raise _damaged(file, error) from error
    return header, lines


def _settings(file: Path, header: Any) -> dict[str, Any]:
    try:
        schema, settings = header["schema"], dict(header["settings"])
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged(file, error) from error
    if schema != SCHEMA:
        raise CheckpointError(
            f"{file} has schema {schema}, this program reads {SCHEMA}. Read it with the version of "
            "opu that wrote it."
        )
    return settings


def _damaged(file: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{file} is no record of a run, or a damaged one: {error}.")


def finished_run(path: Path, settings: Mapping[str, Any]) -> RunResult | None:
    """What a finished run came to; None if there is no run, or one that is to be gone on with.

    Args:
        path: Its folder.
        settings: What it has to be the run of, see `run_settings`.

    Raises:
        CheckpointError: It was made with other settings, or is damaged.
    """
    file = path / METRICS
    if not file.exists():
        return None
    header, lines = _content(file)
    found = {key: value for key, value in _settings(file, header).items() if key != "score"}
    require_same_settings(path, found, as_told(settings))
    if not lines:
        return None
    record = RunRecord.read(path)
    done = record.result.rows[-1].epoch == record.planned_epochs
    return record.result if done else None


def runs_in(path: Path) -> tuple[RunRecord, ...]:
    """The run of a folder, or all runs of the folders in it, in the order of their names.

    Raises:
        CheckpointError: There is none, or one is damaged.
    """
    if (path / METRICS).exists():
        return (RunRecord.read(path),)
    found = sorted(file.parent for file in path.glob(f"*/{METRICS}"))
    if not found:
        raise CheckpointError(
            f"{path} holds no run. Name the folder of a run, which opu train makes, or a folder of "
            "such folders."
        )
    return tuple(RunRecord.read(folder) for folder in found)
