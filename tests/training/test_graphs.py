"""Graph convolution, and the citation networks it learns from."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from training.datasets.planetoid import FILES, Graph, planetoid
from training.dfa import DFA
from training.errors import DatasetError
from training.experiments import run
from training.experiments.graphs import CORA, GraphRecipe
from training.models.gcn import GCN, propagation
from training.projector import DenseProjector


def two_communities(n: int = 60) -> Graph:
    """Two groups of nodes that cite within themselves; features say little."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 2
    pairs = torch.randint(n, (600, 2), generator=generator)
    same = labels[pairs[:, 0]] == labels[pairs[:, 1]]
    edges = pairs[same & (pairs[:, 0] < pairs[:, 1])]
    features = torch.rand(n, 12, generator=generator)
    features[:, 0] += 0.5 * labels
    nodes = torch.randperm(n, generator=generator)
    return Graph("toy", 2, features, labels, edges, nodes[:20], nodes[20:30], nodes[30:])


class Toy(GraphRecipe):
    def data(self) -> Graph:
        return two_communities()


TOY = Toy(
    name="toy",
    task="toy",
    widths=(12, 8, 2),
    dropout=0.2,
    weight_decay=5e-4,
    encoder=CORA.encoder,
    learning_rate=0.03,
    cosine=False,
    epochs=8,
    shallow_rate=0.03,
)


def test_propagation_is_symmetric_and_has_the_published_entries() -> None:
    spread = propagation(torch.tensor([[0, 1], [1, 2]]), 4).to_dense()
    assert torch.equal(spread, spread.T)
    assert spread[3, 3] == 1  # a lone node keeps its own
    assert spread[0, 0] == pytest.approx(1 / 2)
    assert spread[0, 1] == pytest.approx(1 / (2 * 3) ** 0.5)
    assert spread[0, 2] == 0
    assert torch.linalg.eigvalsh(spread).abs().max() <= 1 + 1e-6


def test_a_seed_is_a_network() -> None:
    first, again, other = (GCN((12, 8, 2), 0.5, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


@pytest.mark.parametrize("feedback", ["digital", "ternary", "backprop"])
def test_graphs_are_learned(feedback: str) -> None:
    result = run(TOY, feedback, seed=1)  # type: ignore[arg-type]
    assert result.test > 80
    assert set(result.rows[-1].score) == {"validation", "test"}


def test_only_labelled_nodes_have_an_error() -> None:
    class Noting(DenseProjector):
        shown = 0

        def project(self, codes: torch.Tensor) -> torch.Tensor:
            self.shown = int((codes != 0).any(1).sum())
            return super().project(codes)

    projector = Noting(2, 8, seed=0)
    run(replace(TOY, epochs=1), "optical", projector, seed=1)
    assert projector.shown == 20


def test_no_error_passes_by_the_taps() -> None:
    task = TOY.prepare(0, 0)
    DFA(task.module, DenseProjector(2, 8, seed=0), task.taps).audit(*task.batches.at(0).inputs)


def data() -> Path:
    root = os.environ.get("OPU_DATA")
    if not root:
        pytest.skip("OPU_DATA is not set: no folder with Cora and Citeseer")
    return Path(root)


@pytest.mark.parametrize(
    ("name", "nodes", "features", "edges", "classes"),
    [("cora", 2708, 1433, 5278, 7), ("citeseer", 3327, 3703, 4552, 6)],
)
def test_the_published_graphs(
    name: str, nodes: int, features: int, edges: int, classes: int
) -> None:
    data()
    graph = planetoid(name)
    assert graph.features.shape == (nodes, features)
    assert graph.edges.shape == (edges, 2)
    assert graph.n_classes == classes
    assert (len(graph.train), len(graph.validation), len(graph.test)) == (20 * classes, 500, 1000)
    parts = torch.cat([graph.train, graph.validation, graph.test])
    assert len(set(parts.tolist())) == len(parts)
    assert bool((graph.labels[parts] >= 0).all())


@pytest.mark.parametrize("damage", ["cut", "other", "missing"])
def test_damaged_graphs_are_named(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (data() / "planetoid" / "cora.npz").read_bytes()
    monkeypatch.setenv("OPU_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "planetoid"
    folder.mkdir()
    expected = {
        "cut": f"has 90000 bytes, expected {FILES['cora'].size}",
        "other": "SHA-256",
        "missing": "put cora.npz, citeseer.npz into a folder planetoid/",
    }
    if damage == "cut":
        (folder / "cora.npz").write_bytes(content[:90000])
    elif damage == "other":
        (folder / "cora.npz").write_bytes(bytes(len(content)))
    with pytest.raises(DatasetError, match=expected[damage]):
        planetoid("cora")


def test_an_archive_without_a_graph_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "planetoid").mkdir()
    path = tmp_path / "planetoid" / "cora.npz"
    np.savez(path, labels=np.zeros(3))
    known = replace(FILES["cora"], size=path.stat().st_size, sha256=_sha256(path.read_bytes()))
    monkeypatch.setitem(FILES, "cora", known)
    monkeypatch.setenv("OPU_DATA", str(tmp_path))
    with pytest.raises(DatasetError, match="no archive of a graph"):
        planetoid("cora")
    with pytest.raises(DatasetError, match="choose one of cora, citeseer"):
        planetoid("pubmed")


def _sha256(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()
