"""Feed-forward compressor with a smooth branching detector (Steinmetz 2020, section 4.2.3; Giannoulis et al. 2012)."""

from __future__ import annotations

import numpy as np

from mixtools.dsp.compiled import GRID, TINY, kernel
from mixtools.dsp.decibels import DB_PER_OCTAVE, exp2_of_fraction, log2_of_bits, log2_of_mantissa
from mixtools.dsp.effect import Processor, pure, ramp_values
from mixtools.dsp.history import DelayLine

LEVEL_FLOOR = 1e-6
"""-120 dB: the detector sees nothing below it."""

HARD_KNEE = 1e-9
"""Octaves; stands in for a knee of 0 so that one formula serves both."""

_THRESHOLD, _SLOPE, _KNEE, _ATTACK, _RELEASE, _MAKEUP = range(6)


@kernel
def compress(key, x, y, coefficients, phase, makeup, state):
    """Write x times the gain that `key` calls for into y, all (channels, n).

    Levels are in octaves of amplitude, and so is `makeup`, one value or one per sample. Each stretch of up to 64
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
                attack[j] = begin[_ATTACK] + t * (end[_ATTACK] - begin[_ATTACK])
                release[j] = begin[_RELEASE] + t * (end[_RELEASE] - begin[_RELEASE])
                width = begin[_KNEE] + t * (end[_KNEE] - begin[_KNEE])
                over = (
                    target[j]
                    + log2_of_mantissa(level[j])
                    - begin[_THRESHOLD]
                    - t * (end[_THRESHOLD] - begin[_THRESHOLD])
                )
                ratio = begin[_SLOPE] + t * (end[_SLOPE] - begin[_SLOPE])
                bent = min(max(over + 0.5 * width, 0.0), width)
                target[j] = ratio * (bent * bent * (0.5 / width) + max(over - 0.5 * width, 0.0))
        if offset == 0 and held < TINY:
            held = 0.0
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


class Compressor(Processor):
    effect = "compressor"

    def prepare(self) -> None:
        self.latency = round(self.controls["lookahead_ms"] * self.rate / 1000)
        self.boost_db = max(0.0, self.highest("makeup_db"))
        self._ahead = DelayLine(self.channels, self.latency, self.dtype)
        self._state = np.zeros(1)

    def coefficients(self, values: dict[str, np.ndarray]) -> np.ndarray:
        return np.stack(
            [
                values["threshold_db"] / DB_PER_OCTAVE,
                1.0 - 1.0 / values["ratio"],
                np.maximum(values["knee_db"] / DB_PER_OCTAVE, HARD_KNEE),
                self._smoothing(values["attack_ms"]),
                self._smoothing(values["release_ms"]),
                values["makeup_db"] / DB_PER_OCTAVE,
            ],
            axis=1,
        )

    def _smoothing(self, time_ms: np.ndarray) -> np.ndarray:
        return np.exp(-1.0 / (time_ms * (self.rate / 1000.0)))

    def run(self, x: np.ndarray, coefficients: np.ndarray, phase: int) -> np.ndarray:
        n = x.shape[1]
        y = np.empty_like(x)
        makeup = coefficients[:1, _MAKEUP].copy()
        if self.automated:
            # The detector looks ahead, the makeup gain does not.
            there, there_phase = self.at(n, -self.latency)
            values = np.empty((1, n))
            ramp_values(np.ascontiguousarray(there[:, _MAKEUP:]), there_phase, 0.0, values)
            makeup = values[0]
        compress(x, self._ahead.process(x), y, coefficients, phase, makeup, self._state)
        return y


compressor = pure(Compressor)
