"""A virtual bench taken apart: the devices by themselves, lit, and the scene between them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from opu_driver.camera import CameraSettings, PixelFormat, Region
from opu_driver.layout import Layout
from opu_driver.virtual.camera import VirtualCamera
from opu_driver.virtual.laser import VirtualLaser
from opu_driver.virtual.modulators import VirtualDMD, VirtualModulator, VirtualSLM
from opu_driver.virtual.scene import Scene
from opu_driver.virtual.settings import SceneSettings, preset


@dataclass
class Rig:
    scene: Scene
    modulator: VirtualModulator
    camera: VirtualCamera
    laser: VirtualLaser

    def layout(self, n_inputs: int) -> Layout:
        return Layout.fit(n_inputs, self.modulator.shape, self.modulator.levels)

    def configure(self, **changes: object) -> None:
        rows, columns = self.camera.sensor_shape
        given = {
            "exposure_us": 100.0,
            "region": Region(0, 0, rows, columns),
            "pixel_format": self.camera.pixel_formats[0],
            "trigger_delay_us": self.scene.settings.settling_us,
        }
        self.camera.configure(CameraSettings(**(given | changes)))

    def start(self, patterns, rate_hz: float | None = None, frames: int | None = None) -> None:
        self.modulator.load(patterns)
        self.camera.arm(frames or len(patterns))
        self.modulator.start(rate_hz or min(self.camera.max_rate_hz, self.modulator.max_rate_hz))

    def shoot(self, patterns, block: int = 10_000) -> NDArray:
        """Frames of patterns, read in blocks of at most `block`."""
        self.start(patterns)
        frames = []
        while sum(map(len, frames)) < len(patterns):
            frames.append(self.camera.read(block, 1.0).frames)
        self.camera.disarm()
        return np.concatenate(frames)

    def electrons(self, patterns) -> NDArray[np.float64]:
        """Frames in electrons above black, with 16 bits or none rounded."""
        kind = PixelFormat.FLOAT32 if self.scene.settings.analogue_frames else PixelFormat.MONO16
        if self.camera.settings.pixel_format is not kind:
            self.configure(pixel_format=kind)
        converter = self.camera._converter
        return (self.shoot(patterns).astype(np.float64) - converter.black) / converter.gain


@pytest.fixture
def rig() -> Iterator[object]:
    with ExitStack() as devices:

        def make(
            name: str = "ideal",
            seed: int = 1,
            *,
            sensor_shape: tuple[int, int] = (64, 48),
            shape: tuple[int, int] = (32, 32),
            levels: int = 2,
            power_mw: float = 10.0,
            **changes: object,
        ) -> Rig:
            values = {"cells": (8, 8)} | changes
            scene = Scene(
                SceneSettings.model_validate(preset(name).model_dump() | values), seed=seed
            )
            modulator = (
                VirtualDMD(scene, shape) if levels == 2 else VirtualSLM(scene, shape, levels)
            )
            made = Rig(scene, modulator, VirtualCamera(scene, sensor_shape), VirtualLaser(scene))
            for device in (made.modulator, made.camera, made.laser):
                devices.enter_context(device)
            made.configure()
            made.laser.set_power_mw(power_mw)
            made.laser.emit(made.laser.arm("test", 100.0))
            return made

        yield make


@pytest.fixture
def bits():
    """Binary vectors `[n, inputs]`, drawn with a seed."""

    def draw(n: int, inputs: int, seed: int = 0) -> NDArray[np.uint8]:
        return np.random.default_rng(seed).integers(0, 2, (n, inputs), np.uint8)

    return draw
