"""Exposure, gain, region, power and pattern at hand; snapshots and recordings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from PySide6.QtWidgets import (
    QAbstractSpinBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QProgressBar,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from opu_driver.camera import CameraSettings, Region
from tools.viewer.live import Limits, Live, State, Status
from tools.viewer.shown_pattern import Kind, ShownPattern

_MOST = 10**6  # inputs, frames of a recording


class Controls:
    """Asks a live bench for what the person at it wants, and shows what is in force.

    Attributes:
        widget: To be put into a window.
        exposure_us: Exposure time, microseconds.
        gain_db: Gain, decibels.
        power_mw: Laser power, milliwatts, up to the ceiling.
        fit: Measures the exposure time.
        region: First row and column, height and width, pixels.
        apply_region: Sets them.
        whole_sensor: Sets the region to all of the sensor.
        kind: Which pattern.
        inputs: Macropixels that the modulator is divided into.
        which: Seed of a random pattern, index of a macropixel.
        snapshot: Saves the newest frame.
        n_frames: Frames of a recording.
        record: Begins a recording, or ends it early.

    Args:
        live: The bench.
    """

    def __init__(self, live: Live) -> None:
        self._live = live
        self._shown: Status | None = None
        self.exposure_us = _number("exposure", 2, " µs")
        self.gain_db = _number("gain", 2, " dB")
        self.power_mw = _number("power", 3, " mW")
        self.fit = QPushButton("Fit")
        self.fit.setToolTip("Measure the exposure time that suits the pattern that is shown")
        self.region = tuple(_count(name) for name in ("row", "column", "height", "width"))
        self.apply_region = QPushButton("Set region")
        self.whole_sensor = QPushButton("Whole sensor")
        self.kind = QComboBox()
        self.kind.addItems([kind.value for kind in Kind])
        self.inputs = _count("inputs", 1)
        self.which = _count("which")
        self.snapshot = QPushButton("Snapshot …")
        self.n_frames = _count("frames", 1)
        self.n_frames.setValue(1000)
        self.record = QPushButton("Record …")
        self._progress = QProgressBar()
        self._bench_parts: list[QWidget] = []
        self.widget = self._assembled()
        self._connect()
        self.show(live.status)

    def show(self, status: Status) -> None:
        """Show what is in force; what somebody is just editing is left alone."""
        for part in self._bench_parts:
            part.setEnabled(status.state in (State.LIVE, State.PAUSED))
        recording = status.state is State.RECORDING
        self.record.setText("Stop recording" if recording else "Record …")
        self.record.setEnabled(recording or status.state in (State.LIVE, State.PAUSED))
        done, total = status.recorded or (0, 1)
        self._progress.setMaximum(total)
        self._progress.setValue(done)
        self._progress.setFormat(f"{done} of {total} frames" if recording else "")
        if status.settings is None or status.limits is None:
            return
        before, self._shown = self._shown, status
        region, pattern = status.settings.region, status.pattern
        if before is None or before.limits != status.limits:
            self._limit(status.limits)
        values: list[tuple[QSpinBox | QDoubleSpinBox, float]] = [
            (self.exposure_us, status.settings.exposure_us),
            (self.gain_db, status.settings.gain_db),
            (self.power_mw, status.power_mw),
        ]
        if before is None or before.settings != status.settings:
            where = (region.row, region.column, region.height, region.width)
            values += zip(self.region, where, strict=True)
        if before is None or before.pattern != pattern:
            self.kind.blockSignals(True)
            self.kind.setCurrentText(pattern.kind.value)
            self.kind.blockSignals(False)
            values += [(self.inputs, pattern.inputs), (self.which, pattern.which)]
        for box, value in values:
            if before is None or not box.hasFocus():
                _put(box, value)
        self.which.setEnabled(
            self.kind.isEnabled() and self.kind.currentText() in (Kind.RANDOM, Kind.ONE)
        )

    def _connect(self) -> None:
        live = self._live
        self.exposure_us.valueChanged.connect(
            lambda value: live.configure(lambda s: replace(s, exposure_us=float(value)))
        )
        self.gain_db.valueChanged.connect(
            lambda value: live.configure(lambda s: replace(s, gain_db=float(value)))
        )
        self.power_mw.valueChanged.connect(lambda value: live.set_power_mw(float(value)))
        self.fit.clicked.connect(live.fit_exposure)
        self.apply_region.clicked.connect(self._set_region)
        self.whole_sensor.clicked.connect(self._set_whole_sensor)
        self.kind.currentTextChanged.connect(self._show_pattern)
        self.inputs.valueChanged.connect(self._show_pattern)
        self.which.valueChanged.connect(self._show_pattern)

    def _set_region(self) -> None:
        row, column, height, width = (box.value() for box in self.region)
        self._live.configure(_in_region(Region(row, column, height, width)))

    def _set_whole_sensor(self) -> None:
        if self._shown is not None and self._shown.limits is not None:
            self._live.configure(_in_region(Region(0, 0, *self._shown.limits.sensor_shape)))

    def _show_pattern(self) -> None:
        self._live.show(
            ShownPattern(Kind(self.kind.currentText()), self.inputs.value(), self.which.value())
        )

    def _limit(self, limits: Limits) -> None:
        for box, (low, high) in (
            (self.exposure_us, limits.exposure_us),
            (self.gain_db, limits.gain_db),
            (self.power_mw, limits.power_mw),
        ):
            box.blockSignals(True)
            box.setRange(low, high)
            box.blockSignals(False)
        self.power_mw.setToolTip(f"Up to the ceiling of the bench, {limits.power_mw[1]:g} mW")

    def _assembled(self) -> QWidget:
        whole = QWidget()
        column = QVBoxLayout(whole)
        column.setContentsMargins(4, 4, 4, 4)
        place = [_labelled(label, *boxes) for label, boxes in (
            ("from", self.region[:2]), ("size", self.region[2:]),
        )]  # fmt: skip
        groups: dict[str, list[tuple[str, QWidget]]] = {
            "Camera": [
                ("exposure", _labelled("", self.exposure_us, self.fit)),
                ("gain", self.gain_db),
                ("region", place[0]),
                ("", place[1]),
                ("", _labelled("", self.apply_region, self.whole_sensor)),
            ],
            "Laser": [("power", self.power_mw)],
            "Pattern": [
                ("show", self.kind),
                ("inputs", self.inputs),
                ("seed, index", self.which),
            ],
            "Keep": [
                ("", self.snapshot),
                ("frames", self.n_frames),
                ("", self.record),
                ("", self._progress),
            ],
        }
        for title, rows in groups.items():
            group = QGroupBox(title)
            form = QFormLayout(group)
            form.setContentsMargins(6, 4, 6, 4)
            form.setVerticalSpacing(4)
            for label, part in rows:
                form.addRow(label, part)
            column.addWidget(group)
        column.addStretch(1)
        self._bench_parts = [
            self.exposure_us, self.gain_db, self.power_mw, self.fit, *self.region,
            self.apply_region, self.whole_sensor, self.kind, self.inputs, self.n_frames,
        ]  # fmt: skip
        return whole


def _in_region(region: Region) -> Callable[[CameraSettings], CameraSettings]:
    return lambda settings: replace(settings, region=region)


def _number(name: str, decimals: int, unit: str) -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setObjectName(name)
    box.setDecimals(decimals)
    box.setSuffix(unit)
    box.setRange(0.0, 1e9)
    box.setKeyboardTracking(False)
    box.setStepType(QAbstractSpinBox.StepType.AdaptiveDecimalStepType)
    return box


def _count(name: str, least: int = 0) -> QSpinBox:
    box = QSpinBox()
    box.setObjectName(name)
    box.setRange(least, _MOST)
    box.setKeyboardTracking(False)
    return box


def _put(box: QSpinBox | QDoubleSpinBox, value: float) -> None:
    """Show a value that is in force."""
    box.blockSignals(True)
    if isinstance(box, QSpinBox):
        box.setValue(int(value))
    else:
        box.setValue(value)
    box.blockSignals(False)


def _labelled(label: str, *parts: QWidget) -> QWidget:
    """Widgets side by side."""
    whole = QWidget()
    row = QHBoxLayout(whole)
    row.setContentsMargins(0, 0, 0, 0)
    row.setSpacing(4)
    for i, part in enumerate(parts):
        row.addWidget(part, 1 if i == 0 or label else 0)
    whole.setToolTip(label)
    return whole
