"""Networks at work: sounds of any length in bounded memory, at one setting, as fast as a processor's cache allows.

A stream is fed block by block. However a sound is divided, what comes out is what it would be as a whole, to the
rounding of float32; and a network that looks ahead is fed silence at the end.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.fft import irfft, rfft
from torch.nn.functional import conv2d, prelu

from mixtools.errors import ParameterError
from mixtools.nets.hyper_strip import HyperStrip
from mixtools.nets.tcn import TCN, Block
from mixtools.nets.wave_u_net import LAYERS, STRIDE, ConditionedWaveUNet

CHUNK = 32768
"""Samples that go through all layers at once: 4 MB in 32 channels."""

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""Of a TCN's convolutions. The reduced one errs by about -50 dB, and is only faster where there `has_bfloat16`."""

WINDOW = 1 << 18
"""Samples of a Wave-U-Net's window, without its surroundings."""


class Stream(Protocol):
    """A network at one setting. It gives as much as it is fed, but for `before` and `after` in all.

    Once it was fed `before` samples it is at most `late` samples behind; what it hears rings for `rings` samples.
    """

    before: int
    after: int
    late: int
    rings: int

    def feed(self, x: Tensor) -> Tensor:
        """The next samples (channels, n) in, as many as are ready out: (channels_out, m)."""

    def finish(self) -> Tensor:
        """What is left."""


def stream_of(net: nn.Module, units: Tensor, channels: int, precision: str = "float32") -> Stream:
    """A network at work on `channels` channels, with units (controls,) from 0 to 1.

    A strip links two channels and keeps them apart; other networks hear each channel alone.
    """
    if precision not in PRECISIONS:
        raise ParameterError(f"precision is {precision}; give one of {', '.join(PRECISIONS)}")
    if isinstance(net, TCN):
        return TCNStream(net, units, channels, PRECISIONS[precision])
    if precision != "float32":
        raise ParameterError(f"precision is {precision}; give float32: only TCNs have another")
    if isinstance(net, HyperStrip):
        return StripStream(net, units)
    if isinstance(net, ConditionedWaveUNet):
        return WaveUNetStream(net, units, channels)
    raise ParameterError(f"{type(net).__name__} cannot be streamed; give a model of a channel or a device")


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 by itself; where not, float32 is several times as fast."""
    asked = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(bool(ask()) for ask in asked if ask is not None)


class _Folded:
    """A block with batch norm and FiLM folded into its convolution, and what it still needs of what it was fed."""

    def __init__(self, block: Block, condition: Tensor, dtype: torch.dtype) -> None:
        scale = block.film.scale(condition)[0] * torch.rsqrt(block.norm.running_var + block.norm.eps)
        weight = block.conv.weight * scale[:, None, None]
        bias = (block.conv.bias - block.norm.running_mean) * scale + block.film.shift(condition)[0]
        self.weight = weight[:, :, None].to(dtype).contiguous(memory_format=torch.channels_last)
        self.bias = bias.to(dtype)
        self.slope = block.activation.weight.to(dtype)
        self.gain = float(block.gain.clamp(0.0, 1.0))
        self.dilation = block.conv.dilation[0]
        self.reach = self.dilation * (block.conv.kernel_size[0] - 1)
        self.held: Tensor | None = None

    def feed(self, x: Tensor, causal: bool) -> Tensor | None:
        """(b, channels, 1, n) in; None while there is less than the kernel spans."""
        x = x if self.held is None else torch.cat([self.held, x], dim=-1)
        n = x.shape[-1] - self.reach
        if n <= 0:
            self.held = x
            return None
        self.held = x[..., n:]
        y = prelu(conv2d(x, self.weight, self.bias, dilation=(1, self.dilation)), self.slope)
        start = self.reach if causal else self.reach // 2
        return y.add_(x[..., start : start + n], alpha=self.gain)


class TCNStream:
    """A TCN whose layers remember what they will hear again: nothing is computed twice, in pieces of any size."""

    def __init__(self, net: TCN, units: Tensor, channels: int, dtype: torch.dtype = torch.float32) -> None:
        self.before, self.after = net.before, net.after
        self.late, self.rings = net.after, net.before + net.after
        self.causal, self.dtype, self.outputs, self.channels = net.causal, dtype, net.out.out_channels, channels
        with torch.inference_mode():
            condition = net.condition(2.0 * units.float()[None] - 1.0)
            self.blocks = [_Folded(block, condition, dtype) for block in net.blocks]
            self.weight = (net.out.weight / len(self.blocks))[:, :, None].to(dtype)
            self.bias = net.out.bias[:, None]
        # Later blocks shorten the signal: what of an earlier one lies before their first sample is left out.
        rest = sum(block.reach for block in self.blocks)
        self.unheard: list[int] = []
        for block in self.blocks:
            rest -= block.reach
            self.unheard.append(rest if self.causal else rest // 2)
        self.ready: list[Tensor] = [torch.zeros(channels, self.outputs, 0) for _ in self.blocks]

    def feed(self, x: Tensor) -> Tensor:
        with torch.inference_mode():
            made = [self._chunk(part) for part in x.split(CHUNK, dim=-1)]
            return torch.cat(made, dim=-1) if made else x[:0]

    def finish(self) -> Tensor:
        return sided(torch.zeros(self.channels, self.outputs, 0))

    def _chunk(self, x: Tensor) -> Tensor:
        now: Tensor | None = x[:, None, None].to(self.dtype).contiguous(memory_format=torch.channels_last)
        for i, block in enumerate(self.blocks):
            now = block.feed(now, self.causal)
            if now is None:
                return sided(torch.zeros(self.channels, self.outputs, 0))
            part = conv2d(now, self.weight)[:, :, 0].float()
            skipped = min(self.unheard[i], part.shape[-1])
            self.unheard[i] -= skipped
            self.ready[i] = torch.cat([self.ready[i], part[..., skipped:]], dim=-1)
        n = self.ready[-1].shape[-1]
        total = self.bias + sum(part[..., :n] for part in self.ready)
        self.ready = [part[..., n:] for part in self.ready]
        return sided(total)


def sided(y: Tensor) -> Tensor:
    """Channels that went through alone (channels, outputs, n), as (channels_out, n).

    Of a mono sound all outputs are heard, of a stereo sound each channel's own side.
    """
    channels, outputs, n = y.shape
    if channels == 1 or outputs == 1:
        return y.reshape(channels * outputs, n)
    return torch.stack([y[i, i % outputs] for i in range(channels)])


class _Convolver:
    """Blocks (channels, n) through responses (1 or channels_out, taps), with what is still to come of earlier ones."""

    def __init__(self, response: Tensor) -> None:
        self.taps = response.shape[-1]
        self.size = 1 << max(16, (4 * self.taps - 1).bit_length() - 1)
        self.step = self.size - self.taps + 1
        self.spectrum = rfft(response, self.size)
        self.held: Tensor | None = None

    def feed(self, x: Tensor) -> Tensor:
        return torch.cat([self._block(part) for part in x.split(self.step, dim=-1)], dim=-1)

    def _block(self, x: Tensor) -> Tensor:
        n = x.shape[-1]
        y = irfft(rfft(x, self.size) * self.spectrum, self.size)[..., : n + self.taps - 1]
        if self.held is not None:
            y[..., : self.taps - 1] += self.held
        self.held = y[..., n:].clone()
        return y[..., :n]


class StripStream:
    """A strip: its filters at one setting are fixed responses, its followers keep their states."""

    before = after = late = 0

    def __init__(self, net: HyperStrip, units: Tensor) -> None:
        self.net = net
        with torch.inference_mode():
            self.drawn = net.drawn(units.float()[None])
            self.first, self.second = _Convolver(self.drawn.first[0]), _Convolver(self.drawn.second[0])
        self.rings = self.first.taps + self.second.taps
        self.sides = net.shape.outputs
        self.states: Tensor | None = None

    def feed(self, x: Tensor) -> Tensor:
        self.sides = max(len(x), self.net.shape.outputs)
        if x.shape[-1] == 0:
            return x.new_zeros(self.sides, 0)
        with torch.inference_mode():
            x = self.first.feed(x)
            octaves, self.states = self.net.octaves(x[None], self.drawn, self.states)
            y = self.second.feed(x * torch.exp2(self.drawn.base + octaves))
            return y.expand(self.sides, -1)

    def finish(self) -> Tensor:
        return torch.zeros(self.sides, 0)


class WaveUNetStream:
    """A Wave-U-Net in windows that overlap by all that it hears, on the grid of its strides."""

    before = after = 0

    def __init__(self, net: ConditionedWaveUNet, units: Tensor, channels: int) -> None:
        self.net, self.units, self.channels = net, units.float()[None], channels
        grid = STRIDE**LAYERS
        heard = net.net.kernel * sum(STRIDE**k for k in range(LAYERS)) + 2 * grid
        self.margin = grid * math.ceil(heard / grid)
        self.late, self.rings = WINDOW + self.margin, self.margin
        self.held = torch.zeros(channels, 0)
        self.lead = 0
        """Samples held that came before the next one to be made: none at the beginning, as in the whole."""

    def feed(self, x: Tensor) -> Tensor:
        self.held = torch.cat([self.held, x], dim=-1)
        made = [self._nothing()]
        while self.held.shape[-1] >= self.lead + WINDOW + self.margin:
            made.append(self._made(self.held[:, : self.lead + WINDOW + self.margin], WINDOW))
            kept = min(self.lead + WINDOW, self.margin)
            self.held = self.held[:, self.lead + WINDOW - kept :]
            self.lead = kept
        return torch.cat(made, dim=-1)

    def finish(self) -> Tensor:
        left = self.held.shape[-1] - self.lead
        return self._made(self.held, left) if left else self._nothing()

    def _nothing(self) -> Tensor:
        return sided(torch.zeros(self.channels, self.net.net.decoders[-1].up.out_channels, 0))

    def _made(self, x: Tensor, n: int) -> Tensor:
        """The n samples behind the lead, of a window and its surroundings."""
        with torch.inference_mode():
            condition = self.net.condition(2.0 * self.units - 1.0)
            return sided(self.net.net(x[:, None], condition)[..., self.lead : self.lead + n])
