"""Learning to be a channel or a device: examples by number, the losses, and the training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from mixtools.controls import shown
from mixtools.diff.stereo_loss import stereo_distance
from mixtools.dsp.noise import generator
from mixtools.errors import ParameterError, nearest
from mixtools.measure.distance import WRIGHT_PRE_EMPHASIS, esr
from mixtools.nets.emulator import Spec
from mixtools.nets.processes import World
from mixtools.nets.training import Forward, Progress, State, Storage, Training, train
from mixtools.tasks.emulate.console import PRESET, PROCESSORS, Channel, discrete
from mixtools.tasks.train.sounds import Corpus, Sounds

SECONDS = 65536 / 44100
"""Of an example: the thesis takes 1.48 s for its largest network."""

SHORTEST_S, LONGEST_S = 0.05, 30.0
ALONE = 0.5
"""Share of the examples in which one processor alone works, as three of the four tasks of table 6 have it."""

SHARES = {"equaliser": 0.5, "compressor": 0.25, "reverb": 0.25}
"""Of these: there is most to learn of where one has most controls."""

LEARNING_RATE = {"strip": 3e-3, "tcn": 3e-4, "wave": 3e-4}
"""The thesis's, but for ours."""

BATCH = 8
SHORTER = 8
VALIDATE_EVERY = 250
STFT_WEIGHT = 1.0
STFT_STRIDE = 6
"""Every so many frames are looked at: those that are left still overlap, or nearly."""

QUIETEST = 1e-4
"""Mean magnitude that a target counts as having at least, where errors are related to it."""

LOSSES = {
    "mae": "Mean absolute error: the thesis's.",
    "relative": "Error relative to the target's size, example by example, and the multi-resolution STFT distance.",
    "esr": "Error-to-signal ratio after a pre-emphasis, and that of the offsets (Wright & Välimäki 2020).",
}
"""What a training descends, and what each is."""


class Batch(NamedTuple):
    """Sounds (b, 1, n), controls (b, controls) from 0 to 1, and what comes of them (b, outputs, n)."""

    sounds: Tensor
    controls: Tensor
    targets: Tensor


class Examples(Protocol):
    """Where a training's examples come from; of each, the first `warm` samples need what came before them."""

    warm: int

    def plain(self) -> dict[str, Any]:
        """What they are, for a checkpoint's record."""

    def __call__(self, number: int) -> Batch:
        """Batch number 0, 1, 2, ..., always the same."""


@dataclass(frozen=True)
class ConsoleData:
    """What is learned of the console: excerpts of so many seconds at a rate, their settings drawn uniformly.

    shuffle: every order of the processors, told one-hot, and not only the papers'. only: one processor alone, of
    `console.PROCESSORS`. alone: the share of examples in which a single processor works, and the others do nothing.
    """

    seconds: float = SECONDS
    rate: int = 44100
    shuffle: bool = False
    only: str | None = None
    alone: float = ALONE
    augment: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if not SHORTEST_S <= self.seconds <= LONGEST_S:
            raise ParameterError(f"seconds is {shown(self.seconds)}; give {SHORTEST_S:g} to {LONGEST_S:g}")
        if not isinstance(self.rate, int) or not 8000 <= self.rate <= 192_000:
            raise ParameterError(f"rate is {shown(self.rate)}; give 8000 to 192000 Hz")
        if self.only is not None and self.only not in PROCESSORS:
            raise ParameterError(f"only is {shown(self.only)}; give {nearest(str(self.only), PROCESSORS)}")
        if not 0.0 <= self.alone <= 1.0:
            raise ParameterError(f"alone is {shown(self.alone)}; give 0 to 1")

    @property
    def frames(self) -> int:
        return max(2, round(self.seconds * self.rate))

    def tasks(self, rng: np.random.Generator, count: int) -> list[str]:
        """Which processors work in each of some examples."""
        if self.only is not None:
            return [self.only] * count
        names, shares = zip(*SHARES.items(), strict=True)
        return [str(rng.choice(names, p=shares)) if rng.random() < self.alone else "combined" for _ in range(count)]

    def spec(self, kind: str, causal: bool = False) -> Spec:
        """A network that fits: one response for every room, in both filters where processors trade places."""
        channel = Channel(self.rate, self.shuffle)
        choices = tuple(discrete(channel.strip))
        long = (self.shuffle, True)
        groups = channel.groups() if kind == "strip" else ()
        return Spec(kind, len(channel.labels), choices, 2, self.rate, causal, long, groups=groups)


class ConsoleExamples:
    """Examples of the console made on the fly from any audio.

    With `short`, every other batch has eight times as many examples of an eighth of the length: settings are what
    there is most to learn about.
    """

    warm = 0

    def __init__(self, corpora: Sequence[Corpus], data: ConsoleData, batch: int = BATCH, short: bool = True) -> None:
        self.data, self.batch, self.short = data, batch, short
        self.channel = Channel(data.rate, data.shuffle)
        self.sounds = Sounds(corpora, data.frames, data.rate, data.seed, data.augment)

    def plain(self) -> dict[str, Any]:
        return {"corpus": self.sounds.name, **asdict(self.data), "batch": self.batch, "short": self.short}

    def __call__(self, number: int) -> Batch:
        short = self.short and number % 2 == 0
        count, frames = self.batch, self.data.frames
        if short:
            count, frames = SHORTER * count, frames // SHORTER
        rng = generator(self.data.seed, f"settings {number}")
        units = self.channel.draw(rng, self.data.tasks(rng, count))
        first = number * SHORTER * self.batch
        sounds = np.stack([self.sounds(first + i, frames) for i in range(count)])
        return as_batch(sounds, units, self.channel.process(sounds, units))


def as_batch(sounds: np.ndarray, units: np.ndarray, targets: np.ndarray) -> Batch:
    """Sounds (b, n), units (b, controls) and targets (b, outputs, n) as tensors."""
    return Batch(torch.from_numpy(sounds[:, None]), torch.from_numpy(units).float(), torch.from_numpy(targets))


def loss_of(name: str, before: int = 0, after: int = 0, warm: int = 0) -> Callable[[Forward, Batch], Any]:
    """A loss by name, for networks that leave out so many samples at both ends; the first `warm` ones do not count."""
    if name not in LOSSES:
        raise ParameterError(f"loss is {shown(name)}; give {nearest(name, LOSSES)}")

    def loss(forward: Forward, batch: Batch) -> Any:
        first = max(before, warm)
        found = forward(batch.sounds, batch.controls)[..., first - before :]
        wanted = batch.targets[..., first : batch.targets.shape[-1] - after]
        if name == "mae":
            return (found - wanted).abs().mean()
        if name == "esr":
            return esr(found, wanted, WRIGHT_PRE_EMPHASIS, dc=True)
        size = wanted.abs().mean(dim=(-2, -1)).clamp(min=QUIETEST)
        relative = ((found - wanted).abs().mean(dim=(-2, -1)) / size).mean()
        spectral = stft_distance(found, wanted)
        return {"loss": relative + STFT_WEIGHT * spectral, "relative": relative, "stft": spectral}

    return loss


def stft_distance(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean MR-STFT distance of every side of every example from a part of the frames, of (b, 1 or 2, n)."""

    def pairs(x: Tensor) -> Tensor:
        # The stereo loss looks at sum and difference: of these two sides, they are what is to be compared.
        first, second = x[:, 0], x[:, -1]
        return 0.5 * torch.stack([first + second, first - second], dim=1)

    return 0.5 * stereo_distance(pairs(found), pairs(wanted), STFT_STRIDE)


def validation_of(batches: Sequence[Batch], loss: Callable[[Forward, Batch], Any]) -> Callable[[nn.Module], float]:
    """The mean loss over held-out batches, of a model in eval mode."""

    def validate(model: nn.Module) -> float:
        device = next(model.parameters()).device
        total = 0.0
        for batch in batches:
            found = loss(model, Batch(*(x.to(device) for x in batch)))
            total += float(found["loss"] if isinstance(found, Mapping) else found)
        return total / len(batches)

    return validate


def family(kind: str) -> str:
    """`strip`, `tcn` or `wave`."""
    return kind.partition("-")[0]


def usual_loss(kind: str) -> str:
    """What a network of a kind learns a console with."""
    return "relative" if kind == "strip" else "mae"


def usual_training(kind: str, steps: int, seed: int = 0) -> Training:
    """The thesis's schedule, half the rate after validations in vain; ours begins faster and is halved sooner."""
    ours = kind == "strip"
    return Training(
        steps,
        seed=seed,
        rate=LEARNING_RATE[family(kind)],
        betas=(0.9, 0.99) if ours else (0.9, 0.999),
        rate_factor=0.5,
        rate_patience=3 if ours else 15,
        lowest_rate=2e-5,
        threshold=1e-3,
        stop_patience=40,
        validate_every=VALIDATE_EVERY,
        save_every=VALIDATE_EVERY // 5,
        clip_norm=5.0,
    )


def new_network(spec: Spec, seed: int = 0) -> nn.Module:
    """An untrained network; the same seed gives the same one."""
    torch.manual_seed(seed)
    return spec.network()


def train_emulator(
    net: nn.Module,
    spec: Spec,
    examples: Examples,
    held_out: Sequence[Batch],
    config: Training,
    storage: Storage,
    loss: str,
    about: Mapping[str, Any],
    world: World | None = None,
    progress: Callable[[Progress], None] = lambda now: None,
) -> State:
    """Train a network from where its storage says it is; the weights that are best on `held_out` are kept.

    about: `console_about` or `devices.Recordings.about`, which `tasks.emulate.model.Model.load` needs.
    """
    length = examples(0).sounds.shape[-1]
    lost = max(net.before, examples.warm) + net.after
    if length <= lost:
        needed = (lost + 1) / spec.rate
        raise ParameterError(f"examples are {length / spec.rate:.2f} s long; give {spec.kind} more than {needed:.2f} s")
    descended = loss_of(loss, net.before, net.after, examples.warm)
    record = {"network": spec.plain(), **about, "data": examples.plain(), "loss": loss, "held_out": len(held_out)}
    validate = validation_of(held_out, descended)
    return train(net, descended, examples, config, storage, record, validate, world, progress)


def console_about(data: ConsoleData) -> dict[str, Any]:
    """What a model of the console says its controls are."""
    return {"console": {"preset": PRESET, "shuffle": data.shuffle, "only": data.only}}


def held_out_of(corpora: Sequence[Corpus], data: ConsoleData, batches: int, batch: int = BATCH) -> list[Batch]:
    """Batches to validate with: sounds as they are, settings of their own."""
    examples = ConsoleExamples(corpora, replace(data, augment=False, seed=data.seed + 1), batch, short=False)
    return [examples(number) for number in range(batches)]
