"""Each ill of a bench is found by its name, and a healthy one has none."""

from dataclasses import replace

import numpy as np
import pytest

from calibration.checkup import Verdict, checkup
from opu_driver import simulated_bench
from opu_driver.virtual.camera import VirtualCamera


def found(preset="quiet", *, stability_s=0.2, camera=None, **scene):
    with simulated_bench(preset, seed=1, camera=camera or {}, **scene) as bench:
        return {finding.name: finding for finding in checkup(bench, stability_s=stability_s)}


def test_a_healthy_bench_has_nothing_to_mend():
    findings = found("realistic")
    assert {f.verdict for f in findings.values()} == {Verdict.PASS}
    assert not any(f.advice for f in findings.values())
    assert findings["speckle grain"].number == pytest.approx(0.5 / 0.12, rel=0.02)
    assert findings["modulated light"].number > 0.9
    assert findings["linearity"].number < 0.02
    assert findings["clocks"].number < 1e-6


@pytest.mark.parametrize(
    ("ill", "name", "verdict"),
    [
        ({"leakage": 0.2}, "modulated light", "warn"),
        ({"leakage": 0.4}, "modulated light", "fail"),
        ({"leakage": 0.95}, "exposure", "fail"),
        ({"phase_jitter_rad": 0.2}, "phase, frame to frame", "warn"),
        ({"laser_noise": 0.06}, "signal, over the watch", "warn"),
        ({"decorrelation": 1e-4}, "fidelity, at its end", "fail"),
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
    finding = found(**ill)[name]
    assert finding.verdict == verdict
    assert len(finding.advice) > 20


def test_lost_triggers_end_in_a_slower_rate_or_in_a_failure():
    slower = found(faults={"dropped_triggers": (120,)})["trigger rate"]
    assert slower.verdict is Verdict.WARN
    assert "frames were lost" in slower.advice
    never = found(faults={"dropped_trigger_rate": 0.05, "doubled_trigger_rate": 0.05})
    assert {f.verdict for f in never.values() if f.number is None} >= {Verdict.FAIL}


def test_light_from_the_room_is_found(monkeypatch):
    develop = VirtualCamera._read

    def lit_by_a_lamp(self, max_frames, timeout_s):
        block = develop(self, max_frames, timeout_s)
        return replace(block, frames=np.minimum(block.frames, 225) + np.uint8(30))

    monkeypatch.setattr(VirtualCamera, "_read", lit_by_a_lamp)
    assert found()["dark level"].verdict is Verdict.FAIL


def test_a_camera_without_a_clock_is_told(monkeypatch):
    develop = VirtualCamera._read

    def timeless(self, max_frames, timeout_s):
        block = develop(self, max_frames, timeout_s)
        return replace(block, timestamps_us=np.full(len(block), np.nan))

    monkeypatch.setattr(VirtualCamera, "_read", timeless)
    assert found()["clocks"].verdict is Verdict.WARN


def test_an_open_interlock_is_found():
    with simulated_bench("quiet") as bench:
        bench.laser.open_enclosure()
        findings = {finding.name: finding for finding in checkup(bench, stability_s=0.1)}
    assert findings["laser"].verdict is Verdict.FAIL
    assert findings["exposure"].verdict is Verdict.FAIL
    assert "interlock" in findings["laser"].advice
