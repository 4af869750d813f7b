"""Random access to audio: any excerpt at any rate, without reading the files before it."""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mixtools.errors import ParameterError
from mixtools.files.reading import HIGHEST_RATE_HZ, LOWEST_RATE_HZ, AudioFile

if TYPE_CHECKING:
    from mixtools.synth import Song as SynthSong

KEPT_FILES = 64
KEPT_SONGS = 4
"""Synthesised songs that stay in memory, about 100 MB each."""

SYNTH_SECONDS = 30.0

_MARGIN_S = 0.05
"""Longer than the resampler's filter at the lowest rate, so that an excerpt's ends are as if the rest were there."""


@dataclass(frozen=True)
class SynthTrack:
    """A stem of the song that is synthesised from a seed."""

    seed: int
    name: str


AudioSource = Path | SynthTrack


class Header(NamedTuple):
    """A file's rate in Hz, its number of channels, and its length in samples."""

    rate: int
    channels: int
    frames: int

    def frames_at(self, rate: int) -> int:
        """The length at another rate, rounded up."""
        return -(-self.frames * rate // self.rate)


class Excerpts:
    """Reads excerpts of files and synthesised songs; files that were read lately stay open.

    It may be shared by threads, inherited by a forked process and sent to a spawned one.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._files: OrderedDict[Path, AudioFile] = OrderedDict()
        self._headers: dict[Path, Header] = {}

    def __reduce__(self):
        return (Excerpts, ())

    def header(self, source: AudioSource) -> Header:
        """What a file's header says; it is read once."""
        if isinstance(source, SynthTrack):
            song = synth(source.seed)
            channels, frames = song.stems[source.name].shape
            return Header(song.rate, channels, frames)
        if source not in self._headers:
            self._put_back(self._take(source))
        return self._headers[source]

    def read(self, source: AudioSource, start: int, frames: int, rate: int) -> np.ndarray:
        """An excerpt at `rate`, float32 of shape (channels, frames); silence after the end.

        `start` and `frames` are samples at `rate`. The samples are those of the whole file resampled to `rate`.
        """
        if start < 0 or frames < 1:
            raise ParameterError(
                f"an excerpt of {frames} samples from {start} on is none; give a start of 0 or later, and 1 or more"
            )
        if not LOWEST_RATE_HZ <= rate <= HIGHEST_RATE_HZ:
            raise ParameterError(f"rate is {rate}; give {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz")
        if isinstance(source, SynthTrack):
            samples = synth(source.seed).stems[source.name]
            return _at_rate(lambda first, last: samples[:, first:last], self.header(source), start, frames, rate)
        file = self._take(source)
        try:
            excerpt = _at_rate(lambda first, last: _part(file, first, last), _header(file), start, frames, rate)
        except BaseException:
            file.close()
            raise
        self._put_back(file)
        return excerpt

    def _take(self, path: Path) -> AudioFile:
        """The file for one reader alone: whoever asks meanwhile opens it once more."""
        if self._process != os.getpid():
            # A forked process shares its parent's file positions: it must not move them.
            self._process, self._files = os.getpid(), OrderedDict()
        return self._files.pop(path, None) or AudioFile(path, printable(path))

    def _put_back(self, file: AudioFile) -> None:
        self._headers[file.path] = _header(file)
        same = self._files.pop(file.path, None)
        if same is not None:
            same.close()
        self._files[file.path] = file
        if len(self._files) > KEPT_FILES:
            self._files.popitem(last=False)[1].close()

    def close(self) -> None:
        """Close all files; a later read opens them again."""
        for file in self._files.values():
            file.close()
        self._files.clear()


@lru_cache(maxsize=KEPT_SONGS)
def synth(seed: int) -> SynthSong:
    """The song of a seed; the last few stay in memory."""
    from mixtools.synth import synth_song

    return synth_song(seed, SYNTH_SECONDS)


def printable(path: Path) -> str:
    """A file's name on one line, whatever bytes it has."""
    return "".join(c if c.isprintable() else "?" for c in str(path))


def _header(file: AudioFile) -> Header:
    return Header(file.rate, file.channels, file.frames)


def _part(file: AudioFile, first: int, last: int) -> np.ndarray:
    file.seek(first)
    return file.read(last - first)


def _at_rate(read: Callable[[int, int], np.ndarray], header: Header, start: int, frames: int, rate: int) -> np.ndarray:
    """An excerpt (channels, frames) at `rate` from what `read(first, last)` gives at the source's own.

    Samples of both rates coincide every `period` of the source's: resampling begins at such a place.
    """
    excerpt = np.zeros((header.channels, frames), np.float32)
    held = min(frames, header.frames_at(rate) - start)
    if held <= 0:
        return excerpt
    if rate == header.rate:
        excerpt[:, :held] = read(start, start + held)
        return excerpt
    import soxr

    common = math.gcd(rate, header.rate)
    period, period_out = header.rate // common, rate // common
    margin = math.ceil(_MARGIN_S * header.rate)
    periods = max(0, (start * header.rate // rate - margin) // period)
    last = min(header.frames, -(-(start + held) * header.rate // rate) + margin)
    samples = np.ascontiguousarray(read(periods * period, last).T)
    resampled = soxr.resample(samples, header.rate, rate, quality="VHQ").T
    part = resampled[:, start - periods * period_out :][:, :held]
    excerpt[:, : part.shape[1]] = part
    return excerpt
