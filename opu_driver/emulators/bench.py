"""A whole bench of emulated devices: real drivers, real protocols, simulated light.

The mirrors that an emulated ViALUX DMD shows, at the power that an emulated Cobolt emits by its own
logbook, make the frames that Basler's camera emulation returns, one for each edge of the DMD's
trigger output, or one for each step of a DMD that is stepped. The drivers cannot tell. Before
the bench is opened and after it, the camera sees darkness.

    [modulator]
    driver = "alp"

    [camera]
    driver = "pylon"
    exposure_us = 100.0
    region = { row = 0, column = 0, height = 128, width = 128 }

    [laser]
    driver = "cobolt"
    port = "/dev/pts/4"
    power_mw = 10.0

    [emulation]              # the devices, and the optics between them
    laser_log = "laser.jsonl"
    preset = "realistic"
    seed = 1

`opu emulate` runs the laser and writes such a file.
"""

from __future__ import annotations

import json
import tempfile
import threading
import weakref
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from opu_driver.camera import Camera, CameraSettings, Frames, Region, Trigger
from opu_driver.emulators.alp import EmulatedALP
from opu_driver.emulators.pylon import FrameFeed, switch_on
from opu_driver.emulators.shown_pattern import ShownPattern
from opu_driver.errors import BenchFileError, DeviceStateError
from opu_driver.virtual.camera import VirtualCamera
from opu_driver.virtual.modulators import VirtualDMD
from opu_driver.virtual.scene import Scene

FRAMES_PER_S = 200.0
"""What the emulated camera says it can do; the scene is computed as fast on one core."""

_LOOK_S = 0.05
_EVER = 1 << 60


class EmulatedBench:
    """The devices of an emulated bench, and the light between them.

    Enter it when the drivers are open: from then on each edge of the DMD exposes the camera.

    Args:
        scene: The optics, empty.
        lit_area: Rows and columns of the sensor that the light reaches, from its first pixel on.
        laser_log: The logbook of the emulated laser, which tells its light.
        shape: Rows and columns of mirrors.

    Raises:
        DriverMissingError: No C compiler, or pypylon is not installed.
        BenchFileError: There is no logbook.
    """

    def __init__(
        self,
        scene: Scene,
        lit_area: tuple[int, int],
        laser_log: Path,
        shape: tuple[int, int] = (64, 64),
    ) -> None:
        if not laser_log.is_file():
            raise BenchFileError(
                f"emulation.laser_log = {str(laser_log)!r}: there is no such file. `opu emulate` "
                "runs the emulated laser that keeps it."
            )
        held = ExitStack()
        # A bench may be opened again and again, so its files go when it does.
        weakref.finalize(self, held.close)
        self.dmd = held.enter_context(EmulatedALP(shape))
        (self._serial,) = switch_on(1)
        memory = Path("/dev/shm")
        folder = held.enter_context(
            tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)
        )
        self.feed = FrameFeed(Path(folder))
        self.scene = scene
        self._mirrors = VirtualDMD(self.scene, shape)
        self._sensor = VirtualCamera(self.scene, lit_area)
        self.lamp = LoggedLight(laser_log)
        self.scene.install(self.lamp, "laser")
        self._camera: Any = None
        self._stop = threading.Event()
        self._light: threading.Thread | None = None
        self._next = 0
        self._seen: CameraSettings | None = None

    @property
    def modulator_options(self) -> dict[str, Any]:
        """What the bench file's `[modulator]` lacks."""
        return {"library": str(self.dmd.library)}

    @property
    def camera_options(self) -> dict[str, Any]:
        """What the bench file's `[camera]` lacks."""
        features = self.feed.features | {
            "AcquisitionFrameRateEnable": True,
            "AcquisitionFrameRateAbs": FRAMES_PER_S,
        }
        return {"serial": self._serial, "features": features}

    def look_through(self, camera: Camera) -> None:
        """Say which camera takes the frames."""
        self._camera = camera

    def __enter__(self) -> Self:
        if self._camera is None:
            raise DeviceStateError("The emulated bench has no camera; call look_through(camera).")
        self._mirrors.open()
        self._sensor.open()
        self.dmd.watch(True)
        self._next = self.dmd.count
        self._seen = None
        self._frame(self.dmd.mirrors)  # what is prepared once is prepared before it is waited for
        self._stop.clear()
        self._light = threading.Thread(target=self._shine, daemon=True, name="emulated-light")
        self._light.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._light is not None:
            self._light.join()
        self.dmd.watch(False)
        self.feed.darken()
        self._mirrors.close()
        self._sensor.close()

    def _shine(self) -> None:
        """Pass on the light of each pattern as long as the bench is open."""
        while not self._stop.is_set():
            shown = self.dmd.shown(self._next, _LOOK_S)
            if shown is None:
                continue
            self._next += 1
            if self._camera.is_open:
                self._pass_on(shown)
            self.dmd.saw(shown.index)

    def _pass_on(self, shown: ShownPattern) -> None:
        trigger = self._camera.settings.trigger
        if trigger is Trigger.HARDWARE and shown.edge:
            self.feed.expose(self._camera, self._frame(shown.mirrors))
        # The emulation reads its picture at the trigger: what a step shows has to be there before.
        if trigger is Trigger.SOFTWARE and shown.index == self.dmd.awaited:
            self.feed.show(self._camera, self._frame(shown.mirrors))

    def _frame(self, mirrors: NDArray[np.uint8]) -> Frames:
        """What the camera sees of the mirrors, grey values of its region `[row, column]`."""
        settings = self._camera.settings
        lit = self._lit_part(settings.region)
        if settings != self._seen:
            self._sensor.disarm()
            seen = replace(settings, region=lit, trigger=Trigger.SOFTWARE)
            self._sensor.configure(seen)
            self._sensor.arm(_EVER)
            self._seen = settings
        self._mirrors.load(mirrors[None])
        self._mirrors.step()
        self._sensor.trigger()
        frame = self._sensor.read(1, 1.0).frames[0]
        seen_frame = np.full(settings.region.shape, self._black(), frame.dtype)
        seen_frame[: lit.height, : lit.width] = frame
        return seen_frame

    def _lit_part(self, region: Region) -> Region:
        rows, columns = self._sensor.sensor_shape
        height = min(region.height, rows - region.row)
        width = min(region.width, columns - region.column)
        return Region(region.row, region.column, height, width)

    def _black(self) -> float:
        return round(self._sensor.black_level)


class LoggedLight:
    """The light of an emulated laser, as it stands in its logbook.

    Args:
        path: The logbook, which may grow meanwhile.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._power_mw = 0.0

    @property
    def output_mw(self) -> float:
        """The power that the laser emits now, milliwatts."""
        with self._path.open("rb") as log:
            log.seek(self._read)
            new = log.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            self._power_mw = json.loads(line).get("power_mw", self._power_mw)
        return self._power_mw
