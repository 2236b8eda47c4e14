"""`opu recipes`: what `opu train` can train, and how."""

from __future__ import annotations

from tools.json_file import JsonOption, write_json
from tools.output_path import require_writable
from tools.terminal import results, table

_COLUMNS = ("Task", "recipe", "network", "training", "epochs")


def recipes(json: JsonOption = None) -> None:
    """List the tasks that can be learned, and the recipes for each."""
    from training.experiments import RECIPES

    require_writable(json)
    rows = [
        (
            recipe.task,
            recipe.name,
            recipe.network,
            recipe.schooling,
            str(recipe.epochs),
        )
        for recipe in RECIPES
    ]
    results().print(table("What can be learned", _COLUMNS, rows))
    write_json(json, {"recipes": RECIPES})
