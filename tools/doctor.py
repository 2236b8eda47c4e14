"""`opu doctor`: look over the whole bench, and say what to mend."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
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
from tools.json_file import JsonOption, write_json, write_text
from tools.terminal import results, stages

if TYPE_CHECKING:
    from calibration.checkup_finding import Finding

_COLUMNS = ("", "found", "should be", "verdict", "advice")
_STYLES = {"pass": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    bench: BenchOption = None,
    preset: PresetOption = None,
    scene_seed: SceneSeedOption = None,
    scene: SceneOption = None,
    stability_s: Annotated[
        float, typer.Option("--stability-s", help="Seconds for which the field is watched.")
    ] = 60.0,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the random patterns.")] = 0,
    json: JsonOption = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Also write a page to keep.")
    ] = None,
) -> None:
    """Look over the bench: devices, triggers, light, fringes, stability; with advice.

    Ends with 0 if nothing failed, warnings or not, and with 1 otherwise.
    """
    from calibration.checkup import checkup
    from calibration.checkup_finding import Verdict
    from opu_driver.errors import InputError
    from tools.output_path import require_writable

    if not stability_s > 0 or seed < 0:
        raise InputError(
            f"--stability-s {stability_s:g}, --seed {seed}: some time, and a natural number."
        )
    require_writable(json=json, html=html)
    with chosen_bench(bench, preset, scene_seed, scene) as opened, stages("looking at") as tell:
        name = opened.name
        findings = list(checkup(opened, stability_s=stability_s, seed=seed, progress=tell))
    _print(name, findings)
    write_json(json, {"bench": name, "findings": findings})
    if html is not None:
        write_text(html, _page(name, findings))
    if any(finding.verdict is Verdict.FAIL for finding in findings):
        raise typer.Exit(1)


def _print(name: str, findings: list[Finding]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(name), title_justify="left", title_style="bold", header_style="dim")
    for column in _COLUMNS:
        table.add_column(column, overflow="fold")
    for finding in findings:
        style = _STYLES[finding.verdict.value]
        verdict = f"[{style}]{finding.verdict.value}[/]"
        words = (finding.name, finding.value, finding.limit)
        table.add_row(*map(escape, words), verdict, escape(finding.advice))
    results().print(table)


def _page(name: str, findings: list[Finding]) -> str:
    from tools.report import Report

    counts = {
        word: str(sum(finding.verdict.value == word for finding in findings))
        for word in ("pass", "warn", "fail")
    }
    report = Report(
        f"Looking over {name}",
        "What the bench is like now: each finding beside what it should be, and what to do.",
        counts,
    )
    rows = [
        (finding.name, finding.value, finding.limit, finding.verdict.value, finding.advice)
        for finding in findings
    ]
    report.table(_COLUMNS, rows)
    made = datetime.now(UTC).isoformat(timespec="seconds")
    return report.html(f"opu {version('opu')}, {made}")
