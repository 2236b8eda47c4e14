"""Named experiments: a recipe, a way of feedback, a seed -> a trained network and its figures."""

from __future__ import annotations

from training.experiments.recipe import RECIPES, Recipe, Shallow, named_recipe
from training.experiments.run import FEEDBACKS, Feedback, RunResult, run

__all__ = [
    "FEEDBACKS",
    "RECIPES",
    "Feedback",
    "Recipe",
    "RunResult",
    "Shallow",
    "named_recipe",
    "run",
]
