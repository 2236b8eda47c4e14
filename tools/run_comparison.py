"""What differs between training runs: their settings, and what they came to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.results_table import Result, results_of
from training.figures import feedback_name

if TYPE_CHECKING:
    from training.experiments import Feedback
    from training.experiments.record import RunRecord

_OF_EACH_RUN = ("feedback", "seed")


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

    Args:
        earlier: Runs of one task, of any feedback and seeds.
        later: The others; of a task with the same score.

    Raises:
        SettingsError: Their scores cannot be compared.
    """

    def __init__(self, earlier: Sequence[RunRecord], later: Sequence[RunRecord]) -> None:
        from training.errors import SettingsError

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

        then = {result.feedback: result for result in _results(self.earlier)}
        now = {result.feedback: result for result in _results(self.later)}
        return [_row(then.get(way), now.get(way)) for way in FEEDBACKS if {way} & {*then, *now}]

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
            "earlier": [run.result.as_json() for run in self.earlier],
            "later": [run.result.as_json() for run in self.later],
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
        report.section("What was different")
        if self.settings():
            cells = [setting.cells for setting in self.settings()]
            report.table(("Setting", "earlier", "later"), cells)
        else:
            report.note(self.nothing_differs)
        for name, runs in (("Earlier", self.earlier), ("Later", self.later)):
            report.section(f"{name}: {_place(runs)}")
            for group in _drawn_together(runs):
                report.figure(
                    figures.learning_curves(group),
                    "Learning curves",
                    f"{self.score.shortfall_name.capitalize()} after every epoch: mean of the runs "
                    "and, where there are several seeds, a band from the best to the worst.",
                )
            fed = [run.result for run in runs if run.result.rows[0].alignment_deg]
            if fed:
                report.figure(
                    figures.alignment_angles(fed[0]),
                    f"Alignment angles, {feedback_name(fed[0].feedback, fed[0].encoder)}, "
                    f"seed {fed[0].seed}",
                    "Angle between the feedback and the true gradient at each tap: 90 degrees have "
                    "nothing in common.",
                )
        return report.html("opu compare")


def _drawn_together(runs: Sequence[RunRecord]) -> list[list[Any]]:
    """Results of equal length: one picture each."""
    groups: dict[int, list[Any]] = {}
    for run in runs:
        groups.setdefault(len(run.result.rows), []).append(run.result)
    return list(groups.values())


def _results(runs: Sequence[RunRecord]) -> list[Result]:
    return results_of(run.result for run in runs)


def _row(then: Result | None, now: Result | None) -> tuple[str, ...]:
    return (
        " / ".join(dict.fromkeys(each.name for each in (then, now) if each is not None)),
        "–" if then is None else then.cells[1],
        "–" if now is None else now.cells[1],
        "–" if then is None or now is None else _difference(then, now),
        f"{then.runs if then else 0}, {now.runs if now else 0}",
    )


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
        for key, value in _flat(run.settings).items():
            if key not in _OF_EACH_RUN and value not in found.setdefault(key, []):
                found[key].append(value)
    return {key: " or ".join(values) for key, values in found.items()}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = str(value)
    return flat


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
