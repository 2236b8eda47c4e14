"""Whole benches with something wrong with them, each refused by the name of what it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from calibration import verdict
from calibration.calibration_file import Calibration
from calibration.errors import (
    DeadPixelsError,
    HalfPlaneError,
    NoCarrierError,
    NoiseError,
    QualityError,
    SingularValuesError,
    UnsteadyError,
)
from calibration.pipeline import calibrate
from calibration.projector import OpticalProjector
from calibration.verdict import Verdict
from opu_driver import simulated_bench
from opu_driver.bench import Bench, Sequence
from opu_driver.errors import FrameMismatchError

Frames = NDArray[Any]
CARRIER = (0.2713, 0.2664)  # of the presets


def seen_through(
    monkeypatch: pytest.MonkeyPatch, bench: Bench, change: Callable[[Frames, int], Frames]
) -> None:
    """Let a bench see other frames: `change` is told how many sequences there were before."""
    stream, shown = bench.stream, [0]

    def changed(batches: Any) -> Any:
        for sequence in stream(batches):
            number = shown[0]
            shown[0] += 1
            yield Sequence(
                change(sequence.frames, number),
                sequence.ids,
                sequence.timestamps_us,
                sequence.lost,
                markers=change(sequence.markers, number),
            )

    monkeypatch.setattr(bench, "stream", changed)


def refused(bench: Bench, error: type[QualityError], figure: str, n_inputs: int = 10) -> None:
    with pytest.raises(QualityError, match=f"{figure} = ") as caught:
        calibrate(bench, n_inputs)
    assert type(caught.value) is error


def test_noise_after_the_carrier_was_found_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)

    def drown(frames: Frames, number: int) -> Frames:
        if not number:  # the carrier's own frames
            return frames
        noisy = rng.normal(60, 12, frames.shape)
        marked = noisy + (frames - frames.mean()) * (len(frames) == 3)  # the markers are real
        return np.clip(np.rint(marked), 0, 255).astype(np.uint8)

    with simulated_bench("realistic", 1) as bench:
        seen_through(monkeypatch, bench, drown)
        refused(bench, NoiseError, "snr")


def test_noise_instead_of_light_has_no_carrier() -> None:
    with (
        simulated_bench("realistic", 1, reference_ratio=0.0) as bench,
        pytest.raises((NoCarrierError, FrameMismatchError)),
    ):
        calibrate(bench, 10)


@pytest.mark.parametrize("scattered", [True, False])
def test_dead_pixels_are_refused(monkeypatch: pytest.MonkeyPatch, scattered: bool) -> None:
    dead = np.zeros((128, 128), bool)
    if scattered:
        dead[np.random.default_rng(1).random(dead.shape) < 0.03] = True
    else:
        dead[:40] = True
    with simulated_bench("realistic", 1) as bench:
        seen_through(
            monkeypatch, bench, lambda frames, number: np.where(dead, 6, frames).astype(np.uint8)
        )
        refused(bench, DeadPixelsError, "dead_fraction")


def test_a_shadow_on_the_camera_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)

    def shade(frames: Frames, number: int) -> Frames:
        shaded = frames.copy()
        shaded[:, :60] = rng.integers(4, 9, shaded[:, :60].shape)  # read noise, so not dead
        return shaded

    with simulated_bench("realistic", 1) as bench:
        seen_through(monkeypatch, bench, shade)
        refused(bench, DeadPixelsError, "dark_modes")


def flipped_from(exposure: int) -> dict[str, Any]:
    """The fringes tilt the other way from an exposure on."""
    half = (exposure, -CARRIER[0], -CARRIER[1])
    return {"carrier_jumps": [half, half]}


def test_fringes_that_tilt_the_other_way_on_the_way_are_refused() -> None:
    with (
        simulated_bench("realistic", 1, faults=flipped_from(200)) as bench,
        pytest.raises(HalfPlaneError, match="complex conjugate"),
    ):
        calibrate(bench, 10)


def test_fringes_that_tilt_the_other_way_later_are_refused(
    realistic_calibration: Calibration,
) -> None:
    with (
        simulated_bench("realistic", 1, faults=flipped_from(0)) as bench,
        pytest.raises(HalfPlaneError, match="complex conjugate"),
    ):
        OpticalProjector(bench, realistic_calibration).project(torch.ones(4, 10))


def test_a_bench_that_moves_is_refused() -> None:
    moved = {"carrier_jumps": [(300, 0.0013, 0.0)]}
    with simulated_bench("realistic", 1, faults=moved) as bench:
        refused(bench, UnsteadyError, "stability")


def test_a_medium_that_changes_is_refused() -> None:
    with simulated_bench("realistic", 1, decorrelation=1e-4) as bench:
        refused(bench, UnsteadyError, "stability", n_inputs=2)


def test_inputs_without_light_are_refused() -> None:
    with simulated_bench("realistic", 1) as bench:
        layout = bench.layout(10)
        lit = type(layout).render

        def blind(self: Any, bits: NDArray[np.uint8]) -> Any:
            seen = bits.copy()
            if bits.shape[1] == 10:
                seen[:, 3:5] = 0
            return lit(self, seen)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(layout), "render", blind)
            refused(bench, SingularValuesError, "law_deviation")


@pytest.mark.parametrize(
    ("preset", "format", "electrons"),
    [("realistic", "mono8", 20), ("realistic", "mono12", 10), ("quiet", "mono12", 10)],
)
def test_an_honest_dim_bench_is_calibrated(preset: str, format: str, electrons: float) -> None:
    with simulated_bench(preset, 1, camera={"pixel_format": format}) as bench:
        scene = bench.camera._scene.settings
        bench.laser.set_power_mw(electrons / (scene.electrons_per_nj * 20.0))
        bench.configure(replace(bench.settings, exposure_us=20.0))
        quality = calibrate(bench, 10, fit_exposure=False).quality
    assert quality.snr < 30
    assert quality.held_out_error == pytest.approx(quality.held_out_noise, rel=0.05)
    told = {found.name: found for found in verdict.findings(quality)}["held_out_error"]
    assert (told.verdict is Verdict.WARNING) == (quality.held_out_error > 0.3)


@pytest.mark.parametrize("preset", ["ideal", "quiet", "realistic", "rough"])
@pytest.mark.parametrize("n_inputs", [1, 3, 48])
def test_good_benches_pass_without_a_warning(preset: str, n_inputs: int) -> None:
    with simulated_bench(preset, 4) as bench:
        quality = calibrate(bench, n_inputs).quality
    warned = [f for f in verdict.findings(quality) if f.verdict is not Verdict.PASS]
    assert not warned
    noise = max(quality.held_out_noise, 1e-5)
    assert quality.held_out_error < 1.2 * noise
    assert quality.linearity < 1.2 * max(quality.linearity_noise, 1e-5)
