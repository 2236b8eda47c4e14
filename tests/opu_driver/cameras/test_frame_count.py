"""Which frames came and which did not."""

from hypothesis import given
from hypothesis import strategies as st

from opu_driver.cameras.frame_count import FrameCount


@given(st.sets(st.integers(0, 400)), st.integers(0, 65534), st.booleans())
def test_every_frame_has_its_own_place_across_the_wrap(missing, start, spoilt):
    """GigE Vision counts 1 to 65535 and again from 1."""
    count = FrameCount(first=1 + start, period=65535)
    placed = []
    for k in range(402):
        counter = 1 + (start + k) % 65535
        if k not in missing:
            placed.append(count.whole(counter))
        elif spoilt:
            count.spoilt(counter)
    assert placed == [k for k in range(402) if k not in missing]
    assert count.lost == len(missing)


def test_the_first_frame_that_comes_is_frame_0_where_nobody_knows_better():
    count = FrameCount(first=None)
    assert [count.whole(c) for c in (71, 72, 75)] == [0, 1, 4]
    assert count.lost == 2


def test_lost_frames_at_the_beginning_are_told_where_the_camera_begins_anew():
    count = FrameCount(first=1, period=65535)
    assert count.whole(4) == 3
    assert count.lost == 3


def test_a_late_frame_takes_its_own_place():
    count = FrameCount(first=1, period=65535)
    assert [count.whole(c) for c in (1, 3, 2, 4)] == [0, 2, 1, 3]
    assert count.lost == 0


def test_without_a_counter_frames_are_numbered_as_they_come():
    count = FrameCount()
    assert [count.whole(None), count.whole(None)] == [0, 1]
    count.spoilt(None)
    assert (count.lost, count.accounted) == (1, 3)


def test_a_spoilt_frame_is_not_counted_twice_when_its_gap_is_seen():
    count = FrameCount(first=0)
    count.whole(0)
    count.spoilt(None)
    count.whole(2)
    assert count.lost == 1
