"""Level, loudness, and how far peaks stand above the level around them."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np

from mixtools.measure.envelope import Histogram
from mixtools.measure.levels import LevelMeter
from mixtools.measure.loudness import SLOT_S, SLOTS_IN_A_BLOCK, SLOTS_IN_SHORT_TERM
from mixtools.measure.peaks import decibels
from mixtools.measure.spectral import mean_of_audible


class CrestMeter:
    """Takes the peak and the mean square over all channels at every sample, and keeps both per window."""

    def __init__(self, window: int):
        self._window = window
        self._pending = np.zeros((2, 0))
        self._peaks: list[np.ndarray] = []
        self._squares: list[np.ndarray] = []

    def add(self, peaks: np.ndarray, squares: np.ndarray) -> None:
        pending = np.concatenate([self._pending, [peaks, squares]], axis=1)
        whole = pending.shape[1] // self._window * self._window
        self._pending = pending[:, whole:]
        peaks, squares = pending[:, :whole].reshape(2, -1, self._window)
        self._peaks.append(peaks.max(axis=1))
        self._squares.append(squares.mean(axis=1))

    @property
    def crest_db(self) -> float:
        """The mean of peak over RMS of the audible windows; NaN when no window is whole, or all are silent."""
        peaks = np.concatenate(self._peaks) if self._peaks else np.zeros(0)
        levels = np.sqrt(np.concatenate(self._squares)) if self._squares else np.zeros(0)
        with np.errstate(invalid="ignore", divide="ignore"):  # silent windows become NaN, and NaN is never counted
            return mean_of_audible(levels, 20.0 * np.log10(peaks / levels))


class DynamicsMeter:
    """Takes audio (channels, n) in blocks of any size and measures all of the catalogue's loudness group."""

    def __init__(self, rate: int, channels: int):
        self._levels = LevelMeter(rate, channels)
        self._crests = CrestMeter(round(0.1 * rate)), CrestMeter(rate)
        self._histogram = Histogram()
        self._energy = 0.0
        self._length = 0

    def add(self, x: np.ndarray) -> None:
        peaks = np.abs(x).max(axis=0)
        squares = (x**2).mean(axis=0)
        self._levels.add(x)
        self._histogram.add(x.ravel())
        for meter in self._crests:
            meter.add(peaks, squares)
        self._energy += float(squares.sum())
        self._length += squares.size

    def measures(self) -> dict[str, float | None]:
        """None or NaN where undefined."""
        return {
            **asdict(self._levels.levels),
            "rms_dbfs": decibels(math.sqrt(self._energy / max(self._length, 1))),
            "crest_100ms_db": self._crests[0].crest_db,
            "crest_1s_db": self._crests[1].crest_db,
            "top_1_db_percent": self._histogram.top_1_db_percent,
        }

    def series(self, time_s: np.ndarray) -> dict[str, np.ndarray]:
        """The loudness of the windows that ended last at each time, NaN before the first and where there is silence."""
        return {
            "momentary_lufs": _latest(self._levels.loudness.momentary_lufs(), SLOTS_IN_A_BLOCK, time_s),
            "short_term_lufs": _latest(self._levels.loudness.short_term_lufs(), SLOTS_IN_SHORT_TERM, time_s),
        }


def _latest(values: np.ndarray, slots: int, time_s: np.ndarray) -> np.ndarray:
    ended = np.floor(time_s / SLOT_S).astype(np.int64) - slots
    latest = np.full(time_s.size, np.nan)
    known = (ended >= 0) & (ended < values.size)
    latest[known] = values[ended[known]]
    latest[np.isinf(latest)] = np.nan
    return latest
