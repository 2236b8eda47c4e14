"""The progress of a recording: frames, their rate, and the room that is left on the disk."""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.terminal import progress_bars

_RATE_OVER_S = 5.0


@contextmanager
def recording_bar(folder: Path) -> Iterator[Callable[[int, int, int], None]]:
    """A bar that is told (frames done, frames in all, frames lost); 0 in all where nobody knows.

    Lost are those of sequences that were refused: they are in the recording, marked, and nobody
    may trust them.

    Args:
        folder: Where the recording goes.
    """
    latest: deque[tuple[float, int]] = deque()
    with progress_bars() as bars:
        task = bars.add_task("recording", total=None)

        def tell(done: int, total: int, lost: int) -> None:
            latest.append((time.monotonic(), done))
            while latest[-1][0] - latest[0][0] > _RATE_OVER_S and len(latest) > 2:
                latest.popleft()
            (then_s, before), (now_s, _) = latest[0], latest[-1]
            rate = f"{(done - before) / (now_s - then_s):.0f} frames/s" if now_s > then_s else ""
            free = f"{shutil.disk_usage(folder).free / 1e9:.1f} GB free"
            told = ", ".join(filter(None, (rate, f"{lost} lost", free)))
            bars.update(task, completed=done, total=total or None, description=f"recording: {told}")

        yield tell
