"""Learning to mix: excerpts of songs and what was made of them, batches, the loss, and how near a mix comes."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from mixtools.controls import shown
from mixtools.diff.stereo_loss import stereo_distance
from mixtools.dsp.noise import generator
from mixtools.errors import ParameterError, nearest
from mixtools.measure.distance import sum_difference_mr_stft
from mixtools.measure.loudness import LoudnessMeter
from mixtools.mix import Mix
from mixtools.nets.batches import Shuffled
from mixtools.nets.dmc import LEVELS, Channel, MixingConsole, Songs, Spec, balanced_loudness, patches_of
from mixtools.nets.processes import World
from mixtools.nets.training import Forward, Progress, State, Storage, Training, train
from mixtools.tasks.automix.baselines import baseline
from mixtools.tasks.automix.levels import levels_of
from mixtools.tasks.mix import render
from mixtools.tasks.recordings import ArrayRecording
from mixtools.tasks.train.families import DRY, EFFECTS, FAMILIES, TRAINED, mixed_by

SECONDS = 5.0
"""Excerpts of less did not do for the papers."""

MOST_STEMS = {"basic": 16, "full": 6}
BATCH = {"basic": 16, "full": 2}
LEARNING_RATE = 3e-4
EPOCH = 100
"""Excerpts between two validations."""

LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 8000, 192_000
STRIDE = 4
"""Of the loss's frames while learning: those that are left still overlap, and a step takes half the time."""

TARGET_LUFS = -16.0
KEPT_BYTES = 2 << 30
"""Excerpts that stay in memory with what was made of them; the others are made anew each time."""

MOST_CARELESS_DB = 6.0
"""How far from their mix stems stray that come roughly balanced."""

RANDOM_MIXES = 4
"""That a song's distance is compared with."""


class Song(Protocol):
    name: str
    mixes: Mapping[str, Any]

    @property
    def inputs(self) -> Mapping[str, Any]: ...

    @property
    def about(self) -> Any: ...


class Excerpt(Protocol):
    """A moment of a song: stems and mix (if any), float32 (channels, n)."""

    song: Song
    rate: int
    stems: Mapping[str, np.ndarray]
    mix: np.ndarray | None


class Corpus(Protocol):
    """Songs, `mixtools.files.corpora` for one."""

    name: str

    def draw(self, index: int, seconds: float, rate: int, seed: int = 0) -> Any: ...

    def where(self, keep: Callable[[Any], bool]) -> Any: ...


@dataclass(frozen=True)
class Data:
    """What is learned from: excerpts of so many seconds, of songs with at most so many stems.

    `families` are for songs that have no mix: each is mixed by one of them, once for all, and where it has more stems,
    some are drawn. `effects` are what these mixes may use; a song that has a mix keeps it. Excerpts are draws `apart`
    from each other: of synthesised songs, 64 draws in a row share four, so that 64 gives every excerpt its own song.
    `balanced` is the share of those without a mix whose stems come roughly as loud as they are in it, as stems that
    others give away often do.
    """

    seconds: float = SECONDS
    rate: int = 44100
    most_stems: int = MOST_STEMS["basic"]
    families: tuple[str, ...] = TRAINED
    effects: tuple[str, ...] = DRY
    levels: str = "told"
    balanced: float = 0.5
    seed: int = 0
    apart: int = 1

    def __post_init__(self) -> None:
        for name, known in (("families", FAMILIES), ("effects", EFFECTS)):
            for value in getattr(self, name):
                if value not in known:
                    raise ParameterError(f"{name} holds {shown(value)}; give {nearest(str(value), known)}")
        if self.levels not in LEVELS:
            raise ParameterError(f"levels is {shown(self.levels)}; give {nearest(str(self.levels), LEVELS)}")
        if not 0.0 <= self.balanced <= 1.0:
            raise ParameterError(f"balanced is {shown(self.balanced)}; give 0 to 1")
        if not self.families:
            raise ParameterError("families is empty; give at least one")
        if not 0.1 <= self.seconds <= 600.0:
            raise ParameterError(f"seconds is {shown(self.seconds)}; give 0.1 to 600")
        if not isinstance(self.rate, int) or not LOWEST_RATE_HZ <= self.rate <= HIGHEST_RATE_HZ:
            raise ParameterError(f"rate is {shown(self.rate)}; give {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz")
        if not 1 <= self.apart <= 10**6:
            raise ParameterError(f"apart is {shown(self.apart)}; give 1 to 1000000")
        if not 1 <= self.most_stems <= 1000:
            raise ParameterError(f"most_stems is {shown(self.most_stems)}; give 1 to 1000")


class Lesson(NamedTuple):
    """One excerpt as a model learns from it: stems (channels, n), their patches and levels, and the target."""

    stems: list[Tensor]
    patches: Tensor
    levels_db: Tensor
    target: Tensor

    @property
    def bytes(self) -> int:
        return sum(x.numel() * x.element_size() for x in (*self.stems, self.patches, self.levels_db, self.target))


class Lessons(Sequence[Lesson]):
    """So many excerpts of a corpus, by number: number and data alone decide what they are."""

    def __init__(self, corpus: Corpus, data: Data, count: int, kept_bytes: int = KEPT_BYTES) -> None:
        self.corpus = corpus.where(lambda song: not song.mixes or len(song.inputs) <= data.most_stems)
        self.data, self.count, self.kept_bytes = data, count, kept_bytes
        self._kept: dict[int, Lesson] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Lesson:
        if not 0 <= index < self.count:
            raise IndexError(index)
        if index in self._kept:
            return self._kept[index]
        stems, target = self.example(index)
        made = lesson(stems, target, self.data)
        if self._bytes + made.bytes <= self.kept_bytes:
            self._kept[index] = made
            self._bytes += made.bytes
        return made

    def example(self, index: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The stems of an excerpt as they were recorded, and their mix (2, n)."""
        data = self.data
        excerpt = self.corpus.draw(index * data.apart, data.seconds, data.rate, data.seed)
        names = sorted(excerpt.stems)
        if len(names) > data.most_stems:
            names = sorted(
                generator(data.seed, f"stems {index}").choice(names, data.most_stems, replace=False).tolist()
            )
        stems = {name: excerpt.stems[name] for name in names}
        if excerpt.mix is not None:
            return stems, _finished(excerpt.mix, excerpt.rate)
        # Every song is mixed once, by one family, wherever an excerpt of it begins.
        seed = zlib.crc32(f"{data.seed} {excerpt.song.name}".encode())
        family = FAMILIES[data.families[seed % len(data.families)]]
        made = mixed_by(family, stems, excerpt.song.about.roles, excerpt.rate, seed, data.effects)
        target = _finished(render(made, stems, excerpt.rate, end=next(iter(stems.values())).shape[1]), excerpt.rate)
        rng = generator(data.seed, f"balance {index}")
        return (roughly_balanced(stems, made, rng) if rng.random() < data.balanced else stems), target


def roughly_balanced(stems: Mapping[str, np.ndarray], mix: Mix, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Stems about as loud as a mix makes them with its faders: each as far off as a song's carelessness has it."""
    careless_db = rng.uniform(0.0, MOST_CARELESS_DB)
    found = {}
    for track in mix.tracks:
        fader_db = sum(insert.controls["gain_db"] for insert in track.chain if insert.effect == "gain")
        gain_db = fader_db + careless_db * rng.standard_normal()
        found[track.file] = stems[track.file] * np.float32(10.0 ** (gain_db / 20.0))
    return found


def _finished(mix: np.ndarray, rate: int) -> np.ndarray:
    """A mix as a target, (2, n) at -16 LUFS."""
    return at_loudness(np.broadcast_to(mix, (2, mix.shape[1])), rate)


def at_loudness(mix: np.ndarray, rate: float, lufs: float = TARGET_LUFS) -> np.ndarray:
    """A mix (2, n) at a loudness; as it is where it has none."""
    meter = LoudnessMeter(rate, 2)
    meter.add(np.ascontiguousarray(mix, np.float32))
    found = meter.integrated_lufs
    return np.array(mix, np.float32) if found is None else (mix * 10.0 ** ((lufs - found) / 20.0)).astype(np.float32)


def lesson(stems: Mapping[str, np.ndarray], target: np.ndarray, data: Data) -> Lesson:
    """What a model hears of an excerpt; stems come in the order of their names."""
    names = sorted(stems)
    recordings = {name: ArrayRecording(np.asarray(stems[name], np.float32)) for name in names}
    levels = levels_of(recordings, data.rate, [(0, target.shape[1])])
    heard = []
    for name in names:
        gain_db = 0.0 if data.levels == "raw" else levels.lift_db[name]
        heard.append(np.asarray(stems[name], np.float32) * np.float32(10.0 ** (gain_db / 20.0)))
    patches = torch.stack([patches_of(audio, data.rate) for audio in heard])
    against = torch.tensor([levels.against_db[name] for name in names])
    return Lesson([torch.from_numpy(audio) for audio in heard], patches, against, torch.from_numpy(target))


def collated(lessons: Sequence[Lesson]) -> Songs:
    """Lessons as one batch."""
    most = max(len(one.stems) for one in lessons)
    channels = max(len(stem) for one in lessons for stem in one.stems)
    frames = lessons[0].target.shape[1]
    stems = torch.zeros(len(lessons), most, channels, frames)
    stereo = torch.zeros(len(lessons), most, dtype=torch.bool)
    present = torch.zeros(len(lessons), most, dtype=torch.bool)
    for i, one in enumerate(lessons):
        present[i, : len(one.stems)] = True
        for k, stem in enumerate(one.stems):
            stems[i, k] = stem
            stereo[i, k] = len(stem) == 2
    patches = torch.stack([pad(one.patches, (0, 0, 0, 0, 0, 0, 0, most - len(one.stems))) for one in lessons])
    levels = torch.stack([pad(one.levels_db, (0, most - len(one.stems))) for one in lessons])
    return Songs(stems, stereo, present, patches, levels, torch.stack([one.target for one in lessons]))


def loss_of(rate: float, levels: str) -> Callable[[Forward, Songs], Tensor]:
    """The papers' loss from a quarter of its frames; but with raw levels, mixes come at the target's loudness."""

    def loss(forward: Forward, songs: Songs) -> Tensor:
        mixes = forward(songs)
        if levels != "raw":
            mixes = balanced_loudness(mixes, rate, songs.target)
        return stereo_distance(mixes, songs.target, STRIDE)

    return loss


def validation_of(lessons: Sequence[Lesson], rate: float, levels: str, batch: int) -> Callable[[nn.Module], float]:
    """The mean loss over lessons, of a model in eval mode."""
    loss = loss_of(rate, levels)

    def validate(model: nn.Module) -> float:
        device = next(model.parameters()).device
        total = 0.0
        for first in range(0, len(lessons), batch):
            part = [lessons[i] for i in range(first, min(first + batch, len(lessons)))]
            songs = Songs(*(x.to(device) for x in collated(part)))
            total += float(loss(model, songs)) * len(part)
        return total / len(lessons)

    return validate


def papers_training(kind: str, steps: int, seed: int = 0, batch: int | None = None) -> Training:
    """The papers' schedule: half the rate after 200 epochs of 100 excerpts in vain, the end after 500."""
    size = batch or BATCH[kind]
    epoch = max(1, round(EPOCH / size))
    return Training(
        steps,
        seed=seed,
        rate=LEARNING_RATE,
        rate_factor=0.5,
        rate_patience=200,
        stop_patience=500,
        validate_every=epoch,
        save_every=epoch,
        clip_norm=10.0,
    )


class Mixer(Protocol):
    """A network that mixes: `nets.dmc.MixingConsole`, or `nets.wave_u_net.DirectMixer`."""

    def plain(self) -> dict[str, Any]: ...

    def __call__(self, songs: Songs) -> Tensor: ...


def new_console(spec: Spec, rate: float, seed: int = 0, channel: Channel | None = None) -> MixingConsole:
    """An untrained model; the same seed gives the same one. `channel` is a network that plays what it sets."""
    torch.manual_seed(seed)
    return MixingConsole(spec, rate, channel)


def train_mixer(
    net: Mixer,
    lessons: Lessons,
    held_out: Lessons,
    config: Training,
    storage: Storage,
    batch: int,
    world: World | None = None,
    progress: Callable[[Progress], None] = lambda now: None,
    channel: str | None = None,
) -> State:
    """Train a network on lessons, from where its storage says it is; the weights that are best on `held_out` are kept.

    What the record is about is what `tasks.automix.model.Model.load` takes; `channel` names the network, if any, that
    plays what it sets.
    """
    about = {
        "network": net.plain(),
        "corpus": lessons.corpus.name,
        "data": asdict(lessons.data),
        "excerpts": len(lessons),
        "held_out": asdict(held_out.data),
        "batch": batch,
        **({} if channel is None else {"channel": channel}),
    }
    rate, levels = lessons.data.rate, lessons.data.levels
    for one in (lessons.data, held_out.data):
        if one.levels != about["network"]["levels"]:
            raise ParameterError(f"levels is {shown(one.levels)} in the data and not in the model; give one of both")
    return train(
        net,
        loss_of(rate, levels),
        Shuffled(lessons, batch, config.seed, collated),
        config,
        storage,
        about,
        validation_of(held_out, rate, levels, batch),
        world,
        progress,
    )


def sound_of(net: nn.Module, stems: Mapping[str, np.ndarray], data: Data) -> np.ndarray:
    """What a network makes of stems (channels, n) of one length at the data's rate, (2, n)."""
    frames = next(iter(stems.values())).shape[1]
    songs = collated([lesson(stems, np.zeros((2, frames), np.float32), data)])
    with torch.inference_mode():
        return net.eval()(songs)[0].numpy()


@dataclass(frozen=True)
class Nearness:
    """Mean stereo MR-STFT distances to target mixes, of a mixer and of random gains and pans (±12 dB)."""

    distance: float
    random: float
    distances: tuple[float, ...]

    @property
    def ratio(self) -> float:
        return self.distance / self.random


def distance_to(mix: np.ndarray, target: np.ndarray, rate: float) -> float:
    """The papers' stereo distance of mixes (2, n), both at -16 LUFS first."""
    return float(sum_difference_mr_stft(at_loudness(mix, rate), at_loudness(target, rate)))


def nearness(
    mixer: Callable[[Mapping[str, np.ndarray], int], Mix | np.ndarray],
    examples: Iterable[tuple[Mapping[str, np.ndarray], np.ndarray]],
    rate: int,
    seed: int = 0,
) -> Nearness:
    """How near a mixer comes to targets (2, n), beside random mixes of the same stems.

    The mixer gives a mix to be rendered, or its sound (2, n).
    """
    found, random = [], []
    for number, (stems, target) in enumerate(examples):
        made = mixer(stems, rate)
        found.append(distance_to(_rendered(made, stems, rate, target.shape[1]), target, rate))
        recordings = {name: ArrayRecording(stem) for name, stem in stems.items()}
        for k in range(RANDOM_MIXES):
            drawn = baseline("random", recordings, rate, seed + number * RANDOM_MIXES + k)
            random.append(distance_to(_rendered(drawn, stems, rate, target.shape[1]), target, rate))
    if not found:
        raise ParameterError("there are no songs to compare on; give some")
    return Nearness(float(np.mean(found)), float(np.mean(random)), tuple(found))


def _rendered(made: Mix | np.ndarray, stems: Mapping[str, np.ndarray], rate: int, frames: int) -> np.ndarray:
    return render(made, stems, rate, end=frames) if isinstance(made, Mix) else made
