"""Frames in a file of any program: TIFF, PNG, NumPy, HDF5, a folder of images, or a recording."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from opu_driver.errors import InputError

if TYPE_CHECKING:
    from opu_driver.recording import Recording

_IMAGES = (".tif", ".tiff", ".png")
_HDF5 = (".h5", ".hdf5", ".hdf", ".he5")


class FrameFileError(InputError):
    """A file that holds no frames, or none that can be read."""


@dataclass(frozen=True)
class FrameStack:
    """Frames and what is known about them.

    Attributes:
        path: Where they are from.
        source: What was read of it, in words.
        frames: `[frame, row, column]`, grey values; read where it is indexed.
        saturation_level: Grey value of a full pixel; None if nothing tells.
        black_level: Grey value without light; None if nothing tells.
        recording: The recording that they are from, if they are.
    """

    path: Path
    source: str
    frames: Any
    saturation_level: float | None
    black_level: float | None
    recording: Recording | None = None

    def __len__(self) -> int:
        return len(self.frames)


class RecordedFrames:
    """The frames of a recording as an array that is read from disk where it is indexed.

    Args:
        recording: An open recording.
    """

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        none = recording.frames(0, 0)
        self.dtype = none.dtype
        self.shape = (len(recording), *none.shape[1:])
        self.size = int(np.prod(self.shape))

    def __len__(self) -> int:
        return len(self._recording)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        for block in self._recording.blocks():
            yield from block

    def __getitem__(self, some: int | slice | NDArray[np.int64]) -> NDArray[Any]:
        numbers = np.arange(len(self))[some]
        if isinstance(some, slice) and some.step in (None, 1):
            first = int(numbers[0]) if len(numbers) else 0
            return self._recording.frames(first, first + len(numbers))
        one = [self._recording.frames(int(k), int(k) + 1)[0] for k in np.atleast_1d(numbers)]
        return np.stack(one) if np.ndim(numbers) else one[0]

    def __array__(
        self, dtype: np.dtype[Any] | None = None, copy: bool | None = None
    ) -> NDArray[Any]:
        del copy  # what is read is always a copy
        return self._recording.frames().astype(dtype or self.dtype, copy=False)


@contextmanager
def open_frames(path: Path) -> Iterator[FrameStack]:
    """The frames in a file or a folder, readable while the block runs.

    Raises:
        FrameFileError: It is missing, of an unknown kind, or holds no frames.
        RecordingError: A recording that is damaged.
    """
    if not path.exists():
        raise FrameFileError(
            f"{path} cannot be opened: it does not exist. Name a file or a folder of frames."
        )
    kind = path.suffix.lower()
    if kind in _HDF5:
        with _hdf5(path) as stack:
            yield stack
        return
    with _told(path):
        if path.is_dir():
            stack = _folder(path)
        elif kind in _IMAGES:
            stack = _stack(path, "pages", np.stack(_pages(path)))
        elif kind in (".npy", ".npz"):
            stack = _numpy(path)
        else:
            raise FrameFileError(
                f"{path} is of no kind that is known; frames are read from {', '.join(_HDF5)}, "
                f".npy, .npz, {', '.join(_IMAGES)} and folders of such images."
            )
    yield stack


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise FrameFileError(
            f"The frames in {path} cannot be read: {error}. Save them once more, as TIFF or NumPy."
        ) from error


def _stack(path: Path, source: str, frames: NDArray[Any]) -> FrameStack:
    if frames.ndim == 2:
        frames = frames[None]
    if frames.ndim != 3 or not frames.size or frames.dtype.kind not in "uif":
        raise FrameFileError(
            f"{path} holds {frames.dtype} {list(frames.shape)}; frames are real numbers "
            "[frame, row, column], without colours. Convert them to grey values."
        )
    full = float(np.iinfo(frames.dtype).max) if frames.dtype.kind == "u" else None
    return FrameStack(path, source, frames, full, None)


def _pages(path: Path) -> list[NDArray[Any]]:
    from PIL import Image, ImageSequence

    with Image.open(path) as image:
        return [np.array(page) for page in ImageSequence.Iterator(image)]


def _folder(path: Path) -> FrameStack:
    names = sorted(file for file in path.iterdir() if file.suffix.lower() in _IMAGES)
    if not names:
        raise FrameFileError(f"The folder {path} holds no images ({', '.join(_IMAGES)}).")
    return _stack(path, f"{len(names)} images", np.stack([_pages(name)[0] for name in names]))


def _numpy(path: Path) -> FrameStack:
    loaded = np.load(path, mmap_mode="r" if path.suffix == ".npy" else None, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return _stack(path, "array", loaded)
    with loaded:
        arrays = {name: loaded[name] for name in loaded.files}
    return _stack(path, *_largest(path, arrays))


@contextmanager
def _hdf5(path: Path) -> Iterator[FrameStack]:
    import h5py

    from opu_driver.recording import Recording

    with _told(path):
        try:
            with h5py.File(path, "r") as file:
                ours = str(file.attrs.get("schema", "")).startswith("opu-recording")
        except OSError as error:
            ours = "open for" in str(error) or "unable to lock" in str(error)
            if not ours:
                raise
    if ours:
        with Recording(path) as recording:
            then = recording.conditions
            yield FrameStack(
                path,
                f"recording, {then.subject}" if then.subject else "recording",
                RecordedFrames(recording),
                then.saturation_level,
                then.black_level,
                recording,
            )
        return
    found: dict[str, Any] = {}

    def collect(name: str, part: object) -> None:
        if isinstance(part, h5py.Dataset) and part.dtype.kind in "uif" and part.ndim in (2, 3):
            found[name] = part

    with h5py.File(path, "r") as file:
        file.visititems(collect)
        name, part = _largest(path, found)
        yield _stack(path, f"dataset {name}", part[...])


def _largest(path: Path, arrays: dict[str, Any]) -> tuple[str, Any]:
    """The array with most numbers, of those that may be frames."""
    able = {n: a for n, a in arrays.items() if a.ndim in (2, 3) and a.dtype.kind in "uif"}
    if not able:
        raise FrameFileError(f"{path} holds no array [frame, row, column] of real numbers.")
    name = max(able, key=lambda one: int(able[one].size))
    return name, able[name]
