"""The page of a file of frames: its pictures, and its numbers with what they should be."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from calibration import figures, frame_figures
from tools.frame_findings import COLUMNS, findings, grain_words, remarks
from tools.frame_series import frame_times_s
from tools.frame_view import CARRIER_FRAMES, FrameView
from tools.report import Report
from tools.terminal import counted

if TYPE_CHECKING:
    from opu_driver.recording import Recording


def frame_page(view: FrameView) -> str:
    """HTML that needs nothing but itself."""
    stack = view.stack
    rows, columns = stack.frames.shape[1:]
    wrong = sum(finding.good is False for finding in findings(view))
    report = Report(
        f"Frames of {stack.path.name}",
        f"{stack.source}. "
        + (
            f"{counted(wrong, 'figure wants', 'figures want')} a look."
            if wrong
            else "All figures are as they should be."
        ),
        {
            "frames": str(len(stack)),
            "pixels": f"{rows} × {columns}",
            "contrast": f"{view.light.contrast:.3f}",
            "grain": grain_words(view),
            "visibility": "-" if np.isnan(view.visibility) else f"{view.visibility:.0%}",
        },
    )
    report.section("Figures", "What was measured, and what it should be.")
    report.table(COLUMNS, [finding.cells for finding in findings(view)])
    for remark in remarks(view):
        report.note(remark)
    _add_frames(report, view)
    _add_field(report, view)
    if len(view.series) > 1:
        _add_course(report, view)
    if stack.recording is not None:
        report.section("Conditions")
        report.settings(_conditions(stack.recording))
    return report.html(f"opu {version('opu')}")


def _add_frames(report: Report, view: FrameView) -> None:
    frames, levels = view.stack.frames, view.levels
    many = len(frames) > 1
    report.section("The frames" if many else "The frame")
    if not isinstance(view.carrier, str):
        report.figure(
            figures.frame_figure(frames[0], view.carrier, saturation_level=levels.full),
            "The first frame",
            "Enlarged: the fringes on the speckle grains.",
        )
    report.figure(
        frame_figures.light_figure(view.light),
        "Mean and deviation" if many else "The frame",
        "What stays in the mean of different speckle is the illumination, stray light and dust; "
        "what does not change at all is dark or dead in the deviation."
        if many
        else "All but the brightest pixels in five hundred.",
        width_px=920 if many else 620,
    )
    report.figure(
        frame_figures.grey_figure(
            view.grey.histogram,
            black_level=levels.black if levels.black_known else None,
            saturation_level=levels.full,
        ),
        "Grey values",
        "Of all frames. Pixels at the right edge are full: what they saw is lost."
        if levels.full is not None
        else "Of all frames. Nobody knows at which grey value a pixel is full; --full says it.",
        width_px=680,
    )


def _add_field(report: Report, view: FrameView) -> None:
    some = view.stack.frames[:CARRIER_FRAMES]
    if not np.isfinite(some).all():
        return
    speckle = None if isinstance(view.carrier, str) else view.carrier
    report.section("Spectrum and field")
    report.figure(
        frame_figures.spectrum_figure(some, view.plain)
        if speckle is None
        else figures.spectrum_figure(some, speckle),
        "Spectrum",
        "The sideband must touch neither the dotted disc of |S|² nor the edge."
        if speckle is not None
        else "The field is what lies within the disc."
        if view.plain is not None
        else "A carrier would be a bright disc away from the middle, and its twin opposite.",
        width_px=680,
    )
    field, demodulate = view.first_field, view.demodulate
    if field is None or demodulate is None:
        return
    report.figure(
        frame_figures.object_figure(field, demodulate.decimation)
        if speckle is None
        else figures.field_figure(field, speckle, demodulate.decimation),
        "The demodulated field",
        "Of the first frame, without the tilt of its fringes.",
    )


def _add_course(report: Report, view: FrameView) -> None:
    recording = view.stack.recording
    report.section("Over the recording")
    proviso = "" if view.alike.one_pattern else ", which tell something if all show one pattern"
    report.figure(
        frame_figures.course_figure(
            view.light,
            view.likeness,
            view.steady,
            frames_at_s=None if recording is None else frame_times_s(recording),
            alike_at_s=view.series.times_s,
        ),
        "How steady it was",
        f"The mean above black of all {len(view.light.power)} frames; the others are of "
        f"{len(view.series)} {view.alike.words}{proviso}, each against the first.",
    )


def _conditions(recording: Recording) -> dict[str, str]:
    was = recording.conditions
    region = was.settings.region
    exposures = sorted({run.settings.exposure_us for run in recording.runs})
    powers = sorted({run.power_mw for run in recording.runs})
    return {
        "bench": was.bench,
        "began": f"{was.began_at}, opu {was.software}",
        "exposure": ", ".join(f"{us:.4g}" for us in exposures or [was.settings.exposure_us])
        + " µs",
        "gain": f"{was.settings.gain_db:g} dB",
        "laser power": ", ".join(f"{mw:g}" for mw in powers or [was.power_mw]) + " mW",
        "rate": f"{was.rate_hz:.4g} patterns/s, {was.settings.trigger.value} trigger",
        "region": f"{region.height} × {region.width} pixels from row {region.row}, column "
        f"{region.column}; {was.settings.pixel_format.value}",
        **{kind: str(who) for kind, who in was.identities.items()},
        **was.environment,
    }
