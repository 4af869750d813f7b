"""Sample peak and true peak, block by block."""

from __future__ import annotations

import math

import numpy as np

from mixtools.dsp.true_peak import TAPS, highest_peaks


def decibels(amplitude: float) -> float | None:
    """An amplitude in dB; None for 0."""
    return 20.0 * math.log10(amplitude) if amplitude > 0.0 else None


class PeakMeter:
    """Takes audio (channels, n) in blocks of any size; amplitudes over all channels, full scale is 1."""

    def __init__(self, channels: int):
        self._past = np.zeros((channels, TAPS - 1), np.float32)
        self._peaks = 0.0, 0.0

    def add(self, x: np.ndarray) -> None:
        joined = np.concatenate([self._past, x], axis=1)
        self._past = joined[:, joined.shape[1] - (TAPS - 1) :].copy()
        self._peaks = highest_peaks(joined, *self._peaks)

    @property
    def sample_peak(self) -> float:
        """The largest sample."""
        return self._peaks[0]

    @property
    def true_peak(self) -> float:
        """The largest value, between samples too, as ITU-R BS.1770-4 annex 2 finds it."""
        rest = np.concatenate([self._past, np.zeros_like(self._past)], axis=1)
        return highest_peaks(rest, *self._peaks)[1]
