"""Integrated loudness after ITU-R BS.1770-4, block by block in bounded memory."""

from __future__ import annotations

import math

import numpy as np

from mixtools.dsp.biquads import BiquadCascade

ABSOLUTE_GATE_LUFS = -70.0
RELATIVE_GATE_LU = -10.0
OFFSET_LUFS = -0.691
HOP_S = 0.1
HOPS_IN_A_BLOCK = 4


def k_weighting(rate: float) -> np.ndarray:
    """The recommendation's shelf and high-pass, (2, 5), at any rate; its own coefficients at 48 kHz.

    The analogue prototypes behind the published coefficients, after B. De Man's derivation.
    """
    k = math.tan(math.pi * 1681.974450955533 / rate)
    q = 0.7071752369554196
    high = 10.0 ** (3.999843853973347 / 20.0)
    band = high**0.4996667741545416
    a0 = 1.0 + k / q + k * k
    shelf = (
        (high + band * k / q + k * k) / a0,
        2.0 * (k * k - high) / a0,
        (high - band * k / q + k * k) / a0,
        2.0 * (k * k - 1.0) / a0,
        (1.0 - k / q + k * k) / a0,
    )
    k = math.tan(math.pi * 38.13547087602444 / rate)
    q = 0.5003270373238773
    a0 = 1.0 + k / q + k * k
    high_pass = (1.0, -2.0, 1.0, 2.0 * (k * k - 1.0) / a0, (1.0 - k / q + k * k) / a0)
    return np.array([shelf, high_pass])


def loudness_of(power: float) -> float:
    """LUFS of a mean square after weighting, summed over the channels."""
    return OFFSET_LUFS + 10.0 * math.log10(power)


def power_of(lufs: float) -> float:
    """The inverse of `loudness_of`."""
    return 10.0 ** ((lufs - OFFSET_LUFS) / 10.0)


class LoudnessMeter:
    """Takes mono or stereo audio (channels, n) in blocks of any size, and keeps one power per 100 ms."""

    def __init__(self, rate: float, channels: int):
        self._filter = BiquadCascade(k_weighting(rate), channels)
        self._rate = rate
        self._powers: list[float] = []
        self._energy = 0.0
        self._count = 0

    def add(self, x: np.ndarray) -> None:
        squares = (self._filter.process(x.astype(np.float64)) ** 2).sum(axis=0)
        at = 0
        while at < len(squares):
            take = min(self._hop() - self._count, len(squares) - at)
            self._energy += float(squares[at : at + take].sum())
            self._count += take
            at += take
            if self._count == self._hop():
                self._powers.append(self._energy / self._count)
                self._energy = 0.0
                self._count = 0

    def _hop(self) -> int:
        k = len(self._powers)
        return round((k + 1) * HOP_S * self._rate) - round(k * HOP_S * self._rate)

    @property
    def integrated_lufs(self) -> float | None:
        """Gated loudness; None when nothing is louder than the absolute gate, or the audio is shorter than 400 ms."""
        if len(self._powers) < HOPS_IN_A_BLOCK:
            return None
        window = np.ones(HOPS_IN_A_BLOCK) / HOPS_IN_A_BLOCK
        blocks = np.convolve(self._powers, window, mode="valid")
        loud = blocks[blocks > power_of(ABSOLUTE_GATE_LUFS)]
        if not loud.size:
            return None
        gate = power_of(loudness_of(loud.mean()) + RELATIVE_GATE_LU)
        return loudness_of(loud[loud > gate].mean())
