"""The one exception tree of training.

Every message names the value that was wrong, what is allowed, and what to do about it.
`TrainingInputError` and what grows from it is wrong usage or input (the `opu` command exits with
2); every other `TrainingError` is training that failed (exit 1).
"""

from __future__ import annotations


class TrainingError(Exception):
    """Anything that training refuses or fails to do, told in one clear paragraph."""


class TrainingInputError(TrainingError):
    """What was asked for cannot be done by anyone: the request has to change."""


class SettingsError(TrainingInputError):
    """A recipe or an argument outside what is allowed."""


class TapError(TrainingInputError):
    """Taps that match nothing, do not run, or do not fit the error or the projector."""


class ReplayError(TrainingInputError):
    """A forward pass that cannot be replayed as it was."""


class CodeError(TrainingInputError):
    """Codes of the wrong shape or type for a projector."""


class FingerprintError(TrainingInputError):
    """A checkpoint of a model that was trained with another projector, layout or taps."""


class CheckpointError(TrainingInputError):
    """A run folder or checkpoint that is in the way, missing, damaged or of another run."""


class FolderBusyError(TrainingInputError):
    """A run folder that another process writes."""


class DatasetError(TrainingInputError):
    """A data set that is missing, damaged, or not what its name says."""


class LeakError(TrainingError):
    """A gradient that reaches the blocks below the taps by backpropagation."""


class DivergedError(TrainingError):
    """The loss is not finite any more, or far above that of guessing."""


class MemoryShortageError(TrainingError):
    """A training step that does not fit into the memory that is free."""


class LostRankError(TrainingError):
    """One of several processes that train together is gone, or its bench has failed."""
