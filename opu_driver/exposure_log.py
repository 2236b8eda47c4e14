"""Everything that a bench exposes, put on disk while somebody else works with it.

with logged(bench, "monday.h5"):
    calibrate(bench, 10)

What is written are the exposures as the devices made them, markers and dark frames included, so
that the whole piece of work can be done once more without light (`opu_driver.replay`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from opu_driver.bench import MARKERS, Bench
from opu_driver.camera import Camera, CameraSettings, FrameBlock
from opu_driver.errors import RecordingError
from opu_driver.exposure_run import Conditions, Role, Run
from opu_driver.integrity import joined
from opu_driver.modulator import Modulator, Patterns
from opu_driver.recording_file import RecordingFile


class ExposureLog:
    """The exposures of a bench, as its devices make them; `logged` makes one.

    A run is written when the bench goes on after it, and so has found nothing wrong with it, or
    when `settle` is called.

    Args:
        bench: An open bench.
        file: Where they go.

    Attributes:
        refused: Frames of patterns, markers left out, that nobody may trust, so far.
    """

    def __init__(self, bench: Bench, file: RecordingFile) -> None:
        layout = bench.layout(1)
        self.file = file
        self.refused = 0
        self._bench = bench
        self._on, self._off = layout.all_on()[0], layout.all_off()[0]
        self._late = bench.frame_offset or 0
        self._loaded: Patterns | None = None
        self._shown: Patterns | None = None
        self._blocks: list[FrameBlock] = []
        self._ended: tuple[Run, FrameBlock, Patterns, NDArray[np.uint8]] | None = None

    def settle(self, *, refused: bool = False) -> None:
        """Write the run that has ended last, if it has not been written.

        Args:
            refused: Whether something is wrong with it; it is where frames are missing.

        Raises:
            RecordingError: It cannot be written.
        """
        if self._ended is None:
            return
        (run, block, patterns, roles), self._ended = self._ended, None
        if refused or run.count < run.shown:
            own = run.shown - (MARKERS if Role.MARKER in roles else 0)
            self.refused += own
            run = replace(run, refused=own)
            roles[:] = Role.REFUSED
        self.file.append(run, block, patterns[: len(block)], roles[: len(block)])

    def loaded(self, patterns: Patterns) -> None:
        """The modulator holds patterns."""
        self._loaded = patterns

    def armed(self, settings: CameraSettings) -> None:
        """The camera waits for the patterns that are loaded.

        Raises:
            RecordingError: Its frames are of another shape or type than those before.
        """
        self.settle()
        shape, dtype = settings.region.shape, settings.pixel_format.dtype
        if (shape, dtype) != (self.file.frame_shape, self.file.dtype):
            raise RecordingError(
                f"Frames of {shape[0]} x {shape[1]} pixels, {dtype}, in a recording of "
                f"{self.file.frame_shape[0]} x {self.file.frame_shape[1]}, {self.file.dtype}. "
                "Begin another recording when the region or the pixel format changes."
            )
        self._shown, self._blocks = self._loaded, []

    def read(self, block: FrameBlock) -> None:
        """Frames have come."""
        self._blocks.append(block)

    def disarmed(self) -> None:
        """The run is over."""
        patterns, blocks = self._shown, self._blocks
        self._shown, self._blocks = None, []
        if patterns is None:
            return
        block = joined(blocks) if blocks else self._no_frames()
        bracketed = self._brackets(patterns)
        late = self._late if (patterns[len(patterns) - self._late :] == self._off).all() else 0
        block, patterns = block[late:], patterns[: len(patterns) - late]
        roles = np.full(len(patterns), Role.OWN if bracketed else Role.DARK, np.uint8)
        if bracketed:
            roles[[0, -2, -1]] = Role.MARKER
        run = Run.of(self._bench, self.file.exposures, len(block), len(patterns), block.lost)
        self._ended = run, block, patterns, roles

    def _no_frames(self) -> FrameBlock:
        frames = np.empty((0, *self.file.frame_shape), self.file.dtype)
        return FrameBlock(frames, np.empty(0, np.int64), np.empty(0), 0)

    def _brackets(self, patterns: Patterns) -> bool:
        """Whether patterns are a sequence with its markers, and dark ones for late frames."""
        end = len(patterns) - self._late
        return (
            end > MARKERS
            and bool((patterns[[0, end - 2]] == self._on).all())
            and bool((patterns[end - 1 :] == self._off).all())
        )


class _WatchedModulator:
    """A modulator that tells a log what it is loaded with."""

    def __init__(self, modulator: Modulator, log: ExposureLog) -> None:
        self._modulator = modulator
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._modulator, name)

    def load(self, patterns: Patterns) -> None:
        self._modulator.load(patterns)
        self._log.loaded(patterns)


class _WatchedCamera:
    """A camera that tells a log what it sees."""

    def __init__(self, camera: Camera, log: ExposureLog) -> None:
        self._camera = camera
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._camera, name)

    def arm(self, frames: int) -> None:
        self._log.armed(self._camera.settings)
        self._camera.arm(frames)

    def read(self, max_frames: int, timeout_s: float) -> FrameBlock:
        block = self._camera.read(max_frames, timeout_s)
        self._log.read(block)
        return block

    def disarm(self) -> None:
        self._camera.disarm()
        self._log.disarmed()


@contextmanager
def logged(
    bench: Bench, path: str | Path, *, subject: str = "", asked: int | None = None
) -> Iterator[ExposureLog]:
    """Record all exposures of a bench while the block runs.

    A camera behind a line that has not been measured yet is measured first, with an exposure.

    Args:
        bench: An open bench.
        path: Where the recording goes, ending in `.h5`.
        subject: What is being done, in words, for whoever reads the recording.
        asked: How many frames there are going to be, markers left out; None if nobody knows.

    Raises:
        RecordingError: A file is in the way, the folder cannot be written, the disk is full, or
            frames change their shape. What was recorded until then stays under the partial name;
            where no sequence was proven, see `RecordingFile`.
        FrameMismatchError, SaturationError: That first exposure fails, see `Bench.expose`.
    """
    if bench.frame_offset is None:
        bench.expose(bench.layout(1).all_on())
    modulator, camera = bench.modulator, bench.camera
    conditions = Conditions.of(bench, subject)
    with RecordingFile(Path(path), conditions, modulator.pattern_shape, asked) as file:
        log = ExposureLog(bench, file)
        bench.modulator = cast(Modulator, _WatchedModulator(modulator, log))
        bench.camera = cast(Camera, _WatchedCamera(camera, log))
        try:
            yield log
        except RecordingError:
            raise
        except BaseException:
            log.settle(refused=True)
            raise
        finally:
            bench.modulator, bench.camera = modulator, camera
        log.settle()
