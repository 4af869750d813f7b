"""A bank of triangular filters on Traunmüller's Bark scale."""

from __future__ import annotations

import numpy as np

from mixtools.measure.catalogue import BARK_BANDS

LOW_HZ = 20.0
HIGH_HZ = 20000.0


def bark(hz: np.ndarray) -> np.ndarray:
    """Critical-band rate of a frequency, after Traunmüller 1990, without the corrections at the ends of the scale."""
    return 26.81 * hz / (1960.0 + hz) - 0.53


def hz_of(barks: np.ndarray) -> np.ndarray:
    """The inverse of `bark`."""
    return 1960.0 * (barks + 0.53) / (26.28 - barks)


def band_edges_hz(bands: int = BARK_BANDS, low_hz: float = LOW_HZ, high_hz: float = HIGH_HZ) -> np.ndarray:
    """Band k rises from edge k to its peak at edge k + 1 and falls to edge k + 2; (bands + 2,), equally far in Bark."""
    return hz_of(np.linspace(bark(low_hz), bark(high_hz), bands + 2))


def filterbank(
    bins: int, rate: float, bands: int = BARK_BANDS, low_hz: float = LOW_HZ, high_hz: float = HIGH_HZ
) -> np.ndarray:
    """Weights (bands, bins) of the bins 0 to rate / 2: triangles in Hz whose peak is 1, as torchaudio builds them."""
    hz = np.linspace(0.0, rate / 2, bins)
    low, peak, high = (band_edges_hz(bands, low_hz, high_hz)[k : k + bands, None] for k in range(3))
    return np.clip(np.minimum((hz - low) / (peak - low), (high - hz) / (high - peak)), 0.0, None)
