"""Citation networks, learned by graph convolution: a row of the error is a node.

The published settings (Kipf and Welling, arXiv:1609.02907, section 5.2): 16 hidden units, dropout
0.5, weight decay 5e-4 on the first layer, Adam at 0.01, 200 passes over the whole graph, features
divided by their sum. Only labelled nodes have an error; the others' rows are zero and not shown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from training.batch import Batch
from training.datasets.planetoid import Graph, planetoid
from training.encoding import Ternary
from training.experiments.recipe import Feedback, Recipe
from training.models.gcn import GCN, propagation
from training.randomness import WEIGHTS, derived_seed
from training.score import Evaluation, accuracy_score
from training.task import Task

PASSES_AN_EPOCH = 10


@dataclass(frozen=True)
class WholeGraph:
    """Every step sees the whole graph; an epoch is ten of them."""

    batch: Batch

    @property
    def per_epoch(self) -> int:
        """Passes between two evaluations."""
        return PASSES_AN_EPOCH

    def at(self, _step: int) -> Batch:
        """The graph."""
        return self.batch


@dataclass(frozen=True, kw_only=True)
class GraphRecipe(Recipe):
    """A graph convolutional network, trained by Adam and cross-entropy.

    Attributes:
        widths: Features, hidden layers, classes.
        dropout: Share of features that are left out.
        weight_decay: Of the first layer.
        shallow_rate: Learning rate of the shallow baseline, tuned for it.
    """

    widths: tuple[int, ...]
    dropout: float
    weight_decay: float
    shallow_rate: float

    planned_on: ClassVar[str] = "cpu"  # PyTorch has no sparse products without memory

    @property
    def n_inputs(self) -> int:
        """One for each class."""
        return self.widths[-1]

    @property
    def n_feedback(self) -> int:
        """One for each hidden unit of a node."""
        return sum(self.widths[1:-1])

    @property
    def widest(self) -> int:
        """Features of a node."""
        return max(self.widths)

    @property
    def network(self) -> str:
        """All widths."""
        return " – ".join(str(width) for width in self.widths) + ", graph convolutions"

    @property
    def schooling(self) -> str:
        """Optimizer and passes."""
        return f"{super().schooling}, {PASSES_AN_EPOCH} passes an epoch, dropout {self.dropout:g}"

    def tuned_for(self, feedback: Feedback) -> Self:
        """The shallow baseline has a learning rate of its own."""
        return replace(self, learning_rate=self.shallow_rate) if feedback == "shallow" else self

    def optimizer(self, module: nn.Module) -> Optimizer:
        """Adam, with weight decay on the first layer."""
        named = dict(module.named_parameters())
        first = [parameter for name, parameter in named.items() if name.startswith("blocks.0.")]
        others = [
            parameter for name, parameter in named.items() if not name.startswith("blocks.0.")
        ]
        groups: list[dict[str, Any]] = [
            {"params": first, "weight_decay": self.weight_decay},
            {"params": others},
        ]
        return torch.optim.Adam(groups, lr=self.learning_rate)

    def data(self) -> Graph:
        """What it learns from."""
        return planetoid(self.task)

    def prepare(self, seed: int, _n_validation: int, device: str = "cpu") -> Task:
        """Data and network of one run; the validation nodes are the published ones."""
        graph = self.data()
        sums = graph.features.sum(1, keepdim=True).clamp(min=1.0)
        inputs = (graph.features / sums, propagation(graph.edges, len(graph.labels)))
        with torch.device(device):
            module = GCN(self.widths, self.dropout, derived_seed(seed, WEIGHTS))
        batch = Batch(inputs, (graph.train, graph.labels[graph.train]))
        parts = {"validation": graph.validation, "test": graph.test}
        return Task(
            module,
            taps=["blocks.*"],
            batches=WholeGraph(batch),
            loss=_loss,
            guessing=math.log(graph.n_classes),
            score=accuracy_score(len(graph.test)),
            evaluate={
                name: _accuracy(inputs, nodes, graph.labels[nodes]) for name, nodes in parts.items()
            },
            probe=batch,
        )


def _loss(logits: Tensor, targets: tuple[Tensor, Tensor]) -> Tensor:
    """Cross-entropy of the labelled nodes."""
    nodes, labels = targets
    return functional.cross_entropy(logits[nodes], labels)


def _accuracy(inputs: tuple[Tensor, Tensor], nodes: Tensor, labels: Tensor) -> Evaluation:
    def evaluate(module: nn.Module) -> float:
        return 100 * float((module(*inputs)[nodes].argmax(1) == labels).float().mean())

    return evaluate


CORA = GraphRecipe(
    name="kipf-welling",
    task="cora",
    widths=(1433, 16, 7),
    dropout=0.5,
    weight_decay=5e-4,
    encoder=Ternary(0.3, relative=True),
    learning_rate=0.01,
    cosine=False,
    epochs=20,
    shallow_rate=0.3,
)

RECIPES = (CORA, replace(CORA, task="citeseer", widths=(3703, 16, 6)))
