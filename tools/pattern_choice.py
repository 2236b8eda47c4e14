"""Which patterns are shown: of a kind, from a file, of another recording, or of a function."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from opu_driver.errors import PatternError
from opu_driver.modulator import Patterns
from tools.output_path import RECORDINGS

if TYPE_CHECKING:
    from opu_driver import Bench

KINDS = ("off", "on", "checkerboard", "macropixels", "hadamard", "random")

_IMAGES = (".tif", ".tiff", ".png")
_ENDLESS = 1024  # random patterns that are shown over and over, until stopped
_ROOM_BYTES = 2 * 2**30  # for vectors and their patterns, which are made all at once


class PatternSource(ABC):
    """Where patterns come from; what can be wrong without a bench has been refused by then.

    Attributes:
        subject: What they are, in words.
        count: How many there are.
        inputs: Macropixels that the modulator is divided into; 0 if it is not.
    """

    subject: str
    count: int
    inputs: int = 0

    def shown_on(self, bench: Bench, repeats: int = 1) -> Patterns:
        """The patterns as the modulator of an open bench stores them, each so often in a row.

        Raises:
            PatternError: The modulator cannot show them, or memory cannot hold them.
        """
        if self.inputs:
            bench.layout(self.inputs)
        rows, columns = bench.modulator.pattern_shape
        # Hadamard vectors are counted in int64 before they are bits.
        each = rows * columns * repeats + 8 * self.inputs
        if self.count * each > _ROOM_BYTES:
            of = f" of {self.inputs} inputs" if self.inputs else ""
            raise PatternError(
                f"{self.count} different patterns{of} take {self.count * each / 1e9:.3g} GB; at "
                f"most {_ROOM_BYTES // each} can be made at once. Take fewer frames or inputs, or "
                "several recordings with different seeds."
            )
        return self._made(bench).repeat(repeats, axis=0)

    @abstractmethod
    def _made(self, bench: Bench) -> Patterns:
        """Each pattern once."""


def pattern_source(name: str, inputs: int, seed: int, frames: int | None) -> PatternSource:
    """The source that a name stands for.

    Args:
        name: One of `KINDS`; a file; or a function, `MODULE:FUNCTION`.
        inputs: Macropixels, where the source does not tell.
        seed: Of random patterns.
        frames: How many frames are taken, None if nobody knows: so many random patterns there are.

    Raises:
        PatternError: There is no such thing, or it gives no patterns.
        FrameFileError, RecordingError: A file that cannot be read.
    """
    if inputs < 1:
        raise PatternError(f"--inputs {inputs}: at least 1 macropixel.")
    if seed < 0:
        raise PatternError(f"--seed {seed}: 0 or any positive number.")
    if name in KINDS:
        return _Kind(name, inputs, seed, frames)
    path = Path(name)
    kind = path.suffix.lower()
    if kind == ".npy":
        return _of_array(_loaded(path), f"in {name}", f"{name}")
    if kind in _IMAGES or path.is_dir():
        return _of_images(path)
    if kind in RECORDINGS:
        return _Recorded(path)
    if ":" in name:
        return _of_array(_called(name, inputs), f"from {name}", name)
    raise PatternError(
        f"--patterns {name!r} is not known; there are {', '.join(KINDS)}, files that end in .npy, "
        f"{', '.join(_IMAGES)} or .h5, folders of images, and functions MODULE:FUNCTION."
    )


class _Kind(PatternSource):
    """Patterns that need but a name."""

    def __init__(self, kind: str, inputs: int, seed: int, frames: int | None) -> None:
        from calibration.hadamard import hadamard_order

        self._kind = kind
        self._seed = seed
        self.inputs = inputs
        self.subject = f"{kind}, {inputs} inputs, seed {seed}"
        match kind:
            case "checkerboard":
                self.count = 2
            case "hadamard":
                self.count = 2 * hadamard_order(inputs)
            case "macropixels":
                self.count = inputs
            case "random":
                self.count = max(_ENDLESS if frames is None else frames, 1)
            case _:
                self.count = 1

    def _made(self, bench: Bench) -> Patterns:
        from calibration.complementary_pairs import with_complements
        from calibration.hadamard import HadamardVectors

        layout = bench.layout(self.inputs)
        match self._kind:
            case "off":
                return layout.all_off()
            case "on":
                return layout.all_on()
            case "checkerboard":
                board = layout.checkerboard()
                return layout.render(np.stack([board, 1 - board]))
            case "macropixels":
                return layout.render(np.eye(self.inputs, dtype=np.uint8))
            case "hadamard":
                vectors = HadamardVectors(self.inputs)
                return layout.render(with_complements(vectors.bits(range(vectors.count))))
        rng = np.random.default_rng(self._seed)
        return layout.render(rng.integers(0, 2, (self.count, self.inputs), np.uint8))


class _Vectors(PatternSource):
    """Binary vectors, uint8 `[pattern, input]`."""

    def __init__(self, vectors: NDArray[np.uint8], subject: str) -> None:
        self._vectors = vectors
        self.count, self.inputs = vectors.shape
        self.subject = f"{subject}, {self.inputs} inputs"

    def _made(self, bench: Bench) -> Patterns:
        return bench.layout(self.inputs).render(self._vectors)


class _Images(PatternSource):
    """Images `[pattern, row, column]`, a pixel for each of the modulator, or for each macropixel.

    On two levels a mirror is off at 0, and on at 1 or at the full scale of the image's type.
    """

    def __init__(self, images: NDArray[Any], subject: str) -> None:
        self._images = images
        self._origin = subject
        self.count = len(images)
        self.subject = f"{subject}, {self.count} images"

    def _made(self, bench: Bench) -> Patterns:
        modulator = bench.modulator
        rows, columns = self._images.shape[1:]
        if (rows, columns) == modulator.shape:
            if modulator.levels == 2:
                return np.packbits(self._bits(), axis=2)
            if self._images.dtype != np.uint8:
                raise PatternError(
                    f"The images in {self._origin} are {self._images.dtype}, and this modulator "
                    "shows levels of uint8. Save them with 8 bits."
                )
            return self._images
        grid = bench.layout(rows * columns).grid
        if (rows, columns) != grid:
            raise PatternError(
                f"The images in {self._origin} are {rows} x {columns}; this modulator has "
                f"{modulator.shape[0]} x {modulator.shape[1]} pixels, and {rows * columns} "
                f"macropixels lie on it as {grid[0]} x {grid[1]}. Draw one or the other."
            )
        return bench.layout(rows * columns).render(self._bits().reshape(self.count, -1))

    def _bits(self) -> NDArray[np.uint8]:
        images = self._images
        tops = (1, np.iinfo(images.dtype).max) if images.dtype.kind in "ui" else (1,)
        for top in tops:
            if np.isin(images, (0, top)).all():
                bits: NDArray[np.uint8] = (images == top).astype(np.uint8)
                return bits
        raise PatternError(
            f"The images in {self._origin} ({images.dtype}) have other values than 0 and "
            f"{' or '.join(map(str, tops))}, and these pixels are either off or on. Quantise them."
        )


class _Recorded(PatternSource):
    """The patterns of another recording, in the order of its frames."""

    def __init__(self, path: Path) -> None:
        from opu_driver.recording import Recording

        self._path = path
        with Recording(path) as recording:
            self._devices = recording.conditions.devices
            shown = recording.shown
        if not len(shown):
            raise PatternError(f"The recording {path} has no frames, and so no patterns.")
        _, first = np.unique(shown, return_index=True)
        once = shown[np.sort(first)]
        over_and_over = bool((shown == once[np.arange(len(shown)) % len(once)]).all())
        self._numbers = once if over_and_over else shown
        self.count = len(self._numbers)
        self.subject = f"{path}, {self.count} patterns"

    def _made(self, bench: Bench) -> Patterns:
        from opu_driver.recording import Recording

        modulator, then = bench.modulator, self._devices
        if then is not None and (then.mirrors, then.levels) != (modulator.shape, modulator.levels):
            raise PatternError(
                f"The patterns of {self._path} are for {then.mirrors[0]} x {then.mirrors[1]} "
                f"pixels of {then.levels} levels; this modulator has {modulator.shape[0]} x "
                f"{modulator.shape[1]} of {modulator.levels}. Make them anew for it."
            )
        with Recording(self._path) as recording:
            return recording.some_patterns(self._numbers)


def _of_images(path: Path) -> PatternSource:
    from tools.frame_files import open_frames

    with open_frames(path) as stack:
        return _Images(np.asarray(stack.frames), str(path))


def _of_array(array: Any, origin: str, subject: str) -> PatternSource:
    """Vectors `[pattern, input]`, or images `[pattern, row, column]`."""
    known = isinstance(array, np.ndarray) and array.size and array.dtype.kind in "buif"
    if known and array.ndim == 3:
        return _Images(array.astype(np.uint8) if array.dtype.kind == "b" else array, subject)
    if not known or array.ndim != 2 or not np.isin(array, (0, 1)).all():
        shape = f"{array.dtype} {list(array.shape)}" if hasattr(array, "dtype") else "several"
        raise PatternError(
            f"The patterns {origin} ({shape}) are not an array [pattern, input] of zeros and "
            "ones, nor images [pattern, row, column]. Quantise them, or show signed vectors "
            "through a calibration."
        )
    return _Vectors(array.astype(np.uint8), subject)


def _loaded(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise PatternError(
            f"The patterns in {path} cannot be read: {error}. Save them with numpy.save."
        ) from error


def _called(name: str, inputs: int) -> Any:
    """What a function gives for so many inputs."""
    import sys
    from importlib import import_module

    module, _, function = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # a file beside the user is a module, too
    try:
        make = getattr(import_module(module), function)
    except Exception as error:  # a module of the user's own may raise anything
        raise PatternError(
            f"--patterns {name}: {type(error).__name__}: {error}. Name a function in a module that "
            "Python can import, such as mine:stripes for stripes(n_inputs) in mine.py of this "
            "folder."
        ) from error
    try:
        return np.asarray(make(inputs))
    except Exception as error:  # and so may the function
        raise PatternError(
            f"--patterns {name}: {function}({inputs}) failed with {type(error).__name__}: {error}. "
            "It has to take the number of inputs and give an array [pattern, input] of zeros and "
            "ones; `opu --debug ...` shows where it fails."
        ) from error
