"""Calibrations on disk: whole or refused; and on a bench: fitting or refused."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import h5py
import numpy as np
import pytest
import torch

from calibration import sealed_file
from calibration.calibration_file import Calibration
from calibration.carrier import Carrier
from calibration.errors import CalibrationFileError, StaleCalibrationError
from calibration.quality import Quality
from opu_driver.bench import Bench
from opu_driver.camera import CameraSettings, PixelFormat, Region
from opu_driver.device import Identity
from opu_driver.layout import Layout

if sys.platform != "win32":
    import fcntl

MODES, INPUTS = 36, 5


def make_calibration() -> Calibration:
    rng = np.random.default_rng(1)

    def fields(*shape: int) -> np.ndarray:
        values = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
        return (0.03 * values).astype(np.complex64)

    return Calibration(
        identities={
            "modulator": Identity("Virtual", "DMD", "m1", "1.0"),
            "camera": Identity("Virtual", "camera", "c1"),
            "laser": Identity("Virtual", "laser", "l1"),
        },
        settings=CameraSettings(100.0 / 3, Region(0, 0, 24, 24), trigger_delay_us=13.0),
        power_mw=10.0,
        relative_exposure=1000.0 / 3,
        layout=Layout.fit(INPUTS, (64, 64)),
        carrier=Carrier(0.27, 0.25, 1e-5, 2e-5, 0.12, 1e-4),
        decimation=4,
        seed=3,
        software="0.1.0",
        T=fields(MODES, INPUTS),
        reference=fields(MODES),
        bias=fields(MODES),
        quality=Quality(
            held_out_correlation=0.999,
            held_out_error=0.03,
            held_out_noise=0.029,
            split_half=0.9995,
            matrix_noise=0.02,
            linearity=0.02,
            linearity_noise=0.019,
            distance_scatter=0.1,
            conjugate_correlation=0.02,
            stability=0.9999,
            snr=float("inf"),
            effective_modes=26.0,
            visibility=0.5,
            saturated_fraction=0.0,
            dead_fraction=0.0,
            dark_modes=0.0,
            singular_values=np.array([1.2, 0.8], np.float32),
            gains=np.exp(1j * np.arange(6)).astype(np.complex64),
            fidelities=np.array([1.0, np.nan], np.float32),
        ),
        made_at="2024-05-01T12:00:00+00:00",
        expires_at="2999-05-02T12:00:00+00:00",
    )


@pytest.fixture
def calibration() -> Calibration:
    return make_calibration()


@pytest.fixture
def path(calibration: Calibration, tmp_path: Path) -> Path:
    return calibration.save(tmp_path / "bench.h5")


def fitting_bench(calibration: Calibration, **changes: Any) -> Bench:
    """As much of a bench as `check` asks for."""
    given = {
        "name": "test bench",
        "identities": calibration.identities,
        "settings": calibration.settings,
        "layout": lambda n: Layout.fit(n, (64, 64)),
    }
    return cast(Bench, SimpleNamespace(**(given | changes)))


def test_what_is_saved_is_loaded(calibration: Calibration, path: Path) -> None:
    loaded = Calibration.load(path)
    for field in dataclasses.fields(Calibration):
        then, now = getattr(calibration, field.name), getattr(loaded, field.name)
        if isinstance(then, np.ndarray):
            np.testing.assert_array_equal(now, then)
            assert now.dtype == then.dtype
        elif field.name == "quality":
            for curve in ("singular_values", "gains", "fidelities"):
                np.testing.assert_array_equal(getattr(now, curve), getattr(then, curve))
            assert now == then
        else:
            assert now == then
    assert loaded.fingerprint() == calibration.fingerprint()


def test_nothing_else_is_left_in_the_folder(path: Path) -> None:
    assert list(path.parent.iterdir()) == [path]


def test_its_first_line_says_what_it_is(path: Path) -> None:
    assert path.read_bytes().startswith(b"opu-calibration schema 2 sha256 ")
    with h5py.File(path) as file:
        assert file["T"].shape == (MODES, INPUTS)


def test_it_is_never_overwritten(calibration: Calibration, path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(CalibrationFileError, match="never overwritten"):
        calibration.save(path)
    assert path.read_bytes() == before


def test_a_missing_folder_is_told(calibration: Calibration, tmp_path: Path) -> None:
    with pytest.raises(CalibrationFileError, match="Name a folder that exists"):
        calibration.save(tmp_path / "nowhere" / "bench.h5")


def test_a_failed_write_leaves_nothing(
    calibration: Calibration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(CalibrationFileError, match="No space left"):
        calibration.save(tmp_path / "bench.h5")
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_links_is_written_to(
    calibration: Calibration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    path = calibration.save(tmp_path / "bench.h5")
    assert Calibration.load(path).fingerprint() == calibration.fingerprint()
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(CalibrationFileError, match="never overwritten"):
        calibration.save(path)


@pytest.mark.skipif(os.name != "posix", reason="who lives is told by POSIX locks")
def test_what_dead_writers_left_is_deleted_and_nothing_else(
    calibration: Calibration, tmp_path: Path
) -> None:
    dead, fresh, living = (tmp_path / f".old.h5.{digit * 32}" for digit in "abc")
    others = tmp_path / f".ssh.{'d' * 31}"
    for aside in (dead, fresh, living, others):
        aside.write_bytes(b"half")
    for aside in (dead, living, others):
        os.utime(aside, (1e9, 1e9))
    with living.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        path = calibration.save(tmp_path / "bench.h5")
    assert sorted(tmp_path.iterdir()) == sorted([path, fresh, living, others])


@pytest.mark.skipif(os.name != "posix", reason="only POSIX syncs folders")
def test_its_name_is_on_the_disk_as_well(
    calibration: Calibration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, sync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (synced.append(os.fstat(number)), sync(number)))
    calibration.save(tmp_path / "bench.h5")
    assert os.path.samestat(synced[-1], tmp_path.stat())


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(CalibrationFileError, match=r"gone\.h5 cannot be read: No such file"):
        Calibration.load(tmp_path / "gone.h5")


@pytest.mark.parametrize("keep", [0, 10, 511, 512, 600, 5000, -1])
def test_a_truncated_file_is_refused(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CalibrationFileError, match="no calibration|damaged or truncated"):
        Calibration.load(path)


def test_one_flipped_bit_anywhere_is_refused(path: Path) -> None:
    content = bytearray(path.read_bytes())
    header = len(b"opu-calibration schema 2 sha256 ") + 64
    rng = np.random.default_rng(4)
    for place in [*rng.integers(0, header, 20), *rng.integers(512, len(content), 60)]:
        damaged = content.copy()
        damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        with pytest.raises(CalibrationFileError):
            Calibration.load(path)


@pytest.mark.parametrize("content", [b"", b"hello", bytes(2000), b"opu-calibration\n" * 100])
def test_another_file_is_no_calibration(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.h5"
    path.write_bytes(content)
    with pytest.raises(CalibrationFileError, match="is no calibration"):
        Calibration.load(path)


def test_another_schema_is_named(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"schema 2 ", b"schema 7 ", 1))
    with pytest.raises(
        CalibrationFileError, match="has schema 7; this software reads schemas 1 and 2"
    ):
        Calibration.load(path)


def reseal(path: Path, schema: int = 2) -> None:
    """Give an altered file a checksum that fits."""
    content = path.read_bytes()
    digest = hashlib.sha256(content[512:]).hexdigest().encode()
    line = b"opu-calibration schema %d sha256 %s\n" % (schema, digest)
    path.write_bytes(line.ljust(512, b"\0") + content[512:])


@pytest.mark.parametrize(
    "lost", ["T", "reference", "bias", "singular_values", "gains", "fidelities"]
)
def test_an_intact_file_without_a_part_is_refused(path: Path, lost: str) -> None:
    with h5py.File(path, "r+") as file:
        del file[lost]
    reseal(path)
    with pytest.raises(CalibrationFileError, match="does not hold what schema 2 asks for"):
        Calibration.load(path)


@pytest.mark.parametrize("header", ["{}", "[]", "no json", '{"setup": {"power_mw": "much"}}'])
def test_an_intact_file_with_another_header_is_refused(path: Path, header: str) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["header"] = header
    reseal(path)
    with pytest.raises(CalibrationFileError, match="does not hold what schema 2 asks for"):
        Calibration.load(path)


def test_it_fits_the_bench_it_was_made_on(calibration: Calibration) -> None:
    brighter = dataclasses.replace(calibration.settings, exposure_us=50.0)
    calibration.check(fitting_bench(calibration, settings=brighter))


def test_new_firmware_is_the_same_device(calibration: Calibration) -> None:
    devices = calibration.identities | {"modulator": Identity("Virtual", "DMD", "m1", "2.0")}
    calibration.check(fitting_bench(calibration, identities=devices))


@pytest.mark.parametrize("kind", ["modulator", "camera", "laser"])
def test_another_device_makes_it_stale(calibration: Calibration, kind: str) -> None:
    devices = calibration.identities | {kind: Identity("Acme", "X", "9")}
    with pytest.raises(StaleCalibrationError, match=f"the {kind} is Acme X #9, it was Virtual"):
        calibration.check(fitting_bench(calibration, identities=devices))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"region": Region(4, 0, 24, 24)}, "region is .*row=4.* it was .*row=0"),
        ({"pixel_format": PixelFormat.MONO12}, "pixel_format is mono12, it was mono8"),
        ({"gain_db": 6.0}, r"gain_db is 6\.0, it was 0\.0"),
    ],
)
def test_other_settings_make_it_stale(
    calibration: Calibration, change: dict[str, Any], told: str
) -> None:
    settings = dataclasses.replace(calibration.settings, **change)
    with pytest.raises(StaleCalibrationError, match=told):
        calibration.check(fitting_bench(calibration, settings=settings))


def test_another_layout_makes_it_stale(calibration: Calibration) -> None:
    bench = fitting_bench(calibration, layout=lambda n: Layout.fit(n, (32, 64)))
    with pytest.raises(StaleCalibrationError, match=r"the layout's shape is \(32, 64\)"):
        calibration.check(bench)


@pytest.mark.parametrize(
    ("name", "value"),
    [("levels", 256), ("grid", (5, 1)), ("macropixel", (7, 9))],
)
def test_every_part_of_the_layout_counts(calibration: Calibration, name: str, value: Any) -> None:
    other = dataclasses.replace(calibration.layout, **{name: value})
    bench = fitting_bench(calibration, layout=lambda n: other)
    was = getattr(calibration.layout, name)
    with pytest.raises(StaleCalibrationError, match="does not fit bench") as caught:
        calibration.check(bench)
    assert f"the layout's {name} is {value}, it was {was}" in str(caught.value)


def test_too_small_a_modulator_makes_it_stale(calibration: Calibration) -> None:
    bench = fitting_bench(calibration, layout=lambda n: Layout.fit(n, (2, 2)))
    with pytest.raises(StaleCalibrationError, match="the layout is impossible"):
        calibration.check(bench)


def test_it_expires(calibration: Calibration) -> None:
    old = dataclasses.replace(calibration, expires_at="2024-05-02T12:00:00+00:00")
    with pytest.raises(StaleCalibrationError, match="it expired at 2024-05-02"):
        old.check(fitting_bench(calibration))


def test_every_reason_is_listed(calibration: Calibration) -> None:
    settings = dataclasses.replace(calibration.settings, gain_db=3.0, region=Region(0, 0, 8, 8))
    with pytest.raises(StaleCalibrationError, match=r"region is .*; gain_db is 3\.0"):
        calibration.check(fitting_bench(calibration, settings=settings))


def test_outputs_begin_with_the_modes_farthest_from_the_border(calibration: Calibration) -> None:
    rows, columns = calibration.demodulator().grid_shape
    order = calibration.output_modes
    assert sorted(order) == list(range(calibration.n_modes))
    border = set(np.flatnonzero(np.pad(np.zeros((rows - 2, columns - 2)), 1, constant_values=1)))
    assert set(order[-len(border) :]) == border


def test_entries_of_the_matrix_have_unit_mean_square(calibration: Calibration) -> None:
    matrix = calibration.matrix
    assert matrix.shape == (2 * MODES, INPUTS)
    assert matrix.dtype == np.float32
    assert np.mean(matrix**2) == pytest.approx(1, rel=1e-5)
    entry = calibration.T[calibration.output_modes[3], 1] * calibration.scale
    np.testing.assert_allclose(matrix[6:8, 1], [entry.real, entry.imag], rtol=1e-5)


def test_the_fingerprint_is_that_of_the_matrix(calibration: Calibration) -> None:
    changed = calibration.T.copy()
    changed[3, 2] *= 1.0001
    other = dataclasses.replace(calibration, T=changed)
    assert other.fingerprint() != calibration.fingerprint()
    later = dataclasses.replace(calibration, made_at="2025-01-01T00:00:00+00:00")
    assert later.fingerprint() == calibration.fingerprint()


def test_the_twin_multiplies_by_the_matrix(calibration: Calibration) -> None:
    twin = calibration.twin()
    codes = torch.tensor([[1, -1, 0, 2, 0], [0, 0, 0, 0, 0]])
    projected = twin.project(codes)
    assert projected.dtype == torch.float32
    expected = codes.numpy() @ calibration.matrix.T
    np.testing.assert_allclose(projected.numpy(), expected, rtol=1e-5)
    assert (twin.n_inputs, twin.n_outputs) == (INPUTS, 2 * MODES)
    assert twin.fingerprint() == calibration.fingerprint()
    assert twin.totals() == {"rows": 2.0}


NEW_FIGURES = {
    "held_out_noise",
    "matrix_noise",
    "linearity_noise",
    "distance_scatter",
    "conjugate_correlation",
    "stability",
    "dead_fraction",
    "dark_modes",
}


def downgrade(path: Path) -> None:
    """Make of a file what software of schema 1 wrote."""
    with h5py.File(path, "r+") as file:
        header = json.loads(file.attrs["header"])
        header["quality"] = {k: v for k, v in header["quality"].items() if k not in NEW_FIGURES}
        file.attrs["header"] = json.dumps(header)
        for later in ("gains", "fidelities"):
            del file[later]
    reseal(path, schema=1)


def test_a_file_of_schema_1_is_read(calibration: Calibration, path: Path) -> None:
    downgrade(path)
    before = path.read_bytes()
    loaded = Calibration.load(path)
    assert path.read_bytes() == before
    assert loaded.fingerprint() == calibration.fingerprint()
    assert loaded.quality.held_out_error == calibration.quality.held_out_error
    assert all(np.isnan(getattr(loaded.quality, name)) for name in NEW_FIGURES)
    assert len(loaded.quality.gains) == len(loaded.quality.fidelities) == 0
    again = loaded.save(path.with_name("again.h5"))
    assert again.read_bytes().startswith(b"opu-calibration schema 2 ")
    assert Calibration.load(again).fingerprint() == calibration.fingerprint()


def test_new_content_under_the_old_schema_is_refused(path: Path) -> None:
    reseal(path, schema=1)
    with pytest.raises(CalibrationFileError, match="which is unknown"):
        Calibration.load(path)


def test_old_content_under_the_new_schema_is_refused(path: Path) -> None:
    downgrade(path)
    reseal(path, schema=2)
    with pytest.raises(CalibrationFileError, match="the quality has no held_out_noise"):
        Calibration.load(path)


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (("setup", "carrier", "column"), -0.25, "wrong half-plane"),
        (("setup", "carrier", "radius"), 0.0, "carrier"),
        (("setup", "carrier", "row"), float("nan"), "carrier"),
        (("setup", "power_mw"), -1.0, "power_mw = -1"),
        (("setup", "power_mw"), float("inf"), "power_mw = inf"),
        (("setup", "relative_exposure"), 0.0, "relative_exposure = 0"),
        (("setup", "decimation"), 0, "decimation = 0"),
        (("setup", "decimation"), 8, "T is complex64"),
        (("setup", "identities"), {}, "identities of no devices"),
        (("setup", "layout", "n_inputs"), 7, r"T is complex64 \[36, 5\], no complex64 \[36, 7\]"),
        (("setup", "settings", "region", "height"), 10**9, "T is complex64"),
        (("setup", "settings", "gain_db"), 1e300, r"gain_db = 1e\+300"),
        (("setup", "settings", "region", "column"), -1, "column=-1"),
        (("setup", "settings", "exposure_us"), -1.0, "exposure_us = -1"),
        (("setup", "carrier", "radius_sigma"), -1.0, "radius_sigma = -1"),
        (("quality", "held_out_correlation"), -1, "held_out_correlation is -1"),
        (("quality", "stability"), 1e300, r"stability is 1e\+300"),
        (("quality", "effective_modes"), float("nan"), "effective_modes is nan"),
        (("quality", "snr"), "high", "snr is 'high', no number"),
        (("quality", "snr"), True, "snr is True, no number"),
        (("quality", "colour"), 1.0, "colour, which is unknown"),
        (("quality",), None, "no quality"),
        (("made_at",), 5, "no made_at"),
        (("expires_at",), "tomorrow", "tomorrow"),
        (("expires_at",), "2024-05-01T12:00:00", "no time zone"),
    ],
)
def test_impossible_values_are_refused_by_name(
    path: Path, place: tuple[str, ...], value: Any, told: str
) -> None:
    with h5py.File(path, "r+") as file:
        header = json.loads(file.attrs["header"])
        inner = header
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value
        file.attrs["header"] = json.dumps(header)
    reseal(path)
    with pytest.raises(CalibrationFileError, match=told):
        Calibration.load(path)


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        ("T", np.zeros((MODES, INPUTS)), "T is float64"),
        ("T", np.zeros((INPUTS, MODES), np.complex64), r"T is complex64 \[5, 36\]"),
        ("T", np.full((MODES, INPUTS), np.nan, np.complex64), "not finite"),
        ("reference", np.zeros((MODES, 1), np.complex64), "reference is"),
        ("bias", np.array("text", dtype=object), "bias is object"),
        ("singular_values", np.float32(1.0), "singular_values is"),
    ],
)
def test_parts_of_another_kind_are_refused_by_name(
    path: Path, name: str, values: Any, told: str
) -> None:
    with h5py.File(path, "r+") as file:
        del file[name]
        file[name] = values
    reseal(path)
    with pytest.raises(CalibrationFileError, match=told):
        Calibration.load(path)


def test_parts_that_lie_elsewhere_are_not_followed(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["T"] = np.ones((MODES, INPUTS), np.complex64)
    with h5py.File(path, "r+") as file:
        del file["T"]
        file["T"] = h5py.ExternalLink(str(other), "T")
    reseal(path)
    with pytest.raises(CalibrationFileError, match="it has no T"):
        Calibration.load(path)


def test_a_matrix_larger_than_memory_is_mapped(
    calibration: Calibration, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealed_file, "_IN_MEMORY_BYTES", 100)
    monkeypatch.setattr(sealed_file, "_BLOCK_BYTES", 100)
    loaded = Calibration.load(path)
    assert isinstance(loaded.T, np.memmap)
    np.testing.assert_array_equal(loaded.T, calibration.T)
    assert loaded.fingerprint() == calibration.fingerprint()
    assert loaded.scale == pytest.approx(calibration.scale, rel=1e-6)
    assert Calibration.load(loaded.save(path.with_name("b.h5"))).T.shape == (MODES, INPUTS)
