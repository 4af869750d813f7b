"""Who stands where between the loudspeakers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mixtools.tasks.automix.hearing import BANDS_HZ

LOW_HZ = 150.0
LIVES_LOW = 0.6
"""What has this share of its energy below `LOW_HZ` stays in the centre."""

WIDE = 0.02
"""Sides from this share of the energy on make a recording one that has a width of its own."""

PAIR_WIDTH = 0.4
"""How far from the centre the left and the right of a pair stand at least."""

STEP = 0.8
"""Every further stem on a side stands this much nearer to the centre, down to `NEAREST` of its width."""

NEAREST = 0.5

BALANCE = 1.0
"""What unequal sides count against overlap."""

_SIDE = re.compile(r"^(.*?)[\s._-]*(?:(l|left)|(r|right))$", re.IGNORECASE)
_TAKE = re.compile(r"^(.*?)[\s._-]*0*([0-9]+)$")

Decided = tuple[str, str, str]


@dataclass(frozen=True, eq=False)
class Strip:
    """A stem, how far from the centre it may stand, what it sounds like in the mix, its own width, and where it stands
    if that is settled."""

    name: str
    reach: float
    powers: np.ndarray
    own_width: float
    settled: float | None = None


def placed(
    strips: list[Strip], together: Callable[[str, str], float], mirrored: bool = False
) -> tuple[dict[str, float], list[Decided]]:
    """A pan for every strip, 0 to 1, and why: (name, rule, what).

    Strips go one after the other, the loudest first, to the side where less of what they overlap with stands, and less
    energy; pairs (left and right, or two takes) to both.
    """
    strips = sorted(strips, key=lambda strip: (-float(strip.powers.sum()), strip.name))
    places: dict[str, float] = {}
    decided: list[Decided] = []
    for strip in strips:
        if strip.settled is not None:
            places[strip.name] = strip.settled
        elif (why := _centred(strip)) is not None:
            places[strip.name] = 0.5
            decided.append((strip.name, *why))
    by_name = {strip.name: strip for strip in strips}
    pairs = _pairs([strip.name for strip in strips if strip.name not in places])
    for strip in strips:
        if strip.name in places:
            continue
        partner = pairs.get(strip.name)
        if partner is not None:
            left, right = sorted((strip.name, partner[0]), key=lambda name: pairs[name][1])
            reach = max(by_name[left].reach, by_name[right].reach, PAIR_WIDTH if partner[2] else 0.0)
            sign = -1.0 if mirrored and not partner[2] else 1.0
            for name, other, side in ((left, right, -sign), (right, left, sign)):
                places[name] = _place(side * min(reach, 0.5))
                decided.append((name, "spread", f"{_shown(places[name])}, the pair of {other}"))
            continue
        side = _side(strip, [by_name[name] for name in places], places, together, mirrored)
        before = sum(1 for name, place in places.items() if (place - 0.5) * side > 0 and by_name[name].reach > 0)
        places[strip.name] = _place(side * strip.reach * max(STEP**before, NEAREST))
        decided.append((strip.name, "spread", _shown(places[strip.name])))
    return places, decided


def _centred(strip: Strip) -> tuple[str, str] | None:
    """Why a strip stands in the centre, if it does."""
    low = float(strip.powers[BANDS_HZ < LOW_HZ].sum()) / max(float(strip.powers.sum()), 1e-30)
    if strip.own_width >= WIDE:
        return "wide", f"a width of its own, {100 * strip.own_width:.0f} % of its energy at the sides"
    if strip.reach == 0.0:
        return "centre", "by its role"
    if low > LIVES_LOW:
        return "centre", f"{100 * low:.0f} % of its energy below {LOW_HZ:g} Hz"
    return None


def _pairs(names: list[str]) -> dict[str, tuple[str, int, bool]]:
    """Each member of a pair with the other, its order in it, and whether the names say left and right."""
    found: dict[str, tuple[str, int, bool]] = {}
    bases: dict[tuple[str, bool], dict[int, str]] = {}
    for name in names:
        stem = name.rpartition(".")[0] or name
        if match := _SIDE.match(stem):
            bases.setdefault((match[1].lower(), True), {})[0 if match[2] else 1] = name
        elif match := _TAKE.match(stem):
            bases.setdefault((match[1].lower(), False), {})[int(match[2])] = name
    for (base, sides), members in bases.items():
        if not base:
            continue
        ordered = sorted(members.items())
        for (_, one), (_, two) in zip(ordered[::2], ordered[1::2], strict=False):
            found[one], found[two] = (two, 0, sides), (one, 1, sides)
    return found


def _side(
    strip: Strip,
    others: list[Strip],
    places: dict[str, float],
    together: Callable[[str, str], float],
    mirrored: bool,
) -> float:
    """-1 or 1: where less of what a strip overlaps with stands, and less energy."""
    pull = 0.0
    energies = 0.0
    for other in others:
        aside = 2.0 * (places[other.name] - 0.5)
        if aside:
            overlap = float(np.sqrt(strip.powers) @ np.sqrt(other.powers))
            overlap /= max(float(np.sqrt(strip.powers.sum() * other.powers.sum())), 1e-30)
            pull += aside * overlap * together(strip.name, other.name)
            energies += aside * float(other.powers.sum())
    pull += BALANCE * energies / max(float(strip.powers.sum()), 1e-30)
    if pull == 0.0:
        return -1.0 if mirrored else 1.0
    return -1.0 if pull > 0 else 1.0


def _place(aside: float) -> float:
    return float(f"{0.5 + aside:.3g}")


def _shown(place: float) -> str:
    aside = round(200 * (place - 0.5))
    return "centre" if not aside else f"{abs(aside)} % {'right' if aside > 0 else 'left'}"
