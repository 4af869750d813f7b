"""Which role a stem has, from what it is called and from what it sounds like."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mixtools.tasks.automix.hearing import Character, Sound
from mixtools.tasks.automix.roles import VOICES, role_named

TRAITS = "sub", "low", "high", "air", "top", "centre", "clear", "glide", "onsets", "fall", "held", "change"
"""What is compared of a `Character`: its regions but the middle one, and its other measures in their order. `glide` and
`onsets`, which span decades, are binary logarithms: of 1 + cents, and of 0.25 + onsets per second; `clear` and `held`
are tenths."""

TABLE = """
kick      kick         -1~1   -8~2  -29~1  -28~2  -30~1 -3.9~0.2 6.6~0.8 2.0~0.7  0.9~0.3  15~3 3.2~1.3 5.8~0.6
recorded  kick         -1~2  -10~2  -26~2  -30~2  -30~2 -3.9~0.3 6.9~0.7 5.8~0.7  1.6~0.3  13~3 2.8~0.8 6.7~0.8
recorded  snare       -30~2  -22~2   -2~2   -9~2  -19~2  0.4~0.3 1.2~0.7 0.0~0.7  1.1~0.3  21~3 2.0~0.8 2.5~0.8
snare     snare       -21~2   -4~2  -12~1   -7~2  -10~2 -0.4~0.5 1.8~0.4 0.0~0.3  1.3~0.3  25~1 1.7~0.5 4.8~0.5
toms      toms        -12~6   -1~1  -26~3  -30~1  -30~1 -3.0~0.2 6.7~0.5 4.4~0.5  1.0~0.4  12~3 6.0~1.6 7.5~0.5
hats      hats        -30~1  -30~1  -30~1  -10~1   -0~1  3.3~0.2 2.3~0.4 0.0~0.3  1.8~0.5  25~1 2.0~1.0 0.3~0.4
recorded  hats        -25~8 -23~11  -11~3   -5~2   -4~3  1.7~1.3 1.7~0.7 0.0~0.7  2.2~0.8  15~3 4.4~1.6 3.7~1.4
overheads cymbals     -30~1  -30~1  -15~2   -6~1   -2~1  3.1~0.2 3.0~0.7 0.3~1.2  1.4~0.4   8~2 8.8~0.8 3.9~0.5
recorded  cymbals     -30~2  -27~2   -6~2   -7~2   -5~2  1.6~0.3 1.3~0.7 0.0~0.7  2.1~0.3  16~3 6.0~0.8 4.8~0.8
block     percussion  -30~1  -29~1   -6~8  -19~4  -30~1  0.1~0.6 4.5~1.2 0.9~1.1  1.4~0.3  25~1 1.2~0.8 3.5~1.1
claps     percussion  -30~1  -30~1   -2~1   -5~1  -17~4  1.3~0.2 1.3~0.4 0.0~0.3  1.4~0.4  24~2 1.8~1.1 1.5~0.6
congas    percussion  -23~2   -7~2  -20~3  -24~4  -30~1 -2.0~0.2 4.7~0.6 4.4~0.5  2.0~0.4  25~2 2.7~0.9 6.7~0.5
shaker    percussion  -30~1  -30~1  -30~1   -5~1   -2~1  3.0~0.2 1.9~0.4 0.0~0.3  2.0~0.7  25~2 2.6~1.1 1.3~1.0
kit       drums        -3~2   -6~2  -20~2  -12~2   -9~2 -2.0~0.8 4.9~0.8 4.2~0.7  2.0~0.3  15~3 5.8~1.0 9.0~0.8
recorded  drums        -8~9  -10~8  -12~3  -10~3  -13~8 -1.1~1.9 2.8~1.3 0.8~2.2  2.5~0.4  16~7 5.2~1.9 7.9~2.4
bass      bass         -2~2   -7~4  -27~4  -30~1  -30~1 -3.6~0.4 8.9~0.5 0.8~0.9  2.0~1.3   7~4 8.4~1.3 5.5~1.1
recorded  bass         -5~2   -2~2  -30~2  -30~2  -30~2 -3.2~0.3 7.6~0.7 3.1~0.7  3.0~0.3  12~3 7.0~0.8 5.8~0.8
acoustic  guitar      -30~1   -7~2   -7~1  -11~1  -14~2 -0.6~0.3 4.6~0.7 0.4~0.5  0.9~0.4   5~2 8.8~1.1 5.4~0.5
picked    guitar      -30~1  -12~5   -5~2  -14~5  -21~8 -0.4~0.3 8.2~0.7 0.3~0.4  1.7~0.3   7~2 9.1~1.1 8.0~0.8
recorded  guitar      -11~2   -9~2   -2~2  -14~2  -30~2 -0.3~0.3 3.4~0.7 1.3~0.7  1.9~0.3  21~3 4.4~0.8 6.5~0.8
strummed  guitar      -27~4   -8~2   -5~1  -18~2  -30~1 -0.8~0.3 4.4~1.4 0.3~0.5  0.7~0.6   9~9 7.0~2.2 3.7~0.6
clav      keys        -30~1  -22~2   -3~1  -10~1  -15~1  0.4~0.2 4.4~0.7 0.1~0.4  1.4~0.3  10~2 4.9~0.7 4.6~0.5
epiano    keys        -30~1   -6~2  -22~4  -30~1  -30~1 -1.7~0.2 6.2~1.0 1.4~1.0  3.1~0.5   6~2 9.4~0.5 4.5~0.7
mallets   keys        -30~1  -30~1   -7~4  -19~4  -30~1 -0.4~0.4 8.1~0.5 0.9~0.9  0.7~0.9   5~3 8.8~1.0 7.6~0.7
organ     keys        -30~1   -7~1   -9~1  -24~4  -30~1 -1.4~0.2 4.7~0.8 0.3~0.5  0.0~0.5   3~2 8.6~2.3 2.3~0.9
piano     keys        -30~1   -8~1   -9~1  -23~2  -30~1 -1.2~0.2 5.1~0.7 0.8~0.6  0.9~0.3   4~2 9.4~0.6 3.0~0.7
recorded  keys        -22~2 -18~10   -5~3  -26~4  -30~2 -0.6~0.7 4.6~0.9 0.7~1.0  0.8~0.9  10~6 7.9~1.8 5.2~1.0
pad       pad         -30~1  -21~8   -8~3  -19~5  -30~1 -0.8~0.5 5.4~1.0 0.8~0.6 -1.4~0.3   1~2 9.6~0.5 2.9~0.5
arp       lead        -30~1  -24~5   -9~2  -23~4  -30~1 -0.9~0.2 8.6~0.5 0.8~0.5  1.8~0.4  11~2 7.8~1.5 7.8~0.6
brass     lead        -30~1   -9~3  -10~1  -25~4  -30~1 -1.4~0.2 5.4~0.8 0.7~0.9  0.5~0.2   4~3 4.2~0.8 2.4~0.9
recorded  lead        -30~2  -30~2   -2~2   -8~2  -26~2  0.5~0.3 6.4~0.7 1.5~0.7  0.6~0.3   3~3 9.5~0.8 5.0~0.8
solo      lead        -30~1  -27~6   -6~3  -20~4  -30~1 -0.5~0.3 9.4~0.5 2.0~1.2 -0.3~0.5   1~2 8.9~0.6 7.1~1.1
choir     voice       -30~1  -28~3   -9~6  -30~1  -30~1 -0.6~0.4 9.2~0.4 4.2~0.7  0.0~0.4   0~1 7.6~1.9 4.9~1.7
recorded  voice       -28~6 -22~10   -6~5  -19~7  -25~8 -0.4~0.6 5.2~1.7 2.2~2.0  1.2~0.7   9~6 7.4~2.3 4.3~2.3
singer    voice       -30~1  -25~6   -5~2  -21~3  -27~3 -0.4~0.3 8.7~0.6 3.9~0.5  1.2~0.3   1~2 8.6~0.6 7.1~0.9
anything  other      -23~13 -17~13 -12~12 -18~11 -22~13 -0.6~2.2 5.1~3.1 1.4~2.2  1.3~1.2 12~10 6.1~3.6 5.0~2.8
"""
"""What each kind of sound is like: its name and role, then the centre and the spread of each of `TRAITS`. A `voice` may
lead or back; `recorded` are real stems, the others are synthesised. Measured by tests/bench/roles.py."""

LEAST_SURE = 0.4
"""What is less sure than this is `other`."""

BLUR = 0.2
"""Traits depend on each other: together they tell this part of what as many independent ones would."""

MOST_FALL_DB = 25.0

NAMED, GIVEN, BY_SOUND, NOT_RECOGNISED = "named", "given", "sounds like it", "not recognised"
"""Why a stem has its role."""

VOICE = "voice"
SINGLE = "kick"
"""What a song has one of, unless names say otherwise."""


@dataclass(frozen=True, eq=False)
class Kinds:
    """Kinds of sounds: their names and roles, and the centre and spread of every trait, (kinds, traits)."""

    names: tuple[str, ...]
    roles: tuple[str, ...]
    centres: np.ndarray
    spreads: np.ndarray

    def likelihoods(self, traits: np.ndarray) -> np.ndarray:
        """The logarithm of how likely each kind has these traits, up to a constant, (kinds,)."""
        z = (traits - self.centres) / self.spreads
        return -BLUR * (0.5 * z**2 + np.log(self.spreads)).sum(axis=1)

    def shares(self, traits: np.ndarray) -> dict[str, float]:
        """How likely each role is, all together 1; a role is as likely as the likeliest of its kinds."""
        likelihoods = self.likelihoods(traits)
        weights = np.exp(likelihoods - likelihoods.max())
        best = {role: max(w for w, own in zip(weights, self.roles, strict=True) if own == role) for role in self.roles}
        return {role: float(weight / sum(best.values())) for role, weight in best.items()}


def parsed(table: str) -> Kinds:
    """Kinds from lines of name, role, and `centre~spread` of each trait."""
    rows = [line.split() for line in table.strip().splitlines()]
    cells = np.array([[cell.split("~") for cell in row[2:]] for row in rows], float).reshape(len(rows), len(TRAITS), 2)
    return Kinds(tuple(row[0] for row in rows), tuple(row[1] for row in rows), cells[:, :, 0], cells[:, :, 1])


def traits_of(character: Character) -> np.ndarray:
    """The traits of a sound, (traits,)."""
    sub, low, _, high, air, top = character.regions_db
    glide, onsets = math.log2(1.0 + character.glide_cents), math.log2(0.25 + character.onsets_per_s)
    clear, held = 10.0 * character.clarity, 10.0 * character.held
    fall = min(max(character.fall_db, 0.0), MOST_FALL_DB)
    return np.array(
        [sub, low, high, air, top, character.centre_oct, clear, glide, onsets, fall, held, character.change_db]
    )


KINDS = parsed(TABLE)


def recognised(sound: Sound) -> tuple[str, float]:
    """The most likely role by sound alone, and how sure it is, 0 to 1; `other` where that is too little.

    A voice is a `backing_vocal`: whether it leads, only the others tell, which `roles_of` listens to.
    """
    role, sure = _likeliest(_shares(sound))
    return ("backing_vocal" if role == VOICE else role), sure


def roles_of(sounds: Mapping[str, Sound], given: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """The role of every stem, and why: `given` is as given, then its name counts, then how it sounds.

    Of the stems known by sound only, one at most is a kick, and none where there is one by name; and the voice that
    sounds most is the lead, unless there is one by name.
    """
    roles: dict[str, tuple[str, str]] = {}
    for name in sounds:
        named = role_named(name)
        if name in given:
            roles[name] = given[name], GIVEN
        elif named:
            roles[name] = named, NAMED
    told = {role for role, _ in roles.values()}
    shares = {name: _shares(sounds[name]) for name in sorted(sounds) if name not in roles}
    kicks = [name for name, found in shares.items() if _likeliest(found)[0] == SINGLE]
    kept = None if SINGLE in told else max(kicks, key=lambda name: shares[name][SINGLE], default=None)
    for name in kicks:
        if name != kept:
            shares[name] = {role: share for role, share in shares[name].items() if role != SINGLE}
    found = {name: _likeliest(its_shares)[0] for name, its_shares in shares.items()}
    voices = [name for name, role in found.items() if role == VOICE]
    lead = None if VOICES[0] in told else max(voices, key=lambda name: _presence(sounds[name]), default=None)
    for name, role in found.items():
        if role == VOICE:
            role = VOICES[0] if name == lead else VOICES[1]
        roles[name] = role, NOT_RECOGNISED if role == "other" else BY_SOUND
    return {name: roles[name] for name in sounds}


def _shares(sound: Sound) -> dict[str, float]:
    return {} if sound.character is None else KINDS.shares(traits_of(sound.character))


def _likeliest(shares: Mapping[str, float]) -> tuple[str, float]:
    role = max(shares, key=shares.__getitem__, default="other")
    return (role, shares[role]) if shares.get(role, 0.0) >= LEAST_SURE else ("other", shares.get(role, 0.0))


def _presence(sound: Sound) -> float:
    """Loudness over all the excerpts, in dB."""
    loudness = -math.inf if sound.lufs is None else sound.lufs
    return loudness + 10.0 * math.log10(max(sound.sounding, 1e-6))
