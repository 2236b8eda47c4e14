"""Each ill of a bench is found by its name, and a healthy one has none."""

from dataclasses import replace

import numpy as np
import pytest

from calibration import trigger_line
from calibration.checkup import checkup
from calibration.checkup_finding import Verdict
from opu_driver import simulated_bench
from opu_driver.bench import Bench
from opu_driver.virtual.camera import VirtualCamera


def found(preset="quiet", *, stability_s=0.2, camera=None, **scene):
    with simulated_bench(preset, seed=1, camera=camera or {}, **scene) as bench:
        return {finding.name: finding for finding in checkup(bench, stability_s=stability_s)}


def first(name, preset="quiet", *, stability_s=0.2, camera=None, **scene):
    """One finding; what comes after it is not looked at."""
    with simulated_bench(preset, seed=1, camera=camera or {}, **scene) as bench:
        return next(f for f in checkup(bench, stability_s=stability_s) if f.name == name)


def test_a_healthy_bench_has_nothing_to_mend():
    findings = found("realistic")
    assert {f.verdict for f in findings.values()} == {Verdict.PASS}
    assert not any(f.advice for f in findings.values())
    assert findings["speckle grain"].number == pytest.approx(0.5 / 0.12, rel=0.02)
    assert findings["modulated light"].number > 0.9
    assert findings["linearity of fields"].number < 0.02
    assert findings["linearity of grey values"].number < 0.005
    assert findings["trigger line"].number == 0
    # Read-out of 128 rows at 2.7 us each, and 5 us between exposures.
    assert findings["trigger rate"].number == pytest.approx(1e6 / 350.6, rel=1e-6)
    assert findings["frame jitter"].number < 1e-3
    assert "not told" in findings["firmware"].value
    assert findings["clocks"].number < 1e-6


@pytest.mark.parametrize(
    ("ill", "name", "verdict"),
    [
        ({"leakage": 0.2}, "modulated light", "warn"),
        ({"leakage": 0.4}, "modulated light", "fail"),
        ({"leakage": 0.95}, "exposure", "fail"),
        ({"phase_jitter_rad": 0.2}, "phase, frame to frame", "warn"),
        ({"laser_noise": 0.06}, "signal, over the watch", "warn"),
        ({"decorrelation": 1e-4, "cells": (8, 8)}, "fidelity, at its end", "fail"),
        ({"electrons_per_nj": 300.0}, "exposure", "fail"),
        ({"electrons_per_nj": 1e-9}, "exposure", "fail"),
        ({"reference_ratio": 1e-4}, "carrier", "fail"),
        (
            {"speckle_radius": 0.19, "carrier": (0.25, 0.25), "reference_ratio": 50.0},
            "speckle grain",
            "warn",
        ),
    ],
    ids=str,
)
def test_an_ill_bench_is_told_what_it_suffers_from(ill, name, verdict):
    finding = first(name, **ill)
    assert finding.verdict == verdict
    assert len(finding.advice) > 20


@pytest.mark.parametrize(
    ("fault", "off"), [({"dropped_triggers": (5, 60)}, -2), ({"doubled_triggers": (60,)}, 1)]
)
def test_edges_and_frames_are_counted(fault, off):
    # Slowly, so that the camera is ready again soon enough to see a second edge.
    line = first("trigger line", faults=fault, camera={"trigger_delay_us": 1000.0})
    assert line.verdict is Verdict.FAIL
    assert line.number == off
    assert f"128 edges, {128 + off} frames" in line.value
    assert "terminate" in line.advice if off > 0 else "pulse" in line.advice


def test_a_line_that_loses_at_any_rate_has_none():
    findings = found(faults={"dropped_trigger_rate": 0.05, "doubled_trigger_rate": 0.05})
    assert findings["trigger rate"].number == 0
    assert findings["trigger rate"].verdict is Verdict.FAIL
    assert findings["exposure"].number is None


@pytest.mark.parametrize(
    ("exposure_us", "verdict"), [(100.0, Verdict.FAIL), (800.0, Verdict.WARN)], ids=str
)
def test_the_highest_rate_without_loss_is_found(monkeypatch, exposure_us, verdict):
    """A camera that says it is three times as fast as it is."""
    told = VirtualCamera.max_rate_hz
    monkeypatch.setattr(VirtualCamera, "max_rate_hz", property(lambda self: 3 * told.fget(self)))
    with simulated_bench("quiet", seed=1, camera={"exposure_us": exposure_us}) as bench:
        before = bench.settings
        findings = {finding.name: finding for finding in checkup(bench, stability_s=0.1)}
        assert replace(bench.settings, exposure_us=exposure_us) == before
    rate = findings["trigger rate"]
    assert 0.97 * 1e6 / 350.6 < rate.number <= 1e6 / 350.6 + 1
    assert rate.verdict is verdict
    assert f"{3e6 / 350.6:,.0f} Hz" in rate.limit
    # The rest is looked at more slowly, and is well.
    others = [f for f in findings.values() if f.name not in ("trigger rate", "trigger line")]
    assert {f.verdict for f in others} == {Verdict.PASS}
    assert "fringe visibility" in findings


def test_settings_are_restored_after_the_search():
    with simulated_bench("quiet", camera={"exposure_us": 500.0}) as bench:
        before = bench.settings
        top = trigger_line.top_rate(bench)
        assert bench.settings == before
    assert top.exposure_us == 1.0
    assert top.rate_hz == top.ceiling_hz > bench.rate_hz


def test_a_bench_that_is_stepped_says_so():
    findings = found(camera={"trigger": "software"})
    assert "stepped by software: 32 steps, 32 frames" in findings["trigger line"].value
    assert "stepped" in findings["trigger rate"].value
    # The mirrors settle for 13 us, and the camera is ready again after its read-out.
    assert findings["trigger rate"].number == pytest.approx(1e6 / (350.6 + 13.0), rel=1e-3)
    assert {f.verdict for f in findings.values()} == {Verdict.PASS}
    assert not {"clocks", "frame jitter"} & set(findings)


def developed(monkeypatch, change):
    """A virtual camera whose blocks of frames are changed before they are returned."""
    develop = VirtualCamera._read
    monkeypatch.setattr(
        VirtualCamera, "_read", lambda self, *arguments: change(develop(self, *arguments))
    )


@pytest.mark.parametrize("gamma", [0.99, 0.9, 0.8])
def test_a_camera_whose_response_is_not_linear_is_found(monkeypatch, gamma):
    full = 1e6  # electrons, and grey values, of the ideal camera
    developed(
        monkeypatch, lambda block: replace(block, frames=full * (block.frames / full) ** gamma)
    )
    found_off = first("linearity of grey values", "ideal")
    slopes = np.array([0.25, 0.5, 0.75, 1.0]) ** (gamma - 1)
    off = np.abs(slopes / slopes.mean() - 1).max()
    assert found_off.number == pytest.approx(off, rel=0.02)
    assert found_off.verdict == ("pass" if off < 0.02 else "warn" if off < 0.1 else "fail")


def test_a_camera_of_one_exposure_time_is_told(monkeypatch):
    monkeypatch.setattr(VirtualCamera, "exposure_limits_us", property(lambda self: (80.0, 1e6)))
    linearity = first("linearity of grey values", "realistic")
    assert "not measured" in linearity.value
    assert linearity.verdict is Verdict.WARN


def test_jitter_of_the_cameras_clock_is_told(monkeypatch):
    def uneven(block):
        late = 5.0 * (np.arange(len(block)) % 2)  # intervals are 5 us longer and shorter in turn
        return replace(block, timestamps_us=block.timestamps_us + late)

    developed(monkeypatch, uneven)
    jitter = first("frame jitter")
    assert jitter.number == pytest.approx(5.0, rel=0.01)
    assert jitter.verdict is Verdict.WARN


def test_a_lag_that_the_bench_has_measured_is_told(monkeypatch):
    monkeypatch.setattr(Bench, "frame_offset", property(lambda self: 1))
    lag = first("frame to pattern")
    assert lag.number == 1
    assert lag.verdict is Verdict.WARN


def test_dark_noise_is_told_where_most_grey_values_are_rounded_alike():
    with simulated_bench("realistic", seed=1) as bench:
        frames = bench.dark_frames(200).astype(float)
    noise = float(first("dark level", "realistic").value.split("noise ")[1])
    assert noise == pytest.approx(np.sqrt(frames.var(axis=0, ddof=1).mean()), abs=0.01)


def test_light_from_the_room_is_found(monkeypatch):
    developed(
        monkeypatch,
        lambda block: replace(block, frames=np.minimum(block.frames, 225) + np.uint8(30)),
    )
    assert first("dark level").verdict is Verdict.FAIL


def test_a_camera_without_a_clock_is_told(monkeypatch):
    developed(
        monkeypatch,
        lambda block: replace(block, timestamps_us=np.full(len(block), np.nan)),
    )
    assert first("clocks").verdict is Verdict.WARN


def test_an_open_interlock_is_found():
    with simulated_bench("quiet") as bench:
        bench.laser.open_enclosure()
        findings = {finding.name: finding for finding in checkup(bench, stability_s=0.1)}
    assert findings["leave to emit"].verdict is Verdict.FAIL
    assert findings["exposure"].verdict is Verdict.FAIL
    assert "interlock" in findings["leave to emit"].advice
