"""Where the files of data sets are: given, downloaded before, or fetched now; always verified."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from training.datasets.download import KnownFile, cache_folder, download
from training.errors import DatasetError


def locate(file: KnownFile, folder: str, base_url: str | None, beside: Sequence[KnownFile]) -> Path:
    """The verified file: in the folder that `OPU_DATA` names, among downloads, or fetched now.

    Args:
        file: What is wanted.
        folder: Its folder in `OPU_DATA` and among downloads.
        base_url: Where it can be had; None if it may not be fetched.
        beside: All files of the data set, for the message.

    Raises:
        DatasetError: It is damaged, or missing and cannot be fetched.
    """
    folders = [cache_folder() / folder]
    if root := os.environ.get("OPU_DATA"):
        folders.insert(0, Path(root) / folder)
    for place in folders:
        path = place / file.name
        if path.exists():
            file.verify(path)
            return path
    names = ", ".join(each.name for each in beside)
    by_hand = f"put {names} into a folder {folder}/ and name the folder above it in OPU_DATA."
    if base_url is None:
        raise DatasetError(
            f"{file.name} is in none of {', '.join(map(str, folders))}, and it is not fetched: "
            f"{by_hand}"
        )
    try:
        return download(file, base_url, folders[-1])
    except DatasetError as error:
        raise DatasetError(f"{error} Without a network, {by_hand}") from error
