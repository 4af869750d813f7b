"""A plausible finished mix of a song, as ground truth for whoever estimates mixes."""

from __future__ import annotations

from typing import Any

import numpy as np

from mixtools.controls import EFFECTS, HIGHEST_FREQUENCY, REVERB_CENTRES_HZ, Curve
from mixtools.dsp.noise import generator
from mixtools.errors import ParameterError, nearest
from mixtools.mix import Bus, Insert, Master, Mix, Track
from mixtools.synth.song import Song

EFFECT_CHOICES = ("gain", "pan", "eq", "delay", "reverb", "dynamics")

ROLE_LEVELS_DB = {
    "kick": -1.0,
    "snare": -3.0,
    "hats": -14.0,
    "cymbals": -13.0,
    "toms": -8.0,
    "percussion": -13.0,
    "bass": 0.0,
    "guitar": -6.0,
    "keys": -7.0,
    "pad": -10.0,
    "lead": -7.0,
    "lead_vocal": 0.0,
    "backing_vocal": -8.0,
}
"""Levels relative to the lead voice, while playing."""

_CENTRED = ("kick", "snare", "bass", "lead_vocal")

_SIDES = {-1.0: ("left", "1", "3"), 1.0: ("right", "2", "4")}
"""Where stems with such names go: left or right."""

_Range = tuple[float, float]

_EQ: dict[str, tuple[tuple[str, _Range, _Range], ...]] = {
    "kick": (("low_shelf", (55, 90), (1, 4)), ("band1", (250, 450), (-6, -2)), ("band3", (2500, 4500), (1, 5))),
    "snare": (("low_shelf", (80, 130), (-6, -2)), ("band1", (180, 260), (0, 3)), ("high_shelf", (6000, 9000), (1, 4))),
    "hats": (("low_shelf", (200, 500), (-12, -4)), ("high_shelf", (9000, 12000), (-2, 3))),
    "cymbals": (("low_shelf", (200, 500), (-9, -3)), ("band4", (8000, 11000), (-3, 2))),
    "toms": (("band1", (300, 500), (-6, -2)), ("band3", (3000, 5000), (1, 4))),
    "percussion": (("low_shelf", (120, 300), (-8, -2)), ("band3", (3000, 6000), (-2, 3))),
    "bass": (("low_shelf", (60, 100), (-2, 3)), ("band1", (200, 350), (-4, -1)), ("band2", (700, 1200), (0, 4))),
    "guitar": (("low_shelf", (90, 160), (-8, -3)), ("band2", (400, 900), (-3, 0)), ("band3", (2500, 4500), (0, 4))),
    "keys": (("low_shelf", (100, 200), (-6, -1)), ("band1", (250, 450), (-4, 0)), ("high_shelf", (5000, 8000), (0, 4))),
    "pad": (("low_shelf", (150, 300), (-8, -3)), ("high_shelf", (5000, 9000), (-3, 3))),
    "lead": (("low_shelf", (100, 200), (-6, -1)), ("band3", (2000, 4000), (-3, 3))),
    "lead_vocal": (
        ("low_shelf", (80, 140), (-9, -3)),
        ("band1", (250, 450), (-4, -1)),
        ("band3", (2800, 5000), (1, 4)),
        ("high_shelf", (8000, 11000), (1, 5)),
    ),
    "backing_vocal": (("low_shelf", (120, 220), (-9, -4)), ("high_shelf", (7000, 10000), (1, 4))),
}
"""What is corrected: band, its frequency in Hz, its gain in dB."""

_SENDS_DB: dict[str, _Range] = {
    "snare": (-18, -10),
    "toms": (-18, -11),
    "percussion": (-18, -10),
    "guitar": (-22, -13),
    "keys": (-20, -12),
    "pad": (-18, -10),
    "lead": (-16, -9),
    "lead_vocal": (-16, -9),
    "backing_vocal": (-13, -7),
}
"""How much goes into the room."""

_ECHOES_DB: dict[str, _Range] = {"lead_vocal": (-20, -13), "lead": (-20, -12), "keys": (-26, -18)}
"""How much goes into the delay."""

_COMPRESSION: dict[str, tuple[_Range, _Range, _Range]] = {
    "kick": ((2, 4), (8, 30), (60, 140)),
    "snare": ((2, 4), (5, 20), (80, 160)),
    "bass": ((3, 5), (5, 25), (80, 250)),
    "guitar": ((1.5, 3), (10, 30), (100, 250)),
    "lead_vocal": ((2.5, 4), (3, 12), (60, 180)),
    "backing_vocal": ((2, 4), (3, 15), (80, 200)),
}
"""Ratio, attack and release in ms."""

_MIX_RMS_DB = -17.0
_QUARTERS_OF_ECHO = (0.5, 0.75, 1.0)


def finished_mix(
    song: Song,
    seed: int | None = None,
    effects: tuple[str, ...] = ("gain", "pan", "eq", "delay", "reverb"),
    automation: bool = False,
    law: str = "linear",
) -> Mix:
    """Mix a song as a person might: moderately, lead and rhythm in the middle; the same seed gives the same mix.

    `effects` are some of gain, pan, eq, delay, reverb and dynamics; `automation` rides the faders, which needs gain;
    `law` is the pan law. The seed is the song's own unless given.
    """
    for effect in effects:
        if effect not in EFFECT_CHOICES:
            raise ParameterError(f"effects holds {effect}; give {nearest(effect, EFFECT_CHOICES)}")
    if automation and "gain" not in effects:
        raise ParameterError(f"effects is {', '.join(effects)}; give gain too, which automation rides")
    return _Engineer(song, song.seed if seed is None else seed, effects, automation, law).mix().check()


class _Engineer:
    """Somebody with a taste, drawn from a seed."""

    def __init__(self, song: Song, seed: int, effects: tuple[str, ...], automation: bool, law: str):
        self.song, self.seed, self.effects, self.automation, self.law = song, seed, effects, automation, law
        self.top_hz = HIGHEST_FREQUENCY * song.rate
        self.rms_db = {name: _active_rms_db(audio) for name, audio in song.stems.items()}
        wanted = [ROLE_LEVELS_DB[role] for role in song.roles.values()]
        self.reference_db = _MIX_RMS_DB - 10.0 * np.log10(np.sum(10.0 ** (np.array(wanted) / 10.0)))

    def mix(self) -> Mix:
        tracks = [self.track(name, generator(self.seed, f"mix {name}")) for name in self.song.stems]
        rng = generator(self.seed, "mix")
        buses = {}
        if "reverb" in self.effects:
            buses["room"] = Bus(chain=[self.room(rng)])
        if "delay" in self.effects:
            buses["echo"] = Bus(chain=[self.echo(rng)])
        master = Master(self.master(rng)) if "dynamics" in self.effects else Master()
        mix = Mix(tracks=tracks, buses=buses, master=master, sample_rate=self.song.rate)
        for strip in (*tracks, *buses.values(), master):
            for insert in strip.chain:
                insert.controls = {name: _set_by_hand(value) for name, value in insert.controls.items()}
            if strip is not master:
                strip.sends = {bus: _set_by_hand(level) for bus, level in strip.sends.items()}
        return mix

    def track(self, name: str, rng: np.random.Generator) -> Track:
        role = self.song.roles[name]
        level_db = self.reference_db + ROLE_LEVELS_DB[role] + float(rng.uniform(-2.0, 2.0))
        gain_db = float(np.clip(level_db - self.rms_db[name], -24.0, 24.0))
        chain = []
        if "gain" in self.effects:
            chain.append(Insert("gain", {"gain_db": self.ride(gain_db, role, rng) if self.automation else gain_db}))
        if "eq" in self.effects:
            chain.append(Insert("parametric_eq", self.equaliser(_EQ[role], rng)))
        if "dynamics" in self.effects and role in _COMPRESSION:
            loud_db = level_db if "gain" in self.effects else self.rms_db[name]
            chain.append(Insert("compressor", self.compression(role, loud_db, rng)))
        if "pan" in self.effects:
            place = 0.5 if role in _CENTRED else self.place(name, rng)
            chain.append(Insert("pan", {"pan": place, "law": self.law}))
        sends = {}
        for effect, bus, levels in (("reverb", "room", _SENDS_DB), ("delay", "echo", _ECHOES_DB)):
            if effect in self.effects and role in levels:
                sends[bus] = float(rng.uniform(*levels[role]))
        return Track(file=name, chain=chain, sends=sends)

    def place(self, name: str, rng: np.random.Generator) -> float:
        """Where a stem stands: wide ones near the middle, takes of a pair on opposite sides."""
        wide = len(self.song.stems[name]) == 2
        width = float(rng.uniform(0.0, 0.1) if wide else rng.uniform(0.08, 0.38))
        stem = name.removesuffix(".wav")
        sides = [side for side, endings in _SIDES.items() if stem.endswith(endings)] or list(_SIDES)
        return 0.5 + width * float(rng.choice(sides))

    def equaliser(self, moves: tuple[tuple[str, _Range, _Range], ...], rng: np.random.Generator) -> dict[str, float]:
        controls = {}
        for band, frequencies, gains in moves:
            controls[f"{band}_gain_db"] = float(rng.uniform(*gains))
            controls[f"{band}_freq_hz"] = min(float(rng.uniform(*frequencies)), self.top_hz)
            controls[f"{band}_q"] = 0.707 if "shelf" in band else float(rng.uniform(0.7, 1.8))
        return controls

    def compression(self, role: str, level_db: float, rng: np.random.Generator) -> dict[str, float]:
        ratios, attacks, releases = _COMPRESSION[role]
        return {
            "threshold_db": float(np.clip(level_db + rng.uniform(0.0, 6.0), -50.0, 0.0)),
            "ratio": float(rng.uniform(*ratios)),
            "attack_ms": float(rng.uniform(*attacks)),
            "release_ms": float(rng.uniform(*releases)),
            "knee_db": float(rng.uniform(0.0, 6.0)),
            "makeup_db": float(rng.uniform(0.0, 3.0)),
        }

    def ride(self, gain_db: float, role: str, rng: np.random.Generator) -> Curve:
        """A fader that moves between sections: up in the chorus, down at both ends."""
        lifts = {"intro": -1.5, "chorus": 1.0, "outro": -2.0}
        points = []
        for start, section in self.song.sections:
            lift = lifts.get(section, 0.0) + float(rng.uniform(-1.5, 1.5) if role == "lead_vocal" else 0.0)
            if points:
                points.append((start, points[-1][1]))
            points.append((start + 0.25 if points else 0.0, gain_db + lift))
        return Curve(tuple(points))

    def room(self, rng: np.random.Generator) -> Insert:
        """A room that has fallen by 50 dB within a second."""
        low_s = float(rng.uniform(0.7, 1.15))
        damping = float(rng.uniform(0.15, 0.4))
        controls: dict[str, float] = {"predelay_ms": float(rng.uniform(0.0, 30.0))}
        for band, centre in enumerate(REVERB_CENTRES_HZ, 1):
            controls[f"band{band}_gain"] = float(rng.uniform(0.6, 1.0)) * min(1.0, centre / 200.0)
            controls[f"band{band}_decay_s"] = low_s * min(1.0, (500.0 / centre) ** damping)
        return Insert("reverb", controls | {"seed": int(rng.integers(2**31))})

    def echo(self, rng: np.random.Generator) -> Insert:
        beats = float(rng.choice(_QUARTERS_OF_ECHO))
        time = EFFECTS["delay"]["time_ms"]
        return Insert(
            "delay",
            {
                "time_ms": min(60_000.0 / self.song.tempo * beats, time.high),
                "feedback": float(rng.uniform(0.15, 0.4)),
                "damping_hz": float(rng.uniform(2500.0, 7000.0)),
            },
        )

    def master(self, rng: np.random.Generator) -> list[Insert]:
        tone = (
            ("low_shelf", (60, 110), (-1, 2)),
            ("band2", (300, 900), (-2, 0)),
            ("high_shelf", (8000, 12000), (0, 2.5)),
        )
        glue = {
            "threshold_db": float(rng.uniform(-18.0, -12.0)),
            "ratio": float(rng.uniform(1.5, 2.5)),
            "attack_ms": float(rng.uniform(15.0, 40.0)),
            "release_ms": float(rng.uniform(80.0, 250.0)),
            "knee_db": float(rng.uniform(2.0, 8.0)),
            "makeup_db": float(rng.uniform(1.0, 4.0)),
        }
        return [
            Insert("parametric_eq", self.equaliser(tone, rng)),
            Insert("compressor", glue),
            Insert("limiter", {"ceiling_db": float(rng.uniform(-2.0, -0.5))}),
        ]


def _set_by_hand(value: Any) -> Any:
    """Four digits, as many as anybody would type."""
    if isinstance(value, Curve):
        return Curve(tuple((_set_by_hand(time), _set_by_hand(level)) for time, level in value.points))
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _active_rms_db(audio: np.ndarray, frame: int = 2048) -> float:
    """The RMS in dBFS of the frames within 40 dB of the loudest."""
    starts = np.arange(0, audio.shape[1], frame)
    lengths = np.diff(np.append(starts, audio.shape[1]))
    energy = np.add.reduceat(np.mean(np.square(audio), axis=0, dtype=np.float64), starts) / lengths
    return float(10.0 * np.log10(np.mean(energy[energy > 1e-4 * energy.max()])))
