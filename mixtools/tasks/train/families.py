"""Families of mixing rules: how different people would mix the same song, as data.

A model that is trained on some and measured on others has learned to mix, and not one table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mixtools.controls import HIGHEST_FREQUENCY, REVERB_CENTRES_HZ
from mixtools.dsp.noise import generator
from mixtools.measure.loudness import LoudnessMeter
from mixtools.mix import Bus, Insert, Master, Mix, Track

EFFECTS = "gain", "pan", "eq", "dynamics", "reverb"
DRY = "gain", "pan"
"""What a model that sets faders and pans can do: the papers' dry mix."""

LEVELS_LU = {
    "kick": -6.0,
    "snare": -6.0,
    "hats": -16.0,
    "cymbals": -14.0,
    "toms": -10.0,
    "percussion": -14.0,
    "bass": -6.0,
    "guitar": -9.0,
    "keys": -9.0,
    "pad": -12.0,
    "lead": -6.0,
    "lead_vocal": -1.0,
    "backing_vocal": -9.0,
    "other": -11.0,
}
"""Loudness of a stem while it plays, relative to a lead voice."""

GROUPS = {
    "drums": ("kick", "snare", "hats", "cymbals", "toms", "percussion"),
    "low": ("kick", "bass"),
    "voices": ("lead_vocal", "backing_vocal"),
    "harmony": ("guitar", "keys", "pad"),
    "top": ("hats", "cymbals", "percussion"),
    "front": ("lead", "lead_vocal"),
}

_CENTRED = "kick", "snare", "bass", "lead_vocal"

_Range = tuple[float, float]

_CUTS_HZ = {
    "hats": 350.0,
    "cymbals": 300.0,
    "percussion": 180.0,
    "guitar": 120.0,
    "keys": 120.0,
    "pad": 180.0,
    "lead": 130.0,
    "lead_vocal": 110.0,
    "backing_vocal": 160.0,
    "snare": 100.0,
    "other": 100.0,
}
"""Where a low shelf takes away what nobody needs."""

_PRESENCE_HZ = {
    "kick": 3500.0,
    "snare": 5000.0,
    "toms": 4000.0,
    "bass": 900.0,
    "guitar": 3000.0,
    "keys": 2500.0,
    "lead": 3000.0,
    "lead_vocal": 3800.0,
    "backing_vocal": 4500.0,
}

_SENDS_DB = {
    "snare": -14.0,
    "toms": -14.0,
    "percussion": -14.0,
    "guitar": -17.0,
    "keys": -16.0,
    "pad": -14.0,
    "lead": -13.0,
    "lead_vocal": -13.0,
    "backing_vocal": -10.0,
    "other": -16.0,
}

_COMPRESSED = "kick", "snare", "toms", "bass", "guitar", "lead", "lead_vocal", "backing_vocal"


@dataclass(frozen=True)
class Family:
    """Somebody's habits; numbers are drawn once per song around them.

    shifts_lu: by how much louder groups and roles are than `LEVELS_LU`. even: from 0 to 1, how much all levels come
    together. varies_lu: how far levels stray. width: how far from the centre stems go that do not stay there. hard:
    stems go there or stay, nothing in between. moved: roles of the centre that this family places, too. eq, squash:
    from 0, how much of both. room_db: more or less of the room than usual, and None for none. room_s: its decay.
    bright_db: a shelf from 7 kHz on everything.
    """

    help: str
    shifts_lu: Mapping[str, float] = field(default_factory=dict)
    even: float = 0.0
    varies_lu: float = 2.0
    width: _Range = (0.1, 0.4)
    hard: bool = False
    moved: tuple[str, ...] = ()
    eq: float = 1.0
    squash: float = 0.5
    room_db: float | None = 0.0
    room_s: _Range = (0.7, 1.2)
    bright_db: _Range = (-1.0, 2.0)

    def level_lu(self, role: str) -> float:
        base = LEVELS_LU[role] * (1.0 - self.even) + self.even * float(np.mean(list(LEVELS_LU.values())))
        groups = [group for group, roles in GROUPS.items() if role in roles]
        return base + sum(self.shifts_lu.get(name, 0.0) for name in (role, *groups))


FAMILIES: dict[str, Family] = {
    "balanced": Family("Moderate in everything."),
    "drums-forward": Family(
        "Drums above all, hard compression, a bright top.",
        {"drums": 4.0, "front": -2.0},
        squash=1.2,
        bright_db=(1.0, 4.0),
    ),
    "vocal-forward": Family(
        "The voice first, everything else behind it.", {"front": 3.0, "harmony": -2.0, "drums": -2.0}, squash=0.8
    ),
    "lcr": Family("Left, centre and right, nothing in between.", width=(0.5, 0.5), hard=True),
    "narrow": Family("Almost mono, dry.", width=(0.03, 0.12), room_db=-6.0, bright_db=(-2.0, 1.0)),
    "wide": Family("As far out as it goes, without hard sides.", {"harmony": 1.5}, width=(0.3, 0.48), room_db=2.0),
    "low-end": Family(
        "Kick and bass carry it, the top stays back.",
        {"low": 4.0, "top": -3.0, "harmony": -1.5},
        room_db=3.0,
        room_s=(1.2, 2.0),
        bright_db=(-4.0, 0.0),
    ),
    "wall": Family(
        "Everything loud, harmony most of all.", {"harmony": 3.0, "front": -1.5}, even=0.5, squash=1.0, room_db=4.0
    ),
    "roomy": Family(
        "Softly played in a large room, drums at the back, from the audience.",
        {"drums": -4.0, "lead": 2.0},
        moved=("bass", "snare"),
        width=(0.15, 0.35),
        eq=0.4,
        squash=0.1,
        room_db=6.0,
        room_s=(1.6, 2.6),
    ),
    "broadcast": Family(
        "Even, dry and bright, for small loudspeakers.",
        {"low": -3.0, "voices": 2.0},
        even=0.25,
        width=(0.05, 0.25),
        squash=1.3,
        room_db=None,
        bright_db=(1.0, 3.0),
    ),
    "rough": Family("Set in five minutes.", varies_lu=5.0, width=(0.0, 0.5), eq=0.3, squash=0.3),
}
"""Families by name."""

HELD_OUT = "vocal-forward", "lcr", "low-end", "rough"
"""What models are not trained on unless asked, so that they can be measured on it."""

TRAINED = tuple(name for name in FAMILIES if name not in HELD_OUT)


def mixed_by(
    family: Family,
    stems: Mapping[str, np.ndarray],
    roles: Mapping[str, str],
    rate: int,
    seed: int,
    effects: tuple[str, ...] = EFFECTS,
) -> Mix:
    """The mix that a family makes of stems (channels, n) at a rate; the same seed gives the same one.

    Roles are those of `LEVELS_LU`; a stem without one is `other`. Loudness is measured here, so that the stems may be
    an excerpt.
    """
    known = {name: roles.get(name, "other") for name in stems}
    known = {name: role if role in LEVELS_LU else "other" for name, role in known.items()}
    sides: dict[str, float] = {}
    tracks = []
    for name in sorted(stems):
        rng = generator(seed, f"family {name}")
        side = sides.get(known[name], float(generator(seed, f"side {known[name]}").choice([-1.0, 1.0])))
        sides[known[name]] = -side
        tracks.append(_track(family, name, stems[name], known[name], rate, side, rng, effects))
    rng = generator(seed, "family room")
    buses = {"room": Bus(chain=[_room(family, rng)])} if any(track.sends for track in tracks) else {}
    return Mix(tracks, buses, Master(), rate).check()


def _track(
    family: Family,
    name: str,
    audio: np.ndarray,
    role: str,
    rate: int,
    side: float,
    rng: np.random.Generator,
    effects: tuple[str, ...],
) -> Track:
    meter = LoudnessMeter(rate, len(audio), dual_mono=True)
    meter.add(audio)
    lufs = meter.integrated_lufs
    level = family.level_lu(role) + float(rng.uniform(-family.varies_lu, family.varies_lu)) - 20.0
    draws = rng.random(8)
    chain = [Insert("gain", {"gain_db": 0.0 if lufs is None else float(np.clip(level - lufs, -40.0, 40.0))})]
    if "eq" in effects and family.eq > 0.0:
        chain.append(Insert("parametric_eq", _equaliser(family, role, rate, draws)))
    if "dynamics" in effects and family.squash > 0.0 and role in _COMPRESSED:
        chain.append(Insert("compressor", _compression(family, level, draws)))
    if "pan" in effects:
        chain.append(Insert("pan", {"pan": _place(family, len(audio), role, side, draws[6]), "law": "linear"}))
        if len(audio) == 1:
            # The law leaves half of a mono stem on each side.
            chain[0].controls["gain_db"] += 6.02
    sent = "reverb" in effects and family.room_db is not None and role in _SENDS_DB
    sends = {"room": _SENDS_DB[role] + family.room_db + 4.0 * float(draws[7]) - 2.0} if sent else {}
    return Track(name, chain=chain, sends=sends)


def _place(family: Family, channels: int, role: str, side: float, draw: float) -> float:
    if role in _CENTRED and role not in family.moved:
        return 0.5
    low, high = family.width
    distance = low + draw * (high - low)
    if channels == 2:
        distance *= 0.25
    elif family.hard:
        distance = 0.5 if draw < 0.7 else 0.0
    return float(np.clip(0.5 + side * distance, 0.0, 1.0))


def _equaliser(family: Family, role: str, rate: int, draws: np.ndarray) -> dict[str, float]:
    top = HIGHEST_FREQUENCY * rate
    low, high = family.bright_db
    controls = {
        "high_shelf_freq_hz": min(7000.0, top),
        "high_shelf_gain_db": low + float(draws[0]) * (high - low),
        "high_shelf_q": 0.707,
    }
    if role in _CUTS_HZ:
        controls |= {
            "low_shelf_freq_hz": _CUTS_HZ[role] * (0.7 + 0.6 * float(draws[1])),
            "low_shelf_gain_db": -family.eq * (3.0 + 6.0 * float(draws[2])),
            "low_shelf_q": 0.707,
        }
    if role in _PRESENCE_HZ:
        controls |= {
            "band3_freq_hz": min(_PRESENCE_HZ[role] * (0.8 + 0.4 * float(draws[3])), top),
            "band3_gain_db": family.eq * 4.0 * float(draws[4]),
            "band3_q": 1.0,
        }
    return controls


def _compression(family: Family, level: float, draws: np.ndarray) -> dict[str, float]:
    return {
        "threshold_db": float(np.clip(level + 6.0 - 8.0 * family.squash * float(draws[5]), -50.0, 0.0)),
        "ratio": 1.5 + 2.5 * family.squash,
        "attack_ms": 5.0 + 20.0 * float(draws[2]),
        "release_ms": 80.0 + 150.0 * float(draws[3]),
        "knee_db": 4.0,
        "makeup_db": 2.0 * family.squash,
    }


def _room(family: Family, rng: np.random.Generator) -> Insert:
    """A room that falls by 60 dB in the family's time at low frequencies, and faster above."""
    low_s = float(rng.uniform(*family.room_s))
    controls: dict[str, float] = {"predelay_ms": float(rng.uniform(0.0, 30.0))}
    for band, centre in enumerate(REVERB_CENTRES_HZ, 1):
        controls[f"band{band}_gain"] = float(rng.uniform(0.6, 1.0)) * min(1.0, centre / 200.0)
        controls[f"band{band}_decay_s"] = low_s * min(1.0, (500.0 / centre) ** 0.25)
    return Insert("reverb", controls | {"seed": int(rng.integers(2**31))})
