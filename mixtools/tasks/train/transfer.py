"""Learning to mix like a record: excerpts of stems, of records, the two regimes of 004, and what they are judged by."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from mixtools.controls import shown
from mixtools.diff.stereo_loss import stereo_distance
from mixtools.dsp.limiter import limiter
from mixtools.dsp.noise import generator
from mixtools.dsp.parametric_eq import parametric_eq
from mixtools.errors import ParameterError, nearest
from mixtools.measure.audio_features import audio_feature_loss, audio_features
from mixtools.nets.batches import Shuffled
from mixtools.nets.dmc import balanced_loudness
from mixtools.nets.foresight import (
    CONSOLES,
    Controls,
    Heard,
    Record,
    at_record_loudness,
    foresee,
    foreseen_loss,
    hear_record,
    hear_stems,
)
from mixtools.nets.processes import World
from mixtools.nets.restoring import refuse_misfit
from mixtools.nets.training import Forward, Progress, State, Storage, Training, train
from mixtools.nets.transfer import Spec, TransferController, rendered
from mixtools.presets import Preset
from mixtools.tasks.automix.levels import levels_of
from mixtools.tasks.mix import render
from mixtools.tasks.recordings import ArrayRecording, Recording
from mixtools.tasks.train.families import EFFECTS, FAMILIES, TRAINED, mixed_by
from mixtools.tasks.train.mix import HIGHEST_RATE_HZ, KEPT_BYTES, LOWEST_RATE_HZ, STRIDE, Corpus, at_loudness

METHODS = {
    "same-song": "004's method 1: a random mix of the same song, whose other half is the record; MR-STFT.",
    "records": "004's method 2: other records, and the audio-feature loss of the mix that comes out.",
    "foreseen": "Method 2 with the loss of the mix that is foreseen: many times as fast, and blind to dynamics.",
}

SECONDS = 8.0
BATCH = {"same-song": 2, "records": 4, "foreseen": 16}
LEARNING_RATE = {"same-song": 3e-4, "records": 1e-4, "foreseen": 1e-3}
MOST_STEMS = 16
LEAST_STEMS = 4
"""004 draws 4 to 16."""

ROUND_WEIGHT = 0.5
"""What a round's loss counts for against that of the next one."""

PRIOR = {"tracks": 0.004, "master": 0.015}
"""What controls cost that are far from where they start: a mix before a master, and both before none."""

FREE = "gain.gain_db", "pan.pan"
"""What may stray for nothing: it is what a mix is made of."""

FORESEEN_SHARE = 0.25
"""What foreseen losses of all rounds count for where the mix itself is heard."""

RANDOM_SPREAD = 0.7
"""Of the controls of random mixes, before they are bounded."""

RECORD_LUFS = -15.0, -9.0
"""How loud finished mixes are made before they are limited."""

_PER_STEM = "spectrograms", "peaks", "levels", "told_db", "stereo", "present"
"""What of `Heard` has stems in its second place."""

TRIES = 8
"""Places of a record that are looked at for one that is not silent."""

RECORD_ENERGY = 1e-3
"""004, section 3.1."""


@dataclass(frozen=True)
class Data:
    """What is learned from: excerpts of so many seconds, of songs of which at least and at most so many stems play.

    Where there are records to learn from, `records` is their share; the others are finished mixes of other songs: their
    own, or those that `families` make. `varied` is the share of records that are equalised, made wider, narrower or
    duller first. Excerpts are draws `apart` from each other (see `tasks.train.mix.Data`).
    """

    method: str = "foreseen"
    seconds: float = SECONDS
    rate: int = 44100
    least_stems: int = LEAST_STEMS
    most_stems: int = MOST_STEMS
    records: float = 0.5
    varied: float = 0.7
    families: tuple[str, ...] = TRAINED
    seed: int = 0
    apart: int = 1

    def __post_init__(self) -> None:
        for value in self.families:
            if value not in FAMILIES:
                raise ParameterError(f"families holds {shown(value)}; give {nearest(str(value), FAMILIES)}")
        if not self.families:
            raise ParameterError("families is empty; give at least one")
        if self.method not in METHODS:
            raise ParameterError(f"method is {shown(self.method)}; give {nearest(str(self.method), METHODS)}")
        if not 0.5 <= self.seconds <= 60.0:
            raise ParameterError(f"seconds is {shown(self.seconds)}; give 0.5 to 60")
        if not isinstance(self.rate, int) or not LOWEST_RATE_HZ <= self.rate <= HIGHEST_RATE_HZ:
            raise ParameterError(f"rate is {shown(self.rate)}; give {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz")
        if not 1 <= self.most_stems <= 1000:
            raise ParameterError(f"most_stems is {shown(self.most_stems)}; give 1 to 1000")
        if not 1 <= self.least_stems <= self.most_stems:
            raise ParameterError(f"least_stems is {shown(self.least_stems)}; give 1 to most_stems")
        for name in ("records", "varied"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ParameterError(f"{name} is {shown(value)}; give 0 to 1")
        if not 1 <= self.apart <= 10**6:
            raise ParameterError(f"apart is {shown(self.apart)}; give 1 to 1000000")


class Lesson(NamedTuple):
    """A batch: stems and records as heard, the stems' audio (songs, stems, 2, n) where mixes are rendered, and what
    comes out at best (songs, 2, n) where that is known; else both are empty."""

    heard: Heard
    record: Record
    audio: Tensor
    target: Tensor


class Kept:
    """Things by number, made when first asked for, and kept while there is room."""

    def __init__(self, make: Callable[[int], Any], count: int, kept_bytes: int) -> None:
        self.make, self.count, self.kept_bytes = make, count, kept_bytes
        self._kept: dict[int, Any] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < self.count:
            raise IndexError(index)
        if index not in self._kept:
            made = self.make(index)
            size = _bytes(made)
            if self._bytes + size > self.kept_bytes:
                return made
            self._kept[index] = made
            self._bytes += size
        return self._kept[index]


def _bytes(value: Any) -> int:
    return value.numel() * value.element_size() if isinstance(value, Tensor) else sum(map(_bytes, value))


class Lessons:
    """So many excerpts of a corpus's stems, and as many records: number and data alone decide what they are.

    `records` are at the data's rate.
    """

    def __init__(
        self,
        corpus: Corpus,
        data: Data,
        count: int,
        records: Sequence[Recording] = (),
        console: Preset = CONSOLES["transfer"],
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        self.corpus, self.data, self.count, self.recordings, self.console = corpus, data, count, records, console
        self.stems = Kept(self._pair if data.method == "same-song" else self._stems, count, kept_bytes)
        self.records = Kept(self._record, count, kept_bytes)

    def __len__(self) -> int:
        return self.count

    def pair(self, index: int, other: int, thinned: int | None = None) -> Lesson:
        """Stems `index` with record `other`; of the stems, only some that number `thinned` decides on."""
        if self.data.method == "same-song":
            return self.stems[index]
        heard, audio = self.stems[index]
        if thinned is not None:
            heard, audio = self._thinned(heard, audio, thinned)
        return Lesson(heard, self.records[other], audio, torch.zeros(1, 2, 0))

    def excerpt(self, index: int, seconds: float) -> tuple[dict[str, np.ndarray], list[float]]:
        """Some stems of a moment, at one loudness, by name, and how loud each was recorded."""
        data = self.data
        drawn = self.corpus.draw(index * data.apart, seconds, data.rate, data.seed)
        names = sorted(drawn.stems)
        rng = generator(data.seed, f"stems {index}")
        most = int(rng.integers(data.least_stems, data.most_stems + 1))
        if len(names) > most:
            names = sorted(rng.choice(names, most, replace=False).tolist())
        return levelled({name: drawn.stems[name] for name in names}, data.rate)

    def _stems(self, index: int) -> tuple[Heard, Tensor]:
        stems, told_db = self.excerpt(index, self.data.seconds)
        heard = hear_stems(list(stems.values()), told_db, self.data.rate)
        return heard, audio_of(stems) if self.data.method == "records" else torch.zeros(1, len(stems), 2, 0)

    def _thinned(self, heard: Heard, audio: Tensor, number: int) -> tuple[Heard, Tensor]:
        count = heard.present.shape[1]
        rng = generator(self.data.seed, f"thinned {number}")
        few = min(count, max(self.data.least_stems, int(rng.integers(1, 2 * count + 1))))
        kept = torch.from_numpy(np.sort(rng.choice(count, few, replace=False)))
        return chosen(heard, kept), audio[:, kept]

    def _pair(self, index: int) -> Lesson:
        """Method 1: a random mix, the record its first half, and the stems and the target of its second."""
        stems, told_db = self.excerpt(index, 2.0 * self.data.seconds)
        rate, half = self.data.rate, next(iter(stems.values())).shape[1] // 2
        audio = audio_of(stems)
        later = [stem[:, half : 2 * half] for stem in stems.values()]
        heard = hear_stems(later, told_db, rate)
        controls = random_controls(self.console, len(stems), rate, generator(self.data.seed, f"mix {index}"))
        with torch.no_grad():
            mix = at_loudness(rendered(self.console, audio, heard, controls, rate)[0].numpy(), rate)
        target = torch.from_numpy(mix[:, half : 2 * half])[None]
        return Lesson(heard, hear_record(mix[:, :half], rate), audio[..., half : 2 * half], target)

    def _record(self, index: int) -> Record:
        data = self.data
        rng = generator(data.seed, f"record {index}")
        audio = self._of_a_record(rng) if self.recordings and rng.random() < data.records else self.finished(index)
        return hear_record(varied(audio, data.rate, rng) if rng.random() < data.varied else audio, data.rate)

    def _of_a_record(self, rng: np.random.Generator) -> np.ndarray:
        recording = self.recordings[int(rng.integers(len(self.recordings)))]
        frames = round(self.data.seconds * self.data.rate)
        loudest = np.zeros((recording.channels, frames), np.float32)
        for _ in range(TRIES):
            audio = recording.read(int(rng.integers(max(1, recording.frames - frames + 1))), frames)
            if np.mean(audio**2) > np.mean(loudest**2):
                loudest = audio
            if np.mean(loudest**2) >= RECORD_ENERGY:
                break
        return loudest

    def finished(self, index: int) -> np.ndarray:
        """A finished mix (2, n) of a song of the corpus, limited as records are."""
        data = self.data
        # Far from the stems' own draws: a record is of another song.
        drawn = self.corpus.draw((self.count + index) * data.apart, data.seconds, data.rate, data.seed)
        rng = generator(data.seed, f"finished {index}")
        if drawn.mix is not None:
            return np.array(np.broadcast_to(drawn.mix, (2, drawn.mix.shape[1])))
        seed = zlib.crc32(f"{data.seed} {drawn.song.name}".encode())
        family = FAMILIES[data.families[seed % len(data.families)]]
        made = mixed_by(family, drawn.stems, drawn.song.about.roles, drawn.rate, seed, EFFECTS)
        mix = render(made, drawn.stems, drawn.rate, end=next(iter(drawn.stems.values())).shape[1])
        loud = at_loudness(mix, drawn.rate, float(rng.uniform(*RECORD_LUFS)))
        return limiter(loud, drawn.rate, ceiling_db=-1.0, release_ms=float(rng.uniform(30.0, 150.0)))


def levelled(stems: Mapping[str, np.ndarray], rate: float) -> tuple[dict[str, np.ndarray], list[float]]:
    """Stems (channels, n) at one loudness, in the order of their names, and how loud each was recorded."""
    names = sorted(stems)
    recordings = {name: ArrayRecording(np.asarray(stems[name], np.float32)) for name in names}
    levels = levels_of(recordings, rate, [(0, max(stem.shape[1] for stem in stems.values()))])
    gains = {name: np.float32(10.0 ** (levels.lift_db[name] / 20.0)) for name in names}
    return {name: stems[name] * gains[name] for name in names}, [levels.against_db[name] for name in names]


def audio_of(stems: Mapping[str, np.ndarray]) -> Tensor:
    """(1, stems, 2, n), mono ones twice."""
    return torch.from_numpy(np.stack([np.broadcast_to(stem, (2, stem.shape[1])) for stem in stems.values()]))[None]


def varied(audio: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    """A record (1 or 2, n) as it could also have been: of other colour and width, sometimes dull or to one side, seldom
    mono."""
    audio = np.array(np.broadcast_to(audio, (2, audio.shape[1])), np.float32)
    top = 0.45 * rate
    gains_db = rng.uniform(-9.0, 9.0, 4)
    bands = {"low_shelf": (60.0, 200.0), "band2": (250.0, 1500.0), "band3": (1500.0, 6000.0), "high_shelf": (5e3, 12e3)}
    controls = {}
    for (band, (low, high)), gain_db in zip(bands.items(), gains_db, strict=True):
        frequency = min(low * (high / low) ** rng.random(), top)
        controls |= {f"{band}_gain_db": float(gain_db), f"{band}_freq_hz": float(frequency)}
    audio = parametric_eq(audio, rate, **controls)
    middle, side = 0.5 * (audio[0] + audio[1]), 0.5 * (audio[0] - audio[1])
    side = side * (0.0 if rng.random() < 0.04 else 10.0 ** (rng.uniform(-9.0, 6.0) / 20.0))
    tilt = 10.0 ** (rng.uniform(-1.0, 1.0) * (4.0 if rng.random() < 0.25 else 0.6) / 20.0)
    audio = np.stack([(middle + side) * tilt, (middle - side) / tilt])
    if rng.random() < 0.25:
        audio = _dull(audio, rate, rng.uniform(9000.0, 16000.0))
    return audio.astype(np.float32)


def _dull(audio: np.ndarray, rate: float, highest_hz: float) -> np.ndarray:
    """Without what lossy files leave out."""
    spectra = np.fft.rfft(audio)
    spectra[:, round(highest_hz / rate * audio.shape[1]) :] = 0.0
    return np.fft.irfft(spectra, audio.shape[1])


def random_controls(console: Preset, stems: int, rate: float, rng: np.random.Generator) -> Controls:
    """A random mix on a console (1, stems, ...), around strips that do little; pans are anywhere."""
    spec = Spec(next(name for name, one in CONSOLES.items() if one is console))
    with torch.random.fork_rng(devices=[]):
        net = TransferController(spec, rate)
    track, master = (
        start.numpy() + RANDOM_SPREAD * rng.standard_normal((*shape, len(start)))
        for start, shape in ((net.track_start, (1, stems)), (net.master_start, (1,)))
    )
    track, master = 0.5 + 0.5 * np.tanh(track), 0.5 + 0.5 * np.tanh(master)
    track[..., console.track.labels().index("pan.pan")] = rng.random((1, stems))
    return Controls(torch.from_numpy(track).float(), torch.from_numpy(master).float())


def chosen(heard: Heard, kept: Tensor) -> Heard:
    """Some stems of a batch, by their places."""
    parts = {name: getattr(heard, name)[:, kept] for name in _PER_STEM}
    return heard._replace(**parts, powers=heard.powers[..., kept, :][..., kept])


def collated(lessons: Sequence[Lesson]) -> Lesson:
    """Lessons of one song each as one batch."""
    most = max(one.heard.present.shape[1] for one in lessons)
    heard = [_filled(one.heard, most) for one in lessons]
    audio = [pad(one.audio, (0, 0, 0, 0, 0, most - one.audio.shape[1])) for one in lessons]
    return Lesson(
        Heard(*(torch.cat(parts) for parts in zip(*heard, strict=True))),
        Record(*(torch.cat(parts) for parts in zip(*(one.record for one in lessons), strict=True))),
        torch.cat(audio),
        torch.cat([one.target for one in lessons]),
    )


def _filled(heard: Heard, most: int) -> Heard:
    more = most - heard.present.shape[1]
    parts = {}
    for name in _PER_STEM:
        value = getattr(heard, name)
        parts[name] = pad(value, (0, 0) * (value.ndim - 2) + (0, more))
    return heard._replace(**parts, powers=pad(heard.powers, (0, more, 0, more)))


@dataclass(frozen=True)
class Pairs:
    """Batches by number: all stems in turn, each time with another record, and where that costs nothing fewer stems."""

    lessons: Lessons
    batch: int
    seed: int = 0

    def __call__(self, number: int) -> Lesson:
        order = Shuffled(range(len(self.lessons)), self.batch, self.seed, list)
        thin = self.lessons.data.method == "foreseen"
        made = []
        for place, index in enumerate(order(number)):
            at = number * self.batch + place
            other = int(generator(self.seed, f"record of {at}").integers(len(self.lessons.records)))
            made.append(self.lessons.pair(index, other, at if thin else None))
        return collated(made)


def loss_of(net: TransferController, method: str) -> Callable[[Forward, Lesson], dict[str, Tensor]]:
    """What is learned from, by method: the loss of the last round's mix, and less so those of the rounds before."""

    def loss(forward: Forward, lesson: Lesson) -> dict[str, Tensor]:
        rounds = forward(lesson.heard, lesson.record)
        prior = _prior(net, lesson, rounds[-1])
        if method == "same-song":
            mix = rendered(net.console, lesson.audio, lesson.heard, rounds[-1], net.rate)
            judged = stereo_distance(balanced_loudness(mix, net.rate, lesson.target), lesson.target, STRIDE)
            return {"loss": judged + prior, "judged": judged}
        foreseen = torch.stack([_foreseen(net, lesson, controls) for controls in rounds])
        weights = ROUND_WEIGHT ** torch.arange(len(rounds) - 1, -1, -1.0, device=foreseen.device)
        ahead = (weights * foreseen).sum() / weights.sum()
        if method == "foreseen":
            return {"loss": ahead + prior, "judged": foreseen[-1]}
        judged = rendered_loss(net, lesson, rounds[-1]).mean()
        return {"loss": judged + FORESEEN_SHARE * ahead + prior, "judged": judged}

    return loss


def _foreseen(net: TransferController, lesson: Lesson, controls: Controls) -> Tensor:
    return foreseen_loss(foresee(lesson.heard, net.console, controls, net.rate), lesson.record).mean()


def rendered_loss(net: TransferController, lesson: Lesson, controls: Controls) -> Tensor:
    """The guarded audio-feature loss (songs,) of mixes, at -16 LUFS."""
    mix = rendered(net.console, lesson.audio, lesson.heard, controls, net.rate)
    found = audio_features(at_record_loudness(mix, net.rate), net.rate)
    return audio_feature_loss(found, lesson.record.features)["total"]


def _prior(net: TransferController, lesson: Lesson, controls: Controls) -> Tensor:
    track, master = (0.5 + 0.5 * torch.tanh(start) for start in (net.track_start, net.master_start))
    strayed = (controls.tracks - track).square()
    # How loud a stem is, and where it stands, is free.
    free = torch.tensor([float(label not in FREE) for label in net.console.track.labels()]).to(track)
    of_tracks = (strayed * free)[lesson.heard.present].mean()
    return PRIOR["tracks"] * of_tracks + PRIOR["master"] * (controls.master - master).square().mean()


def validation_of(lessons: Lessons, method: str, batch: int) -> Callable[[nn.Module], float]:
    """The mean loss of what comes out, over as many pairs as there are lessons."""

    def validate(model: nn.Module) -> float:
        loss, device = loss_of(model, method), next(model.parameters()).device
        total = 0.0
        for first in range(0, len(lessons), batch):
            part = range(first, min(first + batch, len(lessons)))
            made = collated([lessons.pair(k, (k + 1) % len(lessons)) for k in part])
            made = Lesson(
                *(type(x)(*(y.to(device) for y in x)) if isinstance(x, tuple) else x.to(device) for x in made)
            )
            total += float(loss(model, made)["judged"]) * len(part)
        return total / len(lessons)

    return validate


def papers_training(method: str, steps: int, seed: int = 0, batch: int | None = None) -> Training:
    """A schedule for a method: half the rate where validations are in vain."""
    every = max(1, round(800 / (batch or BATCH[method])))
    return Training(
        steps,
        seed=seed,
        rate=LEARNING_RATE[method],
        rate_factor=0.5,
        rate_patience=6,
        validate_every=every,
        save_every=every,
        clip_norm=1.0,
    )


def new_controller(spec: Spec, rate: float, seed: int = 0) -> TransferController:
    """An untrained model; the same seed gives the same one."""
    torch.manual_seed(seed)
    return TransferController(spec, rate)


def start_from(net: TransferController, state: Mapping[str, Tensor], where: str) -> None:
    """Let a model begin with what another of its kind has learned, by either method.

    Raises a `ParameterError` where the weights do not fit.
    """
    refuse_misfit(net.state_dict(), state, where, "give a transfer model of the same console, width and layers")
    net.load_state_dict(dict(state))


def train_transfer(
    net: TransferController,
    lessons: Lessons,
    held_out: Lessons,
    config: Training,
    storage: Storage,
    batch: int,
    world: World | None = None,
    progress: Callable[[Progress], None] = lambda now: None,
) -> State:
    """Train a controller on lessons, from where its storage says it is; the weights best on `held_out` are kept.

    What the record is about is what `tasks.transfer.controller.Controller.load` takes.
    """
    method = lessons.data.method
    if held_out.data.method != method:
        raise ParameterError(f"method is {held_out.data.method} for what is held out; give {method} for both")
    for one in (lessons, held_out):
        if one.data.rate != net.rate:
            raise ParameterError(f"rate is {one.data.rate} in the data; give {net.rate:g}, the model's")
        if one.console is not net.console:
            raise ParameterError(f"console is {one.console.name} in the data; give {net.console.name}, the model's")
    about = {
        "network": net.plain(),
        "corpus": lessons.corpus.name,
        "data": asdict(lessons.data),
        "excerpts": len(lessons),
        "records": len(lessons.recordings),
        "held_out": asdict(held_out.data),
        "batch": batch,
    }
    return train(
        net,
        loss_of(net, method),
        Pairs(lessons, batch, config.seed),
        config,
        storage,
        about,
        validation_of(held_out, method, batch),
        world,
        progress,
    )
