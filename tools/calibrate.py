"""`opu calibrate`: measure a bench's transmission matrix and write the calibration file."""

from __future__ import annotations

import gc
from contextlib import nullcontext
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
from tools.json_file import JsonOption, write_json, write_text
from tools.terminal import results, stages

if TYPE_CHECKING:
    from rich.table import Table

    from calibration.calibration_file import Calibration
    from calibration.quality import Quality
    from opu_driver import Bench


def calibrate(
    inputs: Annotated[
        int, typer.Option("--inputs", help="Length of the vectors that will be projected.")
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE.h5", help="Where the calibration goes.")
    ],
    bench: BenchOption = None,
    preset: PresetOption = None,
    scene_seed: SceneSeedOption = None,
    scene: SceneOption = None,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="How it is measured: `hadamard-pairs` (undoes drift by itself), `hadamard` (half "
            "the exposures), `random` (any number of them) or `phase-steps` (for SLMs).",
        ),
    ] = "hadamard-pairs",
    repeats: Annotated[
        int | None,
        typer.Option(
            "--repeats",
            help="How often the Hadamard patterns are shown, or how many random ones there are for "
            "each input; if nothing is said, what is enough for large matrices, and more for small "
            "ones.",
        ),
    ] = None,
    memory_gb: Annotated[
        float,
        typer.Option("--memory-gb", help="Memory that it may take; the rest stays on disk."),
    ] = 4.0,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Only tell what it would cost; nothing is measured or kept."),
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the random test patterns.")] = 0,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with an interrupted calibration, if there is one."),
    ] = False,
    record: Annotated[
        Path | None,
        typer.Option(
            "--record",
            metavar="FILE.h5",
            help="Also record all exposures; a bench file whose devices have the driver "
            "`recording` replays them, and the same command gives the same calibration again.",
        ),
    ] = None,
    json: JsonOption = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE.html", help="Also write a page with pictures."),
    ] = None,
) -> None:
    """Measure the bench's transmission matrix, and how good it is.

    Sets the exposure, finds the carrier, shows Hadamard or random patterns, and tests the result on
    patterns that were not used for it. A calibration that misses a limit is not kept.
    """
    from calibration import verdict
    from calibration.demodulation_path import frames_per_second, pace
    from calibration.errors import DriftError, QualityError
    from calibration.pipeline import calibrate as measure
    from opu_driver.errors import SettingError
    from opu_driver.exposure_log import logged
    from opu_driver.recording_file import partial_path
    from tools.calibration_view import calibration_figures
    from tools.output_path import require_free, require_recording, require_writable
    from tools.quality_table import quality_table

    if plan:
        with chosen_bench(bench, preset, scene_seed, scene) as opened:
            results().print(_cost(opened, inputs, method, seed, repeats, memory_gb))
        return
    fields = out.with_suffix(f".partial{out.suffix}")
    require_recording(record)
    recording = () if record is None else (record, partial_path(record))
    require_writable(out, fields, *recording, json=json, html=report)
    require_free(out)
    if record is not None:
        if resume:
            raise SettingError(
                f"--record {record} with --resume: what was measured before would be missing in "
                "it. Begin anew, or go on without a recording."
            )
        for taken in recording:
            require_free(taken)
    if not resume:
        require_free(fields, "--resume goes on with it; to start anew, delete it.")
    # What the bench did is in the fields: going on with them would come to the same.
    in_vain = f"Delete {fields} first: --resume would come to the same."
    with advice(
        f"What was measured is in {fields}: --resume goes on with it.",
        if_there=fields,
        instead={DriftError: in_vain, QualityError: in_vain},
    ):
        with (
            chosen_bench(bench, preset, scene_seed, scene) as opened,
            nullcontext()
            if record is None
            else logged(opened, record, subject=f"calibration, {inputs} inputs, {method}"),
        ):
            with stages("calibrating") as tell:
                calibration = measure(
                    opened,
                    inputs,
                    method=method,
                    seed=seed,
                    repeats=repeats,
                    judge=False,
                    memory_gb=memory_gb,
                    resume=fields,
                    progress=tell,
                )
            rate_hz = opened.rate_hz
            page = _page(opened, calibration, method, seed) if report else ""
        results().print(quality_table(calibration.quality))
        write_json(json, calibration_figures(calibration))
        if report:
            write_text(report, page)
        try:
            verdict.check(calibration.quality)
        except QualityError:
            del calibration
            _delete(fields)  # going on with it would come to the same
            raise
        calibration.save(out)
    demodulate = calibration.demodulator()
    here_hz = frames_per_second(demodulate, calibration.settings.pixel_format.dtype)
    results().print(
        f"Fields by the {calibration.path}, {demodulate.engine}: {pace(here_hz, rate_hz)}."
    )
    if record is not None:
        results().print(f"All exposures are in {record}.", highlight=False)
    results().print(f"Written to {out}; it expires at {calibration.expires_at}.")
    del calibration
    _delete(fields)


def _delete(fields: Path) -> None:
    """Delete the fields, once nothing holds a matrix that may be mapped from their file.

    Windows deletes no file that is mapped, and what has drawn the matrix holds it in cycles.
    """
    gc.collect()
    fields.unlink()


def _cost(
    bench: Bench, inputs: int, method: str, seed: int, repeats: int | None, memory_gb: float
) -> Table:
    from calibration.pipeline import cost_of, plan_for
    from tools.terminal import facts

    plan = plan_for(bench, inputs, method=method, seed=seed, repeats=repeats)
    return facts("What it would cost", cost_of(bench, plan, memory_gb).lines().items())


def _page(bench: Bench, calibration: Calibration, method: str, seed: int) -> str:
    from tools.calibration_view import CalibrationView, calibration_settings
    from tools.report import Report

    quality = calibration.quality
    report = Report(
        f"Calibration: {bench.name}",
        f"The transmission matrix of {calibration.n_inputs} inputs and {calibration.n_modes} "
        f"complex modes, measured by the method {method}.",
        {
            "verdict": _verdict(quality),
            "held-out correlation": f"{quality.held_out_correlation:.4f}",
            "relative error": f"{quality.held_out_error:.2%}",
            "signal to noise": f"{quality.snr:,.0f}",
            "visibility": f"{quality.visibility:.2f}",
        },
    )
    CalibrationView.of(bench, calibration, seed).add_to(report)
    report.section("Settings")
    report.settings(calibration_settings(calibration))
    return report.html(f"opu {calibration.software}, {calibration.made_at}")


def _verdict(quality: Quality) -> str:
    from calibration.verdict import Verdict, findings

    told = [found.verdict for found in findings(quality)]
    failed, warned = told.count(Verdict.FAIL), told.count(Verdict.WARNING)
    if failed:
        return f"{failed} of {len(told)} figures fail"
    return f"passes, {warned} warnings" if warned else "passes"
