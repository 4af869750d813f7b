"""Short mono sounds out of any corpora, by number, with the thesis's augmentations: what a model of a channel hears."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from mixtools.dsp.noise import generator
from mixtools.errors import AudioError

SHELF_DRAWS = 32
"""Excerpts that are read together and stay in memory, with all their stems."""

SOUNDS_PER_SHELF = 16384
"""That are cut out of them before others are read."""

HELD_S = 6.0
"""Length of these excerpts."""

TRIES = 8
QUIET = 1e-3
"""RMS below which a place is left for another."""


class Corpus(Protocol):
    """Songs or recordings, `mixtools.files.corpora` for one."""

    name: str

    @property
    def longest_s(self) -> float: ...

    def draw(self, index: int, seconds: float, rate: int, seed: int = 0) -> Any: ...


class Sounds:
    """Mono sounds of at most so many samples from corpora, by number: number, seed and length decide what they are."""

    def __init__(self, corpora: Sequence[Corpus], frames: int, rate: int, seed: int, augment: bool = True) -> None:
        self.corpora, self.frames, self.rate, self.seed, self.augment = list(corpora), frames, rate, seed, augment
        self.name = " + ".join(corpus.name for corpus in self.corpora)
        self._shelves: OrderedDict[int, list[np.ndarray]] = OrderedDict()

    def __call__(self, number: int, frames: int | None = None) -> np.ndarray:
        """Sound number 0, 1, 2, ..., float32 (frames,)."""
        frames = frames or self.frames
        shelf = self._shelf(number // SOUNDS_PER_SHELF)
        rng = generator(self.seed, f"sound {number}")
        x = self._cut(shelf, frames, rng)
        return augmented(x, lambda: self._cut(shelf, frames, rng), rng) if self.augment else x

    def _cut(self, shelf: list[np.ndarray], frames: int, rng: np.random.Generator) -> np.ndarray:
        """A moment that is not silent, where there is one."""
        loudest, found = -1.0, shelf[0][:frames]
        for _ in range(TRIES):
            one = shelf[int(rng.integers(len(shelf)))]
            start = int(rng.integers(0, len(one) - frames + 1))
            x = one[start : start + frames]
            loudness = float(np.sqrt(np.mean(np.square(x))))
            if loudness > loudest:
                loudest, found = loudness, x
            if loudness > QUIET:
                break
        return found.copy()

    def _shelf(self, number: int) -> list[np.ndarray]:
        if number not in self._shelves:
            self._shelves[number] = self._filled(number)
            while len(self._shelves) > 2:
                self._shelves.popitem(last=False)
        self._shelves.move_to_end(number)
        return self._shelves[number]

    def _filled(self, number: int) -> list[np.ndarray]:
        sounds = []
        for k in range(SHELF_DRAWS):
            corpus = self.corpora[k % len(self.corpora)]
            seconds = max(min(HELD_S, corpus.longest_s), self.frames / self.rate)
            drawn = corpus.draw(number * SHELF_DRAWS + k, seconds, self.rate, zlib.crc32(str(self.seed).encode()))
            stems = drawn.stems.values() if hasattr(drawn, "stems") else (drawn.input,)
            # The sum of both sides would lose what they have in opposite phase.
            sounds += [stem[int(k % len(stem))] for stem in stems]
        sounds = [sound for sound in sounds if np.abs(sound).max() > QUIET]
        if not sounds:
            raise AudioError(f"{self.name}: its excerpts hold no sound; give other recordings")
        return sounds


def augmented(x: np.ndarray, another: Callable[[], np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """The thesis's augmentations, each by chance: mixed with another sound, scaled, turned, noise, holes, a gap.

    How often and how much is not published; the peak stays within full scale.
    """
    n = len(x)
    if rng.random() < 0.3:
        x = x + np.float32(10.0 ** (rng.uniform(-12.0, 0.0) / 20.0)) * another()
    if rng.random() < 0.7:
        peak = max(float(np.abs(x).max()), 1e-9)
        x = x * np.float32(10.0 ** (rng.uniform(-24.0, 0.0) / 20.0) / peak)
    if rng.random() < 0.5:
        x = -x
    if rng.random() < 0.5:
        # So that there is something to be heard in every band.
        x = x + np.float32(10.0 ** (rng.uniform(-60.0, -12.0) / 20.0)) * rng.standard_normal(n, np.float32)
    if rng.random() < 0.1:
        x = x * (rng.random(n, np.float32) >= rng.uniform(0.0, 0.5))
    if rng.random() < 0.15:
        start = int(rng.integers(n))
        x[start : start + int(rng.integers(1, n // 2 + 1))] = 0.0
    peak = float(np.abs(x).max())
    return np.asarray(x / peak if peak > 1.0 else x, np.float32)
