"""A desk whose gains move, and an excerpt of the mix that it is to sound like."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.signal import oaconvolve

from mixtools.diff.effect import side_by_side
from mixtools.dsp import graphic_eq, limiter
from mixtools.dsp.compiled import GRID
from mixtools.dsp.compressor import MAKEUP, Compressor, compress, stretches
from mixtools.dsp.graphic_eq import usable_bands
from mixtools.dsp.interpolation import interpolation
from mixtools.tasks.excerpts import Range
from mixtools.tasks.fit.estimate import Problem
from mixtools.tasks.fit.strips import Settings

COMPRESSOR = "threshold_db", "ratio", "attack_ms", "release_ms", "knee_db"
LIMITER = "ceiling_db", "release_ms"
"""What is fitted of each; the makeup is the strip's own gain."""

LEAST_GAIN = 0.05
"""A limiter's gain below this is not undone."""


@dataclass
class Desk:
    """Everything that moves: the linear settings, a compressor per strip (None: no compressor), and the master's."""

    settings: Settings
    compressors: list[dict[str, float] | None]
    drive_db: float = 0.0
    master: dict[str, float] | None = None
    limiter: dict[str, float] | None = None
    eq_db: np.ndarray | None = None
    rests: list[tuple[int, str, np.ndarray]] = field(default_factory=list)
    """Responses (2, taps) that a strip's channel is heard through besides: (strip, channel, response)."""
    knots_s: np.ndarray | None = None
    automation_db: np.ndarray | None = None
    """Gains on top of the steady ones at `knots_s`, (strips, knots)."""

    @property
    def moves(self) -> bool:
        return self.limiter is not None or self.master is not None or any(c is not None for c in self.compressors)


class Playback:
    """A desk that plays one excerpt of a problem, `first` to `last`, and is to sound like it."""

    def __init__(self, problem: Problem, excerpt: Range, reverb_s: float, settings: Settings, colour: np.ndarray):
        self.problem, self.reverb_s = problem, reverb_s
        self.rate = problem.rate
        first, last = excerpt
        self.lead = GRID * math.ceil((round(reverb_s * self.rate) + self.rate) / GRID)
        self.first, self.n = first - self.lead, last - first + self.lead
        self.target = np.broadcast_to(problem.target.read(self.first, self.n), (2, self.n)).astype(np.float32)
        self.counted = np.zeros(self.n, np.float32)
        for start, stop in problem.ranges:
            self.counted[max(start - self.first, self.lead) : max(stop - self.first, 0)] = 1.0
        self.stems = [
            _delayed(strip.moved.read(self.first, self.n), float(delay))
            for strip, delay in zip(problem.strips, settings.delay, strict=True)
        ]
        edges = np.flatnonzero(np.diff(self.counted, prepend=0.0, append=0.0))
        self.ranges = [(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]
        """Where it counts."""
        self.heard = (self.target * self.counted)[:, self.lead :]
        self.bands = usable_bands(self.rate)
        self.desk = Desk(settings, [None] * len(self.stems))
        self.rest = np.zeros((2, self.n), np.float32)
        """What the desk's rests make of the stems."""
        self.faders: np.ndarray | None = None
        """What the desk's automation multiplies the stems with, (strips, n)."""
        self.listen(colour)

    def listen(self, colour: np.ndarray) -> None:
        """Compare what is made with the mix through a whitening filter."""
        self.colour = colour
        self.wanted = self.white(self.target)

    def white(self, x: np.ndarray) -> np.ndarray:
        """Whitened, and silent where it does not count."""
        full = oaconvolve(x, self.colour[None], axes=1)[:, : self.n]
        return full.astype(np.float32) * self.counted

    def energy(self, x: np.ndarray) -> float:
        return float(np.square(x, dtype=np.float64).sum())

    def equalised(self) -> list[np.ndarray]:
        eq = self.desk.settings.eq.numpy()
        out: list[Any] = [None] * len(self.stems)

        def work(i: int) -> None:
            gains = {f"band{hz}_gain_db": float(db) for hz, db in zip(self.bands, np.clip(eq[i], -60, 12), strict=True)}
            out[i] = graphic_eq(self.stems[i], self.rate, **gains)

        side_by_side(work, len(self.stems))
        return out

    def compressed(self, equalised: list[np.ndarray] | None = None) -> list[np.ndarray]:
        """The stems as they come out of equaliser, compressor and a fader that moves."""
        stems = self.equalised() if equalised is None else equalised
        pairs = zip(stems, self.desk.compressors, strict=True)
        stems = [x if settings is None else x * self.gains(x, settings) for x, settings in pairs]
        return [x if self.faders is None else x * self.faders[i] for i, x in enumerate(stems)]

    def gains(self, key: np.ndarray, settings: Mapping[str, float]) -> np.ndarray:
        """What a compressor multiplies (channels, n) with, (n,) float32."""
        numbers, _ = Compressor(self.rate, len(key), **settings).at(self.n)
        ones, out = np.ones(key.shape, np.float32), np.empty(key.shape, np.float32)
        trail = np.empty(stretches(self.n))
        compress(key, ones, out, numbers, 0, numbers[:, MAKEUP], np.zeros(1), trail)
        return out[0]

    def sides(self, stem: np.ndarray, i: int) -> np.ndarray:
        """A strip's part on both sides before sends, (2, n)."""
        return (self.desk.settings.sides[:, i].float().numpy()[:, None] * stem).astype(np.float32)

    def summed(self, stems: list[np.ndarray]) -> np.ndarray:
        """The mix before the master, (2, n)."""
        settings = self.desk.settings
        dry, sent = np.zeros((2, self.n), np.float32), np.zeros((2, self.n), np.float32)
        for i, stem in enumerate(stems):
            part = self.sides(stem, i)
            dry += part
            sent += float(settings.send[i]) * part
        if settings.room.shape[1]:
            dry += oaconvolve(sent, settings.room.float().numpy(), axes=1)[:, : self.n]
        return dry + self.rest

    def mastered(self, x: np.ndarray) -> np.ndarray:
        desk = self.desk
        if desk.master is not None:
            x = x * self.gains(x, desk.master)
        x = x * np.float32(10.0 ** (desk.drive_db / 20.0))
        return x if desk.limiter is None else limiter(x, self.rate, **desk.limiter)

    def unlimited(self, before: np.ndarray) -> np.ndarray:
        """The mix with the limiter's gain undone, by what it does to the mix before it."""
        desk = self.desk
        x = before if desk.master is None else before * self.gains(before, desk.master)
        gain = np.ones(self.n, np.float32) if desk.master is None else self.gains(before, desk.master)
        if desk.limiter is not None:
            driven = x * np.float32(10.0 ** (desk.drive_db / 20.0))
            limited = limiter(driven, self.rate, **desk.limiter)
            box = np.ones(33)
            products = np.convolve((driven * limited).sum(0).astype(np.float64), box, "same")
            energies = np.convolve(np.square(driven).sum(0).astype(np.float64), box, "same")
            gain = gain * np.where(energies > 1e-12, products / np.maximum(energies, 1e-12), 1.0)
        return (self.target / np.maximum(gain, LEAST_GAIN)).astype(np.float32)

    def left(self) -> float:
        """What the desk does not explain, of the mix's energy."""
        mix = self.mastered(self.summed(self.compressed()))
        return self.energy(self.wanted - self.white(mix)) / max(self.energy(self.wanted), 1e-30)


def _delayed(x: np.ndarray, samples: float) -> np.ndarray:
    """A signal moved as the console moves it, as long as before."""
    first, taps = interpolation(samples)
    n = x.shape[1]
    y = oaconvolve(x, taps[None], axes=1)
    y = np.pad(y, ((0, 0), (max(first, 0), 0)))[:, max(-first, 0) :]
    return np.ascontiguousarray(y[:, :n], np.float32)
