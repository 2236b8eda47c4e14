"""`opu cost`: a step planned, and one taken."""

import json
import os
import sys

import psutil
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


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no `ulimit`")
def test_a_limit_of_the_process_is_one_of_the_plan(opu, tmp_path, mocker):
    import resource

    limit = 10**9 + psutil.Process().memory_info().vms
    mocker.patch("resource.getrlimit", return_value=(limit, resource.RLIM_INFINITY))
    mocker.patch("training.experiments.one_step.ROOM", 1e6)
    ending = opu("cost", "digits", "--run-step", "--json=c.json")
    assert ending.code == 1
    assert "GB are free under `ulimit -v`. Raise that limit." in ending.err
    assert not (tmp_path / "c.json").exists()
    ending = opu("cost", "digits", "--json=c.json")
    here, *_ = json.loads((tmp_path / "c.json").read_text())["machines"]
    assert here["memory_bytes"] == limit


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
        (["--rate-hz=nan"], "positive"),
        (["--power-w=nan"], "positive"),
        (["--power-w=inf"], "positive"),
        (["--share-of-peak=nan"], "share"),
        (["--share-of-peak=2"], "share"),
        (["--recipe=none"], "choose one of"),
    ],
)
def test_what_cannot_be_planned_is_refused(opu, options, message):
    ending = opu("cost", "digits", *options)
    assert ending.code == 2
    assert message in ending.err
