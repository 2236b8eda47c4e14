"""Which bench a command works on: a bench file, or a preset of the simulated bench."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from opu_driver import Bench

_PANEL = "Which bench"

BenchOption = Annotated[
    Path | None,
    typer.Option("--bench", metavar="FILE", help="A bench file.", rich_help_panel=_PANEL),
]
PresetOption = Annotated[
    str | None,
    typer.Option(
        "--preset",
        help="Instead of a bench file: the simulated bench, `ideal`, `quiet`, `realistic` (taken "
        "if nothing is said) or `rough`.",
        rich_help_panel=_PANEL,
    ),
]
SceneSeedOption = Annotated[
    int | None,
    typer.Option(
        "--scene-seed",
        help="Seed of the simulated bench's medium and noise; 0 if nothing is said.",
        rich_help_panel=_PANEL,
    ),
]
SceneOption = Annotated[
    list[str] | None,
    typer.Option(
        "--scene",
        metavar="KEY=VALUE",
        help="A number of the simulated optics, as it would stand under `[scene]` in a bench "
        "file; may be repeated.",
        rich_help_panel=_PANEL,
    ),
]


def chosen_bench(
    bench: Path | None, preset: str | None, scene_seed: int | None, scene: list[str] | None
) -> Bench:
    """The bench that the options name; nothing is opened yet.

    Raises:
        BenchFileError: The bench file or an option is wrong, or they contradict each other.
        DriverMissingError: A driver's library is not installed.
    """
    from opu_driver import simulated_bench
    from opu_driver.bench_file import build_bench, read_bench_file
    from opu_driver.errors import BenchFileError

    overrides = _overrides(scene or [])
    if bench is None:
        return simulated_bench(preset or "realistic", scene_seed or 0, **overrides)
    if preset is not None or scene_seed is not None:
        raise BenchFileError(
            "--bench and --preset (or --scene-seed) name two benches. Give one of them; a bench "
            "file says its preset and seed under [scene]."
        )
    content = read_bench_file(bench)
    if overrides:
        if content.scene is None:
            raise BenchFileError(
                f"--scene {', '.join(overrides)}: {bench} describes a bench without simulated "
                "optics, so there is nothing to set. Leave --scene out."
            )
        content = content.model_copy(update={"scene": {**content.scene, **overrides}})
    return build_bench(content, origin=str(bench))


def chosen_scene(
    bench: Path | None, preset: str | None, scene_seed: int | None, scene: list[str] | None
) -> dict[str, Any] | None:
    """The optics that the options name, as a bench file tells them; None where they are real.

    Raises:
        BenchFileError: As `chosen_bench`.
    """
    from opu_driver.bench_file import read_bench_file

    overrides = _overrides(scene or [])
    begin = {"preset": preset or "realistic", "seed": scene_seed or 0}
    if bench is None:
        return begin | overrides
    content = read_bench_file(bench)
    told = content.emulation if content.scene is None else content.scene
    if told is None:
        return None
    return begin | {key: told[key] for key in told if key != "laser_log"} | overrides


def _overrides(assignments: list[str]) -> dict[str, Any]:
    from opu_driver.errors import BenchFileError

    found: dict[str, Any] = {}
    for assignment in assignments:
        try:
            found |= tomllib.loads(assignment)
        except tomllib.TOMLDecodeError as error:
            raise BenchFileError(
                f"--scene {assignment!r} is no assignment: {error}. Write for example "
                "--scene phase_walk_rad=0.02."
            ) from error
    for key in ("preset", "seed"):
        if key in found:
            raise BenchFileError(f"--scene {key}=...: use --preset and --scene-seed for that.")
    return found
