"""Filters that make a mix's spectrum level, so that quiet bands count in a fit as loud ones do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.linalg import solve_toeplitz
from scipy.signal import oaconvolve

from mixtools.tasks.recordings import Recording

BLOCK = 1 << 18

ORDER = 32
"""Of the whitening filter."""

EVEN_DB = -60.0
"""White noise of this level in the mix: what is quieter is not raised."""


@dataclass
class Whitened:
    """A recording through a short filter, as a rule one that makes the mix's spectrum level."""

    recording: Recording
    taps: np.ndarray

    @property
    def channels(self) -> int:
        return self.recording.channels

    @property
    def frames(self) -> int:
        return self.recording.frames

    def read(self, start: int, frames: int) -> np.ndarray:
        before = len(self.taps) - 1
        block = self.recording.read(start - before, frames + before)
        return oaconvolve(block, self.taps[None], mode="valid", axes=1).astype(np.float32)


def whitening(target: Recording, ranges: Iterable[tuple[int, int]], order: int = ORDER) -> np.ndarray:
    """The prediction error filter of a mix: what it makes of the mix has a level spectrum, (taps,)."""
    correlations = np.zeros(order + 1)
    for start, stop in ranges:
        for at in range(start, stop, BLOCK):
            for x in target.read(at, min(BLOCK, stop - at)).astype(np.float64):
                spectrum = rfft(x, next_fast_len(len(x) + order, real=True))
                correlations += irfft(np.abs(spectrum) ** 2, next_fast_len(len(x) + order, real=True))[: order + 1]
    correlations[0] *= 1.0 + 10.0 ** (EVEN_DB / 10.0)
    if correlations[0] <= 0.0:
        return np.ones(1)
    return np.concatenate([[1.0], -solve_toeplitz(correlations[:-1], correlations[1:])])
