"""What is left of a run: its folder, read again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.errors import CheckpointError
from training.experiments.run import RunResult
from training.run_folder import METRICS, SCHEMA
from training.score import Score
from training.trainer import EpochRow


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
        try:
            header, *lines = [
                json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()
            ]
            if header["schema"] != SCHEMA:
                raise CheckpointError(
                    f"{file} has schema {header['schema']}, this program reads {SCHEMA}. Read it "
                    "with the version of opu that wrote it."
                )
            settings = dict(header["settings"])
            result = RunResult(
                settings["name"],
                settings["task"],
                settings["feedback"],
                settings["seed"],
                Score(**settings["score"]),
                tuple(EpochRow(**line) for line in lines),
            )
            settings["epochs"] = int(settings["epochs"])
        except OSError as error:
            raise CheckpointError(
                f"{file} cannot be read ({error.strerror}). Name the folder of a run, which opu "
                "train makes, or a folder of such folders."
            ) from error
        except (ValueError, TypeError, KeyError) as error:
            raise CheckpointError(
                f"{file} is no record of a run, or a damaged one: {error}."
            ) from error
        if not result.rows:
            raise CheckpointError(f"{path}: nothing of this run is finished. Resume it first.")
        return cls(path, settings, result)


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
