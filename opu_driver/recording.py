"""Recordings: frames on disk, with the patterns, the markers and the settings that made them.

`record` shows patterns and keeps the frames; `exposure_log.logged` keeps whatever else a bench
does. Both write what `recording_file` describes; `Recording` reads it, and what versions before
have written.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

import h5py
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from opu_driver.bench import MARKERS, Bench
from opu_driver.camera import FrameBlock, Frames
from opu_driver.card import card, picture
from opu_driver.damage import first_damage
from opu_driver.errors import (
    CaptureTimeoutError,
    FrameError,
    FrameMismatchError,
    PatternError,
    RecordingError,
    SettingError,
)
from opu_driver.exposure_log import ExposureLog, logged
from opu_driver.exposure_run import CONDITIONS, RUN, Conditions, Role, Run, settings_told
from opu_driver.modulator import Patterns
from opu_driver.recording_file import (
    SCHEMA,
    give_name,
    partial_path,
    refuse_existing,
    require_room,
)
from opu_driver.recording_pace import Pace

__all__ = ["Conditions", "Recording", "Role", "Run", "give_name", "partial_path", "record"]

_FIRST_SCHEMA = "opu-recording 1"  # own frames only, frame k of pattern k modulo their number
_BLOCK_BYTES = 64 * 2**20
_PAUSE_S = 0.2  # before a sequence that was refused again is tried once more; each time longer

PATIENCE = 5
"""Sequences in a row that may be refused before a recording ends."""

_told = logging.getLogger("opu.recording")


def record(
    bench: Bench,
    patterns: Patterns,
    n_frames: int | None,
    path: str | Path,
    *,
    subject: str = "",
    exposures_us: Sequence[float] = (),
    patience: int = PATIENCE,
    progress: Callable[[int, int, int], None] | None = None,
    enough: Callable[[], bool] | None = None,
) -> Path:
    """Show patterns, over and over if need be, and keep the frames.

    A sequence whose frames cannot be proven (a dropped trigger, a frame that does not come) does
    not end the recording: its frames are kept, marked as refused, and its patterns are shown again.
    So a complete recording has all frames that were asked for, each proven to be its pattern's.

    Args:
        bench: An open bench.
        patterns: As the modulator stores them.
        n_frames: How many frames to take; frame k shows pattern k modulo their number. None to go
            on until it is enough, or until an exception, such as that of Ctrl-C, ends it:
            `give_name` then makes what lies under the partial name a recording like any other.
        path: Where the recording goes, ending in `.h5`.
        subject: What the patterns are, in words, for whoever reads the recording.
        exposures_us: Exposure times, microseconds: the frames are taken once with each of them.
            None for that of the bench, which is in force again afterwards.
        patience: Sequences in a row that may be refused; the error of the next one ends the
            recording. 0 for no patience at all.
        progress: Is told (frames done, frames in all, frames refused) after each sequence; 0 in
            all if nobody knows.
        enough: Is asked after each sequence, where no number of frames is given, whether to end
            here; the recording is complete then.

    Returns:
        The path.

    Raises:
        RecordingError: A file is in the way, the folder cannot be written, or the disk is too full.
            What was recorded until then stays under the partial name.
        PatternError, SettingError: No patterns, no frames asked for, or an impossible exposure.
        FrameMismatchError, CaptureTimeoutError: As `Bench.stream`, more often than patience allows.
        SaturationError, LaserSafetyError, DeviceLostError: As `Bench.stream`, at once.
    """
    path = Path(path)
    if not len(patterns):
        raise PatternError("No patterns to record; give at least one.")
    if n_frames is not None and n_frames < 1:
        raise SettingError(f"A recording of {n_frames} frames; at least 1.")
    if n_frames is not None and enough is not None:
        raise SettingError(
            f"A recording of {n_frames} frames that is to end when it is enough: one or the other."
        )
    if patience < 0:
        raise SettingError(f"patience = {patience}; 0 or any positive number.")
    if n_frames is None and len(exposures_us) > 1:
        raise SettingError(
            f"{len(exposures_us)} exposure times and no number of frames: the second would never "
            "come. Say how many frames to take with each."
        )
    bench.modulator.check_patterns(patterns)
    for taken in (path, partial_path(path)):
        refuse_existing(taken)
    before = bench.settings
    brackets = [replace(before, exposure_us=us) for us in exposures_us] or [before]
    asked = None if n_frames is None else n_frames * len(brackets)
    frame_bytes = before.region.height * before.region.width * before.pixel_format.dtype.itemsize
    require_room(path.parent, (asked or 1) * frame_bytes)
    showing = _Showing(bench, patterns, n_frames, patience, _BLOCK_BYTES // frame_bytes)
    try:
        with logged(bench, path, subject=subject, asked=asked) as log:
            for number, settings in enumerate(brackets):
                bench.configure(settings)
                for done in showing.steps(log):
                    if progress is not None:
                        progress(number * (n_frames or 0) + done, asked or 0, log.refused)
                    if enough is not None and enough():
                        break
    finally:
        if exposures_us:
            with suppress(Exception):  # an error on the way says more than one that follows it
                bench.configure(before)
    return path


class _Showing:
    """Patterns shown over and over, and again where their frames were refused.

    Args:
        bench: An open bench.
        patterns: What to show.
        n_frames: How many frames to take; None for any number.
        patience: Sequences in a row that may be refused.
        room: Frames of a sequence that there is memory for.
    """

    def __init__(
        self, bench: Bench, patterns: Patterns, n_frames: int | None, patience: int, room: int
    ) -> None:
        self._bench = bench
        self._modulator = bench.modulator
        self._patterns = patterns
        self._n_frames = n_frames
        self._patience = patience
        self._most = min(bench.longest_sequence, room - MARKERS)
        self._pace = Pace(self._most)
        self._refusals = 0

    def steps(self, log: ExposureLog) -> Iterator[int]:
        """Take all frames once, and tell after each sequence how many are on disk."""
        self._pace = Pace(self._most)  # whatever is set now may be slower than what was before
        done = 0
        while done != self._n_frames:
            self._pace.begin()
            try:
                for sequence in self._bench.stream(self._batches(done)):
                    log.settle()
                    self._refusals = 0
                    self._pace.done(len(sequence))
                    done += len(sequence)
                    yield done
                    self._pace.begin()
            except (FrameMismatchError, CaptureTimeoutError) as error:
                log.settle(refused=True)
                self._endure(error)
                yield done

    def _endure(self, error: FrameError) -> None:
        """Be patient with a sequence that was refused, or raise."""
        self._refusals += 1
        if self._refusals > self._patience:
            error.add_note(f"Sequences refused in a row: {self._refusals}.")
            raise error
        _told.warning(
            "A sequence was refused, and its patterns are shown again (%d of %d times): %s",
            self._refusals,
            self._patience,
            error,
        )
        self._pace.refused()
        time.sleep((self._refusals - 1) * _PAUSE_S)

    def _batches(self, first: int) -> Iterator[Patterns]:
        """The patterns of the frames from number `first` on, as many at a time as suit the bench.

        A replay knows only the sequences of then.
        """
        last = first
        while last != self._n_frames:
            first = last
            then = self._modulator.next_count
            last = first + (self._pace.length if then is None else max(then - MARKERS, 1))
            if self._n_frames is not None:
                last = min(last, self._n_frames)
            yield self._patterns[np.arange(first, last) % len(self._patterns)]


class Recording:
    """A recording, read a part at a time; use it in a `with` block.

    Args:
        path: A file that `record` or `logged` has written, complete or partial.

    Attributes:
        conditions: What the bench was when it began.
        runs: Its runs of exposures, in the order of time; none in recordings of before.

    Raises:
        RecordingError: It is missing, damaged, or no recording.
    """

    conditions: Conditions
    runs: tuple[Run, ...]

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = _opened(self.path)
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
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __len__(self) -> int:
        """Frames that were recorded: patterns' own, without markers or dark frames."""
        return len(self._own)

    @property
    def complete(self) -> bool:
        """Whether all frames that were asked for are there, and the recording was ended well."""
        return self._complete

    @property
    def n_asked(self) -> int | None:
        """Frames that were asked for; None if nobody knew."""
        return self._asked

    @property
    def n_exposures(self) -> int:
        """Frames of all kinds."""
        return self._done

    @property
    def lost(self) -> int:
        """Frames that the camera said it lost."""
        return sum(run.lost for run in self.runs)

    @property
    def refused(self) -> int:
        """Frames of sequences that were refused, markers left out; their patterns came again."""
        return sum(run.refused for run in self.runs)

    @property
    def roles(self) -> NDArray[np.uint8]:
        """uint8 `[exposure]`, a `Role` for each."""
        if self._first_schema:
            return np.full(self._done, Role.OWN, np.uint8)
        roles: NDArray[np.uint8] = self._file["role"][: self._done]
        return roles

    @property
    def own(self) -> NDArray[np.int64]:
        """int64 `[frame]`, the numbers of the exposures that `frames` gives."""
        return self._own

    @property
    def ids(self) -> NDArray[np.int64]:
        """int64 `[frame]`, the camera's counter; it starts anew with each run."""
        ids: NDArray[np.int64] = self._file["ids"][: self._done][self._own]
        return ids

    @property
    def timestamps_us(self) -> NDArray[np.float64]:
        """float64 `[frame]`, start of exposure on the camera's clock, microseconds."""
        times: NDArray[np.float64] = self._file["timestamps_us"][: self._done][self._own]
        return times

    @property
    def patterns(self) -> Patterns:
        """All patterns that were shown, each once, markers included."""
        patterns: Patterns = self._file["patterns"][...]
        return patterns

    def some_patterns(self, numbers: NDArray[np.int64]) -> Patterns:
        """The patterns of these numbers, in this order, repeated ones too."""
        which, place = np.unique(numbers, return_inverse=True)
        patterns: Patterns = self._file["patterns"][which.tolist()]
        return patterns[place]

    @property
    def shown(self) -> NDArray[np.int64]:
        """int64 `[frame]`, which of `patterns` a frame shows."""
        return self.pattern_numbers()[self._own]

    def pattern_numbers(self, first: int = 0, last: int | None = None) -> NDArray[np.int64]:
        """int64 `[exposure]`, which of `patterns` each exposure shows."""
        stop = self._done if last is None else min(last, self._done)
        if self._first_schema:
            return np.arange(first, stop) % len(self._file["patterns"])
        numbers: NDArray[np.int64] = self._file["shown"][first:stop]
        return numbers

    def frames(self, first: int = 0, last: int | None = None) -> Frames:
        """Frames `[frame, row, column]` from number `first` up to, not including, `last`."""
        wanted = self._own[first:last]
        breaks = np.flatnonzero(np.diff(wanted) != 1) + 1
        edges = [0, *breaks.tolist(), len(wanted)]
        parts = [self._file["frames"][wanted[a] : wanted[b - 1] + 1] for a, b in pairwise(edges)
                 if b > a]  # fmt: skip
        if not parts:
            empty: Frames = self._file["frames"][:0]
            return empty
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def exposures(self, first: int = 0, last: int | None = None) -> FrameBlock:
        """Frames of all kinds, markers included, by the numbers of their exposures."""
        some = slice(first, self._done if last is None else min(last, self._done))
        return FrameBlock(
            self._file["frames"][some],
            self._file["ids"][some],
            self._file["timestamps_us"][some],
            0,
        )

    def markers(self) -> Frames:
        """The markers' frames `[sequence, 3, row, column]`: on before, on and off after each."""
        numbers = np.flatnonzero(self.roles == Role.MARKER)
        numbers = numbers[: len(numbers) // MARKERS * MARKERS]
        frames = self._file["frames"]
        shape = frames.shape[1:]
        markers = [frames[int(number)] for number in numbers]
        return np.array(markers, frames.dtype).reshape(-1, MARKERS, *shape)

    def blocks(self) -> Iterator[Frames]:
        """All frames, some megabytes at a time."""
        _, rows, columns = self._file["frames"].shape
        frame_bytes = rows * columns * self._file["frames"].dtype.itemsize
        step = max(_BLOCK_BYTES // max(frame_bytes, 1), 1)
        for first in range(0, len(self), step):
            yield self.frames(first, first + step)

    def _repr_html_(self) -> str:
        """A card for notebooks; it reads the first frame."""
        was, settings = self.conditions, self.conditions.settings
        if not self._file:
            return card(f"Recording {self.path.name}", {"state": "closed"})
        asked = "" if self.n_asked is None else f" of {self.n_asked}"
        facts = {
            "frames": f"{len(self)}{asked}, {settings.region.height} × {settings.region.width} "
            f"pixels, {settings.pixel_format.value}",
            "state": "complete" if self.complete else "incomplete",
            "lost": f"{self.lost} frames" if self.lost else "",
            "refused": f"{self.refused} frames" if self.refused else "",
            "patterns": was.subject,
            **settings_told(was, self.runs),
            **{kind: str(who) for kind, who in was.identities.items()},
            "began": f"{was.began_at}, opu {was.software}",
        }
        pictures = {"first frame": picture(self.frames(0, 1)[0])} if len(self) else {}
        return card(f"Recording {self.path.name}", facts, pictures)

    def _read_header(self) -> None:
        schema = self._file.attrs.get("schema")
        if schema not in (SCHEMA, _FIRST_SCHEMA):
            raise RecordingError(
                f"{self.path} is no recording: its schema is {schema!r}, not {SCHEMA!r}. Name a "
                "file that `opu acquire` has written."
            )
        self._first_schema = schema == _FIRST_SCHEMA
        try:
            self.conditions = CONDITIONS.validate_json(self._file.attrs["conditions"])
        except ValidationError as error:
            raise self._damaged(f"conditions, {first_damage(error)}") from error
        except KeyError as error:
            raise self._damaged("it has no conditions") from error
        tables = {"ids": 1, "timestamps_us": 1}
        tables |= {} if self._first_schema else {"shown": 1, "role": 1}
        for name, axes in ({"frames": 3, "patterns": 3} | tables).items():
            part = self._file.get(name)
            if not isinstance(part, h5py.Dataset) or part.ndim != axes:
                raise self._damaged(f"it has no {name}")
        self._done = self._number("done", "how many frames are done")
        room = min(len(self._file[name]) for name in ("frames", *tables))
        if not 0 <= self._done <= room:
            raise self._damaged(f"{self._done} frames are said to be done, it has room for {room}")
        if self._first_schema:
            self.runs = ()
            self._asked: int | None = len(self._file["frames"])
        else:
            self.runs = self._read_runs()
            asked = self._number("asked", "how many frames were asked for")
            self._asked = None if asked < 0 else asked
        self._own = np.flatnonzero(self.roles == Role.OWN)
        self._complete = len(self._own) == self._asked
        if not self._first_schema:
            ended = bool(self._number("complete", "whether it is complete"))
            self._complete = ended and (self._asked is None or self._complete)

    def _number(self, name: str, what: str) -> int:
        try:
            return int(self._file[name][()])
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise self._damaged(f"it does not say {what}") from error

    def _read_runs(self) -> tuple[Run, ...]:
        """The runs whose frames are there."""
        part = self._file.get("runs")
        if not isinstance(part, h5py.Dataset) or part.ndim != 1:
            raise self._damaged("it has no runs")
        lines = part[...].tobytes().split(b"\n")[:-1]
        try:
            runs = [RUN.validate_json(line) for line in lines]
        except ValidationError as error:
            raise self._damaged(f"runs, {first_damage(error)}") from error
        done = tuple(run for run in runs if run.first + run.count <= self._done)
        if [run.first for run in done] != _starts(done) or (
            self._done != sum(run.count for run in done)
        ):
            raise self._damaged(f"its {len(done)} runs are not its {self._done} frames")
        return done

    def _damaged(self, how: str) -> RecordingError:
        return RecordingError(
            f"The recording {self.path} is damaged: {how}. Restore it from a copy."
        )


def _starts(runs: Sequence[Run]) -> list[int]:
    """Where runs that follow each other begin."""
    return [0, *accumulate(run.count for run in runs)][: len(runs)]


def _opened(path: Path) -> h5py.File:
    """The file, also while it is being written, or as a killed process has left it."""
    try:
        try:
            return h5py.File(path, "r")
        except OSError as error:
            if "open for" not in str(error) and "unable to lock" not in str(error):
                raise
            return h5py.File(path, "r", swmr=True)
    except (OSError, ValueError) as error:
        reason = "it does not exist" if not path.exists() else str(error)
        raise RecordingError(
            f"The recording {path} cannot be opened: {reason}. Name a file that `opu acquire` "
            "has written."
        ) from error
