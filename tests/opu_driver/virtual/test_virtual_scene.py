import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from opu_driver import simulated_bench
from opu_driver.camera import PixelFormat, Region, Trigger
from opu_driver.errors import DeviceStateError, SettingError
from opu_driver.virtual.camera import VirtualCamera
from opu_driver.virtual.modulators import VirtualDMD, VirtualSLM
from opu_driver.virtual.scene import Scene
from opu_driver.virtual.settings import preset

DRIFTS = {
    "phase_walk_rad": 0.02,
    "phase_jitter_rad": 0.1,
    "laser_noise": 0.01,
    "laser_drift": 0.02,
}


def expected(r, patterns, first=0):
    """Electrons of past exposures, from the truth."""
    truth = r.scene.truth
    some = slice(first, first + len(patterns))
    phase = np.exp(1j * truth.phases[some])[:, None, None]
    signal, reference = np.abs(truth.fields(patterns)) ** 2, np.abs(truth.reference()) ** 2
    bright = truth.response() * (signal + reference)
    fringes = 2 * (phase * truth.holograms(patterns)).real
    return truth.energies[some, None, None] * (bright + fringes)


@pytest.mark.parametrize("levels", [2, 16])
@pytest.mark.parametrize("n_inputs", [10, 300])
def test_frames_are_what_the_truth_says(rig, bits, levels, n_inputs):
    """Without photon and read noise; with few groups, and with more than are kept."""
    r = rig(
        **DRIFTS,
        levels=levels,
        shape=(40, 36),
        leakage=3e-3,
        fill_factor=0.9,
        prnu=0.02,
        pixel_fill=0.8,
        periodic=False,
        reference_waist=1.5,
    )
    patterns = r.layout(n_inputs).render(bits(12, n_inputs))
    electrons = r.electrons(patterns)
    assert electrons == pytest.approx(expected(r, patterns), rel=1e-4, abs=0.02)
    assert electrons.mean() == pytest.approx(2000, rel=0.4)


def test_both_ways_to_the_fields_agree(rig, bits):
    r = rig("quiet", decorrelation=1e-3)
    patterns = r.layout(10).render(bits(7, 10))
    r.scene.wait(0.1)
    by_groups = r.scene.truth.fields(patterns)
    r.scene.optics().mirrors._limit = 1
    assert r.scene.truth.fields(patterns) == pytest.approx(by_groups, abs=1e-5)


def test_a_half_lit_modulator_gives_the_electrons_it_should(rig, bits):
    means = [
        rig("ideal", seed, electrons_per_nj=3.0, speckle_radius=0.15, carrier=(0.3, 0.3))
        for seed in range(12)
    ]
    half = np.array([[0, 1] * 8, [1, 0] * 8], np.uint8)
    mean = np.mean([r.electrons(r.layout(16).render(half)).mean() for r in means])
    assert mean == pytest.approx(10 * 100 * 3.0, rel=0.02)


@pytest.mark.parametrize("ratio", [0.5, 4.0, 20.0])
def test_reference_and_signal_have_their_ratio(rig, bits, ratio):
    r = rig(reference_ratio=ratio, reference_waist=0.8)
    truth = r.scene.truth
    half = np.array([[0, 1] * 8, [1, 0] * 8], np.uint8)
    signal = np.mean(np.abs(truth.fields(r.layout(16).render(half))) ** 2)
    reference = np.mean(np.abs(truth.reference()) ** 2)
    assert reference / signal == pytest.approx(ratio, rel=0.35)
    assert reference == pytest.approx(ratio, rel=1e-4)


def test_the_reference_falls_off_by_its_waist(rig):
    r = rig(reference_waist=0.5, sensor_shape=(65, 65))
    profile = np.abs(r.scene.truth.reference())
    assert profile[32, 32] == profile.max()
    row, column = np.ogrid[-32:33, -32:33]
    gauss = np.exp(-(row**2 + column**2) / (0.5 * 65) ** 2)
    assert profile / profile[32, 32] == pytest.approx(gauss, rel=1e-4)


def test_the_sideband_lies_at_the_carrier_in_the_positive_half(rig, bits):
    r = rig(periodic=False, sensor_shape=(128, 128))
    patterns = r.layout(10).render(bits(40, 10))
    frames = r.electrons(patterns)
    frames -= frames.mean(axis=0)
    row, column = np.ogrid[:128, :128]
    f = preset("ideal").carrier
    shifted = frames * np.exp(-2j * np.pi * (f[0] * row + f[1] * column))
    window = np.hanning(128)[:, None] * np.hanning(128)
    spectrum = np.mean(np.abs(np.fft.fft2(shifted * window)) ** 2, axis=0)
    fy, fx = np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128)
    near = np.hypot(fy, fx) < 0.2
    centre = [np.sum(spectrum * axis * near) / np.sum(spectrum * near) for axis in (fy, fx)]
    assert centre == pytest.approx([0, 0], abs=0.01)
    inside = spectrum[np.hypot(fy, fx) < 0.11].mean()
    beyond = spectrum[(np.hypot(fy, fx) > 0.14) & near].mean()
    assert beyond < 0.05 * inside
    # R* S, not its conjugate: demodulated at the carrier, the field is the truth's.
    signal = np.conj(r.scene.truth.reference()) * r.scene.truth.fields(patterns)
    tilt = np.exp(-2j * np.pi * (f[0] * row + f[1] * column))
    kept = np.fft.ifft2(np.fft.fft2(shifted) * (np.hypot(fy, fx) < 0.13))
    true = signal * tilt
    true -= true.mean(axis=0)
    match = np.vdot(true[:, 16:-16, 16:-16], kept[:, 16:-16, 16:-16])
    norm = np.linalg.norm(true[:, 16:-16, 16:-16]) * np.linalg.norm(kept[:, 16:-16, 16:-16])
    assert abs(match) / norm > 0.98
    assert abs(np.angle(match)) < 0.02


def test_frames_are_linear_in_power_and_exposure(rig, bits):
    frames = []
    for power_mw, exposure_us in ((5.0, 50.0), (10.0, 50.0), (5.0, 100.0)):
        r = rig(power_mw=power_mw)
        r.configure(exposure_us=exposure_us)
        frames.append(r.electrons(r.layout(10).render(bits(3, 10))))
    assert frames[1] == pytest.approx(2 * frames[0], rel=1e-5)
    assert frames[2] == pytest.approx(2 * frames[0], rel=1e-5)


def test_gain_and_bits_scale_grey_values(rig, bits):
    r = rig("quiet", shot_noise=False, read_noise_electrons=0.0, dark_electrons_per_s=0.0)
    patterns = r.layout(10).render(bits(1, 10)[:1])
    grey = {}
    for kind, gain_db in ((PixelFormat.MONO8, 0.0), (PixelFormat.MONO12, 0.0), ("gain", 6.0)):
        r.configure(
            pixel_format=PixelFormat.MONO12 if kind == "gain" else kind,
            gain_db=gain_db,
            exposure_us=30.0,
        )
        black = r.camera.black_level
        light = r.shoot(patterns)[0].astype(float) - black
        grey[kind] = light / r.scene.truth.powers_mw[-1]
    assert grey[PixelFormat.MONO12].mean() / grey[PixelFormat.MONO8].mean() == pytest.approx(
        4095 / 255, rel=0.01
    )
    assert grey["gain"].mean() / grey[PixelFormat.MONO12].mean() == pytest.approx(
        10 ** (6 / 20), rel=0.01
    )


def test_too_much_light_saturates_at_the_stated_level(rig, bits):
    for name in ("realistic", "ideal"):
        r = rig(name)
        r.configure(exposure_us=1e6)
        frames = r.shoot(r.layout(10).render(bits(2, 10)))
        assert frames.max() == r.camera.saturation_level
        assert np.mean(frames == r.camera.saturation_level) > 0.9


def test_without_light_there_is_only_the_black_level(rig, bits):
    r = rig("realistic")
    r.laser.darken()
    r.configure(pixel_format=PixelFormat.MONO12)
    frames = r.shoot(r.layout(10).render(bits(20, 10)))
    assert frames.mean() == pytest.approx(r.camera.black_level, abs=0.02)
    read_noise = 13 * (4095 - 82) / 13_500
    assert frames.std() == pytest.approx(np.sqrt(read_noise**2 + 1 / 12), rel=0.02)
    assert (r.scene.truth.powers_mw == 0).all()


def test_noise_of_a_frame_is_shot_and_read_noise(rig, bits):
    r = rig("realistic", leakage=0.0)
    patterns = r.layout(10).render(bits(40, 10))
    off = r.electrons(patterns) - expected(r, patterns)
    light = expected(r, patterns)
    for low, high in ((0, 900), (1000, 1500), (3000, 6000)):
        some = (light > low) & (light < high)
        variance = light[some].mean() + 13.0**2
        assert off[some].var() == pytest.approx(variance, rel=0.03)
        assert off[some].mean() == pytest.approx(0, abs=5 * np.sqrt(variance / some.sum()) + 0.3)


def test_mirrors_that_are_off_leak(rig):
    dark = rig(leakage=0.0).scene.truth
    r = rig(leakage=0.01)
    off, on = r.layout(1).all_off(), r.layout(1).all_on()
    fields = r.scene.truth.fields(np.concatenate([off, on]))
    assert fields[0] == pytest.approx(0.1 * fields[1], abs=1e-5)
    assert np.abs(dark.fields(off)).max() < 1e-6


def test_gaps_between_mirrors_add_a_background_of_their_own(rig):
    r = rig(fill_factor=0.8, speckle_radius=0.15)
    fields = r.scene.truth.fields(np.concatenate([r.layout(1).all_off(), r.layout(1).all_on()]))
    power = np.mean(np.abs(fields) ** 2, axis=(1, 2))
    assert power[0] == pytest.approx(2 * (0.2 / 0.8) ** 2, rel=0.3)
    own = fields[1] - fields[0]
    likeness = np.vdot(own, fields[0]) / np.linalg.norm(own) / np.linalg.norm(fields[0])
    assert abs(likeness) < 0.25


def test_pixels_differ_in_sensitivity(rig):
    r = rig(prnu=0.02)
    response = r.scene.truth.response()
    assert response.std() == pytest.approx(0.02, rel=0.1)
    part = r.scene.truth.response(Region(3, 4, 20, 10))
    assert (part == response[3:23, 4:14]).all()


@pytest.mark.parametrize("n_inputs", [10, 300])
@pytest.mark.parametrize("delay_us", [0.0, 8.0, 20.0, 30.0])
def test_an_exposure_that_starts_before_the_mirrors_rest_sees_both_patterns(
    rig, bits, n_inputs, delay_us
):
    r = rig(settling_us=20.0, shape=(40, 36))
    r.configure(exposure_us=40.0, trigger_delay_us=delay_us)
    patterns = r.layout(n_inputs).render(bits(6, n_inputs))
    frames = r.shoot(patterns).astype(float)
    rest = np.zeros((1, *patterns.shape[1:]), np.uint8)
    share = max(20.0 - delay_us, 0.0) / 40.0
    clear = r.scene.truth.intensities(np.concatenate([rest, patterns]))
    mixed = (1 - share) * clear[1:] + share * clear[:-1]
    assert frames == pytest.approx(r.scene.truth.energies[0] * mixed, rel=1e-4, abs=0.02)


@pytest.mark.parametrize("n_inputs", [10, 300])
@pytest.mark.parametrize(("delay_us", "share"), [(20.0, 0.0), (100.0, 0.0), (140.0, 0.2)])
def test_an_exposure_that_outlasts_its_pattern_sees_the_next(rig, bits, n_inputs, delay_us, share):
    """Exposures of 125 us, of patterns that are there from 20 to 240 us after their edge."""
    r = rig(settling_us=20.0, shape=(40, 36))
    r.configure(exposure_us=125.0, trigger_delay_us=delay_us)
    patterns = r.layout(n_inputs).render(bits(6, n_inputs))
    r.start(patterns, rate_hz=1e6 / 220)
    frames = r.camera.read(10, 1.0).frames.astype(float)
    clear = r.scene.truth.intensities(np.concatenate([patterns, patterns[-1:]]))
    mixed = (1 - share) * clear[:-1] + share * clear[1:]
    assert frames == pytest.approx(r.scene.truth.energies[0] * mixed, rel=1e-4, abs=0.02)


def noisy(rig, name="rough", n=40, block=10_000, seed=5, n_inputs=10):
    r = rig(name, seed, decorrelation=3e-4)
    rng = np.random.default_rng(1)
    patterns = r.layout(n_inputs).render(rng.integers(0, 2, (n, n_inputs), np.uint8))
    return r.shoot(patterns, block)


def test_a_run_is_the_same_run_again(rig):
    assert (noisy(rig) == noisy(rig)).all()


@pytest.mark.parametrize("block", [1, 7, 16])
def test_how_frames_are_read_does_not_matter(rig, block):
    """Noise, drift and renewals of the medium, all of them on."""
    assert (noisy(rig, block=block) == noisy(rig)).all()


@pytest.mark.parametrize("n_inputs", [10, 300])
@pytest.mark.parametrize("processors", [1, 3])
def test_how_many_processors_compute_does_not_matter(rig, monkeypatch, n_inputs, processors):
    before = noisy(rig, n_inputs=n_inputs, name="realistic")
    monkeypatch.setattr("opu_driver.virtual.parallel.processors", lambda: processors)
    assert (noisy(rig, n_inputs=n_inputs, name="realistic") == before).all()


def test_patterns_of_many_groups_come_in_pieces(rig, bits, monkeypatch):
    """Pieces of three exposures, some of them mixed with the pattern before."""
    frames = []
    for size in (1 << 28, 3 * 16 * 64 * 48):
        monkeypatch.setattr("opu_driver.virtual.optics._BATCH_BYTES", size)
        r = rig("rough", shape=(40, 36), faults={"doubled_triggers": [2, 5]})
        r.configure(trigger_delay_us=0.0)
        frames.append(r.shoot(r.layout(300).render(bits(10, 300))))
    assert (frames[0] == frames[1]).all()


def test_seeds_give_different_benches(rig):
    one, other = (noisy(rig, seed=seed).astype(float) for seed in (1, 2))
    assert abs(np.corrcoef(one[0].ravel(), other[0].ravel())[0, 1]) < 0.2


def test_no_two_exposures_of_one_pattern_are_equal(rig):
    r = rig("quiet")
    frames = r.shoot(np.repeat(r.layout(10).all_on(), 4, axis=0))
    assert len({frame.tobytes() for frame in frames}) == 4


def test_noise_is_in_the_frame_whatever_pattern_it_shows(rig, bits):
    """The same exposure number has the same read noise in the dark."""
    frames = []
    for seed in (0, 1):
        r = rig("realistic")
        r.laser.darken()
        frames.append(r.shoot(r.layout(10).render(bits(3, 10, seed))))
    assert (frames[0] == frames[1]).all()


def test_waiting_lets_everything_drift(rig):
    r = rig("rough", decorrelation=1e-5, phase_jitter_rad=0.0, laser_noise=0.0)
    pattern = r.layout(1).all_on()
    r.shoot(pattern)
    before = r.scene.truth.fields(pattern)
    clock_us = r.scene.clock_us
    r.scene.wait(20.0)
    r.shoot(pattern)
    after = r.scene.truth.fields(pattern)
    kept = abs(np.vdot(before, after)) / np.linalg.norm(before) / np.linalg.norm(after)
    assert kept == pytest.approx(np.exp(-0.1), abs=0.05)
    assert abs(np.diff(r.scene.truth.phases)[0]) > 0.02
    assert r.scene.clock_us - clock_us > 20e6


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_time_goes_forward(rig, seconds):
    with pytest.raises(SettingError):
        rig().scene.wait(seconds)


def test_inputs_add_up_to_their_patterns(rig, bits):
    r = rig("quiet")
    layout = r.layout(10)
    chosen = bits(5, 10)
    inputs = r.scene.truth.inputs(layout)
    sums = np.tensordot(chosen.astype(np.float32), inputs, 1)
    fields = r.scene.truth.fields(layout.render(chosen)) - r.scene.truth.fields(layout.all_off())
    assert sums == pytest.approx(fields, abs=1e-4)


def test_a_slm_is_dark_on_its_checkerboard(rig):
    r = rig(levels=256)
    fields = r.scene.truth.fields(np.concatenate([r.layout(1).all_off(), r.layout(1).all_on()]))
    assert np.abs(fields[0]).max() < 1e-5 * np.abs(fields[1]).max()


def test_a_slm_of_one_pixel_a_cell_is_refused():
    scene = Scene(preset("ideal"), seed=0)
    with pytest.raises(SettingError, match=r"SLM of shape 64 x 63; .* 32 x 32 cells .* 2 x 2"):
        VirtualSLM(scene, (64, 63))
    assert VirtualSLM(scene, (64, 64)).shape == (64, 64)


@pytest.mark.parametrize("block", [1, 3, 20])
def test_the_light_of_the_latest_exposures_is_remembered(rig, bits, monkeypatch, block):
    powers, some = [], []
    for remembered in (100, 8):
        monkeypatch.setattr("opu_driver.virtual.scene.REMEMBERED", remembered)
        r = rig("realistic")
        patterns = r.layout(10).render(bits(20, 10))
        for k in range(0, 20, block):
            r.shoot(patterns[k : k + block])
        powers.append(r.scene.truth.powers_mw)
        some.append(sum(piece.shape[1] for piece in r.scene.past))
    assert len(powers[0]) == 20
    assert (powers[1] == powers[0][-8:]).all()
    assert some[0] == 20
    assert some[1] < 8 + block


def test_a_slm_turns_phases(rig):
    r = rig(levels=8)
    patterns = np.stack([np.full((32, 32), level, np.uint8) for level in (0, 2, 4)])
    fields = r.scene.truth.fields(patterns)
    assert fields[1] == pytest.approx(1j * fields[0], abs=1e-5)
    assert fields[2] == pytest.approx(-fields[0], abs=1e-5)


def test_a_scene_has_one_device_of_a_kind(rig):
    r = rig()
    with pytest.raises(DeviceStateError, match="modulator already"):
        VirtualDMD(r.scene)
    with pytest.raises(DeviceStateError, match="camera already"):
        VirtualCamera(r.scene)


def test_a_virtual_camera_needs_a_virtual_modulator():
    scene = Scene(preset("ideal"), seed=0)
    with pytest.raises(DeviceStateError, match="both"):
        VirtualCamera(scene).open()


def test_a_scene_refuses_a_bad_seed():
    with pytest.raises(ValidationError):
        Scene(preset("ideal"), seed=-1)


@settings(max_examples=10)
@given(
    # Fewer pixels hold too few grains for the markers to prove anything.
    rows=st.integers(32, 70),
    columns=st.integers(32, 70),
    name=st.sampled_from(["ideal", "realistic"]),
)
def test_any_sensor_shape_works(rows, columns, name):
    with simulated_bench(
        name, cells=(4, 4), modulator={"shape": (8, 9)}, camera={"sensor_shape": (rows, columns)}
    ) as bench:
        frames = bench.expose(bench.layout(3).render(np.eye(3, dtype=np.uint8)))
    assert frames.shape == (3, rows, columns)
    assert frames.std() > 0


def test_modes_of_the_default_bench():
    """128 x 128 pixels, decimated by 4: 1024 complex samples, 2048 real outputs."""
    with simulated_bench("realistic") as bench:
        assert bench.camera.sensor_shape == (128, 128)
        assert bench.camera._scene.truth.radius <= 1 / 8
        assert bench.settings.trigger is Trigger.HARDWARE
