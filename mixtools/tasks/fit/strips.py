"""What a linear console does to each stem, as filters: EQ, level, pan, delay, and a send to one shared reverb.

The filter of stem i to side c is, at frequency f,

    H_ic(f) = a_ic E_i(f) exp(-j 2 pi f d_i) (1 + s_i R_c(f)),    E_i(f) = sum over bands b of 10^(g_ib / 20) B_b(f)

with the sides' amplitudes a, the graphic equaliser's gains g and bands B, the delay d, the send s and the shared
impulse responses R. The gauge: E is 0 dB at 1 kHz, R has unit energy over both sides and begins with 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor
from torch.fft import irfft, rfft

from mixtools.dsp.graphic_eq import band_firs, usable_bands
from mixtools.dsp.interpolation import interpolation, interpolation_slope

GAUGE_HZ = 1000

NEPER = math.log(10.0) / 20.0
"""dB times this is a natural logarithm of an amplitude."""


@dataclass
class Settings:
    """The numbers of all strips, or a change of them: float64 tensors."""

    sides: Tensor
    """Amplitudes (2, stems), the polarity in their sign."""
    eq: Tensor
    """Gains in dB (stems, bands)."""
    delay: Tensor
    """Samples (stems)."""
    send: Tensor
    """Amplitudes (stems)."""
    room: Tensor
    """The shared impulse responses (2, taps); no taps without a reverb."""

    def plus(self, step: Settings, share: float = 1.0) -> Settings:
        return Settings(*(getattr(self, f.name) + share * getattr(step, f.name) for f in fields(self)))

    def dot(self, other: Settings) -> float:
        return sum(float((getattr(self, f.name) * getattr(other, f.name)).sum()) for f in fields(self))


class Strips:
    """The map from settings to filters of `taps` taps, `lead` of them looking ahead, by way of `points` frequencies."""

    def __init__(self, rate: float, taps: int, lead: int, points: int, reverb: int):
        self.rate, self.taps, self.lead, self.points, self.reverb = rate, taps, lead, points, reverb
        firs = torch.from_numpy(band_firs(rate))
        self.eq_half = firs.shape[1] // 2
        turned = torch.zeros(len(firs), points, dtype=torch.float64)
        turned[:, : self.eq_half + 1] = firs[:, self.eq_half :]
        turned[:, points - self.eq_half :] = firs[:, : self.eq_half]
        self.bands = rfft(turned).real
        """The bands' transfer curves (bands, frequencies): real, since the equaliser's delay is compensated."""
        self.gauge = usable_bands(rate).index(GAUGE_HZ)

    def curves(self, eq: Tensor) -> Tensor:
        """Transfer curves (stems, frequencies) of gains (stems, bands)."""
        return torch.exp(NEPER * eq) @ self.bands

    def turns(self, delay: Tensor) -> Tensor:
        """The spectra of delays (stems), as the console moves audio between samples: (stems, frequencies)."""
        return self._placed(delay, lambda samples: interpolation(samples)[1])

    def turning(self, delay: Tensor) -> Tensor:
        """What `turns` changes by per sample."""
        return self._placed(delay, interpolation_slope)

    def _placed(self, delay: Tensor, taps: Callable[[float], np.ndarray]) -> Tensor:
        kernels = torch.zeros(len(delay), self.points, dtype=torch.float64)
        for kernel, samples in zip(kernels, delay.tolist(), strict=True):
            own = torch.from_numpy(taps(samples))
            kernel[(torch.arange(len(own)) + interpolation(samples)[0] + self.lead) % self.points] = own
        return rfft(kernels)

    def spectra(self, settings: Settings) -> Tensor:
        """H (2, stems, frequencies)."""
        dry = settings.sides[..., None] * self.curves(settings.eq) * self.turns(settings.delay)
        return dry * (1.0 + settings.send[:, None] * rfft(settings.room, self.points)[:, None]) if self.reverb else dry

    def filters(self, settings: Settings) -> Tensor:
        """Filters (2, stems, taps), float32."""
        return self.cut(self.spectra(settings))

    def cut(self, spectra: Tensor) -> Tensor:
        return irfft(spectra, self.points)[..., : self.taps].float()

    def in_gauge(self, settings: Settings) -> Settings:
        """The same filters, with the gains that could stand anywhere where they belong."""
        at = settings.eq[:, self.gauge]
        room, send = settings.room, settings.send
        if self.reverb:
            energy = room.square().sum().sqrt().clamp(min=1e-30)
            room, send = room / energy, send * energy
        return replace(
            settings,
            eq=settings.eq - at[:, None],
            sides=settings.sides * torch.exp(NEPER * at),
            send=send,
            room=room,
        )


class Tangent:
    """How filters change with settings, near some settings: the linear map and its adjoint."""

    def __init__(self, strips: Strips, settings: Settings):
        self.strips, self.settings = strips, settings
        turns = strips.turns(settings.delay)
        self.slope = NEPER * torch.exp(NEPER * settings.eq)
        curves = strips.curves(settings.eq)
        self.unit = (curves * turns).to(torch.complex64)
        self.later = (curves * strips.turning(settings.delay)).to(torch.complex64)
        self.turns = turns.to(torch.complex64)
        self.bands = strips.bands.float()
        self.sides = settings.sides.float()[..., None]
        self.rooms = rfft(settings.room, strips.points).to(torch.complex64) if strips.reverb else None
        self.wet = 1.0 + settings.send.float()[:, None] * self.rooms[:, None] if strips.reverb else None

    def forward(self, move: Settings) -> Tensor:
        """Changes of the filters' spectra (2, stems, frequencies) by a change of the settings."""
        shape = (self.slope * move.eq).float() @ self.bands * self.turns + move.delay.float()[:, None] * self.later
        change = move.sides.float()[..., None] * self.unit + self.sides * shape
        if self.rooms is not None:
            rooms = rfft(move.room.float(), self.strips.points)[:, None]
            send = self.settings.send.float()[:, None]
            sent = move.send.float()[:, None] * self.rooms[:, None] + send * rooms
            change = change * self.wet + self.sides * self.unit * sent
        return change

    def adjoint(self, spectra: Tensor) -> Settings:
        """What each setting contributes to changes of the spectra, which are those of (2, stems, taps)."""
        points = self.strips.points
        weights = torch.full((points // 2 + 1,), 2.0 / points)
        weights[0] = weights[-1] = 1.0 / points
        weighted = spectra * weights
        dry = weighted * self.wet.conj() if self.wet is not None else weighted
        own = (dry * self.unit.conj()).real
        both = (dry * self.sides).sum(0)
        eq = self.slope * ((both * self.turns.conj()).real @ self.bands.T)
        delay = (both * self.later.conj()).real.sum(-1).double()
        room, send = self.settings.room, torch.zeros_like(delay)
        if self.rooms is not None:
            onto = self.sides * self.unit.conj()
            send = (weighted * onto * self.rooms[:, None].conj()).real.sum((0, 2)).double()
            back = (spectra * onto * self.settings.send.float()[:, None]).sum(1)
            room = irfft(back, points)[:, : self.strips.reverb].double()
        return Settings(own.sum(-1).double(), eq, delay, send, room)
