"""Whole recordings through a model: any length, rate and number of channels, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from mixtools.dsp.source import Source
from mixtools.errors import AudioError
from mixtools.nets.inference import stream_of
from mixtools.tasks.emulate.model import Model

BLOCK = 1 << 17
"""Samples that are read at once; it changes no sample of the output beyond the rounding of float32."""


def channels_out(model: Model, channels: int) -> int:
    """How many channels a model makes of so many: a mono recording gets all its sides, others keep their channels."""
    return model.spec.outputs if channels == 1 else channels


def emulated(
    model: Model,
    source: Source,
    rate: int,
    units: np.ndarray,
    precision: str = "float32",
    block: int = BLOCK,
    progress: Callable[[float], None] = lambda share: None,
) -> Iterator[np.ndarray]:
    """What a model makes of a sound, float32 blocks (channels_out, n): as long in all as it is.

    units: `model.units(settings)`. Nothing is late: what a network needs to look ahead is read ahead. Where the rates
    differ, sound goes through the model at the model's.
    """
    through = _through(model, source, units, precision)
    if rate != model.rate:
        through = _at_other_rate(through, rate, model.rate, source.channels, channels_out(model, source.channels))
    left = source.frames
    for made in through(_blocks(source, block)):
        made = made[:, :left]
        if made.shape[1]:
            left -= made.shape[1]
            progress(1.0 - left / source.frames)
            yield made
    while left:
        # A resampler may round the end away.
        made = np.zeros((channels_out(model, source.channels), min(left, block)), np.float32)
        left -= made.shape[1]
        yield made


Blocks = Iterator[np.ndarray]


def _blocks(source: Source, block: int) -> Blocks:
    for start in range(0, source.frames, block):
        x = source.read(min(block, source.frames - start))
        if not np.isfinite(x).all():
            raise AudioError("the audio holds NaN or infinity; give finite samples")
        yield np.ascontiguousarray(x, np.float32)


class Running:
    """A model at one setting, fed block by block at its own rate; what comes out begins where what went in did.

    It is at most `late` samples behind, and rings for `rings` samples.
    """

    def __init__(self, model: Model, channels: int, units: np.ndarray, precision: str = "float32") -> None:
        # Beyond stereo, a strip hears each channel alone.
        self._alone = model.spec.kind == "strip" and channels > 2
        self._groups = [[c] for c in range(channels)] if self._alone else [list(range(channels))]
        settings = torch.from_numpy(np.asarray(units, np.float64))
        self._streams = [stream_of(model.net, settings, len(group), precision) for group in self._groups]
        self.late, self.rings = self._streams[0].late, self._streams[0].rings
        self._after = model.net.after
        self._ahead = np.zeros((channels, model.net.before), np.float32)

    def feed(self, x: np.ndarray) -> np.ndarray:
        """The next samples (channels, n) in, what is ready out."""
        if self._ahead.shape[1]:
            x, self._ahead = np.concatenate([self._ahead, x], axis=1), self._ahead[:, :0]
        sound = torch.from_numpy(x)
        made = [stream.feed(sound[group]) for stream, group in zip(self._streams, self._groups, strict=True)]
        return _joined(made, self._alone)

    def finish(self) -> np.ndarray:
        """What is left."""
        rest = self.feed(np.zeros((sum(map(len, self._groups)), self._after), np.float32))
        return np.concatenate([rest, _joined([stream.finish() for stream in self._streams], self._alone)], axis=1)


def _through(model: Model, source: Source, units: np.ndarray, precision: str) -> Callable[[Blocks], Blocks]:
    """A stage that runs blocks at the model's rate through the network."""

    def stage(blocks: Blocks) -> Blocks:
        running = Running(model, source.channels, units, precision)
        for x in blocks:
            yield running.feed(x)
        yield running.finish()

    return stage


def _joined(made: list[torch.Tensor], alone: bool) -> np.ndarray:
    sides = [y[i % len(y)][None] for i, y in enumerate(made)] if alone else made
    return torch.cat(sides).numpy()


def _at_other_rate(
    stage: Callable[[Blocks], Blocks], rate: int, own: int, channels: int, after: int
) -> Callable[[Blocks], Blocks]:
    """The same stage between two resamplers, for blocks at `rate`."""

    def resampled(blocks: Blocks, before: int, then: int, count: int) -> Blocks:
        import soxr

        stream = soxr.ResampleStream(before, then, count, dtype="float32", quality="VHQ")
        for x in blocks:
            yield np.ascontiguousarray(stream.resample_chunk(np.ascontiguousarray(x.T)).reshape(-1, count).T)
        rest = stream.resample_chunk(np.zeros((0, count), np.float32), last=True)
        yield np.ascontiguousarray(rest.reshape(-1, count).T)

    return lambda blocks: resampled(stage(resampled(blocks, rate, own, channels)), own, rate, after)
