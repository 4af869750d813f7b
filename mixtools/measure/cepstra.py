"""Mel-frequency cepstra."""

from __future__ import annotations

import numpy as np

from mixtools.measure.arrays import Array, Resolution, like, magnitudes, namespace
from mixtools.measure.filterbanks import slaney_filterbank

MFCC_RESOLUTION = Resolution(2048, 512, 2048)
MFCC_BANDS = 128
LOWEST_POWER_DB = -100.0
DYNAMIC_RANGE_DB = 80.0


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
