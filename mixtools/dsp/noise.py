"""What is random: numbers by seed and name, and decaying noise shaped in twelve octave bands for reverbs and rooms."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.fft
from array_api_compat import array_namespace

from mixtools.controls import REVERB_CENTRES_HZ

DECAYED_S = 1.5
"""Times the 60 dB decay after which the response is cut, at -90 dB."""


def octave_windows(bins: int, rate: float) -> np.ndarray:
    """Amplitude of each band over the frequencies 0…rate/2, (12, bins); their squares sum to 1.

    Neighbours cross at the geometric mean of their centres, as sine and cosine over half an octave to each side; the
    lowest band reaches down to 0, the highest up to half the sample rate.
    """
    octaves = np.log2(np.maximum(np.linspace(0.0, rate / 2, bins), 1e-3) / REVERB_CENTRES_HZ[0])
    edges = np.clip(octaves[None] - np.arange(11)[:, None], 0.0, 1.0)
    above = np.sin(0.5 * np.pi * edges)
    below = np.where(edges < 1.0, np.cos(0.5 * np.pi * edges), 0.0)
    ones = np.ones((1, bins))
    return np.concatenate([ones, above]) * np.concatenate([below, ones])


def response_length(gains: np.ndarray, decays_s: np.ndarray, rate: float) -> int:
    """Samples until the slowest band that sounds has fallen by 90 dB."""
    longest = max((decay for gain, decay in zip(gains, decays_s, strict=True) if gain > 0.0), default=0.0)
    return max(1, math.ceil(DECAYED_S * longest * rate))


def noise_bands(size: int, seed: int, rate: float) -> Iterator[np.ndarray]:
    """The twelve bands' noises, middle and side, (2, size) float64: white noise of its own through each window."""
    # RandomState's stream is frozen for good; the newer generators' may change between numpy versions.
    random = np.random.RandomState(seed)
    for window in octave_windows(size // 2 + 1, rate):
        yield scipy.fft.irfft(scipy.fft.rfft(random.standard_normal((2, size))) * window, size)


def noise_size(taps: int) -> int:
    """Samples of noise that are made for a response: the next size that transforms fast."""
    return scipy.fft.next_fast_len(taps, real=True)


def band_envelope(gain: Any, decay_s: Any, time: Any, rate: float) -> Any:
    """A band's amplitude at times in samples, of arrays or tensors: falls by 60 dB in its decay time, energy gain^2."""
    xp = array_namespace(decay_s)
    fall = math.log(1000.0) / (decay_s * rate)
    return gain * (xp.exp(-fall * time) * xp.sqrt(-xp.expm1(-2.0 * fall)))


def both_sides(middle: Any, side: Any, width: Any) -> Any:
    """Left and right (2, taps) of two independent noises (taps,): `width` 0 takes only the first, 1 both alike."""
    xp = array_namespace(width)
    angle = width * (math.pi / 4)
    shared, apart = xp.cos(angle) * middle, xp.sin(angle) * side
    return xp.stack([shared + apart, shared - apart])


def shaped_noise(gains: np.ndarray, decays_s: np.ndarray, width: float, seed: int, rate: float) -> np.ndarray:
    """The response, float64 (2, taps).

    Every band is noise that falls by 60 dB in its decay time, scaled so that all gains at 1 give unit energy on each
    side, whatever the decays. `width` 0 gives both sides the same noise, 1 gives each its own.
    """
    taps = response_length(gains, decays_s, rate)
    time = np.arange(taps)
    response = np.zeros((2, taps))
    for gain, decay_s, noise in zip(gains, decays_s, noise_bands(noise_size(taps), seed, rate), strict=True):
        if gain > 0.0:
            response += both_sides(*(noise[:, :taps] * band_envelope(gain, decay_s, time, rate)), np.asarray(width))
    return response


def generator(seed: int, name: str) -> np.random.Generator:
    """The random numbers of one task of a seed, independent of all others."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(zlib.crc32(name.encode()),))))
