"""Files as recordings that can be read at any place, at the session's rate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mixtools.cli.batch import Input
from mixtools.errors import AudioError, ParameterError
from mixtools.files.excerpts import Excerpts
from mixtools.files.stems import Stem, SynthStem, at_rate, reader
from mixtools.tasks.recordings import ArrayRecording, Recording, padded

SHORTEST_MIX_S = 0.1
BLOCK = 65536


class FileRecording:
    """A file, decoded and resampled where it is read."""

    def __init__(self, excerpts: Excerpts, path: Path, rate: int):
        header = excerpts.header(path)
        self.channels = header.channels
        self.frames = header.frames_at(rate)
        self._excerpts = excerpts
        self._path = path
        self._rate = rate

    def read(self, start: int, frames: int) -> np.ndarray:
        return padded(self._part, self.channels, self.frames, start, frames)

    def _part(self, first: int, last: int) -> np.ndarray:
        return self._excerpts.read(self._path, first, last - first, self._rate)


def recordings(excerpts: Excerpts, stems: Mapping[str, Stem], rate: int) -> dict[str, Recording]:
    """A recording of every stem, by its file name."""
    return {name: recording(excerpts, stem, rate) for name, stem in stems.items()}


def recording(excerpts: Excerpts, stem: Stem, rate: int) -> Recording:
    """A stem or a mix at the session's rate."""
    if not isinstance(stem, SynthStem):
        return FileRecording(excerpts, stem.path, rate)
    source = at_rate(reader(stem), rate)
    return ArrayRecording(source.read(source.frames))


def check_finished(
    item: Input,
    start: float,
    end: float | None,
    option: str = "--",
    give: str = "the mix that the stems were made into",
) -> None:
    """Refuse a finished mix that tells nothing: too short, or silent from `start` to `end` (seconds).

    `option` begins the names of the options that these came from.
    """
    with item.open() as file:
        if file.seconds < SHORTEST_MIX_S:
            raise AudioError(f"{item.shown}: is {file.seconds:.3f} s long; give a mix of {SHORTEST_MIX_S:g} s or more")
        if start >= file.seconds:
            raise ParameterError(
                f"{option}start is {start:g}, but {item.shown} ends at {file.seconds:g} s; give an earlier start"
            )
        stop = file.seconds if end is None else min(end, file.seconds)
        if stop - start < SHORTEST_MIX_S:
            raise ParameterError(
                f"{option}start and {option}end leave {stop - start:g} s of {item.shown}; give {SHORTEST_MIX_S:g} s or"
                " more"
            )
        first, last = round(start * file.rate), round(stop * file.rate)
        sounds, at = False, 0
        while (block := file.read(BLOCK)).shape[1]:
            sounds |= bool(block[:, max(0, first - at) : max(0, last - at)].any())
            at += block.shape[1]
    if not sounds:
        where = "" if (start, stop) == (0, file.seconds) else f" from {start:g} to {stop:g} s"
        raise AudioError(f"{item.shown}: is silent{where}; give {give}")
