"""Recipes: everything that decides a training run but the feedback and the seed."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, Self, get_args

import torch
from torch import nn
from torch.optim import Optimizer

from training.encoding import Encoder
from training.task import Task

Feedback = Literal["optical", "digital", "ternary", "backprop", "shallow"]
FEEDBACKS: tuple[Feedback, ...] = get_args(Feedback)


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """What is learned by which network, and how.

    Attributes:
        name: As on the command line.
        task: What is learned, as on the command line.
        encoder: What the bench shows of an error, and what the digital feedback `ternary` projects.
        learning_rate: At its highest.
        cosine: It falls to zero along half a cosine; otherwise it is constant.
        epochs: Passes over the training set.
        planned_on: Where a step is counted without being run: `"meta"`, tensors without memory.
    """

    planned_on: ClassVar[str] = "meta"

    name: str
    task: str
    encoder: Encoder
    learning_rate: float
    cosine: bool
    epochs: int

    @property
    @abstractmethod
    def n_inputs(self) -> int:
        """Inputs that a projector needs: components of the error."""

    @property
    @abstractmethod
    def n_feedback(self) -> int:
        """Outputs that a projector needs."""

    @property
    @abstractmethod
    def widest(self) -> int:
        """Units of the largest layer: what decides how many threads pay."""

    @property
    @abstractmethod
    def network(self) -> str:
        """The network in a few words."""

    @property
    def schooling(self) -> str:
        """How it is trained, in a few words."""
        return f"Adam, learning rate {self.learning_rate:g}" + (", cosine" if self.cosine else "")

    @abstractmethod
    def prepare(self, seed: int, n_validation: int, device: str = "cpu") -> Task:
        """Data and network of one run.

        Args:
            seed: Decides weights and the order of the data.
            n_validation: Training examples that are evaluated instead of learned from. Recipes of
                data with a validation set of its own evaluate that one.
            device: Where the module is made; on `"meta"` it has sizes and no weights.

        Raises:
            DatasetError: The data are missing or damaged.
        """

    def tuned_for(self, _feedback: Feedback) -> Self:
        """With what one way of feedback needs of its own, the shallow baseline above all."""
        return self

    def optimizer(self, module: nn.Module) -> Optimizer:
        """Adam over the module's parameters."""
        return torch.optim.Adam(module.parameters(), lr=self.learning_rate, fused=True)

    def learning_rate_at(self, step: int, steps: int) -> float:
        """Learning rate of a step, from 0 to `steps - 1`."""
        if not self.cosine:
            return self.learning_rate
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
