"""A camera on the network: a moving picture of JPEG images over HTTP, as web cameras send it.

Its frames are exposed on its own clock and arrive late, by as much as it is told; what a reader
does not fetch waits in the network's buffers and grows old there. (multipart/x-mixed-replace:
RFC 2046, section 5.1, one part an image.)
"""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from opu_driver.extras import vendor_library


class NetworkCamera:
    """An HTTP server on this machine that sends what `scene` is at the moment of each exposure.

    Args:
        scene: uint8 `[row, column]` or, in colour, `[row, column, (blue, green, red)]`; it may be
            replaced at any time.
        rate_hz: Frames a second.
        delay_s: From the exposure of a frame until it is sent, seconds.
    """

    def __init__(self, scene: NDArray[np.uint8], rate_hz: float, delay_s: float = 0.0) -> None:
        self.scene = scene
        self.plugged = True
        self._period_s = 1.0 / rate_hz
        self._delay_s = delay_s
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                camera.send(self)

            def log_message(self, format: str, *args: object) -> None:
                del format, args

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        """Where it sends."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/video.mjpg"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.plugged = False
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def send(self, request: BaseHTTPRequestHandler) -> None:
        """Send frames to a reader until it is gone, or the camera is unplugged."""
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        request.send_response(200)
        request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        request.end_headers()
        under_way: deque[tuple[float, NDArray[np.uint8]]] = deque()
        tick_s = time.monotonic()
        while self.plugged:
            if time.monotonic() >= tick_s:
                under_way.append((time.monotonic() + self._delay_s, self.scene))
                tick_s = max(tick_s + self._period_s, time.monotonic())
            while under_way and under_way[0][0] <= time.monotonic():
                try:
                    request.wfile.write(_part(under_way.popleft()[1]))
                except OSError:
                    return  # the reader is gone
            next_s = min(tick_s, under_way[0][0]) if under_way else tick_s
            time.sleep(max(next_s - time.monotonic(), 0.0))


def _part(scene: NDArray[np.uint8]) -> bytes:
    cv2 = vendor_library("cv2", "opencv")
    jpeg: bytes = cv2.imencode(".jpg", scene, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
    return head.encode() + jpeg + b"\r\n"
