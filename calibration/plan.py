"""What a calibration shows, run by run, and what that costs before anything is shown."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray

from calibration.complementary_pairs import ComplementaryPairs
from calibration.field_log import CHUNK_MODES
from calibration.method import Method
from calibration.scheme import Scheme
from calibration.vectors import Bits
from opu_driver.bench import MARKERS
from opu_driver.errors import SettingError
from opu_driver.layout import Layout
from opu_driver.modulator import Patterns

HELD_OUT = 16
"""Random vectors, each shown twice, that the matrix has to predict."""

TRIPLES = 8
"""Pairs of disjoint vectors a and b, shown with their union."""

SAMPLES = 256
"""Inputs, at most, of which singular values are taken."""

SAMPLED_EXPOSURES = 128
"""Exposures, at most, from whose fields the common field is found."""

SAMPLED_RUNS = 64
"""Runs, at most, of whose markers fields are kept."""

MEMORY_GB = 4.0
"""What a calibration may hold in memory, if nothing is said."""

_TESTS = ComplementaryPairs()
_TESTED = 2 * HELD_OUT + 3 * TRIPLES
_COMPLEX = 8  # bytes
_BLOCK_SHARE = 1 / 8  # of the memory, for the sums of one block


@dataclass(frozen=True)
class Run:
    """Vectors that are shown in one sequence.

    Attributes:
        number: Counted from 0.
        scheme: How they are exposed.
        vectors: Which: those of the method first, then the test vectors.
        rows: Their exposures, numbered from the first of the calibration.
    """

    number: int
    scheme: Scheme
    vectors: range
    rows: slice

    def __len__(self) -> int:
        return int(self.rows.stop - self.rows.start)


@dataclass(frozen=True)
class Plan:
    """All that a calibration shows.

    The method's vectors are followed by test vectors, as complementary pairs whatever the method:
    held-out vectors twice, and triples a, b, a or b.

    Attributes:
        method: How the matrix is measured.
        seed: Of the test vectors.
        room: Exposures that a run may have.
    """

    method: Method
    seed: int
    room: int = 256

    @property
    def n_inputs(self) -> int:
        """Length of the vectors."""
        return self.method.vectors.n_inputs

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """In the order in which they are shown."""
        own = self.method.vectors.count
        tested = own + _TESTED
        runs: list[Run] = []
        row = 0
        # Few enough exposures that there are many markers.
        room = min(int(np.clip(self._total // 16, 16, 256)), self.room)
        for scheme, first, last in ((self.method.scheme, 0, own), (_TESTS, own, tested)):
            step = max(scheme.most(room), 1)
            for begin in range(first, last, step):
                vectors = range(begin, min(begin + step, last))
                rows = slice(row, row + scheme.exposures(len(vectors)))
                runs.append(Run(len(runs), scheme, vectors, rows))
                row = rows.stop
        return tuple(runs)

    @property
    def _total(self) -> int:
        """Exposures, but for what the ends of runs cost."""
        return self.method.scheme.exposures(self.method.vectors.count) + _TESTS.exposures(_TESTED)

    @property
    def ends(self) -> NDArray[np.int64]:
        """Number of the exposure after each run."""
        return np.array([run.rows.stop for run in self.runs])

    @property
    def exposures(self) -> int:
        """How many there are, markers not counted."""
        return int(self.runs[-1].rows.stop)

    @property
    def of_matrix(self) -> tuple[Run, ...]:
        """The runs that the matrix is measured with."""
        return tuple(run for run in self.runs if run.vectors.start < self.method.vectors.count)

    @property
    def of_tests(self) -> tuple[Run, ...]:
        """The runs that it is tested with."""
        return self.runs[len(self.of_matrix) :]

    def bits(self, run: Run) -> Bits:
        """The vectors of a run, uint8 `[vector, input]`."""
        own = self.method.vectors.count
        if run.vectors.start < own:
            return self.method.vectors.bits(run.vectors)
        return self._test_bits[run.vectors.start - own : run.vectors.stop - own]

    def patterns(self, run: Run, layout: Layout) -> Patterns:
        """The patterns of a run."""
        return run.scheme.patterns(layout, self.bits(run))

    @cached_property
    def _test_bits(self) -> Bits:
        rng = np.random.default_rng([self.seed, 1])
        held_out = rng.integers(0, 2, (HELD_OUT, self.n_inputs), np.uint8)
        owner = rng.integers(0, 3, (TRIPLES, self.n_inputs))
        triples = np.concatenate([owner == 1, owner == 2, owner > 0]).astype(np.uint8)
        return np.concatenate([held_out, held_out, triples])

    @property
    def held_out(self) -> tuple[slice, slice]:
        """The held-out vectors among the test vectors, first and second showing."""
        return slice(0, HELD_OUT), slice(HELD_OUT, 2 * HELD_OUT)

    @property
    def held_out_signs(self) -> NDArray[np.float32]:
        """The held-out vectors as 2v - 1, float32 `[vector, input]`."""
        return 2 * self._test_bits[:HELD_OUT].astype(np.float32) - 1

    @property
    def triples(self) -> slice:
        """The vectors a, b, and a or b among the test vectors: each `TRIPLES` long."""
        return slice(2 * HELD_OUT, None)


@dataclass(frozen=True)
class Cost:
    """What a plan costs on a bench.

    Attributes:
        n_inputs: Inputs.
        n_modes: Complex modes; there are twice as many real outputs.
        exposures: Exposures in all, markers included.
        light_s: What they take at the rate of the bench, seconds.
        fields_bytes: What the fields take on disk, until the calibration is done.
        matrix_bytes: What the matrix takes.
        on_disk: Whether the matrix is kept on disk, and only pieces of it in memory.
        block_modes: Modes of the matrix that are solved for at a time.
        memory_bytes: The most that is held in memory, about.
        error_at_1000: Relative error of the matrix that theory expects at a signal to noise of
            1000 of one exposure with half of the inputs lit.
    """

    n_inputs: int
    n_modes: int
    exposures: int
    light_s: float
    fields_bytes: int
    matrix_bytes: int
    on_disk: bool
    block_modes: int
    memory_bytes: int
    error_at_1000: float

    @classmethod
    def of(cls, plan: Plan, n_modes: int, rate_hz: float, memory_gb: float = MEMORY_GB) -> Self:
        """The cost of a plan for so many modes, at so many exposures a second.

        Raises:
            SettingError: The memory is not enough for it, or no amount of memory.
        """
        if not 0 < memory_gb < math.inf:
            raise SettingError(
                f"memory_gb = {memory_gb:g}; a finite number of GB, more than 0. Leave it out for "
                f"{MEMORY_GB:g}."
            )
        vectors, runs = plan.method.vectors, plan.runs
        budget = memory_gb * 1e9
        exposures = plan.exposures + MARKERS * len(runs)
        matrix = _COMPLEX * plan.n_inputs * n_modes
        on_disk = matrix > budget / 4
        tests = sum(len(run) for run in plan.of_tests)
        longest = max(map(len, runs))
        # Fields of all modes: of the tests, of the sample and its sums, of a run as it is measured.
        whole = max(3 * tests, 4 * min(SAMPLED_EXPOSURES, plan.exposures), 2 * longest)
        fixed = _COMPLEX * n_modes * whole
        fixed += vectors.working_bytes() + 32 * min(plan.n_inputs, SAMPLES) ** 2
        fixed += matrix if not on_disk else 0
        # The sums, their halves, and the matrix in both orders; a run, with its products.
        a_mode = _COMPLEX * (4 * vectors.rows + 5 * longest)
        block = int(budget * _BLOCK_SHARE / a_mode) // CHUNK_MODES * CHUNK_MODES
        block = min(max(block, CHUNK_MODES), -(-n_modes // CHUNK_MODES) * CHUNK_MODES)
        needed = fixed + block * a_mode
        if needed > budget:
            raise SettingError(
                f"{plan.n_inputs} inputs and {n_modes} modes by {plan.method.name} take "
                f"{needed / 1e9:.3g} GB of memory, and {memory_gb:g} GB are allowed. Allow more "
                "(memory_gb), or take fewer inputs or a smaller region."
            )
        return cls(
            plan.n_inputs,
            n_modes,
            exposures,
            exposures / rate_hz,
            _COMPLEX * n_modes * (plan.exposures + MARKERS * len(runs)),
            matrix,
            on_disk,
            block,
            needed,
            plan.method.expected_error(1000.0),
        )

    def blocks(self) -> list[slice]:
        """The modes, block by block."""
        edges = [*range(0, self.n_modes, self.block_modes), self.n_modes]
        return [slice(*edge) for edge in pairwise(edges)]

    def lines(self) -> dict[str, str]:
        """What there is to tell, name by name."""
        disk = self.fields_bytes + self.on_disk * self.matrix_bytes
        return {
            "matrix": f"{self.n_inputs:,} inputs x {self.n_modes:,} modes "
            f"({2 * self.n_modes:,} real outputs), {_size(self.matrix_bytes)}",
            "exposures": f"{self.exposures:,}, markers included",
            "light": _duration(self.light_s),
            "disk while measuring": _size(disk),
            "calibration file": _size(self.matrix_bytes),
            "memory": f"{_size(self.memory_bytes)}, the matrix "
            + (f"on disk, {self.block_modes:,} modes at a time" if self.on_disk else "in it"),
            "expected error": f"{self.error_at_1000:.2%} at a signal to noise of 1000 an exposure, "
            "falling with its square root",
        }


def _size(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.3g} s"
    if seconds < 5400:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:.3g} h"
