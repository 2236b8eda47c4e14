"""Frames that are read from disk where they are indexed, whatever they lie in."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from opu_driver.errors import InputError, OpuError

if TYPE_CHECKING:
    from opu_driver.recording import Recording


_DESCRIPTION = 270  # the tag ImageDescription of TIFF


class FrameFileError(InputError):
    """A file that holds no frames, or none that can be read."""


@contextmanager
def told(path: Path) -> Iterator[None]:
    """What a library raises where it cannot read a file, as our error.

    Raises:
        FrameFileError: In its place.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns of what it guesses of a damaged file, and of large images.
            warnings.filterwarnings("ignore", module="PIL")
            yield
    except (OpuError, MemoryError):
        raise
    except Exception as error:  # decoders raise anything where a file is damaged
        raise FrameFileError(
            f"The frames in {path} cannot be read: {error}. Save them once more, as TIFF or NumPy."
        ) from error


class LazyFrames:
    """Frames `[frame, row, column]` that are read one by one.

    Args:
        path: Where they are from.
        count: How many there are.
        read: Reads the frame of a number.

    Attributes:
        shape: Frames, rows and columns.
        dtype: Of grey values.
        size: Numbers in all.
    """

    def __init__(self, path: Path, count: int, read: Callable[[int], NDArray[Any]]) -> None:
        self._path = path
        self._read = read
        with told(path):
            first = read(0)
        self.dtype = first.dtype
        self.shape: tuple[int, ...] = (count, *first.shape)
        self.size = int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        for number in range(len(self)):
            yield self._one(number)

    def __getitem__(self, some: int | slice | NDArray[np.int64]) -> NDArray[Any]:
        numbers = np.arange(len(self))[some]
        if not np.ndim(numbers):
            return self._one(int(numbers))
        if not len(numbers):
            return np.zeros((0, *self.shape[1:]), self.dtype)
        return np.stack([self._one(int(number)) for number in numbers])

    def __array__(
        self, dtype: np.dtype[Any] | None = None, copy: bool | None = None
    ) -> NDArray[Any]:
        del copy  # what is read is always a copy
        return self[:].astype(dtype or self.dtype, copy=False)

    def _one(self, number: int) -> NDArray[Any]:
        with told(self._path):
            frame = self._read(number)
        if frame.shape != self.shape[1:] or frame.dtype != self.dtype:
            raise FrameFileError(
                f"Frame {number} is {frame.dtype} {list(frame.shape)}, and the first is "
                f"{self.dtype} {list(self.shape[1:])}; all have to be alike. Sort them into files."
            )
        return frame


class RecordedFrames(LazyFrames):
    """The frames of a recording, some megabytes at a time.

    Args:
        recording: An open recording; it may be empty.
    """

    def __init__(self, recording: Recording) -> None:
        self._path = recording.path
        self._recording = recording
        none = recording.frames(0, 0)
        self._read = lambda number: recording.frames(number, number + 1)[0]
        self.dtype = none.dtype
        self.shape = (len(recording), *none.shape[1:])
        self.size = int(np.prod(self.shape))

    def __iter__(self) -> Iterator[NDArray[Any]]:
        for block in self._recording.blocks():
            yield from block

    def __getitem__(self, some: int | slice | NDArray[np.int64]) -> NDArray[Any]:
        if isinstance(some, slice) and some.step in (None, 1):
            first, last, _ = some.indices(len(self))
            return self._recording.frames(first, max(last, first))
        return super().__getitem__(some)


def array_frames(path: Path, array: Any) -> LazyFrames:
    """An array of any library: axes of length one that are too many are left out.

    Raises:
        FrameFileError: It is no array of frames.
    """
    axes = tuple(int(length) for length in array.shape)
    kept = [k for k, length in enumerate(axes) if len(axes) <= 3 or length != 1]
    if array.dtype.kind not in "uif" or not 2 <= len(kept) <= 3 or not all(axes):
        raise FrameFileError(
            f"{path} holds {array.dtype} {list(axes)}; frames are real numbers [frame, row, "
            "column], without colours. Convert them to grey values."
        )
    dtype = array.dtype.newbyteorder("=")
    if len(kept) == 2:
        shape = tuple(axes[k] for k in kept)
        return LazyFrames(path, 1, lambda _: np.asarray(array[...], dtype).reshape(shape))
    frame_axis, *rest = kept
    shape = tuple(axes[k] for k in rest)

    def read(number: int) -> NDArray[Any]:
        at = tuple(number if k == frame_axis else slice(None) for k in range(len(axes)))
        return np.asarray(array[at], dtype).reshape(shape)

    return LazyFrames(path, axes[frame_axis], read)


def image_frames(paths: Sequence[Path]) -> LazyFrames:
    """The first page of each image, one by one."""
    from PIL import Image

    def read(number: int) -> NDArray[Any]:
        with Image.open(paths[number]) as image:
            return _grey(paths[number], image)

    return LazyFrames(paths[0].parent, len(paths), read)


def page_frames(path: Path, image: Any) -> LazyFrames:
    """The pages of an open image."""

    def read(number: int) -> NDArray[Any]:
        image.seek(number)
        return _grey(path, image)

    return LazyFrames(path, getattr(image, "n_frames", 1), read)


@dataclass(frozen=True)
class ToldLevels:
    """What a file of another program, or of `opu export`, says of its grey values.

    Attributes:
        black: Grey value without light, the mean of all pages; None where it does not say.
        full: Grey value of a full pixel, of the page that is full first; None likewise.
    """

    black: float | None = None
    full: float | None = None

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> ToldLevels:
        """What a mapping says by the names `black_level` and `saturation_level`."""
        black, full = (_numbers(facts.get(n)) for n in ("black_level", "saturation_level"))
        return cls(
            sum(black) / len(black) if black else None,
            min(full) if full else None,
        )

    @classmethod
    def of_image(cls, image: Any) -> ToldLevels:
        """What the description of an image says, if it is a JSON object."""
        text = getattr(image, "tag_v2", {}).get(_DESCRIPTION) or image.info.get("Description", "")
        try:
            facts = json.loads(text)
        except (ValueError, TypeError):
            return cls()
        return cls.of(facts) if isinstance(facts, dict) else cls()


def _numbers(told: Any) -> list[float]:
    values = told if isinstance(told, list) else [told]
    return [float(value) for value in values if isinstance(value, int | float)]


def _grey(path: Path, image: Any) -> NDArray[Any]:
    """The grey values of the page that an image stands at; colours that are all alike are grey."""
    page = image
    if image.mode in ("P", "1", "PA"):
        page = image.convert("L" if image.mode == "1" else "RGB")
    grey = np.array(page)
    if grey.ndim == 3:
        colours = grey[:, :, : 3 if grey.shape[2] > 2 else 1]  # the rest is opacity
        if not (colours == colours[:, :, :1]).all():
            raise FrameFileError(
                f"{path} holds colours ({image.mode}); frames are grey values, or colours that are "
                "all alike. Convert them to grey values."
            )
        grey = np.ascontiguousarray(colours[:, :, 0])
    if grey.ndim != 2 or not grey.size or grey.dtype.kind not in "uif":
        raise FrameFileError(
            f"{path} holds {grey.dtype} {list(grey.shape)}; frames are real numbers [row, column]. "
            "Save them as TIFF or NumPy."
        )
    return grey.astype(grey.dtype.newbyteorder("="), copy=False)
