"""What is learned: a module, where it gets feedback, what it learns from, and how it is judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from training.batch import Batch, Batches
from training.score import Evaluation, Score
from training.taps import Layout, Tap


@dataclass(frozen=True)
class Task:
    """All that a training run needs, but the feedback and the optimizer.

    Attributes:
        module: What learns, with its initial weights.
        taps: Where it gets feedback, see `training.dfa.DFA`.
        batches: What it learns from.
        loss: `loss(output, targets)`, a scalar.
        guessing: The loss of guessing: far above it, a run has diverged.
        score: What `evaluate` returns.
        evaluate: What is evaluated after each epoch, by name: `"test"` always, `"validation"` where
            there is one.
        probe: A batch for the alignment angles, or None to measure none. Through an optical
            projector that costs exposures, counted with the rest.
        error_at: Where the error is taken, see `training.dfa.DFA`.
        layout: Which outputs of the projector feed which tap, as there.
        tied: Parameters used both below a tap and above, as there.
    """

    module: nn.Module
    taps: Sequence[str | Tap]
    batches: Batches
    loss: Callable[[Any, Any], Tensor]
    guessing: float
    score: Score
    evaluate: Mapping[str, Evaluation]
    probe: Batch | None = None
    error_at: str | Tap = ""
    layout: Layout = "concat"
    tied: Sequence[str] = field(default=())
