"""A mix in a few numbers: what its features would be for other controls, without any audio.

Every track's power, in narrow bands and short frames, is measured behind its strip as it is at the start. Equalisers,
faders, pans and sends weigh these powers; tracks count as independent of each other. What that leaves out is put right
by the difference to a mix that was heard (`Sketch.corrected`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.fft import rfft

from mixtools.controls import EQ_BANDS
from mixtools.dsp.console import Chain
from mixtools.dsp.pan import balance_gains, pan_gains
from mixtools.dsp.parametric_eq import biquad
from mixtools.measure.audio_features import BARK_FFT, GUARD
from mixtools.measure.filterbanks import HIGH_HZ, LOW_HZ, bark, bark_filterbank, bark_hz
from mixtools.measure.frames import Framer, hann
from mixtools.measure.loudness import k_power
from mixtools.mix import Insert, Mix
from mixtools.tasks.transfer.desk import Controls, Desk
from mixtools.tasks.transfer.session import Session

SIZE, HOP = 16384, 8192
BANDS_PER_BARK = 3
PEAKS_S = 0.01
CREST_NORM = 16.0
"""The loudest moments of a mix, as a mean of this order: the highest peak moves with all that are near it."""

QUIET = 1e-20
PART_S = 5.0
AUDIBLE = 0.001
"""Frames this far below the strongest are still heard: 60 dB, as for the spectral features of Table II."""


@dataclass(frozen=True, eq=False)
class Heard:
    """Of tracks, before their pans: powers of left and right and their product (3, tracks, bands, frames), peaks
    (tracks, 2, moments), and which strips are mono."""

    powers: np.ndarray
    peaks: np.ndarray
    mono: np.ndarray


def band_edges_hz(compared: int, rate: int) -> np.ndarray:
    """A third of a Bark wide, up to where anything is compared; one below, and one above for all that is left."""
    top = min(HIGH_HZ, 0.5 * compared)
    count = math.ceil(BANDS_PER_BARK * (bark(top) - bark(LOW_HZ)))
    edges = bark_hz(np.linspace(bark(LOW_HZ), bark(top), count + 1))
    return np.concatenate([[0.0], edges, [0.5 * rate + 1.0] if top < 0.5 * rate else []])


def powers_of(x: np.ndarray, rate: int, edges: np.ndarray) -> np.ndarray:
    """Powers of left, of right, and their product in bands and frames, (3, bands, frames), of audio (2, n)."""
    framer = Framer(SIZE, HOP, 2, centred=True)
    window = hann(SIZE)
    places = np.searchsorted(np.arange(SIZE // 2 + 1) * (rate / SIZE), edges[:-1])
    pieces = []
    for frames in (framer.add(x.astype(np.float64)), framer.finish()):
        if not frames.shape[1]:
            continue
        left, right = rfft((frames * window).astype(np.float32), axis=-1)
        found = np.stack([np.abs(left) ** 2, np.abs(right) ** 2, (left * right.conj()).real])
        pieces.append(np.add.reduceat(found, places, axis=-1))
    return np.concatenate(pieces, axis=1).swapaxes(1, 2).astype(np.float64)


def moments(x: np.ndarray, rate: int) -> np.ndarray:
    """The peak of every 10 ms, (channels, moments)."""
    size = round(PEAKS_S * rate)
    count = -(-x.shape[1] // size)
    padded = np.pad(np.abs(x), ((0, 0), (0, count * size - x.shape[1])))
    return padded.reshape(len(x), count, size).max(axis=-1)


def bark_weights(edges: np.ndarray, compared: int) -> np.ndarray:
    """From amplitudes of narrow bands to sums of magnitudes in Bark bands, (24, bands)."""
    bank = bark_filterbank(BARK_FFT // 2 + 1, compared)
    hz = np.linspace(0.0, compared / 2, BARK_FFT // 2 + 1)
    place = np.searchsorted(edges, hz, side="right") - 1
    counts = np.bincount(place, minlength=len(edges))
    return np.stack(
        [bank[:, place == band].sum(axis=1) / math.sqrt(max(counts[band], 1)) for band in range(len(edges) - 1)], axis=1
    )


def typical_bands(mid: torch.Tensor, bark: torch.Tensor) -> torch.Tensor:
    """The shape of a spectrum at most times: mean logarithms over frames of Bark bands relative to their sum, (24,).

    mid are powers of L + R (bands, frames). Frames that are nearly silent do not count.
    """
    bands = torch.sqrt(mid.clamp(min=QUIET)).T @ bark.T
    total = bands.sum(dim=-1, keepdim=True)
    audible = (total > AUDIBLE * total.max()).double().detach()
    shape = torch.log((bands / total).clamp(min=GUARD))
    return (audible * shape).sum(dim=0) / audible.sum()


def typical_of(x: np.ndarray, rate: int, compared: int) -> torch.Tensor:
    """The same of audio (1 or 2, n)."""
    edges = band_edges_hz(compared, rate)
    left, right, both = torch.from_numpy(powers_of(np.broadcast_to(x, (2, x.shape[1])), rate, edges))
    return typical_bands(left + right + 2.0 * both, torch.from_numpy(bark_weights(edges, compared)))


class Sketch:
    """What is known of a desk's tracks, and features of mixes of them by their controls."""

    def __init__(self, desk: Desk, session: Session, compared: int):
        self.desk, self.session, self.rate = desk, session, session.rate
        self.edges = band_edges_hz(compared, self.rate)
        self.hz = np.sqrt(np.maximum(self.edges[:-1], 5.0) * np.minimum(self.edges[1:], 0.5 * self.rate))
        self.start = desk.start()
        self.heard = self._listened(session.in_its_time(desk.mix))
        self.fixed = self._fixed()
        self.returns = [self._return(bus) for bus in desk.buses]
        self._bark = torch.from_numpy(bark_weights(self.edges, compared))
        self._k = torch.from_numpy(k_power(self.hz, self.rate))
        powers = torch.from_numpy(self.heard.powers)
        self._own = powers.sum(dim=-1)
        self._powers = powers.transpose(1, 2).contiguous()
        self._square_peaks = torch.from_numpy(self.heard.peaks.astype(np.float64).swapaxes(0, 1) ** 2)
        eq = [desk.insert(i, "parametric_eq").settings for i in range(len(desk.free))]
        eq.append(desk.mix.master.chain[desk.master_eq].settings)
        self._eq = {
            name: torch.tensor([[each[f"{band}_{name}"] for band in EQ_BANDS] for each in eq], dtype=torch.float64)
            for name in ("freq_hz", "q", "gain_db")
        }
        w = 2.0 * np.pi * self.hz / self.rate
        self._cosines = torch.from_numpy(np.stack([np.cos(w), np.cos(2.0 * w)]))
        self._laws: dict[tuple[str, bool], torch.Tensor] = {}
        for i in range(len(desk.free)):
            if (pan := desk.insert(i, "pan")) is not None:
                key = pan.settings["law"], bool(self.heard.mono[i])
                self._laws[key] = torch.cat([self._laws.get(key, torch.zeros(0, dtype=torch.long)), torch.tensor([i])])
        self._peaks_at = torch.ones(len(desk.free), dtype=torch.float64)
        self._eq_start = self._response(self._eq["gain_db"], torch.zeros_like(self._eq["gain_db"]))
        self.offsets: dict[str, torch.Tensor | float] = {}

    def _listened(self, mix: Mix) -> Heard:
        powers, peaks, mono = [], [], []
        for k in range(len(self.desk.free)):
            x = self._centred(mix, k)
            powers.append(powers_of(x, self.rate, self.edges))
            peaks.append(moments(x, self.rate))
            mono.append(len(self.session.placed(mix.tracks[self.desk.free[k]])) == 1)
        if not powers:
            return Heard(np.zeros((3, 0, len(self.hz), 1)), np.zeros((0, 2, 1)), np.zeros(0, bool))
        return Heard(np.stack(powers, axis=1), np.stack(peaks), np.array(mono))

    def _centred(self, mix: Mix, k: int) -> np.ndarray:
        """A movable track after its strip, but for its pan, (2, n)."""
        track, places = mix.tracks[self.desk.free[k]], self.desk.places[k]
        chain = list(track.chain)
        if places.pan is not None:
            chain[places.pan] = Insert("pan", chain[places.pan].controls | {"pan": 0.5})
        x = self.session.through(chain, self.session.placed(track))
        return self.session.cut(np.broadcast_to(x, (2, x.shape[1])))

    def listen_again(self, mix: Mix, controls: Controls) -> None:
        """Peaks as they are in a mix with such controls: equalisers and compressors shape them."""
        mix = self.session.in_its_time(mix)
        peaks = np.stack([moments(self._centred(mix, k), self.rate) for k in range(len(self.desk.free))])
        self._square_peaks = torch.from_numpy(peaks.astype(np.float64).swapaxes(0, 1) ** 2)
        with torch.no_grad():
            self._peaks_at = self._gains(self.weights(controls)[0])

    def _gains(self, weights: torch.Tensor) -> torch.Tensor:
        """What weights (tracks, bands) make of the tracks' powers, (tracks,)."""
        own = self._own[0] + self._own[1]
        return ((weights * own).sum(dim=-1) + QUIET) / (own.sum(dim=-1) + QUIET)

    def _fixed(self) -> torch.Tensor | None:
        """Powers of what stays as it is, on its way to the master, (3, bands, frames)."""
        mix = Mix.from_plain(self.desk.mix.to_plain())
        free = {id(mix.tracks[i]) for i in self.desk.free}
        mix.tracks = [track for track in mix.heard() if id(track) not in free]
        if not mix.tracks:
            return None
        mix.master.chain = mix.master.chain[: self.desk.master_eq]
        x = self.session.rendered(mix)
        return torch.from_numpy(powers_of(x, self.rate, self.edges)) if x.any() else None

    def _return(self, bus: str) -> torch.Tensor:
        """What a bus makes of an impulse, (3, bands, frames): powers of left and right, and their product."""
        chain = Chain(
            self.session.in_its_time(self.desk.mix).buses[bus].chain,
            self.rate,
            2,
            np.float32,
            responses=self.session.responses,
        )
        length = max(HOP, min(chain.tail(60.0), 4 * self.rate))
        impulse = np.zeros((2, chain.latency + length), np.float32)
        impulse[:, 0] = 1.0
        y = chain.process(impulse)[:, chain.latency :]
        count = -(-y.shape[1] // HOP)
        parts = np.pad(y, ((0, 0), (0, count * HOP - y.shape[1]))).reshape(2, count, HOP)
        left, right = rfft(parts.astype(np.float64), SIZE, axis=-1)
        found = np.stack([np.abs(left) ** 2, np.abs(right) ** 2, (left * right.conj()).real])
        places = np.searchsorted(np.arange(SIZE // 2 + 1) * (self.rate / SIZE), self.edges[:-1])
        widths = np.diff([*places, SIZE // 2 + 1])
        mean = np.add.reduceat(found, places, axis=-1) / widths
        return torch.from_numpy(mean.swapaxes(1, 2).copy())

    def _response(self, gains_db: torch.Tensor, octaves: torch.Tensor) -> torch.Tensor:
        """Power responses of equalisers (..., 6) in the narrow bands, (..., bands)."""
        freqs, qs = self._eq["freq_hz"] * 2.0**octaves, self._eq["q"]
        parts = [slice(0, 1), slice(1, 5), slice(5, 6)]
        sections = torch.cat(
            [
                biquad(EQ_BANDS[part.start], gains_db[..., part], freqs[..., part], qs[..., part], self.rate)
                for part in parts
            ],
            dim=-2,
        )[..., None]
        b0, b1, b2, a1, a2 = sections.unbind(-2)
        over = _square(b0, b1, b2, self._cosines)
        return (over / _square(1.0, a1, a2, self._cosines)).prod(dim=-2)

    def _sides(self, pans: torch.Tensor) -> torch.Tensor:
        """Gains of left and right against those at the centre, (tracks, 2)."""
        sides = torch.ones(len(pans), 2, dtype=torch.float64)
        for (law, mono), chosen in self._laws.items():
            gains = pan_gains if mono else balance_gains
            centre = gains(torch.tensor(0.5, dtype=torch.float64), law)
            sides = sides.index_copy(0, chosen, gains(pans[chosen], law) / centre)
        return sides

    def weights(self, controls: Controls) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Power gains by equaliser and fader (tracks, bands), sides (tracks, 2), and the master's response (bands,)."""
        octaves = torch.cat([controls.eq_octaves, controls.master_eq_octaves[None]])
        gains = torch.cat([controls.eq_db, controls.master_eq_db[None]])
        responses = self._response(gains, octaves) / self._eq_start
        faders = 10.0 ** ((controls.faders_db - torch.from_numpy(self.start.faders_db)) / 10.0)
        return responses[:-1] * faders[:, None], self._sides(controls.pans), responses[-1]

    def _parts(self, mid: torch.Tensor, side: torch.Tensor, loud: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Bands of every few seconds by themselves, (parts, 2, 24), and what share of the loudness is in each."""
        frames = mid.shape[-1]
        size = min(round(PART_S * self.rate / HOP), frames)
        count = frames // size
        amplitudes = torch.sqrt(torch.stack([mid, side])[..., : count * size])
        bands = amplitudes.unflatten(-1, (count, size)).mean(dim=-1).movedim(-1, 0) @ self._bark.T
        power = loud[: count * size].unflatten(-1, (count, size)).sum(dim=-1).clamp(min=QUIET)
        return torch.log(bands.clamp(min=QUIET) * torch.rsqrt(power * count)[:, None, None]), power / power.sum()

    def shares(self, weights: torch.Tensor, sides: torch.Tensor) -> torch.Tensor:
        """The power of every track before the master, as it is heard, (tracks,)."""
        k = weights * self._k
        both = self._own[0] * (sides[:, :1] ** 2) + self._own[1] * (sides[:, 1:] ** 2)
        return (k * both).sum(dim=-1)

    def features(self, controls: Controls) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Features by name (see `AudioFeatures`; the bands as logarithms), and the tracks' powers."""
        weights, sides, master = self.weights(controls)
        left, right = sides[:, 0], sides[:, 1]
        products = torch.stack([left * left, right * right, left * right])
        powers = products[:, :, None] * weights  # (3, tracks, bands)
        sends = 10.0 ** (controls.sends_db / 10.0) * torch.from_numpy(self.desk.sendable().astype(np.float64))
        rows = torch.cat([torch.ones(len(weights), 1, dtype=torch.float64), sends], dim=1)  # (tracks, 1 + buses)
        gains = powers.transpose(1, 2)[:, :, None] * rows.T  # (3, bands, 1 + buses, tracks)
        mixed = gains @ self._powers
        total = mixed[:, :, 0]
        for r, response in enumerate(self.returns, 1):
            total = total + _smeared(mixed[:, :, r], response)
        if self.fixed is not None:
            total = total + self.fixed
        total = total * master[:, None]
        ll, rr, lr = total
        mid, side = (ll + rr + 2.0 * lr).clamp(min=QUIET), (ll + rr - 2.0 * lr).clamp(min=QUIET)
        bands = torch.stack([torch.sqrt(mid).mean(dim=-1), torch.sqrt(side).mean(dim=-1)])
        bark = (bands @ self._bark.T).clamp(min=QUIET)
        left, right = ll.sum().clamp(min=QUIET), rr.sum().clamp(min=QUIET)
        loud = (self._k[:, None] * (ll + rr)).sum().clamp(min=QUIET)
        factor = torch.rsqrt(loud)
        scales = self._gains(weights) / self._peaks_at
        peaks = ((scales[:, None] * sides**2).T[:, None] @ self._square_peaks)[:, 0]
        half = 0.5 * CREST_NORM
        top = peaks.detach().amax(dim=-1, keepdim=True).clamp(min=QUIET)
        highest = top[:, 0] * (((peaks / top) ** half).sum(dim=-1) + QUIET) ** (1.0 / half)
        energy = torch.stack([left, right])
        parts, heard = self._parts(mid, side, (self._k[:, None] * (ll + rr)).sum(dim=0))
        return {
            "rms": torch.log(torch.sqrt(energy) * factor),
            "crest": 10.0 * torch.log10(highest / energy),
            "bark": torch.log(bark * factor),
            "width": torch.log(side.sum() / mid.sum()),
            "imbalance": (right - left) / (left + right),
            "typical": typical_bands(mid, self._bark),
            "parts": parts,
            "heard": heard,
            "loudness": 10.0 * torch.log10(loud),
        }, self.shares(weights, sides)


def _square(c0, c1, c2, cosines: torch.Tensor):
    """|c0 + c1 / z + c2 / z^2|^2 on the unit circle."""
    return c0 * c0 + c1 * c1 + c2 * c2 + 2.0 * (c0 * c1 + c1 * c2) * cosines[0] + 2.0 * c0 * c2 * cosines[1]


def _smeared(power: torch.Tensor, response: torch.Tensor) -> torch.Tensor:
    """Powers (3, bands, frames) after a bus whose impulse response has powers (3, bands, taps)."""
    total = power * response[..., :1]
    for tap in range(1, min(response.shape[-1], power.shape[-1])):
        late = power[..., :-tap] * response[..., tap : tap + 1]
        total = total + torch.nn.functional.pad(late, (tap, 0))
    return total
