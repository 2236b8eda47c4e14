"""Training runs: one for each way of feedback and seed, watched while they go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as TimeRemaining

from tools.interruption import advice
from tools.terminal import remarks
from training.figures import NAMES

if TYPE_CHECKING:
    from training.experiments import Feedback, Recipe, RunResult
    from training.projector import Projector
    from training.trainer import EpochRow
    from training.trainer import Progress as Step


_WIDTH_FOR_THREADS = 512


@dataclass(frozen=True)
class Series:
    """What the runs of a series have in common.

    Attributes:
        recipe: What is trained, and how.
        seeds: One run each.
        epochs: Instead of the recipe's.
        folder: Where the runs are kept; None keeps nothing.
        resume: Go on with the runs that are there.
    """

    recipe: Recipe
    seeds: Sequence[int]
    epochs: int | None = None
    folder: Path | None = None
    resume: bool = False

    def run_folder(self, feedback: Feedback, seed: int) -> Path | None:
        """Where a run is kept."""
        return None if self.folder is None else self.folder / f"{feedback}-seed{seed}"

    def train(
        self, feedback: Feedback, projector: Callable[[], Projector] | None = None
    ) -> list[RunResult]:
        """Train with every seed, one way of feedback.

        Args:
            feedback: The way.
            projector: Makes the projector of a run; None leaves it to the run.
        """
        with _threads_that_pay(self.recipe):
            return [self._run(feedback, seed, projector) for seed in self.seeds]

    def _run(
        self, feedback: Feedback, seed: int, projector: Callable[[], Projector] | None
    ) -> RunResult:
        from training.experiments import run

        folder = self.run_folder(feedback, seed)
        note = f"Add --resume to go on with the run in {folder}."
        kept = (folder or Path()) / "checkpoint.pt"
        with advice(note, if_there=kept), _Watch(f"{NAMES[feedback]}, seed {seed}") as watch:
            result = run(
                self.recipe,
                feedback,
                projector() if projector else None,
                seed=seed,
                folder=folder,
                resume=self.resume,
                epochs=self.epochs,
                observer=watch,
            )
        remarks().print(
            f"{NAMES[feedback]}, seed {seed}: test {result.score.name} "
            f"{result.score.shown(result.test)} after {result.rows[-1].epoch} epochs, "
            f"{result.seconds:.0f} s",
            highlight=False,
        )
        return result


@contextmanager
def _threads_that_pay(recipe: Recipe) -> Iterator[None]:
    """One thread for a small network: more of them would mostly wait for each other."""
    import torch

    before = torch.get_num_threads()
    if recipe.widest < _WIDTH_FOR_THREADS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Watch:
    """A bar on stderr with the loss and the score so far; an observer of the training."""

    def __init__(self, name: str) -> None:
        console = remarks()
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[told]}"),
            TimeElapsedColumn(),
            TimeRemaining(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            refresh_per_second=4,
        )
        self._name = name
        self._bar: TaskID | None = None
        self._score = ""

    def __enter__(self) -> _Watch:
        self._bars.start()
        self._bar = self._bars.add_task(self._name, total=None, told="")
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def on_step(self, progress: Step) -> None:
        """Move the bar."""
        if self._bar is not None:
            told = f"epoch {progress.epoch}/{progress.epochs}, loss {progress.loss:.3f}"
            self._bars.update(
                self._bar,
                completed=progress.step,
                total=progress.steps,
                told=told + self._score,
            )

    def on_epoch(self, row: EpochRow) -> None:
        """Note the score."""
        self._score = f", test {row.score['test']:.2f}"
