"""GigE Vision and USB3 Vision cameras of any maker through Aravis, without the maker's software.

Aravis is a library of the system (Debian: gir1.2-aravis-0.8) that Python reaches by PyGObject
(`pip install 'opu[aravis]'`). Names are from the Aravis 0.8 API reference, classes ArvCamera,
ArvDevice, ArvStream (buffers pushed and popped) and ArvBuffer (status, frame id, timestamp).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from opu_driver.cameras.features import Features, Value
from opu_driver.cameras.frame_count import FrameCount
from opu_driver.cameras.genicam_camera import Filled, GenicamCamera, pick
from opu_driver.device import Found, Identity
from opu_driver.errors import (
    DeviceBusyError,
    DeviceError,
    DeviceLostError,
    DriverMissingError,
    SettingError,
)
from opu_driver.extras import vendor_library

_SOCKET_BYTES = 1 << 24
"""What the system keeps of packets until they are put together; its default loses frames."""

_LAST_FRAME_S = 0.1
"""How long a frame may take from the end of its exposure to its arrival."""


class AravisCamera(GenicamCamera):
    """A GigE Vision or USB3 Vision camera.

    Args:
        serial: Serial number; may be left out where only one camera is connected.
        trigger_source: The input of the trigger edge, an entry of TriggerSource.
        trigger_edge: Which edge starts an exposure.
        black_level: What BlackLevel is set to; None leaves it.
        pitch_um: Distance between neighbouring pixels, micrometres; None where the camera tells.
        features: Other features by their names, set when the camera opens.
    """

    def __init__(
        self,
        serial: str | None = None,
        trigger_source: str = "Line1",
        trigger_edge: Literal["rising", "falling"] = "rising",
        black_level: float | None = None,
        pitch_um: float | None = None,
        features: dict[str, Value] | None = None,
    ) -> None:
        super().__init__(trigger_source, trigger_edge, black_level, pitch_um, features)
        self._serial = serial
        self._camera: Any = None
        self._stream: Any = None
        self._identity: Identity | None = None
        self._on_this_machine = False
        self._control_lost = False
        self._watch: int | None = None
        self._triggered = 0

    @classmethod
    def discover(cls) -> list[Found]:
        """The cameras that are connected now; cameras on the network have a second to answer.

        Raises:
            DriverMissingError: PyGObject or Aravis is not installed.
        """
        return [Found(who, {"serial": who.serial}) for who in _connected(_aravis())]

    @property
    def address(self) -> str:
        """`aravis`, and the serial number."""
        return f"aravis {self._serial or '(the only camera)'}"

    @property
    def identity(self) -> Identity:
        """Who the camera says it is."""
        self._require_open()
        if self._identity is None:
            raise DeviceError("The camera has no identity; close and open it.")
        return self._identity

    def _open(self) -> None:
        aravis = _aravis()
        connected = _connected(aravis)
        at = pick(self._serial, connected)
        who = connected[at]
        glib = vendor_library("gi.repository.GLib", "aravis")
        self._control_lost = False
        self._on_this_machine = str(aravis.get_device_address(at)).startswith("127.")
        try:
            self._camera = aravis.Camera.new(aravis.get_device_id(at))
        except glib.Error as error:
            raise DeviceError(
                f"The camera {who} cannot be opened: {error.message}. Unplug "
                "it, plug it in again, and check its power and its network address."
            ) from error
        device = self._camera.get_device()
        if self._camera.is_gv_device() and not device.is_controller():
            raise DeviceBusyError(
                f"The camera {who} is controlled by another program. Close that "
                "one, or wait for a few seconds if it was killed."
            )
        self._watch = device.connect("control-lost", self._note_control_lost)
        self._camera.set_range_check_policy(aravis.RangeCheckPolicy.ENABLE)
        features = _AravisFeatures(aravis, self._camera)
        version = features.first("DeviceFirmwareVersion", "DeviceVersion")
        self._identity = replace(who, firmware=features.text(version) if version else "")
        self._prepare(features)

    def _note_control_lost(self, _device: Any) -> None:
        self._control_lost = True

    def _close(self) -> None:
        self._stream = None
        camera, self._camera = self._camera, None
        self._let_go()
        if camera is not None and self._watch is not None:
            camera.get_device().disconnect(self._watch)
        self._watch = None

    def _start(self, buffers: int) -> FrameCount:
        aravis = _aravis()
        self._triggered = 0
        with _told():
            gige = self._camera.is_gv_device()
            if gige and self._on_this_machine:
                # A packet socket is quicker, but hears nothing of the loopback interface.
                self._camera.gv_set_stream_options(aravis.GvStreamOption.PACKET_SOCKET_DISABLED)
            # A new stream knows no packets and no frames of before.
            self._stream = self._camera.create_stream(None, None)
            if gige:
                self._stream.set_property("socket-buffer", aravis.GvStreamSocketBuffer.FIXED)
                self._stream.set_property("socket-buffer-size", _SOCKET_BYTES)
            payload = self._camera.get_payload()
            for _ in range(buffers):
                self._stream.push_buffer(aravis.Buffer.new_allocate(payload))
            self._camera.start_acquisition()
        # GigE Vision counts 1 to 65535 and again from 1 (Aravis hides extended ids); not all
        # cameras begin with 1 at each start, as the standard says.
        return FrameCount(first=None, period=65535 if gige else None)

    @contextmanager
    def _next(self, wait_s: float) -> Iterator[Filled | None]:
        if wait_s > 0:
            buffer = self._stream.timeout_pop_buffer(math.ceil(1e6 * wait_s))
        else:
            buffer = self._stream.try_pop_buffer()
        if buffer is None:
            yield None
            return
        try:
            yield self._filled(buffer)
        finally:
            self._stream.push_buffer(buffer)

    def _filled(self, buffer: Any) -> Filled:
        counter = buffer.get_frame_id()
        if counter == 0 and self._camera.is_gv_device():
            counter = None  # GigE Vision has no block 0: the buffer never got a packet
        if buffer.get_status() != _aravis().BufferStatus.SUCCESS:
            return Filled(None, counter=counter)
        nanoseconds = buffer.get_timestamp()
        return Filled(
            np.frombuffer(buffer.get_data(), np.uint8),
            (buffer.get_image_height(), buffer.get_image_width()),
            counter,
            nanoseconds / 1e3 if nanoseconds else math.nan,
        )

    def _require_connected(self) -> None:
        if self._control_lost:
            raise self._lost()
        # The library takes seconds to notice that a camera is gone; a question is quicker.
        try:
            self._features.number("Width")
        except DeviceLostError:
            self._control_lost = True
            raise

    def _trigger(self) -> None:
        super()._trigger()
        self._triggered += 1

    def _stop(self) -> None:
        with suppress(DeviceError), _told():
            if not self._control_lost:
                self._let_triggered_finish()
                self._camera.stop_acquisition()
        self._stream = None

    def _let_triggered_finish(self) -> None:
        """Some cameras keep a software trigger, and would expose once they are armed again."""
        deadline_s = time.monotonic() + _LAST_FRAME_S + 2e-6 * self.settings.exposure_us
        open_triggers = self._triggered - self._count.accounted
        while open_triggers > 0 and time.monotonic() < deadline_s:
            with self._next(_LAST_FRAME_S / 10) as filled:
                open_triggers -= filled is not None


def _aravis() -> Any:
    gi = vendor_library("gi", "aravis")
    try:
        gi.require_version("Aravis", "0.8")
    except ValueError as error:
        raise DriverMissingError(
            f"The library Aravis 0.8 is not installed ({error}). On Debian and Ubuntu install "
            "gir1.2-aravis-0.8; elsewhere set GI_TYPELIB_PATH to the folder of Aravis-0.8.typelib."
        ) from error
    return vendor_library("gi.repository.Aravis", "aravis")


def _connected(aravis: Any) -> list[Identity]:
    """The cameras that answer now, in the order of Aravis' list."""
    aravis.update_device_list()
    return [
        Identity(
            str(aravis.get_device_vendor(at)),
            str(aravis.get_device_model(at)),
            str(aravis.get_device_serial_nbr(at)),
        )
        for at in range(aravis.get_n_devices())
    ]


@contextmanager
def _told(setting: str = "") -> Iterator[None]:
    """Errors of GLib as errors of ours; what refuses a setting is a SettingError."""
    glib = vendor_library("gi.repository.GLib", "aravis")
    aravis = _aravis()
    try:
        yield
    except glib.Error as error:
        gone = (
            aravis.DeviceError.TIMEOUT,
            aravis.DeviceError.NOT_CONNECTED,
            aravis.DeviceError.TRANSFER_ERROR,
            aravis.DeviceError.NOT_CONTROLLER,
        )
        if error.domain == "arv-device-error-quark" and error.code in map(int, gone):
            raise DeviceLostError(
                f"The camera does not answer any more ({error.message}). Check its cable and "
                "power, then close and open it."
            ) from error
        if setting:
            raise SettingError(f"{setting}: {error.message}") from error
        raise DeviceError(f"Aravis failed: {error.message}. Close and open the camera.") from error


class _AravisFeatures(Features):
    """Features through Aravis."""

    def __init__(self, aravis: Any, camera: Any) -> None:
        self._aravis = aravis
        self._camera = camera

    def has(self, name: str) -> bool:
        with _told():
            return bool(self._camera.is_feature_available(name))

    def number(self, name: str) -> float:
        with _told():
            if self._is_float(name):
                return float(self._camera.get_float(name))
            return float(self._camera.get_integer(name))

    def text(self, name: str) -> str:
        with _told():
            return str(self._camera.get_string(name))

    def set(self, name: str, value: Value) -> None:
        with _told(f"{name} = {value!r}"):
            if isinstance(value, str):
                self._camera.set_string(name, value)
            elif isinstance(value, bool):
                self._camera.set_boolean(name, value)
            elif self._is_float(name):
                self._camera.set_float(name, float(value))
            elif value == int(value):
                self._camera.set_integer(name, int(value))
            else:
                raise SettingError(f"{name} = {value!r}; it takes whole numbers.")

    def execute(self, name: str) -> None:
        with _told(name):
            self._camera.execute_command(name)

    def limits(self, name: str) -> tuple[float, float]:
        with _told():
            if self._is_float(name):
                bounds = self._camera.get_float_bounds(name)
            else:
                bounds = self._camera.get_integer_bounds(name)
            return float(bounds[0]), float(bounds[1])

    def step(self, name: str) -> int:
        with _told():
            return int(self._camera.get_integer_increment(name))

    def choices(self, name: str) -> tuple[str, ...]:
        if not self.has(name):
            return ()
        with _told():
            return tuple(self._camera.dup_available_enumerations_as_strings(name))

    def _is_float(self, name: str) -> bool:
        return isinstance(self._camera.get_device().get_feature(name), self._aravis.GcFloat)
