"""The shape of the spectrum, frame by frame, and the power in Bark bands."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import entr

from mixtools.measure.catalogue import BARK_BANDS
from mixtools.measure.filterbanks import bark_edges_hz, bark_filterbank
from mixtools.measure.frames import hann

AUDIBLE = 10.0 ** (-60.0 / 20.0)
"""Frames and windows this far below the loudest one, in amplitude, do not count."""

NEGLIGIBLE = 10.0 ** (-120.0 / 20.0)
"""Bins this far below a frame's strongest, in amplitude, count as empty: what remains there is mostly rounding."""

SERIES = (
    "centroid_hz",
    "spread_hz",
    "skewness",
    "kurtosis",
    "rolloff_85_hz",
    "rolloff_95_hz",
    "flatness",
    "entropy",
    "crest",
    "flux",
)


def frame_size(rate: float) -> int:
    """Samples in a frame: the power of two nearest, in octaves, to 2048 samples at 44.1 kHz."""
    return 2 ** round(math.log2(2048.0 * rate / 44100.0))


def mean_of_audible(levels: np.ndarray, values: np.ndarray) -> float:
    """The mean of values (frames,) where the amplitude levels (frames,) are audible; NaN where no value is defined."""
    if not levels.size or not levels.max() > 0.0:
        return math.nan
    counted = values[(levels >= AUDIBLE * levels.max()) & np.isfinite(values)]
    return float(counted.mean()) if counted.size else math.nan


class SpectralMeter:
    """Takes spectra (channels, frames, bins) of windowed frames and keeps one number per frame and feature."""

    def __init__(self, rate: float):
        self._rate = rate
        self._size = frame_size(rate)
        self._hz = np.linspace(0.0, rate / 2, self._size // 2 + 1)
        self._levels: list[np.ndarray] = []
        self._values: list[np.ndarray] = []
        self._powers = np.zeros(self._hz.size)
        self._before = np.full(self._hz.size, np.nan)

    def add(self, spectra: np.ndarray) -> None:
        magnitudes = np.abs(spectra[0] + spectra[-1]) / 2.0
        if not len(magnitudes):
            return
        strongest = magnitudes.max(axis=1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):  # silent frames become NaN, and NaN is never counted
            magnitudes /= strongest
            magnitudes[magnitudes < NEGLIGIBLE] = 0.0
            self._powers += np.nansum((magnitudes * strongest) ** 2, axis=0)
            norms = np.sqrt((magnitudes**2).sum(axis=1, keepdims=True))
            self._values.append(np.stack([*self._shape(magnitudes), self._flux(magnitudes / norms)]))
        self._levels.append(np.nan_to_num(strongest * norms)[:, 0])

    def _shape(self, magnitudes: np.ndarray) -> list[np.ndarray]:
        """All of `SERIES` but the flux, each (frames,), of magnitudes whose largest is 1."""
        totals = magnitudes.sum(axis=1, keepdims=True)
        weights = magnitudes / totals
        centroids = weights @ self._hz[:, None]
        distances = self._hz - centroids
        moments = weights * distances**2
        spreads = np.sqrt(moments.sum(axis=1))
        moments *= distances
        thirds = moments.sum(axis=1)
        moments *= distances
        fourths = moments.sum(axis=1)
        cumulated = np.cumsum(magnitudes, axis=1)
        powers = magnitudes**2
        entropies = entr(powers / powers.sum(axis=1, keepdims=True)).sum(axis=1) / math.log(self._hz.size)
        powers = np.maximum(powers, NEGLIGIBLE**2)
        return [
            centroids[:, 0],
            spreads,
            thirds / spreads**3,
            fourths / spreads**4,
            *(self._hz[np.argmax(cumulated >= share * cumulated[:, -1:], axis=1)] for share in (0.85, 0.95)),
            np.exp(np.log(powers).mean(axis=1)) / powers.mean(axis=1),
            np.minimum(entropies, 1.0),
            self._hz.size / totals[:, 0],
        ]

    def _flux(self, units: np.ndarray) -> np.ndarray:
        flux = np.sqrt((np.diff(units, axis=0, prepend=self._before[None]) ** 2).sum(axis=1))
        self._before = units[-1]
        return flux

    def measures(self) -> dict[str, float | list[float]]:
        """The mean of every series over the audible frames, and the Bark bands; NaN where undefined."""
        levels = np.concatenate([np.zeros(0), *self._levels])
        means = {name: mean_of_audible(levels, values) for name, values in self.series().items()}
        return {**means, "bark_db": self._bark_db(levels.size)}

    def series(self) -> dict[str, np.ndarray]:
        """One value per frame and feature, NaN where undefined."""
        values = np.concatenate([np.zeros((len(SERIES), 0)), *self._values], axis=1)
        return dict(zip(SERIES, values, strict=True))

    def _bark_db(self, frames: int) -> list[float]:
        # Parseval: the bins of one side, doubled, over the frame's size and the window's energy are a mean square.
        squares = 2.0 * self._powers / (self._size * (hann(self._size) ** 2).sum())
        bands = bark_filterbank(self._hz.size, self._rate) @ squares
        defined = (bands > 0.0) & (bark_edges_hz()[2:] <= self._rate / 2)
        levels = np.full(BARK_BANDS, np.nan)
        levels[defined] = 10.0 * np.log10(bands[defined] / frames)
        return levels.tolist()
