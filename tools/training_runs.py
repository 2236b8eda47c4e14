"""Training runs: one for each way of feedback and seed, watched while they go on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.interruption import advice
from tools.terminal import counted, remarks
from tools.training_watch import TrainingWatch
from training.figures import feedback_name

if TYPE_CHECKING:
    from training.experiments import Feedback, Recipe, RunResult
    from training.projector import Projector
    from training.run_state import EpochRow
    from training.team import Team
    from training.trainer import Observer, Progress

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
        earlier_feedback: Fingerprints of other matrices than the projector's through which they
            may have been trained so far.
        conditions: What else decides the runs, such as the bench that projects, as JSON values.
        earlier_conditions: Those that runs that are gone on with may have had instead so far.
        event_files: Whether TensorBoard's files are written beside the runs.
        checkpoint_every: Steps between checkpoints, besides those after each epoch.
        team: The processes that train together, this one among them; None if it is alone. The
            first of them keeps the runs and tells of them.
    """

    recipe: Recipe
    seeds: Sequence[int]
    epochs: int | None = None
    folder: Path | None = None
    resume: bool = False
    earlier_feedback: Collection[str] = ()
    conditions: Mapping[str, Any] = field(default_factory=dict)
    earlier_conditions: Mapping[str, Any] = field(default_factory=dict)
    event_files: bool = False
    checkpoint_every: int | None = None
    team: Team | None = None

    def run_folder(self, feedback: Feedback, seed: int) -> Path | None:
        """Where a run is kept."""
        if self.folder is None or not self.leads:
            return None
        return self.folder / f"{feedback}-seed{seed}"

    @property
    def leads(self) -> bool:
        """Whether this process keeps the runs and tells of them."""
        return self.team is None or self.team.leads

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
        title = f"{feedback_name(feedback, self.recipe.encoder)}, seed {seed}"
        note = f"Add --resume to go on with the run in {folder}."
        kept = (folder or Path()) / "checkpoint.pt"
        with (
            advice(note, if_there=kept),
            self._watch(title) as watch,
            self._events(folder) as events,
        ):
            result = run(
                self.recipe,
                feedback,
                projector() if projector else None,
                seed=seed,
                folder=folder,
                resume=self.resume,
                earlier_feedback=self.earlier_feedback,
                epochs=self.epochs,
                conditions=self.conditions,
                earlier_conditions=self.earlier_conditions,
                checkpoint_every=self.checkpoint_every,
                observer=_Observers(*watch, *events),
                team=self.team,
            )
        if self.leads:
            epochs = counted(result.rows[-1].epoch, "epoch", "epochs")
            remarks().print(
                f"{title}: test {result.score.name} {result.score.shown(result.test)} after "
                f"{epochs}, {result.seconds:.0f} s",
                highlight=False,
            )
        return result

    @contextmanager
    def _watch(self, title: str) -> Iterator[tuple[Observer, ...]]:
        if not self.leads:
            yield ()
            return
        with TrainingWatch(title) as watch:
            yield (watch,)

    @contextmanager
    def _events(self, folder: Path | None) -> Iterator[tuple[Observer, ...]]:
        if folder is None or not self.event_files:
            yield ()
            return
        from tools.event_files import EventFiles

        files = EventFiles(folder.parent / "tensorboard" / folder.name)
        try:
            yield (files,)
        finally:
            files.close()


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


class _Observers:
    """Several that want to see one training."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def on_step(self, progress: Progress) -> None:
        """Tell all of them."""
        for observer in self._observers:
            observer.on_step(progress)

    def on_epoch(self, row: EpochRow) -> None:
        """Tell all of them."""
        for observer in self._observers:
            observer.on_epoch(row)
