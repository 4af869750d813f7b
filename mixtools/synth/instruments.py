"""Every sound as data: who plays it, and the ranges its patch is drawn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from mixtools.synth import drums, tones, voice
from mixtools.synth.notes import Note


@dataclass(frozen=True)
class Sound:
    """An instrument: the function that plays it, and the ranges its patch is drawn from.

    A note has `takes` recordings at each of `forces` dynamics; `power_chords` plays roots and fifths, `centre` is the
    MIDI pitch it prefers, `sings` performs whole parts.
    """

    play: Callable[..., np.ndarray]
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    takes: int = 1
    forces: int = 3
    power_chords: bool = False
    centre: int | None = None
    sings: bool = False

    def patch(self, rng: np.random.Generator) -> dict[str, float]:
        """One drawing of the ranges."""
        return {name: float(rng.uniform(low, high)) for name, (low, high) in self.ranges.items()}

    def perform(self, notes: list[Note], n: int, rng: np.random.Generator, rate: float) -> np.ndarray:
        """Play a part, (channels, n); strokes that differ only in time are played once and reused, like samples."""
        patch = self.patch(rng)
        if self.sings:
            return self.play(notes, n, rng, rate, **patch)
        clips: dict[tuple, np.ndarray] = {}
        out = None
        for note in notes:
            force = np.ceil(note.velocity * self.forces) / self.forces
            key = (note.pitches, note.mark, round(note.seconds, 3), force, int(rng.integers(self.takes)))
            if key not in clips:
                clips[key] = self.play(replace(note, velocity=force), rng, rate, **patch)
            clip = clips[key]
            if out is None:
                out = np.zeros((len(clip), n), dtype=np.float32)
            start = round(note.start * rate)
            length = max(0, min(clip.shape[1], n - start))
            out[:, start : start + length] += np.float32(note.velocity**_LOUDNESS) * clip[:, :length]
        return out


_LOUDNESS = 1.6
"""Amplitude is velocity to this power."""

_WARM = ((60, -12), (150, 0), (700, -3), (2500, -14), (8000, -36))
_CHOIR = ((120, -10), (500, 0), (900, -2), (1700, -16), (2900, -12), (4200, -26), (9000, -50))
_GLASS = ((100, -18), (400, -4), (1500, 0), (5000, -6), (12000, -20))
_BOWED = ((120, -10), (300, 0), (1200, -3), (3000, -6), (6000, -16), (14000, -34))

_VIBES = {"ratios": (1.0, 3.98, 9.2), "levels": (1.0, 0.3, 0.08)}
_MARIMBA = {"ratios": (1.0, 3.93, 9.6), "levels": (1.0, 0.35, 0.15)}
_BELLS = {"ratios": (0.5, 1.0, 1.19, 1.5, 2.0, 2.74, 3.76, 5.4), "levels": (0.3, 1.0, 0.5, 0.4, 0.5, 0.35, 0.2, 0.12)}

_FULL_DRAWBARS = (6, 8, 7, 6, 4, 3, 2, 1, 3)

_KICK = {"tune_hz": (47, 60), "reach_hz": (70, 150), "fall_ms": (5, 11), "t60_s": (0.36, 0.6)}
_SNARE = {
    "tune_hz": (170, 235),
    "t60_s": (0.16, 0.3),
    "wires": (0.22, 0.4),
    "wires_t60_s": (0.2, 0.34),
    "snap": (0.2, 0.4),
}
_HATS = {"low_hz": (4800, 6200), "closed_s": (0.1, 0.2), "open_s": (0.6, 1.1), "metal": (0.15, 0.35)}
_TOMS = {"tune_hz": (150, 200), "t60_s": (0.35, 0.6), "snap": (0.2, 0.45)}
_BASS = {"place": (0.12, 0.3), "slope": (0.2, 0.6), "t60_s": (3.0, 6.0), "thump": (0.02, 0.06), "drive_db": (4, 12)}
_SYNTH_BASS = {
    "square": (0.0, 0.3),
    "cutoff_hz": (130, 320),
    "octaves": (1.5, 3.5),
    "fall_s": (0.1, 0.3),
    "attack_s": (0.003, 0.008),
    "release_s": (0.02, 0.06),
    "sustain": (0.2, 0.5),
    "detune": (0, 0),
    "vibrato": (0, 0),
}
_LEAD = {
    "square": (0.0, 0.2),
    "cutoff_hz": (900, 2200),
    "octaves": (0.5, 2.0),
    "fall_s": (0.15, 0.5),
    "attack_s": (0.008, 0.03),
    "release_s": (0.06, 0.2),
    "sustain": (0.7, 0.95),
    "detune": (6, 16),
    "vibrato": (8, 25),
}
_ARP = _LEAD | {
    "cutoff_hz": (300, 900),
    "octaves": (2.0, 3.6),
    "fall_s": (0.05, 0.14),
    "attack_s": (0.002, 0.004),
    "sustain": (0.1, 0.35),
    "vibrato": (0, 0),
}
_BRASS = _LEAD | {
    "cutoff_hz": (900, 1700),
    "octaves": (0.8, 1.5),
    "attack_s": (0.03, 0.06),
    "vibrato": (0, 8),
    "sustain": (0.75, 0.95),
}
_GUITAR = {
    "place": (0.1, 0.3),
    "damping_hz": (6000, 11000),
    "t60_s": (2.5, 5.0),
    "strum_ms": (6, 16),
    "drive_db": (2, 7),
}
_STEEL = _GUITAR | {"damping_hz": (9000, 14000), "strum_ms": (10, 22), "drive_db": (3, 8)}
_PAD = {"width": (0.0012, 0.004), "tilt": (2, 6), "attack_s": (0.2, 0.8), "release_s": (0.3, 0.7)}
_VOICE = {
    "tract": (0.96, 1.04),
    "vibrato": (25, 60),
    "vibrato_hz": (4.9, 6.1),
    "breath": (0.15, 0.5),
    "glide_s": (0.03, 0.07),
    "bright": (0.5, 0.95),
}
_HIGH_VOICE = _VOICE | {"tract": (1.1, 1.2)}

SOUNDS = {
    "kick_acoustic": Sound(drums.kick, _KICK | {"click": (0.12, 0.3), "drive": (1.2, 2.0)}, takes=2),
    "kick_electronic": Sound(drums.kick, _KICK | {"reach_hz": (120, 260), "click": (0.03, 0.12), "drive": (1.5, 3.0)}),
    "kick_808": Sound(drums.kick, _KICK | {"t60_s": (0.7, 1.3), "click": (0.02, 0.06), "drive": (1.0, 1.6)}),
    "snare_acoustic": Sound(drums.snare, _SNARE, takes=3),
    "snare_electronic": Sound(drums.snare, _SNARE | {"wires": (0.3, 0.5), "wires_t60_s": (0.14, 0.28)}),
    "hats_acoustic": Sound(drums.hats, _HATS, takes=3),
    "hats_electronic": Sound(drums.hats, _HATS | {"closed_s": (0.05, 0.09), "open_s": (0.3, 0.5)}),
    "cymbals": Sound(
        drums.cymbals,
        {"crash_s": (2.2, 3.6), "ride_s": (1.6, 2.6), "low_hz": (2600, 3600), "ping": (0.15, 0.3)},
        takes=2,
        forces=1,
    ),
    "toms": Sound(drums.toms, _TOMS, takes=2),
    "toms_electronic": Sound(drums.toms, _TOMS | {"t60_s": (0.6, 0.9), "snap": (0.1, 0.2)}),
    "claps": Sound(drums.claps, {"spread_ms": (7, 13), "t60_s": (0.12, 0.3)}, takes=2),
    "snaps": Sound(drums.snaps, {"t60_s": (0.06, 0.14)}, takes=3),
    "shaker": Sound(drums.shaker, {"attack_ms": (15, 35), "t60_s": (0.14, 0.26)}, takes=4),
    "tambourine": Sound(drums.tambourine, {"low_hz": (5200, 7000), "t60_s": (0.16, 0.3)}, takes=3),
    "congas": Sound(drums.congas, {"tune_hz": (215, 290), "t60_s": (0.22, 0.4), "slap": (0.2, 0.45)}, takes=2),
    "cowbell": Sound(drums.block, {"tune_hz": (520, 620), "ratio": (1.42, 1.52), "t60_s": (0.2, 0.35)}),
    "woodblock": Sound(drums.block, {"tune_hz": (900, 1400), "ratio": (1.5, 1.8), "t60_s": (0.06, 0.1)}),
    "bass_finger": Sound(tones.bass_guitar, _BASS, takes=2),
    "bass_pick": Sound(tones.bass_guitar, _BASS | {"place": (0.06, 0.12), "slope": (0.15, 0.4), "thump": (0.04, 0.1)}),
    "bass_slap": Sound(tones.bass_guitar, _BASS | {"place": (0.05, 0.1), "slope": (0.15, 0.4), "thump": (0.08, 0.16)}),
    "bass_upright": Sound(tones.bass_guitar, _BASS | {"slope": (0.3, 0.8), "t60_s": (1.4, 2.4), "drive_db": (3, 7)}),
    "bass_saw": Sound(tones.subtractive, _SYNTH_BASS),
    "bass_square": Sound(tones.subtractive, _SYNTH_BASS | {"square": (0.8, 1.0)}),
    "bass_sub": Sound(tones.sub_bass, {"t60_s": (1.5, 3.0), "drive_db": (4, 12), "dip_hz": (20, 80)}),
    "guitar_clean": Sound(tones.guitar, _GUITAR, takes=2),
    "guitar_crunch": Sound(tones.guitar, _GUITAR | {"drive_db": (14, 24)}, takes=2),
    "guitar_power": Sound(tones.guitar, _GUITAR | {"drive_db": (26, 38)}, takes=2, power_chords=True),
    "guitar_wide": Sound(partial(tones.guitar, sides=2), _GUITAR | {"drive_db": (8, 20)}),
    "guitar_lead": Sound(tones.guitar, _GUITAR | {"drive_db": (26, 36), "t60_s": (5, 9)}),
    "guitar_acoustic": Sound(partial(tones.guitar, box=tones.SOUNDBOX, sides=2), _STEEL),
    "piano": Sound(
        tones.piano,
        {"bright": (1200, 2600), "t60_s": (5, 9), "stiffness": (0.0002, 0.0006), "hammer": (0.03, 0.08)},
    ),
    "epiano": Sound(
        tones.electric_piano, {"index": (1.0, 2.6), "tine": (0.03, 0.15), "t60_s": (3, 6), "tremolo": (0.0, 0.4)}
    ),
    "organ": Sound(
        partial(tones.organ, drawbars=_FULL_DRAWBARS),
        {"click": (0.05, 0.2), "speed_hz": (0.8, 6.5), "depth": (0.1, 0.3)},
        forces=1,
    ),
    "clav": Sound(
        partial(tones.guitar, box={"low_shelf_freq_hz": 250.0, "low_shelf_gain_db": -8.0}),
        {
            "place": (0.05, 0.1),
            "damping_hz": (9000, 15000),
            "t60_s": (0.8, 1.6),
            "strum_ms": (0, 2),
            "drive_db": (3, 9),
        },
    ),
    "vibes": Sound(partial(tones.struck, **_VIBES), {"t60_s": (2.0, 3.5), "fall": (0.8, 1.2), "mallet": (0.02, 0.06)}),
    "marimba": Sound(
        partial(tones.struck, **_MARIMBA), {"t60_s": (0.5, 0.9), "fall": (0.9, 1.3), "mallet": (0.06, 0.15)}
    ),
    "bells": Sound(partial(tones.struck, **_BELLS), {"t60_s": (2.0, 3.5), "fall": (0.5, 0.9), "mallet": (0.0, 0.03)}),
    "pad_warm": Sound(partial(tones.pad, spectrum=_WARM), _PAD, forces=1),
    "pad_choir": Sound(partial(tones.pad, spectrum=_CHOIR), _PAD, forces=1),
    "pad_glass": Sound(partial(tones.pad, spectrum=_GLASS), _PAD, forces=1),
    "strings": Sound(partial(tones.pad, spectrum=_BOWED), _PAD | {"tilt": (4, 7), "attack_s": (0.08, 0.2)}, forces=1),
    "arp_saw": Sound(partial(tones.subtractive, sides=2), _ARP),
    "arp_square": Sound(tones.subtractive, _ARP | {"square": (0.8, 1.0)}),
    "lead_saw": Sound(partial(tones.subtractive, sides=2), _LEAD),
    "lead_square": Sound(tones.subtractive, _LEAD | {"square": (0.8, 1.0)}),
    "brass": Sound(partial(tones.subtractive, sides=2), _BRASS),
    "voice_low": Sound(voice.sing, _VOICE, sings=True, centre=54),
    "voice_high": Sound(voice.sing, _HIGH_VOICE, sings=True, centre=64),
    "voice_airy": Sound(voice.sing, _HIGH_VOICE | {"breath": (0.6, 1.1), "bright": (0.25, 0.5)}, sings=True, centre=62),
    "choir_low": Sound(voice.sing, _VOICE | {"bright": (0.3, 0.6)}, sings=True, centre=55),
    "choir_high": Sound(voice.sing, _HIGH_VOICE | {"bright": (0.3, 0.6)}, sings=True, centre=62),
}
"""Every sound by name."""
