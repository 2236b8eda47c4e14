"""What every modulator and camera must do; run here on the virtual ones."""

from dataclasses import replace

import numpy as np
import pytest

from opu_driver import simulated_bench
from opu_driver.camera import PixelFormat, Region, Trigger
from opu_driver.errors import (
    CaptureTimeoutError,
    DeviceStateError,
    PatternError,
    SettingError,
)


@pytest.fixture(params=["virtual-dmd", "virtual-slm"])
def bench(request):
    with simulated_bench("quiet", modulator={"driver": request.param}) as bench:
        yield bench


@pytest.fixture
def patterns(bench):
    bits = np.random.default_rng(0).integers(0, 2, (5, 10), np.uint8)
    return bench.layout(10).render(bits)


def test_devices_open_once_and_close_twice(bench):
    for device in (bench.modulator, bench.camera, bench.laser):
        with pytest.raises(DeviceStateError, match="open already"):
            device.open()
        device.close()
        device.close()
        assert not device.is_open


def test_devices_have_an_identity(bench):
    serials = {str(identity) for identity in bench.identities.values()}
    assert len(serials) == 3


def test_a_closed_device_refuses_work(bench, patterns):
    bench.modulator.close()
    bench.camera.close()
    with pytest.raises(DeviceStateError, match="not open"):
        bench.modulator.load(patterns)
    with pytest.raises(DeviceStateError, match="not open"):
        bench.camera.arm(1)


def test_a_modulator_refuses_patterns_that_do_not_fit(bench, patterns):
    for wrong in (
        patterns[:, :-1],
        patterns[0],
        patterns.astype(np.int16),
        patterns[:0],
        np.repeat(patterns[:1], bench.modulator.capacity + 1, axis=0),
    ):
        with pytest.raises(PatternError):
            bench.modulator.load(wrong)


def test_a_modulator_refuses_to_show_what_it_does_not_have(bench, patterns):
    with pytest.raises(DeviceStateError, match="load"):
        bench.modulator.step()
    bench.modulator.load(patterns)
    with pytest.raises(SettingError, match="rate"):
        bench.modulator.start(bench.modulator.max_rate_hz * 1.01)
    assert [bench.modulator.step() for _ in patterns] == [0, 1, 2, 3, 4]
    with pytest.raises(DeviceStateError, match="new batch"):
        bench.modulator.step()


def test_a_modulator_counts_what_it_showed(bench, patterns):
    bench.modulator.load(patterns)
    bench.modulator.start(bench.rate_hz)
    assert bench.modulator.wait(5.0) == len(patterns)


@pytest.mark.parametrize(
    "change",
    [
        {"exposure_us": 1e-9},
        {"exposure_us": 1e12},
        {"exposure_us": float("nan")},
        {"gain_db": 1e3},
        {"region": Region(0, 0, 0, 8)},
        {"region": Region(-1, 0, 8, 8)},
        {"region": Region(0, 1, 10**6, 8)},
        {"trigger_delay_us": -1.0},
        {"trigger_delay_us": float("nan")},
    ],
    ids=str,
)
def test_a_camera_refuses_settings_out_of_range_and_keeps_the_old(bench, change):
    before = bench.camera.settings
    with pytest.raises(SettingError):
        bench.camera.configure(replace(before, **change))
    assert bench.camera.settings == before


def test_a_camera_has_states(bench):
    camera = bench.camera
    with pytest.raises(DeviceStateError, match="arm"):
        camera.read(1, 0.1)
    with pytest.raises(SettingError, match="at least 1"):
        camera.arm(0)
    camera.arm(1)
    with pytest.raises(DeviceStateError, match="armed already"):
        camera.arm(1)
    with pytest.raises(DeviceStateError, match="disarm"):
        camera.configure(camera.settings)
    with pytest.raises(DeviceStateError, match="software"):
        camera.trigger()
    with pytest.raises(CaptureTimeoutError):
        camera.read(1, 0.1)
    camera.disarm()
    camera.disarm()


def test_frames_arrive_in_order_and_in_the_type_of_the_pixel_format(bench, patterns):
    camera = bench.camera
    for pixel_format in camera.pixel_formats:
        camera.configure(replace(camera.settings, pixel_format=pixel_format))
        bench.modulator.load(patterns)
        camera.arm(len(patterns))
        bench.modulator.start(bench.rate_hz)
        first, rest = camera.read(2, 5.0), camera.read(100, 5.0)
        camera.disarm()
        assert first.frames.dtype == pixel_format.dtype
        assert first.frames.shape == (2, *camera.settings.region.shape)
        assert [*first.ids, *rest.ids] == [0, 1, 2, 3, 4]
        assert (np.diff([*first.timestamps_us, *rest.timestamps_us]) > 0).all()
        assert rest.lost == 0
        if pixel_format is not PixelFormat.FLOAT32:
            assert first.frames.max() <= 2**pixel_format.bits - 1


def test_arming_forgets_frames_of_before(bench, patterns):
    camera = bench.camera
    bench.modulator.load(patterns)
    camera.arm(len(patterns))
    bench.modulator.start(bench.rate_hz)
    camera.disarm()
    camera.arm(1)
    with pytest.raises(CaptureTimeoutError):
        camera.read(1, 0.1)
    camera.disarm()


def test_a_region_is_a_crop_of_the_sensor(bench):
    camera = bench.camera
    pattern = bench.layout(10).all_on()
    whole = bench.expose(np.repeat(pattern, 64, axis=0)).mean(axis=0)
    bench.configure(replace(camera.settings, region=Region(16, 32, 48, 40)))
    part = bench.expose(np.repeat(pattern, 64, axis=0)).mean(axis=0)
    assert part.shape == (48, 40)
    same = np.corrcoef(part.ravel(), whole[16:64, 32:72].ravel())[0, 1]
    other = np.corrcoef(part.ravel(), whole[20:68, 32:72].ravel())[0, 1]
    assert same > 0.9 > other


def test_software_steps_give_the_frames_of_their_patterns(bench, patterns):
    hardware = bench.expose(patterns).astype(float)
    bench.configure(replace(bench.settings, trigger=Trigger.SOFTWARE))
    stepped = bench.expose(patterns).astype(float)
    match = np.corrcoef(hardware.reshape(5, -1), stepped.reshape(5, -1))[:5, 5:]
    assert (match.argmax(axis=1) == np.arange(5)).all()
    assert match.diagonal().min() > 0.9
