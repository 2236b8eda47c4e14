"""The progress of a recording: frames, their rate, and the room that is left on the disk."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.terminal import progress_bars


@contextmanager
def recording_bar(folder: Path) -> Iterator[Callable[[int, int], None]]:
    """A bar that is told (frames done, frames in all); 0 in all where nobody knows.

    No frames are lost on the way: a sequence that lacks one is refused, and ends the recording.

    Args:
        folder: Where the recording goes.
    """
    begun = time.monotonic()
    with progress_bars() as bars:
        task = bars.add_task("recording", total=None)

        def tell(done: int, total: int) -> None:
            rate = done / max(time.monotonic() - begun, 1e-3)
            free = shutil.disk_usage(folder).free / 1e9
            bars.update(
                task,
                completed=done,
                total=total or None,
                description=f"recording: {rate:.0f} frames/s, 0 lost, {free:.1f} GB free",
            )

        yield tell
