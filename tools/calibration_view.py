"""What a calibrated bench looks like: a few exposures more, as figures and pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from calibration.calibration_file import Calibration
from calibration.quality import Quality, correlation, relative_error
from opu_driver.bench import Bench
from opu_driver.camera import Frames
from tools.quality_table import COLUMNS, advice, quality_rows

if TYPE_CHECKING:
    from tools.report import Report

_FRAMES = 16
_VECTORS = 200


@dataclass(frozen=True)
class CalibrationView:
    """Frames and projections of a bench, beside its calibration.

    Attributes:
        calibration: The calibration.
        frames: Frames of random half-lit patterns `[frame, row, column]`.
        saturation_level: Grey value of a full pixel.
        black_level: Grey value without light.
        measured: complex64 `[vector, mode]`, projections of random ternary vectors by light.
        predicted: The same by arithmetic, through the calibrated matrix.
        totals: What the projections cost, and how good they were.
        refusal: Why there are no projections; empty if there are.
    """

    calibration: Calibration
    frames: Frames
    saturation_level: float
    black_level: float
    measured: NDArray[np.complex64]
    predicted: NDArray[np.complex64]
    totals: dict[str, float]
    refusal: str = ""

    @classmethod
    def of(cls, bench: Bench, calibration: Calibration, seed: int) -> Self:
        """Expose a few patterns, and project some vectors, on an open bench.

        A calibration that has failed is looked at, too: if nothing can be projected through it,
        the view says why.
        """
        import torch

        from calibration.errors import CalibrationError
        from calibration.projector import OpticalProjector

        rng = np.random.default_rng([seed, 2])
        bits = rng.integers(0, 2, (_FRAMES, calibration.n_inputs), np.uint8)
        frames = bench.expose(calibration.layout.render(bits))
        codes = torch.from_numpy(rng.integers(-1, 2, (_VECTORS, calibration.n_inputs)))
        projector = OpticalProjector(bench, calibration)
        measured = predicted = np.zeros((0, calibration.n_modes), np.complex64)
        refusal = ""
        try:
            measured = projector.project(codes).numpy().view(np.complex64)
            predicted = calibration.twin().project(codes).numpy().view(np.complex64)
        except CalibrationError as error:
            refusal = str(error)
        return cls(
            calibration,
            frames,
            bench.camera.saturation_level,
            bench.camera.black_level,
            measured,
            predicted,
            dict(projector.totals()),
            refusal,
        )

    @property
    def correlation(self) -> float:
        """Of measured and predicted projections."""
        return correlation(self.measured, self.predicted)

    @property
    def relative_error(self) -> float:
        """Of the measured projections against the predicted ones."""
        return relative_error(self.measured, self.predicted)

    def add_to(self, report: Report, wide: Quality | None = None) -> None:
        """The pictures, from the light to the numbers.

        Args:
            report: Where they go.
            wide: Quality of a calibration of the same bench for many inputs, whose singular values
                are shown instead: few inputs have few of them.
        """
        self._add_light(report)
        self._add_field(report)
        self._add_matrix(report, wide)

    def _add_light(self, report: Report) -> None:
        from calibration import figures

        carrier = self.calibration.carrier
        report.section(
            "What the camera sees",
            "A scattering medium turns each pattern on the modulator into speckle. A tilted "
            "reference beam lays fringes over it, and the fringes carry the field: their "
            "contrast is its amplitude, their displacement its phase.",
        )
        report.figure(
            figures.frame_figure(self.frames[0], carrier, saturation_level=self.saturation_level),
            "A camera frame",
            "Each bright or dark blotch is a grain of speckle. Enlarged on the right: the "
            "interference fringes that run across every grain.",
        )
        report.figure(
            figures.exposure_figure(
                self.frames,
                black_level=self.black_level,
                saturation_level=self.saturation_level,
            ),
            "Its exposure",
            "Speckle has few very bright grains and many dark ones, so the mean is set to about an "
            "eighth of full scale. Pixels at the right edge are full: what they saw is lost.",
            width_px=680,
        )

    def _add_field(self, report: Report) -> None:
        from calibration import figures

        carrier = self.calibration.carrier
        demodulator = self.calibration.demodulator()
        fields = demodulator(self.frames)
        report.section(
            "The field",
            "The camera measures intensity; the fringes bring back the phase. In the spectrum of "
            "a frame the field stands apart from everything else, and is cut out there.",
        )
        report.figure(
            figures.spectrum_figure(self.frames, carrier),
            "Spectrum of the frames",
            "The tilt moves the field away from zero frequency, into the disc around the carrier "
            "(cross). Its mirror image, the twin, says the same. The dotted disc is the speckle's "
            "own light, |S|². Where the sideband overlaps nothing else, the field can be cut out "
            "without loss.",
            width_px=680,
        )
        report.figure(
            figures.field_figure(fields[0], carrier, demodulator.decimation),
            "The demodulated field",
            "Amplitude and phase of the light that came through the medium: the numbers that the "
            "bench computes with.",
        )
        report.figure(
            figures.grain_figure(fields, carrier, demodulator.decimation),
            "The speckle grain",
            "How alike the field is to itself some pixels away. One grain carries one independent "
            "number: fewer than three pixels a grain are too few to resolve its fringes, many more "
            "are wasted.",
            width_px=680,
        )

    def _add_matrix(self, report: Report, wide: Quality | None) -> None:
        from calibration import figures

        quality = self.calibration.quality
        _add_judgement(report, quality)
        if self.refusal:
            report.note(f"Nothing could be projected through this matrix. {self.refusal}")
        else:
            report.figure(
                figures.projections_figure(self.measured, self.predicted),
                "Measured against predicted projections",
                f"{len(self.measured)} random ternary vectors, computed by light (vertical) and by "
                "arithmetic with the calibrated matrix (horizontal). The closer to the diagonal, "
                "the less noise.",
            )
        _add_course(report, quality, wide)


def _add_judgement(report: Report, quality: Quality) -> None:
    """What the calibration said of itself."""
    report.section(
        "The calibrated matrix",
        "Light adds linearly, so the medium multiplies a vector by a fixed random matrix. The "
        "calibration measures that matrix, then tests itself on patterns that it has not used. "
        "Noise alone makes the errors in the column 'theory'; only what is beyond them speaks "
        "against a bench.",
    )
    rows = quality_rows(quality)
    report.table(COLUMNS, [row.cells for row in rows])
    for words, told in advice(rows):
        report.note(f"{words}: {told}")


def _add_course(report: Report, quality: Quality, wide: Quality | None) -> None:
    """Pictures of the matrix and of the time in which it was measured."""
    from calibration import figures

    report.figure(
        figures.singular_values_figure(wide or quality),
        "Singular values of the matrix",
        ("Of the same bench, calibrated for many more inputs. " if wide else "")
        + "On the curve they follow the law of random matrices: no direction is favoured, so "
        "no part of a vector is lost on its way through the medium. Noise alone follows it, "
        "too, so this picture never speaks for a matrix by itself.",
        width_px=680,
    )
    report.figure(
        figures.drift_figure(quality),
        "While it was measured",
        "Air and vibrations shift the phase of the interferometer, and the laser's power "
        "breathes: both are measured in every exposure and taken out. The fidelity tells "
        "whether the medium itself has changed, which nothing can take out: it should stay "
        "at 1.",
    )


def kept_page(name: str, calibration: Calibration) -> str:
    """The page of a calibration by itself: what its file holds, without a look at the bench.

    Args:
        name: Of its file.
        calibration: The calibration.
    """
    from importlib.metadata import version

    from tools.report import Report

    report = Report(
        f"Calibration {name}",
        "What was kept of a measurement. Frames and fields of the bench are on the page that "
        "`opu calibrate --report` makes.",
        {
            "inputs": f"{calibration.n_inputs}",
            "outputs": f"{calibration.n_outputs}",
            "expires": calibration.expires_at,
        },
    )
    _add_judgement(report, calibration.quality)
    _add_course(report, calibration.quality, None)
    report.section("Settings")
    report.settings(calibration_settings(calibration))
    return report.html(f"opu {version('opu')}")


def calibration_settings(calibration: Calibration) -> dict[str, str]:
    """What a calibration was made with, for tables."""
    carrier, settings, region = (
        calibration.carrier,
        calibration.settings,
        calibration.settings.region,
    )
    return {
        **{kind: str(who) for kind, who in calibration.identities.items()},
        "inputs": f"{calibration.n_inputs}, macropixels of "
        f"{calibration.layout.macropixel[0]} × {calibration.layout.macropixel[1]} mirrors",
        "outputs": f"{calibration.n_outputs} real ({calibration.n_modes} complex modes)",
        "frames": f"{region.height} × {region.width} pixels, {settings.pixel_format.value}, "
        f"exposure {settings.exposure_us:.4g} µs, gain {settings.gain_db:g} dB, "
        f"{settings.trigger.value} trigger",
        "laser power": f"{calibration.power_mw:g} mW",
        "demodulation": f"by the {calibration.path}, a mode every {calibration.decimation} pixels",
        "carrier": f"({carrier.row:+.6f} ± {carrier.row_sigma:.1g}, "
        f"{carrier.column:+.6f} ± {carrier.column_sigma:.1g}) cycles/pixel",
        "sideband radius": f"{carrier.radius:.5f} ± {carrier.radius_sigma:.1g} cycles/pixel, "
        f"a grain of {carrier.grain:.2f} pixels",
        "made": f"{calibration.made_at}, opu {calibration.software}, seed {calibration.seed}",
        "expires": calibration.expires_at,
        "fingerprint": calibration.fingerprint(),
    }


def calibration_figures(calibration: Calibration) -> dict[str, Any]:
    """A calibration's figures for JSON: all but the matrix itself."""
    return {
        "n_inputs": calibration.n_inputs,
        "n_outputs": calibration.n_outputs,
        "carrier": calibration.carrier,
        "quality": calibration.quality.numbers()
        | {"singular_values": calibration.quality.singular_values},
        "settings": calibration.settings,
        "power_mw": calibration.power_mw,
        "identities": calibration.identities,
        "made_at": calibration.made_at,
        "expires_at": calibration.expires_at,
        "software": calibration.software,
        "seed": calibration.seed,
        "fingerprint": calibration.fingerprint(),
    }
