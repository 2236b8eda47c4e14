"""`opu acquire`: show patterns and record the frames."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tools.bench_choice import (
    BenchOption,
    PresetOption,
    SceneOption,
    SceneSeedOption,
    chosen_bench,
)
from tools.interruption import advice
from tools.json_file import JsonOption, write_json
from tools.recording_bar import recording_bar
from tools.terminal import results
from tools.until_stopped import until_stopped

if TYPE_CHECKING:
    from opu_driver import Bench
    from opu_driver.camera import Region, Trigger


def acquire(
    patterns: Annotated[
        str,
        typer.Option(
            "--patterns",
            metavar="KIND|FILE|MODULE:FUNCTION",
            help="`off`, `on`, `checkerboard`, `macropixels` (one after another), `hadamard`, "
            "`random`; a NumPy file of zeros and ones `[pattern, input]`; images (TIFF, PNG, a "
            "folder of them, or NumPy `[pattern, row, column]`) with a pixel for each mirror, or "
            "for each macropixel; another recording (.h5), whose patterns are shown in the order "
            "of its frames; or a Python function that is called with the number of inputs and "
            "gives an array as from a NumPy file.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE.h5", help="The recording.")],
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames",
            help="How many; patterns are repeated as needed. Without it, until stopped (Ctrl-C).",
        ),
    ] = None,
    inputs: Annotated[
        int, typer.Option("--inputs", help="Macropixels that the modulator is divided into.")
    ] = 64,
    bench: BenchOption = None,
    preset: PresetOption = None,
    scene_seed: SceneSeedOption = None,
    scene: SceneOption = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of random patterns.")] = 0,
    exposure_us: Annotated[
        list[float] | None,
        typer.Option(
            "--exposure-us",
            help="Exposure time, microseconds; given several times, all frames are taken with each "
            "(bracketing).",
        ),
    ] = None,
    repeats: Annotated[
        int,
        typer.Option("--repeats", help="Frames of each pattern in a row, to be averaged."),
    ] = 1,
    average: Annotated[
        str | None,
        typer.Option(
            "--average",
            metavar="PLACE",
            help="Also write the mean of the frames in a row that show one pattern, as float32, to "
            "PLACE, as `opu export FILE.h5 --to PLACE --average` does afterwards. All frames stay "
            "in the recording.",
        ),
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(
            "--region", metavar="ROW,COLUMN,HEIGHT,WIDTH", help="The part of the sensor to read."
        ),
    ] = None,
    trigger: Annotated[
        str | None, typer.Option("--trigger", help="`hardware` or `software`.")
    ] = None,
    json: JsonOption = None,
) -> None:
    """Show patterns and record the frames, with everything that made them.

    Every frame is kept as the camera gave it, also where --average writes means beside it. A
    sequence in which a frame is lost is shown again; the lost ones are counted. What was recorded
    when something goes wrong stays readable, under the name FILE.partial.h5.
    """
    from opu_driver.errors import PatternError
    from opu_driver.recording import Recording, partial_path, record
    from tools.export import require_place, write_frames
    from tools.output_path import require_free, require_recording, require_writable
    from tools.pattern_choice import pattern_source
    from tools.recording_table import recording_figures, recording_table

    require_recording(out)
    partial = partial_path(out)
    means = None if average is None else Path(average)
    require_writable(out, partial, means, json=json)
    for taken in (out, partial):
        require_free(taken)
    if average is not None:
        require_place(average)
    if repeats < 1:
        raise PatternError(f"--repeats {repeats}: each pattern is shown at least once.")
    chosen = None if region is None else _region(region)
    started = None if trigger is None else _trigger(trigger)
    source = pattern_source(patterns, inputs, seed, frames)
    with (
        chosen_bench(bench, preset, scene_seed, scene) as opened,
        advice(f"The frames until then are in {partial}.", if_there=partial),
        recording_bar(out.absolute().parent) as tell,
        until_stopped() if frames is None else nullcontext() as enough,
    ):
        _set(opened, chosen, started)
        record(
            opened,
            source.shown_on(opened, repeats),
            frames,
            out,
            subject=source.subject + (f", each {repeats} times" if repeats > 1 else ""),
            exposures_us=exposure_us or (),
            progress=tell,
            enough=enough,
        )
    with Recording(out) as recording:
        figures = recording_figures(recording)
    results().print(recording_table(out, figures))
    write_json(json, figures)
    if average is not None:
        count = write_frames(out, average, average=True)
        results().print(f"{count} means are in {average}.", highlight=False)


def _set(bench: Bench, region: Region | None, trigger: Trigger | None) -> None:
    """Bring the camera of an open bench to the region and the trigger that are wanted."""
    if region is not None or trigger is not None:
        settings = bench.settings
        region, trigger = region or settings.region, trigger or settings.trigger
        bench.configure(replace(settings, region=region, trigger=trigger))


def _trigger(name: str) -> Trigger:
    from opu_driver.camera import Trigger
    from opu_driver.errors import SettingError

    if name not in ("hardware", "software"):
        raise SettingError(f"--trigger {name!r}: hardware or software.")
    return Trigger(name)


def _region(text: str) -> Region:
    from opu_driver.camera import Region
    from opu_driver.errors import SettingError

    try:
        row, column, height, width = map(int, text.split(","))
    except ValueError as error:
        raise SettingError(
            f"--region {text!r}: four whole numbers, ROW,COLUMN,HEIGHT,WIDTH, such as 0,0,512,512."
        ) from error
    return Region(row, column, height, width)
