"""What a run has come to, besides weights and optimizer; and what a checkpoint may tell of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from training.errors import CheckpointError
from training.projector import COUNTED

DIVERGENCE_WINDOW = 100
"""Steps whose losses are remembered."""


@dataclass(frozen=True)
class EpochRow:
    """What is known at the end of an epoch; epoch 0 is before training.

    Attributes:
        epoch: Epochs done.
        train_loss: Mean over the steps of the epoch; None before training.
        score: By the name of what was evaluated, such as `"test"`.
        learning_rate: At the end of the epoch.
        seconds: Since the beginning, over all parts of a resumed run.
        projector: The projector's account since the beginning, over all parts.
        fingerprint: Identity of the projector.
        alignment_deg: Angle between feedback and true gradient, by tap; empty without feedback.
    """

    epoch: int
    train_loss: float | None
    score: Mapping[str, float]
    learning_rate: float
    seconds: float
    fingerprint: str
    projector: Mapping[str, float | None] = field(default_factory=dict)
    alignment_deg: Mapping[str, float | None] = field(default_factory=dict)


@dataclass
class RunState:
    """What a run has come to, besides weights and optimizer.

    Attributes:
        step: Steps done.
        loss_sum: Of the steps since the last epoch ended.
        seconds: That it took.
        account: The projector's, of earlier parts of the run.
        recent: Losses of the last steps.
        rows: `EpochRow`s as JSON values.
    """

    step: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    account: dict[str, float | None] = field(default_factory=dict)
    recent: list[float] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, saved: Mapping[str, Any], steps: int, per_epoch: int) -> RunState:
        """What a checkpoint tells.

        Args:
            saved: The checkpoint.
            steps: Of the whole run.
            per_epoch: Of an epoch.

        Raises:
            CheckpointError: Something in it cannot be that of such a run; the message names it.
        """
        step: Any = saved.get("step")
        if not _is_count(step) or step > steps:
            raise _wrong("step", step, f"a whole number from 0 to {steps}")
        n_rows, n_recent = step // per_epoch + 1, min(step, DIVERGENCE_WINDOW)
        allowed: dict[str, tuple[Callable[[Any], bool], str]] = {
            "loss_sum": (_is_number, "a finite number"),
            "seconds": (lambda value: _is_number(value) and value >= 0, "a number from 0"),
            "account": (_is_account, "figures by name, whole numbers where they count"),
            "recent": (
                lambda value: _is_list_of(_is_number, value) and len(value) == n_recent,
                f"a list of {n_recent} losses",
            ),
            "rows": (
                lambda value: (
                    _is_list_of(is_row, value)
                    and [row["epoch"] for row in value] == list(range(n_rows))
                ),
                f"{n_rows} epochs, from 0 on, after {step} steps",
            ),
        }
        for name, (fits, words) in allowed.items():
            if not fits(saved.get(name)):
                raise _wrong(name, saved.get(name), words)
        return cls(step, **{name: saved[name] for name in allowed})

    def as_saved(self) -> dict[str, Any]:
        """For a checkpoint."""
        return asdict(self)


def _wrong(name: str, value: Any, allowed: str) -> CheckpointError:
    told = repr(value)
    return CheckpointError(
        f"The checkpoint says {name} = {told[:80] + ('…' if len(told) > 80 else '')}, where there "
        f"has to be {allowed}: it is not one of this run, or of another version of opu. Resume "
        "with that version, or delete it to begin the run again."
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_figure(value: Any) -> bool:
    return value is None or _is_number(value)


def _is_list_of(fits: Callable[[Any], bool], value: Any) -> bool:
    return isinstance(value, list) and all(map(fits, value))


def _is_dict_of(fits: Callable[[Any], bool], value: Any) -> bool:
    return (
        isinstance(value, dict)
        and all(isinstance(key, str) for key in value)
        and all(map(fits, value.values()))
    )


def _is_account(value: Any) -> bool:
    return _is_dict_of(_is_figure, value) and all(
        _is_count(n) for key, n in value.items() if key.endswith(COUNTED)
    )


def is_row(value: Any) -> bool:
    """Whether it is an `EpochRow` as JSON tells it."""
    kinds: dict[str, Callable[[Any], bool]] = {
        "epoch": _is_count,
        "train_loss": _is_figure,
        "score": lambda of: _is_dict_of(_is_number, of),
        "learning_rate": _is_number,
        "seconds": _is_number,
        "fingerprint": lambda of: isinstance(of, str),
        "projector": _is_account,
        "alignment_deg": lambda of: _is_dict_of(_is_figure, of),
    }
    return (
        isinstance(value, dict)
        and value.keys() == {each.name for each in fields(EpochRow)}
        and all(kinds[name](of) for name, of in value.items())
    )
