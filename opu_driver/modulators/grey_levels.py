"""Which grey value shows which level: the lookup table of a modulator that is a monitor.

No standard describes such tables. Makers measure one for each device and wavelength and deliver it
with the device, not in public; the power law stands in for it as long as there is none.
"""

from __future__ import annotations

import re
from pathlib import Path

from opu_driver.errors import SettingError

WHITE = 255
"""The largest grey value of a monitor."""


def phase_greys(levels: int, levels_per_2pi: float, gamma: float) -> list[int]:
    """The grey values of phases `2 pi k / levels`.

    The display delays the light by `2 pi (grey / levels_per_2pi) ** gamma`; what it is driven with
    is the inverse.

    Args:
        levels: How many phases there are.
        levels_per_2pi: The grey value whose phase is 2 pi; it depends on the wavelength. A display
            that reaches less than 2 pi at white has more than 255.
        gamma: Exponent of the display's response.

    Raises:
        SettingError: A number that is not positive, or a phase beyond white.
    """
    if not (levels_per_2pi > 0 and gamma > 0):
        raise SettingError(
            f"levels_per_2pi = {levels_per_2pi:g}, gamma = {gamma:g}: both must be above 0."
        )
    greys = [round(levels_per_2pi * (k / levels) ** (1.0 / gamma)) for k in range(levels)]
    if greys[-1] > WHITE:
        raise SettingError(
            f"levels_per_2pi = {levels_per_2pi:g}: the last of {levels} levels would need the grey "
            f"value {greys[-1]}, beyond {WHITE}. Use fewer levels, or a display that reaches 2 pi."
        )
    return greys


def read_greys(path: Path, levels: int) -> list[int]:
    """A lookup table from a text file: one grey value a line, after its level or alone.

    Blanks, commas, semicolons and tabs separate; what follows a `#` is ignored. Makers of phase
    modulators deliver such files, one for each wavelength.

    Raises:
        SettingError: The file cannot be read, or does not hold one whole grey value a level.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"lookup_table = {str(path)!r} cannot be read: {error}.") from error
    lines = [re.split(r"[\s,;]+", line.split("#")[0].strip()) for line in text.splitlines()]
    rows = [[cell for cell in line if cell] for line in lines]
    try:
        numbers = [[int(cell) for cell in row] for row in rows if row]
    except ValueError as error:
        raise SettingError(f"lookup_table = {str(path)!r}: {error}; whole numbers only.") from error
    if any(len(row) not in (1, 2) for row in numbers):
        raise SettingError(f"lookup_table = {str(path)!r}: one or two numbers a line.")
    if any(len(row) == 2 and row[0] != k for k, row in enumerate(numbers)):
        raise SettingError(f"lookup_table = {str(path)!r}: its levels do not count 0, 1, 2, ...")
    greys = [row[-1] for row in numbers]
    lowest, highest = min(greys, default=0), max(greys, default=0)
    if len(greys) != levels or lowest < 0 or highest > WHITE:
        raise SettingError(
            f"lookup_table = {str(path)!r} has {len(greys)} entries from {lowest} to {highest}; "
            f"this modulator takes {levels} of 0 to {WHITE}."
        )
    return greys
