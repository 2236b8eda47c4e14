"""A recording that plays."""

from __future__ import annotations

import time

from opu_driver.recording import Recording
from tools.frame_series import run_of, setting_numbers
from tools.viewer.glimpse import Glimpse, GreyRange

_FASTEST_HZ = 30.0
"""Frames a second that are played at most: recordings are made faster than anybody can look."""


class Playback:
    """Plays the frames of a recording, over and over; its owner closes the recording.

    Args:
        recording: A recording of at least one frame.
        now_s: The clock, seconds.
    """

    def __init__(self, recording: Recording, now_s: float | None = None) -> None:
        self.recording = recording
        conditions = recording.conditions
        self.rate_hz = min(conditions.rate_hz, _FASTEST_HZ)
        self._grey = GreyRange(conditions.black_level, conditions.saturation_level)
        self._shown = recording.shown
        self._settings = setting_numbers(recording)[recording.own]
        self._times_us = recording.timestamps_us
        self._playing_since: tuple[float, int] | None = None
        self._position = 0
        self._newest = self._glimpse(0)
        self.play(now_s)

    def __len__(self) -> int:
        """Frames."""
        return len(self.recording)

    @property
    def newest(self) -> Glimpse:
        """The frame that is shown."""
        return self._newest

    @property
    def position(self) -> int:
        """Its index."""
        return self._position

    @property
    def playing(self) -> bool:
        """Whether the frames go on by themselves."""
        return self._playing_since is not None

    @property
    def told(self) -> str:
        """Exposure, pattern and time of the frame that is shown, in words."""
        at = self._position
        run = run_of(self.recording, int(self.recording.own[at]))
        was = self.recording.conditions
        settings, power_mw = (
            (was.settings, was.power_mw) if run is None else (run.settings, run.power_mw)
        )
        passed_s = float(self._times_us[at] - self._times_us[0]) / 1e6
        return (
            f"{passed_s:.3f} s, pattern {self._shown[at]}, {settings.exposure_us:.4g} µs at "
            f"{power_mw:g} mW"
        )

    def play(self, now_s: float | None = None) -> None:
        """Go on from where it is."""
        self._playing_since = (time.monotonic() if now_s is None else now_s, self._position)

    def stop(self) -> None:
        """Stand still."""
        self._playing_since = None

    def seek(self, position: int) -> None:
        """Stand still at a frame, counted around the end."""
        self.stop()
        self._move(position)

    def advance(self, now_s: float | None = None) -> None:
        """Show the frame that is due."""
        if self._playing_since is not None:
            began_s, first = self._playing_since
            passed_s = (time.monotonic() if now_s is None else now_s) - began_s
            self._move(first + int(passed_s * self.rate_hz))

    def close(self) -> None:
        """Stand still."""
        self.stop()

    def _move(self, position: int) -> None:
        position %= len(self)
        if position != self._position:
            self._position = position
            self._newest = self._glimpse(position)

    def _glimpse(self, position: int) -> Glimpse:
        """The frame, and its neighbour if that shows the same pattern."""
        frame = self.recording.frames(position, position + 1)[0]
        setting = int(self._settings[position])
        again = None
        for other in (position + 1, position - 1):
            alike = 0 <= other < len(self) and (
                (self._shown[other], self._settings[other]) == (self._shown[position], setting)
            )
            if alike:
                again = self.recording.frames(other, other + 1)[0]
                break
        return Glimpse(position, frame, again, None, self._grey, setting=setting)
