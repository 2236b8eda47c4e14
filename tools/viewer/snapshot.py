"""One frame on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from opu_driver.errors import RecordingError
from tools.output_path import require_free, require_writable
from tools.viewer.glimpse import Frame

SUFFIXES = (".npy", ".tif", ".tiff")


def save_snapshot(frame: Frame, path: Path) -> None:
    """Write a frame as it is, grey value for grey value.

    Args:
        frame: Grey values `[row, column]`: uint8, uint16 or float32.
        path: Ends in `.npy`, `.tif` or `.tiff`.

    Raises:
        OutputError: The place is taken, or cannot be written.
        RecordingError: Another ending, or the disk refuses.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise RecordingError(
            f"A snapshot {path.name!r}: its name ends in {', '.join(SUFFIXES)}. Name another file."
        )
    require_writable(path)
    require_free(path)
    try:
        with path.open("xb") as file:
            if path.suffix.lower() == ".npy":
                np.save(file, frame)
            else:
                Image.fromarray(frame).save(file, format="TIFF")
    except OSError as error:
        raise RecordingError(
            f"The snapshot cannot be written to {path}: {error}. Name a folder that has room."
        ) from error
