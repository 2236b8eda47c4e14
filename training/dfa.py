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

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from training.encoding import Encoder, Identity
from training.errors import FingerprintError, LeakError, SettingsError, TapError
from training.leaks import leaking, passing_by
from training.moment import Moment
from training.outside import Outside
from training.projector import Projector
from training.replay import Blind, ForwardPass, Over, Replay
from training.sink import Feedback, Sink, Stop
from training.taps import (
    FeedbackPoint,
    Layout,
    Tap,
    Tapped,
    detached,
    feedback_points,
    puts_sequence_first,
    resolve,
    rows_of,
    some_names,
    tensors_in,
    told,
)

Mode = Literal["dfa", "bp", "shallow"]


@dataclass(frozen=True)
class Recorded:
    """A forward pass with what was tapped on the way.

    Attributes:
        output: What the module returned.
        taps: Name and output of each call of a tapped module, in the order in which they ran.
        points: Their feedback points; empty where there is no feedback.
    """

    output: Any
    taps: tuple[tuple[str, Tensor], ...]
    points: tuple[FeedbackPoint, ...]


class _HandedOn(NamedTuple):
    """What a tapped module, by its name, put out, cut off; and whether it learns."""

    name: str
    tensor: Tensor
    learns: bool


@dataclass
class _Pass:
    """A forward pass on its way.

    Attributes:
        gradients: Those who learn find a graph.
        keeps: The tapped outputs themselves are kept, not only their shapes.
        severed: They get no feedback, so that what still arrives below came around them.
        tapped: Each call of a tapped module.
        points: Their feedback points, once the error was taken, and there is feedback.
        closed: The error was taken.
        last: What the last tapped module handed on.
        error: Where the error was taken, and
        sunk: what stands there for the layers above.
        call: What keeps no graph, and will be replayed.
        replay: What feeds each block at once, where this is the second run.
    """

    gradients: bool
    keeps: bool = True
    severed: bool = False
    tapped: list[Tapped] = field(default_factory=list)
    points: tuple[FeedbackPoint, ...] = ()
    closed: bool = False
    last: _HandedOn | None = None
    error: Tensor | None = None
    sunk: Tensor | None = None
    call: ForwardPass | None = None
    replay: Replay | None = None


class DFA(nn.Module):
    """A module that learns by direct feedback alignment in an unchanged training loop.

    Exactly one projector call is made in each backward pass, and none in the forward pass.

    The wrapper goes where a module goes: into `torch.compile(model, fullgraph=True)`, into
    `DistributedDataParallel(model)`, around a module that `fully_shard` has sharded. Checkpoint
    blocks with `use_reentrant=False`; to compile them as well, set
    `torch._dynamo.config.skip_fwd_side_effects_in_bwd_under_checkpoint`, since taps are noted in
    the forward pass alone.

    Attributes:
        mode: `"dfa"`; `"bp"`, ordinary backpropagation; or `"shallow"`, no feedback at all, so
            that only what lies above the taps learns (parameters below get no gradient).
        loss_scale: What multiplies the loss besides the reduction: a number, or a function such as
            `torch.amp.GradScaler.get_scale`; 1/n if the losses of n parts are accumulated. Only
            encoders with an absolute threshold need it.
        feedback_scale: What multiplies all feedback. Entries of `B` have unit mean square, so that
            feedback is larger than a backpropagated error; Adam does not mind, SGD does.
        other_feedback: Weights that were trained with other feedback may be loaded, to go on with
            this one; False at first.
        replay: Keep no activations: run forward, and once more in the backward pass, in which each
            block learns and forgets before the next one runs (see `training.replay`). Gradients are
            the same. They arrive in `.grad` by one `backward()` for each forward pass, neither by
            `torch.autograd.grad` nor by `backward(inputs=...)`; hooks on parameters that are used
            several times see them in parts. The module has to do the same when called again:
            buffers, training flags and PyTorch's random generators are set back for it; generators
            of its own, Python's, and noise of a `PhysicalLayer` are not. An optimizer that steps
            within the backward pass needs the error taken at the output of `module`, and
            `DistributedDataParallel` every parameter to be used once. Modules may be compiled
            inside the tapped ones only, and not be sharded at all.

    Args:
        module: Any module.
        projector: Where error vectors are projected.
        taps: Globs over the names of submodules whose outputs get feedback, or `Tap`s that also say
            which output, where its rows lie, and what gates the feedback. Every call of a tapped
            module is a feedback point of its own: where a module runs twice, in `"concat"` each
            run has its own outputs of the projector, and its parameters learn from the sum.
        encoder: Error vectors -> codes; `Identity()` where the projector takes any number.
        layout: `"concat"`, each feedback point has outputs of the projector to itself, in the order
            in which they run; `"shared_prefix"`, all use the first ones.
        error_at: The submodule at whose output the error is taken, by name or as a `Tap`; it and
            what lies above it learn by backpropagation. The output of `module` by default.
        tied: Names of parameters that are used both below a tap and above, such as an embedding
            that is also the vocabulary layer: they learn from both, and `audit` permits it.
        reduction: How the loss combines samples: with `"mean"`, a per-sample error arrives divided
            by the number of rows of the error. A loss that divides by more (`mse_loss`, by the
            components of a row as well) or by something else (`ignore_index`, weights of classes)
            needs a `loss_scale`, or an encoder whose threshold is relative.
        loss_scale: See above.
        feedback_scale: See above.
        replay: See above.

    Raises:
        TapError: A glob matches nothing, `error_at` is no submodule, `tied` no parameter, a tapped
            module puts the sequence first where samples are needed, or the module is wrapped
            already.
        SettingsError: A layout or reduction that does not exist, a scale that is not a positive
            number, or a projector that is none.
    """

    def __init__(
        self,
        module: nn.Module,
        projector: Projector,
        taps: Sequence[str | Tap],
        *,
        encoder: Encoder | None = None,
        layout: Layout = "concat",
        error_at: str | Tap = "",
        tied: Sequence[str] = (),
        reduction: Literal["mean", "sum"] = "mean",
        loss_scale: float | Callable[[], float] = 1.0,
        feedback_scale: float = 1.0,
        replay: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(projector, Projector):
            raise SettingsError(
                f"A {type(projector).__name__} is no projector: give one that has n_inputs, "
                "n_outputs and project, such as DenseProjector; MatrixProjector makes one of a "
                "matrix."
            )
        if not 0 < feedback_scale < math.inf:
            raise SettingsError(f"feedback_scale {feedback_scale}: give a positive number.")
        if not isinstance(error_at, str | Tap):
            raise SettingsError(
                f"error_at={error_at!r}: the error is taken at one output, told by the name of its "
                "module or as a Tap. Several heads: wrap them in a module that concatenates."
            )
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
        self.other_feedback = False
        self.feedback_scale = feedback_scale
        self.replay = replay
        self.taps = resolve(module, taps)
        self.error_at = Tap(error_at) if isinstance(error_at, str) else error_at
        self._sharded = any(map(_is_sharded, module.modules()))
        if replay and self._sharded:
            raise SettingsError(
                "replay=True runs the module within its own backward pass, where a sharded one has "
                "its weights in pieces: use replay=False, and torch.utils.checkpoint in the blocks."
            )
        if self.error_at.broadcast or self.error_at.gate is not None:
            raise SettingsError(
                f"error_at={self.error_at}: only output and features can be chosen where the error "
                "is taken."
            )
        if self.error_at.glob not in dict(module.named_modules()):
            raise TapError(
                f"error_at={self.error_at.glob!r} is no submodule: {some_names(module)} are."
            )
        self.error_at = told(self.error_at, module.get_submodule(self.error_at.glob))
        for name, tap in self.taps.items():
            if tap.broadcast and puts_sequence_first(module.get_submodule(name)):
                raise TapError(
                    f"{name!r} has batch_first=False, and broadcast=True takes the first dimension "
                    "of its output for the samples: use batch_first=True."
                )
        self.tied = _parameters(module, tied)
        self._mode: Mode = "dfa"
        self._pass: _Pass | None = None
        self._feedback: Feedback = Outside(self._project, projector.n_outputs)
        _check_unwrapped(module)
        self._wraps = True
        self._hooks = [self._hooked(name, tap) for name, tap in self.taps.items()]
        at = module.get_submodule(self.error_at.glob)
        self._hooks.append(at.register_forward_hook(self._error_hook))

    def __deepcopy__(self, memo: dict[int, Any]) -> DFA:
        """A copy of the module and its taps around the same projector: there is one bench."""
        memo[id(self.projector)] = self.projector
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        new.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return new

    def unwrap(self) -> nn.Module:
        """The module without its taps, to be used, saved or wrapped anew; this DFA ends here."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._wraps = False
        module: nn.Module = self.module
        return module

    def extra_repr(self) -> str:
        """Taps and projector, for `repr`."""
        taps = ", ".join(map(str, self.taps.values()))
        size = f"{self.projector.n_inputs} -> {self.projector.n_outputs}"
        return f"taps: {taps}; {self.layout}; {type(self.projector).__name__} {size}"

    @property
    def tap_names(self) -> tuple[str, ...]:
        """The tapped modules, in the order in which they are registered."""
        return tuple(self.taps)

    @property
    def mode(self) -> Mode:
        """How the module learns: `"dfa"`, `"bp"` or `"shallow"`."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        if mode not in get_args(Mode):
            raise SettingsError(f"Mode {mode!r}: choose one of {', '.join(get_args(Mode))}.")
        self._mode = mode

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the wrapped module returns, learning as `mode` says."""
        if self._mode == "bp" or not torch.is_grad_enabled():
            return self.module(*args, **kwargs)
        if self.replay and self._mode == "dfa" and self._learns():
            return self._run_blind(*args, **kwargs)
        # Without feedback the graphs of the blocks are of no use, and end with them.
        running = _Pass(torch.is_grad_enabled(), keeps=self._mode == "dfa")
        return self._run(running, lambda: self.module(*args, **kwargs))

    def record(self, *args: Any, **kwargs: Any) -> Recorded:
        """A forward pass that also returns the tapped outputs, to take gradients at them.

        Raises:
            TapError: A tapped module did not run, or its output does not fit the error or the
                projector.
        """
        running = _Pass(torch.is_grad_enabled())
        output = self._run(running, lambda: self.module(*args, **kwargs))
        tapped = tuple((each.name, each.tensor) for each in running.tapped)
        return Recorded(output, tapped, running.points)

    def _run(self, running: _Pass, call: Callable[[], Any]) -> Any:
        if not self._wraps:
            raise TapError("unwrap() took the taps off this module: make a new DFA around it.")
        self._pass = running
        try:
            output = call()
        finally:
            self._pass = None
        if not running.closed:
            raise TapError(f"error_at={self.error_at.glob!r} did not run in this forward pass.")
        return output

    @torch.compiler.disable(  # type: ignore[no-untyped-call, untyped-decorator]
        reason="replay=True runs the module once more in the backward pass"
    )
    def _run_blind(self, *args: Any, **kwargs: Any) -> Any:
        """A forward pass of which nothing is kept but what lies above `error_at`."""
        call = ForwardPass(self.module, args, kwargs)
        return self._run(_Pass(True, keeps=False, call=call), call.run)

    def _run_again(
        self,
        call: ForwardPass,
        points: Sequence[FeedbackPoint],
        project: Callable[[], Tensor],
        error: Tensor,
    ) -> None:
        """The same pass, in which each block learns as soon as it has run."""
        replay = Replay(points, project, error, call.moment.aside)
        before, self._pass = self._pass, _Pass(True, replay=replay)
        try:
            with self.in_mode("dfa"):
                call.run_again()
        except Over:
            pass
        finally:
            self._pass = before

    def build(self, *args: Any, **kwargs: Any) -> tuple[FeedbackPoint, ...]:
        """Check taps and sizes by one dry forward pass that leaves no trace.

        Returns:
            The feedback points, in the order in which their modules run.

        Raises:
            TapError: A tapped module did not run, or its output does not fit the error or the
                projector.
        """
        with Moment(self).again(), self.in_mode("dfa"), torch.no_grad():
            return self.record(*args, **kwargs).points

    def audit(self, *args: Any, **kwargs: Any) -> None:
        """Prove that blocks below the taps learn from feedback alone.

        Without feedback, no way may lead from the output to a parameter below a tap, not even one
        on which nothing passes at first; and no other tensor that is returned may hang on where the
        error is taken, since a loss made of it would bring no feedback. Gradients, buffers and
        random generators are left as they were; nothing is projected. Audit a model before it is
        sharded or wrapped for many processes.

        Raises:
            LeakError: Backpropagation reaches parameters below a tap; the message names them. Or
                the module returns something else that comes from where the error is taken.
            TapError: As `build`, or the last tap makes the output itself.
        """
        parameters = {n: p for n, p in self.module.named_parameters() if p.requires_grad}
        with Moment(self).again(), self.in_mode("dfa"), torch.enable_grad():
            running = _Pass(gradients=True, severed=True)
            returned = tensors_in(self._run(running, lambda: self.module(*args, **kwargs)))
            tapped = [each.tensor for each in running.tapped]
            leaks = leaking(parameters, tapped, returned, self.tied)
            assert running.error is not None  # or it would not have been closed
            assert running.sunk is not None
            around = passing_by(returned, running.error, running.sunk)
        if around:
            raise LeakError(
                f"{around} of the tensors that this {type(self.module).__name__} returns come "
                "from where the error is taken, and a loss made of them brings no feedback. If the "
                "module computes its own loss, name the part that makes the logits: "
                "error_at='head'."
            )
        if leaks:
            raise LeakError(
                f"Without feedback, backpropagation still reaches {', '.join(leaks)} around the "
                f"taps {', '.join(self.tap_names)}. Tap where all paths meet: after the residual "
                "sum, not inside the branch. If a parameter is used above the taps as well, on "
                "purpose, name it in tied."
            )

    def get_extra_state(self) -> dict[str, Any]:
        """What decides the feedback, for `state_dict`."""
        state: dict[str, Any] = {
            "projector": self.projector.fingerprint(),
            "layout": self.layout,
            "taps": [str(tap) for tap in self.taps.values()],
        }
        if str(self.error_at):
            state["error_at"] = str(self.error_at)
        if self.feedback_scale != 1.0:
            state["feedback_scale"] = self.feedback_scale
        return state

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Refuse weights that were trained with other feedback.

        Raises:
            FingerprintError: Projector, layout, taps or `error_at` differ.
        """
        if self.other_feedback:
            return
        own = self.get_extra_state()
        wrong = [
            f"{key} {state.get(key)!r} instead of {own.get(key)!r}"
            for key in {**own, **state}
            if state.get(key) != own.get(key)
        ]
        if wrong:
            raise FingerprintError(
                f"These weights were trained with other feedback: {'; '.join(wrong)}. Use the "
                "same, or set other_feedback = True on this DFA to go on with the new one."
            )

    def _hooked(self, name: str, tap: Tap) -> RemovableHandle:
        part = self.module.get_submodule(name)
        hook = partial(self._tap_hook, name, tap, sharded=_is_sharded(part))
        return part.register_forward_hook(hook)

    def _tap_hook(
        self, name: str, tap: Tap, module: nn.Module, _args: Any, output: Any, *, sharded: bool
    ) -> Any:
        """Nothing flows back through a tapped output but what the sink gives it."""
        running = self._pass
        if running is None:
            # Either a checkpoint runs its block again, or someone uses the module by itself.
            again = torch.compiler.is_compiling() or _in_backward()
            return self._cut(tap, output, name) if again and self._mode != "bp" else None
        self._check_live(running, name)
        if module._backward_hooks or module._backward_pre_hooks:
            raise TapError(
                f"{name!r} has backward hooks, which see nothing: its output gets no gradient but "
                "feedback. Register them on the modules inside it."
            )
        if _is_sharded(module) and not sharded:
            raise TapError(
                f"{name!r} was sharded after it was tapped, so that its weights would not be "
                "gathered for the feedback. Call fully_shard first, then DFA."
            )
        tensor = tap.pick(output, name)
        if running.replay is not None:
            self._pass = None  # what a checkpoint runs again in there is no call of its own
            try:
                running.replay.feed(name, tensor)
            finally:
                self._pass = running
        else:
            calls = 1 + sum(each.tap is tap for each in running.tapped)
            call = name if calls == 1 else f"{name}#{calls}"
            if running.keeps:
                running.tapped.append(Tapped(call, tap, tensor, tap.factor(tensor)))
            else:
                running.tapped.append(Tapped(call, tap, torch.empty_like(tensor, device="meta")))
        if self._mode == "bp":
            return None
        output = self._cut(tap, output, name)
        running.last = _HandedOn(name, tap.pick(output, name), tensor.requires_grad)
        return output

    def _cut(self, tap: Tap, output: Any, name: str) -> Any:
        """A tapped module's output, through which nothing flows back."""
        output = detached(output, name)
        if self._sharded:
            # A sharded block gives its weights back when a gradient for its input is ready.
            anchor = torch.empty(0, requires_grad=True)
            output = tap.put(output, Stop.apply(tap.pick(output, name), anchor))  # type: ignore[no-untyped-call]
        return output

    def _error_hook(self, _module: nn.Module, _args: Any, output: Any) -> Any:
        """Take the error here: the taps that ran go into the sink."""
        running = self._pass
        if running is None:
            return None
        if running.closed:
            raise TapError(
                f"error_at={self.error_at.glob!r} ran twice in this forward pass: the error is "
                "taken once. Choose a module that runs once."
            )
        running.closed = True
        error = self.error_at.pick(output, self.error_at.glob)
        if running.replay is None:
            self._check_ran([each.tap.glob for each in running.tapped])
        self._check_apart(running.last, error)
        if running.replay is not None:
            running.replay.end(error)
        if self._mode != "dfa":
            return None
        _, components = rows_of(error.shape, self.error_at.features)
        if components != self.projector.n_inputs:
            raise TapError(
                f"The error has {components} components, the projector takes "
                f"{self.projector.n_inputs}. Use a projector with {components} inputs."
            )
        running.points = feedback_points(
            running.tapped, error, self.error_at, self.layout, self.projector.n_outputs
        )
        sunk: Tensor
        if running.call is None:
            sunk = Sink.apply(  # type: ignore[no-untyped-call]
                self._feedback,
                self.error_at,
                running.points,
                error,
                *(t.detach() if running.severed else t for t in (e.tensor for e in running.tapped)),
                *(each.factor for each in running.tapped),
            )
        else:
            again = partial(self._run_again, running.call, running.points)
            anchor = torch.empty(0, requires_grad=True)
            sunk = Blind.apply(  # type: ignore[no-untyped-call]
                again, self._feedback, self.error_at, running.points, error.detach(), anchor
            )
        running.error, running.sunk = error, sunk
        return self.error_at.put(output, sunk)

    def _check_apart(self, last: _HandedOn | None, error: Tensor) -> None:
        """The output is neither that of the last tapped module nor a mere function of it."""
        if last is not None and (error is last.tensor or self._is_function(last, error)):
            raise TapError(
                f"{last.name!r} makes the output at which the error is taken, and would learn from "
                "its projection instead of the error itself: tap only what lies below it."
            )

    def _is_function(self, last: _HandedOn, error: Tensor) -> bool:
        """Whether no layer lies between them.

        One that learns would make the error require a gradient, and one that is frozen has
        parameters that no tapped module has.
        """
        if error.requires_grad or not last.learns or error.numel() != last.tensor.numel():
            return False
        parts = [self.module.get_submodule(name) for name in self.taps]
        tapped = {id(parameter) for part in parts for parameter in part.parameters()}
        return all(p.requires_grad or id(p) in tapped for p in self.module.parameters())

    def _check_live(self, running: _Pass, name: str) -> None:
        if running.closed:
            raise TapError(
                f"{name!r} ran after the error was taken at {self.error_at.glob!r}: no feedback "
                "comes there. Tap only what runs before."
            )
        if running.gradients and not torch.is_grad_enabled():
            raise TapError(
                f"{name!r} ran without gradients and would learn nothing. If it is checkpointed, "
                "use torch.utils.checkpoint.checkpoint(..., use_reentrant=False)."
            )

    def _check_ran(self, ran: Sequence[str]) -> None:
        missing = [name for name in self.taps if name not in ran]
        if missing:
            where = "in this forward pass"
            if self.error_at.glob:
                where += f" before the error was taken at {self.error_at.glob!r}"
            raise TapError(f"Tapped modules that did not run {where}: {', '.join(missing)}.")

    def _project(self, error: Tensor) -> Tensor:
        """Feedback of rows of the error, `[rows, n_outputs]`."""
        scale = self.loss_scale() if callable(self.loss_scale) else self.loss_scale
        unit = scale / max(error.shape[0], 1) if self.reduction == "mean" else scale
        encoded = self.encoder.encode(error, unit)
        if self.feedback_scale != 1.0:
            encoded = replace(encoded, scale=encoded.scale * self.feedback_scale)
        return encoded.decode(self.projector.project(encoded.codes))

    def _learns(self) -> bool:
        return any(parameter.requires_grad for parameter in self.module.parameters())

    @contextmanager
    def in_mode(self, mode: Mode) -> Iterator[None]:
        """Another `mode` for a while."""
        before, self._mode = self._mode, mode
        try:
            yield
        finally:
            self._mode = before


def _check_unwrapped(module: nn.Module) -> None:
    """Two wrappers around one module would cut each other's feedback off."""
    for part in module.modules():
        for hook in part._forward_hooks.values():
            owner = getattr(getattr(hook, "func", hook), "__self__", None)
            if isinstance(owner, DFA):
                raise TapError(
                    f"This {type(module).__name__} has feedback already: go on with the DFA that "
                    "wraps it, or take its taps off by that DFA's unwrap()."
                )


def _in_backward() -> bool:
    return bool(torch._C._current_graph_task_id() != -1)


def _is_sharded(module: nn.Module) -> bool:
    """By the name of the class that `fully_shard` makes of the module's own."""
    return type(module).__name__.startswith("FSDP")


def _parameters(module: nn.Module, names: Sequence[str]) -> tuple[str, ...]:
    """Parameters by their first names, whatever other names they have."""
    first = {id(parameter): name for name, parameter in module.named_parameters()}
    every = dict(module.named_parameters(remove_duplicate=False))
    for name in names:
        if name not in every:
            raise TapError(f"tied={name!r} is no parameter: {', '.join([*every][:12])} are.")
    return tuple(first[id(every[name])] for name in names)
