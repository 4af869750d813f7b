"""What a fit comes up with: strips, buses and impulse responses, and what it was made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from mixtools.mix import Bus, Master, Mix, Track
from mixtools.tasks.excerpts import Range
from mixtools.tasks.recordings import Moved, Recording

Progress = Callable[[float], None]


@dataclass
class Strip:
    """One track to be: a stem, or one channel of it, and by how many whole samples it was moved to where it belongs."""

    file: str
    channel: str
    recording: Recording
    offset: int = 0

    @property
    def moved(self) -> Recording:
        return Moved(self.recording, self.offset) if self.offset else self.recording


@dataclass
class Problem:
    """What is to be explained: the mix over `ranges` (samples), by strips at a rate."""

    strips: list[Strip]
    target: Recording
    rate: int
    ranges: list[Range]

    def ms(self, samples: float) -> float:
        return 1000.0 * samples / self.rate

    def within(self, ranges: list[Range]) -> Problem:
        return Problem(self.strips, self.target, self.rate, ranges)


@dataclass
class Estimate:
    """Tracks in the strips' order (`whose` says which strip each belongs to), buses, master and responses by key."""

    tracks: list[Track]
    whose: list[int]
    buses: dict[str, Bus] = field(default_factory=dict)
    master: Master = field(default_factory=Master)
    responses: dict[str, np.ndarray] = field(default_factory=dict)

    def mix(self, rate: int) -> Mix:
        return Mix(self.tracks, self.buses, self.master, rate).check()
