"""The one exception tree of the bench.

Every message names the value that was wrong, what is allowed, and what to do about it.
`InputError` and what grows from it is wrong usage or input (the `opu` command exits with 2);
every other `OpuError` is work that failed (exit 1).
"""

from __future__ import annotations


class OpuError(Exception):
    """Anything that this software refuses or fails to do, told in one clear paragraph."""


class InputError(OpuError):
    """What was asked for cannot be done by anyone: the request has to change."""


class PatternError(InputError):
    """Patterns or inputs of the wrong shape, type or value for the modulator or its layout."""


class SettingError(InputError):
    """A device setting outside its limits; nothing was changed."""


class BenchFileError(InputError):
    """A bench file that cannot be read or does not describe a bench."""


class RecordingError(InputError):
    """A recording that cannot be written, read or trusted."""


class DeviceError(OpuError):
    """A device that does not do what it should."""


class DeviceNotFoundError(DeviceError):
    """The device is not there; the message says what was found instead."""


class DeviceBusyError(DeviceError):
    """The device is there and in use by somebody else."""


class DriverMissingError(DeviceError):
    """The library or driver behind a device is missing; the message has the install line."""


class DeviceStateError(DeviceError):
    """A call that does not fit the state of the device: not open, not armed, nothing loaded."""


class DeviceLostError(DeviceError):
    """The device answered before and does not any more."""


class LaserSafetyError(DeviceError):
    """Emission was refused or ended: no armed token, an open interlock, a lost heartbeat."""


class FrameError(OpuError):
    """Frames that cannot be trusted; they are never returned as if they could."""


class CaptureTimeoutError(FrameError):
    """The camera delivered fewer frames than were asked for before the time was up."""


class FrameMismatchError(FrameError):
    """Frames and patterns do not belong together.

    Attributes:
        first_wrong: Index, among the patterns given to the bench, of the first whose frame may be
            another's.
    """

    def __init__(self, message: str, first_wrong: int) -> None:
        super().__init__(message)
        self.first_wrong = first_wrong


class SaturationError(FrameError):
    """Too many pixels at full scale: the field behind them is lost."""


class LowSignalError(FrameError):
    """Too little light to measure what was asked for."""
