"""Patterns on their way to a modulator: one batch at a time, and none in another's place.

What was loaded last is what is shown next. So loads have numbers, and nobody loads while a batch
that was begun ahead is still on its way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Self

from opu_driver.errors import DeviceStateError
from opu_driver.modulator import Patterns


class Loader:
    """The loads of one modulator.

    Args:
        load: Loads the modulator.

    Attributes:
        number: Of the last load, whether or not it succeeded.
    """

    def __init__(self, load: Callable[[Patterns], None]) -> None:
        self.number = 0
        self._load = load
        self._ahead: Future[_Loaded] | None = None
        self._here = threading.local()

    def load(self, patterns: Patterns) -> int:
        """Load the modulator, after the batch that is on its way, and return the load's number.

        Raises:
            PatternError: As `Modulator.load`.
        """
        if self._ahead is not None:
            wait([self._ahead])
            self._ahead = None
        return self._numbered(patterns)

    def refuse_makers(self) -> None:
        """Raise where what makes a batch that is to be loaded ahead wants the bench for itself.

        Raises:
            DeviceStateError: It does.
        """
        if getattr(self._here, "makes_a_batch", False):
            raise DeviceStateError(
                "What makes the batches of a stream asks for exposures of its own while the batch "
                "before is being shown. Expose first, and stream what comes of it."
            )

    def begin(self, pool: ThreadPoolExecutor, batches: Iterator[Patterns]) -> Future[_Loaded]:
        """Make and load the next batch in another thread: the batch, and its load's number."""
        begun = pool.submit(self._load_next, batches)
        self._ahead = begun
        return begun

    def _load_next(self, batches: Iterator[Patterns]) -> _Loaded:
        self._here.makes_a_batch = True
        batch = next(batches, None)
        self._here.makes_a_batch = False
        return batch, self.number if batch is None else self._numbered(batch)

    def _numbered(self, patterns: Patterns) -> int:
        self.number += 1
        number = self.number
        self._load(patterns)
        return number


_Loaded = tuple[Patterns | None, int]


class Uploads:
    """The batches of one stream. Where there is room for two, one is loaded while one is shown.

    Args:
        loader: Of the modulator.
        batches: What to show, each with no more patterns than the modulator holds.
        ahead: Whether the modulator loads while it shows.
    """

    def __init__(self, loader: Loader, batches: Iterator[Patterns], *, ahead: bool) -> None:
        self._loader = loader
        self._batches = batches
        self._pool = ThreadPoolExecutor(1, "modulator-upload") if ahead else None
        self._begun: Future[_Loaded] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def loaded(self) -> Patterns | None:
        """The next batch, when it is loaded; None after the last."""
        if self._begun is None:
            batch = next(self._batches, None)
            if batch is not None:
                self._loader.load(batch)
            return batch
        begun, self._begun = self._begun, None
        batch, number = begun.result()
        if batch is not None and self._loader.number != number:  # others have exposed meanwhile
            self._loader.load(batch)
        return batch

    def begin_next(self) -> None:
        """Load the batch after the one that is being shown, if there is room for it."""
        if self._pool is not None:
            self._begun = self._loader.begin(self._pool, self._batches)
