"""A black box for channels and devices: filter, gain, filter, all three drawn by networks from the controls.

Any one nonlinear processor with linear ones before and behind it, in whatever order, is a filter, a gain that follows
the signal, and another filter. None of the three knows an equation of what it imitates: networks draw a response over
frequency, curves over level that a bank of followers goes after, and how a learned response fades over time. What
the controls mean has to be learned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.fft import irfft, rfft
from torch.nn.functional import silu

from mixtools.nets.followers import KNOTS, followed

LOWEST_HZ = 20.0
FREQUENCIES = 320
"""Between which the filters' responses are straight lines over the logarithm of frequency."""

SHORT_TAPS = 16384
"""Of the filters whose response over frequency is drawn."""

FRAME = 128
"""Samples between the frames of a learned response, and coefficients in one."""

FADES = 128
"""Places in time between which a learned response fades along straight lines."""

QUIETEST = 1e-6
"""-120 dB: no level is below it."""

NEPERS = 2.0
"""That an output of 1 of a response's network stands for."""

FASTEST, SLOWEST = 1.0, 6.0
"""Followers begin with time constants spread between ten to the power of these, in samples."""

TAP_SCALE = 0.05
"""Size of a learned response's coefficients where their parameters are 1: they learn that much slower."""


class Curves(nn.Module):
    """Draws curves over one axis: controls (b, controls) to (b, curves, places).

    Each group of controls has a network of its own, and what they draw adds up. Such a network hears its controls and
    where on the axis it is; another one, which hears the controls alone, sets how much each of its last features
    counts.
    """

    def __init__(self, heard: Tensor, curves: int, width: int, layers: int, places: int) -> None:
        """heard: (groups, controls), 1 where a group hears a control and 0 where not."""
        super().__init__()
        groups, controls = heard.shape
        self.register_buffer("mask", heard[:, :, None], persistent=False)
        self.register_buffer("places", torch.linspace(-1.0, 1.0, places)[:, None], persistent=False)
        self.heard = Grouped(groups, controls, width)
        self.place = nn.Parameter(torch.empty(groups, 1, width).uniform_(-8.0, 8.0))
        self.hidden = nn.ModuleList(Grouped(groups, width, width) for _ in range(layers - 1))
        self.counts = nn.ModuleList([Grouped(groups, controls, width), Grouped(groups, width, width)])
        self.out = Grouped(groups, width, curves, 0.1)
        nn.init.uniform_(self.heard.weight, -1.0, 1.0)

    def forward(self, controls: Tensor) -> Tensor:
        x = self.heard(controls.expand(len(self.mask), -1, -1), self.mask)[:, :, None]
        x = (x + (self.places * self.place)[:, None]).flatten(1, 2)
        for layer in self.hidden:
            x = layer(silu(x))
        counts = controls.expand(len(self.mask), -1, -1)
        for layer, mask in zip(self.counts, (self.mask, None), strict=True):
            counts = layer(counts if mask is not None else silu(counts), mask)
        x = silu(x).unflatten(1, (len(controls), -1)) * counts[:, :, None]
        return self.out(x.flatten(1, 2)).sum(dim=0).unflatten(0, (len(controls), -1)).transpose(1, 2)


class Grouped(nn.Module):
    """As many linear layers side by side: (groups, b, inputs) to (groups, b, outputs)."""

    def __init__(self, groups: int, inputs: int, outputs: int, scale: float = 1.0) -> None:
        super().__init__()
        reach = scale / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(groups, inputs, outputs).uniform_(-reach, reach))
        self.bias = nn.Parameter(torch.zeros(groups, 1, outputs))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight if mask is None else self.weight * mask)


class Responses(nn.Module):
    """Learned responses (responses, sides, taps): frames of a lapped cosine transform, so that every band of every
    moment learns at its own pace."""

    def __init__(self, responses: int, sides: int, taps: int) -> None:
        super().__init__()
        self.taps = taps
        self.coefficients = nn.Parameter(torch.zeros(responses, sides, taps // FRAME, FRAME))

    def forward(self) -> Tensor:
        frames = TAP_SCALE * self.coefficients @ _lapped(FRAME).to(self.coefficients)
        first, second = frames.split(FRAME, dim=-1)
        first = nn.functional.pad(first, (0, 0, 0, 1))
        second = nn.functional.pad(second, (0, 0, 1, 0))
        # Nothing comes before the first frame: what would lap there is folded back.
        return (first + second).flatten(-2)[..., FRAME // 2 : FRAME // 2 + self.taps]


@lru_cache(maxsize=2)
@torch.inference_mode(False)
def _lapped(size: int) -> Tensor:
    """The orthonormal lapped cosine transform with a sine window, (size, 2 size)."""
    time = torch.arange(2 * size, dtype=torch.float64) + 0.5
    band = torch.arange(size, dtype=torch.float64)[:, None] + 0.5
    window = torch.sin(math.pi * time / (2 * size))
    return (math.sqrt(2.0 / size) * window * torch.cos(math.pi / size * (time + size / 2) * band)).float()


@dataclass(frozen=True)
class Shape:
    """How large a strip's networks are.

    choices: where in the controls one of several stands (first column, columns); each combination has a response.
    groups: columns that belong together, as far as known; what groups do to a response adds up in decibels. A column
    in none of them belongs to all.
    long: whether the first and the second filter have a learned response.
    """

    controls: int
    choices: tuple[tuple[int, int], ...] = ()
    groups: tuple[tuple[int, ...], ...] = ()
    outputs: int = 1
    taps: int = 49152
    long: tuple[bool, bool] = (False, True)
    followers: int = 3
    width: int = 64
    layers: int = 3

    def heard(self) -> Tensor:
        """Which group hears which control (groups, controls), 1 or 0."""
        grouped = {column for group in self.groups for column in group}
        groups = self.groups or (tuple(range(self.controls)),)
        return torch.tensor(
            [
                [float(c in group or (bool(self.groups) and c not in grouped)) for c in range(self.controls)]
                for group in groups
            ]
        )


class Drawn(NamedTuple):
    """What the networks make of controls: all that a sound goes through."""

    first: Tensor
    """(b, outputs or 1, taps), the first filter."""
    second: Tensor
    """(b, outputs or 1, taps), the second."""
    base: Tensor
    """(b,), octaves of gain where all followers rest at 0."""
    curves: Tensor
    """(b, followers, knots), in octaves."""
    rise: Tensor
    """(b, followers), share of the way in a sample."""
    fall: Tensor
    """(b, followers)"""


class HyperStrip(nn.Module):
    """A sound (b, 1 or 2, n) and controls (b, controls) from 0 to 1 to a sound (b, outputs, n) of the same length."""

    before = after = 0

    def __init__(self, shape: Shape, rate: int) -> None:
        super().__init__()
        self.shape, self.rate = shape, rate
        c, heard = shape.controls, shape.heard()
        self.tone = Curves(heard, 2, shape.width, shape.layers, FREQUENCIES)
        self.gain = Curves(heard, shape.followers, shape.width // 2, shape.layers, KNOTS)
        self.head = nn.Sequential(nn.Linear(c, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU())
        self.base = nn.Linear(128, 1)
        self.rates = nn.Linear(128, 2 * shape.followers)
        with torch.no_grad():
            spread = torch.linspace(FASTEST, SLOWEST, shape.followers + 2)
            self.rates.bias.copy_(-math.log(10.0) * torch.cat([spread[:-2], spread[2:]]))
            self.rates.weight.mul_(0.5)
            self.base.weight.mul_(0.1)
        if any(shape.long):
            self.fade = Curves(heard, sum(shape.long), shape.width // 2, shape.layers, FADES)
            self.dry = nn.Linear(128, sum(shape.long))
            nn.init.ones_(self.dry.bias)
            self.responses = Responses(math.prod(n for _, n in shape.choices), shape.outputs, shape.taps)

    def forward(self, x: Tensor, controls: Tensor) -> Tensor:
        drawn = self.drawn(controls, x.shape[-1])
        x = filtered(x, drawn.first)
        x = x * torch.exp2(drawn.base[:, None] + self.octaves(x, drawn)[0])[:, None]
        return filtered(x, drawn.second).expand(-1, self.shape.outputs, -1)

    def octaves(self, x: Tensor, drawn: Drawn, states: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What the followers add up to (b, n), and where they end, of the louder channel of x (b, channels, n)."""
        level = torch.log2(x.abs().amax(dim=1).clamp(min=QUIETEST))
        start = torch.zeros_like(drawn.rise) if states is None else states
        return followed(level, drawn.curves, drawn.rise, drawn.fall, start)

    def drawn(self, controls: Tensor, n: int | None = None) -> Drawn:
        """What controls (b, controls) make of it; of learned responses, only what n samples hear."""
        controls = controls.to(self.base.weight)
        heard = 2.0 * controls - 1.0
        features = self.head(heard)
        # A rate is 1 - exp(-1 / time constant).
        rise, fall = (-torch.expm1(-torch.exp(self.rates(features)))).chunk(2, dim=-1)
        tones = minimum_phase(_over_bins(NEPERS * self.tone(heard), self.rate))
        taps = SHORT_TAPS if n is None else min(n, SHORT_TAPS)
        filters = [tones[:, k : k + 1, :taps] for k in range(2)]
        if any(self.shape.long):
            fades = nn.functional.interpolate(self.fade(heard), self.shape.taps, mode="linear", align_corners=True)
            dry = self.dry(features)
            taps = min(n or self.shape.taps, self.shape.taps)
            fades = fades[..., :taps]
            responses = self.responses()[..., :taps][self._chosen(controls)]
            for k, place in enumerate(i for i, long in enumerate(self.shape.long) if long):
                room = responses * fades[:, k : k + 1]
                room = torch.cat([room[..., :1] + dry[:, k, None, None], room[..., 1:]], dim=-1)
                more = SHORT_TAPS - 1 if n is None else min(SHORT_TAPS - 1, n - taps)
                filters[place] = filtered(nn.functional.pad(room, (0, more)), filters[place])
        return Drawn(*filters, self.base(features)[:, 0], self.gain(heard), rise, fall)

    def _chosen(self, controls: Tensor) -> Tensor:
        """The number of each one's response (b,)."""
        number = torch.zeros(len(controls), dtype=torch.long, device=controls.device)
        for first, count in self.shape.choices:
            number = number * count + controls[:, first : first + count].argmax(dim=-1)
        return number


def filtered(x: Tensor, response: Tensor) -> Tensor:
    """x (b, 1 or channels, n) through responses (b, 1 or channels, taps), as long as x."""
    return _Filtered.apply(x, response)


class _Filtered(torch.autograd.Function):
    """Three transforms there and three back, all of them real: torch's own way back takes complex ones."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, response: Tensor) -> Tensor:
        n, taps = x.shape[-1], response.shape[-1]
        ctx.size = _fast_size(n + taps - 1)
        ctx.lengths = n, taps
        spectra = rfft(x, ctx.size), rfft(response, ctx.size)
        ctx.save_for_backward(*spectra)
        return irfft(spectra[0] * spectra[1], ctx.size)[..., :n]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        spectra, (n, taps) = ctx.saved_tensors, ctx.lengths
        reached = rfft(gradient, ctx.size)

        def correlated(own: Tensor, other: Tensor, length: int) -> Tensor:
            return irfft((reached * other.conj()).sum_to_size(own.shape), ctx.size)[..., :length]

        to_x = correlated(*spectra, n) if ctx.needs_input_grad[0] else None
        to_response = correlated(*spectra[::-1], taps) if ctx.needs_input_grad[1] else None
        return to_x, to_response


def minimum_phase(nepers: Tensor) -> Tensor:
    """Responses (..., 2 (bins - 1)) of least phase, of logarithms of magnitude (..., bins)."""
    size = 2 * (nepers.shape[-1] - 1)
    place = torch.arange(size, device=nepers.device)
    # 1 at both ends of the first half, 2 between them.
    fold = (place <= size // 2).to(nepers) + ((place > 0) & (place < size // 2)).to(nepers)
    folded = rfft(irfft(torch.complex(nepers, torch.zeros_like(nepers)), size) * fold)
    magnitude, phase = torch.exp(folded.real), folded.imag
    return irfft(torch.complex(magnitude * torch.cos(phase), magnitude * torch.sin(phase)), size)


def _over_bins(curves: Tensor, rate: int) -> Tensor:
    """Curves (..., FREQUENCIES) over logarithmic frequency, at the bins of a transform."""
    below, part = _bins(rate)
    below, part = below.to(curves.device), part.to(curves)
    return curves[..., below] * (1.0 - part) + curves[..., below + 1] * part


@lru_cache(maxsize=4)
@torch.inference_mode(False)
def _bins(rate: int) -> tuple[Tensor, Tensor]:
    hz = torch.arange(SHORT_TAPS // 2 + 1, dtype=torch.float64) * rate / SHORT_TAPS
    octaves = torch.log(hz.clamp(min=LOWEST_HZ) / LOWEST_HZ) / math.log(rate / 2 / LOWEST_HZ)
    place = octaves * (FREQUENCIES - 1)
    below = place.long().clamp(max=FREQUENCIES - 2)
    return below, (place - below).float()


def _fast_size(n: int) -> int:
    """The next length that transforms fast."""
    import scipy.fft

    return scipy.fft.next_fast_len(n, real=True)
