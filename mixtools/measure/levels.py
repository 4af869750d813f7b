"""What EBU R 128 wants to know of a file: loudness and peaks, in one pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixtools.measure.loudness import LoudnessMeter
from mixtools.measure.peaks import PeakMeter, decibels


@dataclass(frozen=True)
class Levels:
    """None stands for what the audio is too short, too quiet or too silent for."""

    integrated_lufs: float | None
    momentary_max_lufs: float | None
    short_term_max_lufs: float | None
    range_lu: float | None
    sample_peak_dbfs: float | None
    true_peak_dbtp: float | None


class LevelMeter:
    """Takes mono or stereo audio (channels, n) in blocks of any size; `loudness` has the series, too."""

    def __init__(self, rate: float, channels: int, dual_mono: bool = False):
        self.loudness = LoudnessMeter(rate, channels, dual_mono)
        self._peaks = PeakMeter(channels)

    def add(self, x: np.ndarray) -> None:
        self.loudness.add(x)
        self._peaks.add(x)

    @property
    def levels(self) -> Levels:
        """Of what was added so far."""
        return Levels(
            self.loudness.integrated_lufs,
            self.loudness.momentary_max_lufs,
            self.loudness.short_term_max_lufs,
            self.loudness.range_lu,
            decibels(self._peaks.sample_peak),
            decibels(self._peaks.true_peak),
        )


def levels(x: np.ndarray, rate: int, dual_mono: bool = False) -> Levels:
    """Loudness and peaks of a whole signal, (channels, n) or (n,)."""
    x = np.atleast_2d(x)
    meter = LevelMeter(rate, len(x), dual_mono)
    meter.add(x)
    return meter.levels
