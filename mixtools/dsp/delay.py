"""Echoes: a fractional delay line with damped feedback."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from mixtools.dsp.compiled import GRID, TINY, kernel
from mixtools.dsp.effect import Processor, pure
from mixtools.dsp.interpolation import HALF, interpolation

FEEDBACK, WET, DRY, DAMPING = range(4)


def direct_reading(delay: float) -> tuple[float, int]:
    """Delay in samples and half the taps of the first echo: the kernel's, or fewer where they would reach ahead."""
    return delay, min(HALF, math.floor(delay) + 1)


def loop_reading(delay: float) -> tuple[float, int]:
    """The same of each further echo: a loop cannot be shorter than a sample."""
    around = max(delay, 1.0)
    return around, min(HALF, math.floor(around))


def echo_coefficients(values: dict[str, Any], rate: float) -> Any:
    """Feedback, wet, dry and the low-pass's pole, (..., points, 4), of arrays or tensors (..., points)."""
    xp = array_namespace(values["damping_hz"])
    pole = xp.exp(-2.0 * math.pi * values["damping_hz"] / rate)
    return xp.stack(xp.broadcast_arrays(values["feedback"], values["wet"], values["dry"], pole), axis=-1)


@kernel
def echo(x, wet, y, direct, direct_first, loop, loop_first, coefficients, phase, state):
    """wet[n] = x[n - d] + lowpass(feedback * wet[n - d]), one channel; y = dry * x + wet * wet.

    x and wet begin with history: their last n samples are the block. Works in stretches no longer than the shortest
    way round the loop, so that each is a plain sum over the taps.
    """
    n = y.size
    last = coefficients.shape[0] - 1
    start_x = x.size - n
    start_wet = wet.size - n
    low = state[0]
    sums = np.empty(GRID)
    fed = np.empty(GRID)
    i = 0
    while i < n:
        k = (phase + i) // GRID
        offset = (phase + i) - k * GRID
        m = min(min(n - i, GRID - offset), loop_first)
        begin = coefficients[min(k, last)]
        end = coefficients[min(k + 1, last)]
        if offset == 0 and abs(low) < TINY:
            low = 0.0
        sums[:] = 0.0
        fed[:] = 0.0
        for tap in range(direct.size):
            at = start_x + i - direct_first - tap
            for j in range(m):
                sums[j] += direct[tap] * x[at + j]
        for tap in range(loop.size):
            at = start_wet + i - loop_first - tap
            for j in range(m):
                fed[j] += loop[tap] * wet[at + j]
        for j in range(m):
            t = (offset + j) * (1.0 / GRID)
            feedback = begin[FEEDBACK] + t * (end[FEEDBACK] - begin[FEEDBACK])
            damping = begin[DAMPING] + t * (end[DAMPING] - begin[DAMPING])
            low = feedback * fed[j] + damping * (low - feedback * fed[j])
            value = sums[j] + low
            if abs(value) < TINY:
                value = 0.0
            wet[start_wet + i + j] = value
            dry_gain = begin[DRY] + t * (end[DRY] - begin[DRY])
            wet_gain = begin[WET] + t * (end[WET] - begin[WET])
            y[i + j] = dry_gain * x[start_x + i + j] + wet_gain * value
        i += m
    state[0] = low


class Delay(Processor):
    effect = "delay"

    def prepare(self) -> None:
        delay = self.controls["time_ms"] * self.rate / 1000
        self._direct_first, self._direct = interpolation(*direct_reading(delay))
        self._loop_first, self._loop = interpolation(*loop_reading(delay))
        reach = max(self._direct_first + len(self._direct), self._loop_first + len(self._loop)) - 1
        self._past_input = np.zeros((self.channels, reach), self.dtype)
        self._past_wet = np.zeros((self.channels, reach))
        self._state = np.zeros((self.channels, 1))
        feedback = self.highest("feedback")
        self._around, _ = loop_reading(delay)
        self._first_echo = math.ceil(delay) + HALF
        self.boost_db = -20 * math.log10(1 - feedback)
        self.pause = math.ceil(self._around) + HALF

    def tail(self, decay_db: float) -> int:
        feedback = self.highest("feedback")
        echoes = math.ceil(decay_db / (-20 * math.log10(feedback))) if feedback > 0 else 0
        return self._first_echo + math.ceil(echoes * self._around)

    def coefficients(self, values: dict[str, np.ndarray]) -> np.ndarray:
        return echo_coefficients(values, self.rate)

    def run(self, x: np.ndarray, coefficients: np.ndarray, phase: int) -> np.ndarray:
        n = x.shape[1]
        joined = np.concatenate([self._past_input, x], axis=1)
        wet = np.concatenate([self._past_wet, np.zeros(x.shape)], axis=1)
        y = np.empty_like(x)
        for c in range(self.channels):
            taps = self._direct, self._direct_first, self._loop, self._loop_first
            echo(joined[c], wet[c], y[c], *taps, coefficients, phase, self._state[c])
        self._past_input = joined[:, n:].copy()
        self._past_wet = wet[:, n:].copy()
        return y


delay = pure(Delay)
