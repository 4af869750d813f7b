"""Mel scales, their filter banks, and cepstra."""

from __future__ import annotations

import numpy as np

from mixtools.measure.arrays import Array, Resolution, like, magnitudes, namespace

MFCC_RESOLUTION = Resolution(2048, 512, 2048)
MFCC_BANDS = 128
LOWEST_POWER_DB = -100.0
DYNAMIC_RANGE_DB = 80.0


def triangles(edges: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Filters (bands, n) at n places: k rises from edge k to 1 at edge k + 1 and falls to edge k + 2."""
    low, peak, high = (edges[k : len(edges) - 2 + k, None] for k in range(3))
    return np.clip(np.minimum((at - low) / (peak - low), (high - at) / (high - peak)), 0.0, None)


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


def cosines(bands: int, count: int) -> np.ndarray:
    """The first `count` rows of the orthonormal DCT-II, (count, bands)."""
    rows = np.cos(np.pi / bands * np.arange(count)[:, None] * (np.arange(bands) + 0.5)) * np.sqrt(2.0 / bands)
    rows[0] /= np.sqrt(2.0)
    return rows


def mfcc(x: Array, rate: float, count: int) -> Array:
    """Mel-frequency cepstra in dB of signals (..., n), numpy or torch: (..., count, frames), the zeroth among them.

    As `librosa.feature.mfcc` has them: 128 bands of power in dB, at least -100 and at most 80 below the highest of all.
    """
    xp = namespace(x)
    bank = slaney_filterbank(MFCC_RESOLUTION.size // 2 + 1, rate, MFCC_BANDS)
    powers = [xp.matmul(like(bank, spectra), spectra**2) for spectra in magnitudes(x, MFCC_RESOLUTION)]
    decibels = 10.0 * xp.log10(xp.clip(xp.concat(powers, axis=-1), min=10.0 ** (LOWEST_POWER_DB / 10.0)))
    decibels = xp.maximum(decibels, xp.max(decibels) - DYNAMIC_RANGE_DB)
    return xp.matmul(like(cosines(MFCC_BANDS, count), decibels), decibels)
