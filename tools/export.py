"""`opu export`: the frames of a recording, or of any file of frames, for other programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tools.terminal import results

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from opu_driver.recording import Recording
    from tools.frame_files import FrameStack

_KINDS = "FILE.tif, FILE.npy, FILE.zarr, or a folder of PNG images (PLACE/)"


def export(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A recording, or frames of another program.")
    ],
    to: Annotated[
        str, typer.Option("--to", metavar="PLACE", help=f"Where the frames go: {_KINDS}.")
    ],
    average: Annotated[
        bool,
        typer.Option(
            "--average", help="The mean of frames in a row that show one pattern, as float32."
        ),
    ] = False,
) -> None:
    """Write the frames of a recording for other programs: TIFF stack, PNG, NumPy or Zarr.

    Markers are left out; `h5py` opens the recording itself, with everything that is in it.
    """
    from opu_driver.errors import InputError
    from tools.frame_files import open_frames
    from tools.output_path import require_free, require_writable

    place = Path(to)
    writer = _writer(to)
    require_free(place)
    require_writable(place)
    with open_frames(file) as stack:
        if average and stack.recording is None:
            raise InputError(f"--average: {file} does not say which frames show one pattern.")
        frames = _means(stack, stack.recording) if average and stack.recording else stack.frames
        writer(place, frames)
        count = len(frames)
    results().print(f"{count} frames of {file} are in {place}.", highlight=False)


def _writer(to: str) -> Callable[[Path, NDArray[Any]], None]:
    from opu_driver.errors import InputError

    suffix = Path(to).suffix.lower()
    if to.endswith(("/", "\\")):
        return _png
    writers = {".tif": _tiff, ".tiff": _tiff, ".npy": _numpy, ".zarr": _zarr}
    if suffix not in writers:
        raise InputError(f"--to {to}: frames go to {_KINDS}.")
    return writers[suffix]


def _means(stack: FrameStack, recording: Recording) -> NDArray[Any]:
    """The mean of each stretch of frames of one pattern at one exposure time."""
    import numpy as np

    exposure = np.zeros(recording.n_exposures)
    for run in recording.runs:
        exposure[run.first : run.first + run.count] = run.settings.exposure_us
    exposure = exposure[recording.own]
    new = (np.diff(recording.shown) != 0) | (np.diff(exposure) != 0)
    parts = np.split(np.asarray(stack.frames), np.flatnonzero(new) + 1)
    return np.stack([part.mean(axis=0, dtype=np.float64) for part in parts]).astype(np.float32)


def _tiff(place: Path, frames: NDArray[Any]) -> None:
    from PIL import Image

    pages: Iterator[Image.Image] = (Image.fromarray(frame) for frame in frames)
    next(pages).save(place, format="TIFF", save_all=True, append_images=pages)


def _png(place: Path, frames: NDArray[Any]) -> None:
    from PIL import Image

    from opu_driver.errors import InputError

    if frames.dtype.kind != "u":
        raise InputError(f"PNG images hold whole grey values, and these are {frames.dtype}: TIFF.")
    place.mkdir()
    for k, frame in enumerate(frames):
        Image.fromarray(frame).save(place / f"{k:06d}.png")


def _numpy(place: Path, frames: NDArray[Any]) -> None:
    import numpy as np

    np.save(place, frames)


def _zarr(place: Path, frames: NDArray[Any]) -> None:
    from opu_driver.extras import vendor_library

    zarr = vendor_library("zarr", "zarr")
    array = zarr.create_array(
        str(place), shape=frames.shape, chunks=(1, *frames.shape[1:]), dtype=frames.dtype
    )
    for k, frame in enumerate(frames):
        array[k] = frame
