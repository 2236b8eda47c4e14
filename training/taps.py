"""Feedback points: which output of which module gets feedback, and where its rows lie in it.

A projector knows rows of numbers. A tensor holds its rows in one of three ways:

    "last"       [*rows, n]            tokens [sample, token, n], nodes [node, n]: a row each
    "channels"   [sample, n, *pixels]  images: a row a pixel
    "all"        [sample, ...]         a row a sample, of all its pixels and channels

`"last"` is the default, but not where a module convolves: what it puts out could be read in all
three ways, so that one has to be chosen.

The error and every tap say which, and their rows have to be the same. Where a tapped output has
positions that the error has not (pixels or tokens below, one vector a sample above), there are two
ways: `"all"` gives every position feedback of its own, as in the first convolutional networks that
learned by DFA (Nøkland, arXiv:1609.01596); `broadcast` gives all of a sample's positions
the same, for far fewer outputs of the projector.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import chain
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from training.errors import SettingsError, TapError

Features = Literal["last", "channels", "all"]
Layout = Literal["concat", "shared_prefix"]
Gate = Callable[[Tensor], Tensor]

SEQUENCE_LAYERS = (
    nn.RNNBase,
    nn.MultiheadAttention,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
    nn.TransformerEncoder,
    nn.TransformerDecoder,
)


CONVOLUTIONS = (nn.modules.conv._ConvNd,)


@dataclass(frozen=True)
class Tap:
    """Outputs of modules that get feedback, or one at which the error is taken.

    Attributes:
        glob: Over the names of submodules, level by level: `blocks.*` is `blocks.0`, not
            `blocks.0.linear`.
        output: Which tensor of a module that returns several: its index, or its key. The others get
            no gradient at all.
        features: Where the rows lie, see above. To be told where a module convolves and puts out
            more than rows; `"last"` otherwise.
        broadcast: All positions that the error has not get the row of their sample.
        gate: Multiplies the feedback: an elementwise function of the tapped output. With the output
            `a` of a linear layer tapped, the feedback is `(B e) * gate(a)`: direct feedback
            alignment if the gate is the derivative of the activation that follows, augmented direct
            feedback alignment if it is another function (Nakajima et al., Nat. Commun. 13, 7847,
            2022).
    """

    glob: str
    output: int | str | None = None
    features: Features | None = None
    broadcast: bool = False
    gate: Gate | None = None

    def __post_init__(self) -> None:
        if self.features not in (None, *get_args(Features)):
            raise SettingsError(
                f"Features {self.features!r} of {self.glob!r}: choose one of "
                f"{', '.join(get_args(Features))}."
            )

    def __str__(self) -> str:
        """What decides the feedback, beside the glob only what is not the default."""
        options = [
            *(() if self.output is None else (f"output {self.output!r}",)),
            *(() if self.features in (None, "last") else (f"features {self.features}",)),
            *(("broadcast",) if self.broadcast else ()),
            *(() if self.gate is None else ("gated",)),
        ]
        return self.glob + (f" ({', '.join(options)})" if options else "")

    def factor(self, tensor: Tensor) -> Tensor | None:
        """What multiplies the feedback of this output; None without a gate."""
        if self.gate is None:
            return None
        with torch.no_grad():  # of a copy: what follows may overwrite the output, and so may a gate
            return self.gate(tensor.detach().clone())

    def pick(self, output: Any, name: str) -> Tensor:
        """The tapped tensor of what a module returned.

        Raises:
            TapError: There is no such tensor, it has no rows, or they are not told; or it is
                complex.
        """
        picked = output
        if isinstance(output, Tensor) and self.output is not None:
            raise TapError(
                f"{name or 'The module'!r} returns one tensor, of which output={self.output!r} "
                "would be a part: leave output out."
            )
        if self.output is not None:
            try:
                picked = output[self.output]
            except (TypeError, IndexError, KeyError) as error:
                raise TapError(
                    f"{name or 'The module'!r} returns a {type(output).__name__} without "
                    f"{self.output!r}: choose one of its tensors by index or key."
                ) from error
        if not isinstance(picked, Tensor):
            raise TapError(
                f"{name or 'The module'!r} returns a {type(picked).__name__}, one tensor is "
                f"needed: choose it with Tap({self.glob!r}, output=...), by index or key."
            )
        if picked.ndim < 2:
            raise TapError(
                f"{name or 'The module'!r} puts out a tensor of shape {tuple(picked.shape)}: rows "
                "are needed, [..., n]. Choose another module, or one number a row by unsqueeze(-1)."
            )
        if self.features is None and picked.ndim > 2:
            raise TapError(
                f"{name or 'The module'!r} convolves, and puts out {tuple(picked.shape)}: say "
                f"where its features lie. Tap({self.glob!r}, features='channels') is a row a "
                "pixel, 'all' a row a sample; with 'last' they are the last dimension."
            )
        if picked.is_complex():
            raise TapError(
                f"{name or 'The module'!r} puts out complex numbers ({picked.dtype}), and feedback "
                "is real: let it return real and imaginary parts side by side."
            )
        return picked

    def put(self, output: Any, tensor: Tensor) -> Any:
        """What a module returned, with another tensor in place of the tapped one."""
        if self.output is None:
            return tensor
        if isinstance(output, dict):
            return _with(output, {self.output: tensor})
        assert isinstance(self.output, int)  # pick has read it from a list or tuple
        items = list(output)
        items[self.output] = tensor
        return _like(output, items)


class Tapped(NamedTuple):
    """One call of a tapped module.

    Attributes:
        name: The tapped module; further calls of it are `name#2`, `name#3`, ...
        tap: Which of its outputs, and how its rows lie.
        tensor: That output.
        factor: What multiplies its feedback, of its shape; None without a gate.
    """

    name: str
    tap: Tap
    tensor: Tensor
    factor: Tensor | None = None


@dataclass(frozen=True)
class FeedbackPoint:
    """One call of a tapped module, and which outputs of the projector feed it.

    Attributes:
        name: The tapped module; further calls of it are `name#2`, `name#3`, ...
        columns: Its slice of a projection.
        tap: How its rows lie.
    """

    name: str
    columns: slice
    tap: Tap

    def feedback(self, projection: Tensor, shape: Sequence[int]) -> Tensor:
        """Its part of a projection `[*rows, n_outputs]`, in the shape of its output."""
        part = projection[..., self.columns]
        if self.tap.features in (None, "last") and part.shape == shape:
            return part
        rows, width = rows_of(shape, self.tap.features)
        between = (1,) * (len(rows) - projection.ndim + 1)
        part = part.reshape(*projection.shape[:-1], *between, width).expand(*rows, width)
        part = part.movedim(-1, 1) if self.tap.features == "channels" else part
        return part.reshape(*shape)


def rows_of(shape: Sequence[int], features: Features | None) -> tuple[tuple[int, ...], int]:
    """The rows in a tensor of this shape, and their length."""
    if features == "channels":
        return (shape[0], *shape[2:]), shape[1]
    if features == "all":
        return (shape[0],), math.prod(shape[1:])
    return tuple(shape[:-1]), shape[-1]


def as_rows(tensor: Tensor, features: Features | None) -> Tensor:
    """The tensor as `[*rows, n]`."""
    if features == "channels":
        return tensor.movedim(1, -1)
    return tensor.flatten(1) if features == "all" else tensor


def resolve(module: nn.Module, taps: Sequence[str | Tap]) -> dict[str, Tap]:
    """The taps by the names of the submodules, in the order in which those are registered.

    The first tap that matches a submodule, by any of its names, holds for it.

    Raises:
        TapError: A glob that matches nothing.
    """
    if isinstance(taps, str) or not taps:
        raise TapError(f"taps={taps!r}: give a list of at least one glob, such as ['blocks.*'].")
    wanted = [Tap(tap) if isinstance(tap, str) else tap for tap in taps]
    names: dict[nn.Module, list[str]] = {}
    for name, part in module.named_modules(remove_duplicate=False):
        if part is not module:
            names.setdefault(part, []).append(name)
    for tap in wanted:
        if not any(_matches(name, tap.glob) for name in chain(*names.values())):
            raise TapError(f"Tap {tap.glob!r} matches no submodule: {some_names(module)} are.")
    found: dict[str, Tap] = {}
    for part, own in names.items():
        for tap in wanted:
            if any(_matches(name, tap.glob) for name in own):
                found[own[0]] = told(replace(tap, glob=own[0]), part)
                break
    return found


def told(tap: Tap, module: nn.Module) -> Tap:
    """The tap with what its features are by default, unless the module convolves."""
    if tap.features is None and not any(
        isinstance(part, CONVOLUTIONS) for part in module.modules()
    ):
        return replace(tap, features="last")
    return tap


def feedback_points(
    tapped: Sequence[Tapped],
    error: Tensor,
    at: Tap,
    layout: Layout,
    n_outputs: int,
) -> tuple[FeedbackPoint, ...]:
    """Which outputs of the projector feed which output.

    Args:
        tapped: Every call of a tapped module, in the order in which they ran.
        error: Where the error is taken,
        at: and how its rows lie.
        layout: `"concat"`, each has outputs to itself; `"shared_prefix"`, all use the first ones.
        n_outputs: How many there are.

    Raises:
        TapError: Rows that are not those of the error, or too few outputs.
    """
    rows, _ = rows_of(error.shape, at.features)
    points: list[FeedbackPoint] = []
    used = 0
    for name, tap, tensor, _ in tapped:
        own, width = rows_of(tensor.shape, tap.features)
        if own != rows and not (tap.broadcast and own[: len(rows)] == rows):
            raise TapError(
                f"{name!r} puts out {tuple(tensor.shape)}, rows {own} by features="
                f"{tap.features!r}; the error at {tuple(error.shape)} has rows {rows}. "
                + _remedy(tap, own, rows)
            )
        start = used if layout == "concat" else 0
        points.append(FeedbackPoint(name, slice(start, start + width), tap))
        used = max(used, start + width)
    if used > n_outputs:
        raise TapError(
            f"The taps take {used} outputs ({layout}), the projector has {n_outputs}. Use a "
            "larger one, fewer taps, or layout='shared_prefix'."
        )
    return tuple(points)


def _remedy(tap: Tap, own: Sequence[int], rows: Sequence[int]) -> str:
    if len(own) > 1 < len(rows) and own[0] == rows[0]:
        return (
            "Both have positions, and no position of one is that of another: take the error of a "
            "whole sample for a row, error_at=Tap(..., features='all'), and feed each position "
            "that row by broadcast=True, or all of them by features='all'."
        )
    if tap.broadcast:
        return (
            "With broadcast=True the first dimensions of an output are those of the error, samples "
            "first, and each position gets its sample's row: wrap the module in one that puts its "
            "output like that."
        )
    return (
        f"Say where the features lie: Tap({tap.glob!r}, features='channels') is a row a pixel, "
        "'all' a row a sample, and broadcast=True gives each position its sample's row."
    )


def puts_sequence_first(module: nn.Module) -> bool:
    """Whether it is one of PyTorch's sequence layers, with `batch_first=False`."""
    return isinstance(module, SEQUENCE_LAYERS) and any(
        getattr(part, "batch_first", True) is False for part in module.modules()
    )


def detached(output: Any, name: str) -> Any:
    """What a module returned, with every tensor in it detached.

    Raises:
        TapError: Something that might hide a tensor, and lead backpropagation around the tap.
    """
    if isinstance(output, Tensor):
        return output.detach()
    if output is None or isinstance(output, bool | int | float | str):
        return output
    if isinstance(output, tuple | list):
        return _like(output, [detached(item, name) for item in output])
    if isinstance(output, dict):
        new = _with(output, {key: detached(item, name) for key, item in output.items()})
        attributes = tensors_in(list(getattr(new, "__dict__", {}).values()))
        if not any(tensor.requires_grad for tensor in attributes):
            return new
    raise TapError(
        f"{name!r} returns a {type(output).__name__}, through which gradients might pass by the "
        "tap: wrap the module in one that returns tensors, tuples, lists or dicts of them."
    )


def tensors_in(output: Any) -> list[Tensor]:
    """The tensors of what a module returned."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, dict):
        output = list(output.values())
    items = output if isinstance(output, tuple | list) else ()
    return [tensor for item in items for tensor in tensors_in(item)]


def some_names(module: nn.Module, limit: int = 12) -> str:
    """Names of submodules, for a message."""
    names = [name for name, _ in module.named_modules() if name]
    shown = ", ".join(names[:limit]) or "none"
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _like(output: Any, items: list[Any]) -> Any:
    named = isinstance(output, tuple) and hasattr(output, "_fields")
    return type(output)(*items) if named else type(output)(items)


def _with(output: dict[Any, Any], items: dict[Any, Any]) -> dict[Any, Any]:
    """A dictionary of the same kind, with other items."""
    if type(output) is dict:
        return {**output, **items}
    new = copy.copy(output)
    for key, item in items.items():
        new[key] = item
    return new


def _matches(name: str, glob: str) -> bool:
    parts, patterns = name.split("."), glob.split(".")
    return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))
