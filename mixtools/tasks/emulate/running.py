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


def _through(model: Model, source: Source, units: np.ndarray, precision: str) -> Callable[[Blocks], Blocks]:
    """A stage that runs blocks at the model's rate through the network."""

    def stage(blocks: Blocks) -> Blocks:
        # Beyond stereo, a strip hears each channel alone.
        alone = model.spec.kind == "strip" and source.channels > 2
        groups = [[c] for c in range(source.channels)] if alone else [list(range(source.channels))]
        settings = torch.from_numpy(np.asarray(units, np.float64))
        streams = [stream_of(model.net, settings, len(group), precision) for group in groups]

        def fed(x: torch.Tensor) -> np.ndarray:
            made = [stream.feed(x[group]) for stream, group in zip(streams, groups, strict=True)]
            return _joined(made, alone)

        ahead = model.net.before
        if ahead:
            yield fed(torch.zeros(source.channels, ahead))
        for x in blocks:
            yield fed(torch.from_numpy(x))
        if model.net.after:
            yield fed(torch.zeros(source.channels, model.net.after))
        yield _joined([stream.finish() for stream in streams], alone)

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
