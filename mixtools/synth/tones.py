"""Pitched instruments: every function plays one note or chord, `(note, rng, rate, **patch) -> (channels, n)`."""

from __future__ import annotations

import math

import numpy as np

from mixtools.dsp import parametric_eq
from mixtools.dsp.saturation import OVERSAMPLING, shape
from mixtools.synth.notes import Note
from mixtools.synth.waves import (
    HOP,
    TOP_OF_BAND,
    Spectrum,
    burst,
    cloud,
    decay,
    edges,
    harmonics,
    hz,
    modes,
    moments,
    noise,
    oscillate,
    samples,
    spectrum_gain,
    string,
    tables,
    transform_size,
)

_FINGER = ((40, -20), (120, 0), (700, -8), (2500, -20), (8000, -50))
_HAMMER = ((60, -30), (250, -4), (900, 0), (3000, -18), (9000, -50))
_DRIFT_HZ = np.float32(0.2)
_WARMTH = np.float32(0.6)
_TABLES_PER_SWEEP = 8
_T60_PER_TIME_CONSTANT = math.log(1000.0)

_CABINET = {
    "low_shelf_freq_hz": 90.0,
    "low_shelf_gain_db": -6.0,
    "band1_freq_hz": 420.0,
    "band1_gain_db": -3.0,
    "band2_freq_hz": 2300.0,
    "band2_gain_db": 4.0,
    "band2_q": 1.2,
    "high_shelf_freq_hz": 4600.0,
    "high_shelf_gain_db": -22.0,
}
"""A twelve-inch guitar loudspeaker, roughly."""

SOUNDBOX = {
    "low_shelf_freq_hz": 90.0,
    "low_shelf_gain_db": -6.0,
    "band1_freq_hz": 190.0,
    "band1_gain_db": 4.0,
    "band1_q": 2.0,
    "band2_freq_hz": 700.0,
    "band2_gain_db": -4.0,
    "high_shelf_freq_hz": 6000.0,
    "high_shelf_gain_db": 4.0,
}
"""The body of an acoustic guitar, roughly."""


def _overdriven(clip: np.ndarray, drive_db: float) -> np.ndarray:
    """The console's saturation of a whole clip; oversampled by Fourier transform, it is several times faster."""
    n = clip.shape[-1]
    size = transform_size(n)
    spectrum = np.fft.rfft(clip, size)
    wide = np.fft.irfft(OVERSAMPLING * spectrum, OVERSAMPLING * size)
    driven = shape(wide, np.float32(10.0 ** (drive_db / 20.0) - 1.0), np.float32(0.0))
    return np.fft.irfft(np.fft.rfft(driven)[..., : size // 2 + 1] / OVERSAMPLING, size)[..., :n]


def _plucked_at(place: float, count: np.ndarray) -> np.ndarray:
    """Relative amplitudes of a string's harmonics when plucked at a part of its length."""
    return np.sin(np.pi * place * count) / count


def bass_guitar(note: Note, rng, rate, place, slope, t60_s, thump, drive_db):
    """An electric bass through an amplifier."""
    pitch_hz = hz(note.pitches[0])
    n = samples(note.seconds + 0.06, rate)
    count = harmonics(pitch_hz, rate)[:36]
    level = _plucked_at(place, count) * count ** (-slope - 0.6 * (1.0 - note.velocity))
    t60 = t60_s * (41.2 / pitch_hz) ** 0.4 / (1.0 + 0.12 * count)
    tone = modes(
        n, rate, pitch_hz * count, 0.7 * level / np.abs(level).max(), t60, rng.uniform(0, 2 * np.pi, len(count))
    )
    finger = burst(rng, n, rate, _FINGER, 0.05) * thump * note.velocity
    clip = (tone + finger) * edges(n, rate, 0.003, 0.05)
    return _overdriven(0.5 * clip[np.newaxis], drive_db)


def subtractive(
    note: Note, rng, rate, square, cutoff_hz, octaves, fall_s, attack_s, release_s, sustain, detune, vibrato, sides=1
):
    """An analogue-style synthesiser: saw or square, a falling low-pass, and its twin detuned on the other side.

    `octaves` is how far the filter falls in `fall_s` seconds, `sustain` the level it leaves after the fall,
    `detune` and `vibrato` are in cents.
    """
    n = samples(note.seconds + release_s, rate)
    t = moments(n, rate)
    fall = np.exp(-t / fall_s)
    bend = vibrato * np.minimum(t / 0.5, 1.0) * np.sin(2.0 * np.pi * 5.4 * t + rng.uniform(0, 6))
    out = np.zeros((sides, n), dtype=np.float32)
    for pitch in note.pitches:
        pitch_hz = hz(pitch)
        count = harmonics(pitch_hz * 1.03, rate)
        wave = np.where(count % 2 == 0, 1.0 - square, 1.0) / count
        corners = cutoff_hz * 2.0 ** np.linspace(0.0, octaves * (0.5 + 0.5 * note.velocity), _TABLES_PER_SWEEP)
        cycles = tables(wave / np.sqrt(1.0 + (count * pitch_hz / corners[:, np.newaxis]) ** 4))
        for side, channel in enumerate(out):
            cents = bend + detune * (side - 0.5) * (1.0 if sides == 2 else 0.0)
            channel += oscillate(cycles, pitch_hz / rate * np.exp2(cents / 1200.0), fall, rng.random(), n, HOP)
    envelope = sustain + (1.0 - sustain) * decay(n, rate, fall_s * _T60_PER_TIME_CONSTANT)
    return out * (envelope * edges(n, rate, attack_s, release_s))


def sub_bass(note: Note, rng, rate, t60_s, drive_db, dip_hz):
    """A long sine with a fall at its beginning, overdriven: the 808's bass."""
    pitch_hz = hz(note.pitches[0])
    n = samples(note.seconds + 0.05, rate)
    t = np.arange(n) / rate
    cycles = (pitch_hz * t + dip_hz * 0.02 * (1.0 - np.exp(-t / 0.02))) % 1.0
    tone = np.sin(2.0 * np.pi * cycles.astype(np.float32)) * decay(n, rate, t60_s)
    return _overdriven(0.5 * (tone * edges(n, rate, 0.004, 0.04))[np.newaxis], drive_db)


def guitar(note: Note, rng, rate, place, damping_hz, t60_s, strum_ms, drive_db, box=_CABINET, sides=1):
    """Strummed or picked strings, muted by the palm (`m`), through an amplifier or a wooden body.

    With two `sides` a second take is recorded, one on each side.
    """
    muted = note.mark == "m"
    n = samples(note.seconds + 0.08, rate)
    out = np.zeros((sides, n), dtype=np.float32)
    up = rng.random() < 0.3
    strum_s = strum_ms / 1000 * rng.uniform(0.6, 1.3)
    for channel in out:
        for order, pitch in enumerate(sorted(note.pitches, reverse=up)):
            start = min(n - 1, round((order * strum_s + 0.003 * rng.random()) * rate))
            pitch_hz = hz(pitch + 0.04 * rng.standard_normal())
            period = rate / pitch_hz
            pick = noise(rng, samples(1.0 / pitch_hz, rate), rate, _pick(damping_hz * (0.4 + 0.6 * note.velocity)))
            pick[round(place * period) :] -= 0.8 * pick[: len(pick) - round(place * period)]
            pick -= pick.mean()
            ringing = (0.16 if muted else t60_s) * (110.0 / pitch_hz) ** 0.3
            damping = damping_hz * (0.3 if muted else 1.0)
            channel[start:] += 0.2 * string(pick, n - start, rate, pitch_hz, ringing, damping)
    out *= edges(n, rate, 0.001, 0.06)
    if drive_db > 0:
        out = _overdriven(out, drive_db)
    return parametric_eq(out, rate, **box)


def _pick(corner_hz: float) -> Spectrum:
    return ((30.0, -20.0), (90.0, 0.0), (800.0, -9.0), (corner_hz + 900.0, -22.0), (20000.0, -54.0))


def piano(note: Note, rng, rate, bright, t60_s, stiffness, hammer):
    """Struck stiff strings, low notes to the left."""
    n = samples(note.seconds + 0.25, rate)
    out = np.zeros((2, n), dtype=np.float32)
    for pitch in note.pitches:
        pitch_hz = hz(pitch)
        count = harmonics(pitch_hz, rate)[:22]
        stretched = pitch_hz * count * np.sqrt(1.0 + stiffness * (pitch / 60.0) ** 6 * count**2)
        level = 10.0 ** (-(1.0 - 0.6 * note.velocity) * (pitch_hz * count / bright) ** 0.8 * 1.2) / count**0.6
        level[0] *= 0.7
        t60 = t60_s * 2.0 ** ((60 - pitch) / 14.0) / (1.0 + 0.18 * count)
        left, right = (
            modes(n, rate, stretched * (1.0 + cents / 1731.0), level, t60, rng.uniform(0, 2 * np.pi, len(count)))
            for cents in (-0.6, 0.7)
        )
        place = np.clip((pitch - 36) / 48, 0.0, 1.0) * 0.4 + 0.3
        out += np.stack([(1.3 - place) * left + 0.3 * right, (0.3 + place) * right + 0.3 * left])
    out += burst(rng, n, rate, _HAMMER, 0.08) * (hammer * note.velocity)
    return out * edges(n, rate, 0.0015, 0.22)


def electric_piano(note: Note, rng, rate, index, tine, t60_s, tremolo):
    """Frequency modulation (Chowning 1973): a tine and a tone bar, panned slowly to and fro."""
    n = samples(note.seconds + 0.2, rate)
    t = (np.arange(n) / rate).astype(np.float32)
    bar = np.zeros(n, dtype=np.float32)
    for pitch in note.pitches:
        pitch_hz = hz(pitch)
        length = t60_s * 2.0 ** ((60 - pitch) / 24.0)
        phase = _cycle(pitch_hz * rng.uniform(0.9995, 1.0005), n, rate)
        depth = min(index * note.velocity, max(0.0, TOP_OF_BAND * rate / pitch_hz - 2.0))
        bar += np.sin(phase + depth * decay(n, rate, 0.5 * length) * np.sin(phase)) * decay(n, rate, length)
        if 17.0 * pitch_hz < TOP_OF_BAND * rate:
            bar += tine * note.velocity * np.sin(14.0 * phase) * decay(n, rate, 0.25)
    bar *= edges(n, rate, 0.0015, 0.15)
    swing = tremolo * np.sin(2.0 * np.pi * 4.6 * t + np.float32(rng.uniform(0, 6)))
    return np.stack([bar * (1.0 - swing), bar * (1.0 + swing)])


def _cycle(pitch_hz: float, n: int, rate: float) -> np.ndarray:
    return (2.0 * np.pi * (np.arange(n) * (pitch_hz / rate) % 1.0)).astype(np.float32)


def organ(note: Note, rng, rate, drawbars, click, speed_hz, depth):
    """Drawbars through a rotating loudspeaker."""
    n = samples(note.seconds + 0.05, rate)
    turn = 2.0 * np.pi * speed_hz * moments(n, rate) + rng.uniform(0, 6)
    out = np.zeros((2, n), dtype=np.float32)
    for pitch in note.pitches:
        pitch_hz = 0.5 * hz(pitch)
        count = harmonics(pitch_hz * 1.02, rate)[:16]
        level = np.zeros(len(count))
        for harmonic, drawn in zip((1, 2, 3, 4, 6, 8, 10, 12, 16), drawbars, strict=True):
            if harmonic <= len(count):
                level[harmonic - 1] = drawn / 8.0
        cycle = tables(level)
        for side, channel in enumerate(out):
            bend = 1.0 + 0.004 * depth * np.sin(turn + np.pi * side)
            channel += oscillate(cycle, pitch_hz / rate * bend, np.zeros(len(turn)), rng.random(), n, HOP)
    for side, channel in enumerate(out):
        channel *= np.interp(np.arange(n), np.arange(len(turn)) * HOP, 1.0 + depth * np.cos(turn + np.pi * side))
    out += click * burst(rng, n, rate, _HAMMER, 0.02)
    return out * edges(n, rate, 0.006, 0.03)


def struck(note: Note, rng, rate, ratios, levels, t60_s, fall, mallet):
    """Bars, bells and tines: a few modes, the higher ones shorter by the power `fall`."""
    n = samples(min(note.seconds + t60_s, 4.0 * note.seconds + 0.3), rate)
    out = np.zeros((2, n), dtype=np.float32)
    for pitch in note.pitches:
        t60 = t60_s * 2.0 ** ((72 - pitch) / 24.0) / np.array(ratios) ** fall
        level = np.array(levels) ** (1.5 - 0.5 * note.velocity)
        ring = modes(n, rate, hz(pitch) * np.array(ratios), level, t60, rng.uniform(0, 2 * np.pi, len(ratios)))
        place = np.clip((pitch - 48) / 48, 0.0, 1.0) * 0.5 + 0.25
        out += ring * [[1.0 - place], [place]]
    out += mallet * note.velocity * burst(rng, n, rate, _HAMMER, 0.03)
    return (out * edges(n, rate, 0.001, 0.2)).astype(np.float32)


def pad(note: Note, rng, rate, width, tilt, attack_s, release_s, spectrum):
    """A stereo pad of bands of noise around the harmonics; `tilt` in dB per octave, `spectrum` its body."""
    n = samples(note.seconds + release_s, rate)
    size = 1 << (samples(2.5, rate) - 1).bit_length()
    counts = [harmonics(hz(pitch), rate)[:24] for pitch in note.pitches]
    partials = np.concatenate([hz(pitch) * count for pitch, count in zip(note.pitches, counts, strict=True)])
    levels = np.concatenate([count ** (-tilt / 6.02) for count in counts]) * spectrum_gain(partials, spectrum)
    loop = np.tanh(_WARMTH * cloud(rng, size, rate, partials, levels, width))
    t = np.arange(n, dtype=np.float32) / np.float32(rate)
    drift = 1.0 + 0.15 * np.sin(2.0 * np.pi * _DRIFT_HZ * t + np.float32(rng.uniform(0, 6)))
    return np.resize(loop.T, (n, 2)).T * (edges(n, rate, min(attack_s, 0.7 * note.seconds), release_s) * drift)
