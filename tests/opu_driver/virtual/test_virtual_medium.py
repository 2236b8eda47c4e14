import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opu_driver.camera import Region
from opu_driver.virtual.course import RENEWAL, STEPS
from opu_driver.virtual.medium import Medium
from opu_driver.virtual.settings import SceneSettings, preset

SENSOR = (96, 80)
WHOLE = Region(0, 0, *SENSOR)


def medium(name="ideal", seed=0, sensor=SENSOR, **changes):
    values = preset(name).model_dump() | {"cells": (8, 8)} | changes
    return Medium(SceneSettings.model_validate(values), sensor, seed)


def speckles(m, n=64, seed=0):
    """Fields of random half-lit patterns."""
    rng = np.random.default_rng(seed)
    cells = rng.permuted(np.tile([0, 1], (n, (m.n_sources - 1) // 2)), axis=1)
    sources = np.pad(cells, ((0, 0), (0, 1))).astype(np.float32)
    return m.fields(m.modes(sources), WHOLE).reshape(n, *SENSOR)


def independent(n=60, **changes):
    """Fields of one half-lit pattern behind many media."""
    return np.concatenate([speckles(medium(seed=seed, **changes), 1) for seed in range(n)])


def test_a_half_lit_modulator_has_mean_intensity_one():
    intensity = np.abs(independent()) ** 2
    assert intensity.mean() == pytest.approx(1, rel=0.03)


def test_speckle_has_contrast_one_and_exponential_intensity():
    intensity = np.abs(independent()) ** 2
    assert intensity.std() / intensity.mean() == pytest.approx(1, rel=0.05)
    for level in (0.5, 1.0, 3.0):
        assert np.mean(intensity > level) == pytest.approx(np.exp(-level), rel=0.1)


@pytest.mark.parametrize("radius", [0.06, 0.12])
def test_the_grain_is_half_a_pixel_over_the_radius(radius):
    """The field's autocorrelation over a disc is 2 J1(x)/x; it falls to 1/2 at x = 2.2150."""
    m = medium(speckle_radius=radius, periodic=False)
    fields = speckles(m, 200)
    shift = round(2.2150 / (2 * np.pi * radius))
    measured = np.mean(fields[:, :, shift:] * fields[:, :, :-shift].conj()).real
    measured /= np.mean(np.abs(fields) ** 2)
    x = 2 * np.pi * radius * shift
    from scipy.special import j1

    assert measured == pytest.approx(2 * j1(x) / x, abs=0.05)


def test_modes_fill_a_disc_and_nothing_else():
    spectrum = np.mean(np.abs(np.fft.fft2(speckles(medium()))) ** 2, axis=0)
    row, column = (np.fft.fftfreq(n) for n in SENSOR)
    inside = np.hypot(row[:, None], column) <= 0.12
    assert spectrum[~inside].max() < 1e-9 * spectrum[inside].mean()
    assert medium().n_modes == inside.sum() == pytest.approx(np.pi * 0.12**2 * 96 * 80, rel=0.05)


def test_a_frame_is_a_part_of_a_larger_field_unless_periodic():
    for periodic, steps in ((True, 1.0), (False, 5.0)):
        fields = speckles(medium(periodic=periodic))
        edge = np.mean(np.abs(fields[:, 0] - fields[:, -1]) ** 2)
        inside = np.mean(np.abs(fields[:, 1:] - fields[:, :-1]) ** 2)
        assert edge / inside == pytest.approx(1, abs=0.3) if periodic else edge > steps * inside


def test_a_periodic_carrier_lies_on_a_bin():
    row, column = medium(periodic=True).carrier
    assert row * SENSOR[0] == pytest.approx(round(row * SENSOR[0]))
    assert column * SENSOR[1] == pytest.approx(round(column * SENSOR[1]))
    assert medium(periodic=False).carrier == preset("ideal").carrier


def test_a_region_is_a_crop():
    m = medium("quiet")
    modes = m.modes(np.eye(3, m.n_sources, dtype=np.float32))
    whole = m.fields(modes, WHOLE).reshape(3, *SENSOR)
    part = m.fields(modes, Region(17, 5, 40, 33)).reshape(3, 40, 33)
    assert part == pytest.approx(whole[:, 17:57, 5:38], abs=1e-6)


def test_fields_add_up():
    m = medium("quiet")
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 1, m.n_sources)).astype(np.float32)
    sums = m.fields(m.modes(a + 2j * b), WHOLE)
    parts = m.fields(m.modes(a), WHOLE) + 2j * m.fields(m.modes(b), WHOLE)
    assert sums == pytest.approx(parts, abs=1e-5)


def test_the_aperture_weakens_high_frequencies():
    """Against integrating a fine wave over a square pixel."""
    carrier = (0.28, 0.24)
    fine = (np.arange(200) + 0.5) / 200 - 0.5
    side = np.sqrt(0.8)
    expected = np.prod([np.mean(np.cos(2 * np.pi * f * side * fine)) for f in carrier])
    assert medium("quiet", pixel_fill=0.8, carrier=carrier).contrast == pytest.approx(
        expected, rel=1e-4
    )
    assert medium("ideal").contrast == 1


def field_at(m, age):
    m.grow_to(age)
    modes = m.modes(np.eye(1, m.n_sources, dtype=np.float32))
    return modes[0] / np.linalg.norm(modes[0])


def test_the_medium_decorrelates_as_it_says():
    """`T <- sqrt(1-e) T + sqrt(e) N` keeps a correlation of `(1-e)^(frames/2)`."""
    e = 1e-4
    m = medium(decorrelation=e, speckle_radius=0.3, cells=(2, 1))
    first = field_at(m, 0)
    for frames in (10, 1000, 5000, 10_000):
        kept = abs(np.vdot(first, field_at(m, frames)))
        expected = (1 - e) ** (frames / 2)
        if frames * e < RENEWAL * 1.01:
            assert 1 - kept <= 1.1 * (1 - expected) + 1e-6
        else:
            assert kept == pytest.approx(expected, abs=3 / np.sqrt(m.n_modes))


def test_the_medium_moves_in_small_steps_and_keeps_its_power():
    m = medium(decorrelation=1e-6, speckle_radius=0.3)
    last = field_at(m, 0)
    power = []
    for age in range(8, 3000, 8):
        now = field_at(m, age)
        assert 1 - abs(np.vdot(last, now)) < 1e-6
        last = now
        power.append(np.mean(np.abs(m.modes(np.eye(40, m.n_sources, dtype=np.float32))) ** 2))
    assert np.ptp(power) < 0.02 * np.mean(power)


def test_a_still_medium_never_changes():
    m = medium(decorrelation=0.0)
    first = field_at(m, 0)
    assert m.still_for(0) is None
    assert (field_at(m, 10**12) == first).all()


@settings(max_examples=100)
@given(
    decorrelation=st.floats(1e-10, 0.05),
    age=st.integers(0, 10**7),
)
def test_stillness_ends_exactly_where_the_next_step_begins(decorrelation, age):
    m = medium(sensor=(16, 16), decorrelation=decorrelation)

    def step(at):
        return int(at * (decorrelation / RENEWAL * STEPS))

    still = m.still_for(age)
    assert still >= 1
    assert step(age + still - 1) == step(age)
    assert step(age + still) > step(age)
