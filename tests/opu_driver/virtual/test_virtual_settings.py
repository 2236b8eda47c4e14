import math

import numpy as np
import pytest
from pydantic import ValidationError

from opu_driver import simulated_bench
from opu_driver.errors import BenchFileError
from opu_driver.virtual.settings import SceneSettings, preset

NAMES = ["ideal", "quiet", "realistic", "rough"]


@pytest.mark.parametrize("name", NAMES)
def test_orders_are_apart_and_nothing_aliases_at_any_preset(name):
    settings = preset(name)
    assert math.hypot(*settings.carrier) >= 3 * settings.speckle_radius
    assert max(map(abs, settings.carrier)) + settings.speckle_radius <= 0.5


def test_realistic_is_the_default():
    assert SceneSettings.model_validate({}) == preset("realistic")


def test_presets_go_from_calm_to_rough():
    calm, rough = preset("quiet").model_dump(), preset("rough").model_dump()
    for name in ("phase_walk_rad", "phase_jitter_rad", "laser_noise", "decorrelation", "leakage"):
        assert calm[name] < preset("realistic").model_dump()[name] < rough[name]
        assert preset("ideal").model_dump()[name] == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("speckle_radius", 0.0),
        ("speckle_radius", math.nan),
        ("reference_waist", -1.0),
        ("reference_waist", 1e-6),
        ("reference_ratio", 1e308),
        ("laser_noise", -0.1),
        ("decorrelation", 0.5),
        ("full_well_electrons", 0.0),
        ("full_well_electrons", 1e-300),
        ("electrons_per_nj", 1e308),
        ("fill_factor", 1e-300),
        ("settling_us", 1e308),
        ("dark_electrons_per_s", 1e308),
        ("read_noise_electrons", 1e308),
        ("laser_drift_frames", 1e308),
        ("drift_rate_hz", 1e308),
        ("phase_walk_rad", 1e308),
        ("phase_jitter_rad", 1e308),
        ("faults", {"interlock_opens_at": 10**30}),
        ("fill_factor", 1.5),
        ("carrier", (0.1, math.nan)),
        ("carrier", (0.1, 0.6)),
        ("cells", (0, 4)),
        ("phase_walk_rad", math.inf),
        ("read_noise_electrons", math.nan),
        ("faults", {"dropped_trigger_rate": 2.0}),
        ("faults", {"dropped": [1]}),
        ("faults", {"carrier_jumps": [(1, math.nan, 0.0)]}),
        ("grain", 4.0),
    ],
)
def test_a_number_out_of_its_limits_is_refused_by_name(name, value):
    with pytest.raises(BenchFileError, match=f"scene.{name}"):
        simulated_bench("quiet", **{name: value})


@pytest.mark.parametrize("end", ["least", "most"])
def test_frames_are_finite_at_the_ends_of_the_limits(rig, end):
    """Every number at once at its end, where it has one."""
    values = {}
    for name, field in SceneSettings.model_fields.items():
        for limit in field.metadata:
            value = getattr(limit, "ge" if end == "least" else "le", None)
            if value is not None:
                values[name] = value
    values |= {"decorrelation": 1e-3, "speckle_radius": 0.1}
    r = rig("quiet", sensor_shape=(16, 16), shape=(8, 8), **values)
    patterns = r.layout(4).render(np.eye(4, dtype=np.uint8))
    assert np.isfinite(r.electrons(patterns)).all()
    assert np.isfinite(r.scene.truth.intensities(patterns)).all()
    assert np.isfinite(r.scene.truth.phases).all()


def test_settings_are_values():
    with pytest.raises(ValidationError):
        preset("quiet").speckle_radius = 0.1


@pytest.mark.parametrize("seed", [-1, 1.5, "three", None])
def test_a_seed_is_a_natural_number(seed):
    with pytest.raises(BenchFileError, match=r"scene\.seed"):
        simulated_bench("ideal", seed=seed)
