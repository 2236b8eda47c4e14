"""`opu recipes`: what can be trained."""

import json
from dataclasses import replace

from training.experiments import RECIPES, named_recipe


def test_all_recipes_are_listed(opu, tmp_path):
    ending = opu("recipes", "--json=r.json")
    assert ending.code == 0, ending.err
    for recipe in RECIPES:
        assert f"{recipe.task} --recipe {recipe.name}" in ending.out
    assert len(json.loads((tmp_path / "r.json").read_text())["recipes"]) == len(RECIPES)


def test_one_epoch_is_no_several(opu, mocker):
    digits = named_recipe("best", "digits")
    mocker.patch("training.experiments.RECIPES", (digits, replace(digits, epochs=1)))
    told = opu("recipes").out
    assert "; 20 epochs" in told
    assert "; 1 epoch " in told
