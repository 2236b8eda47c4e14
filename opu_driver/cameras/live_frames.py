"""Frames of a camera that never stops, with proof that they are new.

A free-running camera fills a queue, in its driver or in the network, and whoever fetches a frame
gets the oldest one. When it was exposed, nobody says. But a fetch that had to *wait* found
the queue empty: its frame, and all after it, arrived later than they were asked for. From then,
exposure time and latency (read-out, transfer, decoding) tell the earliest moment at which
its exposure can have begun. Frames that cannot be proven new are thrown away.

A busy computer can look like a camera that is waited for. Fetches that took much longer than
a frame period therefore count for nothing, and others only two in a row; what is left is a program
whose other threads stop this one for about a period, again and again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

from opu_driver.errors import CaptureTimeoutError, DeviceLostError

WAITED = (0.5, 1.5)
"""Frame periods that a fetch takes which has waited for the camera, and for nothing else."""

_WARM_UP = 8
_TIMED = 8


def frame_period_s(capture: Any) -> float:
    """Time between frames, measured; what cameras say about it is seldom true.

    Args:
        capture: A `cv2.VideoCapture` of a camera that runs.

    Raises:
        DeviceLostError: It gives no frames.
    """
    for _ in range(_WARM_UP):
        fetch(capture)
    began_s = time.perf_counter()
    for _ in range(_TIMED):
        fetch(capture)
    return (time.perf_counter() - began_s) / _TIMED


def fetch(capture: Any) -> None:
    """Take the oldest frame out of the queue, without decoding it.

    Raises:
        DeviceLostError: There will be none.
    """
    if not capture.grab():
        raise DeviceLostError(
            "The video camera gives no frames any more. Check its cable, then close and open it."
        )


class LiveFrames:
    """A thread that fetches every frame at once, so that none grows old, and keeps the new ones.

    Args:
        capture: A `cv2.VideoCapture` of a camera that runs; nobody else may use it meanwhile.
        period_s: Time between frames.
        age_s: From the beginning of a frame's exposure to its arrival at most.
    """

    def __init__(self, capture: Any, period_s: float, age_s: float) -> None:
        self._capture = capture
        self._period_s = period_s
        self._age_s = age_s
        self._change = threading.Condition()
        self._wanted: deque[float] = deque()
        self._frames: deque[Any] = deque()
        self._failure: BaseException | None = None
        self._running = True
        self._thread = threading.Thread(target=self._run, daemon=True, name="video-frames")
        self._thread.start()

    def want(self, begun_after_s: float, count: int = 1) -> None:
        """Keep the next `count` frames whose exposure began after a time of `perf_counter`."""
        with self._change:
            self._wanted.extend([begun_after_s] * count)

    def take(self, max_frames: int, timeout_s: float) -> list[Any]:
        """The frames that were kept, at least one, in order of exposure.

        Raises:
            CaptureTimeoutError: None came within the time.
            DeviceLostError: The camera is gone.
        """
        with self._change:
            self._change.wait_for(lambda: self._frames or self._failure, timeout_s)
            if self._frames:
                return [self._frames.popleft() for _ in range(min(max_frames, len(self._frames)))]
            if self._failure:
                raise self._failure
            raise CaptureTimeoutError(
                f"No new frame within {timeout_s:g} s, {len(self._wanted)} wanted. A frame counts "
                f"as new if it arrives {1e3 * self._age_s:.0f} ms after its trigger; a computer "
                "too busy to keep up with the camera cannot tell."
            )

    def stop(self) -> None:
        """End the thread, after the frame that it waits for."""
        self._running = False
        self._thread.join()

    def _run(self) -> None:
        arrived_s = float("-inf")
        waited_before = False
        try:
            while self._running:
                asked_s = time.perf_counter()
                fetch(self._capture)
                periods = (time.perf_counter() - asked_s) / self._period_s
                waited = WAITED[0] < periods < WAITED[1]
                if waited and waited_before:  # once may be a busy computer
                    arrived_s = asked_s
                waited_before = waited
                with self._change:
                    if self._wanted and arrived_s - self._age_s > self._wanted[0]:
                        self._keep()
        except BaseException as error:  # told to whoever reads
            with self._change:
                self._failure = error
                self._change.notify_all()

    def _keep(self) -> None:
        good, frame = self._capture.retrieve()
        if good:  # else it was damaged on its way, and the next one will do
            self._wanted.popleft()
            self._frames.append(frame)
            self._change.notify_all()
