"""Named experiments: a recipe, a way of feedback, a seed -> a trained network and its figures."""

from __future__ import annotations

from training.experiments.catalogue import RECIPES, named_recipe, tasks
from training.experiments.recipe import FEEDBACKS, Feedback, Recipe
from training.experiments.run import RunResult, run

__all__ = [
    "FEEDBACKS",
    "RECIPES",
    "Feedback",
    "Recipe",
    "RunResult",
    "named_recipe",
    "run",
    "tasks",
]
