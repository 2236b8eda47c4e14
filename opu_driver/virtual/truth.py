"""What is true of a scene and no bench can know; for tests and benchmarks alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from opu_driver.camera import Region
from opu_driver.layout import Layout
from opu_driver.modulator import Patterns
from opu_driver.virtual import faults
from opu_driver.virtual.optics import Shown

if TYPE_CHECKING:
    from opu_driver.virtual.scene import Scene


class Truth:
    """The scene's own knowledge, at its present age.

    Fields have the unit in which a half-lit modulator makes a mean intensity of 1 and the reference
    one of `reference_ratio`. A frame is, in electrons,

        energies[f] p (|R|^2 + |S|^2 + 2 c Re(exp(i phases[f]) R* S)) + dark

    with the reference R at its full strength, as it always is unless the modulator feeds its arm.

    What is told of past exposures ends with the latest one, and is of the last
    `scene.REMEMBERED` (100,000) at most.

    Args:
        scene: The scene, its devices in place.
    """

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    @property
    def carrier(self) -> tuple[float, float]:
        """Row and column frequency of the fringes, cycles/pixel, jumps of the past included."""
        jumped = faults.carrier_offset(self._scene.settings.faults, self._scene.exposures)
        row, column = self._scene.optics().medium.carrier
        return row + jumped[0], column + jumped[1]

    @property
    def radius(self) -> float:
        """Radius of the speckle's band, cycles/pixel."""
        return self._scene.settings.speckle_radius

    @property
    def contrast(self) -> float:
        """The c of the frames: what the pixel's aperture leaves of the fringes."""
        return self._scene.optics().medium.contrast

    @property
    def phases(self) -> NDArray[np.float64]:
        """Phase of the interferometer at each past exposure, rad."""
        return self._past(1)

    @property
    def powers_mw(self) -> NDArray[np.float64]:
        """Laser power at each past exposure, milliwatts."""
        return self._past(0)

    @property
    def energies(self) -> NDArray[np.float64]:
        """Electrons a pixel per unit of intensity at each past exposure.

        Mean electrons with a half-lit modulator are `(1 + reference_ratio)` times as many.
        """
        return self._past(2)

    def reference(self, region: Region | None = None) -> NDArray[np.complex64]:
        """The reference field R `[row, column]` on a region of the sensor."""
        region = region or self._sensor()
        scene = self._scene
        jumped = faults.carrier_offset(scene.settings.faults, scene.exposures)
        return scene.optics().reference(region, jumped).reshape(region.shape)

    def response(self, region: Region | None = None) -> NDArray[np.float32]:
        """Relative sensitivities p `[row, column]` of the pixels."""
        region = region or self._sensor()
        return self._scene.optics().response(region).reshape(region.shape)

    def fields(self, patterns: Patterns, region: Region | None = None) -> NDArray[np.complex64]:
        """Signal fields S `[pattern, row, column]` of patterns, the static background included."""
        region = region or self._sensor()
        count = np.arange(len(patterns))
        still = np.zeros(len(patterns), np.float32)
        optics = self._scene.optics()
        optics.medium.grow_to(self._scene.age)
        shown = Shown(patterns, count, count, still)
        fields = [field for sums in optics.superpose(shown, region) for field in sums.now()]
        return np.stack(fields)[:, : region.height * region.width].reshape(-1, *region.shape)

    def inputs(self, layout: Layout, region: Region | None = None) -> NDArray[np.complex64]:
        """Fields `[input, row, column]` that single inputs add to the all-off field."""
        off = self.fields(layout.all_off(), region)
        return self.fields(layout.render(np.eye(layout.n_inputs, dtype=np.uint8)), region) - off

    def holograms(self, patterns: Patterns, region: Region | None = None) -> NDArray[np.complex64]:
        """Fringe terms `c p R* S` `[pattern, row, column]`, at the carrier and at phase 0."""
        visible = (
            np.float32(self.contrast) * self.response(region) * np.conj(self.reference(region))
        )
        holograms: NDArray[np.complex64] = visible * self.fields(patterns, region)
        return holograms

    def intensities(self, patterns: Patterns, region: Region | None = None) -> NDArray[np.float32]:
        """Noise-free frames at phase 0 and unit energy: electrons are `energies` times these."""
        signal = np.abs(self.fields(patterns, region)) ** 2
        reference = np.abs(self.reference(region)) ** 2
        bright = self.response(region) * (signal + reference)
        frames: NDArray[np.float32] = bright + 2 * self.holograms(patterns, region).real
        return frames

    def _sensor(self) -> Region:
        rows, columns = self._scene.optics().sensor_shape
        return Region(0, 0, rows, columns)

    def _past(self, row: int) -> NDArray[np.float64]:
        from opu_driver.virtual.scene import REMEMBERED

        pieces = [piece[row] for piece in self._scene.past]
        return np.concatenate([np.zeros(0), *pieces])[-REMEMBERED:]
