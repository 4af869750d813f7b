"""Spectra as people read them: power in parts of an octave, of the middle and of the side."""

from __future__ import annotations

import math

import numpy as np
from scipy.fft import rfft

from mixtools.measure.frames import Framer, hann

LOWEST_HZ, HIGHEST_HZ = 20.0, 20000.0
PER_OCTAVE = 6

FRAME_S = 0.37
"""Of a frame, about: long enough to part the lowest bands."""


def centres_hz(rate: float) -> np.ndarray:
    """The middles of the bands that a rate has, up to 20 kHz."""
    highest = min(HIGHEST_HZ, 0.5 * rate / 2.0 ** (0.5 / PER_OCTAVE))
    return LOWEST_HZ * 2.0 ** (
        np.arange(max(1, math.floor(PER_OCTAVE * math.log2(highest / LOWEST_HZ)) + 1)) / PER_OCTAVE
    )


class BandMeter:
    """Takes audio (channels, n), mono or stereo, in blocks of any size and keeps the mean power of every band."""

    def __init__(self, rate: float):
        self._rate = rate
        self._size = 1 << max(8, round(math.log2(FRAME_S * rate)))
        self._framer = Framer(self._size, self._size // 2, 2, centred=True)
        self._window = hann(self._size)
        self._powers = np.zeros((2, self._size // 2 + 1))
        self._frames = 0

    def add(self, x: np.ndarray) -> None:
        left, right = x[0], x[-1]
        self._add_frames(self._framer.add(0.5 * np.stack([left + right, left - right]).astype(np.float64)))

    def _add_frames(self, frames: np.ndarray) -> None:
        for first in range(0, frames.shape[1], 16):
            self._powers += (np.abs(rfft(frames[:, first : first + 16] * self._window)) ** 2).sum(axis=1)
        self._frames += frames.shape[1]

    def finish(self) -> None:
        """Nothing can be added after it."""
        self._add_frames(self._framer.finish())

    def powers(self) -> np.ndarray:
        """Mean squares of middle and side in every band of `centres_hz`, (2, bands); a sine's is half its square."""
        scale = 2.0 / (self._size * (self._window**2).sum() * max(self._frames, 1))
        total = np.concatenate([np.zeros((2, 1)), np.cumsum(self._powers * scale, axis=1)], axis=1)
        centres = centres_hz(self._rate)
        half = 2.0 ** (0.5 / PER_OCTAVE)
        # A bin reaches half a bin to both sides: what lies between two frequencies is a difference of running sums.
        edges = np.arange(self._size // 2 + 2) - 0.5
        places = [np.clip(hz * self._size / self._rate, 0.0, edges[-1]) for hz in (centres / half, centres * half)]
        low, high = ([np.interp(at, edges, side) for side in total] for at in places)
        return np.maximum(np.array(high) - np.array(low), 0.0)
