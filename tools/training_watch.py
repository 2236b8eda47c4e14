"""The training on the terminal while it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from tools.results_table import all_exposures
from tools.terminal import remarks
from training.figures import some_evenly

if TYPE_CHECKING:
    from training.run_state import EpochRow
    from training.trainer import Progress as Step


class TrainingWatch:
    """A bar with the loss, and below it what the last epoch came to; an observer of the training.

    Where stderr is no terminal, each epoch is one line instead.

    Args:
        name: Of the run.
    """

    def __init__(self, name: str) -> None:
        self._console = remarks()
        self._name = name
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[told]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._bar = self._bars.add_task(name, total=None, told="")
        self._epoch = Text("", style="dim")
        self._live = Live(
            Group(self._bars, self._epoch),
            console=self._console,
            transient=True,
            refresh_per_second=4,
        )

    def __enter__(self) -> TrainingWatch:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def on_step(self, progress: Step) -> None:
        """Move the bar."""
        self._bars.update(
            self._bar,
            completed=progress.step,
            total=progress.steps,
            told=f"epoch {progress.epoch}/{progress.epochs}, loss {progress.loss:.3f}",
        )

    def on_epoch(self, row: EpochRow) -> None:
        """Tell what the epoch came to."""
        line = epoch_line(row)
        self._epoch.plain = f"  {line}"
        if not self._console.is_terminal:
            self._console.print(f"{self._name}: {line}", highlight=False, soft_wrap=True)


def epoch_line(row: EpochRow) -> str:
    """Loss, score, alignment, projection quality, drift and exposures of an epoch, in one line."""
    words = [f"epoch {row.epoch}"]
    if row.train_loss is not None:
        words.append(f"loss {row.train_loss:.3f}")
    words += [f"{name} {value:.4g}" for name, value in row.score.items()]
    angles = [angle for angle in row.alignment_deg.values() if angle is not None]
    if angles:
        words.append("alignment " + " ".join(f"{angle:.0f}°" for angle in some_evenly(angles, 6)))
    account = row.projector
    shown = all_exposures(account)
    if shown:
        words.append(f"{shown:,.0f} exposures")
    for key, name, form in (
        ("snr", "signal to noise", ".3g"),
        ("phase_drift_rad", "phase step", ".3f"),
        ("fidelity", "fidelity", ".4f"),
    ):
        value = account.get(key)
        if value is not None:
            words.append(f"{name} {value:{form}}")
    return ", ".join(words)
