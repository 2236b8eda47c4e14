"""`opu cost`: what a training step costs by light and by electronics, and where light is faster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tools.json_file import JsonOption, write_json
from tools.terminal import facts, remarks, results, table

if TYPE_CHECKING:
    from training.experiments.one_step import OneStep
    from training.experiments.step_cost import StepCost
    from training.machine import Crossover, Electronics, Optics


PUBLISHED_PRODUCTS_PER_S = 1500e12


def cost(
    task: Annotated[str, typer.Argument(metavar="TASK", help="See `opu recipes`.")],
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Of the task; its first one otherwise.")
    ] = None,
    rate_hz: Annotated[float, typer.Option("--rate-hz", help="Exposures a second.")] = 1500.0,
    inputs: Annotated[int, typer.Option("--inputs", help="Of the bench.")] = 1_000_000,
    outputs: Annotated[int, typer.Option("--outputs", help="Of the bench.")] = 100_000,
    power_w: Annotated[float, typer.Option("--power-w", help="Of the bench.")] = 30.0,
    share_of_peak: Annotated[
        float, typer.Option("--share-of-peak", help="Of a GPU's data sheet that training reaches.")
    ] = 0.4,
    run_step: Annotated[
        bool, typer.Option("--run-step", help="Also take one step here, if memory allows.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Of the step that is taken.")] = 0,
    json: JsonOption = None,
) -> None:
    """Count what one training step asks for, and what it takes by light, on a CPU and on GPUs.

    Nothing is trained: networks are counted on tensors without memory, so that any size can be
    planned. Times are models: exposures over the bench's rate; operations over what a processor
    reaches, or memory traffic over its bandwidth, whichever takes longer. This machine's own
    processor is timed.
    """
    from tools.output_path import require_writable
    from training.encoding import exposures_a_row
    from training.experiments import named_recipe
    from training.experiments.one_step import take_step
    from training.experiments.step_cost import step_cost
    from training.machine import Crossover, Optics, graphics_processors, this_processor
    from training.memory import memory_limits

    require_writable(json=json)
    chosen = named_recipe(recipe, task)
    optics = Optics(rate_hz, inputs, outputs, power_w)
    gpus = graphics_processors(share_of_peak)
    asked = step_cost(chosen)
    memory_bytes = min(limit.total for limit in memory_limits())
    machines = (this_processor(memory_bytes), *gpus)
    codes = exposures_a_row(chosen.encoder)
    crossings = {each.name: Crossover.of(optics, each, codes) for each in machines}
    times = {each.name: _times(asked, each, optics) for each in machines}

    results().print(facts(f"One step of {task}, {chosen.name}: {chosen.network}", _asked(asked)))
    results().print(_time_table(times, asked, machines))
    results().print(_crossing_table(crossings, codes, optics))
    results().print(facts("The bench", _bench(optics)))
    content: dict[str, Any] = {
        "step": asked,
        "optics": optics,
        "machines": machines,
        "seconds": times,
        "crossover": crossings,
    }
    if run_step:
        remarks().print("One step is being taken here ...", highlight=False)
        taken = take_step(chosen, asked, seed)
        results().print(facts("One step, taken here", _taken(taken)))
        content["taken"] = taken
    write_json(json, content)


def _times(asked: StepCost, machine: Electronics, optics: Optics) -> dict[str, float]:
    """Seconds of a step, each way; light waits for electronics, and electronics for light."""
    local = asked.forward_flop + asked.feedback_flop
    return {
        "backprop": machine.seconds(asked.forward_flop + asked.backprop_flop, asked.traffic_bytes),
        "digital": machine.seconds(
            local + asked.projection_flop, asked.traffic_bytes + asked.projection_bytes
        ),
        "optical": machine.seconds(local, asked.traffic_bytes) + _light_s(asked, optics),
        "projection": machine.seconds(asked.projection_flop, asked.projection_bytes),
        "light": _light_s(asked, optics),
    }


def _light_s(asked: StepCost, optics: Optics) -> float:
    return optics.seconds(asked.exposures, asked.n_inputs, asked.n_outputs)


def _asked(asked: StepCost) -> list[tuple[str, str]]:
    return [
        ("parameters", f"{asked.parameters:,}"),
        ("error vectors", f"{asked.rows:,} of {asked.n_inputs:,} components"),
        ("projections", f"{asked.n_outputs:,} numbers each"),
        ("exposures", f"{asked.exposures:,} if none is dark"),
        ("operations forward", f"{asked.forward_flop:.3g}"),
        ("backward, backpropagation", f"{asked.backprop_flop:.3g}"),
        ("backward, feedback alignment", f"{asked.feedback_flop:.3g} and the projection"),
        ("projection, if computed", f"{asked.projection_flop:.3g}"),
        (
            "memory",
            f"{_bytes(asked.memory_bytes)}: weights {_bytes(asked.parameters_bytes)}, gradients as "
            f"much, optimizer {_bytes(asked.moments_bytes)}, activations "
            f"{_bytes(asked.activations_bytes)}",
        ),
        ("memory traffic", f"{_bytes(asked.traffic_bytes)} read or written at least"),
        ("B, if stored", _bytes(asked.matrix_bytes)),
    ]


def _time_table(
    times: dict[str, dict[str, float]], asked: StepCost, machines: tuple[Electronics, ...]
) -> Any:
    ways = {
        "backpropagation": "backprop",
        "feedback alignment, digital": "digital",
        "feedback alignment, optical": "optical",
        "of it light": "light",
        "the projection, computed": "projection",
    }
    rows = [
        ("TFLOP/s", *(f"{each.flop_per_s / 1e12:.3g}" for each in machines)),
        ("GB/s of memory", *(f"{each.bytes_per_s / 1e9:,.0f}" for each in machines)),
        (
            "the step fits",
            *("yes" if asked.memory_bytes <= each.memory_bytes else "no" for each in machines),
        ),
        *(
            (words, *(_seconds(times[each.name][way]) for each in machines))
            for words, way in ways.items()
        ),
    ]
    columns = ("A step takes", *(each.name for each in machines))
    return table("Time of a step, by the model", columns, rows)


def _crossing_table(crossings: dict[str, Crossover], codes: int, optics: Optics) -> Any:
    title = f"N from which an N x N projection is cheaper by light, {codes} exposures a vector"
    columns = ("Against", "in time", "in energy", "B fills its memory at")
    rows = [
        (
            name,
            _size(each.time, optics),
            "–" if each.energy is None else _size(each.energy, optics),
            f"{each.memory:,.0f}",
        )
        for name, each in crossings.items()
    ]
    return table(title, columns, rows)


def _size(n: float, optics: Optics) -> str:
    """N of a crossover, and whether this bench has as many inputs and outputs."""
    within = n <= min(optics.n_inputs, optics.n_outputs)
    return f"{n:,.0f}" + ("" if within else ", not within this bench")


def _bench(optics: Optics) -> list[tuple[str, str]]:
    return [
        (
            "products",
            f"{optics.rate_hz:g} Hz x {optics.n_inputs:,} inputs x {optics.n_outputs:,} outputs = "
            f"{optics.products_per_s:.3g} a second, twice as many operations if additions count",
        ),
        (
            "published",
            "1500 TeraOPS = 1.5 kHz x 10^6 inputs x 10^6 outputs, a product counted as one; with "
            f"the inputs and outputs of this bench {optics.products_per_s / 1e12:.3g}, "
            f"{optics.products_per_s / PUBLISHED_PRODUCTS_PER_S:.3g} of it",
        ),
        ("energy", f"{optics.power_w / optics.rate_hz * 1e3:.3g} mJ an exposure"),
        ("for a product", f"{optics.power_w / optics.products_per_s * 1e15:.3g} fJ"),
    ]


def _taken(step: OneStep) -> list[tuple[str, str]]:
    return [
        ("loss", f"{step.loss:.4g}, and {step.after:.4g} after the step"),
        ("network built", _seconds(step.build_s)),
        ("forward", _seconds(step.forward_s)),
        ("backward", _seconds(step.backward_s)),
        ("optimizer", _seconds(step.update_s)),
    ]


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.3g} GB"


def _seconds(number: float) -> str:
    for unit in ("s", "ms", "µs"):
        if number >= 1:
            return f"{number:.3g} {unit}"
        number *= 1000
    return f"{number:.3g} ns"
