"""Feed-forward compressor with a smooth branching detector (Steinmetz 2020, section 4.2.3; Giannoulis et al. 2012)."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace

from mixtools.dsp.compiled import GRID, TINY, kernel
from mixtools.dsp.decibels import DB_PER_OCTAVE, exp2_of_fraction, log2_of_bits, log2_of_mantissa
from mixtools.dsp.effect import Processor, pure, ramp_values
from mixtools.dsp.history import DelayLine

LEVEL_FLOOR = 1e-6
"""-120 dB: the detector sees nothing below it."""

HARD_KNEE = 1e-9
"""Octaves; stands in for a knee of 0 so that one formula serves both."""

THRESHOLD, SLOPE, KNEE, ATTACK, RELEASE, MAKEUP = range(6)


@kernel
def compress(key, x, y, coefficients, phase, makeup, state, trail):
    """Write x times the gain that `key` calls for into y, all (channels, n).

    Levels are in octaves of amplitude, and so is `makeup`, one value or one per sample. `trail` takes what the detector
    held when each stretch between control points began: the adjoint starts over from there. Each stretch of up to 64
    samples goes through loops that vectorise (the gain computer, the gain's power of two) and one between them that
    cannot (the detector). They run over all 64 places, whatever the block size, so that the same instructions treat
    every sample.
    """
    channels, n = x.shape
    level = np.zeros(GRID)
    bits = level.view(np.int64)
    target = np.empty(GRID)
    attack = np.empty(GRID)
    release = np.empty(GRID)
    raised = np.zeros(GRID)
    gain = np.empty(GRID)
    gain_bits = gain.view(np.int64)
    steady = coefficients.shape[0] == 1
    held = state[0]
    if steady:
        threshold, slope, knee, attack0, release0, _ = coefficients[0]
        half = 0.5 * knee
        bend = 0.5 / knee
        raised[:] = makeup[0]
    i = 0
    while i < n:
        k = (phase + i) // GRID
        offset = (phase + i) - k * GRID
        m = min(n - i, GRID - offset)
        # Full stretches have loops of their own: the compiler unrolls those whose length it knows.
        whole = m == GRID
        row = key[0]
        if whole:
            for j in range(GRID):
                level[j] = max(abs(np.float64(row[i + j])), LEVEL_FLOOR)
        else:
            for j in range(m):
                level[j] = max(abs(np.float64(row[i + j])), LEVEL_FLOOR)
        if channels == 2:
            row = key[1]
            for j in range(m):
                level[j] = max(abs(np.float64(row[i + j])), level[j])
        for j in range(m, GRID):
            level[j] = LEVEL_FLOOR
        for j in range(GRID):
            exponent, mantissa = log2_of_bits(bits[j])
            bits[j] = mantissa
            target[j] = np.float64(exponent)
        if steady:
            for j in range(GRID):
                over = target[j] + log2_of_mantissa(level[j]) - threshold
                bent = min(max(over + half, 0.0), knee)
                target[j] = slope * (bent * bent * bend + max(over - half, 0.0))
        else:
            for j in range(m):
                raised[j] = makeup[i + j]
            begin = coefficients[k]
            end = coefficients[k + 1]
            for j in range(GRID):
                t = (offset + j) * (1.0 / GRID)
                attack[j] = begin[ATTACK] + t * (end[ATTACK] - begin[ATTACK])
                release[j] = begin[RELEASE] + t * (end[RELEASE] - begin[RELEASE])
                width = begin[KNEE] + t * (end[KNEE] - begin[KNEE])
                over = (
                    target[j] + log2_of_mantissa(level[j]) - begin[THRESHOLD] - t * (end[THRESHOLD] - begin[THRESHOLD])
                )
                ratio = begin[SLOPE] + t * (end[SLOPE] - begin[SLOPE])
                bent = min(max(over + 0.5 * width, 0.0), width)
                target[j] = ratio * (bent * bent * (0.5 / width) + max(over - 0.5 * width, 0.0))
        if offset == 0 and held < TINY:
            held = 0.0
        trail[k] = held
        # Attack where x_L > y_L, else release. While attack <= release that is the larger of the two candidates,
        # otherwise the smaller: no branch that depends on the signal.
        if not steady:
            for j in range(m):
                up = attack[j] * held + (1.0 - attack[j]) * target[j]
                down = release[j] * held + (1.0 - release[j]) * target[j]
                held = max(up, down) if attack[j] <= release[j] else min(up, down)
                level[j] = held
        elif attack0 <= release0:
            for j in range(m):
                up = attack0 * held + (1.0 - attack0) * target[j]
                down = release0 * held + (1.0 - release0) * target[j]
                held = max(up, down)
                level[j] = held
        else:
            for j in range(m):
                up = attack0 * held + (1.0 - attack0) * target[j]
                down = release0 * held + (1.0 - release0) * target[j]
                held = min(up, down)
                level[j] = held
        for j in range(GRID):
            octaves = raised[j] - level[j]
            power = np.rint(octaves)
            gain[j] = exp2_of_fraction(octaves - power)
            gain_bits[j] += np.int64(power) << 52
        for c in range(channels):
            source = x[c]
            out = y[c]
            if whole:
                for j in range(GRID):
                    out[i + j] = source[i + j] * gain[j]
            else:
                for j in range(m):
                    out[i + j] = source[i + j] * gain[j]
        i += m
    state[0] = held


def stretches(n: int) -> int:
    """Between control points, that n samples reach into."""
    return -(-n // GRID)


def detector(values: dict[str, Any], rate: float) -> Any:
    """Threshold, slope, knee, attack, release and makeup as `compress` takes them, (..., 6) from controls (...).

    Numpy arrays or torch tensors. A knee of 0 stays 0.
    """
    xp = array_namespace(*values.values())
    coefficients = [
        values["threshold_db"] / DB_PER_OCTAVE,
        1.0 - 1.0 / values["ratio"],
        values["knee_db"] / DB_PER_OCTAVE,
        xp.exp(-1.0 / (values["attack_ms"] * (rate / 1000.0))),
        xp.exp(-1.0 / (values["release_ms"] * (rate / 1000.0))),
        values["makeup_db"] / DB_PER_OCTAVE,
    ]
    return xp.stack(coefficients, axis=-1)


class Compressor(Processor):
    effect = "compressor"

    def prepare(self) -> None:
        self.latency = round(self.controls["lookahead_ms"] * self.rate / 1000)
        self.boost_db = max(0.0, self.highest("makeup_db"))
        self._ahead = DelayLine(self.channels, self.latency, self.dtype)
        self._state = np.zeros(1)

    def coefficients(self, values: dict[str, np.ndarray]) -> np.ndarray:
        coefficients = detector(values, self.rate)
        coefficients[:, KNEE] = np.maximum(coefficients[:, KNEE], HARD_KNEE)
        return coefficients

    def run(self, x: np.ndarray, coefficients: np.ndarray, phase: int) -> np.ndarray:
        n = x.shape[1]
        y = np.empty_like(x)
        makeup = coefficients[:1, MAKEUP].copy()
        if self.automated:
            # The detector looks ahead, the makeup gain does not.
            there, there_phase = self.at(n, -self.latency)
            values = np.empty((1, n))
            ramp_values(np.ascontiguousarray(there[:, MAKEUP:]), there_phase, 0.0, values)
            makeup = values[0]
        trail = np.empty(stretches(phase + n))
        compress(x, self._ahead.process(x), y, coefficients, phase, makeup, self._state, trail)
        return y


compressor = pure(Compressor)
