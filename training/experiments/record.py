"""What is left of a run: its folder, read again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from training.encoding import encoder_of
from training.errors import CheckpointError, SettingsError
from training.experiments.recipe import FEEDBACKS
from training.experiments.run import RunResult
from training.run_folder import METRICS, SCHEMA, as_told, require_same_settings
from training.run_state import EpochRow, is_row
from training.score import Score


@dataclass(frozen=True)
class RunRecord:
    """A run as its folder tells it.

    Attributes:
        path: The folder.
        settings: What decided the run.
        result: What it came to; as far as it had come, if it was interrupted.
    """

    path: Path
    settings: Mapping[str, Any]
    result: RunResult

    @property
    def planned_epochs(self) -> int:
        """Epochs of the whole run."""
        return int(self.settings["epochs"])

    @property
    def epoch(self) -> int:
        """Epochs that are done."""
        return self.result.rows[-1].epoch

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return self.epoch == self.planned_epochs

    @classmethod
    def read(cls, path: Path) -> RunRecord:
        """Read the folder of a run.

        Raises:
            CheckpointError: It is no such folder, is damaged, or not one epoch is finished; of what
                is damaged the message names file and line.
        """
        file = path / METRICS
        header, lines = _content(file)
        settings = _settings(file, header)
        _require_epochs(file, lines)
        try:
            _require_kinds(settings, _KINDS)
            score = Score(**settings["score"])
            _require_kinds(asdict(score), _SCORE_KINDS)
            if settings["feedback"] not in FEEDBACKS:
                raise ValueError(f"feedback is {settings['feedback']!r}")
            result = RunResult(
                settings["name"],
                settings["task"],
                settings["feedback"],
                settings["seed"],
                encoder_of(settings["encoder"]),
                score,
                tuple(EpochRow(**line) for line in lines),
            )
        except (ValueError, TypeError, SettingsError) as error:
            raise _damaged(file, 1, str(error)) from error
        if not result.rows:
            raise CheckpointError(f"{path}: nothing of this run is finished. Resume it first.")
        return cls(path, settings, result)


def _content(file: Path) -> tuple[Any, list[Any]]:
    """Header and rows."""
    try:
        text = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise CheckpointError(
            f"{file} cannot be read ({error.strerror}). Name the folder of a run, which opu "
            "train makes, or a folder of such folders."
        ) from error
    except UnicodeDecodeError as error:
        raise _damaged(file, 1, str(error)) from error
    content = []
    for number, line in enumerate(text or [""], start=1):
        try:
            content.append(json.loads(line))
        except ValueError as error:
            raise _damaged(file, number, str(error)) from error
    return content[0], content[1:]


def _settings(file: Path, header: Any) -> dict[str, Any]:
    if not isinstance(header, Mapping) or not isinstance(header.get("settings"), Mapping):
        raise _damaged(file, 1, "it has to tell schema and settings")
    if header.get("schema") != SCHEMA:
        raise CheckpointError(
            f"{file} has schema {header.get('schema')}, this program reads {SCHEMA}. Read it "
            "with the version of opu that wrote it."
        )
    return dict(header["settings"])


_KINDS: Mapping[str, Any] = {
    "name": str,
    "task": str,
    "feedback": str,
    "seed": int,
    "epochs": int,
    "encoder": Mapping,
    "score": Mapping,
}
_SCORE_KINDS: Mapping[str, Any] = {"name": str, "unit": str, "step": int | float | None}


def _require_kinds(told: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    """Refuse what a header tells where it is of another kind.

    Raises:
        ValueError: Something is.
    """
    for name, kind in kinds.items():
        if not isinstance(told.get(name), kind):
            raise ValueError(f"{name} is {told.get(name)!r}")


def _require_epochs(file: Path, lines: Sequence[Any]) -> None:
    """Refuse lines that are not those of one epoch after the other.

    Raises:
        CheckpointError: One is not; the message names it.
    """
    for epoch, line in enumerate(lines):
        if not (
            is_row(line)
            and line["epoch"] == epoch
            and "test" in line["score"]
            and line["alignment_deg"].keys() == lines[0]["alignment_deg"].keys()
        ):
            raise _damaged(file, epoch + 2, f"it has to tell epoch {epoch}, and its score on test")


def _damaged(file: Path, line: int, why: str) -> CheckpointError:
    anew = "Resume the run, which writes its epochs anew from its checkpoint, or move" * (line > 1)
    return CheckpointError(
        f"{file} is no record of a run, or a damaged one: line {line}, {why}. "
        f"{anew or 'Move'} its folder away."
    )


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
    return record.result if record.finished else None


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
