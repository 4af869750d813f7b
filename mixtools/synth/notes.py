"""A note: what scores are made of, and instruments play."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Note:
    """One stroke, tone or chord: seconds, MIDI pitches, velocity 0 to 1, and how it is played."""

    start: float
    seconds: float
    velocity: float
    pitches: tuple[int, ...] = ()
    mark: str = "x"
