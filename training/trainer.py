"""The training loop: epochs, metrics, checkpoints, and an early end for a loss that runs away.

Every random choice is a function of the seed and the step, so a run that was killed at any step and
resumed from its last checkpoint ends with the same bits.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves

from training.alignment import measure_alignment
from training.dfa import DFA
from training.errors import CheckpointError, DivergedError, FingerprintError, SettingsError
from training.projector import counts, joined
from training.run_folder import RunFolder
from training.run_state import DIVERGENCE_WINDOW, EpochRow, RunState
from training.score import Evaluation
from training.task import Task
from training.team import Team

log = logging.getLogger("opu.training")

DIVERGED_ABOVE = 10.0


@dataclass(frozen=True)
class Progress:
    """Where a run is: `step` of `steps` done, and the loss of the last batch."""

    step: int
    steps: int
    epoch: int
    epochs: int
    loss: float


class Observer(Protocol):
    """Who wants to see the training while it goes on."""

    def on_step(self, progress: Progress) -> None:
        """Called after every step."""
        ...

    def on_epoch(self, row: EpochRow) -> None:
        """Called after every epoch, and once before the first."""
        ...


class Trainer:
    """Trains a module on a task.

    Args:
        model: The task's module, in its mode.
        task: What it learns.
        optimizer: Over its parameters.
        learning_rate: Learning rate of a step, from 0.
        epochs: How often it sees the task's batches.
        folder: Where the run is kept; None keeps nothing.
        checkpoint_every: Steps between checkpoints; one is written after every epoch anyway.
        observer: Who wants to see it.
        team: The processes that train together, this one among them; None if it is alone.
        diverged_above: The mean loss of 100 steps may not exceed this multiple of the loss of
            guessing.

    Raises:
        SettingsError: No epochs, or no steps between checkpoints.
    """

    def __init__(
        self,
        model: DFA,
        task: Task,
        optimizer: Optimizer,
        learning_rate: Callable[[int], float],
        *,
        epochs: int,
        folder: RunFolder | None = None,
        checkpoint_every: int | None = None,
        observer: Observer | None = None,
        team: Team | None = None,
        diverged_above: float = DIVERGED_ABOVE,
    ) -> None:
        if epochs < 1:
            raise SettingsError(f"{epochs} epochs: train for at least 1.")
        if checkpoint_every is not None and checkpoint_every < 1:
            raise SettingsError(f"A checkpoint every {checkpoint_every} steps: at least 1.")
        self.model = model
        self.task = task
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.folder = folder
        self.checkpoint_every = checkpoint_every
        self.observer = observer
        self.team = team
        self.diverged_above = diverged_above
        self._state = RunState()
        self._started_s = 0.0

    def fit(self, *, earlier_feedback: Collection[str] = ()) -> tuple[EpochRow, ...]:
        """Train to the end, from the folder's last checkpoint if there is one.

        Args:
            earlier_feedback: Fingerprints of other projectors with which the checkpoint may have
                been trained: those that this one has followed.

        Returns:
            One row for each epoch, and one before the first.

        Raises:
            DivergedError: The loss is not finite or far above that of guessing.
            CheckpointError: The checkpoint does not fit.
            FingerprintError: It was trained with a projector that is none of these, and the run is
                not finished.
            FolderBusyError: Another process trains in the folder.
        """
        with nullcontext() if self.folder is None else self.folder.held():
            return self._fit(earlier_feedback)

    def _fit(self, earlier_feedback: Collection[str]) -> tuple[EpochRow, ...]:
        steps = self.epochs * self.task.batches.per_epoch
        self._restore(steps, earlier_feedback)
        state = self._state
        self._started_s = time.perf_counter() - state.seconds
        if not state.rows:
            self._end_epoch(0)
        while state.step < steps:
            loss = self._step(state.step)
            state.step += 1
            epoch, within = divmod(state.step, self.task.batches.per_epoch)
            if self.observer is not None:
                self.observer.on_step(
                    Progress(state.step, steps, epoch + bool(within), self.epochs, loss)
                )
            if within == 0:
                self._end_epoch(epoch)
            elif self.checkpoint_every and state.step % self.checkpoint_every == 0:
                self._save()
        return tuple(EpochRow(**row) for row in state.rows)

    def _step(self, step: int) -> float:
        batch = self.task.batches.at(step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step)
        self.model.train()
        self.optimizer.zero_grad()
        self.model.loss_scale = batch.weight
        loss = batch.weight * self.task.loss(self.model(*batch.inputs), batch.targets)
        value = loss.item() if self.team is None else self.team.mean(loss.item())
        self._check_loss(value, step)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.team is not None:
            self.team.mean_gradients(self.model.parameters())
        self.optimizer.step()
        self._state.loss_sum += value
        return value

    def _check_loss(self, loss: float, step: int) -> None:
        recent = self._state.recent
        recent.append(loss)
        del recent[:-DIVERGENCE_WINDOW]
        chance = self.task.guessing
        mean = sum(recent) / len(recent)
        full = len(recent) == DIVERGENCE_WINDOW
        if not math.isfinite(loss) or (full and mean > self.diverged_above * chance):
            raise DivergedError(
                f"The loss diverged in step {step + 1} (epoch "
                f"{step // self.task.batches.per_epoch + 1}): {loss:.3g}, mean of the last "
                f"{len(recent)} steps {mean:.3g}; guessing gives {chance:.3g}, "
                f"{self.diverged_above:g} times that is allowed. Use a smaller learning rate "
                f"(now {self.learning_rate(step):g})."
            )

    def _end_epoch(self, epoch: int) -> None:
        state = self._state
        alignment: dict[str, float | None] = {}
        if self.task.probe is not None and self.model.mode == "dfa":
            angles = measure_alignment(self.model, self.task.probe, self.task.loss)
            alignment = {
                name: None if math.isnan(angle) else angle
                for name, angle in angles.feedback.items()
            }
        row = EpochRow(
            epoch,
            state.loss_sum / self.task.batches.per_epoch if epoch else None,
            {name: self._evaluated(by) for name, by in self.task.evaluate.items()},
            self.learning_rate(max(state.step - 1, 0)),
            time.perf_counter() - self._started_s,
            self.model.projector.fingerprint(),
            self._account(),
            alignment,
        )
        state.rows.append(asdict(row))
        state.loss_sum = 0.0
        self._save()
        if self.observer is not None:
            self.observer.on_epoch(row)

    def _evaluated(self, evaluate: Evaluation) -> float:
        was_training = self.model.training
        self.model.eval()
        with torch.no_grad():
            score = evaluate(self.model)
        self.model.train(was_training)
        return score

    def _account(self) -> dict[str, float | None]:
        """The projector's, earlier parts of the run included."""
        totals = self.model.projector.totals()
        return joined(self._state.account, {**totals, **counts(totals)})

    def _save(self) -> None:
        if self.folder is None:
            return
        state = self._state.as_saved() | {
            "seconds": time.perf_counter() - self._started_s,
            "account": self._account(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
        }
        self.folder.save(state)
        self.folder.write_metrics(self._state.rows)

    def _restore(self, steps: int, earlier_feedback: Collection[str]) -> None:
        saved = None if self.folder is None else self._loaded(self.folder, steps, earlier_feedback)
        if self.team is not None:
            saved = self.team.told_by_leader(saved)
        if saved is None:
            return
        self._state = RunState.read(saved, steps, self.task.batches.per_epoch)
        try:
            self.model.load_state_dict(saved["model"])
            _restore_optimizer(self.optimizer, saved["optimizer"])
            torch.set_rng_state(saved["random"])
        except _DOES_NOT_FIT as error:
            raise CheckpointError(
                f"The checkpoint in {self.folder and self.folder.path} does not fit this model: "
                f"{type(error).__name__}, {error}. Delete it to begin the run again."
            ) from error
        if self.folder is not None:  # killed between the two, a run has a row less in its metrics
            self.folder.write_metrics(self._state.rows)

    def _loaded(
        self, folder: RunFolder, steps: int, earlier_feedback: Collection[str]
    ) -> dict[str, Any] | None:
        """The checkpoint, as if it had been trained with this projector where that is permitted.

        Nothing goes on in a finished run: any projector may look at what it has come to.
        """
        saved = folder.load()
        own = self.model.projector.fingerprint()
        try:
            before = saved and saved["model"]["_extra_state"]["projector"]
        except _DOES_NOT_FIT:
            return saved  # it is refused with the rest of what it lacks
        if saved is None or not isinstance(before, str) or before == own:
            return saved
        if saved.get("step") != steps:
            if before not in earlier_feedback:
                raise FingerprintError(
                    f"The run in {folder.path} was trained with other feedback: its B is {before}, "
                    f"and that of the projector is now {own}. Resume it with the calibration or "
                    "projector that it was trained with."
                )
            log.warning("%s goes on with another B: now %s, not %s", folder.path, own, before)
        saved["model"]["_extra_state"]["projector"] = own
        return saved


_DOES_NOT_FIT = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)
"""What PyTorch raises for states of another shape."""


def _restore_optimizer(optimizer: Optimizer, saved: Any) -> None:
    """As `load_state_dict`, which takes settings and moments of any kind.

    Raises:
        ValueError: They are not those of this optimizer.
    """
    if not all(map(_is_plain, tree_leaves(saved["state"]))):
        raise ValueError("the optimizer remembers something else than dense, real tensors")
    own = _settings(optimizer)
    optimizer.load_state_dict(saved)
    if _settings(optimizer) != own:
        raise ValueError("other settings of the optimizer")
    for group in optimizer.param_groups:
        pattern = _moments(optimizer, group)
        for parameter in group["params"]:
            moments = optimizer.state.get(parameter, {})
            if moments and moments.keys() != pattern.keys():
                raise ValueError(f"the optimizer remembers {sorted(pattern)} of a parameter")
            for name, moment in moments.items():
                like = parameter if pattern[name].ndim else pattern[name]
                if moment.shape != like.shape:
                    raise ValueError(f"{name} of the optimizer is not of its parameter's shape")
                if not moment.isfinite().all():
                    raise ValueError(f"{name} of the optimizer is not finite")
                if (moment < 0).any() and (pattern[name] >= 0).all():
                    raise ValueError(f"{name} of the optimizer is negative")
                # Steps write to where a parameter has its numbers, and a moment may have fewer
                # than its shape says, or those of another one.
                moments[name] = torch.empty_like(like, device=moment.device).copy_(moment.detach())


def _is_plain(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout is torch.strided and value.is_floating_point()


def _moments(optimizer: Optimizer, group: dict[str, Any]) -> dict[str, Any]:
    """What such an optimizer remembers of a parameter, by letting one of its kind take a step.

    Its gradients are of both signs: what is not negative then is a count or a sum of squares, and
    never is.
    """
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([1.0, -1.0])
    blank = type(optimizer)([parameter])  # type: ignore[call-arg]
    blank.param_groups[0].update({k: v for k, v in group.items() if k != "params"})
    blank.step()
    return dict(blank.state[parameter])


def _settings(optimizer: Optimizer) -> list[dict[str, Any]]:
    """All but the learning rate, which is a function of the step."""
    decided = ("lr", "params")
    return [
        {name: value for name, value in group.items() if name not in decided}
        for group in optimizer.param_groups
    ]
