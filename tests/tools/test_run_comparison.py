"""Training runs side by side, as tables, JSON and a page."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from calibration.calibration_file import Calibration
from tools.run_comparison import RunComparison
from training.encoding import Ternary
from training.experiments import RunResult
from training.experiments.record import RunRecord
from training.run_state import EpochRow
from training.score import accuracy_score


@pytest.fixture
def trained(opu):
    """Train with every seed and way of feedback that is asked for; returns the folder's name."""

    def train(out, feedback, seeds="0,1", *options):
        ending = opu(
            "train", "digits", f"--feedback={feedback}", f"--seeds={seeds}", "--epochs=1",
            f"--out={out}", *options,
        )  # fmt: skip
        assert ending.code == 0, ending.err
        return out

    return train


def test_runs_are_compared_by_feedback_and_settings(opu, trained, tmp_path):
    trained("a", "digital,backprop")
    trained("b", "digital", "2")
    found = opu("compare", "a", "b", "--json=c.json", "--html=c.html")
    assert found.code == 0, found.err
    assert "The settings are the same." in found.out
    content = json.loads((tmp_path / "c.json").read_text())
    assert content["settings"] == []
    assert [run["seed"] for run in content["later"]] == [2]
    assert {run["feedback"] for run in content["earlier"]} == {"digital", "backprop"}
    page = (tmp_path / "c.html").read_text()
    HTMLParser().feed(page)
    assert page.count("<figure>") == 4  # curves and angles of both
    (row,) = [line for line in found.out.splitlines() if "not quantised" in line]
    assert "2, 1" in row
    (row,) = [line for line in found.out.splitlines() if "backpropagation" in line]
    assert "2, 0" in row


def test_settings_that_differ_are_named(opu, trained, tmp_path):
    trained("a", "ternary", "0")
    header, *rows = (tmp_path / "a/ternary-seed0/metrics.jsonl").read_text().splitlines()
    other = json.loads(header)
    other["settings"]["encoder"]["threshold"] = 0.7
    folder = tmp_path / "b"
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("\n".join([json.dumps(other), *rows]))
    found = opu("compare", "a/ternary-seed0", "b", "--json=c.json")
    assert found.code == 0, found.err
    assert json.loads((tmp_path / "c.json").read_text())["settings"] == [
        {
            "setting": "encoder.threshold", "earlier": "0.3", "later": "0.7",
            "feedback": ["ternary"], "everywhere": True,
        }
    ]  # fmt: skip
    assert "+0" in found.out


def recorded(feedback, **settings):
    """A run as its folder would tell it."""
    rows = (EpochRow(0, None, {"test": 90.0}, 1e-3, 1.0, "none"),)
    result = RunResult("best", "digits", feedback, 0, Ternary(0.3), accuracy_score(360), rows)
    told = {"feedback": feedback, "epochs": 0, **settings}
    return RunRecord(Path(f"runs/{feedback}"), told, result)


def test_settings_are_compared_for_each_way_that_both_have():
    def differing(earlier, later):
        found = RunComparison(
            [recorded(way, rate=rate) for way, rate in earlier.items()],
            [recorded(way, rate=rate) for way, rate in later.items()],
        )
        return [each.cells for each in found.settings()], found.nothing_differs

    tuned = {"digital": 0.003, "backprop": 0.003, "shallow": 0.1}
    same = "The settings are the same."
    assert differing(tuned, {"digital": 0.003, "backprop": 0.003}) == ([], same)
    assert differing(tuned, {**tuned, "digital": 0.01, "shallow": 0.2})[0] == [
        ("rate (digital)", "0.003", "0.01"),
        ("rate (shallow)", "0.1", "0.2"),
    ]
    assert differing(tuned, {**tuned, "digital": 0.01, "backprop": 0.01})[0] == [
        ("rate (digital, backprop)", "0.003", "0.01")
    ]
    assert differing(tuned, {"digital": 0.01, "backprop": 0.01})[0] == [("rate", "0.003", "0.01")]
    cells, told = differing({"digital": 0.003}, {"shallow": 0.1})
    assert not cells
    assert "No way of feedback is in both" in told


def test_what_decided_the_light_is_compared(opu, trained, tmp_path):
    trained("a", "optical,shallow", "0", "--preset=quiet")
    walk = ("--preset=quiet", "--scene=phase_walk_rad=0.05", "--no-drift-tracking")
    trained("b", "optical,shallow", "0", *walk, "--min-fidelity=0.9")
    trained("c", "optical", "0", "--preset=quiet")
    found = opu("compare", "a", "b", "--json=c.json")
    assert found.code == 0, found.err
    settings = json.loads((tmp_path / "c.json").read_text())["settings"]
    assert {each["setting"]: (each["earlier"], each["later"]) for each in settings} == {
        "conditions.bench.scene.phase_walk_rad": ("–", "0.05"),
        "conditions.drift_tracking": ("True", "False"),
        "conditions.min_fidelity": ("0.98", "0.9"),
        "fingerprint": tuple(
            Calibration.load(tmp_path / name / "calibration.h5").fingerprint()[:8] for name in "ab"
        ),
    }
    assert {tuple(each["feedback"]) for each in settings} == {("optical",)}
    assert "The settings are the same." in opu("compare", "a", "c").out


def test_a_run_that_is_not_finished_is_told_and_left_out(opu, trained, tmp_path):
    trained("a", "digital", "0,1", "--epochs=3")
    trained("b", "digital", "0,1", "--epochs=3")
    metrics = tmp_path / "b/digital-seed1/metrics.jsonl"
    header, before, first, *_ = whole = metrics.read_text().splitlines()
    metrics.write_text("\n".join([header, before, first]))
    found = opu("compare", "a", "b", "--json=c.json", "--html=c.html")
    assert found.code == 0, found.err
    assert "b/digital-seed1 is not finished, and is left out: epoch 1 of 3." in found.out
    content = json.loads((tmp_path / "c.json").read_text())
    assert content["unfinished"] == [{"run": "b/digital-seed1", "epoch": 1, "epochs": 3}]
    (counted,) = content["later"]
    assert counted["seed"] == 0
    (row,) = [line for line in found.out.splitlines() if "not quantised" in line]
    assert f" {counted['test']:.2f} " in row  # no mean of both
    assert "2, 1" in row
    assert "epoch 1 of 3" in (tmp_path / "c.html").read_text()
    assert opu("compare", "a", "b/digital-seed0").code == 0

    alone = opu("compare", "a", "b/digital-seed1", "--html=d.html")
    (row,) = [line for line in alone.out.splitlines() if "not quantised" in line]
    assert [cell.strip() for cell in row.split("│")[3:-1]] == ["epoch 1 of 3", "–", "2, 0"]
    assert "The settings are the same." in alone.out
    metrics.write_text("\n".join(whole[:2]))
    assert opu("compare", "a", "b", "--html=e.html").code == 0  # not one point of a curve


def test_runs_of_two_tasks_are_not_compared(opu, trained, tmp_path):
    trained("a", "backprop", "0")
    for out in ("a", "b"):  # beside a run of digits, and in another folder
        header, *rows = (tmp_path / "a/backprop-seed0/metrics.jsonl").read_text().splitlines()
        other = json.loads(header)
        other["settings"]["task"] = "cora"
        (tmp_path / out / "cora").mkdir(parents=True)
        (tmp_path / out / "cora/metrics.jsonl").write_text("\n".join([json.dumps(other), *rows]))
        for folders in (("a/backprop-seed0", f"{out}/cora"), ("a/backprop-seed0", out)):
            found = opu("compare", *folders, "--html=c.html")
            assert found.code == 2
            told = f"Runs of cora ({out}/cora) and digits (a/backprop-seed0) cannot be compared"
            assert told in " ".join(found.err.split())


@pytest.mark.parametrize(
    ("line", "changes", "told"),
    [
        (3, {"score": {}}, "line 3, it has to tell epoch 1"),
        (3, {"score": "92"}, "line 3, it has to tell epoch 1"),
        (3, {"score": {"test": "92"}}, "line 3, it has to tell epoch 1"),
        (2, {"epoch": "none"}, "line 2, it has to tell epoch 0"),
        (3, {"epoch": 7}, "line 3, it has to tell epoch 1"),
        (3, {"alignment_deg": {"blocks.9": 80.0}}, "line 3, it has to tell epoch 1"),
        (1, {"score": {}}, "line 1, Score.__init__() missing"),
        (1, {"score": {"name": 5}}, "line 1, name is 5"),
        (1, {"feedback": "telepathy"}, "line 1, feedback is 'telepathy'"),
        (1, {"epochs": "many"}, "line 1, epochs is 'many'"),
        (1, {"encoder": None}, "line 1, encoder is None"),
        (1, {"task": ["digits"]}, "line 1, task is ['digits']"),
    ],
)
def test_a_damaged_record_is_told_by_its_line(opu, tmp_path, line, changes, told):
    lines = [json.loads(json.dumps(each)) for each in RECORD]
    (lines[0]["settings"] if line == 1 else lines[line - 1]).update(changes)
    (tmp_path / "a").mkdir()
    metrics = tmp_path / "a/metrics.jsonl"
    metrics.write_text("\n".join(map(json.dumps, RECORD)))
    assert opu("compare", "a", "a").code == 0
    metrics.write_text("\n".join(map(json.dumps, lines)))
    ending = opu("compare", "a", "a")
    assert ending.code == 2
    assert f"a/metrics.jsonl is no record of a run, or a damaged one: {told}" in ending.err
    metrics.write_text("\n".join([*map(json.dumps, RECORD[:2]), '{"epoch": 1, "sco']))
    assert "line 3, Unterminated string" in opu("compare", "a", "a").err


RECORD = (
    {
        "schema": 2,
        "settings": {
            "name": "best", "task": "digits", "feedback": "digital", "seed": 0, "epochs": 1,
            "encoder": {"threshold": 0.3}, "score": {"name": "accuracy", "unit": "%"},
        },
    },
    *(
        {
            "epoch": epoch, "train_loss": 2.3, "score": {"test": 90.0}, "learning_rate": 0.1,
            "seconds": 1.0, "fingerprint": "none", "projector": {},
            "alignment_deg": {"blocks.0": 80.0},
        }
        for epoch in (0, 1)
    ),
)  # fmt: skip


@pytest.mark.parametrize("content", ["", "{}", '{"schema": 1, "settings": {}}', "[1]", "no JSON"])
def test_what_is_no_run_is_refused(opu, tmp_path, content):
    (tmp_path / "metrics.jsonl").write_text(content)
    (tmp_path / "empty").mkdir()
    assert opu("compare", ".", ".").code == 2
    nothing = opu("compare", "empty", "empty")
    assert nothing.code == 2
    assert "holds no run" in nothing.err


def test_scores_of_other_kinds_are_not_compared(opu, trained, tmp_path):
    trained("a", "backprop", "0")
    header, *rows = (tmp_path / "a/backprop-seed0/metrics.jsonl").read_text().splitlines()
    other = json.loads(header)
    other["settings"]["score"] = {"name": "perplexity"}
    (tmp_path / "b").mkdir()
    (tmp_path / "b/metrics.jsonl").write_text("\n".join([json.dumps(other), *rows]))
    found = opu("compare", "a", "b")
    assert found.code == 2
    assert "accuracy and perplexity cannot be compared" in found.err


def test_event_files_hold_what_was_told(trained, tmp_path):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="TensorBoard is not installed: pip install 'opu[tensorboard]'",
    )
    trained("a", "ternary", "0", "--tensorboard")
    rows = (tmp_path / "a/ternary-seed0/metrics.jsonl").read_text().splitlines()[1:]
    events = accumulator.EventAccumulator(str(tmp_path / "a/tensorboard/ternary-seed0")).Reload()
    scores = events.Scalars("score/test")
    assert [each.value for each in scores] == pytest.approx(
        [json.loads(row)["score"]["test"] for row in rows]
    )
    assert [each.step for each in scores] == [0, 45]
    assert len(events.Scalars("loss")) == 5
    assert {"alignment_deg/blocks.0", "alignment_deg/blocks.1", "projector/rows"} <= set(
        events.Tags()["scalars"]
    )


def test_the_page_of_a_training_has_curves_and_angles(trained, tmp_path):
    trained("a", "digital,shallow", "0", "--report=r.html")
    page = (tmp_path / "r.html").read_text()
    assert page.count("<figure>") == 2
    assert "Learning curves" in page
    assert "Alignment angles" in page


def test_each_epoch_is_a_line_where_there_is_no_terminal(opu):
    ending = opu("train", "digits", "--feedback=digital", "--epochs=2", "--out=a")
    lines = [line for line in ending.err.splitlines() if ": epoch" in line]
    assert len(lines) == 3
    assert "alignment" in lines[0]
    assert [" loss " in line for line in lines] == [False, True, True]
