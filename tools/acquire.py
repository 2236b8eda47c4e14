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
    vectors = _vectors(patterns, inputs, frames, seed)
    with (
        chosen_bench(bench, preset, scene_seed, scene) as opened,
        advice(f"The frames until then are in {partial}.", if_there=partial),
        stages("recording") as tell,
    ):
        layout = opened.layout(vectors.shape[1])
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


def _vectors(patterns: str, inputs: int, frames: int, seed: int) -> NDArray[np.uint8]:
    """The vectors to show, uint8 `[pattern, input]`.

    Raises:
        PatternError: An unknown kind, or a file that does not hold zeros and ones.
    """
    import numpy as np

    from calibration.transmission_matrix import hadamard_vectors, with_complements
    from opu_driver.errors import PatternError

    if inputs < 1:
        raise PatternError(f"--inputs {inputs}: at least 1 macropixel.")
    match patterns:
        case "off":
            return np.zeros((1, inputs), np.uint8)
        case "on":
            return np.ones((1, inputs), np.uint8)
        case "checkerboard":
            board = np.arange(inputs, dtype=np.uint8)[None] % 2
            return np.concatenate([board, 1 - board])
        case "hadamard":
            return with_complements(hadamard_vectors(inputs))
        case "random":
            rng = np.random.default_rng(seed)
            return rng.integers(0, 2, (max(frames, 1), inputs), np.uint8)
    if patterns.endswith(".npy"):
        return _from_file(Path(patterns))
    raise PatternError(
        f"--patterns {patterns!r} is not known; there are off, on, checkerboard, hadamard, random, "
        "and files that end in .npy."
    )


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
