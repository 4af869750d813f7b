"""Singers: a glottal source with vibrato and portamento, moving vowel formants, breath and consonants.

A voice is one continuous movement, so it performs a whole part at once.
"""

from __future__ import annotations

import numpy as np

from mixtools.synth.notes import Note
from mixtools.synth.waves import TOP_OF_BAND, decay, edges, harmonics, hz, noise, oscillate, resonate, samples, tables

VOWELS = {
    "a": (730.0, 1090.0, 2440.0, 3400.0, 4500.0),
    "e": (530.0, 1840.0, 2480.0, 3500.0, 4500.0),
    "i": (300.0, 2250.0, 2950.0, 3600.0, 4500.0),
    "o": (540.0, 860.0, 2410.0, 3300.0, 4500.0),
    "u": (330.0, 830.0, 2240.0, 3250.0, 4500.0),
    "y": (660.0, 1720.0, 2410.0, 3450.0, 4500.0),
    "r": (490.0, 1350.0, 1690.0, 3300.0, 4500.0),
}
"""Formants in Hz (after Peterson & Barney 1952) of a tract of length 1; `y` as in cat, `r` as in bird."""

_BANDWIDTHS = np.array([80.0, 95.0, 130.0, 200.0, 260.0])

_HISS = ((1500, -50), (4000, -12), (6500, 0), (9500, -3), (16000, -30))
_HUSH = ((800, -50), (1900, -8), (3000, 0), (5500, -6), (12000, -40))
_PUFF = ((300, -20), (1200, -4), (3000, 0), (7000, -10), (15000, -35))
_THUD = ((80, -12), (250, 0), (900, -8), (3000, -20), (9000, -45))
_AIR = ((400, -40), (1500, -14), (4000, -4), (7500, 0), (12000, -8), (18000, -30))

CONSONANTS = {
    "s": (_HISS, 0.10, 0.35),
    "z": (_HISS, 0.07, 0.14),
    "h": (_HUSH, 0.08, 0.12),
    "f": (_PUFF, 0.08, 0.10),
    "t": (_PUFF, 0.03, 0.35),
    "k": (_HUSH, 0.03, 0.30),
    "d": (_PUFF, 0.02, 0.16),
    "b": (_THUD, 0.02, 0.25),
    "m": (_THUD, 0.0, 0.0),
    "l": (_THUD, 0.0, 0.0),
}
"""Spectrum, seconds before the vowel, and level; a length of 0 is voiced throughout."""

_HUM = (250.0, 1150.0, 2200.0, 3100.0, 4500.0)
_SUNG_PEAK = 4.0
_OPEN_PHASE = 0.62
_PRESENCE = 0.85
_AIR_S = 2.0
_AIR_BESIDE = 0.7
_BLOCKS_PER_SECOND = 690.0


def sing(
    notes: list[Note], n: int, rng, rate: float, tract, vibrato, vibrato_hz, breath, glide_s, bright
) -> np.ndarray:
    """Sing notes whose marks are a consonant (or none) and a vowel, (1, n).

    `tract` scales the formants, `vibrato` is in cents, `breath` relative to the voice; `bright` 0 to 1.
    """
    hop = max(8, round(rate / _BLOCKS_PER_SECOND))
    blocks = -(-n // hop) + 2
    score = _Movements(notes, blocks, hop / rate, rng, glide_s)
    pitches = score.pitch(vibrato, vibrato_hz)
    formants = score.formants(tract, pitches)
    formants = formants[:, np.max(formants, axis=0) < TOP_OF_BAND * rate]
    throat = np.clip(bright * score.level, 0.0, 1.0)
    air = noise(rng, samples(_AIR_S, rate), rate, _AIR)
    out = np.zeros(blocks * hop, dtype=np.float32)
    for first, last in score.phrases():
        start, length = first * hop, (last - first) * hop
        rows = slice(first, last + 1)
        pitch_hz = hz(pitches[rows])
        level = np.interp(np.arange(length) / hop, np.arange(last + 1 - first), score.level[rows]).astype(np.float32)
        source = oscillate(_glottis(pitch_hz.max(), rate), pitch_hz / rate, throat[rows], rng.random(), length, hop)
        hiss = np.resize(np.roll(air, -int(rng.integers(len(air)))), length) * (np.float32(breath) * level)
        voiced = resonate(source + hiss, formants[rows], _BANDWIDTHS[: formants.shape[1]] * tract, hop, rate)
        out[start : start + length] += (voiced + np.float32(_AIR_BESIDE) * hiss) * level
    out *= np.float32(_SUNG_PEAK / (np.max(np.abs(out)) + 1e-9))
    _consonants(out, notes, rng, rate, breath)
    return out[np.newaxis, :n]


def _glottis(highest_hz: float, rate: float) -> np.ndarray:
    """Cycles of the flow's derivative (Rosenberg 1971) from soft to pressed, (positions, size + 1)."""
    at = np.arange(2048) / 2048
    count = harmonics(highest_hz, rate)[:500]
    rising = 0.5 - 0.5 * np.cos(np.pi * np.minimum(at / (0.66 * _OPEN_PHASE), 1.0))
    falling = np.cos(0.5 * np.pi * np.clip((at - 0.66 * _OPEN_PHASE) / (0.34 * _OPEN_PHASE), 0.0, 1.0))
    flow = np.fft.rfft(np.diff(rising * falling, append=0.0))[count]
    flow *= count**_PRESENCE / np.abs(flow[0])
    return tables(np.stack([flow / np.sqrt(1.0 + (count / corner) ** 2) for corner in (5.0, 14.0, 60.0)]))


class _Movements:
    """What the singer does over time, one value per block: level, pitch and the shape of the mouth."""

    def __init__(self, notes: list[Note], blocks: int, block_s: float, rng: np.random.Generator, glide_s: float):
        self.notes, self.block_s, self.rng, self.glide_s = notes, block_s, rng, glide_s
        self.blocks = blocks
        self.starts = np.array([self.block(note.start) for note in notes])
        self.ends = np.maximum([self.block(note.start + note.seconds) for note in notes], self.starts + 1)
        self.level = self._level()

    def block(self, seconds: float) -> int:
        return min(self.blocks - 1, max(0, round(seconds / self.block_s)))

    def smooth(self, values: np.ndarray, seconds: float) -> np.ndarray:
        window = np.hanning(max(3, round(2.0 * seconds / self.block_s)) + 2)
        window /= window.sum()
        half = len(window) // 2
        padded = np.pad(values, (half, len(window) - 1 - half), mode="edge")
        return np.convolve(padded, window, mode="valid")

    def held(self, values: np.ndarray) -> np.ndarray:
        """Values of the notes, each held until the next begins; the first also before it."""
        sounding = np.searchsorted(self.starts, np.arange(self.blocks), side="right") - 1
        return np.asarray(values)[np.maximum(sounding, 0)]

    def _level(self) -> np.ndarray:
        level = np.zeros(self.blocks)
        for note, start, end in zip(self.notes, self.starts, self.ends, strict=True):
            swell = 1.0 - 0.25 * np.linspace(-0.7, 1.0, end - start) ** 2
            level[start:end] = swell * (0.45 + 0.55 * note.velocity)
            closed = self.block(note.start + 0.05) if note.mark[:-1] else start
            level[start:closed] *= 0.35
        level = self.smooth(level, 0.035)
        level[-1] = 0.0
        return np.where(level > 1e-4, level, 0.0)

    def pitch(self, vibrato: float, vibrato_hz: float) -> np.ndarray:
        """MIDI pitch with portamento, scoops, vibrato that comes in late, and drift, (blocks,)."""
        track = self.smooth(self.held([note.pitches[0] for note in self.notes]), self.glide_s)
        depth = np.zeros(self.blocks)
        for note, start, end in zip(self.notes, self.starts, self.ends, strict=True):
            t = np.arange(end - start) * self.block_s
            depth[start:end] = np.clip((t - 0.18) / 0.35, 0.0, 1.0) * min(1.0, note.seconds / 0.6)
            if self.rng.random() < 0.35:
                track[start:end] -= self.rng.uniform(0.4, 1.2) * np.exp(-t / 0.05)
        wander = self.smooth(self.rng.standard_normal(self.blocks), 0.15)
        wander /= np.std(wander) + 1e-9
        cycles = np.cumsum(vibrato_hz * (1.0 + 0.06 * wander)) * self.block_s
        return track + self.smooth(depth, 0.05) * vibrato / 100.0 * np.sin(2.0 * np.pi * cycles) + 0.07 * wander

    def formants(self, tract: float, pitches: np.ndarray) -> np.ndarray:
        """The resonances of the mouth in Hz, (blocks, 5); the first follows a high pitch."""
        mouth = self.held([VOWELS[note.mark[-1]] for note in self.notes])
        for note, start in zip(self.notes, self.starts, strict=True):
            if note.mark[:-1] in ("m", "l", "b"):
                mouth[start : self.block(note.start + 0.06)] = _HUM
        mouth = np.stack([self.smooth(column, 0.045) for column in mouth.T], axis=1) * tract
        mouth[:, 0] = np.maximum(mouth[:, 0], 1.05 * hz(pitches))
        return mouth

    def phrases(self) -> list[tuple[int, int]]:
        """First and last block of every stretch that sounds."""
        edges = np.flatnonzero(np.diff(np.concatenate([[0], self.level > 0, [0]])))
        return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _consonants(out: np.ndarray, notes: list[Note], rng: np.random.Generator, rate: float, breath: float) -> None:
    """Add the noise of consonants before their vowels, and of breathing in before phrases."""
    previous_end = -1.0
    for note in notes:
        if note.mark[:-1]:
            spectrum, seconds, level = CONSONANTS[note.mark[:-1]]
            if seconds:
                _noise_at(out, note.start + 0.01 - seconds, seconds + 0.02, level * note.velocity, spectrum, rng, rate)
        if note.start - previous_end > 0.7:
            _noise_at(out, note.start - 0.42, 0.3, 0.08 * breath, _HUSH, rng, rate)
        previous_end = note.start + note.seconds


def _noise_at(out, start_s, seconds, level, spectrum, rng, rate) -> None:
    start, length = round(start_s * rate), samples(seconds, rate)
    clip = noise(rng, length, rate, spectrum) * edges(length, rate, 0.4 * seconds, 0.3 * seconds)
    clip *= decay(length, rate, 3.0 * seconds) * np.float32(level)
    if 0 <= start < len(out):
        out[start : start + length] += clip[: len(out) - start]
