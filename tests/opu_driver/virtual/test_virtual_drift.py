import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opu_driver.virtual.drift import Light, normals, random_bits
from opu_driver.virtual.settings import SceneSettings, preset


def light(seed=0, **changes):
    values = preset("ideal").model_dump() | changes
    return Light(SceneSettings.model_validate(values), seed)


def test_deviates_are_normal_and_finite():
    deviates = normals(3, 1, np.arange(200_000))
    assert np.isfinite(deviates).all()
    assert abs(deviates.mean()) < 4 / np.sqrt(deviates.size)
    assert deviates.std() == pytest.approx(1, rel=0.01)
    assert abs(np.mean(deviates[1:] * deviates[:-1])) < 4 / np.sqrt(deviates.size)


def test_streams_and_seeds_differ():
    index = np.arange(100)
    drawn = [random_bits(seed, stream, index) for seed in (0, 1) for stream in (0, 1)]
    assert len({tuple(bits) for bits in drawn}) == 4


def test_an_ideal_light_does_not_change():
    power, phase = light().frames(np.arange(50))
    assert (power == 1).all()
    assert (phase == 0).all()


def test_the_phase_walks_by_its_step():
    _, phase = light(phase_walk_rad=0.02).frames(np.arange(20_000))
    assert np.diff(phase).std() == pytest.approx(0.02, rel=0.03)
    walks = [light(seed, phase_walk_rad=0.02).frames(np.arange(400))[1] for seed in range(300)]
    assert np.std([walk[-1] for walk in walks]) == pytest.approx(0.02 * 20, rel=0.15)


def test_the_phase_jitters_without_walking():
    _, phase = light(phase_jitter_rad=0.1).frames(np.arange(20_000))
    assert phase.std() == pytest.approx(0.1, rel=0.03)
    assert abs(np.corrcoef(phase[1:], phase[:-1])[0, 1]) < 0.03


def test_the_power_is_noisy_by_its_number():
    power, _ = light(laser_noise=0.003).frames(np.arange(20_000))
    assert power.std() == pytest.approx(0.003, rel=0.03)
    assert power.mean() == pytest.approx(1, abs=1e-4)


def test_the_power_drifts_slowly_and_stays():
    drifting = [
        light(seed, laser_drift=0.01, laser_drift_frames=100).frames(np.arange(1000))[0]
        for seed in range(200)
    ]
    power = np.array(drifting)
    assert power[:, 0].std() == pytest.approx(0.01, rel=0.2)
    assert power[:, -1].std() == pytest.approx(0.01, rel=0.2)
    kept = np.mean((power[:, 100] - 1) * (power[:, 200] - 1)) / 1e-4
    assert kept == pytest.approx(np.exp(-1), abs=0.25)
    assert np.diff(power, axis=1).std() < 0.002


@given(cuts=st.lists(st.integers(1, 60), max_size=6))
def test_how_frames_are_batched_does_not_matter(cuts):
    numbers = {"phase_walk_rad": 0.02, "phase_jitter_rad": 0.1, "laser_noise": 0.01}
    ages = np.arange(sum(cuts) + 1)
    power, phase = light(laser_drift=0.01, **numbers).frames(ages)
    again = light(laser_drift=0.01, **numbers)
    pieces = [again.frames(part) for part in np.split(ages, np.cumsum(cuts)) if len(part)]
    assert (np.concatenate([piece[0] for piece in pieces]) == power).all()
    assert (np.concatenate([piece[1] for piece in pieces]) == phase).all()


def test_rest_drifts_as_far_as_frames_would():
    ends = []
    for seed in range(300):
        resting = light(seed, phase_walk_rad=0.02)
        resting.rest(0, 400)
        ends.append(resting.frames(np.array([400]))[1][0])
    assert np.std(ends) == pytest.approx(0.4, rel=0.15)
