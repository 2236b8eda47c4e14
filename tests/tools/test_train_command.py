import json
import signal
import time
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import ClassVar

import pytest
import torch

from calibration.calibration_file import Calibration
from calibration.projector import OpticalProjector
from opu_driver import simulated_bench
from tests.conftest import BENCH_SEED
from tools.bench_choice import chosen_scene
from tools.results_table import Result, no_better_than_shallow
from tools.train import _calibration, _earlier
from tools.training_projector import KeepingProjector
from tools.training_runs import Series
from training.datasets.digits import digits
from training.errors import FingerprintError
from training.experiments import named_recipe, run
from training.experiments.fully_connected import FullyConnected
from training.score import Score, accuracy_score


def test_five_ways_to_train_make_one_table(opu, tmp_path):
    ending = opu(
        "train", "digits", "--feedback=all", "--seeds=0,1", "--epochs=1", "--out=runs",
        "--json=t.json", "--preset=quiet",
    )  # fmt: skip
    assert ending.code == 0, ending.err
    content = json.loads((tmp_path / "t.json").read_text())
    assert [result["feedback"] for result in content["results"]] == [
        "optical", "digital", "ternary", "backprop", "shallow",
    ]  # fmt: skip
    for result in content["results"]:
        runs = [run for run in content["runs"] if run["feedback"] == result["feedback"]]
        scores = [run["test"] for run in runs]
        assert result["runs"] == len(scores) == 2
        assert result["test"] == pytest.approx(sum(scores) / 2)
        assert result["deviation"] == pytest.approx(abs(scores[0] - scores[1]) / 2**0.5)
        assert (result["exposures"] > 0) == (result["feedback"] == "optical")
    assert "What the light cost" in ending.out
    made = {path.name for path in (tmp_path / "runs").iterdir()}
    assert "calibration.h5" in made
    assert len(made) == 11

    again = opu("train", "digits", "--feedback=backprop", "--epochs=1", "--out=runs")
    assert again.code == 2
    assert "--resume goes on" in again.err
    resumed = opu(
        "train", "digits", "--feedback=all", "--seeds=0,1", "--epochs=1", "--out=runs",
        "--json=r.json", "--preset=quiet", "--resume",
    )  # fmt: skip
    assert resumed.code == 0, resumed.err
    assert json.loads((tmp_path / "r.json").read_text())["runs"] == content["runs"]


def test_another_bench_is_refused_and_tracking_can_be_left_out(opu, tmp_path):
    made = opu("calibrate", "--preset=quiet", "--inputs=10", "--out=c.h5")
    assert made.code == 0
    asked = ["train", "digits", "--feedback=optical", "--epochs=3", "--calibration=c.h5"]
    other = opu(*asked, "--preset=quiet", "--scene-seed=5")
    assert other.code == 1
    assert "does not fit bench" in other.err
    assert "--recalibrate" not in other.err
    results = {}
    for tracking in ("drift-tracking", "no-drift-tracking"):
        ending = opu(
            *asked, "--preset=quiet", "--scene=phase_walk_rad=0.05", f"--{tracking}",
            f"--out={tracking}", f"--json={tracking}.json",
        )  # fmt: skip
        assert ending.code == 0, ending.err
        content = json.loads((tmp_path / f"{tracking}.json").read_text())
        results[tracking] = content["runs"][0]["rows"][-1]["alignment_deg"]
    for tap, angle in results["drift-tracking"].items():
        assert angle < results["no-drift-tracking"][tap] - 3


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["cifar", "--feedback=backprop"], "cifar"),
        (["digits", "--feedback=telepathy"], "'telepathy'"),
        (["digits", "--feedback=backprop", "--recipe=worst"], "worst"),
        (["digits", "--feedback=backprop", "--seeds=a"], "'a'"),
        (["digits", "--feedback=backprop", "--seeds=-1"], "'-1'"),
        (["digits", "--feedback=backprop", "--seeds=0,0"], "each once"),
        (["digits", "--feedback=optical", "--epochs=0"], "'--epochs'"),
        (["digits", "--feedback=optical", "--bench=missing.toml"], "missing.toml"),
        (["digits", "--feedback=optical", "--calibration=missing.h5"], "missing.h5"),
        (["digits", "--feedback=optical", "--calibration=text.h5"], "no calibration"),
        (["digits", "--feedback=backprop", "--json=nowhere/x.json"], "no folder"),
        (["digits", "--feedback=backprop", "--out=text.h5"], "text.h5"),
        (
            ["digits", "--feedback=backprop", "--calibration=missing.h5", "--bench=missing.toml"],
            "--bench, --calibration: only optical feedback",
        ),
        (
            ["digits", "--feedback=digital,shallow", "--recalibrate", "--no-drift-tracking"],
            "--no-drift-tracking, --recalibrate: only optical feedback takes a bench, and "
            "--feedback is digital,shallow",
        ),
    ],
)
def test_wrong_input_is_refused_by_name(opu, tmp_path, arguments, told):
    (tmp_path / "text.h5").write_text("no calibration")
    ending = opu("train", *arguments)
    assert ending.code == 2, ending.err
    assert told in ending.err
    assert "Traceback" not in ending.err


def test_a_terminated_training_is_gone_on_with(opu, started, tmp_path):
    asked = ["train", "digits", "--feedback=backprop", "--epochs=10", "--out=runs"]
    process = started(*asked)
    checkpoint = tmp_path / "runs" / "backprop-seed0" / "checkpoint.pt"
    while not checkpoint.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate()
    assert process.returncode == 130
    assert "Add --resume" in told
    straight = opu(*asked[:-1], "--out=other", "--json=straight.json")
    resumed = opu(*asked, "--resume", "--json=resumed.json")
    assert straight.code == resumed.code == 0, resumed.err
    one, other = (
        json.loads((tmp_path / name).read_text())["runs"][0]["rows"]
        for name in ("straight.json", "resumed.json")
    )
    assert [row["train_loss"] for row in one] == [row["train_loss"] for row in other]


def test_a_medium_that_changes_ends_the_training_or_is_calibrated_anew(opu, tmp_path):
    asked = [
        "train", "digits", "--feedback=optical", "--epochs=1", "--preset=quiet",
        "--scene=decorrelation=1e-5",
    ]  # fmt: skip
    ending = opu(*asked, "--out=runs")
    assert ending.code == 1
    assert "at least 0.98 is needed" in ending.err
    assert "calibrate again" in ending.err
    assert "With --resume --recalibrate the bench is calibrated anew" in ending.err
    assert not (tmp_path / "runs/calibration-2.h5").exists()
    metrics = tmp_path / "runs/optical-seed0/metrics.jsonl"
    assert not settings_of(metrics)["conditions"]["recalibrate"]
    ending = opu(*asked, "--out=runs", "--resume", "--recalibrate", "--json=r.json")
    assert ending.code == 0, ending.err
    assert "calibrated anew" in ending.err
    assert settings_of(metrics)["conditions"]["recalibrate"]
    (run,) = json.loads((tmp_path / "r.json").read_text())["runs"]
    last = run["rows"][-1]
    kept = max((tmp_path / "runs").glob("*.h5"), key=lambda path: (len(path.name), path.name))
    assert last["projector"]["calibration_exposures"] > 0
    assert last["fingerprint"] != run["rows"][0]["fingerprint"]  # the checkpoint's, of before
    assert last["fingerprint"] == Calibration.load(kept).fingerprint()  # as it was used
    assert "of them for new calibrations" in ending.out
    shown = sum(n for kind, n in last["projector"].items() if kind.endswith("exposures"))
    assert f"{shown:,} exposures" in ending.err


def test_a_run_is_gone_on_with_under_the_same_conditions_only(opu, tmp_path):
    asked = ["train", "digits", "--feedback=optical,shallow", "--epochs=1", "--out=runs"]
    bench = ["--preset=quiet", "--scene=phase_walk_rad=0.002"]
    assert opu(*asked, *bench).code == 0
    lit, dark = (
        tmp_path / "runs" / f"{way}-seed0" / "metrics.jsonl" for way in ("optical", "shallow")
    )
    before = lit.read_text()
    conditions = settings_of(lit)["conditions"]
    assert conditions["bench"]["scene"] == {"preset": "quiet", "seed": 0, "phase_walk_rad": 0.002}
    assert conditions["bench"]["camera"] == "opu virtual camera #0"
    del conditions["bench"]
    assert conditions == {"drift_tracking": True, "min_fidelity": 0.98, "recalibrate": False}
    assert "conditions" not in settings_of(dark)
    for others, told in (
        ([*bench, "--no-drift-tracking"], "conditions.drift_tracking was True, now False"),
        ([*bench, "--min-fidelity=0.9"], "conditions.min_fidelity was 0.98, now 0.9"),
        (["--preset=quiet"], "conditions.bench.scene.phase_walk_rad was 0.002, now not told"),
        (["--preset=realistic", bench[1]], "scene.preset was 'quiet', now 'realistic'"),
    ):
        ending = opu(*asked, "--resume", *others)
        assert ending.code == 2, ending.err
        assert told in ending.err
        assert "Resume with the same" in ending.err
    assert opu(*asked, "--resume", "--recalibrate", *bench).code == 0
    assert lit.read_text() == before  # it was finished: nothing of it has become another


def test_a_bench_file_is_told_by_what_it_says(opu, tmp_path):
    assert opu("init", "--preset=quiet", "--out=bench.toml").code == 0
    asked = ["train", "digits", "--feedback=optical", "--epochs=1", "--out=runs", "--resume"]
    assert opu(*asked, "--bench=bench.toml").code == 0
    (tmp_path / "bench.toml").rename(tmp_path / "moved.toml")
    assert opu(*asked, "--bench=moved.toml").code == 0
    text = (tmp_path / "moved.toml").read_text()
    (tmp_path / "moved.toml").write_text(text.replace("power_mw = 10.0", "power_mw = 12.0", 1))
    ending = opu(*asked, "--bench=moved.toml")
    assert ending.code == 2
    assert "conditions.bench.power_mw was 10.0, now 12.0" in ending.err


def test_optics_are_told_where_they_are_simulated(tmp_path):
    bench = tmp_path / "bench.toml"
    devices = (
        '[modulator]\ndriver = "alp"\n[camera]\ndriver = "pylon"\nexposure_us = 9.0\n'
        '[laser]\ndriver = "cobolt"\nport = "COM1"\npower_mw = 1.0\n'
    )
    emulated = '[emulation]\nlaser_log = "laser.jsonl"\npreset = "quiet"\nblack_level = 0.0\n'
    bench.write_text(devices + emulated)
    told = {"preset": "quiet", "seed": 0, "black_level": 0.0}
    assert chosen_scene(bench, None, None, None) == told
    bench.write_text(devices)
    assert chosen_scene(bench, None, None, None) is None
    assert chosen_scene(None, None, 3, None) == {"preset": "realistic", "seed": 3}


def settings_of(metrics):
    return json.loads(metrics.read_text().splitlines()[0])["settings"]


def test_the_newest_calibration_is_gone_on_with(realistic_calibration, tmp_path, capsys):
    first = realistic_calibration
    made_at = datetime.fromisoformat(first.made_at) + timedelta(hours=1)
    later = replace(first, T=1j * first.T, made_at=made_at.isoformat())
    (tmp_path / "runs").mkdir()
    given, series = first.save(tmp_path / "c.h5"), Series(None, [0], folder=tmp_path / "runs")
    assert _calibration(None, given, series, True).fingerprint() == first.fingerprint()
    later.save(tmp_path / "runs" / "calibration.h5")
    assert _calibration(None, given, series, True).fingerprint() == later.fingerprint()
    assert "later than" in capsys.readouterr().err
    assert _calibration(None, given, series, False).fingerprint() == first.fingerprint()
    assert _earlier(given, series.folder) == {first.fingerprint(), later.fingerprint()}
    assert _earlier(None, series.folder) == {later.fingerprint()}


def test_a_run_that_has_another_calibration_now_is_told_of_recalibration(opu, tmp_path):
    asked = [
        "train", "digits", "--feedback=optical", "--epochs=1", "--preset=quiet",
        "--scene=decorrelation=1e-5", "--out=runs",
    ]  # fmt: skip
    assert opu(*asked).code == 1  # the medium has become another one; a checkpoint is there
    first = Calibration.load(tmp_path / "runs" / "calibration.h5")
    replace(first, T=1j * first.T).save(tmp_path / "later.h5")
    ending = opu(*asked, "--resume", "--calibration=later.h5")
    assert ending.code == 2
    assert "trained with other feedback: its B is" in ending.err
    assert "With --recalibrate it goes on with the newest calibration" in ending.err
    assert "other_feedback" not in ending.err


class Few(FullyConnected):
    """Images of digits that note in which order they are learned from."""

    def data(self):
        whole = digits()
        return replace(whole, train=whole.train.take(torch.arange(64)))

    def prepare(self, *arguments):
        task = super().prepare(*arguments)
        return replace(task, batches=Noted(task.batches), probe=None)


class Noted:
    noted: ClassVar[list] = []

    def __init__(self, batches):
        self.per_epoch, self._batches = batches.per_epoch, batches

    def at(self, step):
        batch = self._batches.at(step)
        self.noted.append((step, batch.inputs[0].sum().item()))
        return batch


class StopError(Exception):
    pass


class Stopping:
    def on_epoch(self, row):
        pass

    def on_step(self, progress):
        if progress.step == 2:
            raise StopError


def test_an_optical_run_goes_on_with_the_same_matrix_and_order(realistic_calibration, tmp_path):
    best = named_recipe("best", "digits")
    recipe = Few(**{f.name: getattr(best, f.name) for f in fields(best)})
    recipe = replace(recipe, batch_size=16, epochs=1)

    def trained(calibration=realistic_calibration, **options):
        Noted.noted.clear()
        with simulated_bench("realistic", BENCH_SEED) as bench:
            projector = OpticalProjector(bench, calibration)
            return run(recipe, "optical", projector, seed=0, folder=tmp_path, **options)

    with pytest.raises(StopError):
        trained(observer=Stopping(), checkpoint_every=1)
    assert [step for step, _ in Noted.noted] == [0, 0, 1]  # the first one checks the taps
    before = dict(Noted.noted[:1])
    other = replace(realistic_calibration, T=1j * realistic_calibration.T)
    with pytest.raises(FingerprintError, match="trained with other feedback"):
        trained(other, resume=True)
    rows = trained(resume=True).rows
    assert {row.fingerprint for row in rows} == {realistic_calibration.fingerprint()}
    assert rows[-1].projector["rows"] == 64
    order = Noted.noted[1:]
    assert [step for step, _ in order] == [1, 2, 3]  # the second step was not saved any more
    straight = recipe.prepare(0, 0).batches
    assert order == [(step, straight.at(step).inputs[0].sum().item()) for step in (1, 2, 3)]
    assert before[0] == straight.at(0).inputs[0].sum().item()


class Renewing:
    """A bench's projector that goes over to another calibration in its second call."""

    n_inputs, n_outputs, calls, calibration = 2, 3, 0, "first"

    def project(self, codes):
        self.calls += 1
        self.calibration = "second" if self.calls > 1 else "first"
        return codes


def test_every_calibration_that_is_gone_over_to_is_kept_once():
    kept = []
    projector = KeepingProjector(Renewing(), kept.append)
    for n in (0, 1, 1):
        projector.project(torch.ones(1, 2))
        assert kept == ["second"] * n


def result_of(feedback, test, score):
    return Result(feedback, feedback, score, test, None, 1, 1.0, 0.0)


@pytest.mark.parametrize(
    ("score", "bad", "good"), [(accuracy_score(10), 80.0, 91.0), (Score("perplexity"), 9.0, 3.0)]
)
def test_feedback_that_the_last_layer_alone_outdoes_is_found(score, bad, good):
    floor = 90.0 if score.higher_is_better else 4.0
    tests = {"optical": good, "digital": floor, "ternary": bad, "backprop": bad}
    results = [result_of(way, test, score) for way, test in tests.items()]
    found = no_better_than_shallow([*results, result_of("shallow", floor, score)])
    assert [result.feedback for result in found] == ["digital", "ternary"]
    assert not no_better_than_shallow(results)


def test_feedback_that_is_not_worth_it_is_remarked_on(opu):
    asked = ["train", "digits", "--epochs=1"]
    ending = opu(*asked, "--feedback=digital,backprop,shallow", "--out=a")
    told = "No better than the last layer alone: DFA, not quantised. A longer training"
    assert told in ending.out
    assert "after 1 epoch," in ending.err
    alone = opu(*asked, "--feedback=digital", "--out=b")
    assert "last layer alone" not in alone.out
