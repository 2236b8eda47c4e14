"""What a glimpse tells when it is looked at closely; a thread does so, at a pace of its own."""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.carrier import Carrier, find_carrier
from calibration.demodulation import Demodulator
from calibration.quality import signal_to_noise, visibility
from calibration.saturation import saturated_fraction
from calibration.spectrum import power_spectrum
from opu_driver.camera import Frames
from opu_driver.errors import OpuError
from tools.viewer.glimpse import Feed, Frame, Glimpse

_LEAST_PAUSE_S, _MOST_PAUSE_S = 0.25, 1.0
_POLITENESS = 2  # of the thread: added to its nice value; on a busy machine 10 would starve it
_SPECTRUM_BINS = 512  # drawn along each axis at most
_MIDDLE = 512  # pixels a side that carrier and field are measured on, or a second goes by

Fields = NDArray[np.complex64]


@dataclass(frozen=True, eq=False)
class Reading:
    """What was read off one glimpse. What could not be measured is NaN.

    Attributes:
        number: The glimpse's number.
        at_s: When, seconds on the monotonic clock.
        mean_grey: Mean grey value above black.
        saturated: Fraction of the pixels that are full.
        focus: See `focus`.
        spectrum_db: float32 `[row frequency, column frequency]`, zero frequency in the middle,
            decibels above the median.
        carrier: Where the sideband is; None if none was found.
        obstacle: Why there is no carrier or no field, by name; empty if there are both.
        visibility: Fringe visibility.
        grain: Size of a speckle grain, pixels.
        snr: Signal to noise (powers) of the field of one frame.
        field: complex64 `[row, column]` on the mode grid, R* S in grey values, of the middle of
            the frame; None if there is no carrier.
    """

    number: int
    at_s: float
    mean_grey: float
    saturated: float
    focus: float
    spectrum_db: NDArray[np.float32]
    carrier: Carrier | None
    obstacle: str
    visibility: float = math.nan
    grain: float = math.nan
    snr: float = math.nan
    field: Fields | None = None


def read(glimpse: Glimpse, at_s: float) -> Reading:
    """Look at a glimpse closely."""
    frame, grey = glimpse.frame, glimpse.grey
    both = [frame] if glimpse.again is None else [frame, glimpse.again]
    frames = _middle(np.stack(both))
    carrier, obstacle = None, ""
    off = None if glimpse.off is None else _middle(glimpse.off[None])
    field, other = None, None
    try:
        carrier = find_carrier(frames, saturation_level=grey.full, black_level=grey.black)
        field, other = _fields(frames, off, carrier)
    except OpuError as error:
        obstacle = f"{type(error).__name__}: {error}"
    mean_grey = float(frame.mean(dtype=np.float64)) - grey.black
    return Reading(
        number=glimpse.number,
        at_s=at_s,
        mean_grey=mean_grey,
        saturated=saturated_fraction(frame, grey.full),
        focus=focus(frame, grey.black),
        spectrum_db=spectrum_db(frame),
        carrier=carrier,
        obstacle=obstacle,
        visibility=math.nan if field is None else visibility(field, mean_grey),
        grain=math.nan if carrier is None else carrier.grain,
        snr=math.nan if field is None or other is None else signal_to_noise(field, other),
        field=field,
    )


def _middle(frames: Frames) -> Frames:
    """At most `_MIDDLE` pixels a side of frames `[frame, row, column]`."""
    first = [max(length - _MIDDLE, 0) // 2 for length in frames.shape[1:]]
    return frames[:, first[0] : first[0] + _MIDDLE, first[1] : first[1] + _MIDDLE]


def _fields(frames: Frames, off: Frames | None, carrier: Carrier) -> tuple[Fields, Fields | None]:
    """The fields of one or two frames, without the bias where it is known."""
    demodulate = Demodulator((frames.shape[1], frames.shape[2]), carrier)
    fields = demodulate(frames)
    if off is not None:
        fields -= demodulate(off)
    return fields[0], fields[1] if len(fields) > 1 else None


def focus(frame: Frame, black: float) -> float:
    """Energy of the grey values' gradient over their mean squared: highest in focus.

    Tenengrad, normalised (Groen, Young and Ligthart, Cytometry 6, 81 (1985)), with neighbouring
    pixels' differences for the gradient. Fringes and noise raise it too: compare like with like.

    Args:
        frame: Grey values `[row, column]`.
        black: Grey value without light.

    Returns:
        1/pixels^2; NaN without light.
    """
    grey = frame.astype(np.float32)
    light = float(grey.mean(dtype=np.float64)) - black
    if light <= 0:
        return math.nan
    energy = sum(float(np.mean(np.diff(grey, axis=axis) ** 2, dtype=np.float64)) for axis in (0, 1))
    return energy / light**2


def spectrum_db(frame: Frame) -> NDArray[np.float32]:
    """The power spectrum of a frame as it is drawn.

    Args:
        frame: Grey values `[row, column]`.

    Returns:
        float32, zero frequency in the middle, decibels above the median; neighbouring bins are
        averaged where there are more than anybody can see.
    """
    power = np.fft.fftshift(power_spectrum(frame[None]))
    for axis in (0, 1):
        together = max(power.shape[axis] // _SPECTRUM_BINS, 1)
        kept = power.shape[axis] // together * together
        power = np.moveaxis(power, axis, 0)[:kept]
        power = np.moveaxis(power.reshape(-1, together, power.shape[1]).mean(axis=1), 0, axis)
    level = 10 * np.log10(np.maximum(power, np.finfo(np.float32).tiny))
    return np.asarray(level - np.median(level), np.float32)


class Analyst:
    """Reads the newest glimpse of a feed, over and over, in a thread of its own.

    It rests twice as long as it has worked, so that it takes no more than a third of a core, and
    gives way to whoever else wants one where the system lets a thread do so.

    Args:
        feed: Where glimpses come from.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._ending = threading.Event()
        self._latest: Reading | None = None
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True, name="analyst")
        self._thread.start()

    @property
    def latest(self) -> Reading | None:
        """The latest reading; None before the first.

        Raises:
            Exception: Whatever ended the thread: a fault of the software.
        """
        if self._failure is not None:
            raise self._failure
        return self._latest

    def close(self) -> None:
        """Read no more."""
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        _give_way()
        pause_s = 0.0
        while not self._ending.wait(pause_s):
            begin_s = time.monotonic()
            try:
                self._look(begin_s)
            except Exception as error:  # told by `latest`: nobody hears a thread
                self._failure = error
                return
            pause_s = min(max(2 * (time.monotonic() - begin_s), _LEAST_PAUSE_S), _MOST_PAUSE_S)

    def _look(self, at_s: float) -> None:
        glimpse = self._feed.newest
        seen = None if self._latest is None else self._latest.number
        if glimpse is not None and glimpse.number != seen:
            self._latest = read(glimpse, at_s)


def _give_way() -> None:
    """Let other threads go first. Linux alone counts a thread's niceness for itself."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _POLITENESS)
