"""Processes that train together, and the one bench that serves them."""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from training.batch import Batch
from training.dfa import DFA
from training.encoding import Ternary
from training.errors import CodeError, SettingsError, TrainingError
from training.experiments import named_recipe, run
from training.projector import DenseProjector, Projector
from training.shared_projector import SharedProjector
from training.team import Team, team_of_environment

pytestmark = pytest.mark.skipif(
    not dist.is_available() or not dist.is_gloo_available(), reason="needs torch with gloo"
)

DEADLINE_S = 90.0


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spawned processes import this module by its name from the root of the checkout."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2]))


def _process(
    work: Callable[..., Any], rank: int, size: int, port: int, arguments: tuple[Any, ...], ends: Any
) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    try:
        with team_of_environment(timeout_s=60) as team:
            ends.send(work(team, *arguments))
    except Exception as error:
        ends.send((type(error).__name__, str(error), traceback.format_exc()))


class Processes:
    """Some processes that do the same work, each with its rank."""

    def __init__(self, size: int, work: Callable[..., Any], *arguments: Any) -> None:
        context = mp.get_context("spawn")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        pipes = [context.Pipe(duplex=False) for _ in range(size)]
        self.ends = [receiving for receiving, _ in pipes]
        self.processes = [
            context.Process(
                target=_process, args=(work, rank, size, port, arguments, pipes[rank][1])
            )
            for rank in range(size)
        ]
        for process in self.processes:
            process.start()
        for _, sending in pipes:
            sending.close()

    def results(self) -> list[Any]:
        """What each returned: None of one that was killed."""
        deadline = time.monotonic() + DEADLINE_S
        found = []
        for end in self.ends:
            assert end.poll(max(0.0, deadline - time.monotonic())), "a process hangs"
            try:
                found.append(end.recv())
            except EOFError:
                found.append(None)
        return found

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.join(10)


@pytest.fixture
def together() -> Iterator[Callable[..., Processes]]:
    """Processes that do not outlive the test."""
    started: list[Processes] = []

    def start(size: int, work: Callable[..., Any], *arguments: Any) -> Processes:
        started.append(Processes(size, work, *arguments))
        return started[-1]

    yield start
    for processes in started:
        processes.kill()


def digits_run(team: Team | None, projector: Projector | None, **options: Any) -> Any:
    recipe = replace(named_recipe("best", "digits"), epochs=2)
    return run(recipe, "ternary", projector, seed=0, team=team, **options)


OWNERS = ((0,), (2,), (0, 2), (0, 1, 2))
TYPES = (torch.int8, torch.int16, torch.float32)


def uneven(rank: int, dtype: torch.dtype) -> Tensor:
    return torch.arange(-10, 10).view(4, 5)[: rank + 1].to(dtype)


def project_unevenly(team: Team) -> list[list[list[float]]]:
    found = []
    for owners in OWNERS:
        own = DenseProjector(5, 7, seed=1) if team.rank in owners else None
        shared = SharedProjector(own, team)
        found += [shared.project(uneven(team.rank, dtype)).tolist() for dtype in TYPES]
    return found


def test_everyone_gets_the_projection_of_their_own_codes(
    together: Callable[..., Processes],
) -> None:
    alone = DenseProjector(5, 7, seed=1)
    for rank, found in enumerate(together(3, project_unevenly).results()):
        expected = [alone.project(uneven(rank, dtype)) for _ in OWNERS for dtype in TYPES]
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(torch.tensor(one), other)


def misfits(team: Team) -> list[str]:
    """What each misfit is told; all processes stay together throughout."""
    own = DenseProjector(5, 7, seed=team.rank)
    first = own if team.leads else None
    mixed = torch.ones(2, 5, dtype=TYPES[team.rank])
    told = []
    for work in (
        lambda: SharedProjector(own, team),
        lambda: SharedProjector(None, team),
        lambda: digits_run(team, DenseProjector(10, 96, seed=team.rank)),
        lambda: SharedProjector(first, team).project(mixed),
        lambda: SharedProjector(first, team).project(torch.ones(2, 5, dtype=torch.bool)),
    ):
        try:
            work()
        except TrainingError as error:
            told.append(f"{type(error).__name__}: {error}")
    return told


def test_ranks_that_do_not_fit_are_refused_by_all(together: Callable[..., Processes]) -> None:
    owner, other = together(2, misfits).results()
    for told in (owner, other):
        assert told[0].startswith("FingerprintError: Benches that are not the same matrix")
        assert "rank 1 has matrix-" in told[0]
        assert told[1].startswith("SettingsError: No process has a projector")
        assert "differ in projector: rank 0 has matrix-" in told[2]
        assert told[4].startswith("CodeError: Codes of torch.bool")
    assert owner[3].startswith("CodeError: Codes of torch.int16 and torch.int8 at once")
    assert other[3].startswith("LostRankError: The bench of rank 0 failed")


class Renewing(DenseProjector):
    """A bench that is calibrated anew in its second call."""

    calls = 0

    def project(self, codes: Tensor) -> Tensor:
        self.calls += 1
        return super().project(codes)

    def fingerprint(self) -> str:
        return super().fingerprint() + "-anew" * (self.calls > 1)

    def totals(self) -> dict[str, float]:
        return {**super().totals(), "calibration_exposures": 100 * (self.calls > 1)}


def renew(team: Team) -> list[str]:
    told = []
    for owners in ((1,), (0, 1)):
        shared = SharedProjector(Renewing(5, 7, seed=1) if team.rank in owners else None, team)
        told.append(shared.fingerprint())
        for _ in range(3):
            try:
                shared.project(torch.ones(2, 5))
            except TrainingError as error:
                told.append(f"{type(error).__name__}: {error}")
                break
            told.append(shared.fingerprint())
    return told


def test_a_bench_that_was_calibrated_anew_tells_everybody(
    together: Callable[..., Processes],
) -> None:
    first = DenseProjector(5, 7, seed=1).fingerprint()
    anew = f"{first}-anew"
    for told in together(2, renew).results():
        assert told[:6] == [first, first, anew, anew, first, first]
        assert told[6].startswith("FingerprintError: The bench of rank 0 was calibrated anew")


class Breaking(DenseProjector):
    """A bench that fails in its third call."""

    calls = 0

    def project(self, codes: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == 3:
            raise CodeError("the laser is dark")
        return super().project(codes)


def learn_break_and_go_on(team: Team, folder: str) -> dict[str, Any]:
    kept = Path(folder) if team.leads else None
    own = DenseProjector(10, 96, seed=0) if team.leads else None
    whole = digits_run(team, SharedProjector(own, team)).rows[-1]
    told = ""
    breaking = Breaking(10, 96, seed=0) if team.leads else None
    try:
        digits_run(team, SharedProjector(breaking, team), folder=kept)
    except TrainingError as error:
        told = f"{type(error).__name__}: {error}"
    resumed = digits_run(team, SharedProjector(own, team), folder=kept, resume=True).rows[-1]
    return {
        "told": told,
        "losses": [whole.train_loss, resumed.train_loss],
        "score": dict(whole.score),
        "rows": whole.projector.get("rows"),
    }


def test_two_learn_what_one_learns_and_go_on_after_a_bench_has_failed(
    together: Callable[..., Processes], tmp_path: Path
) -> None:
    alone = digits_run(None, DenseProjector(10, 96, seed=0)).rows[-1]
    leader, other = together(2, learn_break_and_go_on, str(tmp_path / "r")).results()
    assert leader["told"] == "CodeError: the laser is dark"
    assert other["told"].startswith("LostRankError: The bench of rank 0 failed")
    assert leader["losses"] == other["losses"] == [pytest.approx(alone.train_loss, rel=1e-6)] * 2
    assert leader["score"] == pytest.approx(alone.score, abs=0.3)  # an image of 360
    assert leader["rows"] == alone.projector["rows"]
    assert (other["score"], other["rows"]) == ({}, None)


def gradients(module: nn.Module, projector: Projector, x: Tensor, y: Tensor) -> list[list[float]]:
    """Of one step of one's own, in parallel where there are several processes."""
    learning: nn.Module = DFA(module, projector, ["0", "1"], encoder=Ternary(0.3, relative=True))
    if dist.is_initialized():
        learning = DistributedDataParallel(learning)
    functional.cross_entropy(learning(x), y).backward()
    return [p.grad.flatten().tolist() for p in module.parameters() if p.grad is not None]


def own_step(team: Team | None) -> list[list[float]]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = (nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(2))
        module = nn.Sequential(*layers, nn.Linear(6, 4))
        x, y = torch.randn(8, 6), torch.randint(4, (8,))
    bench = DenseProjector(4, 12, seed=0) if team is None or team.leads else None
    if team is None:
        assert bench is not None
        return gradients(module, bench, x, y)
    part = slice(team.rank, None, team.size)
    return gradients(module, SharedProjector(bench, team), x[part], y[part])


def test_torchs_own_data_parallel_shares_the_bench_too(together: Callable[..., Processes]) -> None:
    alone = own_step(None)
    assert len(alone) == 6
    for found in together(2, own_step).results():
        for one, other in zip(found, alone, strict=True):
            assert one == pytest.approx(other, rel=1e-4, abs=1e-6)


def die(team: Team, victim: int) -> None:
    own = DenseProjector(5, 7, seed=1) if team.leads else None
    projector = SharedProjector(own, team)
    for step in range(1000):
        if step == 3 and team.rank == victim:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        projector.project(torch.ones(2, 5))


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_is_noticed_by_the_other(
    together: Callable[..., Processes], victim: int
) -> None:
    processes = together(2, die, victim)
    found = processes.results()
    assert found[victim] is None
    kind, text, _ = found[1 - victim]
    assert kind == "LostRankError"
    lost = f"rank {victim} (process {processes.processes[victim].pid})"
    assert text.startswith(f"Rank {1 - victim} of 2 has lost {lost}")


def test_parts_make_up_the_batch_and_weigh_what_they_hold() -> None:
    rows = torch.arange(7)
    parts = [Team(rank, 3).part(Batch((rows,), rows)) for rank in range(3)]
    assert sorted(int(x) for part in parts for x in part.targets) == list(range(7))
    assert sum(part.weight for part in parts) == pytest.approx(3)
    assert parts[0].weight == pytest.approx(3 * 3 / 7)


def test_batches_that_cannot_be_divided_are_refused() -> None:
    graph = Batch((torch.ones(4, 3), torch.eye(4).to_sparse_coo()), torch.arange(2))
    with pytest.raises(SettingsError, match="whole graph"):
        Team(0, 2).part(graph)
    with pytest.raises(SettingsError, match="2 rows for 3 processes"):
        Team(0, 3).part(Batch((torch.ones(2, 1),), torch.ones(2)))


def test_without_torchrun_there_is_no_team(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with team_of_environment() as team:
        assert team is None
