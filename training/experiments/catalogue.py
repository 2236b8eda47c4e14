"""All recipes, by what they learn and by name."""

from __future__ import annotations

from training.errors import SettingsError
from training.experiments import diffusion, fully_connected, graphs, regression, text, vision
from training.experiments.recipe import Recipe

RECIPES: tuple[Recipe, ...] = (
    *fully_connected.RECIPES,
    *graphs.RECIPES,
    *text.RECIPES,
    *vision.RECIPES,
    *diffusion.RECIPES,
    *regression.RECIPES,
)


def tasks() -> tuple[str, ...]:
    """What can be learned, each once."""
    return tuple(dict.fromkeys(recipe.task for recipe in RECIPES))


def named_recipe(name: str | None, task: str) -> Recipe:
    """A recipe of a task; None is its first.

    Raises:
        SettingsError: No such task, or no such recipe of it.
    """
    found = {recipe.name: recipe for recipe in RECIPES if recipe.task == task}
    if not found:
        raise SettingsError(f"Task {task!r}: choose one of {', '.join(tasks())}.")
    if name is None:
        return next(iter(found.values()))
    if name not in found:
        raise SettingsError(f"Recipe {name!r} of {task}: choose one of {', '.join(found)}.")
    return found[name]
