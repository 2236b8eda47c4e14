import json

import numpy as np
import pytest
import torch

from calibration import demodulation_path
from calibration.carrier import Carrier
from calibration.demodulation import Demodulator
from calibration.demodulation_path import REFERENCE, DemodulationPath, choose_path
from calibration.pipeline import calibrate
from calibration.projector import OpticalProjector
from calibration.separable_demodulation import SeparableDemodulator
from calibration.setup import Setup, from_json, to_json
from calibration.wiener import LEAST_NOISE, Levels, measure_levels
from opu_driver import simulated_bench
from opu_driver.camera import CameraSettings, Region
from opu_driver.device import Identity
from opu_driver.errors import SettingError
from opu_driver.layout import Layout

CLEAR = Carrier(0.3, 0.3, 0.0, 0.0, 0.12, 0.0)
CLOSE = Carrier(0.27, 0.25, 0.0, 0.0, 0.12, 0.0)


@pytest.fixture
def speeds(monkeypatch):
    """Frames a second of each path, instead of those of this machine."""
    speeds = {"reference": 4000.0, "separable": 20000.0}
    monkeypatch.setattr(demodulation_path, "_gpu", lambda shape: False)
    monkeypatch.setattr(
        demodulation_path, "frames_per_second", lambda made, dtype: speeds[made.path.name]
    )
    return speeds


@pytest.fixture
def frames(holograms):
    rng = np.random.default_rng(1)
    return holograms(rng, (256, 256), carrier=(0.3, 0.3), count=2).grey(rng)


class TestChoice:
    def test_the_reference_where_it_keeps_up(self, frames, speeds, caplog):
        assert choose_path(frames, CLEAR, rate_hz=speeds["reference"]) == REFERENCE
        assert not caplog.records

    def test_the_filter_where_it_does_not(self, frames, speeds, caplog):
        path = choose_path(frames, CLEAR, rate_hz=speeds["separable"])
        assert path.name == "separable"
        demodulator = path.demodulator((256, 256), CLEAR)
        assert isinstance(demodulator, SeparableDemodulator)
        assert demodulator.path == path
        assert demodulator.decimation == 4
        assert not caplog.records

    def test_the_reference_where_orders_are_close(self, holograms, speeds, caplog):
        rng = np.random.default_rng(1)
        frames = holograms(rng, (256, 256), carrier=(0.27, 0.25), count=2).grey(rng)
        assert choose_path(frames, CLOSE, rate_hz=20000) == REFERENCE
        told = " ".join(record.getMessage() for record in caplog.records)
        assert "4,000 frames/s here, 20,000 from the bench: it does not keep up" in told
        assert "orders are too close" in told

    @pytest.mark.parametrize("fastest", ["separable", "reference"])  # with a GPU, perhaps
    def test_the_fastest_where_none_keeps_up(self, frames, speeds, caplog, fastest):
        speeds[fastest] = 30000.0
        assert choose_path(frames, CLEAR, rate_hz=40000).name == fastest
        assert "30,000 frames/s here" in caplog.text

    def test_frames_that_are_all_border(self, frames):
        with pytest.raises(SettingError, match="at least 8 grains a side .* 34 pixels"):
            choose_path(frames[:, :32, :128], CLEAR, rate_hz=1000)


def test_the_speed_is_measured_once(monkeypatch):
    calls = []

    class Counting(Demodulator):
        def __call__(self, frames, out=None):
            calls.append(frames.dtype)
            return super().__call__(frames, out)

    monkeypatch.setattr(demodulation_path, "_measured", {})
    counting = Counting((64, 64), CLEAR)
    first, again = (demodulation_path.frames_per_second(counting, np.dtype("u2")) for _ in "ab")
    assert first == again > 0
    assert set(calls) == {np.dtype("u2")}
    assert len(calls) == 5


def test_small_frames_look_for_no_gpu(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)  # its import would raise
    demodulator = REFERENCE.demodulator((64, 64), CLEAR)
    assert type(demodulator) is Demodulator
    assert demodulator.path is REFERENCE


def test_the_path_is_all_that_a_filter_depends_on(frames):
    path = DemodulationPath("separable", 12, Levels(3.0, 0.02))
    first, again = (path.demodulator((256, 256), CLEAR, decimation=4) for _ in range(2))
    assert first.path == path
    assert np.array_equal(first(frames), again(frames))


def test_levels_of_holograms(holograms):
    rng = np.random.default_rng(3)
    truth = holograms(rng, (512, 512), carrier=(0.3, 0.3), electrons=1500, waist=30, ratio=6)
    frames = truth.frames(rng, read=10, gain=5) + 12
    levels = measure_levels(frames, CLEAR, black_level=12)
    assert levels.reference == pytest.approx(6, rel=0.1)
    noise = (truth.light.mean() + 10**2) / truth.signal**2
    assert levels.noise == pytest.approx(noise, rel=0.1)


def test_levels_of_light_without_noise(holograms):
    truth = holograms(np.random.default_rng(3), (128, 128), carrier=(0.3, 0.3))
    assert measure_levels(truth.light, CLEAR).noise == LEAST_NOISE


def test_levels_where_no_place_is_empty(holograms):
    rng = np.random.default_rng(3)
    truth = holograms(rng, (128, 128), carrier=(0.25, 0.25), radius=0.245, count=4)
    levels = measure_levels(truth.frames(rng), Carrier(0.25, 0.25, 0, 0, 0.245, 0))
    assert 1 < levels.reference < 10
    assert levels.noise < 0.5


def test_a_record_says_which():
    assert str(REFERENCE) == "reference path"
    assert str(DemodulationPath("separable", 8, Levels())) == "separable path, 17 x 17 pixels"


class TestRefusals:
    @pytest.mark.parametrize("value", [0.0, -1.0, np.inf, np.nan])
    def test_levels(self, value):
        with pytest.raises(SettingError, match="reference = "):
            Levels(reference=value)
        with pytest.raises(SettingError, match="noise = "):
            Levels(noise=value)

    def test_paths(self):
        with pytest.raises(SettingError, match="has both"):
            DemodulationPath("separable")
        with pytest.raises(SettingError, match="has both"):
            DemodulationPath("reference", 8, Levels())


class TestSetup:
    """T is used the way it was measured."""

    @pytest.fixture
    def setup(self):
        return Setup(
            identities={
                kind: Identity("maker", kind, "1") for kind in ("modulator", "camera", "laser")
            },
            settings=CameraSettings(100.0, Region(0, 0, 64, 64)),
            power_mw=10.0,
            relative_exposure=1000.0,
            layout=Layout.fit(10, (64, 64)),
            carrier=CLEAR,
            decimation=4,
            path=DemodulationPath("separable", 12, Levels(3.0, 0.02)),
            seed=3,
            software="0.1.0",
        )

    def test_keeps_the_path(self, setup):
        again, _ = from_json(to_json(setup))
        assert again == setup
        assert again.demodulator().path == setup.path
        assert isinstance(again.demodulator(), SeparableDemodulator)

    def test_without_a_path_it_was_the_reference(self, setup):
        content = json.loads(to_json(setup))
        del content["setup"]["path"]
        old, _ = from_json(json.dumps(content))
        assert old.path == REFERENCE
        assert old.demodulator().path == REFERENCE

    @pytest.mark.parametrize(
        "damage",
        [
            {"name": "fast"},
            {"reach": 0},
            {"reach": 13},
            {"reach": 4_000_000},
            {"levels": None},
            {"levels": {"reference": -1.0, "noise": 0.1}},
        ],
    )
    def test_a_damaged_path(self, setup, damage):
        content = json.loads(to_json(setup))
        content["setup"]["path"].update(damage)
        with pytest.raises(ValueError, match="setup, "):
            from_json(json.dumps(content))


def test_a_bench_is_calibrated_and_used_on_one_path(monkeypatch):
    """A machine for which the reference is too slow; later, one for which it would not be."""
    with simulated_bench("quiet", 1, carrier=(0.3, 0.3)) as bench:
        with monkeypatch.context() as slow:
            slow.setattr(
                demodulation_path,
                "frames_per_second",
                lambda made, dtype: 1.0 if made.path == REFERENCE else 1e6,
            )
            calibration = calibrate(bench, 10)
        assert calibration.path.name == "separable"
        assert calibration.quality.held_out_correlation > 0.999
        projector = OpticalProjector(bench, calibration)
        codes = torch.from_numpy(np.random.default_rng(0).integers(-1, 2, (50, 10)))
        projected, expected = projector.project(codes), calibration.twin().project(codes)
        # Its noise is 1.4 times that of the reference path, which comes to 0.028 here.
        assert float((projected - expected).norm() / expected.norm()) < 0.045
        monkeypatch.setattr(demodulation_path, "frames_per_second", lambda made, dtype: 1e6)
        assert calibrate(bench, 10).path == REFERENCE
