"""Looking at a module without disturbing its training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Random generators and the module's buffers are afterwards what they were before.

    Gradients are left alone by those who ask for them with `torch.autograd.grad`.
    """
    buffers = {name: buffer.detach().clone() for name, buffer in module.named_buffers()}
    devices = {
        parameter.device.index or 0 for parameter in module.parameters() if parameter.is_cuda
    }
    with torch.random.fork_rng(devices=sorted(devices)):
        try:
            yield
        finally:
            with torch.no_grad():
                for name, buffer in module.named_buffers():
                    buffer.copy_(buffers[name])
