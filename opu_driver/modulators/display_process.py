"""The process behind a `Display`: started, asked, and ended."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

from opu_driver.errors import (
    DeviceError,
    DeviceLostError,
    DeviceNotFoundError,
    DriverMissingError,
    OpuError,
    SettingError,
)

ANSWER_S = 10.0
"""The longest that a window may take to answer."""

_ERRORS: dict[str, type[OpuError]] = {
    "missing": DeviceNotFoundError,
    "unfit": SettingError,
    "wrong": DeviceError,
    "lost": DeviceLostError,
}


class DisplayProcess:
    """A `display_window` and the pipes to it.

    Raises:
        DriverMissingError: PySide6 is not installed.
    """

    def __init__(self) -> None:
        if importlib.util.find_spec("PySide6") is None:
            raise DriverMissingError(
                "The library PySide6 is not installed. Install it with `pip install 'opu[gui]'`."
            )
        with ExitStack() as resources:
            self._complaints = resources.enter_context(tempfile.TemporaryFile())
            self._process = subprocess.Popen(
                [sys.executable, "-m", "opu_driver.modulators.display_window"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),  # Windows has it
            )
            self._resources = resources.pop_all()
        self._pipes = ThreadPoolExecutor(1, thread_name_prefix="display")

    def ask(self, do: str, payload: memoryview | None = None, **arguments: Any) -> dict[str, Any]:
        """Send a request and return its answer; see `display_window`.

        Raises:
            DeviceNotFoundError: There is no such screen.
            SettingError: The screen is of another shape.
            DeviceLostError: The screen or the window is gone, or it does not answer in time.
            DeviceError: The window cannot be shown, or is not scanned out as it was asked to.
        """
        request = {"do": do, **arguments}
        if payload is not None:
            request["bytes"] = payload.nbytes
        pending = self._pipes.submit(self._exchange, request, payload)
        try:
            line = pending.result(ANSWER_S)
        except TimeoutError as error:
            raise self._lost(f"did not answer to {do!r} within {ANSWER_S:g} s") from error
        except (OSError, ValueError) as error:
            raise self._lost("has ended") from error
        if not line:
            raise self._lost("has ended")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise _ERRORS[answer["error"]](answer["message"])
        return answer

    def close(self) -> None:
        """End the window; it goes by itself, or is made to."""
        if self._process.stdin:
            with suppress(OSError):  # it may be gone already
                self._process.stdin.close()
        try:
            self._process.wait(3.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._pipes.shutdown()
        if self._process.stdout:
            self._process.stdout.close()
        self._resources.close()

    def _exchange(self, request: dict[str, Any], payload: memoryview | None) -> bytes:
        to_window, from_window = self._process.stdin, self._process.stdout
        if to_window is None or from_window is None:
            raise TypeError("the window was started without pipes")
        to_window.write(json.dumps(request).encode() + b"\n")
        if payload is not None:
            to_window.write(payload)
        to_window.flush()
        return from_window.readline()

    def _lost(self, what: str) -> DeviceLostError:
        """The error, with what the window said last; nothing is left of the window."""
        self._process.kill()
        self._process.wait()
        self._complaints.seek(0)
        said = self._complaints.read().decode(errors="replace").strip().splitlines()[-3:]
        return DeviceLostError(
            f"The window of the display {what}"
            + (f"; it said: {' '.join(said)}" if said else "")
            + ". Close and open the modulator; check that the desktop runs and is not locked."
        )
