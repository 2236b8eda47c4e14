"""What a calibration refuses, grown on the one exception tree of `opu_driver.errors`.

Frames that are too bright or too dark raise its `SaturationError` and `LowSignalError`.
"""

from __future__ import annotations

from opu_driver.errors import InputError, OpuError


class CalibrationError(OpuError):
    """A calibration that cannot be made, used or trusted."""


class CarrierError(CalibrationError):
    """Fringes from which no field can be had."""


class NoCarrierError(CarrierError):
    """No sideband stands out of the spectrum: no interference reaches the camera."""


class AliasedCarrierError(CarrierError):
    """The sideband crosses the Nyquist frequency: the fringes are too fine for the pixels."""


class OrdersOverlapError(CarrierError):
    """The speckle's own spectrum at zero frequency reaches into the sideband."""


class UndersampledGrainError(CarrierError):
    """Grains of speckle smaller than two pixels: no carrier separates field and twin."""


class AmbiguousHalfPlaneError(CarrierError):
    """A sideband so near column frequency 0 that it cannot be told from its conjugate twin."""


class LowVisibilityError(CarrierError):
    """Fringes too faint against the light that they modulate."""


class NoSpeckleError(CarrierError):
    """A sideband that is no disc of speckle."""


class PlaneFringesError(NoSpeckleError):
    """Fringes without speckle: a tone instead of a sideband."""


class DriftError(CalibrationError):
    """The interferometer moved too far between references to be followed."""


class QualityError(CalibrationError):
    """A measured quality figure lies outside its limit."""


class NoiseError(QualityError):
    """The matrix is mostly noise: fields do not repeat, or hardly."""


class DeadPixelsError(QualityError):
    """Pixels that never change, or modes that no light of the modulator reaches."""


class HalfPlaneError(QualityError):
    """Fields are the complex conjugates of what they were: the fringes tilt the other way."""


class UnsteadyError(QualityError):
    """The medium or the alignment changed while it was being measured."""


class NonlinearityError(QualityError):
    """Fields do not add up: saturation, overlapping orders, or light that leaks."""


class SingularValuesError(QualityError):
    """The matrix is no random one: inputs without light, or a pattern common to all of them."""


class StaleCalibrationError(CalibrationError):
    """The calibration does not belong to the bench as it is now."""


class DecorrelationError(StaleCalibrationError):
    """The light's path has changed by more than can be corrected: calibrate again."""


class CalibrationFileError(CalibrationError, InputError):
    """A calibration file that cannot be written, read or trusted."""


class IncomparableError(CalibrationError, InputError):
    """Two calibrations whose matrices do not describe the same inputs and modes."""


class AmbiguityError(CalibrationError):
    """Rows that are known only up to a phase and a conjugation, used as if they were more."""


class CodesError(InputError):
    """Vectors that the projector cannot show."""


class FramesError(CalibrationError, InputError):
    """Frames of a shape, type or content that no field can be had from."""
