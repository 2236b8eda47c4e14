"""Text to predict symbol by symbol: tiny Shakespeare, and lines of film dialogue."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.batch import Batch
from training.datasets.download import KnownFile
from training.datasets.files import locate
from training.errors import DatasetError, SettingsError
from training.randomness import ORDER, generator

TEST_SHARE = 0.1


@dataclass(frozen=True)
class Source:
    """A text in one file.

    Attributes:
        file: The file.
        folder: Its folder in `OPU_DATA` and among downloads.
        base_url: Where it can be had; None where it may not be redistributed.
        encoding: Of its characters.
    """

    file: KnownFile
    folder: str
    base_url: str | None
    encoding: str


SOURCES = {
    "shakespeare": Source(
        KnownFile(
            "input.txt",
            1115394,
            "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        ),
        "tiny_shakespeare",
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare",
        "ascii",
    ),
    "dialogue": Source(
        KnownFile(
            "utterances_16517.txt",
            937406,
            "a091a58e62e54456b35ba462a7b23559133de22ffddf46b2ad920005fec34187",
        ),
        "cornell_excerpt",
        None,
        "utf-8",
    ),
}


@dataclass(frozen=True)
class Text:
    """A text as numbers of symbols.

    Attributes:
        name: As on the command line.
        symbols: The characters, by number.
        train: int64 `[position]`; the beginning of the text.
        test: int64 `[position]`; its last tenth.
    """

    name: str
    symbols: str
    train: Tensor
    test: Tensor

    @classmethod
    def of(cls, name: str, text: str) -> Text:
        """Number the characters of a text and set its last tenth apart."""
        symbols = "".join(sorted(set(text)))
        number = {symbol: i for i, symbol in enumerate(symbols)}
        positions = torch.tensor([number[symbol] for symbol in text])
        cut = len(text) - round(TEST_SHARE * len(text))
        return cls(name, symbols, positions[:cut], positions[cut:])

    def split(self, n_validation: int) -> tuple[Tensor, Tensor]:
        """The training part without its last characters, and those.

        Raises:
            DatasetError: More validation characters than it has.
        """
        if not 0 <= n_validation < len(self.train):
            raise DatasetError(
                f"{n_validation} validation characters of {len(self.train)}: at least one has to "
                "remain for training."
            )
        cut = len(self.train) - n_validation
        return self.train[:cut], self.train[cut:]


def text(name: str) -> Text:
    """A text by name.

    Raises:
        DatasetError: There is none, or its file is missing or damaged.
    """
    if name not in SOURCES:
        raise DatasetError(f"Text {name!r}: choose one of {', '.join(SOURCES)}.")
    source = SOURCES[name]
    path = locate(source.file, source.folder, source.base_url, [source.file])
    return Text.of(name, path.read_text(encoding=source.encoding))


class Passages:
    """Passages from random places of a text; the targets are the same, one symbol on.

    Args:
        positions: int64 `[position]`.
        context: Symbols of a passage.
        batch_size: Passages of a batch.
        per_epoch: Batches that are called an epoch.
        seed: Decides the places.

    Raises:
        SettingsError: A text too short for one passage.
    """

    def __init__(
        self, positions: Tensor, context: int, batch_size: int, per_epoch: int, seed: int
    ) -> None:
        if len(positions) <= context:
            raise SettingsError(
                f"Passages of {context} symbols from a text of {len(positions)}: at least one more "
                "is needed."
            )
        self._positions = positions
        self._context, self._batch_size, self._seed = context, batch_size, seed
        self.per_epoch = per_epoch

    def at(self, step: int) -> Batch:
        """int64 `[passage, symbol]`, inputs and targets."""
        begins = torch.randint(
            len(self._positions) - self._context,
            (self._batch_size, 1),
            generator=generator(self._seed, ORDER, step),
        )
        places = begins + torch.arange(self._context)
        return Batch((self._positions[places],), self._positions[places + 1])


def passages_in_order(positions: Tensor, context: int) -> tuple[Tensor, Tensor]:
    """All of a text in passages beside each other, inputs and targets `[passage, symbol]`."""
    n = (len(positions) - 1) // context
    whole = positions[: n * context + 1]
    return whole[:-1].view(n, context), whole[1:].view(n, context)
