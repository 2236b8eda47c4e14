"""Two processes on one machine against one process: data parallel and fully sharded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from training.dfa import DFA, Mode
from training.encoding import Ternary
from training.errors import TapError
from training.projector import MatrixProjector

N_PROCESSES = 2

pytestmark = pytest.mark.skipif(
    not dist.is_available() or not dist.is_gloo_available(), reason="needs torch with gloo"
)


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spawned processes import this module by its name from the root of the checkout."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2]))


class CountingProjector(MatrixProjector):
    calls = 0

    def project(self, codes: Tensor) -> Tensor:
        self.calls += 1
        return super().project(codes)


def wrap(net: nn.Module, *, replay: bool = False) -> DFA:
    matrix = torch.randn(14, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    projector = CountingProjector(matrix)
    return DFA(net, projector, ["blocks.*"], encoder=Ternary(0.25), replay=replay)


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(8, 7, generator=generator, dtype=torch.float64)
    return x, torch.randint(4, (8,), generator=generator)


class Deep(nn.Module):
    """Blocks of two layers: their backward pass needs weights, which sharding has to gather."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            nn.Sequential(nn.Linear(7, 9), nn.Tanh(), nn.Linear(9, 8), nn.Tanh()),
            nn.Sequential(nn.Linear(8, 9), nn.Tanh(), nn.Linear(9, 6), nn.Tanh()),
        )
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(x))
        return logits


def net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Deep().double()


def parallel() -> tuple[nn.Module, DFA]:
    wrapped = wrap(net())
    return DistributedDataParallel(wrapped), wrapped


def replayed() -> tuple[nn.Module, DFA]:
    wrapped = wrap(net(), replay=True)
    return DistributedDataParallel(wrapped), wrapped


def sharded(size: int = N_PROCESSES) -> tuple[nn.Module, DFA]:
    """Sharded first, tapped afterwards: the taps' hooks then run after those of the sharding."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    module = net()
    mesh = init_device_mesh("cpu", (size,))
    for block in module.get_submodule("blocks").children():
        fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)
    wrapped = wrap(module)
    return wrapped, wrapped


def train(model: nn.Module, wrapped: DFA, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Two steps; the gradients of the second."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert isinstance(wrapped.projector, CountingProjector)
    assert wrapped.projector.calls == 2
    found = {name: p.grad for name, p in wrapped.module.named_parameters() if p.grad is not None}
    return {name: getattr(g, "full_tensor", lambda g=g: g)() for name, g in found.items()}


def process(rank: int, make: Callable[[], tuple[nn.Module, DFA]], folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=(Path(folder) / "meeting").as_uri(),
        rank=rank,
        world_size=N_PROCESSES,
        timeout=timedelta(seconds=120),
    )
    model, wrapped = make()
    x, y = batch()
    found = train(model, wrapped, x[rank::N_PROCESSES], y[rank::N_PROCESSES])
    torch.save(found, f"{folder}/{rank}.pt")
    # A parallel module that outlives its group ends the group's threads while it holds the
    # interpreter, for which they may wait: https://github.com/pytorch/pytorch/issues/56297
    del model, wrapped
    dist.destroy_process_group()


@pytest.fixture
def alone() -> Iterator[None]:
    """This process is a group of one."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("alone")
def test_sharding_comes_before_the_taps() -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    wrapped = wrap(net())
    fully_shard(wrapped.module.get_submodule("blocks.1"), mesh=init_device_mesh("cpu", (1,)))
    with pytest.raises(TapError, match=r"'blocks\.1' was sharded after .* fully_shard first"):
        wrapped(batch()[0])


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("mode", ["bp", "dfa"])
def test_a_sharded_block_gives_its_weights_back_before_the_next_gathers_its_own(
    mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.fsdp._fully_shard._fsdp_param_group import FSDPParamGroup

    told: list[str] = []
    for event in ("pre_backward", "post_backward"):
        plain = getattr(FSDPParamGroup, event)

        def tell(group: Any, *args: Any, event: str = event, plain: Any = plain) -> None:
            told.append(f"{event} of {group._module_fqn}")
            plain(group, *args)

        monkeypatch.setattr(FSDPParamGroup, event, tell)
    wrapped, _ = sharded(1)
    assert isinstance(wrapped, DFA)
    assert isinstance(wrapped.module, FSDPModule)
    wrapped.mode = mode
    x, y = batch()
    functional.cross_entropy(wrapped(x), y).backward()
    order = [each for each in told if "blocks" in each]
    assert order == [
        f"{event} of blocks.{block}"
        for block in (1, 0)
        for event in ("pre_backward", "post_backward")
    ]


@pytest.mark.parametrize("make", [parallel, replayed, sharded])
def test_two_processes_learn_what_one_learns(
    make: Callable[[], tuple[nn.Module, DFA]], tmp_path: Path
) -> None:
    alone = wrap(net())
    expected = train(alone, alone, *batch())
    mp.spawn(process, (make, str(tmp_path)), nprocs=N_PROCESSES)  # type: ignore[no-untyped-call]
    for rank in range(N_PROCESSES):
        found: dict[str, Any] = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found.keys() == expected.keys()
        for name, gradient in found.items():
            torch.testing.assert_close(gradient, expected[name], rtol=1e-12, atol=1e-12, msg=name)
