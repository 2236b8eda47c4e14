"""MNIST and Fashion-MNIST: 60,000 training and 10,000 test images of 28 x 28.

The four files of each are looked for in the folder that `OPU_DATA` names (`mnist/`,
`fashion_mnist/`), then among earlier downloads, and fetched otherwise. Wherever they come from,
their content has to be the published one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from training.datasets.dataset import Dataset, Examples
from training.datasets.download import KnownFile
from training.datasets.files import locate
from training.datasets.idx import read_idx

SIDE = 28
N_TRAIN, N_TEST = 60_000, 10_000


@dataclass(frozen=True)
class Source:
    """A data set in four idx files.

    Attributes:
        name: As on the command line.
        folder: Its folder in `OPU_DATA` and among downloads.
        base_url: Where the files can be had.
        files: Training images and labels, test images and labels.
    """

    name: str
    folder: str
    base_url: str
    files: tuple[KnownFile, KnownFile, KnownFile, KnownFile]


MNIST = Source(
    "mnist",
    "mnist",
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    (
        KnownFile(
            "train-images-idx3-ubyte.gz",
            9912422,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        KnownFile(
            "train-labels-idx1-ubyte.gz",
            28881,
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        KnownFile(
            "t10k-images-idx3-ubyte.gz",
            1648877,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        KnownFile(
            "t10k-labels-idx1-ubyte.gz",
            4542,
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    ),
)
FASHION_MNIST = Source(
    "fashion-mnist",
    "fashion_mnist",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    (
        KnownFile(
            "train-images-idx3-ubyte.gz",
            26421880,
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        ),
        KnownFile(
            "train-labels-idx1-ubyte.gz",
            29515,
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        ),
        KnownFile(
            "t10k-images-idx3-ubyte.gz",
            4422102,
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        ),
        KnownFile(
            "t10k-labels-idx1-ubyte.gz",
            5148,
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    ),
)


def mnist() -> Dataset:
    """Handwritten digits (LeCun, Cortes, Burges).

    Raises:
        DatasetError: Files are missing and cannot be fetched, or are damaged.
    """
    return read(MNIST)


def fashion_mnist() -> Dataset:
    """Articles of clothing (Xiao, Rasul, Vollgraf, arXiv:1708.07747).

    Raises:
        DatasetError: Files are missing and cannot be fetched, or are damaged.
    """
    return read(FASHION_MNIST)


def read(source: Source) -> Dataset:
    """The data set of a source.

    Raises:
        DatasetError: Files are missing and cannot be fetched, or are damaged.
    """
    paths = [locate(file, source.folder, source.base_url, source.files) for file in source.files]
    return Dataset(
        source.name,
        10,
        _examples(paths[0], paths[1], N_TRAIN),
        _examples(paths[2], paths[3], N_TEST),
    )


def _examples(images: Path, labels: Path, n: int) -> Examples:
    pixels = read_idx(images, (n, SIDE, SIDE)).astype(np.float32) / 255
    classes = read_idx(labels, (n,)).astype(np.int64)
    return Examples(torch.from_numpy(pixels), torch.from_numpy(classes))
