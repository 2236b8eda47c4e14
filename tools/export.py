"""`opu export`: the frames of a recording, or of any file of frames, for other programs.

What the grey values of a recording mean goes with them. The ImageDescription of a TIFF's first page
is a JSON object:

    shape, axes       of the whole stack, "TYX": frame, row, column (as tifffile has it)
    black_level       mean grey value without light
    saturation_level  grey value of a full pixel
    exposure_us       exposure time, microseconds
    averaged          frames that a page is the mean of; of averages only

Each is a number where it holds for all pages, to 0.01, and a list with one for each page otherwise.
Zarr arrays have the same, but for shape and axes, as attributes, and PNG images in a text named
Description. TIFF files of more than 4 GB are BigTIFF.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opu_driver.errors import InputError, OpuError
from tools.terminal import results

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from opu_driver.recording import Recording
    from tools.lazy_frames import LazyFrames

    Facts = Mapping[str, float | list[float]]

_KINDS = "FILE.tif, FILE.npy, FILE.zarr, or a folder of PNG images (PLACE/)"
_CLASSIC_BYTES = 2**32 - 2**25  # of a TIFF file, with room for what stands beside the frames
_ALIKE = 0.01  # grey values, microseconds
_BLOCK = 64  # frames that are averaged at a time


class ExportError(OpuError):
    """Frames that the disk did not take."""


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

    Black level, full scale and exposure time go with them into TIFF, PNG and Zarr. Markers and
    frames that were refused are left out; `h5py` opens the recording itself, with everything that
    is in it.
    """
    require_place(to)
    count = write_frames(file, to, average=average)
    results().print(f"{count} frames of {file} are in {to}.", highlight=False)


def require_place(to: str) -> None:
    """Refuse a place that frames cannot go to.

    Raises:
        InputError: No kind that is known, taken already, or in a folder that cannot be written.
    """
    from tools.output_path import require_free, require_writable

    _writer(to)
    require_free(Path(to))
    require_writable(Path(to))


def write_frames(file: Path, to: str, *, average: bool) -> int:
    """Write the frames of a file to a place that is free, and tell how many there are.

    Args:
        file: A recording, or frames of another program.
        to: The place, whose ending tells its kind.
        average: Whether to write the means of frames in a row that show one pattern.

    Raises:
        InputError: A file without frames, or frames that such a place cannot hold.
        ExportError: They cannot be written; nothing is left.
    """
    from tools.frame_files import open_frames

    place = Path(to)
    with open_frames(file) as stack:
        frames, recording = stack.frames, stack.recording
        if not len(frames):
            raise InputError(
                f"{file} holds no frames that were proven to show their patterns, so there is "
                "nothing to export. Record anew; `opu inspect` tells what is in it."
            )
        facts: Facts = {}
        if recording is not None:
            runs = _runs(recording)
            firsts, counts = _stretches(recording, runs) if average else (slice(None), None)
            facts = _facts(recording, runs[firsts], counts)
            if counts is not None:
                frames = _means(frames, counts)
        elif average:
            raise InputError(f"--average: {file} does not say which frames show one pattern.")
        with _whole_or_nothing(place) as aside:
            _writer(to)(aside, frames, facts)
        return len(frames)


def _writer(to: str) -> Callable[[Path, LazyFrames, Facts], None]:
    suffix = Path(to).suffix.lower()
    if to.endswith(("/", "\\")):
        return _png
    writers = {".tif": _tiff, ".tiff": _tiff, ".npy": _numpy, ".zarr": _zarr}
    if suffix not in writers:
        raise InputError(f"--to {to}: frames go to {_KINDS}.")
    return writers[suffix]


@contextmanager
def _whole_or_nothing(place: Path) -> Iterator[Path]:
    """Where to write what comes to its place only when all of it is on the disk.

    Raises:
        ExportError: The disk refuses.
    """
    try:
        with TemporaryDirectory(prefix=f".{place.name}.", dir=place.absolute().parent) as folder:
            aside = Path(folder) / place.name
            yield aside
            aside.rename(place)
    except OSError as error:
        raise ExportError(
            f"The frames cannot be written to {place}: {error}. Name a folder that has room."
        ) from error


def _runs(recording: Recording) -> NDArray[np.int64]:
    """int64 `[frame]`, the number of the run that a frame is of."""
    import numpy as np

    firsts = [run.first for run in recording.runs]
    return np.searchsorted(firsts, recording.own, side="right") - 1


def _stretches(
    recording: Recording, runs: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first frame of each stretch of one pattern at one exposure time, and its length."""
    import numpy as np

    exposure_us = np.array([run.settings.exposure_us for run in recording.runs] or [0.0])[runs]
    new = (np.diff(recording.shown) != 0) | (np.diff(exposure_us) != 0)
    firsts = np.concatenate([[0], np.flatnonzero(new) + 1])
    return firsts, np.diff(firsts, append=len(runs))


def _facts(
    recording: Recording, runs: NDArray[np.int64], counts: NDArray[np.int64] | None
) -> Facts:
    """What the grey values of pages mean, each of which is of a run."""
    import numpy as np

    told = recording.runs or (recording.conditions,)
    levels = {
        "black_level": [one.black_level for one in told],
        "saturation_level": [one.saturation_level for one in told],
        "exposure_us": [one.settings.exposure_us for one in told],
    }
    pages = {name: np.array(values)[runs] for name, values in levels.items()}
    if counts is not None:
        pages["averaged"] = counts
    return {
        name: values[0].item() if np.ptp(values) <= _ALIKE else values.tolist()
        for name, values in pages.items()
    }


def _means(frames: LazyFrames, counts: NDArray[np.int64]) -> LazyFrames:
    """The means of stretches of frames, which follow each other."""
    import numpy as np

    from tools.lazy_frames import LazyFrames

    edges = np.concatenate([[0], np.cumsum(counts)])

    def mean(number: int) -> NDArray[Any]:
        first, last = int(edges[number]), int(edges[number + 1])
        total = np.zeros(frames.shape[1:])
        for begin in range(first, last, _BLOCK):
            total += frames[begin : min(begin + _BLOCK, last)].sum(axis=0, dtype=np.float64)
        return (total / (last - first)).astype(np.float32)

    return LazyFrames(Path(), len(counts), mean)


def _tiff(place: Path, frames: LazyFrames, facts: Facts) -> None:
    from importlib.metadata import version

    from tifffile import TiffWriter

    big = frames.size * frames.dtype.itemsize > _CLASSIC_BYTES
    with TiffWriter(place, bigtiff=big) as file:
        file.write(
            iter(frames),
            shape=frames.shape,
            dtype=frames.dtype,
            photometric="minisblack",
            software=f"opu {version('opu')}",
            metadata={"axes": "TYX", **facts},
        )


def _png(place: Path, frames: LazyFrames, facts: Facts) -> None:
    import json

    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    if frames.dtype.kind != "u":
        raise InputError(f"PNG images hold whole grey values, and these are {frames.dtype}: TIFF.")
    place.mkdir()
    for k, frame in enumerate(frames):
        its = {
            name: value[k] if isinstance(value, list) else value for name, value in facts.items()
        }
        info = PngInfo()
        info.add_text("Description", json.dumps(its))
        Image.fromarray(frame).save(place / f"{k:06d}.png", pnginfo=info if its else None)


def _numpy(place: Path, frames: LazyFrames, facts: Facts) -> None:
    import numpy as np

    del facts  # an array knows nothing but its numbers
    header = {
        "descr": np.lib.format.dtype_to_descr(frames.dtype),
        "fortran_order": False,
        "shape": frames.shape,
    }
    # Not through a memory map: a disk that is full would end the process there, without an error.
    with place.open("xb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for frame in frames:
            file.write(frame.tobytes())


def _zarr(place: Path, frames: LazyFrames, facts: Facts) -> None:
    from opu_driver.extras import vendor_library

    zarr = vendor_library("zarr", "zarr")
    array = zarr.create_array(
        str(place),
        shape=frames.shape,
        chunks=(1, *frames.shape[1:]),
        dtype=frames.dtype,
        attributes=dict(facts),
    )
    for k, frame in enumerate(frames):
        array[k] = frame
