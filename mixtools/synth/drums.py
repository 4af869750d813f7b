"""Drums and percussion: every function strikes one note, `(note, rng, rate, **patch) -> (channels, n)`."""

from __future__ import annotations

import numpy as np

from mixtools.dsp import convolution
from mixtools.synth.notes import Note
from mixtools.synth.waves import burst, decay, edges, modes, noise, samples, sweep

_CLICK = ((100, -40), (1500, -6), (3500, 0), (7000, -12), (16000, -40))
_SKIN = ((60, -30), (200, 0), (900, -6), (3000, -20), (10000, -45))
_WIRES = ((100, -40), (400, -14), (1500, -4), (4500, 0), (9000, -4), (18000, -18))
_HATS = ((300, -80), (2500, -42), (5500, -10), (8500, 0), (13000, -2), (20000, -14))
_CLAPS = ((200, -50), (700, -14), (1200, 0), (2200, -3), (6000, -12), (16000, -30))
_SNAPS = ((300, -50), (1500, -12), (2600, 0), (4000, -10), (12000, -36))
_SHAKER = ((500, -70), (3000, -22), (6500, 0), (10000, -3), (18000, -18))
_JINGLES = ((500, -80), (4000, -26), (7500, 0), (12000, -4), (20000, -20))

_CYMBAL_BANDS = (
    (((150, -50), (400, 0), (1100, -4), (2500, -40)), 0.35, 0.7),
    (((900, -50), (2200, 0), (4200, -4), (8000, -40)), 0.55, 1.1),
    (((3500, -50), (7000, 0), (12000, -2), (20000, -14)), 1.0, 0.8),
)
"""Of a cymbal: spectral envelope, level, and decay relative to the whole."""

_DRUM_MODES = np.array([1.0, 1.594, 2.136, 2.296, 2.653, 2.918])
"""The modes of an ideal membrane, relative to the lowest."""


def _mono(clip: np.ndarray) -> np.ndarray:
    return clip[np.newaxis].astype(np.float32)


def _placed(clip: np.ndarray, place: float) -> np.ndarray:
    """A mono clip between left (0) and right (1) at constant power, (2, n)."""
    return np.stack([np.cos(0.5 * np.pi * place) * clip, np.sin(0.5 * np.pi * place) * clip]).astype(np.float32)


def kick(note: Note, rng, rate, tune_hz, reach_hz, fall_ms, t60_s, click, drive):
    """A bass drum: a falling sine and the click of the beater."""
    n = samples(min(1.1 * t60_s, 2.0), rate)
    body = np.tanh(drive * sweep(n, rate, tune_hz, tune_hz + reach_hz * note.velocity, fall_ms / 1000)) / np.tanh(drive)
    beater = burst(rng, n, rate, _CLICK, 0.03) * click * note.velocity
    return _mono((body * decay(n, rate, t60_s) + beater) * edges(n, rate, 0.0006, 0.03))


def snare(note: Note, rng, rate, tune_hz, t60_s, wires, wires_t60_s, snap):
    """A snare drum: membrane modes, rattling wires and the stick; a ghost note (`g`) is duller and shorter."""
    soft = note.mark == "g"
    n = samples(0.5, rate)
    skin = modes(
        n, rate, tune_hz * _DRUM_MODES, 0.6 ** np.arange(6), t60_s * 0.75 ** np.arange(6), rng.uniform(0, 0.6, 6)
    )
    rattle = burst(rng, n, rate, _WIRES, wires_t60_s * (0.6 if soft else 1.0)) * edges(n, rate, 0.002, 0.02)
    stick = burst(rng, n, rate, _CLICK, 0.02) * snap * note.velocity
    return _mono((0.55 * skin + wires * (0.6 if soft else 1.0) * rattle + stick) * edges(n, rate, 0.0005, 0.05))


def hats(note: Note, rng, rate, low_hz, closed_s, open_s, metal):
    """A hi-hat: closed, or open (`o`) for as long as the note lasts."""
    t60_s = open_s if note.mark == "o" else closed_s * (0.5 + 0.7 * note.velocity)
    n = samples(min(note.seconds + 0.05, open_s) if note.mark == "o" else 1.2 * t60_s, rate)
    ratios = 1.0 + 0.137 * np.arange(14) + 0.11 * np.sin(np.arange(14) ** 2)
    ring = modes(n, rate, low_hz * ratios, metal, t60_s * 0.9, rng.uniform(0, 2 * np.pi, 14))
    return _mono((burst(rng, n, rate, _HATS, t60_s) + ring) * edges(n, rate, 0.0008, 0.03))


def cymbals(note: Note, rng, rate, crash_s, ride_s, low_hz, ping):
    """A pair of overheads: crash (`C`), or ride with its ping (`r`)."""
    crash = note.mark == "C"
    t60_s = crash_s if crash else ride_s
    n = samples(t60_s * 0.8, rate)
    both = np.zeros((2, n), dtype=np.float32)
    for spectrum, level, length in _CYMBAL_BANDS:
        sides = np.stack([noise(rng, n, rate, spectrum) for _ in range(2)])
        both += (sides + 0.5 * sides[::-1]) * decay(n, rate, t60_s * length) * np.float32(level)
    ratios = 1.0 + 0.31 * np.arange(18) + 0.13 * np.sin(3.0 * np.arange(18) ** 2)
    ring = modes(n, rate, low_hz * ratios, ping, t60_s * 0.6, rng.uniform(0, 2 * np.pi, 18))
    attack = edges(n, rate, 0.012 if crash else 0.001, 0.3)
    both *= (0.25 + 0.75 * decay(n, rate, 0.5)) if crash else (0.08 + 0.92 * decay(n, rate, 0.12))
    clip = (both * (0.8 if crash else 0.5) + (0.3 if crash else 1.0) * ring) * attack
    return convolution(clip, rate, ir="small_room", wet=0.3, dry=1.0)


def toms(note: Note, rng, rate, tune_hz, t60_s, snap):
    """Toms across the stereo field: high (`h`), mid (`m`) and floor (`f`)."""
    size = {"h": 1.0, "m": 0.75}.get(note.mark, 0.52)
    n = samples(t60_s / size, rate)
    low = tune_hz * size
    body = sweep(n, rate, low, low * 1.35, 0.05) * decay(n, rate, t60_s / size)
    over = modes(n, rate, low * _DRUM_MODES[1:], 0.35 ** np.arange(1, 6), 0.4 * t60_s, rng.uniform(0, 6, 5))
    stick = burst(rng, n, rate, _SKIN, 0.06) + 0.4 * burst(rng, n, rate, _CLICK, 0.02)
    return _placed((body + over + snap * stick) * edges(n, rate, 0.0006, 0.05), 1.1 - 0.8 * size)


def claps(note: Note, rng, rate, spread_ms, t60_s):
    """Several pairs of hands, each a little late, in stereo."""
    n = samples(t60_s + 0.08, rate)
    both = np.zeros((2, n), dtype=np.float32)
    for hand in range(5):
        start = samples(hand * spread_ms / 1000 * rng.uniform(0.7, 1.3), rate) if hand else 0
        t60 = t60_s if hand == 4 else 0.03
        both[:, start:] += _placed(burst(rng, n - start, rate, _CLAPS, t60), rng.uniform(0.15, 0.85))
    return both * edges(n, rate, 0.0008, 0.03)


def snaps(note: Note, rng, rate, t60_s):
    """Snapping fingers."""
    n = samples(1.2 * t60_s, rate)
    return _mono(burst(rng, n, rate, _SNAPS, t60_s) * edges(n, rate, 0.001, 0.02))


def shaker(note: Note, rng, rate, attack_ms, t60_s):
    """A shaker: grains that swell and stop."""
    n = samples(0.03 + t60_s, rate)
    return _mono(burst(rng, n, rate, _SHAKER, t60_s) * edges(n, rate, attack_ms / 1000 * (1.6 - note.velocity), 0.03))


def tambourine(note: Note, rng, rate, low_hz, t60_s):
    """A tambourine: jingles that strike one after another."""
    n = samples(1.3 * t60_s, rate)
    out = burst(rng, n, rate, _JINGLES, 0.5 * t60_s)
    for start in rng.integers(0, samples(0.022, rate), 5):
        out[start:] += modes(
            n - start, rate, low_hz * rng.uniform(0.9, 1.7, 5), 0.25, t60_s * rng.uniform(0.5, 1.1, 5), 0.0
        )
    return _mono(out * edges(n, rate, 0.0008, 0.03))


def congas(note: Note, rng, rate, tune_hz, t60_s, slap):
    """A pair of congas: open tone (`o`), slap (`s`), and the low drum (`l`)."""
    n = samples(1.2 * t60_s, rate)
    pitch = tune_hz * (0.72 if note.mark == "l" else 1.0)
    length = t60_s * (0.35 if note.mark == "s" else 1.0)
    skin = sweep(n, rate, pitch, pitch * 1.12, 0.02) * decay(n, rate, length)
    over = modes(n, rate, pitch * _DRUM_MODES[1:], 0.3 ** np.arange(1, 6), 0.3 * length, rng.uniform(0, 6, 5))
    hand = burst(rng, n, rate, _SNAPS if note.mark == "s" else _SKIN, 0.04) * slap
    return _placed((skin + over + hand) * edges(n, rate, 0.0008, 0.03), 0.62 if note.mark == "l" else 0.36)


def block(note: Note, rng, rate, tune_hz, ratio, t60_s):
    """Struck metal or wood of two strong modes: cowbell, woodblock, claves."""
    n = samples(1.2 * t60_s, rate)
    ring = modes(
        n,
        rate,
        tune_hz * np.array([1.0, ratio, ratio * 2.71]),
        np.array([1.0, 0.8, 0.2]),
        t60_s * np.array([1.0, 0.8, 0.3]),
        rng.uniform(0, 6, 3),
    )
    return _mono((ring + 0.3 * burst(rng, n, rate, _CLICK, 0.02)) * edges(n, rate, 0.0006, 0.02))
