import numpy as np
import pytest

from opu_driver import simulated_bench
from opu_driver.errors import (
    CaptureTimeoutError,
    DeviceLostError,
    LaserSafetyError,
)
from opu_driver.virtual.faults import carrier_offset, next_carrier_jump, seen
from opu_driver.virtual.settings import Faults


def shown(r, patterns, blocks):
    """Which pattern each frame shows, by likeness."""
    frames = np.concatenate([block.frames for block in blocks]).reshape(-1, 64 * 48)
    clear = r.scene.truth.intensities(patterns).reshape(len(patterns), -1)
    likeness = np.corrcoef(frames, clear)[: len(frames), len(frames) :]
    return likeness.argmax(axis=1).tolist()


def run(rig, bits, frames=8, **faults):
    r = rig(faults=faults)
    patterns = r.layout(10).render(bits(8, 10))
    r.start(patterns, frames=frames)
    blocks = []
    with pytest.raises(CaptureTimeoutError):
        while True:
            blocks.append(r.camera.read(3, 0.1))
    times = np.concatenate([block.timestamps_us for block in blocks])
    ids = np.concatenate([block.ids for block in blocks])
    assert ids.tolist() == list(range(len(ids)))
    return shown(r, patterns, blocks), np.diff(times) * r.camera.max_rate_hz / 1e6


def test_without_faults_frames_are_their_patterns(rig, bits):
    which, gaps = run(rig, bits)
    assert which == [0, 1, 2, 3, 4, 5, 6, 7]
    assert gaps == pytest.approx(np.ones(7))


def test_a_dropped_trigger_leaves_a_gap(rig, bits):
    which, gaps = run(rig, bits, dropped_triggers=[3])
    assert which == [0, 1, 2, 4, 5, 6, 7]
    assert gaps == pytest.approx([1, 1, 2, 1, 1, 1])


def test_a_doubled_trigger_shows_a_pattern_twice(rig, bits):
    r = rig(faults={"doubled_triggers": [3]})
    patterns = r.layout(10).render(bits(8, 10))
    r.start(patterns, rate_hz=r.camera.max_rate_hz / 2, frames=8)
    block = r.camera.read(8, 0.1)
    assert shown(r, patterns, [block]) == [0, 1, 2, 3, 3, 4, 5, 6]
    assert np.diff(block.timestamps_us)[3] < 0.6 * np.diff(block.timestamps_us)[0]


def test_a_stale_frame_shifts_all_that_follow_and_its_times_tell_nothing(rig, bits):
    which, gaps = run(rig, bits, stale_frames=[2])
    assert which == [0, 1, 1, 2, 3, 4, 5, 6]
    assert gaps == pytest.approx(np.ones(7))


def test_a_stale_first_frame_is_from_before(rig, bits):
    r = rig(faults={"stale_frames": [4]})
    patterns = r.layout(10).render(bits(8, 10))
    assert len(r.shoot(patterns[:4])) == 4
    r.start(patterns[4:])
    assert shown(r, patterns, [r.camera.read(4, 0.1)]) == [3, 4, 5, 6]


def test_rates_are_drawn_by_the_seed():
    faults = Faults.model_validate({"dropped_trigger_rate": 0.1, "doubled_trigger_rate": 0.2})
    edges = np.arange(20_000)
    times = seen(faults, 1, edges)
    assert np.mean(times == 0) == pytest.approx(0.1, abs=0.01)
    assert np.mean(times == 2) == pytest.approx(0.9 * 0.2, abs=0.01)
    assert (seen(faults, 1, edges[500:600]) == times[500:600]).all()
    assert (seen(faults, 2, edges) != times).any()
    assert (seen(Faults.model_validate({}), 1, edges) == 1).all()


def test_carrier_jumps_add_up():
    jumps = Faults.model_validate({"carrier_jumps": [(10, 0.01, 0.0), (20, 0.02, -0.03)]})
    assert carrier_offset(jumps, 9) == (0, 0)
    assert carrier_offset(jumps, 10) == (0.01, 0)
    assert carrier_offset(jumps, 25) == pytest.approx((0.03, -0.03))
    assert next_carrier_jump(jumps, 0) == 10
    assert next_carrier_jump(jumps, 10) == 20
    assert next_carrier_jump(jumps, 20) is None


def test_the_carrier_jumps_in_the_middle_of_a_batch(rig, bits):
    jump = (0.02, -0.01)
    r = rig(periodic=False, faults={"carrier_jumps": [(3, *jump)]})
    before = r.scene.truth.carrier
    patterns = r.layout(10).render(bits(6, 10))
    frames = r.shoot(patterns)
    assert r.scene.truth.carrier == pytest.approx((before[0] + jump[0], before[1] + jump[1]))
    after = r.scene.truth.energies[0] * r.scene.truth.intensities(patterns)
    off = np.abs(frames - after).max(axis=(1, 2))
    assert (off[:3] > 100).all()
    assert (off[3:] < 0.1).all()


def test_an_interlock_that_opens_cuts_the_light_and_the_bench_refuses(rig, bits):
    with simulated_bench("realistic", faults={"interlock_opens_at": 20}) as bench:
        patterns = bench.layout(10).render(bits(10, 10))
        bench.expose(patterns)
        with pytest.raises(LaserSafetyError, match="went dark"):
            bench.expose(patterns)
        assert not bench.laser.emitting
        assert (bench.camera._scene.truth.powers_mw[20:] == 0).all()
        with pytest.raises(LaserSafetyError):
            bench.expose(patterns)


def test_an_unplugged_camera_is_lost_until_it_is_opened_again(rig, bits):
    r = rig(faults={"camera_lost_at": 6})
    patterns = r.layout(10).render(bits(4, 10))
    r.shoot(patterns)
    r.start(patterns)
    with pytest.raises(DeviceLostError, match="cable"):
        r.camera.read(4, 0.1)
    r.camera.disarm()
    with pytest.raises(DeviceLostError):
        r.camera.arm(1)
    r.camera.close()
    r.camera.open()
    r.configure()
    assert len(r.shoot(patterns)) == 4
