"""Corpora: what songs or recordings there are, excerpts drawn from them, and their splits."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Generic, Self, TypeVar

import numpy as np

from mixtools.controls import shown
from mixtools.errors import AudioError, MixtoolsError, ParameterError
from mixtools.files.corpora.folders import Skipped
from mixtools.files.corpora.items import About, Pair, Song
from mixtools.files.corpora.splitting import check_fractions, split_items
from mixtools.files.excerpts import KEPT_SONGS, SYNTH_SECONDS, AudioSource, Excerpts, Header, SynthTrack, synth

MIX_ENERGY = 1e-3
"""Mean square that an excerpt's mix must reach: 004, section 4.1."""

TRACK_ENERGY = 1e-6
"""Mean square above which a track plays at all. 004 leaves the number open ("to avoid loading silent tracks")."""

TRIES_PER_ITEM = 10
"""As in the MedleyDB loader that 004's authors published."""

ITEMS_TRIED = 10
DRAWS_PER_SYNTH_SONG = 16
SYNTH_SONGS_TRIED = 64

SYNTH = "synth:"

Item = TypeVar("Item", Song, Pair)


@dataclass(frozen=True, eq=False)
class SongExcerpt:
    """A moment of a song: its playing inputs and its mix (if any), float32 (channels, n) at `rate`.

    `start` is in samples at `rate`.
    """

    song: Song
    start: int
    rate: int
    stems: dict[str, np.ndarray]
    mix: np.ndarray | None


@dataclass(frozen=True, eq=False)
class PairExcerpt:
    """A moment of a recording: input and target, float32 (channels, n) at `rate`. `start` is in samples at `rate`."""

    pair: Pair
    start: int
    rate: int
    input: np.ndarray
    target: np.ndarray


class Kind(ABC, Generic[Item]):
    """What drawing needs to know about songs, or about pairs."""

    loud_enough: float

    @abstractmethod
    def header(self, item: Item, header: Callable[[AudioSource], Header]) -> Header:
        """How long an item is."""

    @abstractmethod
    def hear(self, item: Item, read: Callable[[AudioSource], np.ndarray]) -> tuple[float, dict[str, np.ndarray]]:
        """The energy that must be `loud_enough`, and what had to be read for it."""

    @abstractmethod
    def excerpt(
        self,
        item: Item,
        start: int,
        rate: int,
        heard: dict[str, np.ndarray],
        read: Callable[[AudioSource], np.ndarray],
    ) -> Any:
        """The whole excerpt; None where nothing plays."""


class Songs(Kind[Song]):
    """A song is as long as its first mix, else as its longest input, and as loud as its mix, else their plain sum."""

    loud_enough = MIX_ENERGY

    def header(self, item: Song, header: Callable[[AudioSource], Header]) -> Header:
        sources = list(item.mixes.values())[:1] or list(item.inputs.values())
        return max(map(header, sources), key=lambda one: one.frames / one.rate)

    def hear(self, item: Song, read: Callable[[AudioSource], np.ndarray]) -> tuple[float, dict[str, np.ndarray]]:
        for source in item.mixes.values():
            mix = read(source)
            return energy_of(mix), {"mix": mix}
        stems = {name: read(source) for name, source in item.inputs.items()}
        channels = max(stem.shape[0] for stem in stems.values())
        return energy_of(sum(np.broadcast_to(stem, (channels, stem.shape[1])) for stem in stems.values())), stems

    def excerpt(
        self,
        item: Song,
        start: int,
        rate: int,
        heard: dict[str, np.ndarray],
        read: Callable[[AudioSource], np.ndarray],
    ) -> SongExcerpt | None:
        mix = heard["mix"] if item.mixes else None
        stems = {name: read(source) for name, source in item.inputs.items()} if item.mixes else heard
        playing = {name: stem for name, stem in stems.items() if energy_of(stem) >= TRACK_ENERGY}
        return SongExcerpt(item, start, rate, playing, mix) if playing else None


class Pairs(Kind[Pair]):
    """A pair is as long as the shorter of its files, and as loud as its input."""

    loud_enough = TRACK_ENERGY

    def header(self, item: Pair, header: Callable[[AudioSource], Header]) -> Header:
        return min(map(header, (item.input, item.target)), key=lambda one: one.frames / one.rate)

    def hear(self, item: Pair, read: Callable[[AudioSource], np.ndarray]) -> tuple[float, dict[str, np.ndarray]]:
        source = read(item.input)
        return energy_of(source), {"input": source}

    def excerpt(
        self,
        item: Pair,
        start: int,
        rate: int,
        heard: dict[str, np.ndarray],
        read: Callable[[AudioSource], np.ndarray],
    ) -> PairExcerpt:
        return PairExcerpt(item, start, rate, heard["input"], read(item.target))


SONGS = Songs()
PAIRS = Pairs()


def energy_of(audio: np.ndarray) -> float:
    """The mean square over time and channels."""
    return float(np.mean(np.square(audio, dtype=np.float64)))


class Corpus(ABC, Generic[Item]):
    """Songs or recordings, from which excerpts are drawn by number: the same numbers give the same excerpts.

    `skipped` names every file that turned out to be unusable, once; it fills as files are used.
    """

    name: str
    skipped: Skipped
    audio: Excerpts
    kind: Kind[Item]

    @abstractmethod
    def where(self, keep: Callable[[Item], bool]) -> Self:
        """The corpus without what `keep` says no to."""

    @abstractmethod
    def splits(self, fractions: Mapping[str, float], seed: int = 0) -> dict[str, Self]:
        """Parts that have no artist in common, by name, of about these fractions; published splits are kept."""

    @property
    @abstractmethod
    def longest_s(self) -> float:
        """No excerpt can be longer."""

    @abstractmethod
    def _pick(self, rng: np.random.Generator, index: int, n: int, rate: int) -> Item:
        """An item of at least `n` samples at `rate`."""

    def draw(self, index: int, seconds: float, rate: int, seed: int = 0) -> Any:
        """Excerpt number `index`: of an item chosen with its length as weight, from a place where it is not silent.

        Quiet places are left after some tries, quiet items too; where none is loud enough, the loudest seen will do.
        """
        if not 0 < seconds < math.inf:
            raise ParameterError(f"seconds is {shown(seconds)}; give more than 0")
        if index < 0 or seed < 0:
            raise ParameterError(f"index is {index} and seed {seed}; give whole numbers, 0 or above")
        n = max(1, round(seconds * rate))
        rng = np.random.default_rng([seed, index])
        loudest, found = 0.0, None
        for _ in range(ITEMS_TRIED):
            item = self._pick(rng, index, n, rate)
            for _ in range(TRIES_PER_ITEM):
                start = int(rng.integers(0, self.kind.header(item, self._header).frames_at(rate) - n + 1))
                read = partial(self._read, start=start, frames=n, rate=rate)
                try:
                    energy, heard = self.kind.hear(item, read)
                    excerpt = self.kind.excerpt(item, start, rate, heard, read) if energy > loudest else None
                except MixtoolsError:
                    break
                if excerpt is not None:
                    loudest, found = energy, excerpt
                if loudest >= self.kind.loud_enough:
                    return found
        if found is None:
            broken = f", and of its files {len(self.skipped)} cannot be used" if self.skipped else ""
            raise AudioError(
                f"{self.name}: {ITEMS_TRIED * TRIES_PER_ITEM} excerpts of {seconds:g} s held no sound{broken};"
                " give other recordings"
            )
        return found

    def _read(self, source: AudioSource, start: int, frames: int, rate: int) -> np.ndarray:
        with self._naming(source):
            return self.audio.read(source, start, frames, rate)

    def _header(self, source: AudioSource) -> Header:
        with self._naming(source):
            return self.audio.header(source)

    @contextmanager
    def _naming(self, source: AudioSource) -> Iterator[None]:
        """Name a file that cannot be used among the skipped ones."""
        try:
            yield
        except MixtoolsError as error:
            self.skipped.setdefault(source, str(error))
            raise


class ListedCorpus(Corpus[Item]):
    """What a folder holds, listed."""

    def __init__(
        self, name: str, layout: str, kind: Kind[Item], items: Iterable[Item], skipped: Skipped, audio: Excerpts
    ) -> None:
        self.name = name
        self.layout = layout
        self.kind = kind
        self.items = tuple(items)
        self.skipped = skipped
        self.audio = audio

    def __len__(self) -> int:
        return len(self.items)

    def where(self, keep: Callable[[Item], bool]) -> ListedCorpus[Item]:
        return self._of(filter(keep, self.items))

    def with_mix(self, name: str) -> ListedCorpus[Item]:
        """The songs that have this mix, such as `wet`, and of their mixes only that."""
        return self._of(
            replace(song, mixes={name: song.mixes[name]}) for song in self.items if name in getattr(song, "mixes", ())
        )

    def splits(self, fractions: Mapping[str, float], seed: int = 0) -> dict[str, ListedCorpus[Item]]:
        parts = split_items(self.items, fractions, seed, self.name)
        return {name: self._of(items) for name, items in parts.items()}

    def _of(self, items: Iterable[Item]) -> ListedCorpus[Item]:
        return ListedCorpus(self.name, self.layout, self.kind, items, self.skipped, self.audio)

    @cached_property
    def _lengths(self) -> tuple[list[Item], np.ndarray, np.ndarray]:
        """The items that can be read, their lengths in samples, and the rates of these."""
        usable, frames, rates = [], [], []
        for item in self.items:
            try:
                header = self.kind.header(item, self._header)
            except MixtoolsError:
                continue
            usable.append(item)
            frames.append(header.frames)
            rates.append(header.rate)
        return usable, np.array(frames, np.int64), np.array(rates, np.int64)

    @property
    def longest_s(self) -> float:
        _, frames, rates = self._lengths
        return float((frames / rates).max(initial=0.0))

    def _pick(self, rng: np.random.Generator, index: int, n: int, rate: int) -> Item:
        usable, frames, rates = self._lengths
        if not self.items:
            raise ParameterError(f"{self.name}: nothing is left of it to draw from; keep more")
        if not usable:
            first = next(iter(self.skipped.values()))
            raise AudioError(f"{self.name}: none of its {len(self.items)} recordings can be used: {first}")
        lengths = -(-frames * rate // rates)
        weights = np.cumsum(np.where(lengths >= n, frames / rates, 0.0))
        if weights[-1] == 0:
            raise ParameterError(
                f"{self.name}: no recording is {n / rate:g} s long, the longest has {(frames / rates).max():.2f} s;"
                " give a shorter time"
            )
        return usable[int(np.searchsorted(weights, rng.random() * weights[-1], side="right"))]


class SynthCorpus(Corpus[Song]):
    """Endlessly many synthesised songs. They have no mixes: `synth.finished_mix` says how to mix one."""

    layout = "synth"

    def __init__(self, key: tuple[int, ...], keep: tuple[Callable[[Song], bool], ...] = ()) -> None:
        self.name = f"{SYNTH}{key[0]}"
        self.kind = SONGS
        self.skipped: Skipped = {}
        self.audio = Excerpts()
        self._key = key
        self._keep = keep

    def where(self, keep: Callable[[Song], bool]) -> SynthCorpus:
        return SynthCorpus(self._key, (*self._keep, keep))

    def splits(self, fractions: Mapping[str, float], seed: int = 0) -> dict[str, SynthCorpus]:
        """Endless parts without a song in common, whatever the fractions."""
        names = check_fractions(fractions)
        return {name: SynthCorpus((*self._key, seed, i), self._keep) for i, name in enumerate(names)}

    def song(self, number: int) -> Song:
        """Song number 0, 1, 2, …"""
        for attempt in range(SYNTH_SONGS_TRIED):
            # 63 bits, the most that a seed has: two numbers do not meet by chance.
            seed = int(np.random.SeedSequence([*self._key, number, attempt]).generate_state(1, np.uint64)[0] >> 1)
            made = synth(seed)
            stems = {name.removesuffix(".wav"): SynthTrack(seed, name) for name in made.stems}
            roles = {name.removesuffix(".wav"): role for name, role in made.roles.items()}
            song = Song(made.name, stems, describe=partial(About, roles, False))
            if all(keep(song) for keep in self._keep):
                return song
        raise ParameterError(f"{self.name}: {SYNTH_SONGS_TRIED} songs in a row are left out; keep more of them")

    @property
    def longest_s(self) -> float:
        return SYNTH_SECONDS

    def _pick(self, rng: np.random.Generator, index: int, n: int, rate: int) -> Song:
        """One of the few songs that this stretch of draws shares, so that they are synthesised once for all of them."""
        if n > SYNTH_SECONDS * rate:
            raise ParameterError(
                f"{self.name}: songs are {SYNTH_SECONDS:g} s long; give at most that, not {n / rate:g} s"
            )
        stretch = index // (KEPT_SONGS * DRAWS_PER_SYNTH_SONG)
        return self.song(stretch * KEPT_SONGS + int(rng.integers(KEPT_SONGS)))
