"""A calibration's quality figures beside their limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.table import Table

    from calibration.quality import Quality

_FIGURES: dict[str, tuple[str, Literal["≥", "≤"], str]] = {
    "held_out_correlation": ("Correlation with patterns not used for it", "≥", ".5f"),
    "held_out_error": ("Their relative error", "≤", ".4f"),
    "split_half": ("Correlation with the truth, from two halves", "≥", ".5f"),
    "linearity": ("Deviation from linearity", "≤", ".4f"),
    "snr": ("Signal to noise of one exposure", "≥", ",.0f"),
    "visibility": ("Fringe visibility", "≥", ".3f"),
    "saturated_fraction": ("Fraction of saturated pixels", "≤", ".2g"),
}

COLUMNS = ("Quality", "measured", "limit", "verdict")


@dataclass(frozen=True)
class QualityRow:
    """One figure of a calibration: in words, its value, its limit, and whether it keeps it."""

    words: str
    value: str
    limit: str
    passed: bool

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """The row as a table shows it."""
        return self.words, self.value, self.limit, "pass" if self.passed else "FAIL"


def quality_rows(quality: Quality) -> list[QualityRow]:
    """The figures that have limits, what matters most first."""
    from calibration.quality import QualityLimits

    limits = QualityLimits()
    rows = []
    for name, (words, sign, form) in _FIGURES.items():
        figure, limit = float(getattr(quality, name)), float(getattr(limits, name))
        passed = figure >= limit if sign == "≥" else figure <= limit
        rows.append(QualityRow(words, format(figure, form), f"{sign} {limit:g}", passed))
    return rows


def quality_table(quality: Quality) -> Table:
    """The figures as a table for the terminal."""
    from tools.terminal import table

    return table("Quality", COLUMNS, [row.cells for row in quality_rows(quality)])
