"""Look-ahead true-peak limiter."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from mixtools.dsp.compiled import GRID, kernel
from mixtools.dsp.effect import Processor, amplitude, pure
from mixtools.dsp.history import DelayLine, History
from mixtools.dsp.true_peak import TAPS, true_peaks

ATTACK_MS = 1.5
"""Over which the gain moves down to meet a peak."""

STAGES = 2
"""A moving gain bends the curve between samples, so that a peak could end up slightly above the ceiling: a second
stage sees it."""

STEP = 2.0**-40
"""Gain reductions are rounded up to multiples of this, so that their moving sum never drifts."""

ROUNDING = 1e-6
"""Aimed below the ceiling by this much, for the rounding of float32 audio."""

CEILING, RELEASE = range(2)

RECOVERING = -1


@kernel
def limiter_gain(peaks, gain, trail, ages, coefficients, phase, ring, order, sums, state):
    """The gain at every sample, `len(ring) - 1` samples late.

    The gain a peak calls for holds from the first sample that its interpolation filter covers, and the moving average
    over `len(sums)` samples leads down to it. ring holds the gains called for, order the places in it from which the
    smallest is read (a monotonic queue), sums the averaged reductions; state: clock, queue's head, queue's length,
    recovered gain, running sum. For the adjoint, trail takes
    the gain before averaging, and ages how many samples ago the peak was that it comes from, or RECOVERING.
    """
    window = ring.size
    width = sums.size
    last = coefficients.shape[0] - 1
    clock = np.int64(state[0])
    head = np.int64(state[1])
    length = np.int64(state[2])
    recovered = state[3]
    total = state[4]
    for i in range(peaks.size):
        k = (phase + i) // GRID
        t = ((phase + i) - k * GRID) * (1.0 / GRID)
        begin = coefficients[min(k, last)]
        end = coefficients[min(k + 1, last)]
        ceiling = begin[CEILING] + t * (end[CEILING] - begin[CEILING])
        release = begin[RELEASE] + t * (end[RELEASE] - begin[RELEASE])
        wanted = ceiling / peaks[i] if peaks[i] > ceiling else 1.0
        place = clock % window
        ring[place] = wanted
        if length > 0 and order[head] == place:
            head = (head + 1) % window
            length -= 1
        while length > 0 and ring[order[(head + length - 1) % window]] >= wanted:
            length -= 1
        order[(head + length) % window] = place
        length += 1
        lowest = ring[order[head]]
        risen = 1.0 - release * (1.0 - recovered)
        recovered = min(lowest, risen)
        trail[i] = recovered
        ages[i] = (place - order[head]) % window if lowest < risen else RECOVERING
        reduction = math.ceil((1.0 - recovered) / STEP) * STEP
        total += reduction - sums[clock % width]
        sums[clock % width] = reduction
        gain[i] = 1.0 - total / width
        clock += 1
    state[0] = clock
    state[1] = head
    state[2] = length
    state[3] = recovered
    state[4] = total


def attack_samples(rate: float) -> int:
    return max(1, round(ATTACK_MS * rate / 1000))


def at_rest(rate: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """ring, order, sums and state as `limiter_gain` takes them, before the first sample."""
    width = attack_samples(rate)
    window = width + TAPS - 1
    return np.ones(window), np.zeros(window, np.int64), np.zeros(width), np.array([0.0, 0.0, 0.0, 1.0, 0.0])


def limits(values: dict[str, Any], rate: float) -> Any:
    """Ceiling and release as `limiter_gain` takes them, (..., 2) from controls (...), numpy arrays or torch tensors."""
    xp = array_namespace(*values.values())
    ceiling = amplitude(values["ceiling_db"]) * (1.0 - ROUNDING)
    return xp.stack([ceiling, xp.exp(-1.0 / (values["release_ms"] * (rate / 1000)))], axis=-1)


class _Stage:
    def __init__(self, rate: float, channels: int, dtype: np.dtype):
        self._state = at_rest(rate)
        self.latency = len(self._state[0]) - 1
        self._past = History(channels, TAPS - 1, dtype)
        self._line = DelayLine(channels, self.latency, dtype)

    def process(self, x: np.ndarray, coefficients: np.ndarray, phase: int) -> np.ndarray:
        peaks = np.empty(x.shape[1])
        gain = np.empty(x.shape[1])
        true_peaks(self._past.extend(x), coefficients[:, CEILING].min(), peaks)
        limiter_gain(peaks, gain, np.empty_like(gain), np.empty(len(gain), np.int32), coefficients, phase, *self._state)
        return (self._line.process(x) * gain).astype(x.dtype)


class Limiter(Processor):
    effect = "limiter"

    def prepare(self) -> None:
        self._stages = [_Stage(self.rate, self.channels, self.dtype) for _ in range(STAGES)]
        self.latency = sum(stage.latency for stage in self._stages)

    def coefficients(self, values: dict[str, np.ndarray]) -> np.ndarray:
        return limits(values, self.rate)

    def run(self, x: np.ndarray, coefficients: np.ndarray, phase: int) -> np.ndarray:
        late = 0
        for stage in self._stages:
            x = stage.process(x, *self.at(x.shape[1], -late))
            late += stage.latency
        return x


limiter = pure(Limiter)
