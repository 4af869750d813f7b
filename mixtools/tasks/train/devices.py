"""Learning from recordings of a device: lining them up, their controls, what is kept apart, and examples by number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import scipy.fft
import torch

from mixtools.controls import shown
from mixtools.dsp.noise import generator
from mixtools.errors import AudioError, ParameterError, nearest
from mixtools.nets.emulator import Spec
from mixtools.tasks.emulate.evaluation import Measured
from mixtools.tasks.recordings import padded
from mixtools.tasks.train.emulate import LONGEST_S, SHORTEST_S, Batch

SPLITS = {
    "settings": "Settings of the controls that are not learned from are validated and measured with.",
    "time": "The end of every recording is measured with, and what comes before it validated with.",
    "blocks": "Of every second of every recording, a part is measured with and one validated with.",
}
VALIDATION, TEST = 0.1, 0.15
"""Shares of the settings, or of each recording."""

BLOCK_S = 1.0
"""Of a recording that is split into blocks, each of which has something of everything."""

HISTORY_S = 8.0
"""That a model hears of what went in before it is measured."""

FEWEST_SETTINGS = 6
"""With fewer, recordings are split by time unless something else is asked for."""

ALIGNED_S = 30.0
"""Of each recording that is looked at to line it up."""

REACH_S = 1.0
"""The longest latency that is found."""

WHITENING, FLOOR = 0.8, 1e-9
"""How far a correlation's spectrum is flattened, and where not: below so much of its peak."""

MOST_DIFFERENCE_S = 1.0
"""Between the lengths of what went in and what came out: a recording that began earlier or went on longer."""

SILENT = 1e-5
"""Peak below which a target holds nothing."""

WARM_S = 0.4
"""Of every example: what a device does there depends on what it heard before."""

MIXUP = 0.4
"""The thesis's largest alpha of the beta distribution."""

TAPS = 16384
"""Of a strip's learned response: devices other than reverbs have none that is longer."""

TRIES = 8
QUIET = 1e-3


class Source(Protocol):
    """What audio is read from, `mixtools.files.excerpts.Excerpts` for one."""

    def header(self, source: Any) -> Any: ...

    def read(self, source: Any, start: int, frames: int, rate: int) -> np.ndarray: ...


class Pair(Protocol):
    name: str
    input: Any
    target: Any
    controls: Mapping[str, float | str]
    split: str | None


class Corpus(Protocol):
    """Recordings of a device, `mixtools.files.corpora` for one."""

    name: str
    items: Sequence[Pair]
    audio: Source


@dataclass(frozen=True)
class Aligned:
    """A recording whose target begins `latency` samples after its input, and is `inverted` or not."""

    pair: Pair
    latency: int
    inverted: bool
    frames: int
    units: tuple[float, ...]


@dataclass(frozen=True)
class Part:
    """Samples `start` to `stop` of a recording."""

    recording: Aligned
    start: int
    stop: int

    @property
    def frames(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class DeviceData:
    """What is learned of a device: excerpts of so many seconds; mixup blends pairs of them (alpha, 0 is none)."""

    seconds: float = 1.5
    mixup: float = 0.0
    split: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not SHORTEST_S <= self.seconds <= LONGEST_S:
            raise ParameterError(f"seconds is {shown(self.seconds)}; give {SHORTEST_S:g} to {LONGEST_S:g}")
        if not 0.0 <= self.mixup <= 10.0:
            raise ParameterError(f"mixup is {shown(self.mixup)}; give 0 to 10")
        if self.split is not None and self.split not in SPLITS:
            raise ParameterError(f"split is {shown(self.split)}; give {nearest(str(self.split), SPLITS)}")


class Recordings:
    """A device's recordings, checked, lined up and split into `train`, `validation` and `test`."""

    def __init__(self, corpus: Corpus, data: DeviceData) -> None:
        self.corpus, self.data, self.name = corpus, data, corpus.name
        pairs = list(getattr(corpus, "items", ()))
        if not pairs or not hasattr(pairs[0], "target"):
            raise ParameterError(f"{corpus.name} holds no recordings of a device; give pairs of input and target")
        self.rate = corpus.audio.header(pairs[0].input).rate
        self.controls = controls_of(pairs)
        self.recordings = [self._aligned(pair) for pair in pairs]
        self.split = data.split or self._usual_split()
        dealt = {"settings": self._by_settings, "time": self._by_time, "blocks": self._by_blocks}
        self.parts = dealt[self.split]()

    def spec(self, kind: str, causal: bool = False) -> Spec:
        """A network that fits."""
        choices, column = [], 0
        for control in self.controls:
            width = len(control.get("options", " "))
            if width > 1:
                choices.append((column, width))
            column += width
        return Spec(kind, max(column, 1), tuple(choices), 1, self.rate, causal, taps=TAPS)

    def about(self) -> dict[str, Any]:
        """What a model of the device says its controls are."""
        return {"device": {"corpus": self.name, "controls": self.controls, "split": self.split}}

    def settings(self) -> list[tuple[float, ...]]:
        """Every setting that was recorded."""
        return sorted({recording.units for recording in self.recordings})

    def input(self, part: Aligned, start: int, frames: int, side: int = 0) -> np.ndarray:
        """What went in, (frames,)."""
        return self._read(part.pair.input, start, frames, side)

    def target(self, part: Aligned, start: int, frames: int, side: int = 0) -> np.ndarray:
        """What came out at the same time, the right way round, (frames,)."""
        x = self._read(part.pair.target, start + part.latency, frames, side)
        return -x if part.inverted else x

    def measured(self, split: str = "test", most_s: float = 20.0) -> Iterator[tuple[Part, Measured]]:
        """The parts of a split in pieces of at most so many seconds, with what went in and came out."""
        for part in self.parts[split]:
            step = round(most_s * self.rate)
            for start in range(part.start, part.stop, step):
                stop = min(start + step, part.stop)
                piece = Part(part.recording, start, stop)
                before = min(start, round(HISTORY_S * self.rate))
                x = self.input(part.recording, start - before, before + piece.frames)
                y = self.target(part.recording, start, piece.frames)
                yield piece, Measured(x, y, np.array(part.recording.units), before)

    def _read(self, source: Any, start: int, frames: int, side: int) -> np.ndarray:
        header = self.corpus.audio.header(source)

        def read(first: int, last: int) -> np.ndarray:
            return self.corpus.audio.read(source, first, last - first, self.rate)

        return padded(read, header.channels, header.frames, start, frames)[side % header.channels]

    def _aligned(self, pair: Pair) -> Aligned:
        into, out = (self.corpus.audio.header(source) for source in (pair.input, pair.target))
        where = f"{self.name}: {pair.name}"
        if into.rate != self.rate or out.rate != self.rate:
            other = into.rate if into.rate != self.rate else out.rate
            raise ParameterError(f"{where}: the rate is {other} Hz and of others {self.rate}; give pairs of one rate")
        if abs(into.frames - out.frames) > MOST_DIFFERENCE_S * self.rate:
            lengths = " and ".join(f"{header.frames / self.rate:.2f}" for header in (into, out))
            raise ParameterError(f"{where}: input and target are {lengths} s long; give pairs of one length")
        frames = min(into.frames, out.frames)
        held = min(frames, round(ALIGNED_S * self.rate))
        x, y = _File(self, pair.input, into), _File(self, pair.target, out)
        for what, file in (("input", x), ("target", y)):
            if np.abs(file.read(0, held)).max(initial=0.0) < SILENT and file.peak() < SILENT:
                raise AudioError(f"{where}: the {what} is only silence; give what the device made")
        latency, inverted = latency_of(x.read(0, held)[0], y.read(0, held)[0], round(REACH_S * self.rate))
        usable = min(into.frames, out.frames - latency)
        return Aligned(pair, latency, inverted, usable, units_of(self.controls, pair.controls))

    def _usual_split(self) -> str:
        published = any(recording.pair.split for recording in self.recordings)
        return "settings" if published or len(self.settings()) >= FEWEST_SETTINGS else "time"

    def _by_settings(self) -> dict[str, list[Part]]:
        """Published splits are kept; otherwise settings are dealt out, and none is in two parts."""
        settings = self.settings()
        if len(settings) < 3:
            raise ParameterError(
                f"{self.name} has {len(settings)} settings of the controls; give at least 3 to keep some apart, or "
                "split by time"
            )
        order = generator(self.data.seed, "settings").permutation(len(settings))
        tests, validations = (max(1, round(share * len(settings))) for share in (TEST, VALIDATION))
        dealt = {settings[k]: "test" for k in order[:tests]}
        dealt |= {settings[k]: "validation" for k in order[tests : tests + validations]}
        parts: dict[str, list[Part]] = {"train": [], "validation": [], "test": []}
        published = {recording.pair.split for recording in self.recordings}
        for one in self.recordings:
            name = one.pair.split or dealt.get(one.units, "train")
            if one.pair.split == "train" and "validation" not in published and dealt.get(one.units) == "validation":
                name = "validation"
            parts[name].append(Part(one, 0, one.frames))
        for name, part in parts.items():
            if not part:
                raise ParameterError(f"{self.name}: no recording is left for {name}; split by time")
        return parts

    def _by_time(self) -> dict[str, list[Part]]:
        return self._in_blocks(lambda recording: recording.frames)

    def _by_blocks(self) -> dict[str, list[Part]]:
        return self._in_blocks(lambda recording: round(BLOCK_S * self.rate))

    def _in_blocks(self, length: Callable[[Aligned], int]) -> dict[str, list[Part]]:
        """Every recording in blocks of a length; of each the beginning is learned from, and the end measured with."""
        parts: dict[str, list[Part]] = {"train": [], "validation": [], "test": []}
        for one in self.recordings:
            blocks = max(1, round(one.frames / length(one)))
            ends = np.linspace(0, one.frames, blocks + 1).round().astype(int).tolist()
            for start, stop in zip(ends[:-1], ends[1:], strict=True):
                shares = (1.0 - TEST - VALIDATION, 1.0 - TEST)
                places = [start, *(start + round((stop - start) * share) for share in shares), stop]
                for name, first, last in zip(parts, places[:-1], places[1:], strict=True):
                    parts[name].append(Part(one, first, last))
        return parts


class _File:
    """One side of a pair as the aligner reads it."""

    channels = 1

    def __init__(self, recordings: Recordings, source: Any, header: Any) -> None:
        self._recordings, self._source, self.frames = recordings, source, header.frames

    def read(self, start: int, frames: int) -> np.ndarray:
        return self._recordings._read(self._source, start, frames, 0)[None]

    def peak(self) -> float:
        step = 1 << 20
        return max(float(np.abs(self.read(at, step)).max(initial=0.0)) for at in range(0, max(self.frames, 1), step))


def controls_of(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """The controls that differ between recordings, as a model's record has them: ranges, or options."""
    names = sorted({name for pair in pairs for name in pair.controls})
    found: list[dict[str, Any]] = []
    for name in names:
        missing = next((pair for pair in pairs if name not in pair.controls), None)
        if missing is not None:
            raise ParameterError(f"{missing.name} does not say how {shown(name)} stood; give every pair all controls")
        values = [pair.controls[name] for pair in pairs]
        if any(isinstance(value, str) for value in values):
            options = sorted({str(value) for value in values})
            if len(options) > 1:
                found.append({"name": name, "options": options})
        elif min(values) < max(values):
            low, high = float(min(values)), float(max(values))
            middle = float(sorted(values)[len(values) // 2])
            found.append({"name": name, "low": low, "high": high, "default": middle})
    return found


def units_of(controls: Sequence[Mapping[str, Any]], values: Mapping[str, float | str]) -> tuple[float, ...]:
    """A setting as a vector; a device without controls has one that stands still."""
    units: list[float] = []
    for control in controls:
        value = values[control["name"]]
        if "options" in control:
            units += [float(str(value) == option) for option in control["options"]]
        else:
            units.append((float(value) - control["low"]) / (control["high"] - control["low"]))
    return tuple(units) or (0.0,)


def latency_of(x: np.ndarray, y: np.ndarray, reach: int) -> tuple[int, bool]:
    """By how many samples y is behind x (n,), at most `reach` either way, and whether it is turned upside down.

    The highest peak of a correlation in which quiet bands count almost as much as loud ones: a bass note alone would
    leave the peak wide, and a compressor moves its top.
    """
    size = scipy.fft.next_fast_len(len(x) + 2 * reach, real=True)
    heard, found = scipy.fft.rfft(np.asarray(x, np.float64), size), scipy.fft.rfft(np.asarray(y, np.float64), size)
    loudness = np.abs(heard) * np.abs(found)
    if not loudness.any():
        return 0, False
    cross = found * heard.conj() / np.maximum(loudness, FLOOR * loudness.max()) ** WHITENING
    correlation = scipy.fft.irfft(cross, size)
    near = np.concatenate([correlation[-reach:], correlation[: reach + 1]])
    peak = int(np.argmax(np.abs(near)))
    return peak - reach, bool(near[peak] < 0.0)


class DeviceExamples:
    """Excerpts of a device's recordings by number, from one of the splits."""

    def __init__(self, recordings: Recordings, batch: int, split: str = "train") -> None:
        self.recordings, self.batch, self.split = recordings, batch, split
        data, rate = recordings.data, recordings.rate
        self.frames = round(data.seconds * rate)
        self.warm = min(round(WARM_S * rate), self.frames // 3)
        longest = max(part.frames for part in recordings.parts[split])
        if recordings.split == "blocks":
            # All that is heard beyond a part only tells what the device remembers.
            shortest = min(part.frames for part in recordings.parts[split])
            self.warm = max(self.warm, self.frames - shortest)
        if split != "train":
            self.frames = min(self.frames, self.warm + longest)
        # What comes before an example may be heard, too: it is only not compared.
        self.parts = [part for part in recordings.parts[split] if part.frames >= self.frames - self.warm]
        if not self.parts:
            raise ParameterError(
                f"{recordings.name}: no part to learn from is {data.seconds:g} s long, the longest has"
                f" {longest / rate:.2f} s; give fewer seconds"
            )
        lengths = np.array([part.frames for part in self.parts], float)
        self.shares = lengths / lengths.sum()

    def plain(self) -> dict[str, Any]:
        return {"corpus": self.recordings.name, **asdict(self.recordings.data), "batch": self.batch}

    def __call__(self, number: int) -> Batch:
        rng = generator(self.recordings.data.seed, f"{self.split} {number}")
        examples = [self._example(rng) for _ in range(self.batch)]
        x, y, units = (np.stack(part) for part in zip(*examples, strict=True))
        if self.recordings.data.mixup and self.split == "train":
            share = rng.beta(self.recordings.data.mixup, self.recordings.data.mixup, self.batch)[:, None]
            partner = rng.permutation(self.batch)
            x, y, units = (share * part + (1.0 - share) * part[partner] for part in (x, y, units))
        return Batch(*(torch.from_numpy(np.asarray(part, np.float32)) for part in (x[:, None], units, y[:, None])))

    def _example(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        loudest, found = -1.0, None
        for _ in range(TRIES):
            part = self.parts[int(rng.choice(len(self.parts), p=self.shares))]
            first = part.start - self.warm
            start = first + int(rng.integers(0, part.stop - self.frames - first + 1))
            side = int(rng.integers(2))
            x = self.recordings.input(part.recording, start, self.frames, side)
            loudness = float(np.sqrt(np.mean(np.square(x[self.warm :]))))
            if loudness > loudest:
                loudest, found = loudness, (part, start, side, x)
            if loudness > QUIET:
                break
        part, start, side, x = found
        y = self.recordings.target(part.recording, start, self.frames, side)
        return x, y, np.array(part.recording.units)


def held_out_of(recordings: Recordings, batches: int, batch: int) -> list[Batch]:
    """Batches to validate with."""
    examples = DeviceExamples(recordings, batch, "validation")
    return [examples(number) for number in range(batches)]
