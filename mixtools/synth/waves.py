"""The raw material of every instrument: tuned recursions, tables, noise and envelopes.

Clips are float32; recursions and phases are float64. Nothing is generated above Nyquist.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numba import njit

from mixtools.dsp.compiled import kernel

TOP_OF_BAND = 0.46
"""The highest frequency that is generated, relative to the sample rate."""

HOP = 64
"""Samples between the control points of a tone."""

MOST_HARMONICS = 1024
_TABLE_SIZE = 8192
_AUDIBLE = 1e-4
_SHORTEST_NOISE = 256

Spectrum = Sequence[tuple[float, float]]
"""A spectral envelope: (Hz, dB) breakpoints, joined linearly over the logarithm of frequency."""


def hz(pitch: float) -> float:
    """The frequency of a MIDI pitch."""
    return 440.0 * 2.0 ** ((pitch - 69.0) / 12.0)


def samples(seconds: float, rate: float) -> int:
    """Seconds as a whole number of samples, at least 1."""
    return max(1, round(seconds * rate))


def transform_size(n: int) -> int:
    """A length of at least n, and little more, that Fourier transforms are fast at: 8 to 16 times a power of two."""
    unit = 1 << max(0, n.bit_length() - 4)
    return -(-n // unit) * unit


def moments(n: int, rate: float) -> np.ndarray:
    """The times in seconds of the control points of n samples: one every `HOP`, and one beyond the end."""
    return np.arange(-(-n // HOP) + 1) * (HOP / rate)


def decay(n: int, rate: float, t60_s: float) -> np.ndarray:
    """An exponential envelope that falls by 60 dB in `t60_s`, (n,)."""
    return np.exp(np.arange(n, dtype=np.float32) * np.float32(-math.log(1000.0) / (t60_s * rate)))


def edges(n: int, rate: float, attack_s: float, release_s: float) -> np.ndarray:
    """An envelope of 1 with raised-cosine ends, (n,)."""
    envelope = np.ones(n, dtype=np.float32)
    for seconds, side in ((attack_s, slice(None)), (release_s, slice(None, None, -1))):
        length = min(n, samples(seconds, rate))
        envelope[side][:length] *= 0.5 - 0.5 * np.cos(np.pi * (np.arange(length, dtype=np.float32) + 0.5) / length)
    return envelope


def spectrum_gain(frequencies: np.ndarray, spectrum: Spectrum) -> np.ndarray:
    """The amplitude of a spectral envelope at some frequencies in Hz."""
    corners = np.log([corner for corner, _ in spectrum])
    levels = [level for _, level in spectrum]
    return 10.0 ** (np.interp(np.log(np.maximum(frequencies, 1.0)), corners, levels) / 20.0)


def noise(rng: np.random.Generator, n: int, rate: float, spectrum: Spectrum) -> np.ndarray:
    """Noise of a given spectral envelope, scaled to an RMS of 1, (n,)."""
    size = transform_size(max(n, _SHORTEST_NOISE))
    bins = np.fft.rfftfreq(size, 1.0 / rate)
    shape = spectrum_gain(bins, spectrum).astype(np.float32)
    shape[(bins == 0.0) | (bins > TOP_OF_BAND * rate)] = 0.0
    random = (rng.random((len(bins), 2), dtype=np.float32) - np.float32(0.5)).view(np.complex64)[:, 0]
    out = np.fft.irfft(random * shape, size)[:n]
    return out / (np.sqrt(np.mean(np.square(out))) + np.float32(1e-12))


def burst(rng: np.random.Generator, n: int, rate: float, spectrum: Spectrum, t60_s: float) -> np.ndarray:
    """Noise of an RMS of 1 that falls by 60 dB in `t60_s`, then silence, (n,)."""
    length = min(n, samples(1.2 * t60_s, rate))
    out = np.zeros(n, dtype=np.float32)
    out[:length] = noise(rng, length, rate, spectrum) * decay(length, rate, t60_s)
    return out


def sweep(n: int, rate: float, low_hz: float, high_hz: float, fall_s: float) -> np.ndarray:
    """A sine that falls from `high_hz` to `low_hz` with a time constant of `fall_s`, (n,)."""
    t = np.arange(n) / rate
    cycles = low_hz * t + (high_hz - low_hz) * fall_s * (1.0 - np.exp(-t / fall_s))
    return np.sin(2.0 * np.pi * (cycles % 1.0).astype(np.float32))


def modes(
    n: int, rate: float, frequencies: np.ndarray, amplitudes: np.ndarray, t60_s: np.ndarray, phases: np.ndarray
) -> np.ndarray:
    """A sum of decaying sines, as struck and plucked bodies ring, (n,); frequencies in Hz, phases in radians."""
    frequencies, amplitudes, t60_s, phases = np.broadcast_arrays(frequencies, amplitudes, t60_s, phases)
    audible = (frequencies < TOP_OF_BAND * rate) & (np.abs(amplitudes) > _AUDIBLE * np.abs(amplitudes).max())
    lives = np.minimum(n, np.abs(t60_s) * rate * np.log10(np.abs(amplitudes) / _AUDIBLE + 1.0) / 3.0).astype(np.int64)
    order = np.flatnonzero(audible)
    order = order[np.argsort(-lives[order], kind="stable")]
    turn = np.exp((-math.log(1000.0) / t60_s[order] + 2j * np.pi * frequencies[order]) / rate)
    start = amplitudes[order] * np.exp(1j * phases[order])
    return _modes(n, start.real.copy(), start.imag.copy(), turn.real.copy(), turn.imag.copy(), lives[order])


# Reordered, the sum over modes vectorises; a clip is played whole, so no block size is at stake.
@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _modes(n, real, imag, turn_real, turn_imag, lives):
    out = np.zeros(n, dtype=np.float32)
    alive = len(lives)
    for i in range(n):
        while alive > 0 and lives[alive - 1] <= i:
            alive -= 1
        total = 0.0
        for k in range(alive):
            total += imag[k]
            turned = real[k] * turn_real[k] - imag[k] * turn_imag[k]
            imag[k] = real[k] * turn_imag[k] + imag[k] * turn_real[k]
            real[k] = turned
        out[i] = total
    return out


def string(excitation: np.ndarray, n: int, rate: float, pitch_hz: float, t60_s: float, damping_hz: float) -> np.ndarray:
    """A plucked string (Karplus & Strong 1983), tuned with an allpass (Jaffe & Smith 1983), (n,).

    `excitation` is what the pluck puts into the string, `damping_hz` the corner of the low-pass in its loop.
    """
    keep = math.exp(-2.0 * math.pi * damping_hz / rate)
    omega = 2.0 * math.pi * pitch_hz / rate
    lag = math.atan2(keep * math.sin(omega), 1.0 - keep * math.cos(omega)) / omega
    loss = 10.0 ** (-3.0 / (t60_s * pitch_hz))
    delay = rate / pitch_hz - lag
    whole = max(1, int(delay - 0.3))
    fraction = delay - whole
    return _string(excitation, n, whole, (1.0 - fraction) / (1.0 + fraction), keep, loss)


@kernel
def _string(excitation, n, delay, allpass, keep, loss):
    out = np.zeros(n, dtype=np.float32)
    low = low_before = tuned = 0.0
    for i in range(n):
        sample = out[i - delay] if i >= delay else 0.0
        low = (1.0 - keep) * sample + keep * low
        tuned = allpass * (low - tuned) + low_before
        low_before = low
        out[i] = loss * tuned + (excitation[i] if i < len(excitation) else 0.0)
    return out


def harmonics(pitch_hz: float, rate: float) -> np.ndarray:
    """The numbers of the harmonics that fit below Nyquist."""
    return np.arange(1, max(2, min(MOST_HARMONICS, int(TOP_OF_BAND * rate / pitch_hz) + 1)))


def tables(amplitudes: np.ndarray) -> np.ndarray:
    """Single cycles with the given complex harmonics from the first on, (positions, harmonics) -> (positions, size)."""
    amplitudes = np.atleast_2d(amplitudes)
    spectrum = np.zeros((len(amplitudes), _TABLE_SIZE // 2 + 1), dtype=np.complex128)
    spectrum[:, 1 : amplitudes.shape[1] + 1] = amplitudes * (-0.5j * _TABLE_SIZE)
    cycles = np.fft.irfft(spectrum)
    return np.concatenate([cycles, cycles[:, :1]], axis=1).astype(np.float32)


@kernel
def oscillate(tables, cycles_per_sample, position, phase, n, hop):
    """Read single cycles at a moving pitch, moving between the tables, (n,).

    `tables` (positions, size + 1), the last sample of each repeating the first; `cycles_per_sample` and `position`
    (0 is the first table, 1 the last) float64, one value every `hop` samples, joined linearly; `phase` in cycles.
    """
    size = tables.shape[1] - 1
    last = tables.shape[0] - 1
    out = np.empty(n, dtype=np.float32)
    for begin in range(0, n, hop):
        row = begin // hop
        turn = cycles_per_sample[row]
        turn_step = (cycles_per_sample[row + 1] - turn) / hop
        height = position[row] * last
        height_step = (position[row + 1] * last - height) / hop
        for i in range(begin, min(begin + hop, n)):
            at = phase * size
            column = int(at)
            part = at - column
            lower = min(int(height), last)
            upper = min(lower + 1, last)
            first = tables[lower, column] + part * (tables[lower, column + 1] - tables[lower, column])
            second = tables[upper, column] + part * (tables[upper, column + 1] - tables[upper, column])
            out[i] = first + (height - lower) * (second - first)
            phase += turn
            if phase >= 1.0:
                phase -= 1.0
            turn += turn_step
            height += height_step
    return out


@kernel
def resonate(source, formants, bandwidths, hop, rate):
    """Filter through a cascade of moving resonances (Klatt 1980), (n,).

    `formants` in Hz (blocks, resonances), one row per `hop` samples, joined linearly; `bandwidths` in Hz (resonances,).
    """
    n = len(source)
    count = formants.shape[1]
    out = np.empty(n, dtype=np.float32)
    state = np.zeros((count, 2))
    feed = np.zeros((count, 3))
    for i in range(n):
        if i % 16 == 0:
            at = i / hop
            row = min(int(at), formants.shape[0] - 1)
            upper = min(row + 1, formants.shape[0] - 1)
            for k in range(count):
                centre = formants[row, k] + (at - row) * (formants[upper, k] - formants[row, k])
                radius = math.exp(-math.pi * bandwidths[k] / rate)
                feed[k, 1] = 2.0 * radius * math.cos(2.0 * math.pi * centre / rate)
                feed[k, 2] = -radius * radius
                feed[k, 0] = 1.0 - feed[k, 1] - feed[k, 2]
        sample = source[i]
        for k in range(count):
            filtered = feed[k, 0] * sample + feed[k, 1] * state[k, 0] + feed[k, 2] * state[k, 1]
            state[k, 1] = state[k, 0]
            state[k, 0] = filtered
            sample = filtered
        out[i] = sample
    return out


def cloud(
    rng: np.random.Generator, size: int, rate: float, partials: np.ndarray, amplitudes: np.ndarray, width: float
) -> np.ndarray:
    """An endless stereo loop of slowly beating partials (the PADsynth of N. O. Paul), its RMS 1, (2, size).

    Each partial, in Hz, is a Gaussian band of noise with a deviation of `width` times its frequency.
    """
    step = rate / size
    magnitude = np.zeros(size // 2 + 1, dtype=np.float32)
    for partial, amplitude in zip(partials, amplitudes, strict=True):
        deviation = max(width * partial, 0.5 * step)
        low = max(1, int((partial - 3.0 * deviation) / step))
        high = min(int(TOP_OF_BAND * rate / step), int((partial + 3.0 * deviation) / step) + 2)
        if high > low:
            distance = (np.arange(low, high, dtype=np.float32) * step - partial) / deviation
            magnitude[low:high] += amplitude / math.sqrt(deviation) * np.exp(-0.5 * distance * distance)
    used = np.flatnonzero(magnitude)
    spectrum = np.zeros((2, len(magnitude)), dtype=np.complex64)
    turns = rng.random((2, len(used)), dtype=np.float32)
    spectrum[:, used] = magnitude[used] * np.exp(np.complex64(2j * np.pi) * turns)
    loop = np.fft.irfft(spectrum, size)
    return loop / (np.sqrt(np.mean(np.square(loop))) + np.float32(1e-12))
