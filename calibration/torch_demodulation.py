"""The reference path on a GPU: the same transforms, mask and grid, by PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calibration.carrier import Carrier
from calibration.demodulation import Demodulator
from opu_driver.camera import Frames
from opu_driver.errors import SettingError

if TYPE_CHECKING:
    from torch import Tensor

_GPU_CHUNK_PIXELS = 1 << 25


class TorchDemodulator(Demodulator):
    """`Demodulator` on a device of PyTorch: the same fields to rounding, so the same path.

    Frames travel to the device as the camera gave them, and only fields travel back.

    Args:
        frame_shape: Rows and columns of a frame.
        carrier: Where the sideband is.
        decimation: Pixels between grid points, as for `Demodulator`.
        device: A device of PyTorch, such as "cuda", "cuda:1" or "cpu".

    Raises:
        SettingError: As `Demodulator`; or PyTorch has no such device here.
    """

    def __init__(
        self,
        frame_shape: tuple[int, int],
        carrier: Carrier,
        *,
        decimation: int | None = None,
        device: str = "cuda",
    ) -> None:
        import torch

        super().__init__(frame_shape, carrier, decimation=decimation, threads=1)
        try:
            self._device = torch.device(device)
            self._mask_there = torch.from_numpy(self._mask).to(self._device)
        except (RuntimeError, AssertionError) as error:
            raise SettingError(
                f"PyTorch has no device {device!r} here: {str(error).splitlines()[0]}. Take "
                "'cpu', or install PyTorch for this machine's GPU."
            ) from error
        self._wave_there = torch.from_numpy(self._wave).to(self._device)
        self._rows = self._indices(self._down.bins % self._down.length)
        self._columns = self._indices(self._across.bins % self._across.length)
        self.engine = f"torch on {self._device}"
        if self._device.type != "cpu":
            self._chunk_pixels = _GPU_CHUNK_PIXELS

    def _indices(self, bins: NDArray[np.int64]) -> Tensor:
        import torch

        return torch.from_numpy(bins).to(self._device)

    def _demodulate(self, block: Frames) -> NDArray[np.complex64]:
        import torch

        kept = block.dtype.kind != "f" and block.dtype.itemsize <= 2 and block.dtype.isnative
        if not kept or not block.flags.writeable:
            block = block.astype(np.float32)
        frames = torch.from_numpy(np.ascontiguousarray(block)).to(self._device).to(torch.float32)
        to_frequencies = torch.fft.rfft if self._across.within_half else torch.fft.fft
        lines = to_frequencies(frames, dim=2).index_select(2, self._columns)
        spectra = torch.fft.fft(lines, dim=1).index_select(1, self._rows) * self._mask_there
        folded = self._fold(self._fold(spectra, 1), 2)
        fields: NDArray[np.complex64] = (torch.fft.ifft2(folded) * self._wave_there).cpu().numpy()
        return fields

    def _fold(self, values: Tensor, dim: int) -> Tensor:
        """`_Axis.fold`, along dimension 1 or 2."""
        axis = self._down if dim == 1 else self._across
        shape = [*values.shape]
        shape[dim] = axis.grid
        folded = values.new_zeros(shape)
        bins = self._indices(axis.bins % axis.grid)
        for first in range(0, len(bins), axis.grid):  # within one stretch no bin occurs twice
            some = bins[first : first + axis.grid]
            folded.index_add_(dim, some, values.narrow(dim, first, len(some)))
        return folded
