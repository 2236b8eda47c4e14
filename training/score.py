"""What a task is judged by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

EVALUATED_AT_ONCE = 2000

Evaluation = Callable[[nn.Module], float]
"""A module, in evaluation mode and without gradients -> its score."""


@dataclass(frozen=True)
class Score:
    """A figure of merit.

    Attributes:
        name: `"accuracy"`.
        unit: `"%"`; empty for plain numbers.
        higher_is_better: Otherwise lower is.
        step: The smallest difference there can be, such as that of one test image; None where it is
            continuous.
    """

    name: str
    unit: str = ""
    higher_is_better: bool = False
    step: float | None = None

    def number(self, value: float) -> str:
        """The value in digits that matter: hundredths of a per cent, or four of them."""
        return f"{value:.2f}" if self.unit == "%" else f"{value:#.4g}"

    def shown(self, value: float) -> str:
        """The value with its unit."""
        return self.number(value) + (f" {self.unit}" if self.unit else "")

    def is_better(self, value: float, than: float) -> bool:
        """Whether one value is better than another, not only as good."""
        return value > than if self.higher_is_better else value < than

    def shortfall(self, value: float) -> float:
        """What is left to gain, for logarithmic axes: the error of an accuracy, else the value."""
        return 100 - value if self.higher_is_better and self.unit == "%" else value

    @property
    def shortfall_name(self) -> str:
        """What `shortfall` is called on an axis."""
        name = "error" if self.higher_is_better and self.unit == "%" else self.name
        return f"test {name}" + (f", {self.unit}" if self.unit else "")


def accuracy_score(n_examples: int) -> Score:
    """Share of examples that are classified rightly, of so many."""
    return Score("accuracy", "%", higher_is_better=True, step=100 / n_examples)


def accuracy(inputs: Tensor, labels: Tensor) -> Evaluation:
    """Share of rows whose largest output is the label's, %.

    Args:
        inputs: `[row, ...]`.
        labels: int64 `[row]`.
    """

    def evaluate(module: nn.Module) -> float:
        correct = 0
        for start in range(0, len(labels), EVALUATED_AT_ONCE):
            rows = slice(start, start + EVALUATED_AT_ONCE)
            correct += int((module(inputs[rows]).argmax(1) == labels[rows]).sum())
        return 100 * correct / len(labels)

    return evaluate
