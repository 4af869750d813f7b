"""Folders of stems, opened and checked before any work starts."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from mixtools.errors import AudioError, ParameterError
from mixtools.files.reading import AudioFile, Resampled, list_audio
from mixtools.files.riff import Bext

SYNTH = "synth:"

LATEST_TIME_REFERENCE = 2**64
"""What a broadcast extension has room for, in samples."""


class SynthStem:
    """A stem of a synthesised song: the same interface as a file's."""

    path: Path | None = None
    bext: Bext | None = None

    def __init__(self, samples: np.ndarray, rate: int):
        self.samples = samples
        self._at = 0
        self.rate = rate
        self.channels, self.frames = samples.shape
        self.tags: dict[str, str] = {}

    def read(self, n: int) -> np.ndarray:
        block = self.samples[:, self._at : self._at + n]
        self._at += block.shape[1]
        return block

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self) -> SynthStem:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


Stem = AudioFile | SynthStem


def open_stems(arguments: list[str]) -> tuple[dict[str, Stem], dict[str, AudioError]]:
    """Stems by file name: those of one folder, or the files that are named, or of the song `synth:SEED`.

    Files that cannot be used come apart, each with what is wrong with it: perhaps nobody wants them.
    """
    if "" in arguments:
        raise ParameterError("STEMS is empty; give a folder of stems")
    if len(arguments) == 1 and arguments[0].startswith(SYNTH):
        return _synth_stems(arguments[0]), {}
    if len(arguments) == 1 and (Path(arguments[0]).is_dir() or not Path(arguments[0]).exists()):
        paths = list_audio(arguments[0])
    else:
        folders = [argument for argument in arguments if Path(argument).is_dir()]
        if folders:
            raise ParameterError(f"{folders[0]} is a folder among other stems; give one folder, or only files")
        paths = [Path(argument) for argument in arguments]
    stems: dict[str, Stem] = {}
    broken: dict[str, AudioError] = {}
    seen: dict[str, Path] = {}
    for path in paths:
        if path.name in seen:
            raise ParameterError(f"{path} has the same name as {seen[path.name]}; give every stem its own name")
        seen[path.name] = path
        try:
            stems[path.name] = AudioFile(path)
        except AudioError as error:
            broken[path.name] = error
    return stems, broken


def _synth_stems(argument: str) -> dict[str, Stem]:
    from mixtools.synth import synth_song

    seed = argument.removeprefix(SYNTH)
    if not seed.isdecimal() or int(seed) >= 2**63:
        raise ParameterError(f"{argument} names no song; give {SYNTH}SEED with a whole number, as in {SYNTH}7")
    song = synth_song(int(seed))
    return {name: SynthStem(samples, song.rate) for name, samples in song.stems.items()}


def agreed_tags(stems: list[Stem]) -> dict[str, str]:
    """The tags that all stems carry with the same text."""
    first = stems[0].tags if stems else {}
    return {key: text for key, text in first.items() if all(stem.tags.get(key) == text for stem in stems)}


def agreed_bext(stems: list[Stem], rate: int, start: int) -> Bext | None:
    """The broadcast extension for a mix that begins `start` samples into the stems, where all stems agree on the time.

    Other fields are carried where they agree, too.
    """
    extensions = [stem.bext for stem in stems]
    if not extensions or None in extensions:
        return None
    times = {stem.bext.time_reference / stem.rate for stem in stems}
    if len(times) > 1:
        return None
    agreed: dict[str, Any] = {
        item.name: getattr(extensions[0], item.name)
        for item in fields(Bext)
        if len({getattr(extension, item.name) for extension in extensions}) == 1
    }
    time_reference = round(times.pop() * rate) + start
    return Bext(**agreed | {"time_reference": time_reference}) if time_reference < LATEST_TIME_REFERENCE else None


def reader(stem: Stem) -> Stem:
    """The stem again, to be read from its beginning: a mix may use one more than once."""
    return SynthStem(stem.samples, stem.rate) if isinstance(stem, SynthStem) else AudioFile(stem.path)


def at_rate(stem: Stem, rate: int) -> Stem | Resampled:
    """The stem itself, or resampled where its rate differs."""
    return stem if stem.rate == rate else Resampled(stem, rate)
