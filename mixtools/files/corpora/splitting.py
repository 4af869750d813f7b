"""Splits of a corpus without an artist in two of them."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TypeVar

from mixtools.controls import shown
from mixtools.errors import ParameterError
from mixtools.files.corpora.items import Pair, Song

TRAIN = "train"

Item = TypeVar("Item", Song, Pair)


def check_fractions(fractions: Mapping[str, float]) -> dict[str, float]:
    """The fractions scaled to a sum of 1."""
    for name, fraction in fractions.items():
        if not 0 < fraction < math.inf:
            raise ParameterError(f"the fraction of {name} is {shown(fraction)}; give more than 0")
    if not fractions:
        raise ParameterError("there are no fractions; give one for each split")
    total = sum(fractions.values())
    return {name: fraction / total for name, fraction in fractions.items()}


def split_items(items: Sequence[Item], fractions: Mapping[str, float], seed: int, corpus: str) -> dict[str, list[Item]]:
    """Divide items by artist, those without one each for itself, into parts of about these fractions.

    Published splits are kept. A part that was not published, mostly validation, is taken from the training items.
    """
    shares = check_fractions(fractions)
    parts: dict[str, list[Item]] = {name: [] for name in shares}
    published = {item.split for item in items}
    to_deal = [name for name in shares if name == TRAIN or name not in published]
    divisible = TRAIN in shares and len(to_deal) > 1
    for item in items:
        if item.split in shares and not (divisible and item.split == TRAIN):
            parts[item.split].append(item)
    if divisible:
        # What a published test set's artists have in the training set stays there, but out of validation.
        groups = _by_artist([item for item in items if item.split == TRAIN])
        homes = dict.fromkeys(_homes(parts), TRAIN)
        _deal(_sent_home(groups, parts, homes), parts, {name: shares[name] for name in to_deal}, seed)
    groups = _by_artist([item for item in items if item.split is None])
    _deal(_sent_home(groups, parts, _homes(parts)), parts, shares, seed)
    empty = [name for name, part in parts.items() if not part]
    if empty:
        raise ParameterError(
            f"{corpus} has too few artists for {len(shares)} splits: {', '.join(empty)} would be empty; give fewer"
        )
    return parts


def _homes(parts: dict[str, list[Item]]) -> dict[object, str]:
    """Where each artist already is."""
    return {item.artist: name for name, part in parts.items() for item in part if item.artist}


def _sent_home(
    groups: dict[object, list[Item]], parts: dict[str, list[Item]], homes: dict[object, str]
) -> list[list[Item]]:
    """Give the groups of artists who have a home to it; return the others."""
    for artist in groups.keys() & homes.keys():
        parts[homes[artist]] += groups.pop(artist)
    return list(groups.values())


def _by_artist(items: Sequence[Item]) -> dict[object, list[Item]]:
    groups: dict[object, list[Item]] = defaultdict(list)
    for item in items:
        groups[item.artist or item].append(item)
    return groups


def _deal(groups: list[list[Item]], parts: dict[str, list[Item]], shares: dict[str, float], seed: int) -> None:
    """Give each group, large ones first, to the part that lacks most; no part is left without while groups last."""
    random.Random(seed).shuffle(groups)
    groups.sort(key=len, reverse=True)
    scale = (sum(map(len, groups)) + sum(len(parts[name]) for name in shares)) / sum(shares.values())
    for i, group in enumerate(groups):
        empty = [name for name in shares if not parts[name]]
        candidates = empty if len(groups) - i <= len(empty) else shares
        name = max(candidates, key=lambda name: shares[name] * scale - len(parts[name]))
        parts[name] += group
