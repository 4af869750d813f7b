"""Banks of triangular filters, on the Bark scale and on two mel scales."""

from __future__ import annotations

import numpy as np

from mixtools.measure.catalogue import BARK_BANDS

LOW_HZ = 20.0
HIGH_HZ = 20000.0


def triangles(edges: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Filters (bands, n) at n places: k rises from edge k to 1 at edge k + 1 and falls to edge k + 2."""
    low, peak, high = (edges[k : len(edges) - 2 + k, None] for k in range(3))
    return np.clip(np.minimum((at - low) / (peak - low), (high - at) / (high - peak)), 0.0, None)


def bark(hz: np.ndarray) -> np.ndarray:
    """Critical-band rate of a frequency, after Traunmüller 1990, without the corrections at the ends of the scale."""
    return 26.81 * hz / (1960.0 + hz) - 0.53


def bark_hz(barks: np.ndarray) -> np.ndarray:
    """The inverse of `bark`."""
    return 1960.0 * (barks + 0.53) / (26.28 - barks)


def bark_edges_hz(bands: int = BARK_BANDS, low_hz: float = LOW_HZ, high_hz: float = HIGH_HZ) -> np.ndarray:
    """Edges for `triangles`, (bands + 2,), equally far apart in Bark."""
    return bark_hz(np.linspace(bark(low_hz), bark(high_hz), bands + 2))


def bark_filterbank(
    bins: int, rate: float, bands: int = BARK_BANDS, low_hz: float = LOW_HZ, high_hz: float = HIGH_HZ
) -> np.ndarray:
    """Weights (bands, bins) of the bins 0 to rate / 2: triangles in Hz whose peak is 1, as torchaudio builds them."""
    return triangles(bark_edges_hz(bands, low_hz, high_hz), np.linspace(0.0, rate / 2, bins))


def htk_mel(hz: np.ndarray) -> np.ndarray:
    """O'Shaughnessy's mel, as HTK has it: 1127 ln(1 + f / 700)."""
    return 1127.0 * np.log1p(np.asarray(hz) / 700.0)


def slaney_hz(mel: np.ndarray) -> np.ndarray:
    """The frequency of a mel of Slaney's Auditory Toolbox: linear up to 1 kHz (15 mel), 27 steps to each factor 6.4."""
    return np.where(mel < 15.0, mel * 200.0 / 3.0, 1000.0 * 6.4 ** ((mel - 15.0) / 27.0))


def slaney_filterbank(bins: int, rate: float, bands: int) -> np.ndarray:
    """Triangles of equal area (bands, bins) between 0 and rate / 2, which the bins cover; librosa's default."""
    nyquist = rate / 2.0
    highest = 15.0 + 27.0 * np.log(nyquist / 1000.0) / np.log(6.4)
    edges = slaney_hz(np.linspace(0.0, highest, bands + 2))
    return triangles(edges, np.linspace(0.0, nyquist, bins)) * (2.0 / (edges[2:] - edges[:-2]))[:, None]
