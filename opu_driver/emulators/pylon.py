"""Basler's camera emulation: it is switched on, fed with frames, triggered, and disturbed.

pylon has an emulation of cameras built in (Basler product documentation, Camera Emulation). It
reads its frames from image files, one after the other in a folder, a file a trigger. It knows
neither electrical edges nor gain nor a clock: `TriggerSoftware`, which it obeys under any trigger
source, stands in for the edge, and time stamps are zero.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opu_driver.camera import Frames
from opu_driver.cameras.pylon import PylonCamera
from opu_driver.errors import SettingError
from opu_driver.extras import vendor_library

SENSOR_SHAPE = (4096, 4096)
"""Rows and columns that an emulated camera has."""

_READY_MS = 2000


def switch_on(cameras: int = 1) -> list[str]:
    """Connect emulated cameras to this process, and return their serial numbers.

    Raises:
        DriverMissingError: pypylon is not installed.
    """
    os.environ["PYLON_CAMEMU"] = str(cameras)
    return [
        found.identity.serial
        for found in PylonCamera.discover()
        if found.identity.model == "Emulation"
    ]


class FrameFeed:
    """What an emulated camera sees: darkness, or frames that somebody else computes, one an edge.

    Args:
        folder: An empty folder of the emulated camera's own; best in memory, such as /dev/shm.
    """

    def __init__(self, folder: Path) -> None:
        # With a single file the emulation reads it once; with two it reads each time.
        self._files = (folder / "even.tif", folder / "odd.tif")
        self._folder = folder
        self.darken()

    @property
    def features(self) -> dict[str, bool | int | float | str]:
        """What `features` of the camera has to be, in the bench file, to look here."""
        return {
            "ImageFilename": str(self._folder),
            "ImageFileMode": "On",
            "TestImageSelector": "Off",
            "AcquisitionFrameRateAbs": 5000.0,
        }

    def darken(self) -> None:
        """Hold darkness before the camera, whatever region and pixel format it is set to."""
        before, after = _around_strip(SENSOR_SHAPE, np.dtype(np.uint8))
        for path in self._files:
            with path.open("wb") as file:
                file.write(before)
                file.seek(SENSOR_SHAPE[0] * SENSOR_SHAPE[1], os.SEEK_CUR)  # zeros, without memory
                file.write(after)

    def show(self, camera: PylonCamera, frame: Frames) -> None:
        """Hold a frame before the camera: its next exposures will take it.

        Args:
            camera: An open camera with `features` of this feed, which is not exposing.
            frame: `[row, column]`, grey values of the camera's region, right-aligned.

        Raises:
            SettingError: A frame of another shape than the camera's region.
        """
        region, pixel_format = camera.settings.region, camera.settings.pixel_format
        if frame.shape != region.shape:
            raise SettingError(
                f"A frame of shape {frame.shape}; the camera's region is {region.shape}."
            )
        grey = np.asarray(frame, pixel_format.dtype)
        if pixel_format.bits > 8:
            grey = grey << (16 - pixel_format.bits)  # files are left-aligned
        sensor = np.zeros((region.row + region.height, region.column + region.width), grey.dtype)
        sensor[region.row :, region.column :] = grey
        self._write(sensor)

    def expose(self, camera: PylonCamera, frame: Frames) -> bool:
        """Fire one edge, on which the camera takes a frame; may be called from any thread.

        Args:
            camera: As `show`.
            frame: As `show`.

        Returns:
            Whether the camera took it: an edge that finds it not armed, or not on a trigger, is
            lost, as with a real camera. An edge that comes too early waits.

        Raises:
            SettingError: As `show`.
        """
        pylon = vendor_library("pypylon.pylon", "pylon")
        handle = camera.handle
        if not handle.IsGrabbing() or not handle.WaitForFrameTriggerReady(
            _READY_MS, pylon.TimeoutHandling_Return
        ):
            return False
        self.show(camera, frame)
        handle.TriggerSoftware.Execute()
        return True

    def _write(self, grey: NDArray[Any]) -> None:
        content = _tiff(grey)
        for file in self._files:
            file.write_bytes(content)


def spoil(camera: PylonCamera, frames: int) -> None:
    """Let the next frames of an emulated camera fail on their way."""
    camera.handle.ForceFailedBufferCount.SetValue(frames)
    camera.handle.ForceFailedBuffer.Execute()


def unplug(camera: PylonCamera) -> None:
    """Pull the plug of an emulated camera; it is there again for whoever opens it anew."""
    camera.handle.FirePnPCallback.Execute()


def _tiff(grey: NDArray[Any]) -> bytes:
    """A TIFF file of grey values `[row, column]`."""
    before, after = _around_strip(grey.shape, grey.dtype)
    return before + grey.astype(grey.dtype.newbyteorder("<")).tobytes() + after


def _around_strip(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[bytes, bytes]:
    """What comes before and after the pixels in a TIFF file of one strip without compression.

    TIFF 6.0, section 4, grayscale images.
    """
    rows, columns = shape
    strip_bytes = rows * columns * dtype.itemsize
    short, long = 3, 4
    entries = [
        (256, long, columns),
        (257, long, rows),
        (258, short, 8 * dtype.itemsize),
        (259, short, 1),  # no compression
        (262, short, 1),  # zero is black
        (273, long, 8),  # the strip begins behind the header
        (277, short, 1),
        (278, long, rows),
        (279, long, strip_bytes),
    ]
    directory = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    gap = strip_bytes % 2
    return (
        struct.pack("<2sHI", b"II", 42, 8 + strip_bytes + gap),
        b"\0" * gap + struct.pack("<H", len(entries)) + directory + struct.pack("<I", 0),
    )
