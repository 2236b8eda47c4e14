"""Benches that get worse by degrees, and where learning breaks."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from itertools import count

import pytest
import torch

from calibration.errors import DecorrelationError
from calibration.projector import OpticalProjector
from tools.sweep import AXES, Point, _ending
from training.dead_outputs import DeadOutputs
from training.encoding import BitPlanes, Ternary
from training.errors import SettingsError
from training.experiments import Recipe, named_recipe
from training.projector import DenseProjector
from training.score import accuracy_score
from training.seal import seal


@pytest.fixture
def sweep(opu, tmp_path):
    def run(*options):
        ending = opu(
            "sweep", "digits", "--epochs=2", "--seeds=0", "--preset=quiet", "--out=s",
            "--json=s.json", *options,
        )  # fmt: skip
        assert ending.code == 0, ending.err
        return ending, json.loads((tmp_path / "s.json").read_text())

    return run


def test_dead_outputs_break_learning_in_the_end(sweep, tmp_path):
    ending, content = sweep("--over=dead-outputs", "--values=0,1", "--report=s.html")
    alive, dead = content["points"]["dead-outputs"]
    assert alive["scores"] != dead["scores"]
    assert alive["snr"] == pytest.approx(dead["snr"])
    assert len(content["shallow"]) == 1
    assert content["broken"]["dead-outputs"] == [0.0, 1.0]  # after two epochs the baseline is ahead
    assert content["never_better"] == {"dead-outputs": True}
    page = (tmp_path / "s.html").read_text()
    HTMLParser().feed(page)
    assert page.count("<figure>") == 1
    for told in (ending.out, page):
        assert "never better than the last layer alone, even at 0: train longer" in " ".join(
            told.split()
        )
    assert "Last layer only" in ending.out


def test_a_finished_point_is_not_trained_again(sweep, tmp_path):
    _, first = sweep("--over=bits", "--values=2")
    checkpoint = tmp_path / "s/bits/2-seed0/checkpoint.pt"
    before = checkpoint.stat().st_mtime_ns
    checkpoint.with_name("metrics.jsonl").touch()
    _, again = sweep("--over=bits", "--values=2,1")
    assert again["points"]["bits"][0] == first["points"]["bits"][0]
    assert checkpoint.stat().st_mtime_ns == before
    assert (tmp_path / "s/bits/1-seed0").is_dir()


def test_runs_of_another_sweep_are_not_taken_for_its_own(opu, tmp_path):
    def asked(epochs, preset, *more):
        return opu(
            "sweep", "digits", "--over=camera-bits", "--values=10", "--seeds=0", "--out=s",
            f"--epochs={epochs}", f"--preset={preset}", *more,
        )  # fmt: skip

    assert asked(1, "quiet").code == 0
    header, *_ = (tmp_path / "s/camera-bits/10-seed0/metrics.jsonl").read_text().splitlines()
    assert json.loads(header)["settings"]["conditions"] == {
        "preset": "quiet", "axis": "camera-bits", "value": 10,
    }  # fmt: skip
    for other, told in (
        (asked(5, "quiet"), "epochs was 1, now 5"),
        (asked(1, "rough"), "conditions.preset was 'quiet', now 'rough'"),
    ):
        assert other.code == 2
        assert told in other.err


def test_the_threshold_leaves_the_rest_of_a_code_as_it_is():
    recipe = named_recipe("best", "digits")
    assert AXES["threshold"].recipe(recipe, 0.7).encoder == replace(recipe.encoder, threshold=0.7)
    assert AXES["threshold"].recipe(named_recipe("deep-10", "mnist"), 0.7).encoder == Ternary(
        0.7, relative=True
    )


def test_a_half_finished_point_begins_again(sweep, tmp_path):
    """Its medium begins anew, and what it comes to is what it would have come to undisturbed."""
    drift = ("--over=decorrelation", "--values=1e-6")
    _, whole = sweep(*drift)
    metrics = tmp_path / "s/decorrelation/1e-06-seed0/metrics.jsonl"
    checkpoint = metrics.with_name("checkpoint.pt")
    header, *rows = metrics.read_text().splitlines(keepends=True)
    metrics.write_text("".join([header, *rows[:-1]]))  # as if it had been killed in the last epoch
    state = torch.load(checkpoint, weights_only=True)
    state["rows"] = state["rows"][:-1]
    state["step"] //= 2
    state["recent"] = state["recent"][: state["step"]]
    with checkpoint.open("w+b") as file:
        torch.save(state, file)
        seal(file)
    _, again = sweep(*drift)
    assert again["points"] == whole["points"]
    assert 0.9 < again["points"]["decorrelation"][0]["fidelity"] < 0.999
    _, *rows_again = metrics.read_text().splitlines()
    light, light_again = (
        [json.loads(row)["projector"] for row in run] for run in (rows, rows_again)
    )
    assert light_again == light


def test_a_bench_that_is_refused_is_a_result(sweep, mocker):
    _, first = sweep("--over=phase-walk", "--values=3")
    mocker.patch("calibration.pipeline.calibrate", side_effect=AssertionError)
    ending, content = sweep("--over=phase-walk", "--values=3")
    assert content == first  # and is not tried again
    (point,) = content["points"]["phase-walk"]
    assert point["scores"] == []
    assert "Error: " in point["refusal"]
    assert content["broken"]["phase-walk"] == [3.0]
    assert content["never_better"] == {"phase-walk": False}
    assert "refused" in ending.err


def test_a_refusal_in_the_middle_of_a_training_stays_one(sweep, tmp_path, mocker):
    project, calls = OpticalProjector.project, count()

    def project_for_a_while(projector, codes):
        if next(calls) > 60:  # an epoch is 45 steps
            raise DecorrelationError("another medium")
        return project(projector, codes)

    lost = mocker.patch.object(OpticalProjector, "project", project_for_a_while)
    _, first = sweep("--over=bits", "--values=2")
    assert (tmp_path / "s/bits/2-seed0/checkpoint.pt").exists()
    mocker.stop(lost)
    for _ in range(2):
        _, again = sweep("--over=bits", "--values=2")
        assert again == first
    (point,) = first["points"]["bits"]
    assert point["refusal"] == "DecorrelationError: another medium"
    assert point["scores"] == []


def test_a_training_that_diverges_is_broken(sweep, mocker):
    usual = Recipe.learning_rate_at

    def learning_rate_at(recipe: Recipe, step: int, steps: int) -> float:
        return 1e38 if recipe.encoder == BitPlanes(1) else usual(recipe, step, steps)

    mocker.patch.object(Recipe, "learning_rate_at", learning_rate_at)
    ending, content = sweep("--over=bits", "--values=2,1")
    two, one = content["points"]["bits"]
    assert len(two["scores"]) == 1
    assert one["scores"] == []
    assert one["refusal"].startswith("DivergedError: The loss diverged in step ")
    assert 1.0 in content["broken"]["bits"]
    assert "DivergedError" in ending.out
    mocker.patch("calibration.pipeline.calibrate", side_effect=AssertionError)
    assert sweep("--over=bits", "--values=2,1")[1] == content


def test_a_refusal_of_another_sweep_is_none_of_its_own(opu, tmp_path):
    kept = tmp_path / "s/bits/2-seed0-refused.json"
    kept.parent.mkdir(parents=True)
    for content, told in (
        ('{"settings": {"name": "other"}, "refusal": "DriftError: far"}', "name was 'other'"),
        ('{"settings": {"name": "other"}}', "Delete it to train again"),
        ("", "Delete it to train again"),
    ):
        kept.write_text(content)
        ending = opu(
            "sweep", "digits", "--over=bits", "--values=2", "--seeds=0", "--epochs=1", "--out=s"
        )
        assert ending.code == 2
        assert told in ending.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--over=luck"], "choose from read-noise"),
        (["--over=bits,threshold", "--values=1"], "names 2"),
        (["--over=bits", "--values=many"], "give finite numbers"),
        (["--over=read-noise", "--values=10,nan"], "give finite numbers"),
        (["--over=read-noise", "--values=1e999"], "give finite numbers"),
        (["--over=bits", "--seeds=x"], "--seeds"),
    ],
)
def test_what_cannot_be_swept_is_refused(opu, tmp_path, options, message):
    ending = opu("sweep", "digits", *options)
    assert ending.code == 2
    assert message in ending.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        ((90, 90, 90), "holds to 3"),
        ((90, 40, 30), "breaks at 2"),
        ((40, 90, 90), "broken at 1"),
        ((40, 90, None), "broken at 1, 3"),
        ((50, 40, None), "never better than the last layer alone, even at 1: train longer"),
        ((None, 40, 40), "breaks at 1"),
    ],
)
def test_where_it_breaks_is_told(scores, told):
    points = [
        Point("bits", float(i), (), None, None, "DeviceError: dark")
        if score is None
        else Point("bits", float(i), (float(score),), None, None)
        for i, score in enumerate(scores, 1)
    ]
    assert _ending(points, 50.0, accuracy_score(10)) == told


def test_half_a_bit_is_refused(opu):
    ending = opu(
        "sweep", "digits", "--epochs=1", "--seeds=0", "--out=s", "--over=bits", "--values=1.5"
    )
    assert ending.code == 2
    assert "1.5 bits" in ending.err


def test_dead_outputs_are_zero_and_have_an_identity():
    whole = DenseProjector(4, 10, seed=0)
    dead = DeadOutputs(whole, 0.3, seed=1)
    projected = dead.project(torch.eye(4))
    silent = (projected == 0).all(0)
    assert int(silent.sum()) == 3
    assert torch.equal(projected[:, ~silent], whole.project(torch.eye(4))[:, ~silent])
    prints = {dead.fingerprint(), DeadOutputs(whole, 0.3, seed=2).fingerprint()}
    assert len(prints | {whole.fingerprint()}) == 3
    assert (dead.n_inputs, dead.n_outputs) == (4, 10)
    assert dead.totals()["rows"] == 8
    with pytest.raises(SettingsError, match=r"\[0, 1\]"):
        DeadOutputs(whole, 1.5, seed=0)
