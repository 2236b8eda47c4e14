"""A calibration's quality figures beside their limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import ge, le
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from calibration.quality import Quality

_AT_LEAST, _AT_MOST = ("≥", ge), ("≤", le)

_FIGURES: dict[str, tuple[str, tuple[str, Callable[[float, float], bool]]]] = {
    "held_out_correlation": ("Correlation with patterns not used for it", _AT_LEAST),
    "held_out_error": ("Their relative error", _AT_MOST),
    "split_half": ("Correlation with the truth, from two halves", _AT_LEAST),
    "linearity": ("Deviation from linearity", _AT_MOST),
    "snr": ("Signal to noise of one exposure", _AT_LEAST),
    "visibility": ("Fringe visibility", _AT_LEAST),
    "saturated_fraction": ("Fraction of saturated pixels", _AT_MOST),
}


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


COLUMNS = ("Quality", "measured", "limit", "verdict")


def quality_rows(quality: Quality) -> list[QualityRow]:
    """The figures that have limits, in the order of what matters most."""
    from calibration.quality import QualityLimits

    limits = QualityLimits()
    rows = []
    for name, (words, (sign, keeps)) in _FIGURES.items():
        figure, limit = float(getattr(quality, name)), float(getattr(limits, name))
        value = (
            f"{figure:.5f}" if name in ("held_out_correlation", "split_half") else f"{figure:.3g}"
        )
        rows.append(QualityRow(words, value, f"{sign} {limit:g}", keeps(figure, limit)))
    return rows


def quality_table(quality: Quality) -> Table:
    """The figures as a table for the terminal."""
    from tools.terminal import table

    return table("Quality", COLUMNS, [row.cells for row in quality_rows(quality)])
