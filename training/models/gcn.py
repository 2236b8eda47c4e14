"""The graph convolutional network of Kipf and Welling (arXiv:1609.02907)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


def propagation(edges: Tensor, n_nodes: int) -> Tensor:
    """How features spread: `D^-1/2 (A + 1) D^-1/2`, sparse `[node, node]` (eq. 2 there).

    Args:
        edges: int64 `[edge, 2]`, each undirected edge once; loops add to the one every node gets.
        n_nodes: How many nodes there are.
    """
    loops = torch.arange(n_nodes).repeat(2, 1)
    both = torch.cat([edges.T, edges.T.flip(0), loops], 1)
    ones = torch.ones(both.shape[1])
    degree = torch.zeros(n_nodes).index_add_(0, both[0], ones)
    values = (degree[both[0]] * degree[both[1]]).rsqrt()
    return torch.sparse_coo_tensor(
        both, values, (n_nodes, n_nodes), check_invariants=True
    ).coalesce()


class GraphConvolution(nn.Module):
    """Each node takes the mean of its neighbours' features, through a linear layer."""

    def __init__(self, n_in: int, n_out: int, generator: torch.Generator) -> None:
        super().__init__()
        limit = (6 / (n_in + n_out)) ** 0.5  # Glorot and Bengio, 2010, eq. 16
        weight = torch.empty(n_in, n_out).uniform_(-limit, limit, generator=generator)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, features: Tensor, spread: Tensor) -> Tensor:
        """`[node, n_out]` of features `[node, n_in]`."""
        result: Tensor = torch.sparse.mm(spread, features @ self.weight) + self.bias
        return result


class HiddenConvolution(GraphConvolution):
    """A graph convolution with its rectifier: a block that feedback can reach."""

    def forward(self, features: Tensor, spread: Tensor) -> Tensor:
        """`[node, n_out]`, not negative."""
        return functional.relu(super().forward(features, spread))


class GCN(nn.Module):
    """Hidden graph convolutions `blocks.0`, ..., and a last one, `head`; dropout before each.

    Args:
        widths: Features, hidden layers, classes.
        dropout: Share of features that are left out.
        seed: Decides the weights.
    """

    def __init__(self, widths: tuple[int, ...], dropout: float, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        *hidden, n_out = widths
        self.blocks = nn.ModuleList(HiddenConvolution(a, b, generator) for a, b in pairwise(hidden))
        self.head = GraphConvolution(hidden[-1], n_out, generator)
        self.dropout = dropout

    def forward(self, features: Tensor, spread: Tensor) -> Tensor:
        """Logits `[node, class]`."""
        x = features
        for block in self.blocks:
            x = block(functional.dropout(x, self.dropout, self.training), spread)
        logits: Tensor = self.head(functional.dropout(x, self.dropout, self.training), spread)
        return logits
