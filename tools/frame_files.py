"""Frames in a file of any program: TIFF, PNG, NumPy, HDF5, Zarr, images, or a recording."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tools.lazy_frames import (
    FrameFileError,
    LazyFrames,
    RecordedFrames,
    ToldLevels,
    array_frames,
    image_frames,
    page_frames,
    told,
)

if TYPE_CHECKING:
    from opu_driver.recording import Recording

__all__ = ["FrameFileError", "FrameStack", "RecordedFrames", "open_frames", "recorded_stack"]

_IMAGES = (".tif", ".tiff", ".png")
_HDF5 = (".h5", ".hdf5", ".hdf", ".he5")
_ZARR = ("zarr.json", ".zarray", ".zgroup")


@dataclass(frozen=True)
class FrameStack:
    """Frames and what is known about them.

    Attributes:
        path: Where they are from.
        source: What was read of it, in words.
        frames: `[frame, row, column]`, grey values; read where it is indexed or iterated over.
        saturation_level: Grey value of a full pixel; None if nothing tells.
        black_level: Grey value without light; None if nothing tells.
        recording: The recording that they are from, if they are.
    """

    path: Path
    source: str
    frames: LazyFrames
    saturation_level: float | None
    black_level: float | None
    recording: Recording | None = None

    def __len__(self) -> int:
        return len(self.frames)


@contextmanager
def open_frames(path: Path) -> Iterator[FrameStack]:
    """The frames in a file or a folder, readable while the block runs.

    Raises:
        FrameFileError: It is missing, of an unknown kind, or holds no frames; also inside the
            block, where a frame that is asked for cannot be read.
        RecordingError: A recording that is damaged.
        DriverMissingError: A Zarr folder, and its library is not installed.
    """
    if not path.exists():
        raise FrameFileError(
            f"{path} cannot be opened: it does not exist. Name a file or a folder of frames."
        )
    kind = path.suffix.lower()
    if kind in _HDF5:
        opened = _hdf5(path)
    elif path.is_dir():
        opened = _zarr(path) if any((path / name).exists() for name in _ZARR) else _folder(path)
    elif kind in _IMAGES:
        opened = _pages(path)
    elif kind in (".npy", ".npz"):
        opened = _numpy(path)
    else:
        raise FrameFileError(
            f"{path} is of no kind that is known; frames are read from {', '.join(_HDF5)}, "
            f".npy, .npz, {', '.join(_IMAGES)}, .zarr and folders of such images."
        )
    with ExitStack() as until_read:
        with told(path):
            stack = until_read.enter_context(opened)
        yield stack


def _stack(path: Path, source: str, frames: LazyFrames, levels: ToldLevels) -> FrameStack:
    return FrameStack(path, source, frames, levels.full, levels.black)


def recorded_stack(recording: Recording) -> FrameStack:
    """The frames of an open recording."""
    then = recording.conditions
    return FrameStack(
        recording.path,
        f"recording, {then.subject}" if then.subject else "recording",
        RecordedFrames(recording),
        then.saturation_level,
        then.black_level,
        recording,
    )


@contextmanager
def _pages(path: Path) -> Iterator[FrameStack]:
    from PIL import Image

    with Image.open(path) as image:
        told_of_it = ToldLevels.of_image(image)
        yield _stack(path, str(image.format), page_frames(path, image), told_of_it)


@contextmanager
def _folder(path: Path) -> Iterator[FrameStack]:
    names = sorted(file for file in path.iterdir() if file.suffix.lower() in _IMAGES)
    if not names:
        raise FrameFileError(f"The folder {path} holds no images ({', '.join(_IMAGES)}).")
    from PIL import Image

    with Image.open(names[0]) as image:
        told_of_it = ToldLevels.of_image(image)
    yield _stack(path, f"{len(names)} images", image_frames(names), told_of_it)


@contextmanager
def _numpy(path: Path) -> Iterator[FrameStack]:
    loaded = np.load(path, mmap_mode="r" if path.suffix == ".npy" else None, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        yield FrameStack(path, "array", array_frames(path, loaded), None, None)
        return
    with loaded:
        arrays = {name: loaded[name] for name in loaded.files}
    name, array = _largest(path, arrays)
    yield FrameStack(path, f"array {name}", array_frames(path, array), None, None)


@contextmanager
def _zarr(path: Path) -> Iterator[FrameStack]:
    from opu_driver.extras import vendor_library

    zarr = vendor_library("zarr", "zarr")
    opened = zarr.open(str(path), mode="r")
    if hasattr(opened, "members"):
        found = {name: part for name, part in opened.members(None) if hasattr(part, "dtype")}
        _, opened = _largest(path, found)
    told_of_it = ToldLevels.of(dict(opened.attrs))
    yield _stack(path, "Zarr array", array_frames(path, opened), told_of_it)


@contextmanager
def _hdf5(path: Path) -> Iterator[FrameStack]:
    import h5py

    from opu_driver.recording import Recording

    try:
        with h5py.File(path, "r") as file:
            ours = str(file.attrs.get("schema", "")).startswith("opu-recording")
    except OSError as error:
        ours = "open for" in str(error) or "unable to lock" in str(error)
        if not ours:
            raise
    if ours:
        with Recording(path) as recording:
            yield recorded_stack(recording)
        return
    found: dict[str, Any] = {}

    def collect(name: str, part: object) -> None:
        if isinstance(part, h5py.Dataset):
            found[name] = part

    with h5py.File(path, "r") as file:
        file.visititems(collect)
        name, part = _largest(path, found)
        yield FrameStack(path, f"dataset {name}", array_frames(path, part), None, None)


def _largest(path: Path, arrays: dict[str, Any]) -> tuple[str, Any]:
    """The array with most numbers, of those that may be frames."""
    able = {n: a for n, a in arrays.items() if a.dtype.kind in "uif" and _axes(a) in (2, 3)}
    if not able:
        raise FrameFileError(f"{path} holds no array [frame, row, column] of real numbers.")
    name = max(able, key=lambda one: int(np.prod(able[one].shape)))
    return name, able[name]


def _axes(array: Any) -> int:
    """Axes that an array has, without those of length one where there are more than three."""
    axes = len(array.shape)
    return axes if axes <= 3 else sum(length != 1 for length in array.shape)
