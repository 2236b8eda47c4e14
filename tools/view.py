"""`opu view`: the live window, or the player of a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tools.bench_choice import (
    BenchOption,
    PresetOption,
    SceneOption,
    SceneSeedOption,
    chosen_bench,
)


def view(
    recording: Annotated[
        Path | None,
        typer.Argument(metavar="[RECORDING.h5]", help="Play this instead of a bench."),
    ] = None,
    bench: BenchOption = None,
    preset: PresetOption = None,
    scene_seed: SceneSeedOption = None,
    scene: SceneOption = None,
) -> None:
    """Open the live window: image, spectrum, histogram, figures, and the bench at hand.

    Escape or Space turns the laser off at once.
    """
    from opu_driver.errors import BenchFileError
    from opu_driver.extras import vendor_library

    if recording is not None and any((bench, preset, scene_seed is not None, scene)):
        raise BenchFileError(
            f"{recording} is a recording, and --bench, --preset or --scene name a bench. Give one "
            "of them."
        )
    chosen = None if recording is not None else chosen_bench(bench, preset, scene_seed, scene)
    for library in ("PySide6.QtWidgets", "pyqtgraph"):
        vendor_library(library, "gui")
    from tools.viewer.application import view_bench, view_recording

    if chosen is not None:
        view_bench(chosen)
    elif recording is not None:
        view_recording(recording)
