"""How fast frames get to disk, beside a bare sequential write of the same bytes.

    python -m benchmarks.recording [--folder DIR] [--gigabytes G] [--rounds N] [--json FILE]

Frames of 1024 x 1024 pixels, 8 bits, in runs of 64 as `opu acquire` makes them, each run with its
patterns, times and settings. Recording and bare write take turns in the same run, on files of their
own, and each ends with an fsync; the table shows the median of the rounds, and the median of the
ratios of a turn's two. Give more gigabytes than there is memory to measure the disk rather than
the page cache in front of it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from opu_driver.camera import CameraSettings, FrameBlock, Frames, Region
from opu_driver.exposure_run import Conditions, Run
from opu_driver.recording_file import RecordingFile

SIDE, RUN = 1024, 64
SETTINGS = CameraSettings(100.0, Region(0, 0, SIDE, SIDE))


def recorded(folder: Path, frames: Frames, runs: int) -> float:
    """Frames a second of a recording, its end included."""
    path = folder / "recording.h5"
    conditions = Conditions("bench", {}, SETTINGS, 1.0, 1000.0, 0.0, 255.0, "", "", "")
    rng = np.random.default_rng(1)
    patterns = [rng.integers(0, 256, (RUN, 8, 8), np.uint8) for _ in range(runs)]
    roles = np.zeros(RUN, np.uint8)
    begin = time.perf_counter()
    with RecordingFile(path, conditions, (8, 8)) as file:
        for k in range(runs):
            run = Run(k * RUN, RUN, RUN, 0, SETTINGS, 1.0, 1e3, 1e3, 0.0, 255.0, "")
            block = FrameBlock(frames, np.arange(RUN), np.arange(RUN) * 1e3, 0)
            file.append(run, block, patterns[k], roles)
    rate = runs * RUN / (time.perf_counter() - begin)
    path.unlink()
    return rate


def written(folder: Path, frames: Frames, runs: int) -> float:
    """Frames a second of a bare write of the same bytes."""
    path = folder / "bare"
    begin = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        for _ in range(runs):
            file.write(frames.data)
        os.fsync(file.fileno())
    rate = runs * RUN / (time.perf_counter() - begin)
    path.unlink()
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of recordings.")
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to measure")
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args()
    frames = np.random.default_rng(0).integers(0, 256, (RUN, SIDE, SIDE), np.uint8)
    runs = max(round(given.gigabytes * 1e9 / frames.nbytes), 1)
    ours, bare = [], []
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        for turn in range(given.rounds):
            first_bare = turn % 2 == 0  # whoever comes second meets what the first has left to do
            for way, rates in [(written, bare), (recorded, ours)][:: 1 if first_bare else -1]:
                rates.append(way(Path(name), frames, runs))
    ratio = statistics.median(one / other for one, other in zip(ours, bare, strict=True))
    figures = {
        "recording_frames_per_s": statistics.median(ours),
        "bare_write_frames_per_s": statistics.median(bare),
        "ratio": ratio,
    }
    print(f"{runs * RUN} frames of {SIDE} x {SIDE}, 8 bits, {given.rounds} rounds")
    print(f"  recording    {figures['recording_frames_per_s']:8.0f} frames/s")
    print(f"  bare write   {figures['bare_write_frames_per_s']:8.0f} frames/s")
    print(f"  ratio        {ratio:8.0%}   (80 % or 300 frames/s wanted)")
    if given.json is not None:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
