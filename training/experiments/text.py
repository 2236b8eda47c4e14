"""Text, learned symbol by symbol by a decoder-only Transformer: a row of the error is a token.

The error is taken before the vocabulary layer, which learns by backpropagation (Launay et al.,
arXiv:2006.12878, section 3.4).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.datasets.text import Passages, Text, passages_in_order, text
from training.encoding import BitPlanes, Ternary
from training.experiments.recipe import Feedback, Recipe
from training.models.transformer import Decoder, FeedbackPoints, taps_of
from training.randomness import WEIGHTS, derived_seed
from training.score import Evaluation, Score
from training.task import Task

PERPLEXITY = Score("perplexity")
EVALUATED_AT_ONCE = 64
N_EVALUATED = 512  # passages of the test text, spread evenly over it, see docs/training-logs.md
N_PROBE = 8


@dataclass(frozen=True, kw_only=True)
class TextRecipe(Recipe):
    """A decoder-only Transformer, trained by Adam and cross-entropy.

    Its score is the perplexity on `N_EVALUATED` passages, spread evenly over the test text.

    Attributes:
        context: Symbols of a passage.
        width: Features of a token.
        depth: Blocks.
        heads: Attention heads.
        points: Feedback after each block, or after each of its two steps.
        batch_size: Passages of a batch.
        per_epoch: Batches of an epoch.
        rates: Learning rates of ways of feedback that need another; chosen on validation text.
    """

    context: int
    width: int
    depth: int
    heads: int
    points: FeedbackPoints
    batch_size: int
    per_epoch: int
    rates: Mapping[Feedback, float] = field(default_factory=dict)

    @property
    def n_inputs(self) -> int:
        """One for each feature of a token."""
        return self.width

    @property
    def n_feedback(self) -> int:
        """One for each feature of a token: the residual sum means the same at every depth."""
        return self.width

    @property
    def widest(self) -> int:
        """Inside of a feed-forward step."""
        return 4 * self.width

    @property
    def network(self) -> str:
        """Sizes of the Transformer."""
        return (
            f"Transformer, {self.depth} blocks of {self.width}, {self.heads} heads, context "
            f"{self.context}, {self.points} feedback"
        )

    @property
    def schooling(self) -> str:
        """Optimizer and batches."""
        rows = self.batch_size * self.context
        return (
            f"{super().schooling}, {self.per_epoch} batches of {rows} tokens an epoch; judged on "
            f"{N_EVALUATED} passages spread evenly over the test text"
        )

    def tuned_for(self, feedback: Feedback) -> Self:
        """Ways of feedback have learning rates of their own."""
        return replace(self, learning_rate=self.rates.get(feedback, self.learning_rate))

    def data(self) -> Text:
        """What it learns from."""
        return text(self.task)

    def prepare(self, seed: int, n_validation: int, device: str = "cpu") -> Task:
        """Data and network of one run."""
        data = self.data()
        train, validation = data.split(n_validation)
        with torch.random.fork_rng(devices=[]), torch.device(device):
            torch.manual_seed(derived_seed(seed, WEIGHTS))
            module = Decoder(len(data.symbols), self.context, self.width, self.depth, self.heads)
        parts = {"validation": validation} if n_validation else {}
        probe = Passages(train, self.context, N_PROBE, 1, seed=0).at(0)
        return Task(
            module,
            taps=taps_of(self.points),
            batches=Passages(train, self.context, self.batch_size, self.per_epoch, seed),
            loss=_loss,
            guessing=math.log(len(data.symbols)),
            score=PERPLEXITY,
            evaluate={
                name: _perplexity(*passages_in_order(part, self.context))
                for name, part in {**parts, "test": data.test}.items()
            },
            probe=probe,
            error_at="norm",
            layout="shared_prefix",
        )


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def _perplexity(inputs: Tensor, targets: Tensor) -> Evaluation:
    """`exp` of the mean loss over passages that are spread evenly over the text."""
    some = torch.linspace(0, len(inputs) - 1, min(N_EVALUATED, len(inputs))).long()

    def evaluate(module: nn.Module) -> float:
        losses = [
            float(_loss(module(inputs[rows]), targets[rows])) * len(rows)
            for rows in torch.split(some, EVALUATED_AT_ONCE)
        ]
        return math.exp(sum(losses) / len(some))

    return evaluate


SHAKESPEARE = TextRecipe(
    name="macro",
    task="shakespeare",
    context=64,
    width=64,
    depth=4,
    heads=4,
    points="macro",
    batch_size=16,
    per_epoch=200,
    encoder=Ternary(0.3, relative=True),
    learning_rate=3e-3,
    rates={"shallow": 1e-2},
    cosine=True,
    epochs=5,
)

BILLION = replace(
    SHAKESPEARE,
    name="billion",
    width=2048,
    depth=20,
    heads=16,
    batch_size=1,
    learning_rate=3e-4,
    rates={},
)
"""10^9 parameters: to be planned, and to take steps where memory allows."""

MICRO = replace(SHAKESPEARE, name="micro", points="micro", encoder=BitPlanes(3))
"""Feedback after each sub-layer: of ternary codes hardly more is left than random features give."""

RECIPES = (
    SHAKESPEARE,
    MICRO,
    replace(SHAKESPEARE, task="dialogue"),
    replace(MICRO, task="dialogue"),
    BILLION,
)
