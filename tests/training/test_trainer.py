from __future__ import annotations

import json
import logging
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from training.datasets.dataset import Dataset, Examples
from training.encoding import Ternary
from training.errors import (
    CheckpointError,
    DatasetError,
    DivergedError,
    FingerprintError,
    FolderBusyError,
    SettingsError,
    TapError,
    TrainingError,
    TrainingInputError,
)
from training.experiments import (
    FEEDBACKS,
    RECIPES,
    Recipe,
    RunResult,
    named_recipe,
    run,
    tasks,
)
from training.experiments.fully_connected import (
    BEST,
    LIGHT_IN_THE_LOOP,
    FullyConnected,
    Shallow,
)
from training.projector import DenseProjector
from training.run_folder import RunFolder
from training.run_state import EpochRow
from training.seal import seal
from training.trainer import Progress


def toy(n: int = 120) -> Dataset:
    """Four classes, one bright quadrant each."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (n,), generator=generator)
    images = 0.4 * torch.rand(n, 4, 4, generator=generator)
    for image, label in zip(images, labels.tolist(), strict=True):
        row, column = divmod(label, 2)
        image[2 * row : 2 * row + 2, 2 * column : 2 * column + 2] += 0.5
    examples = Examples(images, labels)
    return Dataset("toy", 4, examples.take(torch.arange(80)), examples.take(torch.arange(80, n)))


class Toy(FullyConnected):
    def data(self) -> Dataset:
        return toy()


RECIPE = Toy(
    name="toy",
    task="toy",
    widths=(16, 12, 10, 4),
    init="lecun",
    standardise=True,
    max_shift=1,
    encoder=BEST.encoder,
    learning_rate=5e-3,
    cosine=True,
    batch_size=16,
    epochs=3,
    shallow=Shallow(0.01, "xavier"),
)


def train(folder: Path | None = None, recipe: Recipe = RECIPE, **options: Any) -> RunResult:
    return run(recipe, **({"feedback": "ternary", "seed": 1, "folder": folder} | options))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert state["step"] == 15
    moments = {
        f"{i}.{key}": value
        for i, group in state["optimizer"]["state"].items()
        for key, value in group.items()
    }
    return {k: v for k, v in state["model"].items() if k != "_extra_state"} | moments


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def without_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


class InterruptionError(Exception):
    pass


class Watcher:
    def __init__(self, stop_at: int | None = None) -> None:
        self.steps: list[Progress] = []
        self.rows: list[EpochRow] = []
        self.stop_at = stop_at

    def on_step(self, progress: Progress) -> None:
        self.steps.append(progress)
        if progress.step == self.stop_at:
            raise InterruptionError

    def on_epoch(self, row: EpochRow) -> None:
        self.rows.append(row)


@pytest.mark.parametrize("feedback", FEEDBACKS)
def test_every_feedback_learns(feedback: Any) -> None:
    recipe = replace(RECIPE, widths=(16, 32, 32, 4), max_shift=0, epochs=12)
    projector = DenseProjector(4, 64, seed=3) if feedback == "optical" else None
    result = train(recipe=recipe, feedback=feedback, projector=projector)
    first, last = result.rows[1].train_loss, result.rows[-1].train_loss
    assert first is not None
    assert last is not None
    assert last < first
    assert result.test > 80


@pytest.mark.parametrize("feedback", FEEDBACKS)
def test_every_epoch_is_told(feedback: Any) -> None:
    projector = DenseProjector(4, 22, seed=3) if feedback == "optical" else None
    watcher = Watcher()
    result = train(feedback=feedback, projector=projector, observer=watcher)
    assert result.rows[0].train_loss is None
    assert [row.epoch for row in result.rows] == [0, 1, 2, 3]
    assert tuple(watcher.rows) == result.rows
    assert [p.step for p in watcher.steps] == list(range(1, 16))
    assert [p.epoch for p in watcher.steps] == [1] * 5 + [2] * 5 + [3] * 5
    tapped = feedback in ("optical", "digital", "ternary")
    assert set(result.rows[0].alignment_deg) == ({"blocks.0", "blocks.1"} if tapped else set())
    assert result.projector["rows"] == ((3 * 80 + 4 * 80) if tapped else 0)


def test_the_shallow_baseline_has_settings_of_its_own() -> None:
    losses = [
        train(recipe=replace(RECIPE, max_shift=shift, learning_rate=rate), feedback="shallow")
        .rows[-1]
        .train_loss
        for shift, rate in ((0, 1e-3), (1, 5e-2))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_seed_is_a_run() -> None:
    a, b, c = train(), train(), train(seed=2)
    assert without_times(a.as_json()["rows"]) == without_times(b.as_json()["rows"])
    assert a.rows[-1].train_loss != c.rows[-1].train_loss
    assert a.fingerprint == b.fingerprint != c.fingerprint


def test_the_global_generator_does_not_matter() -> None:
    torch.manual_seed(5)
    a = train()
    torch.manual_seed(6)
    assert a.rows[-1].train_loss == train().rows[-1].train_loss


@pytest.mark.parametrize("stop_at", [1, 4, 5, 7, 14])
def test_resumed_at_any_step_to_the_same_bits(tmp_path: Path, stop_at: int) -> None:
    train(tmp_path / "whole")
    with pytest.raises(InterruptionError):
        train(tmp_path / "cut", observer=Watcher(stop_at), checkpoint_every=2)
    resumed = train(tmp_path / "cut", resume=True, checkpoint_every=2)
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[key], cut[key]) for key in whole)
    assert without_times(lines(tmp_path / "whole")) == without_times(lines(tmp_path / "cut"))
    assert resumed.rows[-1].projector["rows"] == 560


class Drifting(DenseProjector):
    """Digital, with an account like light's, that is better in each later part of a run."""

    def __init__(self, part: int) -> None:
        super().__init__(4, 22, seed=3)
        self.part = part

    def totals(self) -> dict[str, float]:
        return {
            **super().totals(),
            "exposures": 100.0 * self.part,
            "snr": math.nan if self.part == 3 else 4.0 * self.part,
            "phase_drift_rad": 0.3 / self.part,
            "fidelity": 1 - 0.1 / self.part,
            "map_fidelity": 0.9 if self.part == 2 else math.nan,
            "saturated_fraction": 0.02 / self.part,
            "temperature_c": 20.0 + self.part,
        }


def test_the_account_is_of_all_parts_of_a_run(tmp_path: Path) -> None:
    for part, stop_at in ((1, 6), (2, 11)):
        with pytest.raises(InterruptionError):
            train(tmp_path, projector=Drifting(part), observer=Watcher(stop_at), resume=part > 1)
    account = dict(train(tmp_path, projector=Drifting(3), resume=True).projector)
    assert account.pop("snr") == pytest.approx((1 * 4 + 2 * 8) / 3)  # the third one's is not known
    assert account == {
        "rows": 560,
        "exposures": 600,
        "phase_drift_rad": 0.3,
        "fidelity": 0.9,
        "map_fidelity": 0.9,
        "saturated_fraction": 0.02,
        "temperature_c": 23.0,
    }


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_trainer import Watcher, train

class Killer(Watcher):
    def on_step(self, progress):
        if progress.step == 8:
            os.kill(os.getpid(), signal.SIGKILL)

train(Path({folder!r}), observer=Killer(), checkpoint_every=3)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_killed_and_resumed_to_the_same_bits(tmp_path: Path) -> None:
    script = KILLED.format(tests=str(Path(__file__).parent), folder=str(tmp_path / "cut"))
    killed = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not list((tmp_path / "cut").glob("*.part"))
    train(tmp_path / "whole")
    train(tmp_path / "cut", resume=True)
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[key], cut[key]) for key in whole)
    assert without_times(lines(tmp_path / "whole")) == without_times(lines(tmp_path / "cut"))


def test_killed_between_the_last_checkpoint_and_its_metrics(tmp_path: Path) -> None:
    train(tmp_path)
    metrics = tmp_path / "metrics.jsonl"
    whole = metrics.read_text()
    metrics.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    train(tmp_path, resume=True)
    assert metrics.read_text() == whole


def test_a_finished_run_is_returned_as_it_is(tmp_path: Path) -> None:
    done = train(tmp_path / "run")
    watcher = Watcher()
    again = train(tmp_path / "run", resume=True, observer=watcher)
    assert again.rows == done.rows
    assert watcher.steps == []


def test_metrics_have_a_header_and_a_row_an_epoch(tmp_path: Path) -> None:
    train(tmp_path / "run")
    header, *rows = lines(tmp_path / "run")
    assert header["settings"]["feedback"] == "ternary"
    assert header["settings"]["encoder"]["threshold"] == 0.3
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "checkpoint.pt",
        "metrics.jsonl",
        "run.lock",
    ]


HELD = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_trainer import Watcher, train

class Waiting(Watcher):
    def on_step(self, progress):
        if progress.step == 8:
            print("here", flush=True)
            time.sleep(600)

train(Path({folder!r}), observer=Waiting())
"""


def test_one_process_at_a_time_trains_in_a_folder(tmp_path: Path) -> None:
    script = HELD.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as owner:
        try:
            assert owner.stdout is not None
            assert owner.stdout.readline().strip() == b"here"
            before = {file: file.read_bytes() for file in tmp_path.glob("*.*")}
            with pytest.raises(FolderBusyError, match=rf"process {owner.pid} on .* end that proc"):
                train(tmp_path, resume=True)
            assert {file: file.read_bytes() for file in tmp_path.glob("*.*")} == before
        finally:
            owner.kill()
    assert train(tmp_path, resume=True).rows[-1].epoch == 3
    assert not (tmp_path / "run.owner").exists()


def test_two_runs_of_a_process_do_not_share_a_folder_either(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, {"seed": 1})
    with folder.held():
        again = RunFolder(tmp_path, {"seed": 1}, resume=True)
        with pytest.raises(FolderBusyError, match=f"process {os.getpid()} "), again.held():
            pass
        (tmp_path / "run.owner").write_text("nonsense")
        with pytest.raises(FolderBusyError, match="has not said who it is"), again.held():
            pass


def test_a_folder_that_was_locked_and_never_written_is_free(tmp_path: Path) -> None:
    for name in ("run.lock", "run.owner", "metrics.jsonl.part"):
        (tmp_path / name).touch()
    assert train(tmp_path).rows[-1].epoch == 3


def test_a_folder_that_cannot_be_locked_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.lock").mkdir()
    with pytest.raises(CheckpointError, match="cannot be locked"):
        train(tmp_path)


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    train(tmp_path / "run")
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    with pytest.raises(CheckpointError, match="never overwritten"):
        train(tmp_path / "run")
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before


def test_other_settings_do_not_resume(tmp_path: Path) -> None:
    train(tmp_path / "run")
    with pytest.raises(CheckpointError, match="other settings \\(seed\\): seed was 1, now 2"):
        train(tmp_path / "run", resume=True, seed=2)


def warnings_of_training(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Not what a lock says of itself, at whatever level others log."""
    ours = (each for each in caplog.records if each.name.startswith("opu."))
    return [each.getMessage() for each in ours if each.levelno >= logging.WARNING]


def test_another_projector_does_not_resume_unless_it_follows_the_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InterruptionError):
        train(tmp_path, observer=Watcher(7))
    other = DenseProjector(4, 22, seed=99)
    for unknown in ((), ("matrix-0", DenseProjector(4, 22, seed=98).fingerprint())):
        with pytest.raises(FingerprintError, match=r"other feedback: .* Resume it with the cal"):
            train(tmp_path, resume=True, projector=other, earlier_feedback=unknown)
    before = lines(tmp_path)[1]["fingerprint"]
    resumed = train(tmp_path, resume=True, projector=other, earlier_feedback=[before])
    assert resumed.rows[-1].epoch == 3
    (warning,) = warnings_of_training(caplog)
    assert f"{other.fingerprint()}, not {before}" in warning


def test_a_finished_run_is_returned_whatever_projects_now(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    done = train(tmp_path)
    again = train(tmp_path, resume=True, projector=DenseProjector(4, 22, seed=99))
    assert again.rows == done.rows
    assert not warnings_of_training(caplog)


def sealed(state: Any, path: Path) -> None:
    with path.open("w+b") as file:
        torch.save(state, file)
        seal(file)


@pytest.mark.parametrize("damage", ["truncate", "garbage", "pickle", "other", "part", "unsealed"])
def test_damaged_checkpoints_are_refused(tmp_path: Path, damage: str) -> None:
    train(tmp_path)
    path = tmp_path / "checkpoint.pt"
    if damage == "truncate":
        path.write_bytes(path.read_bytes()[:-2000])
    elif damage == "garbage":
        path.write_bytes(b"not a checkpoint")
    elif damage == "pickle":
        sealed({"step": Path("executes things")}, path)
    elif damage == "other":
        sealed([1, 2, 3], path)
    elif damage == "part":
        sealed({"step": 3}, path)
    else:
        torch.save(torch.load(path), path)
    with pytest.raises(CheckpointError, match=r"checkpoint"):
        train(tmp_path, resume=True)


def test_a_bit_that_flips_is_noticed(tmp_path: Path) -> None:
    train(tmp_path)
    path = tmp_path / "checkpoint.pt"
    whole = path.read_bytes()
    for place in (*range(0, len(whole), len(whole) // 50), len(whole) - 1):
        flipped = bytearray(whole)
        flipped[place] ^= 16
        path.write_bytes(flipped)
        with pytest.raises(CheckpointError, match=r"checkpoint\.pt (is damaged|does not end with)"):
            train(tmp_path, resume=True)


@contextmanager
def changed_checkpoint(folder: Path) -> Iterator[dict[str, Any]]:
    path = folder / "checkpoint.pt"
    state = torch.load(path)
    yield state
    sealed(state, path)


def interrupted(folder: Path, recipe: Recipe = RECIPE) -> None:
    """A run that was interrupted after 7 of its 15 steps."""
    with pytest.raises(InterruptionError):
        train(folder, recipe, observer=Watcher(8), checkpoint_every=7)


CRAFTED: dict[str, Any] = {
    "step": ["x", -5, 10**9, True, None, 2.0],
    "rows": [[1], None, [], [{"epoch": 0}]],
    "seconds": ["a", -1.0, math.nan, None],
    "recent": [3, [], ["a"] * 15, [0.5] * 101],
    "account": [
        None,
        [],
        {"rows": "many"},
        {"rows": -1},
        {"rows": None},
        {1: 1},
        {"snr": math.nan},
    ],
    "loss_sum": [None, "0", math.inf],
    "model": [None, {}, {"_extra_state": 3}, 5],
    "optimizer": [None, {}, {"state": {}, "param_groups": []}],
    "random": [None, torch.zeros(3), torch.zeros(3, dtype=torch.uint8)],
}


@pytest.mark.parametrize("field", CRAFTED)
def test_crafted_checkpoints_are_refused(tmp_path: Path, field: str) -> None:
    train(tmp_path)
    path = tmp_path / "checkpoint.pt"
    state = torch.load(path)
    for value in CRAFTED[field]:
        sealed({**state, field: value}, path)
        with pytest.raises(CheckpointError, match=rf"says {field} = |does not fit"):
            train(tmp_path, resume=True)


@pytest.mark.parametrize("change", ["shape", "scalar", "missing", "foreign", "betas"])
def test_a_crafted_optimizer_is_refused(tmp_path: Path, change: str) -> None:
    train(tmp_path)
    path = tmp_path / "checkpoint.pt"
    state = torch.load(path)
    moments = state["optimizer"]["state"][0]
    if change == "shape":
        moments["exp_avg"] = torch.zeros(3)
    elif change == "scalar":
        moments["exp_avg"] = torch.zeros(())
    elif change == "missing":
        del moments["exp_avg_sq"]
    elif change == "foreign":
        moments["momentum_buffer"] = moments["exp_avg"]
    else:
        state["optimizer"]["param_groups"][0]["betas"] = ("a", "b")
    sealed(state, path)
    with pytest.raises(CheckpointError, match="optimizer"):
        train(tmp_path, resume=True)


IMPOSSIBLE: dict[str, Any] = {
    "sparse": lambda moment: moment.to_sparse(),
    "complex": lambda moment: moment.to(torch.complex64),
    "whole": lambda moment: moment.to(torch.int64),
    "infinite": lambda moment: torch.full_like(moment, math.inf),
    "no number": lambda moment: torch.full_like(moment, math.nan),
    "a list": lambda moment: moment.tolist(),
}


@pytest.mark.parametrize("name", ["step", "exp_avg", "exp_avg_sq"])
@pytest.mark.parametrize("kind", IMPOSSIBLE)
def test_moments_that_cannot_be_are_refused(tmp_path: Path, name: str, kind: str) -> None:
    interrupted(tmp_path)
    with changed_checkpoint(tmp_path) as state:
        for moments in state["optimizer"]["state"].values():
            moments[name] = IMPOSSIBLE[kind](moments[name])
    told = f"{name} of the optimizer is not finite|dense, real tensors"
    with pytest.raises(CheckpointError, match=told):
        train(tmp_path, resume=True)


@pytest.mark.parametrize("name", ["step", "exp_avg_sq", "max_exp_avg_sq"])
def test_counts_and_squares_that_are_negative_are_refused(tmp_path: Path, name: str) -> None:
    recipe = Amsgrad(**{each.name: getattr(RECIPE, each.name) for each in fields(RECIPE)})
    interrupted(tmp_path, recipe)
    with changed_checkpoint(tmp_path) as state:
        moment = state["optimizer"]["state"][0][name]
        moment.view(-1)[-1] = -1e-3
    with pytest.raises(CheckpointError, match=f" {name} of the optimizer is negative"):
        train(tmp_path, recipe, resume=True)


class Amsgrad(Toy):
    def optimizer(self, module: torch.nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(module.parameters(), lr=self.learning_rate, amsgrad=True)


def test_moments_are_of_their_own_memory_however_they_were_saved(tmp_path: Path) -> None:
    for folder in (tmp_path / "plain", tmp_path / "odd"):
        interrupted(folder)
        with changed_checkpoint(folder) as state:
            step = torch.tensor(7.0)
            for moments in state["optimizer"]["state"].values():
                shape = moments["exp_avg"].shape
                few = torch.full((1,), 1e-3).expand(shape)  # of one number in memory
                turned = moments["exp_avg_sq"].t().contiguous().t()
                odd = {"step": step, "exp_avg": few, "exp_avg_sq": turned}
                plain = {name: moment.clone().contiguous() for name, moment in odd.items()}
                moments.update(odd if folder.name == "odd" else plain)
        train(folder, resume=True)
    plain, odd = weights(tmp_path / "plain"), weights(tmp_path / "odd")
    assert all(torch.equal(plain[key], odd[key]) for key in plain)


@pytest.mark.parametrize("content", ["", "{}\n", "[1]\n", "nonsense\n", '{"settings": 3}\n'])
def test_a_folder_of_something_else_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(content)
    with pytest.raises(CheckpointError, match="not the folder of a run|other settings"):
        RunFolder(tmp_path, {"seed": 1}, resume=True)


def test_a_run_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match="Run folder"):
        train(tmp_path / "file" / "run")


def test_a_loss_that_runs_away_ends_the_run() -> None:
    with pytest.raises(DivergedError, match="step 1[0-9][0-9] .*guessing gives 1.39"):
        train(recipe=replace(RECIPE, learning_rate=300.0, epochs=40))


class BrokenProjector(DenseProjector):
    def project(self, codes: torch.Tensor) -> torch.Tensor:
        return super().project(codes) * math.nan


def test_a_loss_that_is_not_finite_ends_the_run_at_once(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match="diverged in step 2 .*nan"):
        train(tmp_path, projector=BrokenProjector(4, 22, seed=0))
    assert [row["epoch"] for row in lines(tmp_path)[1:]] == [0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"feedback": "magnetic"}, "choose one of optical"),
        ({"feedback": "optical"}, "calibrate a bench"),
        ({"epochs": 0}, "at least 1"),
        ({"seed": -1}, "Seed -1"),
        ({"checkpoint_every": 0}, "at least 1"),
    ],
)
def test_impossible_runs_are_refused_and_leave_nothing(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=message):
        train(tmp_path / "run", **options)
    assert not list(tmp_path.iterdir())


def test_a_missing_data_set_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPU_DATA", str(tmp_path))
    with pytest.raises(DatasetError):
        run(replace(BEST, task="mnist"), "backprop", seed=1, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_small_projector_is_refused_before_training() -> None:
    with pytest.raises(TapError, match="take 22 outputs .* has 21"):
        train(feedback="optical", projector=DenseProjector(4, 21, seed=0))


def test_recipes_by_name() -> None:
    published = named_recipe("light-in-the-loop", "mnist")
    assert published == LIGHT_IN_THE_LOOP
    assert isinstance(published, FullyConnected)
    assert isinstance(published.encoder, Ternary)
    assert (published.learning_rate, published.encoder.threshold) == (0.01, 0.1)
    assert published.learning_rate_at(9999, 10000) == 0.01
    assert not published.encoder.relative
    assert not published.encoder.restore
    best = named_recipe("best", "fashion-mnist")
    assert isinstance(best, FullyConnected)
    assert best.widths == (784, 1024, 1024, 10)
    assert best.n_feedback == 2048
    assert best.learning_rate_at(0, 100) == best.learning_rate
    assert best.learning_rate_at(50, 100) == pytest.approx(best.learning_rate / 2)
    for name, task in (("better", "mnist"), ("best", "cifar")):
        with pytest.raises(SettingsError, match="choose one of"):
            named_recipe(name, task)


def test_every_recipe_has_a_name_of_its_own() -> None:
    names = [(recipe.task, recipe.name) for recipe in RECIPES]
    assert len(set(names)) == len(names)
    assert all(named_recipe(name, task).task == task for task, name in names)
    assert [named_recipe(None, task).task for task in tasks()] == list(tasks())


def test_errors_tell_input_from_failure() -> None:
    assert issubclass(TapError, TrainingInputError)
    assert issubclass(DivergedError, TrainingError)
    assert not issubclass(DivergedError, TrainingInputError)
