"""An instrument that speaks lines of text, on a pseudo-terminal or on a TCP port.

What stands at the client's end is a serial port by its path where the system has pseudo-terminals,
or `socket://127.0.0.1:port` anywhere. The line can be disturbed on purpose, unplugged, and plugged
in again under the same name. The instrument notices nothing of a client that vanishes.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from opu_driver.errors import SettingError

_TICK_S = 0.02


class Instrument(Protocol):
    """What answers."""

    ending: bytes
    """What ends a command."""

    def answer(self, command: str) -> list[str]:
        """The lines to send back."""

    def tick(self) -> None:
        """Let what is due by now happen."""


class Disturbance(StrEnum):
    """What can happen to an answer on its way."""

    SILENT = "silent"
    SLOW = "slow"
    TRUNCATED = "truncated"
    DOUBLED = "doubled"
    NOISY = "noisy"


class TextServer:
    """Serves an instrument in a thread until it is closed.

    Args:
        instrument: What answers.
        port: `pty` for a pseudo-terminal, `tcp` for any free TCP port, or the number of one.
        slow_s: How late a slow answer is, seconds.

    Raises:
        SettingError: A port of another kind, or a pseudo-terminal where the system has none.
    """

    def __init__(self, instrument: Instrument, port: str = "pty", slow_s: float = 1.0) -> None:
        self.instrument = instrument
        self._slow_s = slow_s
        self._ahead: deque[Disturbance | None] = deque()
        self._end = _end(port)
        self._stop = threading.Event()
        self._plug = threading.RLock()
        self._thread = threading.Thread(target=self._serve, daemon=True, name="text-server")
        self._end.plug_in()
        self._thread.start()

    @property
    def port(self) -> str:
        """What a driver opens."""
        return self._end.name

    def disturb(self, *disturbances: Disturbance, after: int = 0) -> None:
        """Disturb the answers to come, one each; those after them are well again.

        Args:
            disturbances: What happens to each.
            after: How many answers pass unharmed before.
        """
        self._ahead.extend([None] * after)
        self._ahead.extend(disturbances)

    def interject(self, noise: bytes) -> None:
        """Send something that nobody asked for."""
        with self._plug:
            self._end.write(noise)

    def settle(self) -> None:
        """Have no disturbances ahead."""
        self._ahead.clear()

    def unplug(self) -> None:
        """Pull the cable; the instrument goes on."""
        with self._plug:
            self._end.unplug()

    def plug_in(self) -> None:
        """Put the cable back, under the same name."""
        with self._plug:
            self._end.plug_in()

    def close(self) -> None:
        """End the service; harmless when it has ended."""
        self._stop.set()
        self._thread.join()
        self._end.unplug()
        self._end.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _serve(self) -> None:
        heard = b""
        while not self._stop.is_set():
            self.instrument.tick()
            with self._plug:
                came = self._end.read(_TICK_S)
            if came is None:
                heard = b""
                time.sleep(_TICK_S)
                continue
            heard += came
            while self.instrument.ending in heard:
                command, _, heard = heard.partition(self.instrument.ending)
                lines = self.instrument.answer(command.decode("ascii", "replace").strip())
                self._send("".join(f"{line}\r\n" for line in lines).encode("ascii"))

    def _send(self, answer: bytes) -> None:
        if not answer:
            return
        match self._ahead.popleft() if self._ahead else None:
            case Disturbance.SILENT:
                return
            case Disturbance.SLOW:
                self._stop.wait(self._slow_s)
            case Disturbance.TRUNCATED:
                answer = answer[: max(len(answer.rstrip()) // 2, 1)]
            case Disturbance.DOUBLED:
                answer += answer
            case Disturbance.NOISY:
                answer = bytes([0xFE, answer[0] ^ 0x80]) + answer[1:]
            case None:
                pass
        with self._plug:
            self._end.write(answer)


class _End(ABC):
    """The instrument's end of a cable."""

    name: str

    @abstractmethod
    def plug_in(self) -> None: ...

    @abstractmethod
    def unplug(self) -> None: ...

    @abstractmethod
    def remove(self) -> None:
        """Leave nothing behind."""

    @abstractmethod
    def read(self, timeout_s: float) -> bytes | None:
        """What came; None if there is no cable."""

    @abstractmethod
    def write(self, data: bytes) -> None: ...


class _TcpEnd(_End):
    """One client at a time, as a serial device server has."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server: socket.socket | None = None
        self._client: socket.socket | None = None

    def plug_in(self) -> None:
        if self._server is None:
            self._server = socket.create_server(("127.0.0.1", self._port))
            self._port = self._server.getsockname()[1]
            self.name = f"socket://127.0.0.1:{self._port}"

    def unplug(self) -> None:
        self._hang_up()
        if self._server is not None:
            self._server.close()
            self._server = None

    def remove(self) -> None:
        pass

    def read(self, timeout_s: float) -> bytes | None:
        if self._server is None:
            return None
        ends = [self._server] if self._client is None else [self._server, self._client]
        ready = select.select(ends, [], [], timeout_s)[0]
        if self._client in ready and self._client is not None:
            came = b""
            with suppress(OSError):
                came = self._client.recv(4096)
            if came:
                return came
            self._hang_up()
            return b""
        if self._server in ready:
            caller, _ = self._server.accept()
            if self._client is None:
                self._client = caller
            else:
                caller.close()
        return b""

    def write(self, data: bytes) -> None:
        if self._client is not None:
            with suppress(OSError):
                self._client.sendall(data)

    def _hang_up(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


if sys.platform == "win32":

    def _pty_end() -> _End:
        raise SettingError("port = 'pty'; this system has no pseudo-terminals: take 'tcp'.")

else:
    import tty

    class _PtyEnd(_End):
        """A pseudo-terminal behind a symbolic link, which stays the same when it is replugged."""

        def __init__(self) -> None:
            self._folder = Path(tempfile.mkdtemp(prefix="opu-emulator-"))
            self.name = str(self._folder / "laser")
            self._ours: int | None = None
            self._theirs: int | None = None

        def plug_in(self) -> None:
            if self._ours is None:
                self._ours, self._theirs = os.openpty()
                # Their end stays open here, or every client that closes would hang up.
                tty.setraw(self._theirs)
                os.set_blocking(self._ours, False)
                Path(self.name).symlink_to(os.ttyname(self._theirs))

        def unplug(self) -> None:
            ours, theirs, self._ours, self._theirs = self._ours, self._theirs, None, None
            if ours is not None and theirs is not None:
                Path(self.name).unlink()
                os.close(theirs)
                os.close(ours)

        def remove(self) -> None:
            self._folder.rmdir()

        def read(self, timeout_s: float) -> bytes | None:
            if self._ours is None:
                return None
            if not select.select([self._ours], [], [], timeout_s)[0]:
                return b""
            return os.read(self._ours, 4096)

        def write(self, data: bytes) -> None:
            if self._ours is not None:
                with suppress(BlockingIOError):
                    os.write(self._ours, data)

    def _pty_end() -> _End:
        return _PtyEnd()


def _end(port: str) -> _End:
    if port == "tcp":
        return _TcpEnd(0)
    if port.isdigit() and int(port) < 65536:
        return _TcpEnd(int(port))
    if port == "pty":
        return _pty_end()
    raise SettingError(f"port = {port!r}; it has to be 'pty', 'tcp' or the number of a TCP port.")
