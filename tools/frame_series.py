"""Frames that ought to be alike, of a recording or another file: they tell how steady it was."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from opu_driver.bench import MARKERS
from opu_driver.exposure_run import Role
from tools.frame_files import FrameStack

if TYPE_CHECKING:
    from opu_driver.recording import Recording, Run

_MOST, _FEWEST = 64, 8
_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Series:
    """Frames of one pattern at one setting, as far as that is known.

    Attributes:
        frames: `[frame, row, column]`.
        numbers: int64 `[frame]`, which exposures of the recording, or frames of the file.
        times_s: float64 `[frame]`, from the start of the recording; None where nothing tells.
    """

    frames: NDArray[Any]
    numbers: NDArray[np.int64]
    times_s: NDArray[np.float64] | None

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def span(self) -> str:
        """From the first to the last, in words."""
        if self.times_s is not None:
            return f"{self.times_s[-1] - self.times_s[0]:.3g} s"
        return f"{self.numbers[-1] - self.numbers[0]} frames"


@dataclass(frozen=True)
class Alike:
    """The frames of a file that ought to be alike.

    Attributes:
        stack: Whose they are.
        numbers: int64 `[frame]`: exposures of a recording, or frames of the file.
        one_pattern: Whether they are known to show one pattern.
        words: What they are.
    """

    stack: FrameStack
    numbers: NDArray[np.int64]
    one_pattern: bool
    words: str

    @classmethod
    def of(cls, stack: FrameStack, setting: int = 0) -> Alike:
        """Of a recording, those of one pattern, or its lit markers, at one setting; else all."""
        recording = stack.recording
        if recording is None:
            return cls(stack, np.arange(len(stack)), False, "frames")
        settings = setting_numbers(recording)
        at = "" if len(np.unique(settings[recording.own])) == 1 else _exposure(recording, setting)
        own = recording.own[settings[recording.own] == setting]
        shown = recording.pattern_numbers()[own]
        markers = np.flatnonzero(recording.roles == Role.MARKER)
        markers = markers[np.arange(len(markers)) % MARKERS != MARKERS - 1]  # the last is dark
        markers = markers[settings[markers] == setting]
        if len(np.unique(shown)) > 1 and len(markers) > 1:
            return cls(stack, markers, True, f"lit markers{at}")
        return cls(stack, own[shown == _most_common(shown)], True, f"frames of one pattern{at}")

    @property
    def most(self) -> int:
        """How many of them are looked at, for their size."""
        frames = self.stack.frames
        frame_bytes = frames.dtype.itemsize * frames.size // max(len(frames), 1)
        return int(np.clip(_BYTES // max(frame_bytes, 1), _FEWEST, _MOST))

    def evenly(self) -> Series:
        """Some of them, from the first to the last."""
        count = len(self.numbers)
        places = np.linspace(0, count - 1, min(count, self.most)).round().astype(np.int64)
        return self._read(self.numbers[np.unique(places)])

    def neighbours(self) -> Series:
        """The first of them, one after the other."""
        return self._read(self.numbers[: self.most // 2])

    def _read(self, numbers: NDArray[np.int64]) -> Series:
        recording = self.stack.recording
        if recording is None:
            return Series(self.stack.frames[numbers], numbers, None)
        blocks = [recording.exposures(int(n), int(n) + 1) for n in numbers]
        times_us = np.array([block.timestamps_us[0] for block in blocks])
        times_s = (times_us - recording.exposures(0, 1).timestamps_us[0]) / 1e6
        frames = np.stack([block.frames[0] for block in blocks])
        return Series(frames, numbers, times_s if _rising(times_s) else None)


def setting_numbers(recording: Recording) -> NDArray[np.int64]:
    """int64 `[exposure]`: equal where camera settings and power were."""
    numbers = np.zeros(recording.n_exposures, np.int64)
    known: dict[Any, int] = {}
    for run in recording.runs:
        number = known.setdefault((run.settings, run.power_mw), len(known))
        numbers[run.first : run.first + run.count] = number
    return numbers


def run_of(recording: Recording, exposure: int) -> Run | None:
    """The run that an exposure belongs to; None in recordings of before."""
    starts = [run.first for run in recording.runs]
    return recording.runs[bisect_right(starts, exposure) - 1] if starts else None


def frame_times_s(recording: Recording) -> NDArray[np.float64] | None:
    """float64 `[frame]`, seconds from the first exposure; None where the clock does not rise."""
    if not len(recording):
        return None
    times_s = (recording.timestamps_us - recording.exposures(0, 1).timestamps_us[0]) / 1e6
    return times_s if _rising(times_s) else None


def frames_by_setting(stack: FrameStack) -> dict[int, NDArray[np.int64]]:
    """Numbers of the frames at each setting, int64 `[frame]`, the most frames first."""
    recording = stack.recording
    if recording is None:
        return {0: np.arange(len(stack))}
    settings = setting_numbers(recording)[recording.own]
    kinds = Counter(settings.tolist()).most_common()
    return {kind: np.flatnonzero(settings == kind) for kind, _ in kinds}


def _rising(times_s: NDArray[np.float64]) -> bool:
    return bool(np.isfinite(times_s).all() and (np.diff(times_s) > 0).all())


def _exposure(recording: Recording, setting: int) -> str:
    first = int(np.flatnonzero(setting_numbers(recording) == setting)[0])
    run = run_of(recording, first)
    return "" if run is None else f" at {run.settings.exposure_us:.4g} µs, {run.power_mw:g} mW"


def _most_common(numbers: NDArray[np.int64]) -> int:
    (number, _), *_ = Counter(numbers.tolist()).most_common(1)
    return int(number)
