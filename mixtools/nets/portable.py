"""Networks of channels and devices as other programs can run them: in operations that every runtime has.

A strip's filters are transforms of powers of two over blocks, and its followers a loop over samples in the runtime's
own language. A portable network takes a sound of any length, and what comes out is as long.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.fft import irfft, rfft
from torch.nn.functional import interpolate, pad

from mixtools.nets.followers import HIGHEST, KNOTS, LOWEST
from mixtools.nets.hyper_strip import NEPERS, QUIETEST, HyperStrip, _bins, minimum_phase

BLOCK = 1 << 16
"""Samples that are filtered together; no response is longer."""

Follow = Callable[[Tensor, Tensor, Tensor], Tensor]
"""What followers go after (n, followers), and their rates (followers,), to where they are (n, followers)."""


def portable(net: nn.Module, follow: Follow) -> nn.Module:
    """A network as (audio (1, 1, n), controls (1, controls)) to (1, outputs, n)."""
    return (PortableStrip(net, follow) if isinstance(net, HyperStrip) else Padded(net)).eval()


def scripted_follow(wanted: Tensor, rise: Tensor, fall: Tensor) -> Tensor:
    """For TorchScript, which compiles the loop."""
    state = torch.zeros_like(rise)
    states = torch.empty_like(wanted)
    for i in range(wanted.shape[0]):
        state = state + torch.where(wanted[i] > state, rise, fall) * (wanted[i] - state)
        states[i] = state
    return states


def scanned_follow(wanted: Tensor, rise: Tensor, fall: Tensor) -> Tensor:
    """For ONNX, whose loop over a sequence torch calls a scan."""
    from torch._higher_order_ops.scan import scan

    # A step sees nothing from outside, and may not give back the same twice: rates come sample by sample, and what is
    # left of the way is told instead of the place.
    def step(state: Tensor, now: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        goal, rise, fall = now
        state = state + torch.where(goal > state, rise, fall) * (goal - state)
        return state, goal - state

    rates = (rate.expand(wanted.shape[0], -1).clone() for rate in (rise, fall))
    return wanted - scan(step, torch.zeros_like(rise), (wanted, *rates))[1]


class Padded(nn.Module):
    """A network that hears silence before and after."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, audio: Tensor, controls: Tensor) -> Tensor:
        return self.net(pad(audio, (self.net.before, self.net.after)), controls)


class PortableStrip(nn.Module):
    """`HyperStrip` without kernels of ours, and with transforms of one size."""

    def __init__(self, net: HyperStrip, follow: Follow) -> None:
        super().__init__()
        self.net, self.follow = net, follow
        below, part = _bins(net.rate)
        self.register_buffer("below", below.clone())
        self.register_buffer("part", part.clone())
        with torch.no_grad():
            learned = net.responses() if any(net.shape.long) else torch.zeros(1, 1, 1)
        self.register_buffer("learned", learned.clone())

    def forward(self, audio: Tensor, controls: Tensor) -> Tensor:
        net = self.net
        heard = 2.0 * controls - 1.0
        features = net.head(heard)
        rise, fall = (-torch.expm1(-torch.exp(net.rates(features))))[0].double().chunk(2)
        tones = self._minimum_phase(net.tone(heard)[0])
        filters = [tones[0:1], tones[1:2]]
        if any(net.shape.long):
            fades = interpolate(net.fade(heard), net.shape.taps, mode="linear", align_corners=True)[0]
            dry = net.dry(features)[0]
            responses = self.learned[self._chosen(controls)]
            for k, place in enumerate(i for i, long in enumerate(net.shape.long) if long):
                room = responses * fades[k : k + 1]
                room = torch.cat([room[:, :1] + dry[k], room[:, 1:]], dim=-1)
                # As long as a block at most: what little there is beyond it has faded away.
                filters[place] = self._convolved(room, filters[place])[:, :BLOCK]
        x = self._filtered(audio[0], filters[0])
        level = torch.log2(x.abs().amax(dim=0).clamp(min=QUIETEST)).double()
        octaves = self.follow(self._wanted(level, net.gain(heard)[0].double()), rise, fall).sum(dim=-1).float()
        x = x * torch.exp2(net.base(features)[0, 0] + octaves)
        return self._filtered(x, filters[1]).expand(net.shape.outputs, -1)[None]

    def _wanted(self, level: Tensor, curves: Tensor) -> Tensor:
        """What followers go after (n, followers), of levels (n,) and curves (followers, knots)."""
        place = (level - LOWEST) * ((KNOTS - 1) / (HIGHEST - LOWEST))
        k = place.floor().clamp(0, KNOTS - 2)
        low, high = (curves[:, (k + one).long()] for one in (0, 1))
        return (low + (place - k) * (high - low)).transpose(0, 1)

    def _minimum_phase(self, curves: Tensor) -> Tensor:
        curves = NEPERS * curves
        return minimum_phase(curves[:, self.below] * (1.0 - self.part) + curves[:, self.below + 1] * self.part)

    def _chosen(self, controls: Tensor) -> Tensor:
        return self.net._chosen(controls)[0]

    def _convolved(self, a: Tensor, b: Tensor) -> Tensor:
        """Two responses, all of what comes of them."""
        return irfft(rfft(a, 2 * BLOCK) * rfft(b, 2 * BLOCK), 2 * BLOCK)

    def _filtered(self, x: Tensor, response: Tensor) -> Tensor:
        """x (channels, n) through a response (1 or channels, taps), as long as x."""
        n = x.shape[-1]
        blocks = pad(x, (0, BLOCK)).unfold(-1, BLOCK, BLOCK)
        made = irfft(rfft(blocks, 2 * BLOCK) * rfft(response[:, None], 2 * BLOCK), 2 * BLOCK)
        here, later = made.split(BLOCK, dim=-1)
        late = pad(later, (0, 0, 1, 0))[:, :-1]
        return (here + late).flatten(1)[:, :n]
