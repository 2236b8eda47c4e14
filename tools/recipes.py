"""`opu recipes`: what `opu train` can train, and how."""

from __future__ import annotations

from tools.json_file import JsonOption, write_json
from tools.output_path import require_writable
from tools.terminal import counted, facts, results


def recipes(json: JsonOption = None) -> None:
    """List the tasks that can be learned, and the recipes for each."""
    from training.experiments import RECIPES

    require_writable(json=json)
    shown = [
        (f"{recipe.task} --recipe {recipe.name}", f"{recipe.network}; {recipe.schooling}; "
         f"{counted(recipe.epochs, 'epoch', 'epochs')}")
        for recipe in RECIPES
    ]  # fmt: skip
    results().print(facts("opu train ...", shown))
    write_json(json, {"recipes": RECIPES})
