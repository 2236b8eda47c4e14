"""Cora and Citeseer, citation networks, with the Planetoid split (Yang et al., arXiv:1603.08861).

They are looked for as `planetoid/cora.npz` and `planetoid/citeseer.npz` in the folder that
`OPU_DATA` names, and not fetched: the published files are pickles, which are programs. An archive
holds the features as compressed rows (`indptr`, `indices`, `data`, `shape`), `labels` (-1 where
there is none), undirected `edges [edge, 2]`, and the node numbers `train`, `val` and `test`.
"""

from __future__ import annotations

from dataclasses import dataclass
from zipfile import BadZipFile

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from training.datasets.download import KnownFile
from training.datasets.files import locate
from training.errors import DatasetError

FILES = {
    "cora": KnownFile(
        "cora.npz", 90519, "de02e139fd8a2b08c88cf0df0d5addbed01fd7584813d529e2eac78f9b05360a"
    ),
    "citeseer": KnownFile(
        "citeseer.npz", 177527, "4f71c479e3b8aa867fe784f89e4173ab0721190de7e9f0cbc9c92220277efdf0"
    ),
}


@dataclass(frozen=True)
class Graph:
    """A graph whose nodes have features, and some of them known classes.

    Attributes:
        name: As on the command line.
        n_classes: Labels are 0 to `n_classes - 1`.
        features: float32 `[node, feature]`, as published (words that occur).
        labels: int64 `[node]`; -1 where there is none.
        edges: int64 `[edge, 2]`, each undirected edge once.
        train: Nodes whose labels may be learned from.
        validation: Nodes to choose on.
        test: Nodes that nothing is chosen on.
    """

    name: str
    n_classes: int
    features: Tensor
    labels: Tensor
    edges: Tensor
    train: Tensor
    validation: Tensor
    test: Tensor


def planetoid(name: str) -> Graph:
    """A citation network.

    Raises:
        DatasetError: There is none of that name, or its file is missing or damaged.
    """
    if name not in FILES:
        raise DatasetError(f"Graph {name!r}: choose one of {', '.join(FILES)}.")
    path = locate(FILES[name], "planetoid", None, list(FILES.values()))
    try:
        with np.load(path, allow_pickle=False) as archive:
            held = {key: archive[key] for key in archive.files}
        shape = (int(held["shape"][0]), int(held["shape"][1]))
        rows = csr_array((held["data"], held["indices"], held["indptr"]), shape=shape)
        features = torch.from_numpy(rows.toarray().astype(np.float32))
        numbers = {
            key: torch.from_numpy(held[key].astype(np.int64))
            for key in ("labels", "edges", "train", "val", "test")
        }
    except (OSError, BadZipFile, ValueError, KeyError, IndexError) as error:
        raise DatasetError(f"{path} is no archive of a graph: {error}. Fetch it again.") from error
    return Graph(
        name,
        int(numbers["labels"].max()) + 1,
        features,
        numbers["labels"],
        numbers["edges"],
        numbers["train"],
        numbers["val"],
        numbers["test"],
    )
