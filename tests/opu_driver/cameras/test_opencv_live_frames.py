"""Which frames of a camera that never stops are new."""

import itertools
import time

import pytest

from opu_driver.cameras.live_frames import LiveFrames
from opu_driver.errors import CaptureTimeoutError, DeviceLostError

PERIOD_S = 0.02


class Scripted:
    """Fetches that take as long as they are told, then a frame period each; frames are numbers."""

    def __init__(self, *seconds, damaged=()):
        self._seconds = itertools.chain(seconds, itertools.repeat(PERIOD_S))
        self._damaged = damaged
        self._frame = -1
        self.asked_s = []

    def grab(self):
        self.asked_s.append(time.perf_counter())
        time.sleep(next(self._seconds))
        self._frame += 1
        return True

    def retrieve(self):
        return self._frame not in self._damaged, self._frame


def first_new(capture, age_s=0.0):
    live = LiveFrames(capture, PERIOD_S, age_s)
    try:
        live.want(time.perf_counter())
        return live.take(1, 5.0)[0]
    finally:
        live.stop()


def test_frames_that_waited_in_a_queue_are_old():
    assert first_new(Scripted(*5 * [0.0])) >= 6


def test_a_busy_computer_is_no_proof_of_an_empty_queue():
    stall = 6 * PERIOD_S
    assert first_new(Scripted(stall, *4 * [0.0], PERIOD_S, *3 * [0.0])) >= 10


def test_a_frame_is_as_old_as_the_camera_takes_to_deliver_it():
    age_s = 3 * PERIOD_S
    camera = Scripted()
    began_s = time.perf_counter()
    assert camera.asked_s[first_new(camera, age_s)] > began_s + age_s


def test_a_damaged_frame_is_followed_by_the_next():
    assert first_new(Scripted(damaged={0, 1, 2, 3})) >= 4


def test_a_camera_that_never_lets_wait_gives_nothing():
    class Flood(Scripted):
        def grab(self):
            time.sleep(1e-4)
            return True

    live = LiveFrames(Flood(), period_s=10.0, age_s=0.0)
    live.want(time.perf_counter())
    with pytest.raises(CaptureTimeoutError, match="1 wanted"):
        live.take(1, 0.2)
    live.stop()


def test_the_end_of_a_camera_is_told_at_once():
    class Gone(Scripted):
        def grab(self):
            return False

    live = LiveFrames(Gone(), PERIOD_S, 0.0)
    with pytest.raises(DeviceLostError):
        live.take(1, 60.0)
    live.stop()
