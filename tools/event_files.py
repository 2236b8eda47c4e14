"""TensorBoard's event files: the training, as its users are wont to see it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from opu_driver.errors import DriverMissingError

if TYPE_CHECKING:
    from training.run_state import EpochRow
    from training.trainer import Progress

_STEPS_BETWEEN = 10


class EventFiles:
    """An observer of a training that writes scalars; `docs/training-logs.md` says what each means.

    `loss` and `learning_rate` by the step; after each epoch `score/NAME`, `alignment_deg/TAP` and
    `projector/FIGURE`, which for light are exposures, signal to noise, drift and fidelity. A
    resumed run goes on in the same folder, and what was written beyond its checkpoint is dropped.

    Args:
        folder: Where the files go.

    Raises:
        DriverMissingError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise DriverMissingError(
                "TensorBoard is not installed: pip install 'opu[tensorboard]'."
            ) from error
        self._open = SummaryWriter
        self._folder = folder
        self._writer: Any = None
        self._step = 0

    def on_step(self, progress: Progress) -> None:
        """Note the loss, every tenth step."""
        self._step = progress.step
        if progress.step % _STEPS_BETWEEN == 0 or progress.step == progress.steps:
            self._at(progress.step).add_scalar("loss", progress.loss, progress.step)

    def on_epoch(self, row: EpochRow) -> None:
        """Note all figures."""
        writer = self._at(self._step)
        figures = {
            "learning_rate": row.learning_rate,
            **{f"score/{name}": value for name, value in row.score.items()},
            **{f"alignment_deg/{tap}": angle for tap, angle in row.alignment_deg.items()},
            **{f"projector/{name}": value for name, value in row.projector.items()},
        }
        for name, value in figures.items():
            if value is not None:
                writer.add_scalar(name, value, self._step)
        writer.flush()

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()

    def _at(self, step: int) -> Any:
        """The writer; opened at the first step that is told, with which a resumed run begins."""
        if self._writer is None:
            self._writer = self._open(str(self._folder), purge_step=step)
        return self._writer
