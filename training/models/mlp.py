"""The multilayer perceptron of the published bench."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from training.errors import SettingsError


class MLP(nn.Module):
    """Blocks of linear layer and activation, `blocks.0`, `blocks.1`, ..., and a linear `head`."""

    def __init__(self, widths: Sequence[int], activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        *hidden, n_out = widths
        self.blocks = nn.Sequential(
            *(nn.Sequential(nn.Linear(a, b), activation()) for a, b in itertools.pairwise(hidden))
        )
        self.head = nn.Linear(hidden[-1], n_out)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `[..., widths[-1]]` of inputs `[..., widths[0]]`."""
        logits: Tensor = self.head(self.blocks(x))
        return logits


def mlp(
    widths: Sequence[int],
    *,
    seed: int,
    activation: Callable[[], nn.Module] = nn.Tanh,
    init: str = "lecun",
) -> MLP:
    """A multilayer perceptron with seeded weights; the global random generator is left alone.

    Args:
        widths: Inputs, hidden layers, outputs: `(784, 1024, 1024, 10)`.
        seed: Decides the weights.
        activation: After each hidden layer.
        init: Weights uniform in +-limit: `"lecun"`, limit `1/sqrt(fan_in)`, biases too (PyTorch's
            default for linear layers); `"xavier"`, limit `sqrt(6/(fan_in + fan_out))`, biases zero
            (Glorot and Bengio, 2010, eq. 16); `"identity"`, as `"xavier"`, but square layers begin
            as the identity, so that what is far from the input still tells of it.

    Raises:
        SettingsError: Fewer than three widths, a width below one, or an unknown `init`.
    """
    if len(widths) < 3 or min(widths) < 1:
        raise SettingsError(f"Widths {tuple(widths)}: give inputs, hidden layers and outputs.")
    if init not in ("lecun", "xavier", "identity"):
        raise SettingsError(f"Initialisation {init!r}: choose 'lecun', 'xavier' or 'identity'.")
    with torch.random.fork_rng(devices=[]):
        network = MLP(widths, activation)
    generator = torch.Generator().manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            if init == "lecun":
                limit = bias = 1 / math.sqrt(layer.in_features)
            else:
                limit, bias = math.sqrt(6 / (layer.in_features + layer.out_features)), 0.0
            with torch.no_grad():
                layer.weight.uniform_(-limit, limit, generator=generator)
                layer.bias.uniform_(-bias, bias, generator=generator)
                if init == "identity" and layer.in_features == layer.out_features:
                    nn.init.eye_(layer.weight)
    return network
