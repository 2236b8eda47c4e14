"""`opu acquire`: show patterns and record the frames."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    import numpy as np
    from numpy.typing import NDArray

    from opu_driver import Bench
    from opu_driver.camera import Region, Trigger

_KINDS = ("off", "on", "checkerboard", "macropixels", "hadamard", "random")
_ENDLESS = 1024  # random patterns that are shown over and over, until stopped
_ROOM_BYTES = 2 * 2**30  # for vectors and their patterns, which are made all at once


def acquire(
    patterns: Annotated[
        str,
        typer.Option(
            "--patterns",
            metavar="KIND|FILE.npy|MODULE:FUNCTION",
            help="`off`, `on`, `checkerboard`, `macropixels` (one after another), `hadamard`, "
            "`random`, a NumPy file of zeros and ones `[pattern, input]`, or a Python function "
            "that is called with the number of inputs and gives such an array.",
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
        typer.Option(
            "--repeats", help="Frames of each pattern in a row; `opu export --average` means them."
        ),
    ] = 1,
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

    What was recorded when something goes wrong stays readable, under the name FILE.partial.h5.
    """
    from opu_driver.recording import Recording, give_name, partial_path, record
    from tools.output_path import require_free, require_writable
    from tools.recording_table import recording_figures, recording_table

    require_writable(out, json)
    partial = partial_path(out)
    for taken in (out, partial):
        require_free(taken)
    _require_possible(patterns, inputs, seed, repeats)
    chosen = None if region is None else _region(region)
    started = None if trigger is None else _trigger(trigger)
    given = _given(patterns, inputs)
    with (
        chosen_bench(bench, preset, scene_seed, scene) as opened,
        advice(f"The frames until then are in {partial}.", if_there=partial),
        recording_bar(out.absolute().parent) as tell,
        until_stopped() if frames is None else nullcontext(_go_on) as stop_if_asked,
    ):
        _set(opened, chosen, started)
        count = _count(patterns, inputs, frames) if given is None else len(given)
        width = inputs if given is None else given.shape[1]
        _require_room(opened, count * repeats, width)
        vectors = _drawn(patterns, inputs, count, seed) if given is None else given
        layout = opened.layout(width)

        def told(done: int, total: int) -> None:
            tell(done, total)
            stop_if_asked()

        record(
            opened,
            layout.render(vectors.repeat(repeats, axis=0)),
            frames,
            out,
            subject=f"{patterns}, {layout.n_inputs} inputs, seed {seed}"
            + (f", each {repeats} times" if repeats > 1 else ""),
            exposures_us=exposure_us or (),
            progress=told,
        )
    if frames is None:
        give_name(out)
    with Recording(out) as recording:
        figures = recording_figures(recording)
    results().print(recording_table(out, figures))
    write_json(json, figures)


def _go_on() -> None:
    """Nobody can ask a recording of so many frames to stop early, and still be whole."""


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


def _require_possible(patterns: str, inputs: int, seed: int, repeats: int) -> None:
    from opu_driver.errors import PatternError

    if inputs < 1:
        raise PatternError(f"--inputs {inputs}: at least 1 macropixel.")
    if seed < 0:
        raise PatternError(f"--seed {seed}: 0 or any positive number.")
    if repeats < 1:
        raise PatternError(f"--repeats {repeats}: each pattern is shown at least once.")
    if patterns not in _KINDS and not patterns.endswith(".npy") and ":" not in patterns:
        raise PatternError(
            f"--patterns {patterns!r} is not known; there are {', '.join(_KINDS)}, files that "
            "end in .npy, and functions MODULE:FUNCTION."
        )


def _count(kind: str, inputs: int, frames: int | None) -> int:
    """How many vectors of a kind there are."""
    from calibration.hadamard import hadamard_order

    match kind:
        case "checkerboard":
            return 2
        case "hadamard":
            return 2 * hadamard_order(inputs)
        case "macropixels":
            return inputs
        case "random":
            return max(_ENDLESS if frames is None else frames, 1)
    return 1


def _require_room(bench: Bench, count: int, inputs: int) -> None:
    """Refuse what the modulator or the memory cannot hold, before any of it is made."""
    from opu_driver.errors import PatternError

    bench.layout(inputs)
    rows, columns = bench.modulator.pattern_shape
    each = rows * columns + 8 * inputs  # Hadamard vectors are counted in int64 before they are bits
    if count * each > _ROOM_BYTES:
        raise PatternError(
            f"{count} different patterns of {inputs} inputs take {count * each / 1e9:.3g} GB; at "
            f"most {_ROOM_BYTES // each} can be made at once. Take fewer frames or inputs, or "
            "several recordings with different seeds."
        )


def _drawn(kind: str, inputs: int, count: int, seed: int) -> NDArray[np.uint8]:
    """The vectors of a kind, uint8 `[pattern, input]`."""
    import numpy as np

    from calibration.complementary_pairs import with_complements
    from calibration.hadamard import HadamardVectors

    match kind:
        case "off":
            return np.zeros((1, inputs), np.uint8)
        case "on":
            return np.ones((1, inputs), np.uint8)
        case "checkerboard":
            board = np.arange(inputs, dtype=np.uint8)[None] % 2
            return np.concatenate([board, 1 - board])
        case "macropixels":
            return np.eye(inputs, dtype=np.uint8)
        case "hadamard":
            vectors = HadamardVectors(inputs)
            return with_complements(vectors.bits(range(vectors.count)))
    return np.random.default_rng(seed).integers(0, 2, (count, inputs), np.uint8)


def _given(patterns: str, inputs: int) -> NDArray[np.uint8] | None:
    """The vectors of a file or a function; None for those of a kind."""
    if patterns in _KINDS:
        return None
    if patterns.endswith(".npy"):
        return _from_file(Path(patterns))
    return _from_function(patterns, inputs)


def _from_function(name: str, inputs: int) -> NDArray[np.uint8]:
    import sys
    from importlib import import_module

    import numpy as np

    from opu_driver.errors import PatternError

    module, _, function = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # a file beside the user is a module, too
    try:
        make = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise PatternError(
            f"--patterns {name}: {error}. Name a function in a module that Python can import, such "
            "as mine:stripes for stripes(n_inputs) in mine.py of this folder."
        ) from error
    return _checked(np.asarray(make(inputs)), f"from {name}")


def _from_file(path: Path) -> NDArray[np.uint8]:
    import numpy as np

    from opu_driver.errors import PatternError

    try:
        vectors = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise PatternError(
            f"The patterns in {path} cannot be read: {error}. Save them with numpy.save."
        ) from error
    return _checked(vectors, f"in {path}")


def _checked(vectors: Any, origin: str) -> NDArray[np.uint8]:
    import numpy as np

    from opu_driver.errors import PatternError

    if (
        not isinstance(vectors, np.ndarray)
        or vectors.ndim != 2
        or not vectors.size
        or vectors.dtype.kind not in "buif"
        or not np.isin(vectors, (0, 1)).all()
    ):
        shape = f"{vectors.dtype} {list(vectors.shape)}" if hasattr(vectors, "dtype") else "several"
        raise PatternError(
            f"The patterns {origin} ({shape}) are not an array [pattern, input] of zeros and "
            "ones. Quantise them, or show signed vectors through a calibration."
        )
    checked: NDArray[np.uint8] = vectors.astype(np.uint8)
    return checked
