"""Training results: mean and deviation over seeds, and what the light cost."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from training.figures import feedback_name

if TYPE_CHECKING:
    from training.experiments import Feedback, RunResult
    from training.score import Score


def result_columns(score: Score) -> tuple[str, ...]:
    """Columns of a table of results."""
    judged = f"test {score.name}" + (f", {score.unit}" if score.unit else "")
    return ("Feedback", judged, "runs", "time a run, s", "exposures a run")


@dataclass(frozen=True)
class Result:
    """What all runs of one way of feedback came to.

    Attributes:
        feedback: The way.
        name: The same in words.
        score: What was judged.
        test: Mean score on the test set after the last epoch.
        deviation: Its deviation over seeds (n - 1); None for a single run.
        runs: How many.
        seconds: Mean time of a run.
        exposures: Mean exposures of a run, references and markers included; 0 without light.
    """

    feedback: Feedback
    name: str
    score: Score
    test: float
    deviation: float | None
    runs: int
    seconds: float
    exposures: float

    @property
    def cells(self) -> tuple[str, ...]:
        """As a table shows it."""
        number = self.score.number
        deviation = "" if self.deviation is None else f" ± {number(self.deviation)}"
        return (
            self.name,
            f"{number(self.test)}{deviation}",
            f"{self.runs}",
            f"{self.seconds:.1f}",
            f"{self.exposures:,.0f}" if self.exposures else "–",
        )


def results_of(runs: Iterable[RunResult]) -> list[Result]:
    """One result for each way of feedback, in the order of their first runs."""
    groups: dict[Feedback, list[RunResult]] = {}
    for run in runs:
        groups.setdefault(run.feedback, []).append(run)
    return [_result(feedback, group) for feedback, group in groups.items()]


def _result(feedback: Feedback, runs: Sequence[RunResult]) -> Result:
    scores = [run.test for run in runs]
    return Result(
        feedback,
        " / ".join(dict.fromkeys(feedback_name(feedback, run.encoder) for run in runs)),
        runs[0].score,
        statistics.fmean(scores),
        statistics.stdev(scores) if len(runs) > 1 else None,
        len(runs),
        statistics.fmean(run.seconds for run in runs),
        statistics.fmean(all_exposures(run.projector) for run in runs),
    )


def no_better_than_shallow(results: Sequence[Result]) -> list[Result]:
    """Feedback alignment that was not worth its feedback: the last layer alone did as well."""
    return [
        result
        for result in results
        for floor in results
        if floor.feedback == "shallow"
        and result.feedback not in ("shallow", "backprop")
        and not result.score.is_better(result.test, floor.test)
    ]


def light_table(runs: Sequence[RunResult]) -> tuple[list[str], list[list[str]]]:
    """What the light of optical runs cost, and how good it was: columns, and a row a figure."""
    columns = ["", *(f"seed {run.seed}" for run in runs)]
    accounts = [_light(run) for run in runs]
    return columns, [[name, *(account[name] for account in accounts)] for name in accounts[0]]


def _light(run: RunResult) -> dict[str, str]:
    account: dict[str, Any] = dict(run.projector)
    rows = account["rows"]
    exposures = all_exposures(account)
    return {
        "exposures": f"{exposures:,.0f}",
        "of them references and markers": _share(account["reference_exposures"], exposures),
        "of them for new calibrations": _share(account.get("calibration_exposures", 0), exposures),
        "vectors": f"{rows:,.0f}",
        "of them dark, not shown": _share(rows - account["shown_rows"], rows),
        "signal to noise of a projection": _figure(account["snr"], ".4g"),
        "largest phase step between references, rad": _figure(account["phase_drift_rad"], ".3f"),
        "lowest fidelity to the calibration": _figure(account["fidelity"], ".4f"),
    }


def all_exposures(account: Mapping[str, float | None]) -> float:
    """Exposures of a projector's account: codes, references, and new calibrations."""
    kinds = ("exposures", "reference_exposures", "calibration_exposures")
    return sum(account.get(kind) or 0 for kind in kinds)


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "–"


def _figure(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
