import numpy as np
import pytest

from opu_driver.camera import PixelFormat, Region, Trigger
from opu_driver.errors import CaptureTimeoutError, LaserSafetyError, SettingError
from opu_driver.virtual.camera import VirtualCamera
from opu_driver.virtual.laser import VirtualLaser
from opu_driver.virtual.modulators import VirtualDMD, VirtualSLM
from opu_driver.virtual.scene import Scene
from opu_driver.virtual.settings import preset


@pytest.mark.parametrize(
    ("device", "options", "told"),
    [
        (VirtualDMD, {"shape": (8, 64)}, "8 x 64"),
        (VirtualDMD, {"pitch_um": 0.0}, "pitch_um = 0"),
        (VirtualDMD, {"capacity": 0}, "capacity = 0"),
        (VirtualSLM, {"levels": 2}, "levels = 2"),
        (VirtualSLM, {"levels": 257}, "levels = 257"),
        (VirtualCamera, {"sensor_shape": (8, 128)}, "8 x 128"),
        (VirtualDMD, {"shape": (10_000, 10_000)}, "10000 x 10000"),
        (VirtualCamera, {"sensor_shape": (10_000, 10_000)}, "10000 x 10000"),
        (VirtualCamera, {"row_time_us": -1.0}, "row_time_us = -1"),
        (VirtualLaser, {"max_power_mw": 0.0}, "max_power_mw = 0"),
        (VirtualLaser, {"wavelength_nm": float("nan")}, "wavelength_nm = nan"),
    ],
)
def test_devices_refuse_what_cannot_be(device, options, told):
    with pytest.raises(SettingError, match=told):
        device(Scene(preset("ideal"), seed=0), **options)


def test_a_medium_too_large_for_memory_is_refused(rig):
    with pytest.raises(SettingError, match=r"GiB.*scene\.cells"):
        rig(sensor_shape=(2048, 2048), shape=(256, 256), cells=(256, 256))


def test_a_full_size_dmd_shows_its_macropixels(rig, bits):
    r = rig(shape=(1080, 1920), cells=(32, 32))
    patterns = r.layout(10).render(bits(6, 10))
    assert r.shoot(patterns).std() > 0
    assert len(r.scene.optics().mirrors.groups) <= 11


def test_edges_faster_than_the_camera_are_not_taken(rig, bits):
    r = rig(shape=(32, 32))
    patterns = r.layout(10).render(bits(9, 10))
    r.start(patterns, rate_hz=1.6 * r.camera.max_rate_hz)
    block = r.camera.read(9, 0.1)
    assert len(block) == 5
    assert np.diff(block.timestamps_us).min() >= 1e6 / r.camera.max_rate_hz
    clear = r.scene.truth.energies[0] * r.scene.truth.intensities(patterns[::2])
    assert block.frames == pytest.approx(clear, abs=0.5, rel=1e-3)
    with pytest.raises(CaptureTimeoutError, match="5 of 9"):
        r.camera.read(1, 0.1)


def test_no_more_frames_come_than_were_armed_for(rig, bits):
    r = rig()
    r.start(r.layout(10).render(bits(9, 10)), frames=4)
    assert len(r.camera.read(100, 0.1)) == 4
    with pytest.raises(CaptureTimeoutError):
        r.camera.read(1, 0.1)


def test_an_unarmed_camera_sees_no_edges(rig, bits):
    r = rig()
    r.modulator.load(r.layout(10).render(bits(5, 10)))
    r.modulator.start(1000.0)
    assert r.scene.exposures == 0
    assert r.scene.clock_us >= 5000


def test_timestamps_are_the_scene_s_clock(rig, bits):
    r = rig(settling_us=7.0)
    begin_us = r.scene.clock_us
    r.start(r.layout(10).render(bits(4, 10)), rate_hz=500.0)
    times = r.camera.read(4, 0.1).timestamps_us
    assert times == pytest.approx(begin_us + 7.0 + 2000.0 * np.arange(4))


def test_exposure_and_rows_limit_the_rate(rig):
    r = rig(sensor_shape=(200, 40))
    fast = r.camera.max_rate_hz
    r.configure(exposure_us=5000.0)
    assert r.camera.max_rate_hz < 200
    r.configure(region=Region(0, 0, 20, 40))
    assert r.camera.max_rate_hz > 2 * fast


def test_a_software_trigger_exposes_what_the_modulator_holds(rig, bits):
    r = rig()
    r.configure(trigger=Trigger.SOFTWARE)
    patterns = r.layout(10).render(bits(3, 10))
    clear = r.scene.truth.intensities(patterns)
    r.modulator.load(patterns)
    r.camera.arm(4)
    for k in (0, 1, 1, 2):
        while r.modulator._shown <= k:
            r.modulator.step()
        r.camera.trigger()
        frame = r.camera.read(1, 0.1).frames[0]
        assert frame == pytest.approx(r.scene.truth.energies[-1] * clear[k], rel=1e-4, abs=0.02)
    with pytest.raises(CaptureTimeoutError):
        r.camera.trigger()
        r.camera.read(1, 0.1)


def test_a_free_camera_runs_on_its_own_clock(rig, bits):
    r = rig()
    r.configure(trigger=Trigger.FREE)
    patterns = r.layout(10).render(bits(3, 10))
    clear = r.scene.truth.intensities(patterns)
    r.modulator.load(patterns)
    r.camera.arm(9)
    r.modulator.start(r.camera.max_rate_hz / 3)
    block = r.camera.read(100, 0.1)
    assert len(block) == 9
    expected = r.scene.truth.energies[0] * np.repeat(clear, 3, axis=0)
    assert block.frames == pytest.approx(expected, rel=1e-4, abs=0.02)
    assert np.diff(block.timestamps_us) == pytest.approx(1e6 / r.camera.max_rate_hz)
    with pytest.raises(CaptureTimeoutError):
        r.camera.read(1, 0.1)


def test_a_stopped_modulator_is_dark(rig, bits):
    r = rig()
    r.configure(trigger=Trigger.SOFTWARE)
    r.modulator.load(r.layout(10).all_on())
    r.modulator.step()
    r.modulator.stop()
    r.camera.arm(1)
    r.camera.trigger()
    frame = r.camera.read(1, 0.1).frames[0]
    off = r.scene.truth.intensities(r.layout(10).all_off())[0]
    assert frame == pytest.approx(r.scene.truth.energies[0] * off, rel=1e-4, abs=0.02)


def test_patterns_are_kept_as_they_were_loaded(rig, bits):
    r = rig()
    patterns = r.layout(10).render(bits(3, 10))
    before = r.scene.truth.intensities(patterns)
    r.modulator.load(patterns)
    patterns[:] = 0
    r.camera.arm(3)
    r.modulator.start(100.0)
    frames = r.camera.read(3, 0.1).frames
    assert frames == pytest.approx(r.scene.truth.energies[0] * before, rel=1e-4, abs=0.02)


def test_loading_the_next_batch_leaves_unread_frames_alone(rig, bits):
    r = rig()
    patterns = r.layout(10).render(bits(3, 10))
    r.start(patterns, frames=6)
    r.modulator.load(r.layout(7).render(bits(3, 7)))
    frames = r.camera.read(3, 0.1).frames
    clear = r.scene.truth.intensities(patterns)
    assert frames == pytest.approx(r.scene.truth.energies[0] * clear, rel=1e-4, abs=0.02)


def test_the_enclosure_cuts_the_light_and_keeps_it_off(rig):
    r = rig()
    assert r.laser.output_mw == 10.0
    r.laser.open_enclosure()
    assert r.laser.output_mw == 0
    with pytest.raises(LaserSafetyError):
        r.laser.check()
    r.laser.close_enclosure()
    assert not r.laser.emitting
    r.laser.check()


def test_only_an_ideal_camera_does_not_round(rig):
    assert rig("ideal").camera.pixel_formats[0] is PixelFormat.FLOAT32
    assert PixelFormat.FLOAT32 not in rig("realistic").camera.pixel_formats
    assert rig("realistic").camera.pixel_formats[0] is PixelFormat.MONO8


def test_identities_follow_the_seed(rig):
    same = rig(seed=3).camera.identity, rig(seed=3).camera.identity
    assert same[0] == same[1]
    assert rig(seed=4).camera.identity != same[0]
