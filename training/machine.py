"""What machines do in a second: light by exposures, electronics by multiplications."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from training.errors import SettingsError


@dataclass(frozen=True)
class Optics:
    """An optical bench: every exposure multiplies one pattern by the whole matrix.

    The defaults are the published bench (Launay et al., arXiv:2006.01475 and arXiv:2012.06373).

    Attributes:
        rate_hz: Exposures a second.
        n_inputs: Components of a pattern, at most.
        n_outputs: Numbers that a camera frame gives, at most.
        power_w: Of laser, modulator, camera and their host.

    Raises:
        SettingsError: One that is not positive, or so far from one that figures would not be
            finite.
    """

    rate_hz: float = 1500.0
    n_inputs: int = 1_000_000
    n_outputs: int = 100_000
    power_w: float = 30.0

    def __post_init__(self) -> None:
        own = (self.rate_hz, self.n_inputs, self.n_outputs, self.power_w)
        if not all(1e-18 <= each <= 1e18 for each in own):  # a NaN is neither
            raise SettingsError(f"{self}: every one of them is positive, from 1e-18 to 1e18.")

    @property
    def products_per_s(self) -> float:
        """Multiplications with their additions, if every input and every output is used."""
        return self.rate_hz * self.n_inputs * self.n_outputs

    def seconds(self, exposures: int, n_inputs: int, n_outputs: int) -> float:
        """Time of exposures of vectors; larger matrices than the bench's take several for each."""
        parts = math.ceil(n_inputs / self.n_inputs) * math.ceil(n_outputs / self.n_outputs)
        return exposures * parts / self.rate_hz


@dataclass(frozen=True)
class Electronics:
    """A processor.

    Attributes:
        name: What it is.
        flop_per_s: Additions and multiplications a second that training reaches.
        bytes_per_s: What its memory reads and writes in a second.
        memory_bytes: What it holds.
        power_w: What it draws; None where nobody knows.
    """

    name: str
    flop_per_s: float
    bytes_per_s: float
    memory_bytes: int
    power_w: float | None

    def seconds(self, flop: float, traffic_bytes: float = 0.0) -> float:
        """Time of so many operations, or of their memory traffic where that takes longer."""
        return max(flop / self.flop_per_s, traffic_bytes / self.bytes_per_s)


PEAKS = (
    ("NVIDIA V100 SXM2, float16", 125e12, 0.9e12, 32 * 10**9, 300.0),
    ("NVIDIA H100 SXM, bfloat16", 989e12, 3.35e12, 80 * 10**9, 700.0),
)
"""Dense matrix products (tensor cores, no sparsity), memory bandwidth, memory and power, by
NVIDIA's data sheets "Tesla V100" and "H100 Tensor Core GPU"."""


def graphics_processors(share_of_peak: float) -> tuple[Electronics, ...]:
    """The GPU that the published bench was compared with, and a later one.

    Args:
        share_of_peak: How much of the data sheet's rate training reaches; the bandwidth is taken
            whole.

    Raises:
        SettingsError: Not in (0, 1].
    """
    if not 0 < share_of_peak <= 1:
        raise SettingsError(f"A share of {share_of_peak} of the peak: it lies in (0, 1].")
    return tuple(Electronics(n, share_of_peak * peak, b, m, w) for n, peak, b, m, w in PEAKS)


def this_processor(memory_bytes: int, side: int = 1024, rounds: int = 5) -> Electronics:
    """This machine's own processor, timed on float32 products and copies with the threads as set.

    Args:
        memory_bytes: What a process may take of it.
        side: Of the matrices.
        rounds: The best of so many.
    """
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(side, side, generator=generator)
    product_s = _shortest_s(lambda: a @ a, rounds)
    source = a.repeat(16, 1)  # more than a cache holds
    target = torch.empty_like(source)
    copy_s = _shortest_s(lambda: target.copy_(source), rounds)
    threads = torch.get_num_threads()
    name = f"this CPU, float32, {threads} thread{'s' if threads > 1 else ''}"
    bandwidth = 2 * source.nbytes / copy_s  # read, and written
    return Electronics(name, 2 * side**3 / product_s, bandwidth, memory_bytes, None)


def _shortest_s(work: Callable[[], object], rounds: int) -> float:
    """Of several rounds, after one to warm up."""
    work()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


@dataclass(frozen=True)
class Crossover:
    """From which size on a bench multiplies a vector by an N x N matrix sooner than a processor.

    The bench is taken to have N inputs and N outputs, at the same rate and power: light does not
    care. The processor takes `2 N^2 / flop_per_s` for each vector, in batches large enough to hide
    its memory; a stored matrix ends where it does not fit any more, at `4 N^2` bytes.

    Attributes:
        time: N where both take as long: `sqrt(exposures * flop_per_s / (2 * rate_hz))`.
        energy: N where both use as much: `time * sqrt(optical power / electronic power)`.
        memory: N whose matrix fills the processor's memory.
    """

    time: float
    energy: float | None
    memory: float

    @classmethod
    def of(cls, optics: Optics, other: Electronics, exposures_a_row: int) -> Crossover:
        """Of a bench and a processor.

        Args:
            optics: The bench.
            other: The processor.
            exposures_a_row: What one vector takes.
        """
        equal = math.sqrt(exposures_a_row * other.flop_per_s / (2 * optics.rate_hz))
        return cls(
            equal,
            None if other.power_w is None else equal * math.sqrt(optics.power_w / other.power_w),
            math.sqrt(other.memory_bytes / 4),
        )
