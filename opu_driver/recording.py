"""Recordings: frames on disk, with the patterns and the settings that made them.

A recording is an HDF5 file. It grows under `NAME.partial.h5` and gets its name when it is complete.
All room is made when it is begun, so that a block of frames changes numbers in their places and
nothing of the file's structure; a block counts only once `done` has been raised, and that comes
last. What a killed process leaves under the partial name opens like any other recording.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from opu_driver.bench import MARKERS, Bench
from opu_driver.camera import CameraSettings, FrameBlock, Frames
from opu_driver.damage import first_damage
from opu_driver.device import Identity
from opu_driver.errors import PatternError, RecordingError, SettingError
from opu_driver.modulator import Patterns

SCHEMA = "opu-recording 1"

_BLOCK_BYTES = 32 * 2**20
_BLOCK_FRAMES = 512


@dataclass(frozen=True)
class Conditions:
    """What a bench was when it recorded.

    Attributes:
        bench: Name of the bench.
        identities: Who the devices are: keys `modulator`, `camera`, `laser`.
        settings: The camera's settings.
        power_mw: Laser power, milliwatts.
        rate_hz: Patterns a second.
        black_level: Mean grey value without light.
        saturation_level: Grey value of a full pixel.
        subject: What the patterns were, in words.
        began_at: When it began, UTC, ISO 8601.
        software: Version of this software.
    """

    bench: str
    identities: dict[str, Identity]
    settings: CameraSettings
    power_mw: float
    rate_hz: float
    black_level: float
    saturation_level: float
    subject: str
    began_at: str
    software: str

    @classmethod
    def of(cls, bench: Bench, subject: str) -> Self:
        """The conditions that are in force on an open bench."""
        return cls(
            bench=bench.name,
            identities=bench.identities,
            settings=bench.settings,
            power_mw=bench.power_mw,
            rate_hz=bench.rate_hz,
            black_level=bench.camera.black_level,
            saturation_level=bench.camera.saturation_level,
            subject=subject,
            began_at=datetime.now(UTC).isoformat(timespec="seconds"),
            software=version("opu"),
        )


_CONDITIONS = TypeAdapter(Conditions)


def record(
    bench: Bench,
    patterns: Patterns,
    n_frames: int,
    path: str | Path,
    *,
    subject: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Show patterns, over and over if need be, and keep the frames.

    Args:
        bench: An open bench.
        patterns: As the modulator stores them.
        n_frames: How many frames to take; frame k shows pattern k modulo their number.
        path: Where the recording goes, ending in `.h5`.
        subject: What the patterns are, in words, for whoever reads the recording.
        progress: Is told (frames done, frames in all).

    Returns:
        The path.

    Raises:
        RecordingError: A file is in the way, the folder cannot be written, or the disk is too full.
            What was recorded until then stays under the partial name.
        PatternError, SettingError: No patterns, or no frames asked for.
        FrameMismatchError, CaptureTimeoutError, LaserSafetyError: As `Bench.stream`.
    """
    path = Path(path)
    if not len(patterns):
        raise PatternError("No patterns to record; give at least one.")
    if n_frames < 1:
        raise SettingError(f"A recording of {n_frames} frames; at least 1.")
    partial = partial_path(path)
    for taken in (path, partial):
        _refuse_existing(taken)
    rows, columns = bench.settings.region.shape
    frame_bytes = rows * columns * bench.settings.pixel_format.dtype.itemsize
    _refuse_full_disk(path.parent, n_frames * frame_bytes)

    step = min(max(_BLOCK_BYTES // frame_bytes, 1), _BLOCK_FRAMES, bench.modulator.capacity)
    step = max(step - MARKERS, 1)
    shown = np.arange(n_frames) % len(patterns)
    batches = (patterns[shown[first : first + step]] for first in range(0, n_frames, step))
    with _told(partial):
        file = h5py.File(partial, "x")
    with file:
        with _told(partial):
            _make_room(file, Conditions.of(bench, subject), patterns, n_frames, bench.settings)
        done = 0
        for sequence in bench.stream(batches):
            with _told(partial):
                _append(file, done, sequence)
            done += len(sequence)
            if progress is not None:
                progress(done, n_frames)
    with _told(path):
        with partial.open("rb") as whole:
            os.fsync(whole.fileno())
        _refuse_existing(path)
        partial.rename(path)
    return path


def partial_path(path: Path) -> Path:
    """Where a recording lies until it is complete."""
    return path.with_suffix(f".partial{path.suffix}")


class Recording:
    """A recording, read a part at a time; use it in a `with` block.

    Args:
        path: A file that `record` has written, complete or partial.

    Raises:
        RecordingError: It is missing, damaged, or no recording.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._file = h5py.File(self.path, "r")
        except OSError as error:
            reason = "it does not exist" if not self.path.exists() else str(error)
            raise RecordingError(
                f"The recording {path} cannot be opened: {reason}. Name a file that `opu acquire` "
                "has written."
            ) from error
        try:
            self._read_header()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        """Frames that were recorded."""
        return self._done

    @property
    def complete(self) -> bool:
        """Whether all frames that were asked for are there."""
        return self._done == self.n_asked

    @property
    def n_asked(self) -> int:
        """Frames that were asked for."""
        return len(self._file["frames"])

    @property
    def ids(self) -> NDArray[np.int64]:
        """int64 `[frame]`, the camera's counter; it starts anew with each block."""
        ids: NDArray[np.int64] = self._file["ids"][: self._done]
        return ids

    @property
    def timestamps_us(self) -> NDArray[np.float64]:
        """float64 `[frame]`, start of exposure on the camera's clock, microseconds."""
        times: NDArray[np.float64] = self._file["timestamps_us"][: self._done]
        return times

    @property
    def patterns(self) -> Patterns:
        """The patterns; frame k shows `patterns[k % len(patterns)]`."""
        patterns: Patterns = self._file["patterns"][...]
        return patterns

    def frames(self, first: int = 0, last: int | None = None) -> Frames:
        """Frames `[frame, row, column]` from number `first` up to, not including, `last`."""
        stop = self._done if last is None else min(last, self._done)
        frames: Frames = self._file["frames"][first:stop]
        return frames

    def blocks(self) -> Iterator[Frames]:
        """All frames, some megabytes at a time."""
        step = max(_BLOCK_BYTES // max(self._file["frames"][:1].nbytes, 1), 1)
        for first in range(0, self._done, step):
            yield self.frames(first, first + step)

    def _read_header(self) -> None:
        schema = self._file.attrs.get("schema")
        if schema != SCHEMA:
            raise RecordingError(
                f"{self.path} is no recording: its schema is {schema!r}, not {SCHEMA!r}. Name a "
                "file that `opu acquire` has written."
            )
        try:
            self.conditions = _CONDITIONS.validate_json(self._file.attrs["conditions"])
        except ValidationError as error:
            raise self._damaged(f"conditions, {first_damage(error)}") from error
        except KeyError as error:
            raise self._damaged("it has no conditions") from error
        for name, axes in {"frames": 3, "ids": 1, "timestamps_us": 1, "patterns": 3}.items():
            part = self._file.get(name)
            if not isinstance(part, h5py.Dataset) or part.ndim != axes:
                raise self._damaged(f"it has no {name}")
        try:
            self._done = int(self._file["done"][()])
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise self._damaged("it does not say how many frames are done") from error
        room = min(len(self._file[name]) for name in ("frames", "ids", "timestamps_us"))
        if not 0 <= self._done <= room:
            raise self._damaged(f"{self._done} frames are said to be done, it has room for {room}")

    def _damaged(self, how: str) -> RecordingError:
        return RecordingError(
            f"The recording {self.path} is damaged: {how}. Restore it from a copy."
        )


def _make_room(
    file: h5py.File,
    conditions: Conditions,
    patterns: Patterns,
    n_frames: int,
    settings: CameraSettings,
) -> None:
    file.attrs["schema"] = SCHEMA
    file.attrs["conditions"] = _CONDITIONS.dump_json(conditions).decode()
    file["patterns"] = patterns
    _reserve(file, "frames", (n_frames, *settings.region.shape), settings.pixel_format.dtype)
    _reserve(file, "ids", (n_frames,), np.dtype(np.int64))
    _reserve(file, "timestamps_us", (n_frames,), np.dtype(np.float64))
    file["done"] = 0
    file.flush()


def _reserve(file: h5py.File, name: str, shape: tuple[int, ...], kind: np.dtype[Any]) -> None:
    """Set room aside at once, without writing zeros into it."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    h5py.h5d.create(
        file.id,
        name.encode(),
        h5py.h5t.py_create(kind),
        h5py.h5s.create_simple(shape),
        dcpl=properties,
    )


def _append(file: h5py.File, done: int, block: FrameBlock) -> None:
    """Add a block of frames; when this returns it has left the process."""
    rows = slice(done, done + len(block))
    file["frames"][rows] = block.frames
    file["ids"][rows] = block.ids
    file["timestamps_us"][rows] = block.timestamps_us
    file.flush()
    file["done"][()] = done + len(block)
    file.flush()


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RecordingError(
            f"The recording cannot be written to {path}: {error}. Name a folder that exists, that "
            "you may write to, and that has room; frames recorded so far stay where they are."
        ) from error


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise RecordingError(
            f"{path} exists already, and a recording is never overwritten. Name another file, or "
            "move this one away."
        )


def _refuse_full_disk(folder: Path, needed: int) -> None:
    with _told(folder):
        folder = folder.resolve()
        free = shutil.disk_usage(folder).free
    if needed > free:
        raise RecordingError(
            f"The recording takes {needed / 1e9:.3g} GB and {folder} has {free / 1e9:.3g} GB "
            "free. Take fewer frames, or name another folder."
        )
