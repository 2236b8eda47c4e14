"""Error vectors -> codes that a projector can show, and the scales that undo the coding.

An encoder turns each row of an error into a code and one number, so that the projection of the
error is about `scale * (B @ code)`.

*Loss scale.* What arrives at the output in the backward pass is not the error of a sample but
`unit` times it: a mean over the batch divides by its size, a gradient scaler multiplies. Every
encoder obeys `encode(k * error, k * unit) == k * encode(error, unit)`: `unit` says what one
per-sample error is worth, and thresholds that are absolute mean per-sample errors whatever the
batch size or the scaler. Relative encoders do not look at `unit` and obey
`encode(k * error) == k * encode(error)` as well.

Rows that are not finite get a zero code and a scale of NaN: nothing meaningless is shown, and the
feedback is NaN, so that a gradient scaler skips the step and a trainer stops.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from training.errors import SettingsError


@dataclass(frozen=True)
class Encoded:
    """Codes to project, and what multiplies their projections.

    Attributes:
        codes: `[rows, n]`, int8 or int16; floating where nothing is quantised.
        scale: Floating, `[rows, 1]`.
    """

    codes: Tensor
    scale: Tensor

    def decode(self, projection: Tensor) -> Tensor:
        """The projection of the error from that of its codes, `[rows, n_outputs]`, in its place."""
        return projection.to(self.scale).mul_(self.scale)


class Encoder(Protocol):
    """Rows of an error -> codes and scales."""

    @property
    def words(self) -> str:
        """What its codes are: `"ternary"`, `"4-bit"`."""
        ...

    def encode(self, error: Tensor, unit: float, /) -> Encoded:
        """Encode floating `[rows, n]`, in which a per-sample error of 1 is worth `unit`."""
        ...


@dataclass(frozen=True)
class Identity:
    """No quantisation: the error itself, for digital projectors."""

    words = "not quantised"

    def encode(self, error: Tensor, _unit: float, /) -> Encoded:
        """The error, and scales of one."""
        return Encoded(error, torch.ones_like(error[:, :1]))


@dataclass(frozen=True)
class Ternary:
    """-1, 0 or 1: what a binary modulator shows with two exposures.

    Attributes:
        threshold: Components of at least this size are shown: per-sample error, or share of the
            row's largest component if `relative`. The published bench used 0.1, absolute
            (Launay et al., Light-in-the-loop, arXiv:2006.01475).
        relative: The threshold is a share of the row's largest component.
        restore: The projection is multiplied by the row's largest component, so that small errors
            stay small; otherwise every shown row counts alike, as published.
        dark_below: Rows whose largest per-sample error is smaller are not shown at all: what the
            network has learned costs no exposures.
    """

    threshold: float
    relative: bool = False
    restore: bool = True
    dark_below: float = 0.0

    words = "ternary"

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise SettingsError(f"Ternary threshold {self.threshold}: it lies in (0, 1].")
        if not 0 <= self.dark_below < 1:
            raise SettingsError(f"dark_below {self.dark_below}: it lies in [0, 1).")

    def encode(self, error: Tensor, unit: float, /) -> Encoded:
        """int8 codes; scales are the row's largest component, or `unit`."""
        size = error.abs()
        largest = _largest(error)
        shown = size >= (self.threshold * largest if self.relative else self.threshold * unit)
        if not self.relative or self.dark_below > 0:
            shown &= largest >= self.dark_below * unit  # false where the row is not finite
        codes = torch.where(shown, error.sign(), 0.0).to(torch.int8)
        return Encoded(codes, largest if self.restore else unit + _zero_or_nan(largest))


@dataclass(frozen=True)
class Sign:
    """The sign of each component; the mean size of the row restores the length."""

    words = "sign"

    def encode(self, error: Tensor, _unit: float, /) -> Encoded:
        """int8 codes -1, 0, 1; scales are the row's mean absolute component."""
        largest = _largest(error)
        codes = torch.where(largest > 0, error.sign(), 0.0).to(torch.int8)
        return Encoded(codes, error.abs().mean(1, keepdim=True) + _zero_or_nan(largest))


@dataclass(frozen=True)
class BitPlanes:
    """Signed integers of a few bits: a binary modulator shows one plane after the other.

    Attributes:
        bits: Bits of the magnitude, 1 to 8.
    """

    bits: int

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 8:
            raise SettingsError(f"{self.bits} bit planes: 1 to 8 can be shown.")

    @property
    def words(self) -> str:
        """Its bits."""
        return f"{self.bits}-bit"

    def encode(self, error: Tensor, _unit: float, /) -> Encoded:
        """int16 codes up to `2**bits - 1`, which stands for the row's largest component."""
        largest = _largest(error)
        full = 2**self.bits - 1
        codes = torch.where(largest > 0, error / largest * full, 0.0)
        return Encoded(codes.round().to(torch.int16), largest / full)


def encoder_of(told: Mapping[str, Any]) -> Ternary | BitPlanes:
    """The encoder of a recipe from its settings by name, as JSON tells them.

    Raises:
        TypeError, SettingsError: They are those of none.
    """
    return BitPlanes(**told) if "bits" in told else Ternary(**told)


def exposures_a_row(encoder: Encoder) -> int:
    """Exposures of one error vector on a binary modulator: e+ and e- of each bit plane."""
    return 2 * (encoder.bits if isinstance(encoder, BitPlanes) else 1)


def _largest(error: Tensor) -> Tensor:
    """Largest absolute component of each row, `[rows, 1]`; NaN where the row is not finite."""
    largest = error.abs().amax(1, keepdim=True)
    return largest + _zero_or_nan(largest)


def _zero_or_nan(largest: Tensor) -> Tensor:
    """Zero, NaN where it is infinite or NaN."""
    return largest - largest
