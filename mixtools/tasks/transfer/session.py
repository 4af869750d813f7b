"""The parts of a song that a mix is judged by, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mixtools.controls import EFFECTS, SEND, Control, Curve
from mixtools.dsp.console import Chain, Console, Responses
from mixtools.dsp.source import PlacedSource
from mixtools.measure.loudness import LoudnessMeter
from mixtools.mix import Insert, Mix, Track
from mixtools.tasks.excerpts import Range, choose_excerpts
from mixtools.tasks.recordings import ArrayRecording, Playing, Recording

MOST_S, PIECE_S = 30.0, 5.0
"""What of a song is listened to: pieces of it, so that every stem is heard where it is loud."""

BEFORE_S = 1.0
"""Heard before every piece and not judged, so that effects have found their state."""


class Session:
    """Parts of stems at a rate, one after the other, and mixes of them."""

    def __init__(
        self,
        stems: Mapping[str, Recording],
        rate: int,
        *,
        start: int = 0,
        end: int | None = None,
        most_s: float = MOST_S,
        threads: int = 1,
        responses: Responses | None = None,
    ):
        self.rate, self.threads, self.responses = rate, threads, responses
        self._whole = ordered = {name: stems[name] for name in sorted(stems)}
        self._start, self._end = start, end
        self.ranges: list[Range] = choose_excerpts(ordered, None, rate, most_s, PIECE_S, start, end)
        self._played: list[Range] = []
        self.kept: list[slice] = []
        at = 0
        for first, last in self.ranges:
            begin = max(0, first - round(BEFORE_S * rate))
            self._played.append((begin, last))
            self.kept.append(slice(at + first - begin, at + last - begin))
            at += last - begin
        self.frames = at
        self.stems = {name: _joined(stem, self._played) for name, stem in ordered.items()}

    def rendered(self, mix: Mix) -> np.ndarray:
        """The parts of a mix, one after the other, (2, n)."""
        mix = self.in_its_time(mix)
        sources = [Playing(ArrayRecording(self.stems[track.file])) for track in mix.tracks]
        console = Console(mix, sources, self.rate, threads=self.threads, responses=self.responses)
        return self.cut(np.concatenate(list(console.blocks(0, self.frames)), axis=1))

    def cut(self, x: np.ndarray) -> np.ndarray:
        """What is judged of (channels, n)."""
        return np.concatenate([x[:, part] for part in self.kept], axis=1)

    def louder_lu(self, mix: Mix) -> float:
        """By how much the parts of a mix are louder than all of it; 0 where either has no loudness."""
        frames = max(stem.frames for stem in self._whole.values())
        end = frames if self._end is None else min(self._end, frames)
        if self.ranges == [(self._start, end)]:
            return 0.0
        parts, whole = LoudnessMeter(self.rate, 2), LoudnessMeter(self.rate, 2)
        parts.add(self.rendered(mix))
        sources = [Playing(self._whole[track.file]) for track in mix.tracks]
        console = Console(mix, sources, self.rate, threads=self.threads, responses=self.responses)
        for block in console.blocks(self._start, end):
            whole.add(block)
        if parts.integrated_lufs is None or whole.integrated_lufs is None:
            return 0.0
        return parts.integrated_lufs - whole.integrated_lufs

    def placed(self, track: Track) -> np.ndarray:
        """A track's stem where its chain begins, (channels, n)."""
        stem = Playing(ArrayRecording(self.stems[track.file]))
        source = PlacedSource(stem, track.channel, track.offset_ms * self.rate / 1000, np.dtype(np.float32))
        return source.read(self.frames)

    def through(self, inserts: Sequence[Insert], x: np.ndarray) -> np.ndarray:
        """Audio (channels, n) after effects, in time."""
        chain = Chain(list(inserts), self.rate, len(x), np.float32, responses=self.responses)
        y = chain.process(np.concatenate([x, np.zeros((len(x), chain.latency), x.dtype)], axis=1))
        return y[:, chain.latency :]

    def in_its_time(self, mix: Mix) -> Mix:
        """A mix whose automation is where the parts are."""
        copy = Mix.from_plain(mix.to_plain())
        for _, insert in copy.inserts():
            insert.controls = {
                name: self._moved(value, EFFECTS[insert.effect][name]) for name, value in insert.controls.items()
            }
        for _, strip in copy.strips():
            if getattr(strip, "sends", None):
                strip.sends = {bus: self._moved(level, SEND) for bus, level in strip.sends.items()}
        return replace(copy, notes={})

    def _moved(self, value: Any, control: Control) -> Any:
        if not isinstance(value, Curve):
            return value
        points: list[tuple[float, float]] = []
        at = 0.0
        for first, last in self._played:
            begin, end = first / self.rate, last / self.rate
            inside = [seconds for seconds, _ in value.points if begin < seconds < end - 1e-3]
            times = np.array([begin, *inside, end - 1e-3])
            levels = value.at(times, control)
            points += [(float(at + t - begin), float(level)) for t, level in zip(times, levels, strict=True)]
            at += end - begin
        return Curve(tuple(points))


def _joined(stem: Recording, ranges: list[Range]) -> np.ndarray:
    parts = [stem.read(first, last - first) for first, last in ranges]
    return np.concatenate([np.zeros((stem.channels, 0), np.float32), *parts], axis=1)


def steady(insert: Insert) -> bool:
    """Whether nothing about an effect moves."""
    return not any(isinstance(value, Curve) for value in insert.controls.values())
