"""`opu acquire`: show patterns and record the frames."""

from __future__ import annotations

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
from tools.terminal import results, stages

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from opu_driver import Bench

_KINDS = ("off", "on", "checkerboard", "hadamard", "random")
_ROOM_BYTES = 2 * 2**30  # for vectors and their patterns, which are made all at once


def acquire(
    patterns: Annotated[
        str,
        typer.Option(
            "--patterns",
            metavar="KIND|FILE.npy",
            help="`off`, `on`, `checkerboard`, `hadamard`, `random`, or a NumPy file of zeros and "
            "ones `[pattern, input]`.",
        ),
    ],
    frames: Annotated[
        int, typer.Option("--frames", help="How many; patterns are repeated as needed.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE.h5", help="The recording.")],
    inputs: Annotated[
        int, typer.Option("--inputs", help="Macropixels that the modulator is divided into.")
    ] = 64,
    bench: BenchOption = None,
    preset: PresetOption = None,
    scene_seed: SceneSeedOption = None,
    scene: SceneOption = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of random patterns.")] = 0,
    json: JsonOption = None,
) -> None:
    """Show patterns and record the frames, with everything that made them.

    What was recorded when something goes wrong stays readable, under the name FILE.partial.h5.
    """
    from opu_driver.recording import Recording, partial_path, record
    from tools.inspect import recording_figures, recording_table
    from tools.output_path import require_free, require_writable

    require_writable(out, json)
    partial = partial_path(out)
    for taken in (out, partial):
        require_free(taken)
    _require_possible(patterns, inputs, seed)
    given = _from_file(Path(patterns)) if patterns not in _KINDS else None
    with (
        chosen_bench(bench, preset, scene_seed, scene) as opened,
        advice(f"The frames until then are in {partial}.", if_there=partial),
        stages("recording") as tell,
    ):
        count, width = (_count(patterns, inputs, frames), inputs) if given is None else given.shape
        _require_room(opened, count, width)
        vectors = _drawn(patterns, inputs, count, seed) if given is None else given
        layout = opened.layout(width)
        record(
            opened,
            layout.render(vectors),
            frames,
            out,
            subject=f"{patterns}, {layout.n_inputs} inputs, seed {seed}",
            progress=lambda done, total: tell("frames", done, total),
        )
    with Recording(out) as recording:
        figures = recording_figures(recording)
    results().print(recording_table(out, figures))
    write_json(json, figures)


def _require_possible(patterns: str, inputs: int, seed: int) -> None:
    from opu_driver.errors import PatternError

    if inputs < 1:
        raise PatternError(f"--inputs {inputs}: at least 1 macropixel.")
    if seed < 0:
        raise PatternError(f"--seed {seed}: 0 or any positive number.")
    if patterns not in _KINDS and not patterns.endswith(".npy"):
        raise PatternError(
            f"--patterns {patterns!r} is not known; there are {', '.join(_KINDS)}, and files that "
            "end in .npy."
        )


def _count(kind: str, inputs: int, frames: int) -> int:
    """How many vectors of a kind there are."""
    from calibration.hadamard import hadamard_order

    match kind:
        case "checkerboard":
            return 2
        case "hadamard":
            return 2 * hadamard_order(inputs)
        case "random":
            return max(frames, 1)
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
        case "hadamard":
            vectors = HadamardVectors(inputs)
            return with_complements(vectors.bits(range(vectors.count)))
    return np.random.default_rng(seed).integers(0, 2, (count, inputs), np.uint8)


def _from_file(path: Path) -> NDArray[np.uint8]:
    import numpy as np

    from opu_driver.errors import PatternError

    try:
        vectors = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise PatternError(
            f"The patterns in {path} cannot be read: {error}. Save them with numpy.save."
        ) from error
    if (
        not isinstance(vectors, np.ndarray)
        or vectors.ndim != 2
        or not vectors.size
        or vectors.dtype.kind not in "buif"
        or not np.isin(vectors, (0, 1)).all()
    ):
        shape = f"{vectors.dtype} {list(vectors.shape)}" if hasattr(vectors, "dtype") else "several"
        raise PatternError(
            f"The patterns in {path} ({shape}) are not an array [pattern, input] of zeros and "
            "ones. Quantise them, or show signed vectors through a calibration."
        )
    return vectors.astype(np.uint8)
