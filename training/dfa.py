"""Direct feedback alignment around any module, with the user's own training loop.

The output of every tapped module is detached, so that ordinary autograd runs inside each block and
nothing runs between blocks. At the output one autograd function, the sink, takes the output and all
taps: its backward pass lets the true error through to the output layer, and hands each tap its part
of one projection of that error:

    dW_i = -[(B_i e) * f'(a_i)] h_{i-1}^T        (Nøkland, arXiv:1609.01596, eq. 8)

The tap is the block's output `h_i = f(a_i)`: feedback `B_i e` arrives there, and autograd
multiplies it by `f'(a_i)` inside the block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from training.encoding import Encoder, Identity
from training.errors import FingerprintError, LeakError, SettingsError, TapError
from training.outside import Outside
from training.probe import undisturbed
from training.projector import Projector

Mode = Literal["dfa", "bp", "shallow"]
Layout = Literal["concat", "shared_prefix"]
Feedback = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Tap:
    """One feedback point: which module, and which outputs of the projector feed it.

    Attributes:
        name: The tapped module.
        columns: Its slice of a projection.
    """

    name: str
    columns: slice


@dataclass(frozen=True)
class Recorded:
    """A forward pass with what was tapped on the way.

    Attributes:
        output: What the module returned.
        taps: Name and output of each tapped module, in the order in which they ran.
        points: Their feedback points; empty where there is no feedback.
    """

    output: Tensor
    taps: tuple[tuple[str, Tensor], ...]
    points: tuple[Tap, ...]


@dataclass
class _Pass:
    """A forward pass on its way."""

    tapped: list[tuple[str, Tensor]] = field(default_factory=list)
    points: tuple[Tap, ...] = ()
    closed: bool = False


class Sink(torch.autograd.Function):
    """The output passes unchanged; backward, the error feeds every tap through one projection."""

    @staticmethod
    def forward(
        ctx: Any, feedback: Feedback, taps: Sequence[Tap], output: Tensor, *tapped: Tensor
    ) -> Tensor:
        """The output."""
        ctx.feedback, ctx.taps = feedback, taps
        ctx.shapes = [tap.shape for tap in tapped]
        ctx.dtypes = [tap.dtype for tap in tapped]
        return output.view_as(output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, error: Tensor) -> tuple[Tensor | None, ...]:
        """The true error for the output, and its projection, cut into slices, for the taps."""
        wanted = ctx.needs_input_grad[3:]
        if not any(wanted):
            return (None, None, error, *(None for _ in wanted))
        rows = error.reshape(-1, error.shape[-1])
        half = rows.dtype in (torch.float16, torch.bfloat16)
        projection = ctx.feedback(rows.float() if half else rows)
        slices = (
            projection[:, tap.columns].to(error.device, dtype).reshape(shape) if want else None
            for tap, shape, dtype, want in zip(
                ctx.taps, ctx.shapes, ctx.dtypes, wanted, strict=True
            )
        )
        return (None, None, error, *slices)


class DFA(nn.Module):
    """A module that learns by direct feedback alignment in an unchanged training loop.

    Exactly one projector call is made in each backward pass, and none in the forward pass.

    Attributes:
        mode: `"dfa"`; `"bp"`, ordinary backpropagation; or `"shallow"`, no feedback at all, so
            that only what lies above the taps learns (parameters below get no gradient).
        loss_scale: What multiplies the loss besides the reduction: a number, or a function such as
            `torch.amp.GradScaler.get_scale`. Only encoders with an absolute threshold need it.

    Args:
        module: Any module with one tensor `[..., n_classes]` as its output.
        projector: Where error vectors are projected.
        taps: Globs over the names of submodules whose outputs get feedback.
        encoder: Error vectors -> codes; `Identity()` where the projector takes any number.
        layout: `"concat"`, each tap has outputs of the projector to itself, in the order in which
            the modules run; `"shared_prefix"`, all use the first ones.
        error_at: The submodule at whose output the error is taken; it and what lies above it learn
            by backpropagation. The output of `module` by default.
        reduction: How the loss combines samples: with `"mean"`, a per-sample error arrives divided
            by the number of rows of the output.
        loss_scale: See above.

    Raises:
        TapError: A glob matches nothing, `error_at` is no submodule.
        SettingsError: A layout or reduction that does not exist.
    """

    def __init__(
        self,
        module: nn.Module,
        projector: Projector,
        taps: Sequence[str],
        *,
        encoder: Encoder | None = None,
        layout: Layout = "concat",
        error_at: str | None = None,
        reduction: Literal["mean", "sum"] = "mean",
        loss_scale: float | Callable[[], float] = 1.0,
    ) -> None:
        super().__init__()
        if layout not in get_args(Layout):
            raise SettingsError(f"Layout {layout!r}: choose one of {', '.join(get_args(Layout))}.")
        if reduction not in ("mean", "sum"):
            raise SettingsError(f"Reduction {reduction!r}: choose 'mean' or 'sum'.")
        self.module = module
        self.projector = projector
        self.encoder: Encoder = Identity() if encoder is None else encoder
        self.layout = layout
        self.reduction = reduction
        self.loss_scale = loss_scale
        self.tap_names = _matching(module, taps)
        self.error_at = error_at
        self._mode: Mode = "dfa"
        self._pass: _Pass | None = None
        self._feedback: Feedback = Outside(self._project, projector.n_outputs)
        for name in self.tap_names:
            module.get_submodule(name).register_forward_hook(self._tap_hook(name))
        if error_at is not None:
            if error_at not in dict(module.named_modules()):
                raise TapError(f"error_at={error_at!r} is no submodule: {_some_names(module)} are.")
            module.get_submodule(error_at).register_forward_hook(self._error_hook)

    @property
    def mode(self) -> Mode:
        """How the module learns: `"dfa"`, `"bp"` or `"shallow"`."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        if mode not in get_args(Mode):
            raise SettingsError(f"Mode {mode!r}: choose one of {', '.join(get_args(Mode))}.")
        self._mode = mode

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """What the wrapped module returns, learning as `mode` says."""
        if self._mode == "bp" or not torch.is_grad_enabled():
            return self._checked(self.module(*args, **kwargs))
        return self.record(*args, **kwargs).output

    def record(self, *args: Any, **kwargs: Any) -> Recorded:
        """A forward pass that also returns the tapped outputs, to take gradients at them.

        Raises:
            TapError: A tapped module did not run, or its output does not fit the error or the
                projector.
        """
        self._pass = running = _Pass()
        try:
            output = self._checked(self.module(*args, **kwargs))
            if self.error_at is None:
                output = self._close(output)
        finally:
            self._pass = None
        if not running.closed:
            raise TapError(f"error_at={self.error_at!r} did not run in this forward pass.")
        return Recorded(output, tuple(running.tapped), running.points)

    def build(self, *args: Any, **kwargs: Any) -> tuple[Tap, ...]:
        """Check taps and sizes by one dry forward pass that leaves no trace.

        Returns:
            The feedback points, in the order in which their modules run.

        Raises:
            TapError: A tapped module did not run, or its output does not fit the error or the
                projector.
        """
        with undisturbed(self), self.in_mode("dfa"), torch.no_grad():
            return self.record(*args, **kwargs).points

    def audit(self, *args: Any, **kwargs: Any) -> None:
        """Prove that blocks below the taps learn from feedback alone.

        With the feedback set to zero, a random error at the output must reach no parameter below a
        tap. Gradients, buffers and random generators are left as they were; nothing is projected.

        Raises:
            LeakError: Backpropagation reaches parameters below a tap; the message names them.
        """

        def zero(error: Tensor) -> Tensor:
            return error.new_zeros(error.shape[0], self.projector.n_outputs)

        parameters = {n: p for n, p in self.module.named_parameters() if p.requires_grad}
        with undisturbed(self), self.in_mode("dfa"), torch.enable_grad():
            feedback, self._feedback = self._feedback, zero
            try:
                recorded = self.record(*args, **kwargs)
                leaves = list(parameters.values())
                below = torch.autograd.grad(
                    [tap.sum() for _, tap in recorded.taps if tap.requires_grad],
                    leaves,
                    retain_graph=True,
                    allow_unused=True,
                )
                generator = torch.Generator().manual_seed(0)
                error = torch.randn(recorded.output.shape, generator=generator)
                reached = torch.autograd.grad(
                    recorded.output, leaves, error.to(recorded.output), allow_unused=True
                )
            finally:
                self._feedback = feedback
        leaks = [
            name
            for name, tapped, gradient in zip(parameters, below, reached, strict=True)
            if tapped is not None and gradient is not None and bool(gradient.count_nonzero())
        ]
        if leaks:
            raise LeakError(
                f"Without feedback, backpropagation still reaches {', '.join(leaks)} around the "
                f"taps {', '.join(self.tap_names)}. Tap where all paths meet: after the residual "
                "sum, not inside the branch."
            )

    def get_extra_state(self) -> dict[str, Any]:
        """What decides the feedback, for `state_dict`."""
        return {
            "projector": self.projector.fingerprint(),
            "layout": self.layout,
            "taps": list(self.tap_names),
        }

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Refuse weights that were trained with other feedback.

        Raises:
            FingerprintError: Projector, layout or taps differ.
        """
        own = self.get_extra_state()
        wrong = [
            f"{key} {state.get(key)!r} instead of {own[key]!r}"
            for key in own
            if state.get(key) != own[key]
        ]
        if wrong:
            raise FingerprintError(
                f"These weights were trained with other feedback: {'; '.join(wrong)}. Use the "
                "same, or load_state_dict(..., other_feedback=True) to go on with the new one."
            )

    def load_state_dict(
        self,
        state_dict: Mapping[str, Any],
        strict: bool = True,
        assign: bool = False,
        *,
        other_feedback: bool = False,
    ) -> Any:
        """As `torch.nn.Module.load_state_dict`; `other_feedback` permits another `B`.

        Raises:
            FingerprintError: Projector, layout or taps differ, and that was not asked for.
        """
        if other_feedback:
            state_dict = {**state_dict, "_extra_state": self.get_extra_state()}
        return super().load_state_dict(state_dict, strict, assign)

    def _tap_hook(self, name: str) -> Callable[[nn.Module, Any, Any], Tensor | None]:
        def tap(_module: nn.Module, _args: Any, output: Any) -> Tensor | None:
            if self._mode == "bp" and self._pass is None:
                return None
            if not isinstance(output, Tensor):
                raise TapError(
                    f"{name!r} returns a {type(output).__name__}: only a module whose output is "
                    "one tensor can be tapped."
                )
            if self._pass is not None:
                self._pass.tapped.append((name, output))
            return output if self._mode == "bp" else output.detach()

        return tap

    def _error_hook(self, _module: nn.Module, _args: Any, output: Any) -> Tensor | None:
        return None if self._pass is None else self._close(self._checked(output))

    def _close(self, output: Tensor) -> Tensor:
        """Take the error here: the taps that ran go into the sink."""
        if self._pass is None:
            return output
        self._pass.closed = True
        tapped = self._pass.tapped
        self._check_ran(tapped)
        if self._mode != "dfa":
            return output
        self._pass.points = self._points(output, tapped)
        sunk: Tensor = Sink.apply(  # type: ignore[no-untyped-call]
            self._feedback, self._pass.points, output, *(tensor for _, tensor in tapped)
        )
        return sunk

    def _points(self, output: Tensor, tapped: Sequence[tuple[str, Tensor]]) -> tuple[Tap, ...]:
        for name, tensor in tapped:
            if tensor.shape[:-1] != output.shape[:-1]:
                raise TapError(
                    f"{name!r} puts out {tuple(tensor.shape)}, the error is taken at "
                    f"{tuple(output.shape)}: both need the same rows, all dimensions but the last."
                )
        if output.shape[-1] != self.projector.n_inputs:
            raise TapError(
                f"The error has {output.shape[-1]} components, the projector takes "
                f"{self.projector.n_inputs}. Use a projector with {output.shape[-1]} inputs."
            )
        taps: list[Tap] = []
        used = 0
        for name, tensor in tapped:
            width = tensor.shape[-1]
            start = used if self.layout == "concat" else 0
            taps.append(Tap(name, slice(start, start + width)))
            used = max(used, start + width)
        if used > self.projector.n_outputs:
            raise TapError(
                f"The taps take {used} outputs ({self.layout}), the projector has "
                f"{self.projector.n_outputs}. Use a larger one, fewer taps, or "
                "layout='shared_prefix'."
            )
        return tuple(taps)

    def _check_ran(self, tapped: Sequence[tuple[str, Tensor]]) -> None:
        missing = [name for name in self.tap_names if name not in {ran for ran, _ in tapped}]
        if missing:
            where = "in this forward pass"
            if self.error_at is not None:
                where += f" before the error was taken at {self.error_at!r}"
            raise TapError(f"Tapped modules that did not run {where}: {', '.join(missing)}.")

    def _project(self, error: Tensor) -> Tensor:
        """Feedback of rows of the error, `[rows, n_outputs]`."""
        scale = self.loss_scale() if callable(self.loss_scale) else self.loss_scale
        unit = scale / error.shape[0] if self.reduction == "mean" else scale
        encoded = self.encoder.encode(error, unit)
        return encoded.decode(self.projector.project(encoded.codes))

    @staticmethod
    def _checked(output: Any) -> Tensor:
        if not isinstance(output, Tensor) or output.ndim < 2:
            what = (
                f"of shape {tuple(output.shape)}"
                if isinstance(output, Tensor)
                else f"that is a {type(output).__name__}"
            )
            raise TapError(
                f"An output {what}: the error is taken at one tensor [..., components] with at "
                "least one row. Choose the module with error_at, or wrap it."
            )
        return output

    @contextmanager
    def in_mode(self, mode: Mode) -> Iterator[None]:
        """Another `mode` for a while."""
        before, self._mode = self._mode, mode
        try:
            yield
        finally:
            self._mode = before


def _matching(module: nn.Module, globs: Sequence[str]) -> tuple[str, ...]:
    names = [name for name, _ in module.named_modules() if name]
    if isinstance(globs, str) or not globs:
        raise TapError(f"taps={globs!r}: give a list of at least one glob, such as ['blocks.*'].")
    for glob in globs:
        if not any(_matches(name, glob) for name in names):
            raise TapError(f"Tap {glob!r} matches no submodule: {_some_names(module)} are there.")
    return tuple(name for name in names if any(_matches(name, glob) for glob in globs))


def _matches(name: str, glob: str) -> bool:
    """Part by part: `blocks.*` is `blocks.0`, not `blocks.0.linear`."""
    parts, patterns = name.split("."), glob.split(".")
    return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))


def _some_names(module: nn.Module, limit: int = 12) -> str:
    names = [name for name, _ in module.named_modules() if name]
    shown = ", ".join(names[:limit]) or "none"
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")
