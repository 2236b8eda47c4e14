"""`opu cost`: a step planned, and one taken."""

import json
import os

import pytest


def test_a_step_is_planned_and_taken(opu, tmp_path):
    ending = opu("cost", "digits", "--run-step", "--rate-hz=100", "--json=c.json")
    assert ending.code == 0, ending.err
    for words in (
        "5,962",
        "this CPU",
        "H100",
        "cheaper by light",
        "taken here",
        "0.00667 of it",
        "not within this bench",
    ):
        assert words in " ".join(ending.out.split())
    content = json.loads((tmp_path / "c.json").read_text())
    assert content["step"]["exposures"] == 64
    for seconds in content["seconds"].values():
        assert seconds["light"] == 0.64
        assert seconds["optical"] > seconds["light"]
        assert seconds["digital"] > seconds["projection"]
    assert content["taken"]["after"] < content["taken"]["loss"]


def test_a_billion_parameters_are_planned_without_their_memory(opu, tmp_path):
    if not os.environ.get("OPU_DATA"):
        pytest.skip("OPU_DATA is not set: no folder with Shakespeare's text")
    ending = opu("cost", "shakespeare", "--recipe=billion", "--json=c.json")
    assert ending.code == 0, ending.err
    step = json.loads((tmp_path / "c.json").read_text())["step"]
    assert step["parameters"] == pytest.approx(1e9, rel=0.02)
    assert step["parameters_bytes"] == 4 * step["parameters"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rate-hz=0"], "positive"),
        (["--share-of-peak=2"], "share"),
        (["--recipe=none"], "choose one of"),
    ],
)
def test_what_cannot_be_planned_is_refused(opu, options, message):
    ending = opu("cost", "digits", *options)
    assert ending.code == 2
    assert message in ending.err
