"""Every number of the simulated optics, named, with its unit, its limits and its presets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt

Frequency = Annotated[StrictFloat, Field(ge=-0.5, le=0.5)]
Phase = Annotated[StrictFloat, Field(ge=0, le=10)]
Count = Annotated[StrictInt, Field(gt=0)]
Number = Annotated[StrictInt, Field(ge=0, le=10**15)]


class Faults(BaseModel):
    """What goes wrong, and when: the same every time. By default nothing does.

    Edges and exposures are counted from 0 since the scene began; an edge is one trigger edge of
    the modulator, whether or not the camera was listening.

    Attributes:
        dropped_triggers: Edges that the camera does not see.
        doubled_triggers: Edges that the camera sees twice, the second half a period later.
        dropped_trigger_rate: Fraction of all edges that are dropped, drawn from the seed.
        doubled_trigger_rate: Fraction of all edges that are doubled, drawn from the seed.
        stale_frames: Exposures before which the camera delivers a frame of earlier times, so
            that all frames until it is armed again are off by one.
        late_frames: Exposures whose frame, and those after it, come later than anybody waits.
        refused_loads: Loads of the modulator, counted from 0, that find its memory full.
        carrier_jumps: `[exposure, row, column]`: from this exposure on the carrier is elsewhere
            by so many cycles/pixel.
        interlock_opens_at: The exposure before which the laser's interlock opens.
        camera_lost_at: The exposure before which the camera is unplugged.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dropped_triggers: tuple[Number, ...] = ()
    doubled_triggers: tuple[Number, ...] = ()
    dropped_trigger_rate: StrictFloat = Field(0.0, ge=0, le=1)
    doubled_trigger_rate: StrictFloat = Field(0.0, ge=0, le=1)
    stale_frames: tuple[Number, ...] = ()
    late_frames: tuple[Number, ...] = ()
    refused_loads: tuple[Number, ...] = ()
    carrier_jumps: tuple[tuple[Number, Frequency, Frequency], ...] = ()
    interlock_opens_at: Number | None = None
    camera_lost_at: Number | None = None


class SceneSettings(BaseModel):
    """The optics between the virtual devices, and what disturbs them.

    The defaults are the preset `realistic`.

    Attributes:
        cells: Rows and columns of the cells of the modulator that the medium tells apart; the
            mirrors of one cell act by their mean.
        speckle_radius: Radius r of the speckle's band, cycles/pixel; a grain has 0.5/r pixels.
        periodic: Whether frames are periodic, the carrier on a whole bin of the sensor; otherwise
            the sensor sees a part of a larger field.
        decorrelation: Part of the field's power that the medium renews each frame, the e of
            `T <- sqrt(1-e) T + sqrt(e) N`.
        measured_matrices: Files (.npy, .npz) of matrices `[output, input]` that were measured on a
            medium as it changed, an input for each cell; the medium then goes from one to the next
            instead. Empty for a random medium.
        frames_per_matrix: Frames from one measured matrix to the next.
        carrier: Row and column frequency of the fringes, cycles/pixel.
        reference_ratio: Intensity of the reference relative to the signal of a half-lit
            modulator, both as means over the sensor.
        reference_waist: Radius at which the reference's amplitude has fallen to 1/e, in units of
            the sensor's longer side; `inf` for an even reference.
        reference_rows: Last rows of the modulator that feed the reference arm instead of the
            medium, see `reference_arm`; 0 for a reference of its own, which is always there.
        reference_period: Columns of the grating, shown on those rows by mirrors, whose first order
            is the reference; even.
        phase_walk_rad: Random step of the interferometer's phase from frame to frame, rms.
        phase_jitter_rad: Deviation of the interferometer's phase in each frame alone, rms.
        laser_noise: Deviation of the power in each frame alone, relative, rms.
        laser_drift: Slow deviation of the power, relative, rms.
        laser_drift_frames: Frames in which the slow deviation loses 1 - 1/e of its memory.
        electrons_per_nj: Mean electrons a pixel, for a half-lit modulator, per milliwatt of laser
            power and microsecond of exposure.
        leakage: Intensity of a mirror that is off, relative to one that is on.
        fill_factor: Part of the modulator's area that is mirrors; the gaps between them add a
            static field.
        settling_us: Time after a trigger edge until the mirrors rest, microseconds.
        pixel_fill: Part of a pixel's area that collects light, a square; 0 samples at points.
        prnu: Deviation of the pixels' sensitivities, relative, rms.
        shot_noise: Whether light comes in photons.
        read_noise_electrons: Read noise, rms.
        dark_electrons_per_s: Dark current of a pixel.
        full_well_electrons: Electrons at full scale, at a gain of 0 dB.
        black_level: Grey value without light as a fraction of full scale; cameras that round have
            the nearest whole one.
        analogue_frames: Whether the camera has the pixel format `float32`, grey values that are
            electrons and are not rounded; it comes first then.
        drift_rate_hz: Frames a second for which `Scene.wait` lets things drift.
        faults: What goes wrong, and when.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cells: tuple[Count, Count] = (32, 32)
    speckle_radius: StrictFloat = Field(0.12, ge=0.01, le=0.45)
    periodic: StrictBool = False
    decorrelation: StrictFloat = Field(1e-8, ge=0, le=0.1)
    measured_matrices: tuple[Path, ...] = ()
    frames_per_matrix: StrictFloat = Field(1e4, ge=1, le=1e12)

    carrier: tuple[Frequency, Frequency] = (0.2713, 0.2664)
    reference_ratio: StrictFloat = Field(4.0, ge=0, le=1e12)
    reference_waist: StrictFloat = Field(2.0, ge=0.1)
    reference_rows: StrictInt = Field(0, ge=0)
    reference_period: StrictInt = Field(8, ge=4, le=1024, multiple_of=2)
    phase_walk_rad: Phase = 0.003
    phase_jitter_rad: Phase = 0.01

    laser_noise: StrictFloat = Field(0.003, ge=0, le=0.2)
    laser_drift: StrictFloat = Field(0.01, ge=0, le=0.2)
    laser_drift_frames: StrictFloat = Field(1e5, ge=1, le=1e12)
    electrons_per_nj: StrictFloat = Field(2.0, ge=1e-12, le=1e9)

    leakage: StrictFloat = Field(1e-3, ge=0, le=1)
    fill_factor: StrictFloat = Field(0.92, ge=0.05, le=1)
    settling_us: StrictFloat = Field(13.0, ge=0, le=1e6)

    pixel_fill: StrictFloat = Field(0.9, ge=0, le=1)
    prnu: StrictFloat = Field(0.01, ge=0, le=0.2)
    shot_noise: StrictBool = True
    read_noise_electrons: StrictFloat = Field(13.0, ge=0, le=1e6)
    dark_electrons_per_s: StrictFloat = Field(100.0, ge=0, le=1e9)
    full_well_electrons: StrictFloat = Field(13_500.0, ge=1, le=1e9)
    black_level: StrictFloat = Field(0.02, ge=0, le=0.5)
    analogue_frames: StrictBool = False

    drift_rate_hz: StrictFloat = Field(1000.0, gt=0, le=1e6)
    faults: Faults = Field(default_factory=lambda: Faults.model_validate({}))


PresetName = Literal["ideal", "quiet", "realistic", "rough"]

_DIFFERENCES: dict[PresetName, dict[str, Any]] = {
    "ideal": {
        "periodic": True,
        "decorrelation": 0.0,
        "reference_waist": float("inf"),
        "phase_walk_rad": 0.0,
        "phase_jitter_rad": 0.0,
        "laser_noise": 0.0,
        "laser_drift": 0.0,
        "leakage": 0.0,
        "fill_factor": 1.0,
        "settling_us": 0.0,
        "pixel_fill": 0.0,
        "prnu": 0.0,
        "shot_noise": False,
        "read_noise_electrons": 0.0,
        "dark_electrons_per_s": 0.0,
        "full_well_electrons": 1e6,
        "black_level": 0.0,
        "analogue_frames": True,
    },
    "quiet": {
        "decorrelation": 1e-9,
        "phase_walk_rad": 0.001,
        "phase_jitter_rad": 0.003,
        "laser_noise": 0.001,
        "laser_drift": 0.003,
        "leakage": 3e-4,
        "prnu": 0.005,
        "read_noise_electrons": 2.5,
        "dark_electrons_per_s": 1.0,
        "full_well_electrons": 10_500.0,
    },
    "realistic": {},
    "rough": {
        "decorrelation": 1e-6,
        "phase_walk_rad": 0.02,
        "phase_jitter_rad": 0.1,
        "laser_noise": 0.01,
        "laser_drift": 0.02,
        "laser_drift_frames": 1e4,
        "leakage": 3e-3,
        "prnu": 0.02,
        "read_noise_electrons": 20.0,
        "dark_electrons_per_s": 1000.0,
    },
}


class _Choice(BaseModel):
    preset: PresetName


def preset(name: str) -> SceneSettings:
    """The settings of a preset.

    Args:
        name: `ideal` (no noise of any kind, frames that are not rounded), `quiet` (a Sony-class
            camera on a calm bench), `realistic` (CMV2000 class) or `rough`.

    Raises:
        pydantic.ValidationError: There is no such preset.
    """
    return SceneSettings(**_DIFFERENCES[_Choice.model_validate({"preset": name}).preset])
