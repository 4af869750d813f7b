"""The interpolation kernel: how audio is read between samples, by the delay, by time offsets and by oversampling."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import i1

from mixtools.dsp.compiled import GRID, kernel

HALF = 16
"""Taps on each side: flat to 0.42 of the sample rate, images below -80 dB from 0.58 on."""

KAISER_BETA = 8.0


def interpolation(delay: float, half: int = HALF) -> tuple[int, np.ndarray]:
    """The first tap's delay and the taps that delay by `delay` samples: a Kaiser-windowed sinc of 2 * half taps.

    A whole delay is a single 1. The taps sum to 1.
    """
    whole = math.floor(delay)
    first = whole - half + 1
    if delay == whole:
        taps = np.zeros(2 * half)
        taps[half - 1] = 1.0
        return first, taps
    distance = np.arange(2 * half) + first - delay
    taps = np.sinc(distance) * np.i0(KAISER_BETA * np.sqrt(np.maximum(1.0 - (distance / half) ** 2, 0.0)))
    return first, taps / taps.sum()


def interpolation_slope(delay: float, half: int = HALF) -> np.ndarray:
    """What the taps of `interpolation` change by per sample of delay; at a whole delay, by growing it."""
    distance = np.arange(2 * half) + (math.floor(delay) - half + 1) - delay
    inside = np.sqrt(np.maximum(1.0 - (distance / half) ** 2, 0.0))
    sinc, window = np.sinc(distance), np.i0(KAISER_BETA * inside)
    apart = np.where(distance == 0.0, 1.0, distance)
    to_sinc = np.where(distance == 0.0, 0.0, (np.cos(np.pi * distance) - sinc) / apart)
    # i0' is i1, and i1(beta s) / s approaches beta / 2 at the window's ends.
    bend = np.where(inside > 0.0, i1(KAISER_BETA * inside) / np.where(inside > 0.0, inside, 1.0), KAISER_BETA / 2)
    to_window = -KAISER_BETA * bend * distance / half**2
    weights, slopes = sinc * window, -(to_sinc * window + sinc * to_window)
    return (slopes - weights * (slopes.sum() / weights.sum())) / weights.sum()


@kernel
def fir(x, taps, y):
    """y[i] = sum of taps[k] * x[i + len(taps) - 1 - k]: x begins with len(taps) - 1 samples of history."""
    count = taps.size
    n = y.size
    sums = np.empty(GRID)
    i = 0
    while i < n:
        m = min(GRID, n - i)
        sums[:] = 0.0
        for k in range(count):
            for j in range(m):
                sums[j] += taps[k] * x[i + j + count - 1 - k]
        for j in range(m):
            y[i + j] = sums[j]
        i += m


def filtered(x: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """`fir` on every channel, (channels, n + len(taps) - 1) to (channels, n), float64."""
    y = np.empty((len(x), x.shape[1] - len(taps) + 1))
    for c in range(len(x)):
        fir(x[c], taps, y[c])
    return y
