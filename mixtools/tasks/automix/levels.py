"""How loud stems come to a model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mixtools.measure.loudness import LoudnessMeter
from mixtools.tasks.excerpts import Range
from mixtools.tasks.recordings import Recording

STEM_LUFS = -23.0
"""What models bring stems to: the log-mel spectra of quieter ones would fall below the encoder's floor."""

MOST_DB = 24.0
"""Stems are not moved by more, so that the fader's own range still fits onto the console's."""


@dataclass(frozen=True)
class Levels:
    """Of one song's stems, by name, in dB."""

    lift_db: dict[str, float]
    """What brings each to -23 LUFS where it plays; 0 where it never does."""
    against_db: dict[str, float]
    """How loud each is recorded, against the mean power of those that play; 0 where a stem never plays."""


def levels_of(stems: Mapping[str, Recording], rate: float, ranges: Iterable[Range]) -> Levels:
    """How loud stems are where they play."""
    ranges = list(ranges)
    lufs = {name: _lufs(stem, rate, ranges) for name, stem in stems.items()}
    powers = [10.0 ** (found / 10.0) for found in lufs.values() if found is not None]
    mean = 10.0 * math.log10(sum(powers) / len(powers)) if powers else 0.0
    lift = {
        name: 0.0 if found is None else max(-MOST_DB, min(STEM_LUFS - found, MOST_DB)) for name, found in lufs.items()
    }
    against = {name: 0.0 if found is None else found - mean for name, found in lufs.items()}
    return Levels(lift, against)


def _lufs(stem: Recording, rate: float, ranges: Iterable[Range]) -> float | None:
    meter = LoudnessMeter(rate, stem.channels, dual_mono=True)
    for first, last in ranges:
        meter.add(stem.read(first, last - first))
    return meter.integrated_lufs
