"""How a sound is spread between left and right."""

from __future__ import annotations

import math

import numpy as np

from mixtools.measure.spectral import NEGLIGIBLE, frame_size, mean_of_audible

PANNING_BANDS_HZ = {
    "panning_all": (0.0, math.inf),
    "panning_low": (0.0, 250.0),
    "panning_mid": (250.0, 2500.0),
    "panning_high": (2500.0, math.inf),
}
"""The bands of Tzanetakis et al. 2007: from the first frequency up to, not including, the second."""


class StereoMeter:
    """Takes audio (channels, n) in blocks of any size and keeps the energies of left, right, sum and difference."""

    def __init__(self):
        self._left = 0.0
        self._right = 0.0
        self._cross = 0.0
        self._sum = 0.0
        self._difference = 0.0

    def add(self, x: np.ndarray) -> None:
        left, right = x[0], x[-1]
        self._left += float((left**2).sum())
        self._right += float((right**2).sum())
        self._cross += float((left * right).sum())
        self._sum += float(((left + right) ** 2).sum())
        self._difference += float(((left - right) ** 2).sum())

    def measures(self) -> dict[str, float]:
        """Width, imbalance and correlation; NaN where undefined."""
        left, right = self._left, self._right
        both = math.sqrt(left * right)
        return {
            "width": self._difference / self._sum if self._sum else math.nan,
            "imbalance": (right - left) / (right + left) if left + right else math.nan,
            "correlation": min(max(self._cross / both, -1.0), 1.0) if both else math.nan,
        }


class PanningMeter:
    """Takes spectra (channels, frames, bins) of windowed frames and keeps the panning of each frame and band."""

    def __init__(self, rate: float):
        hz = np.linspace(0.0, rate / 2, frame_size(rate) // 2 + 1)
        self._bands = [(low <= hz) & (hz < high) for low, high in PANNING_BANDS_HZ.values()]
        self._levels: list[np.ndarray] = []
        self._values: list[np.ndarray] = []

    def add(self, spectra: np.ndarray) -> None:
        left, right = np.abs(spectra[0]), np.abs(spectra[-1])
        if not len(left):
            return
        strongest = np.maximum(left, right).max(axis=1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):  # silent frames become NaN, and NaN is never counted
            left, right = left / strongest, right / strongest
            powers = left**2 + right**2
            # |SPS| = 1 - 2 |XL XR*| / (|XL|^2 + |XR|^2) = (|XL| - |XR|)^2 / (|XL|^2 + |XR|^2); the spectrum's sign says
            # which side is louder and does not reach the RMS. Tzanetakis et al. 2007.
            spectrum = (left - right) ** 2 / powers
            spectrum[powers < NEGLIGIBLE**2 * powers.max(axis=1, keepdims=True)] = 0.0
            self._levels.append(np.nan_to_num(strongest[:, 0] * np.sqrt(powers.sum(axis=1))))
        self._values.append(np.stack([np.sqrt((spectrum[:, band] ** 2).mean(axis=1)) for band in self._bands]))

    def measures(self) -> dict[str, float]:
        """The mean of every series over the audible frames; NaN where undefined."""
        levels = np.concatenate([np.zeros(0), *self._levels])
        return {name: mean_of_audible(levels, values) for name, values in self.series().items()}

    def series(self) -> dict[str, np.ndarray]:
        """One value per frame and band, NaN where the frame is silent."""
        values = np.concatenate([np.zeros((len(PANNING_BANDS_HZ), 0)), *self._values], axis=1)
        return dict(zip(PANNING_BANDS_HZ, values, strict=True))
