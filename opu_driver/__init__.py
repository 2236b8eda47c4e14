"""Patterns in, frames out: the devices of an optical bench, real and simulated, as one instrument.

from opu_driver import open_bench, simulated_bench

with simulated_bench("realistic", seed=1) as bench:  # or open_bench("bench.toml")
    layout = bench.layout(n_inputs=10)
    frames = bench.expose(layout.all_on())
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from opu_driver.bench import Bench
from opu_driver.bench_file import build_bench, parse_bench, read_bench_file

__all__ = ["Bench", "open_bench", "simulated_bench"]


def open_bench(path: str | Path) -> Bench:
    """The bench that a bench file describes; use it in a `with` block, which opens it.

    Raises:
        BenchFileError: The file is missing or wrong; the message names the key.
        DriverMissingError: A driver's library is not installed.
    """
    return build_bench(read_bench_file(Path(path)), origin=str(path))


def simulated_bench(
    preset: str = "realistic",
    seed: int = 0,
    *,
    modulator: dict[str, Any] | None = None,
    camera: dict[str, Any] | None = None,
    laser: dict[str, Any] | None = None,
    **scene: Any,
) -> Bench:
    """A simulated bench; the arguments are those of a bench file.

    Args:
        preset: `ideal`, `quiet`, `realistic` or `rough`.
        seed: Seed of the medium and of all noise.
        modulator: Keys of `[modulator]` that differ from a virtual DMD's defaults.
        camera: Keys of `[camera]` that differ from the virtual camera's defaults.
        laser: Keys of `[laser]` that differ from the virtual laser's defaults.
        **scene: Keys of `[scene]` that differ from the preset.

    Raises:
        BenchFileError: An unknown preset or key, or a value out of its limits.
    """
    return build_bench(
        parse_bench(
            {
                "name": f"simulated, {preset}, seed {seed}",
                "modulator": {"driver": "virtual-dmd"} | (modulator or {}),
                "camera": {"driver": "virtual", "exposure_us": 100.0} | (camera or {}),
                "laser": {"driver": "virtual", "power_mw": 10.0} | (laser or {}),
                "scene": {"preset": preset, "seed": seed} | scene,
            }
        )
    )
