"""Labelled images behind one function: digits, MNIST, Fashion-MNIST."""

from __future__ import annotations

from collections.abc import Callable

from training.datasets.dataset import Dataset
from training.datasets.digits import digits
from training.datasets.mnist import fashion_mnist, mnist
from training.errors import DatasetError

DATASETS: dict[str, Callable[[], Dataset]] = {
    "digits": digits,
    "mnist": mnist,
    "fashion-mnist": fashion_mnist,
}


def load(name: str) -> Dataset:
    """The data set of that name.

    Raises:
        DatasetError: No such data set, or its files are missing or damaged.
    """
    if name not in DATASETS:
        raise DatasetError(f"Data set {name!r}: choose one of {', '.join(DATASETS)}.")
    return DATASETS[name]()
