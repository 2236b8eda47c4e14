"""Processes that train one network together: each learns from a part of every batch.

Started by `torchrun`, every process builds the same network from the same seed. After each backward
pass the gradients are averaged, so that all take the step that one process with the whole batch
would take. The bench has one owner; `training.shared_projector` serves the others.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from training.batch import Batch, Batches
from training.errors import FingerprintError, LostRankError, SettingsError
from training.task import Task
from training.whereabouts import Whereabouts, ranks_gone

TIMEOUT_S = 600.0
"""How long a process waits for the others: longer than calibrating or evaluating lasts."""


@dataclass(frozen=True)
class Team:
    """The processes of one training run, and this one among them.

    Attributes:
        rank: Of this process, from 0.
        size: How many there are.
        everyone: Where they run, by rank; empty where that is not known.
    """

    rank: int
    size: int
    everyone: tuple[Whereabouts, ...] = ()

    @property
    def leads(self) -> bool:
        """Whether this process keeps the run and evaluates it."""
        return self.rank == 0

    def part(self, batch: Batch) -> Batch:
        """What this process learns from: every `size`-th row from row `rank` on.

        Raises:
            SettingsError: Not a row for everyone, or a batch that has no rows, such as a graph.
        """
        tensors = tree_leaves((batch.inputs, batch.targets))
        rows = {len(t) if isinstance(t, Tensor) and not t.is_sparse else None for t in tensors}
        (n, *others) = rows
        if others or n is None:
            raise SettingsError(
                "This batch has no rows that processes could share, such as those of a whole "
                "graph: train it with one process."
            )
        if n < self.size:
            raise SettingsError(
                f"A batch of {n} rows for {self.size} processes: start fewer of them."
            )
        own = slice(self.rank, None, self.size)
        inputs, targets = tree_map_only(Tensor, lambda t: t[own], (batch.inputs, batch.targets))
        mine = len(range(n)[own])
        return Batch(inputs, targets, weight=batch.weight * self.size * mine / n)

    def divide(self, task: Task) -> Task:
        """The task of this process; the first one alone evaluates."""
        return replace(
            task,
            batches=_Parts(task.batches, self),
            probe=None if task.probe is None else self.part(task.probe),
            evaluate=task.evaluate if self.leads else {},
        )

    def mean(self, number: float) -> float:
        """Of everyone's number, the same for all.

        Raises:
            LostRankError: A process is gone.
        """
        value = torch.tensor([number], dtype=torch.float64)
        with together(self):
            dist.all_reduce(value)
        return float(value) / self.size

    def mean_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Put the mean of everyone's gradients in the place of one's own.

        Raises:
            LostRankError: A process is gone.
        """
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not gradients:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        with together(self):
            dist.all_reduce(flat)
        flat /= self.size
        for gradient, mean in zip(
            gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True
        ):
            gradient.copy_(mean.view_as(gradient))

    def require_same(self, what: str, value: str) -> None:
        """Refuse to go on if anyone has another value.

        Raises:
            FingerprintError: Somebody has; the message names who has what.
            LostRankError: A process is gone.
        """
        found = self.gathered(value)
        if len(set(found)) > 1:
            held = "; ".join(f"rank {rank} has {each}" for rank, each in enumerate(found))
            raise FingerprintError(
                f"The processes differ in {what}: {held}. All of them need the same: the same seed "
                "and recipe, or one SharedProjector."
            )

    def gathered(self, value: str) -> list[str]:
        """Everyone's text, by rank.

        Raises:
            LostRankError: A process is gone.
        """
        own = torch.frombuffer(bytearray(value.encode() or b" "), dtype=torch.uint8)
        return [bytes(each.tolist()).decode() for each in self.gathered_rows(own)]

    def gathered_rows(self, rows: Tensor) -> list[Tensor]:
        """Everyone's tensor, of any length, by rank; the other sizes and the dtype are the same.

        Raises:
            LostRankError: A process is gone.
        """
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        with together(self):
            dist.all_gather(lengths, torch.tensor([len(rows)]))
            longest = int(max(lengths))
            padded = rows.new_zeros(longest, *rows.shape[1:])
            padded[: len(rows)] = rows
            found = [torch.empty_like(padded) for _ in range(self.size)]
            dist.all_gather(found, padded)
        return [each[: int(n)] for each, n in zip(found, lengths, strict=True)]

    def told_by_leader(self, value: Any) -> Any:
        """What the first process has, in all of them.

        Raises:
            LostRankError: A process is gone.
        """
        held = [value]
        with together(self):
            dist.broadcast_object_list(held, src=0)
        return held[0]


@dataclass(frozen=True)
class _Parts:
    """This process's part of batches."""

    whole: Batches
    team: Team

    @property
    def per_epoch(self) -> int:
        """As before."""
        return self.whole.per_epoch

    def at(self, step: int) -> Batch:
        """The part of a step's batch."""
        return self.team.part(self.whole.at(step))


@contextmanager
def together(team: Team) -> Iterator[None]:
    """What all processes do at once; it ends with an error where one of them is gone.

    Raises:
        LostRankError: One is gone, or has not come within the time allowed.
    """
    try:
        yield
    except RuntimeError as error:
        gone = ranks_gone(team.everyone)
        who = " and ".join(f"rank {rank} (process {team.everyone[rank].pid})" for rank in gone)
        unknown = f"another process, which ended or did not answer ({_first_line(error)})"
        raise LostRankError(
            f"Rank {team.rank} of {team.size} has lost {who or unknown}. Its own output says why. "
            "Start all of them again; --resume goes on from the last checkpoint."
        ) from error


@contextmanager
def team_of_environment(timeout_s: float = TIMEOUT_S) -> Iterator[Team | None]:
    """The processes that `torchrun` started, by its environment variables; None if it did not.

    Args:
        timeout_s: How long each waits for the others. A process that ends is noticed at once.

    Raises:
        LostRankError: They do not find each other.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "RANK" not in os.environ:
        yield None
        return
    team = Team(int(os.environ["RANK"]), size)
    with together(team):
        dist.init_process_group("gloo", timeout=timedelta(seconds=timeout_s))
    try:
        team = replace(team, everyone=_everyone(team))
        yield team
        with together(team):
            dist.barrier()  # nobody closes what another still reads from
    finally:
        dist.destroy_process_group()


def _everyone(team: Team) -> tuple[Whereabouts, ...]:
    """Where all processes run."""
    found = [Whereabouts.own()] * team.size
    with together(team):
        dist.all_gather_object(found, found[team.rank])
    return tuple(found)


def weights_digest(parameters: Sequence[Tensor]) -> str:
    """SHA-256 over the bits of some tensors."""
    import hashlib

    digest = hashlib.sha256()
    for parameter in parameters:
        digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200]
