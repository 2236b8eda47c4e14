"""The transmission matrix, from pairs of complementary Hadamard patterns.

Every binary pattern v is shown together with its complement 1 - v. Two things follow:

- The difference of the two fields is T (2v - 1): a signed measurement, free of every static bias.
- Their sum is the field of everything on, the same for all pairs. So each pair carries its own
  reference of phase and gain, at no cost: what makes all sums equal undoes the drift.

With the rows of a Hadamard matrix of order K as v = (1 + h) / 2, the differences are the matrix's
Walsh-Hadamard transform. At a signal to noise SNR of one binary exposure, N inputs and R repeats,
the relative error of T is eps^2 = N / (K R SNR) (docs/architecture.md, Physics).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opu_driver.errors import SettingError

Bits = NDArray[np.uint8]
"""Binary vectors, 0 and 1, `[vector, input]`."""

_ROUNDS = 4  # each leaves 1 / modes of the coupling between the pair's common and its own factors


def hadamard_order(n_inputs: int) -> int:
    """The order of the Hadamard matrix that measures `n_inputs`: the next power of two.

    Columns beyond `n_inputs` belong to no macropixel and stay dark. They cost exposures, but each
    of these adds its share to the signal to noise of T.

    Raises:
        SettingError: `n_inputs` is not positive.
    """
    if n_inputs < 1:
        raise SettingError(f"n_inputs = {n_inputs}; a matrix has at least 1 input.")
    return 1 << (n_inputs - 1).bit_length()


def hadamard_vectors(n_inputs: int) -> Bits:
    """The rows of Sylvester's Hadamard matrix as binary vectors (1 + h) / 2.

    Returns:
        uint8 `[order, n_inputs]`; the first has every input on.
    """
    order = hadamard_order(n_inputs)
    both = np.arange(order)[:, None] & np.arange(n_inputs)
    vectors: Bits = (1 - np.bitwise_count(both) % 2).astype(np.uint8)
    return vectors


def with_complements(vectors: Bits) -> Bits:
    """Each vector followed by its complement: uint8 `[2 x vector, input]`."""
    return np.stack([vectors, 1 - vectors], axis=1).reshape(-1, vectors.shape[1])


def walsh_hadamard(values: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """The unnormalised fast Walsh-Hadamard transform along the first axis, in natural order.

    Args:
        values: complex64 `[order, ...]`, the order a power of two; not changed.

    Raises:
        SettingError: The order is not a power of two.
    """
    order = len(values)
    if order < 1 or order & (order - 1):
        raise SettingError(f"A transform of {order} values; the number has to be a power of two.")
    transformed = values.astype(np.complex64)
    half = 1
    while half < order:
        blocks = transformed.reshape(order // (2 * half), 2, half, -1)
        first = blocks[:, 0].copy()
        blocks[:, 0] += blocks[:, 1]
        np.subtract(first, blocks[:, 1], out=blocks[:, 1])
        half *= 2
    return transformed


@dataclass(frozen=True, eq=False)
class AlignedPairs:
    """Fields of complementary pairs, in one phase and gain.

    Attributes:
        lit: complex64 `[pair, mode]`, fields of the vectors v.
        complement: complex64 `[pair, mode]`, fields of 1 - v.
        factors: complex128 `[pair, 2]`, by which phase and gain of the measured fields differed
            from these: measured = factor x aligned. Their mean modulus is 1.
        noise: Variance of one measured field, per mode, from the scatter of the sums.
    """

    lit: NDArray[np.complex64]
    complement: NDArray[np.complex64]
    factors: NDArray[np.complex128]
    noise: float

    @property
    def differences(self) -> NDArray[np.complex64]:
        """T (2v - 1) of each pair, complex64 `[pair, mode]`."""
        return self.lit - self.complement

    @property
    def total(self) -> NDArray[np.complex64]:
        """The field that all pairs' sums have in common, complex64 `[mode]`."""
        mean: NDArray[np.complex64] = np.mean(self.lit + self.complement, axis=0)
        return mean


def align_pairs(fields: NDArray[np.complex64]) -> AlignedPairs:
    """Undo the drift of phase and gain, frame by frame, by what all pairs have in common.

    Each pair's fields f and g obey f (1 + eta) + g (1 - eta) = c P, where P is the sum common to
    all pairs, c the pair's factor and eta the change between its two exposures. P is the dominant
    component of the sums; c and eta follow by least squares over the modes. They are two numbers
    out of as many equations as there are modes, so they cost 1 / modes of the signal to noise.

    Args:
        fields: complex64 `[2 x pair, mode]`: a vector, its complement, the next vector, ...
    """
    lit, complement = fields[0::2], fields[1::2]
    sums, differences = lit + complement, lit - complement
    own = np.einsum("pm,pm->p", differences.conj(), differences).real
    eta = np.zeros(len(sums), np.complex128)
    common = sums[0]
    for _ in range(_ROUNDS):
        steady = sums + eta[:, None].astype(np.complex64) * differences
        c = _overlap(steady, common)
        weights = (c.conj() / np.sum(np.abs(c) ** 2)).astype(np.complex64)
        common = weights @ steady
        c = _overlap(steady, common)
        missing = c[:, None].astype(np.complex64) * common - sums
        eta = np.einsum("pm,pm->p", differences.conj(), missing) / np.maximum(own, 1e-30)
    left = missing - eta[:, None].astype(np.complex64) * differences
    freedom = max(left.size - 2 * len(left), 1)
    c /= np.mean(np.abs(c))
    factors = c[:, None] / np.stack([1 + eta, 1 - eta], axis=1)
    return AlignedPairs(
        (lit / factors[:, :1]).astype(np.complex64),
        (complement / factors[:, 1:]).astype(np.complex64),
        factors,
        float(np.sum(np.abs(left) ** 2)) / freedom / 2,
    )


def _overlap(
    fields: NDArray[np.complex64], reference: NDArray[np.complex64]
) -> NDArray[np.complex128]:
    overlap: NDArray[np.complex128] = (fields @ reference.conj()).astype(np.complex128)
    return overlap / float(np.vdot(reference, reference).real)


def transmission_matrix(differences: NDArray[np.complex64], n_inputs: int) -> NDArray[np.complex64]:
    """The matrix whose Hadamard measurements these are.

    Args:
        differences: complex64 `[repeat x order, mode]`, T h for the rows h of the Hadamard
            matrix, one repeat after another; repeats are averaged.
        n_inputs: Inputs, at most the order.

    Returns:
        complex64 `[mode, input]`, in the unit of the fields.
    """
    order = hadamard_order(n_inputs)
    mean = differences.reshape(-1, order, differences.shape[-1]).mean(axis=0)
    return np.ascontiguousarray(walsh_hadamard(mean)[:n_inputs].T) / np.float32(order)


def expected_error(snr: float, n_inputs: int, repeats: int = 1) -> float:
    """Relative error of a matrix measured at this signal to noise of one binary exposure."""
    return math.sqrt(n_inputs / (hadamard_order(n_inputs) * repeats * snr))
