"""The idx format of MNIST: big-endian sizes, then bytes (http://yann.lecun.com/exdb/mnist)."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.errors import DatasetError

UNSIGNED_BYTES = 8


def read_idx(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The array of a gzipped idx file.

    Args:
        path: The file.
        shape: What it has to hold.

    Raises:
        DatasetError: The file is not gzip, is cut off, or holds something else.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except (EOFError, OSError, zlib.error) as error:
        raise DatasetError(
            f"{path} cannot be read as gzip ({error}): it is damaged or cut off. Fetch it again."
        ) from error
    header = 4 + 4 * len(shape)
    magic = bytes([0, 0, UNSIGNED_BYTES, len(shape)])
    found = tuple(int(n) for n in np.frombuffer(content[4:header], ">u4"))
    if content[:4] != magic or found != shape:
        raise DatasetError(
            f"{path} starts with {content[:4].hex()} and sizes {found}: expected {magic.hex()} "
            f"and {shape}. It is another file."
        )
    if len(content) != header + math.prod(shape):
        raise DatasetError(
            f"{path} holds {len(content)} bytes, expected {header + math.prod(shape)}: it is "
            "damaged or cut off. Fetch it again."
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
