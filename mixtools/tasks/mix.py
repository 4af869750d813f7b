"""Rendering stems and a mix into a mix."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from mixtools.controls import shown
from mixtools.dsp.console import END_DB, Console, Responses
from mixtools.dsp.effect import as_block
from mixtools.dsp.source import ArraySource
from mixtools.errors import ParameterError, nearest
from mixtools.measure.loudness import LoudnessMeter
from mixtools.mix import Insert, Mix, Track

SHORTEST_PAUSE_S = 1.0
"""A tail that cannot be heard for this long, and for longer than the console's delays can be silent, has ended."""


class Sink(Protocol):
    """Takes audio block by block."""

    def write(self, block: np.ndarray) -> None: ...


@dataclass
class Rendered:
    """What a render measured: samples written, their largest, and the loudness (None where there is none)."""

    frames: int
    peak: float
    integrated_lufs: float | None

    @property
    def peak_dbfs(self) -> float | None:
        return 20 * math.log10(self.peak) if self.peak > 0 else None


def equal_gain(stems: Mapping[str, int], split_stereo: bool = False) -> Mix:
    """The sum of all stems as they are; `stems` gives each file's channels."""
    mix = Mix()
    for name, channels in stems.items():
        if split_stereo and channels == 2:
            for channel, pan in (("left", 0.0), ("right", 1.0)):
                mix.tracks.append(Track(name, channel, chain=[Insert("pan", {"pan": pan})]))
        else:
            mix.tracks.append(Track(name))
    return mix


def session_rate(asked: int | None, mix: Mix, rates: Iterable[int]) -> int:
    """The rate that is asked for, else the mix's, else the stems' most common one, the higher of two equally common."""
    if asked or mix.sample_rate:
        return asked or mix.sample_rate
    return most_common_rate(rates)


def most_common_rate(rates: Iterable[int]) -> int:
    """The rate that most stems have, the higher of two equally common."""
    counts = Counter(rates)
    return max(counts, key=lambda rate: (counts[rate], rate))


@dataclass
class Matched:
    """A mix whose tracks all have a stem; what was left out; and stems no track names."""

    mix: Mix
    missing: list[str]
    unnamed: list[str]


def match_stems(
    mix: Mix, names: Iterable[str], renamed: Mapping[str, str] | None = None, skip_missing: bool = False
) -> Matched:
    """Give every track the name of a stem that is there: the one `renamed` gives, else its own.

    Names that differ only in how Unicode composes them are the same where that leaves no doubt.
    """
    names = list(names)
    composed = Counter(_composed(name) for name in names)
    by_name = {_composed(name): name for name in names if composed[_composed(name)] == 1}
    by_name |= {name: name for name in names} | dict(renamed or {})
    tracks, missing = [], []
    for i, track in enumerate(mix.tracks):
        name = by_name.get(track.file, by_name.get(_composed(track.file)))
        if name is not None:
            tracks.append(replace(track, file=name))
            continue
        if not skip_missing:
            raise ParameterError(
                f"tracks[{i}].file is {shown(track.file)}, which is not among the stems; "
                f"give {nearest(track.file, names)}, --map NEW=OLD, or --missing skip"
            )
        missing.append(track.file)
    if not tracks:
        raise ParameterError("tracks names no stem that is there; give --map NEW=OLD, or another folder")
    used = {track.file for track in tracks}
    return Matched(replace(mix, tracks=tracks), missing, [name for name in names if name not in used])


def map_names(maps: Iterable[str], names: Iterable[str], mix: Mix) -> dict[str, str]:
    """The stem for each of the mix's names that --map speaks of ("NEW=OLD", wildcards too)."""
    names = list(names)
    known = {_composed(track.file) for track in mix.tracks}
    renamed: dict[str, str] = {}
    for entry in maps:
        for old, new in _mapped(entry, names, known).items():
            if renamed.get(old, new) != new:
                raise ParameterError(f"--map gives {shown(old)} both {shown(renamed[old])} and {shown(new)}; give one")
            renamed[old] = new
    return renamed


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _mapped(entry: str, names: list[str], known: set[str]) -> dict[str, str]:
    """The mix's names for the stems that one --map speaks of."""
    splits = [(entry[:i], entry[i + 1 :]) for i, letter in enumerate(entry) if letter == "="]
    splits = [(new, old) for new, old in splits if new and old]
    if not splits:
        raise ParameterError(f"--map is {shown(entry)}; give NEW=OLD, the stem's name and the mix file's name for it")
    # A name may hold a = of its own: the split at which a stem is found is the one that was meant.
    new, old = next((s for s in splits if s[0].count("*") == s[1].count("*") and _matches(*s, names)), splits[0])
    if new.count("*") != old.count("*"):
        raise ParameterError(f"--map is {shown(entry)}; give as many * on one side as on the other")
    matches = _matches(new, old, names)
    if not matches:
        turned = _matches(old, new, names)
        hint = (
            f"did you mean {shown(f'{old}={new}')}?" if turned else f"give NEW=OLD with NEW one of {', '.join(names)}"
        )
        raise ParameterError(f"--map is {shown(entry)}, but no stem is called {shown(new)}; {hint}")
    unknown = [name for name in matches if name not in known]
    if len(unknown) == len(matches):
        give = nearest(unknown[0], known)
        raise ParameterError(f"--map is {shown(entry)}, but no track's file is {shown(unknown[0])}; give {give}")
    return matches


def _matches(new: str, old: str, names: list[str]) -> dict[str, str]:
    """Stems that fit `new`, by what that makes of `old`: its wildcards stand for what new's stood for."""
    pattern = re.compile("(.*)".join(re.escape(_composed(part)) for part in new.split("*")), re.DOTALL)
    matches = {}
    for name in names:
        found = pattern.fullmatch(_composed(name))
        if found:
            parts = _composed(old).split("*")
            matches["".join(a + b for a, b in zip(parts, (*found.groups(), ""), strict=True))] = name
    return matches


def stem_names(mix: Mix, feeders: Iterable[int | str]) -> dict[int | str, str]:
    """File names for what feeds the master: a track's own, numbered where two tracks share one; a bus's with `bus_`."""
    names: dict[int | str, str] = {}
    for key in feeders:
        base = f"bus_{key}" if isinstance(key, str) else re.sub(r"\.[^.]*$", "", mix.tracks[key].file)
        base = re.sub(r"[/\\:]", "_", base)
        name, count = base, 1
        while f"{name}.wav" in names.values():
            count += 1
            name = f"{base}_{count}"
        names[key] = f"{name}.wav"
    return names


def length_of(console: Console, end: int | None, tail: int | None) -> tuple[int, bool]:
    """The sample a render stops at, and whether it may stop earlier, where the tail has died away."""
    if end is not None:
        return end, False
    if tail is not None:
        return console.frames + tail, False
    return console.frames + console.tail, True


def render_to(
    console: Console,
    sink: Sink,
    start: int = 0,
    end: int | None = None,
    tail: int | None = None,
    parts: Mapping[int | str, Sink] | None = None,
    progress: Callable[[int], None] = lambda done: None,
    end_db: float = END_DB,
) -> Rendered:
    """Render into `sink`, and what feeds the master into `parts`; `progress` hears how many samples are done.

    Unless an end or a tail is given, it ends where nothing is heard any more: `end_db` below full scale.
    """
    stop, may_end = length_of(console, end, tail)
    meter = LoudnessMeter(console.rate, 2)
    quiet = 10.0 ** (-end_db / 20.0)
    longest_pause = console.pause + SHORTEST_PAUSE_S * console.rate
    result = Rendered(0, 0.0, None)
    pending: list[tuple[np.ndarray, dict[int | str, np.ndarray]]] = []
    paused = 0

    def put(block: np.ndarray, pieces: dict[int | str, np.ndarray]) -> None:
        sink.write(block)
        for key, part in (parts or {}).items():
            part.write(pieces[key])
        meter.add(block)
        result.frames += block.shape[1]
        result.peak = max(result.peak, float(np.abs(block).max(initial=0.0)))

    at = start
    for block, pieces in console.blocks_and_parts(start, stop, parts=bool(parts)):
        n = block.shape[1]
        loud = _last_loud(block, quiet, at, console.frames) if may_end else n
        if loud:
            for held in pending:
                put(*held)
            pending, paused = [], 0
            put(block[:, :loud], {key: piece[:, :loud] for key, piece in pieces.items()})
        if loud < n:
            pending.append((block[:, loud:], {key: piece[:, loud:] for key, piece in pieces.items()}))
            paused += n - loud
        at += n
        progress(at - start)
        if paused > longest_pause and at > console.last_breakpoint:
            break
    result.integrated_lufs = meter.integrated_lufs
    return result


def _last_loud(block: np.ndarray, quiet: float, at: int, frames: int) -> int:
    """How much of a block has to be kept: all before the stems end, and up to the last sample that can be heard."""
    above = np.flatnonzero(np.abs(block).max(axis=0) >= quiet)
    last = int(above[-1]) + 1 if above.size else 0
    return min(max(last, frames - at, 0), block.shape[1])


def render(
    mix: Mix,
    stems: Mapping[str, np.ndarray],
    rate: float,
    *,
    responses: Responses | None = None,
    start: int = 0,
    end: int | None = None,
    tail: int | None = None,
    threads: int = 1,
) -> np.ndarray:
    """Render stems in memory, each (n,) or (channels, n), all at `rate`, to (2, n).

    Float64 where any stem is, else float32. `start`, `end` and `tail` are in samples.
    """
    mix = mix.check()
    tracks = match_stems(mix, stems).mix
    arrays = {name: _checked_stem(name, stem) for name, stem in stems.items()}
    dtype = np.result_type(np.float32, *(array.dtype for array in arrays.values()))
    sources = [ArraySource(arrays[track.file]) for track in tracks.tracks]
    console = Console(tracks, sources, rate, dtype=dtype, responses=responses, threads=threads)
    collected = _Collected()
    render_to(console, collected, start, end, tail)
    return np.concatenate([np.zeros((2, 0), dtype), *collected.blocks], axis=1)


def _checked_stem(name: str, stem: np.ndarray) -> np.ndarray:
    try:
        return as_block(stem)
    except ParameterError as error:
        raise ParameterError(f"{name}: {error}") from None


class _Collected:
    def __init__(self) -> None:
        self.blocks: list[np.ndarray] = []

    def write(self, block: np.ndarray) -> None:
        self.blocks.append(block)


def describe(mix: Mix) -> list[str]:
    """One line per strip: its effects and where it goes."""
    lines = []
    for where, strip in mix.strips():
        name = getattr(strip, "file", where.removeprefix("buses."))
        chain = ", ".join(insert.effect for insert in strip.chain) or "no effects"
        sends = "".join(f", sends to {bus}" for bus in getattr(strip, "sends", {}))
        output = getattr(strip, "output", None)
        state = "".join(f", {word}" for word in ("muted", "solo") if getattr(strip, word.replace("muted", "mute"), 0))
        lines.append(f"{name}: {chain}{f' -> {output}' if output else ''}{sends}{state}")
    return lines


def responses_named(mix: Mix, bundled: Iterable[str]) -> list[tuple[str, str]]:
    """Every impulse response file that the mix names, with the path of the control that names it."""
    return [
        (f"{where}.ir", insert.controls["ir"])
        for where, insert in mix.inserts()
        if insert.effect == "convolution" and insert.controls["ir"] not in bundled
    ]


def models_named(mix: Mix) -> list[tuple[str, str]]:
    """Every model that the mix names, with the path of the control that names it."""
    return [
        (f"{where}.model", insert.controls["model"]) for where, insert in mix.inserts() if insert.effect == "neural"
    ]
