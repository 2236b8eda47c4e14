"""Which pattern a live bench shows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from opu_driver import Bench
from opu_driver.errors import PatternError
from opu_driver.modulator import Patterns


class Kind(StrEnum):
    """The patterns that there are to choose from."""

    ON = "all on"
    OFF = "all off"
    CHECKERBOARD = "checkerboard"
    RANDOM = "random"
    ONE = "one macropixel"


@dataclass(frozen=True)
class ShownPattern:
    """A pattern by its name.

    Attributes:
        kind: Which one.
        inputs: Macropixels that the modulator is divided into.
        which: The seed of a random pattern; the index of a single macropixel.
    """

    kind: Kind = Kind.RANDOM
    inputs: int = 64
    which: int = 0

    def __str__(self) -> str:
        what = {Kind.RANDOM: f", seed {self.which}", Kind.ONE: f" {self.which}"}.get(self.kind, "")
        return f"{self.kind.value}{what}, {self.inputs} inputs"

    def on(self, bench: Bench) -> Patterns:
        """The pattern as the modulator of an open bench stores it, `[1, ...]`.

        Raises:
            PatternError: The modulator has no such macropixels.
        """
        layout = bench.layout(self.inputs)
        bits = np.zeros((1, self.inputs), np.uint8)
        match self.kind:
            case Kind.ON:
                bits[:] = 1
            case Kind.CHECKERBOARD:
                bits[:] = layout.checkerboard()
            case Kind.RANDOM:
                bits = np.random.default_rng(self.which).integers(0, 2, bits.shape, np.uint8)
            case Kind.ONE:
                if not 0 <= self.which < self.inputs:
                    raise PatternError(
                        f"Macropixel {self.which}; this layout has 0 to {self.inputs - 1}. Choose "
                        "one of them, or more inputs."
                    )
                bits[0, self.which] = 1
        return layout.render(bits)
