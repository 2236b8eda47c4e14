"""What differs between training runs: their settings, and what they came to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.results_table import Result, results_of
from training.figures import feedback_name

if TYPE_CHECKING:
    from training.experiments import Feedback
    from training.experiments.record import RunRecord

_OF_EACH_RUN = ("feedback", "seed")
_DIGITS = 8  # of a calibration's fingerprint: enough to tell two of them apart


@dataclass(frozen=True)
class DifferingSetting:
    """Something that decided the runs, and was not the same in both.

    Attributes:
        setting: Its name; that of a nested one is dotted.
        earlier: Its value; several where the runs differ among each other.
        later: The same of the others.
        feedback: The ways of feedback for which it differs like this.
        everywhere: These are all the ways that both have.
    """

    setting: str
    earlier: str
    later: str
    feedback: tuple[Feedback, ...]
    everywhere: bool

    @property
    def cells(self) -> tuple[str, ...]:
        """As a table shows it."""
        of = "" if self.everywhere else f" ({', '.join(self.feedback)})"
        return (self.setting + of, self.earlier, self.later)


class RunComparison:
    """Two sets of runs, side by side.

    Runs that are not finished are told, and their scores count for nothing.

    Args:
        earlier: Runs of one task, of any feedback and seeds.
        later: The others, of the same task.

    Raises:
        SettingsError: They are of several tasks, or judged by several scores.
    """

    def __init__(self, earlier: Sequence[RunRecord], later: Sequence[RunRecord]) -> None:
        from training.errors import SettingsError

        _require_one_task(earlier, later)
        scores = {(run.result.score.name, run.result.score.unit) for run in (*earlier, *later)}
        if len(scores) > 1:
            names = " and ".join(name for name, _ in sorted(scores))
            raise SettingsError(
                f"Runs that are judged by {names} cannot be compared. Give runs of one task."
            )
        self.earlier, self.later = earlier, later
        self.score = earlier[0].result.score

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of `rows`."""
        unit = f", {self.score.unit}" if self.score.unit else ""
        judged = f"test {self.score.name}{unit}"
        return ("Feedback", f"{judged}: earlier", "later", "difference", "runs")

    def rows(self) -> list[tuple[str, ...]]:
        """A row for each way of feedback that one of them has."""
        from training.experiments import FEEDBACKS

        both = [
            tuple([run for run in runs if run.result.feedback == way] for way in FEEDBACKS)
            for runs in (self.earlier, self.later)
        ]
        return [_row(then, now) for then, now in zip(*both, strict=True) if then or now]

    @property
    def unfinished(self) -> list[RunRecord]:
        """The runs that do not count, since they were interrupted."""
        return [run for run in (*self.earlier, *self.later) if not run.finished]

    @property
    def left_out(self) -> list[str]:
        """What there is to say of runs that do not count."""
        return [
            f"{run.path} is not finished, and is left out: {_progress(run)}. The command that "
            "began it goes on with --resume."
            for run in self.unfinished
        ]

    def settings(self) -> list[DifferingSetting]:
        """What differs of what decided the runs, for the ways of feedback that both have.

        Each way may be tuned for itself, so that only runs of the same one tell.
        """
        ways_of: dict[tuple[str, str, str], list[Feedback]] = {}
        shared = self._shared()
        for way in shared:
            then, now = _common(self.earlier, way), _common(self.later, way)
            for key in {**then, **now}:
                if then.get(key) != now.get(key):
                    found = (key, then.get(key, "–"), now.get(key, "–"))
                    ways_of.setdefault(found, []).append(way)
        return [
            DifferingSetting(*found, tuple(ways), everywhere=ways == shared)
            for found, ways in ways_of.items()
        ]

    @property
    def nothing_differs(self) -> str:
        """What there is to say where no setting differs."""
        if not self._shared():
            return "No way of feedback is in both, so that no settings are compared."
        return "The settings are the same."

    def _shared(self) -> list[Feedback]:
        """The ways of feedback that both have."""
        from training.experiments import FEEDBACKS

        then, now = ({run.result.feedback for run in runs} for runs in (self.earlier, self.later))
        return [way for way in FEEDBACKS if way in then & now]

    def as_json(self) -> dict[str, Any]:
        """Both for JSON."""
        return {
            "score": self.score,
            "settings": self.settings(),
            "earlier": [run.result.as_json() for run in self.earlier if run.finished],
            "later": [run.result.as_json() for run in self.later if run.finished],
            "unfinished": [
                {"run": run.path, "epoch": run.epoch, "epochs": run.planned_epochs}
                for run in self.unfinished
            ],
        }

    def page(self) -> str:
        """The comparison as a page with curves."""
        from tools.report import Report
        from training import figures

        report = Report(
            "Training runs compared",
            f"{_place(self.earlier)} (earlier) and {_place(self.later)} (later).",
            {
                f"{way}: difference": difference
                for way, _, _, difference, _ in self.rows()
                if difference != "–"
            },
        )
        report.section("What they came to")
        report.table(self.columns, self.rows())
        for line in self.left_out:
            report.note(line)
        report.section("What was different")
        if self.settings():
            cells = [setting.cells for setting in self.settings()]
            report.table(("Setting", "earlier", "later"), cells)
        else:
            report.note(self.nothing_differs)
        for name, runs in (("Earlier", self.earlier), ("Later", self.later)):
            report.section(f"{name}: {_place(runs)}")
            for group in _drawn_together([run for run in runs if run.epoch]):
                report.figure(
                    figures.learning_curves([run.result for run in group]),
                    "Learning curves" + ("" if group[0].finished else f", {_progress(group[0])}"),
                    f"{self.score.shortfall_name.capitalize()} after every epoch: mean of the runs "
                    "and, where there are several seeds, a band from the best to the worst.",
                )
            fed = [run.result for run in runs if run.finished and run.result.rows[0].alignment_deg]
            if fed:
                report.figure(
                    figures.alignment_angles(fed[0]),
                    f"Alignment angles, {feedback_name(fed[0].feedback, fed[0].encoder)}, "
                    f"seed {fed[0].seed}",
                    "Angle between the feedback and the true gradient at each tap: 90 degrees have "
                    "nothing in common.",
                )
        return report.html("opu compare")


def _require_one_task(*sets: Sequence[RunRecord]) -> None:
    """Refuse runs of several tasks, whose scores have nothing to do with each other.

    Raises:
        SettingsError: The message names a run of each.
    """
    from training.errors import SettingsError

    of_task = {run.result.task: run.path for runs in sets for run in runs}
    if len(of_task) > 1:
        told = " and ".join(f"{task} ({path})" for task, path in sorted(of_task.items()))
        raise SettingsError(
            f"Runs of {told} cannot be compared. Give two folders with runs of one task, or name "
            "the folders of two runs."
        )


def _progress(run: RunRecord) -> str:
    return f"epoch {run.epoch} of {run.planned_epochs}"


def _drawn_together(runs: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """Runs of equal length, done and planned: one picture each."""
    groups: dict[tuple[int, int], list[RunRecord]] = {}
    for run in runs:
        groups.setdefault((run.epoch, run.planned_epochs), []).append(run)
    return list(groups.values())


def _row(then: Sequence[RunRecord], now: Sequence[RunRecord]) -> tuple[str, ...]:
    """The row of one way of feedback."""
    names = [feedback_name(run.result.feedback, run.result.encoder) for run in (*then, *now)]
    before, after = _result(then), _result(now)
    return (
        " / ".join(dict.fromkeys(names)),
        _cell(then, before),
        _cell(now, after),
        "–" if before is None or after is None else _difference(before, after),
        f"{before.runs if before else 0}, {after.runs if after else 0}",
    )


def _result(runs: Sequence[RunRecord]) -> Result | None:
    """What the finished ones of one way came to."""
    found = results_of(run.result for run in runs if run.finished)
    return found[0] if found else None


def _cell(runs: Sequence[RunRecord], result: Result | None) -> str:
    """The score; how far the runs have come where none is finished."""
    if result is not None:
        return result.cells[1]
    return ", ".join(dict.fromkeys(_progress(run) for run in runs)) or "–"


def _difference(then: Result, now: Result) -> str:
    """With its standard error over seeds, where both have several."""
    if then.deviation is None or now.deviation is None:
        return f"{now.test - then.test:+.4g}"
    error = math.sqrt(then.deviation**2 / then.runs + now.deviation**2 / now.runs)
    return f"{now.test - then.test:+.4g} ± {error:.2g}"


def _common(runs: Sequence[RunRecord], way: Feedback) -> dict[str, str]:
    """Settings of one way, nested ones by dotted names; several values where its runs differ."""
    found: dict[str, list[str]] = {}
    for run in (run for run in runs if run.result.feedback == way):
        for key, value in _decided(run).items():
            if key not in _OF_EACH_RUN and value not in found.setdefault(key, []):
                found[key].append(value)
    return {key: " or ".join(values) for key, values in found.items()}


def _decided(run: RunRecord) -> dict[str, str]:
    """What decided a run, by dotted name; where it was light, also the calibrations."""
    from training.run_folder import by_dotted_name

    told = {key: str(value) for key, value in by_dotted_name(run.settings).items()}
    if run.result.feedback == "optical":
        used = dict.fromkeys(row.fingerprint[:_DIGITS] for row in run.result.rows)
        told["fingerprint"] = ", then ".join(used)
    return told


def _place(runs: Sequence[RunRecord]) -> str:
    folders = {run.path.parent if len(runs) > 1 else run.path for run in runs}
    return ", ".join(sorted(str(folder) for folder in folders))


def compare_runs(earlier: Path, later: Path) -> RunComparison:
    """Read two folders of runs and put them side by side.

    Raises:
        CheckpointError: One of them holds no run.
        SettingsError: They cannot be compared.
    """
    from training.experiments.record import runs_in

    return RunComparison(runs_in(earlier), runs_in(later))
