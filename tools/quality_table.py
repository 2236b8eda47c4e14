"""A calibration's quality figures beside theory and their limits, and what to do about them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

    from calibration.quality import Quality
    from calibration.verdict import Finding

_FIGURES = {
    "held_out_correlation": ("Held-out correlation", ".5f"),
    "held_out_error": ("Held-out error", ".4f"),
    "split_half": ("Split-half correlation", ".5f"),
    "linearity": ("Deviation from linearity", ".4f"),
    "distance_scatter": ("Scatter of distances", ".4f"),
    "law_deviation": ("Singular values off their law", ".3f"),
    "stability": ("Fidelity kept to the end", ".4f"),
    "conjugate_correlation": ("Correlation with conjugate", ".3f"),
    "snr": ("Signal to noise an exposure", ",.4g"),
    "visibility": ("Fringe visibility", ".3f"),
    "saturated_fraction": ("Saturated pixels", ".2g"),
    "dead_fraction": ("Dead pixels", ".2g"),
    "dark_modes": ("Modes without light", ".2g"),
}
"""What matters most first: in words, and how it is written."""

COLUMNS = ("Quality", "measured", "theory", "limit", "verdict")


@dataclass(frozen=True)
class QualityRow:
    """One figure of a calibration, as text.

    Attributes:
        words: What it is.
        value: What was measured.
        expected: What theory expects of a perfect bench with as much noise; a dash if nothing.
        limit: What it has to keep.
        verdict: What becomes of it.
        advice: What to do about it; empty if it passes.
    """

    words: str
    value: str
    expected: str
    limit: str
    verdict: str
    advice: str

    @classmethod
    def of(cls, found: Finding) -> QualityRow:
        """The row of a finding."""
        words, form = _FIGURES[found.name]

        def written(value: float) -> str:
            return format(value, form) if math.isfinite(value) else "–"

        sign = "≤" if found.at_most else "≥"
        limit = written(found.limit) if form.endswith("f") else f"{found.limit:.2g}"
        value = "∞" if found.value == math.inf else written(found.value)
        return cls(
            words,
            value,
            written(found.expected),
            f"{sign} {limit}",
            str(found.verdict),
            found.advice,
        )

    @property
    def cells(self) -> tuple[str, str, str, str, str]:
        """The row as a table shows it."""
        return self.words, self.value, self.expected, self.limit, self.verdict


def quality_rows(quality: Quality) -> list[QualityRow]:
    """The figures that have limits, what matters most first."""
    from calibration.verdict import findings

    found = {finding.name: finding for finding in findings(quality)}
    return [QualityRow.of(found[name]) for name in _FIGURES]


def advice(rows: list[QualityRow]) -> list[tuple[str, str]]:
    """What to do about the figures that do not pass: (figure, advice)."""
    return [(row.words, row.advice) for row in rows if row.advice and row.verdict != "not measured"]


def quality_table(quality: Quality) -> RenderableType:
    """The figures as a table for the terminal, and below it what to do."""
    from rich.console import Group
    from rich.text import Text

    from tools.terminal import table

    rows = quality_rows(quality)
    lines = [Text(f"{words}: {told}") for words, told in advice(rows)]
    return Group(table("Quality", COLUMNS, [row.cells for row in rows]), *lines)
