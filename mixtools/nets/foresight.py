"""What a mix would come to, foreseen without rendering it: stems and records as heard, and how bands add up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from mixtools.controls import EQ_BANDS, REVERB_CENTRES_HZ
from mixtools.diff.console import preset_controls
from mixtools.dsp.noise import shaped_noise
from mixtools.dsp.pan import balance_gains, pan_gains
from mixtools.dsp.parametric_eq import biquad
from mixtools.measure.audio_features import AF_TERMS, BARK_FFT, EPSILON, GUARD, AudioFeatures, audio_features
from mixtools.measure.catalogue import BARK_BANDS
from mixtools.measure.filterbanks import bark, bark_filterbank, bark_hz
from mixtools.measure.frames import hann
from mixtools.measure.loudness import LoudnessMeter, k_power
from mixtools.mix import Insert
from mixtools.nets.dmc import balanced_loudness
from mixtools.presets import PRESETS, Preset, Slot, Strip

_ROOM = {
    **{f"band{k}_gain": round(0.25 * min(1.0, hz / 250.0), 4) for k, hz in enumerate(REVERB_CENTRES_HZ, 1)},
    **{
        f"band{k}_decay_s": round(1.4 * min(1.0, (1000.0 / hz) ** 0.35), 3) for k, hz in enumerate(REVERB_CENTRES_HZ, 1)
    },
    "predelay_ms": 12.0,
}


_Range = tuple[float, float]


def _equaliser(gain_db: float) -> Slot:
    frequencies: dict[str, _Range] = {
        "low_shelf": (30.0, 250.0),
        "band1": (60.0, 500.0),
        "band2": (250.0, 1500.0),
        "band3": (1000.0, 5000.0),
        "band4": (3000.0, 12000.0),
        "high_shelf": (4000.0, 16000.0),
    }
    ranges: dict[str, tuple[Any, Any]] = {}
    for band, span in frequencies.items():
        ranges[f"{band}_gain_db"] = -gain_db, gain_db
        ranges[f"{band}_freq_hz"] = span
        ranges[f"{band}_q"] = (0.4, 1.2) if "shelf" in band else (0.3, 3.0)
    return Slot("parametric_eq", ranges)


def _compressor(ratio: _Range, makeup_db: _Range) -> Slot:
    ranges: dict[str, tuple[Any, Any]] = {
        "threshold_db": (-40.0, 0.0),
        "ratio": ratio,
        "attack_ms": (1.0, 60.0),
        "release_ms": (40.0, 300.0),
        "makeup_db": makeup_db,
    }
    return Slot("compressor", ranges, {"knee_db": 6.0})


CONSOLES: dict[str, Preset] = {
    "diffmst": PRESETS["diffmst"],
    "transfer": Preset(
        "transfer",
        "Gain, EQ, compressor, pan and a reverb send per track; EQ, compressor and limiter on the master.",
        Strip(
            (
                Slot("gain", {"gain_db": (-12.0, 12.0)}),
                _equaliser(12.0),
                _compressor((1.0, 4.0), (-6.0, 9.0)),
                Slot("pan", {"pan": (0.0, 1.0)}, {"law": "compromise"}),
            ),
            sends={"reverb": (-48.0, 0.0)},
        ),
        Strip(
            (
                _equaliser(9.0),
                _compressor((1.0, 3.0), (-12.0, 6.0)),
                Slot("limiter", {"ceiling_db": (-24.0, 0.0), "release_ms": (20.0, 400.0)}),
            )
        ),
        {"reverb": Strip((Slot("reverb", held=_ROOM),))},
    ),
}
"""What a model sets: the paper's console, or ours, whose ranges are those that mixes use."""

FFT, HOP = 2048, 512

POOLED = 8
"""Spectrogram frames that count as one."""

BANDS = 64

FLOOR = 0.03
"""What magnitudes of the spectrogram are raised by before the logarithm."""

FINE = 96
"""Bands whose powers are added up, four in a Bark band."""

FINE_FFT, FINE_HOP = 8192, 4096

FRAMES_AT_A_TIME = 32

_TO_NATURAL = math.log(10.0) / 10.0

_ABOVE_RMS_DB = 4.0
"""Of the mean of peaks in 10 ms, about."""

_MOMENT_MS, _PEAK_MS = 5.0, 3.0
"""How long a loud moment lasts, about, and its peak."""

_BETWEEN_MS = 100.0
"""From one loud moment to the next, about."""

_SOFT_DB = 1.0
"""A ceiling is not felt all at once."""

_BAND_CONTROLS = "gain_db", "freq_hz", "q"

LEVELS = 16

BLOCK_S = 0.01

LOWEST_DB = -90.0

LEAST = 1e-12
"""Powers below it count as it."""

RECORD_LUFS = -16.0
"""Where mixes and records are compared."""


class Heard(NamedTuple):
    """What a controller hears of songs' stems, all at one loudness; filled up with stems that are not there."""

    spectrograms: Tensor
    """(songs, stems, frames, 64), natural logarithms"""
    powers: Tensor
    """(songs, 3, 96, stems, stems): of left and left, right and right, left and right, per fine band"""
    peaks: Tensor
    """(songs, stems, 24): magnitudes averaged over time in a Bark band over the root of their mean squares"""
    levels: Tensor
    """(songs, stems, 16), quantiles of the levels of 10 ms, in dB"""
    told_db: Tensor
    """(songs, stems), how loud stems were recorded, against their song's mean power"""
    stereo: Tensor
    """(songs, stems), which are stereo"""
    present: Tensor
    """(songs, stems), which are there"""
    power_scale: Tensor
    """(songs,), what foreseen powers are multiplied with, so that the plain sum's is its loudness"""
    bark_scale: Tensor
    """(songs, 24), the same for the Bark bands of the middle"""
    sum_crest_db: Tensor
    """(songs, 2), of the plain sum"""


class Record(NamedTuple):
    """What a controller hears of records, at -16 LUFS."""

    spectrograms: Tensor
    """(songs, 2, frames, 64), of the middle and of the side"""
    bark: Tensor
    """(songs, 2, 24)"""
    rms: Tensor
    """(songs, 2)"""
    crest_db: Tensor
    """(songs, 2)"""
    width: Tensor
    """(songs,)"""
    imbalance: Tensor
    """(songs,)"""

    @property
    def features(self) -> AudioFeatures:
        return AudioFeatures(self.rms, self.crest_db, self.bark, self.width, self.imbalance)


class Controls(NamedTuple):
    """Of the console, in 0 to 1: of the stems (songs, stems, controls), and of the master (songs, controls)."""

    tracks: Tensor
    master: Tensor


class Foreseen(NamedTuple):
    """What a mix would come to, at -16 LUFS."""

    bark: Tensor
    """(songs, 2, 24)"""
    crest_db: Tensor
    """(songs,), of both channels"""
    width: Tensor
    """(songs,)"""
    imbalance: Tensor
    """(songs,)"""
    shares: Tensor
    """(songs, stems, 24), of the stems in the power of the middle's Bark bands"""
    power: Tensor
    """(songs,), before the mix comes to the master's dynamics"""


def spectrogram(x: Tensor, rate: float) -> Tensor:
    """ln of 64 Bark bands of audio (..., n), eight frames at a time, (..., frames, 64); at least one."""
    x = pad(x, (0, max(0, FFT + (POOLED - 1) * HOP - x.shape[-1])))
    bank = torch.from_numpy(bark_filterbank(FFT // 2 + 1, rate, BANDS).T).to(x)
    frames = x.unfold(-1, FFT, HOP) * torch.from_numpy(hann(FFT)).to(x)
    bands = torch.log(torch.fft.rfft(frames).abs() @ bank + FLOOR)
    count = bands.shape[-2] // POOLED
    return bands[..., : count * POOLED, :].unflatten(-2, (count, POOLED)).mean(dim=-2)


@lru_cache(maxsize=8)
def _fine_edges() -> np.ndarray:
    return bark_hz(np.linspace(bark(np.float64(20.0)), bark(np.float64(20000.0)), FINE + 1))


@lru_cache(maxsize=8)
def _fine_bins(size: int, rate: float) -> list[tuple[int, int]]:
    """First and last bin of every fine band; never empty below half the rate, and none above."""
    half = size // 2
    bounds = np.rint(_fine_edges() * size / rate).astype(int)
    return [
        (min(first, half), min(max(last, first + 1), half)) for first, last in zip(bounds[:-1], bounds[1:], strict=True)
    ]


@lru_cache(maxsize=8)
def _fine_centres() -> np.ndarray:
    edges = _fine_edges()
    return np.sqrt(edges[:-1] * edges[1:])


@lru_cache(maxsize=8)
def _collecting(rate: float) -> np.ndarray:
    """Weights (24, 96) of the fine bands' root mean powers in the Bark bands."""
    bank = bark_filterbank(BARK_FFT // 2 + 1, rate)
    bins = _fine_bins(BARK_FFT, rate)
    return np.stack([bank[:, first:last].sum(axis=1) for first, last in bins], axis=1)


@lru_cache(maxsize=8)
def _loudness_weights(rate: float) -> np.ndarray:
    """The power that K-weighting gives every fine band, (96,)."""
    return k_power(np.minimum(_fine_centres(), 0.499 * rate), rate)


def _added_up(stems: Sequence[np.ndarray], rate: float) -> Tensor:
    """Mean powers (3, 96, stems, stems) of stems (2, n) of one length; silent beyond half the rate."""
    x = torch.from_numpy(np.stack(stems))
    count, n = len(stems), x.shape[-1]
    x = pad(x, (0, max(0, FINE_FFT - n)))
    window = torch.from_numpy(hann(FINE_FFT)).to(x)
    frames = x.unfold(-1, FINE_FFT, FINE_HOP)
    bins = _fine_bins(FINE_FFT, rate)
    total = torch.zeros(FINE, 2 * count, 2 * count)
    for at in range(0, frames.shape[2], FRAMES_AT_A_TIME):
        spectra = torch.fft.rfft(frames[:, :, at : at + FRAMES_AT_A_TIME] * window).flatten(0, 1)
        parts = torch.view_as_real(spectra)
        for band, (first, last) in enumerate(bins):
            if last > first:
                rows = parts[:, :, first:last].flatten(1)
                total[band] += rows @ rows.T / (last - first)
    total = total.unflatten(1, (count, 2)).unflatten(3, (count, 2)) / frames.shape[2]
    return torch.stack([total[:, :, 0, :, 0], total[:, :, 1, :, 1], total[:, :, 0, :, 1]])


def _levels(x: np.ndarray, rate: float) -> np.ndarray:
    """Quantiles (16,) of the peaks of 10 ms, in dB, of audio (channels, n)."""
    block = max(1, round(BLOCK_S * rate))
    peaks = np.abs(x).max(axis=0)
    peaks = np.pad(peaks, (0, -len(peaks) % block)).reshape(-1, block).max(axis=1)
    db = 20.0 * np.log10(np.maximum(peaks, 10.0 ** (LOWEST_DB / 20.0)))
    return np.quantile(db, (np.arange(LEVELS) + 0.5) / LEVELS)


def _mean_bark(x: Tensor, rate: float) -> Tensor:
    """Bark bands (..., 24) of the magnitudes of audio (..., n), averaged over time."""
    x = pad(x, (0, max(0, BARK_FFT - x.shape[-1])))
    window = torch.from_numpy(hann(BARK_FFT)).to(x)
    total = 0.0
    frames = x.unfold(-1, BARK_FFT, BARK_FFT // 2)
    for k in range(frames.shape[-2]):
        total = total + torch.fft.rfft(frames[..., k, :] * window).abs()
    bank = torch.from_numpy(bark_filterbank(BARK_FFT // 2 + 1, rate).T).to(x)
    return total @ bank / frames.shape[-2]


def hear_stems(stems: Sequence[np.ndarray], told_db: Sequence[float], rate: float) -> Heard:
    """One song's stems (1 or 2, n) of one length at a loudness, as a batch of one; told how loud each was recorded."""
    both = [np.broadcast_to(np.asarray(stem, np.float32), (2, stem.shape[-1])) for stem in stems]
    powers = _added_up(both, rate)
    whole = torch.from_numpy(np.sum(both, axis=0))
    features = audio_features(whole.double(), rate)
    middles = torch.stack([torch.from_numpy(stem.sum(axis=0)) for stem in both])
    own = powers.diagonal(dim1=-2, dim2=-1)
    middle = (own[0] + own[1] + 2.0 * own[2]).T
    collecting = torch.from_numpy(_collecting(rate)).float()
    peaks = torch.stack([_mean_bark(x, rate) for x in middles]) / (
        middle.clamp(min=0.0).sqrt() @ collecting.T * math.sqrt(BARK_FFT / FINE_FFT)
    ).clamp(min=1e-9)
    heard = Heard(
        torch.stack([spectrogram(0.5 * x, rate) for x in middles])[None],
        powers[None],
        peaks.clamp(0.05, 1.5)[None],
        torch.from_numpy(np.stack([_levels(stem, rate) for stem in stems])).float()[None],
        torch.tensor([list(told_db)], dtype=torch.float32),
        torch.tensor([[len(stem) == 2 for stem in stems]]),
        torch.ones(1, len(both), dtype=torch.bool),
        torch.ones(1),
        torch.ones(1, BARK_BANDS),
        features.crest_db.float()[None],
    )
    power_scale, bark_scale = _scales(heard, _gated_power(whole.numpy(), rate), features.bark[0].float(), rate)
    return heard._replace(power_scale=power_scale, bark_scale=bark_scale)


def _gated_power(x: np.ndarray, rate: float) -> float:
    meter = LoudnessMeter(rate, len(x))
    meter.add(np.ascontiguousarray(x))
    lufs = meter.integrated_lufs
    return 0.0 if lufs is None else 10.0 ** (lufs / 10.0)


def hear_record(audio: np.ndarray, rate: float) -> Record:
    """One record (1 or 2, n) at any loudness, as a batch of one."""
    x = np.array(np.broadcast_to(np.asarray(audio, np.float32), (2, audio.shape[-1])))
    power = _gated_power(x, rate)
    if power > 0.0:
        x *= np.float32(math.sqrt(10.0 ** (RECORD_LUFS / 10.0) / power))
    features = audio_features(x.astype(np.float64), rate)
    sides = torch.from_numpy(np.stack([0.5 * (x[0] + x[1]), 0.5 * (x[0] - x[1])]))
    numbers = (features.bark, features.rms, features.crest_db, features.width, features.imbalance)
    return Record(
        spectrogram(sides, rate)[None], *(torch.as_tensor(np.asarray(y), dtype=torch.float32)[None] for y in numbers)
    )


def at_record_loudness(mixes: Tensor, rate: float) -> Tensor:
    """Mixes (songs, 2, n) at -16 LUFS, differentiable; silent ones as they are."""
    powers = torch.tensor([_gated_power(mix, rate) for mix in mixes.detach().cpu().float().numpy()])
    gains = torch.where(powers > 0.0, torch.sqrt(10.0 ** (RECORD_LUFS / 10.0) / powers.clamp(min=LEAST)), 1.0)
    return balanced_loudness(mixes, rate, mixes.detach() * gains.to(mixes)[:, None, None])


def blended(records: Sequence[Record], weights: Sequence[float]) -> Record:
    """Several records as one: their features' weighted means (of Bark bands, of the logarithms), all their frames.

    A band that is 80 dB below a record's largest counts as that there.
    """
    records, weights = zip(*((r, w) for r, w in zip(records, weights, strict=True) if w > 0.0), strict=True)
    if len(records) == 1:
        return records[0]
    shares = [weight / sum(weights) for weight in weights]

    def mean(values: Sequence[Tensor]) -> Tensor:
        return sum(share * value.double() for share, value in zip(shares, values, strict=True)).float()

    return Record(
        torch.cat([record.spectrograms for record in records], dim=2),
        mean([_guarded(record.bark, record.bark).log() for record in records]).exp(),
        *(mean([getattr(record, name) for record in records]) for name in ("rms", "crest_db", "width", "imbalance")),
    )


def foresee(heard: Heard, console: Preset, controls: Controls, rate: float) -> Foreseen:
    """What a mix by these controls would come to, without rendering it.

    Compressors are taken for what they do to levels of 10 ms, loud moments of all stems for one and the same, the
    limiter for a ceiling, and the phases of equalisers for none.
    """
    effects, sends = preset_controls(console.track, controls.tracks, rate)
    left, right, peaks, levels = _through_strips(heard, effects, rate)
    master, _ = preset_controls(console.master, controls.master[:, None], rate)
    for effect, values in master:
        if effect == "parametric_eq":
            through = _equalised(values, rate).to(left)
            left, right = left * through, right * through
    powers = _summed(heard.powers, left, right)
    if sends:
        room = torch.from_numpy(_room_powers(console.name, rate)).to(left)
        for level_db in sends.values():
            sent = (10.0 ** (level_db / 20.0))[..., None].to(left)
            powers = powers + room * _summed(heard.powers, left * sent, right * sent)
    of_left, of_right, of_both = powers.unbind(1)
    middle = (of_left + of_right + 2.0 * of_both).clamp(min=0.0)
    side = (of_left + of_right - 2.0 * of_both).clamp(min=0.0)
    power = ((of_left + of_right) * _loudness_of(left, rate)).sum(dim=-1) * heard.power_scale
    gain = torch.sqrt(10.0 ** (RECORD_LUFS / 10.0) / power.clamp(min=LEAST))
    collecting = torch.from_numpy(_collecting(rate)).to(left)
    shares, peak = _shares(heard, left, right, collecting)
    bands = (torch.stack([middle, side], dim=1) + LEAST).sqrt() @ collecting.T
    widths = _widths(left)
    total = ((of_left + of_right) * widths).sum(dim=-1)
    # Left and right count together for loudness, and one by one for the crest.
    level_db = 10.0 * torch.log10((0.5 * total * heard.power_scale).clamp(min=LEAST))
    return Foreseen(
        bands * (peak * heard.bark_scale)[:, None] * gain[:, None, None],
        _crest_db(heard, peaks, levels, level_db, master),
        (side * widths).sum(dim=-1) / (middle * widths).sum(dim=-1).clamp(min=LEAST),
        ((of_right - of_left) * widths).sum(dim=-1) / total.clamp(min=LEAST),
        shares,
        power,
    )


def _crest_db(heard: Heard, peaks: Tensor, levels: Tensor, level_db: Tensor, master: Any) -> Tensor:
    """The mix's crest factor (songs,), from the stems' peaks (songs, stems, 1) and levels (songs, stems, 16), and the
    sum's level before the master's dynamics (songs,)."""
    mixed, peak = _together(levels, heard.present), _together(peaks, heard.present)
    before = _together(heard.levels, heard.present)
    change_db = level_db.new_zeros(len(level_db))
    ceiling_db: Tensor | None = None
    for effect, values in master:
        if effect == "compressor":
            steady = {name: value[:, 0] if isinstance(value, Tensor) else value for name, value in values.items()}
            # Where the sum of the levels is not the level of the sum.
            moved = (level_db + _ABOVE_RMS_DB - _mean_db(mixed))[:, None]
            mixed, peak = mixed + moved, peak + moved
            peak = peak - _reduced_db(peak, steady, _PEAK_MS).to(mixed)
            after = mixed - _reduced_db(mixed, steady).to(mixed)
            change_db = _mean_db(after) - _mean_db(mixed) + steady["makeup_db"].to(mixed)
            mixed = after
        elif effect == "limiter":
            ceiling_db = values["ceiling_db"][:, 0].to(mixed)
    crest_db = heard.sum_crest_db.mean(dim=-1) + peak[:, 0] - _mean_db(mixed) - before[:, -1] + _mean_db(before)
    if ceiling_db is None:
        return crest_db
    over = crest_db - (ceiling_db - level_db - change_db)
    return crest_db - _SOFT_DB * nn.functional.softplus(over / _SOFT_DB)


def _together(levels: Tensor, present: Tensor) -> Tensor:
    """Levels (songs, n) of stems (songs, stems, n) that are loud at the same moments."""
    silent = levels.masked_fill(~present[..., None], LOWEST_DB - 60.0)
    return torch.logsumexp(silent * _TO_NATURAL, dim=1) / _TO_NATURAL


def _mean_db(levels: Tensor) -> Tensor:
    return (torch.logsumexp(levels * _TO_NATURAL, dim=-1) - math.log(LEVELS)) / _TO_NATURAL


def _scales(heard: Heard, power: float, middle_bark: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """What makes the plain sum come to what was measured of it, (1,) and (1, 24)."""
    ones = torch.ones(*heard.present.shape, FINE)
    of_left, of_right, of_both = _summed(heard.powers, ones, ones).unbind(1)
    foreseen = ((of_left + of_right) * _loudness_of(ones, rate)).sum(dim=-1)
    collecting = torch.from_numpy(_collecting(rate)).to(ones)
    _, peak = _shares(heard, ones, ones, collecting)
    bands = ((of_left + of_right + 2.0 * of_both).clamp(min=0.0) + LEAST).sqrt() @ collecting.T * peak
    sounds = middle_bark > GUARD * middle_bark.max()
    ratio = middle_bark / bands
    # Bands that hold next to nothing say nothing about what is brought into them.
    typical = ratio[sounds[None]].median() if bool(sounds.any()) else torch.ones(())
    ratio = torch.where(sounds, ratio.clamp(0.3 * typical, 3.0 * typical), typical)
    return power / foreseen.clamp(min=LEAST), ratio


def _loudness_of(like: Tensor, rate: float) -> Tensor:
    """What K-weighting makes of a fine band's mean power, (96,)."""
    return torch.from_numpy(_loudness_weights(rate)).to(like) * _widths(like)


def _widths(like: Tensor) -> Tensor:
    """Of the fine bands, (96,): their powers are means over their bins."""
    widths = np.diff(_fine_edges())
    return torch.from_numpy(widths / widths.mean()).to(like)


def _summed(powers: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Powers (songs, 3, 96) of the sum of stems with amplitudes (songs, stems, 96) on each side."""
    a, b = left.transpose(1, 2), right.transpose(1, 2)
    first = torch.stack([a, b, a], dim=1)
    second = torch.stack([a, b, b], dim=1)
    return (torch.einsum("scbn,scbnm->scbm", first, powers) * second).sum(dim=-1)


def _shares(heard: Heard, left: Tensor, right: Tensor, collecting: Tensor) -> tuple[Tensor, Tensor]:
    """The stems' shares (songs, stems, 24) in the Bark bands' power, and the mix's peaks (songs, 24) after them."""
    own = heard.powers[:, :2].diagonal(dim1=-2, dim2=-1).permute(0, 3, 1, 2)
    power = (own * torch.stack([left, right], dim=2).square()).sum(dim=2) @ collecting.T
    shares = power / power.sum(dim=1, keepdim=True).clamp(min=LEAST)
    return shares, (shares * heard.peaks.square()).sum(dim=1).clamp(min=1e-4).sqrt()


def _through_strips(heard: Heard, effects: Any, rate: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Every stem's amplitudes (songs, stems, 96) on the left and on the right behind its strip, and its peaks
    (songs, stems, 1) and levels (songs, stems, 16) there."""
    own = heard.powers[:, :2].diagonal(dim1=-2, dim2=-1).sum(dim=1).transpose(1, 2)
    through = heard.present[..., None].to(heard.powers).expand(-1, -1, FINE)
    sides = through.new_ones(*through.shape[:2], 2)
    levels, peaks = heard.levels, heard.levels[..., -1:]
    for effect, values in effects:
        if effect == "gain":
            through = through * (10.0 ** (values["gain_db"] / 20.0))[..., None].to(through)
            rise_db = values["gain_db"][..., None].to(levels)
            levels, peaks = levels + rise_db, peaks + rise_db
        elif effect == "parametric_eq":
            equalised = through * _equalised(values, rate).to(through)
            rise_db = 10.0 * torch.log10(_energy(own, equalised) / _energy(own, through))[..., None]
            levels, peaks = levels + rise_db, peaks + rise_db
            through = equalised
        elif effect == "compressor":
            after = levels - _reduced_db(levels, values).to(levels)
            change_db = _mean_db(after) - _mean_db(levels) + values["makeup_db"].to(levels)
            through = through * (10.0 ** (change_db / 20.0))[..., None]
            rise_db = values["makeup_db"][..., None].to(levels)
            peaks = peaks - _reduced_db(peaks, values, _PEAK_MS).to(peaks) + rise_db
            levels = after + rise_db
        elif effect == "pan":
            gains = [law(values["pan"], values["law"]) for law in (balance_gains, pan_gains)]
            sides = torch.where(heard.stereo[..., None], *gains).to(through)
    return through * sides[..., :1], through * sides[..., 1:], peaks, levels


def _energy(own: Tensor, through: Tensor) -> Tensor:
    return (own * through.square() * _widths(own)).sum(dim=-1).clamp(min=LEAST)


def _equalised(values: Mapping[str, Any], rate: float) -> Tensor:
    """The equaliser's amplitudes (..., 96)."""
    hz = torch.from_numpy(np.minimum(_fine_centres(), 0.499 * rate))
    sections = []
    for bands in EQ_BANDS[:1], EQ_BANDS[1:-1], EQ_BANDS[-1:]:
        controls = [torch.stack([values[f"{band}_{name}"] for band in bands], dim=-1) for name in _BAND_CONTROLS]
        sections.append(biquad(bands[0], *controls, rate))
    b0, b1, b2, a1, a2 = torch.cat(sections, dim=-2)[..., None, :].unbind(-1)
    cos, cos2 = (torch.cos(k * math.pi * hz / rate).to(b0) for k in (2.0, 4.0))
    above = b0**2 + b1**2 + b2**2 + 2.0 * (b0 * b1 + b1 * b2) * cos + 2.0 * b0 * b2 * cos2
    below = 1.0 + a1**2 + a2**2 + 2.0 * (a1 + a1 * a2) * cos + 2.0 * a2 * cos2
    return (above.clamp(min=LEAST) / below.clamp(min=LEAST)).prod(dim=-2).sqrt()


def _reduced_db(levels: Tensor, values: Mapping[str, Any], lasting_ms: float | None = None) -> Tensor:
    """By how much a compressor reduces levels (..., n): as if they lasted where it is fast, else all alike, and as the
    loudest moments where it holds on to them.

    Or what it has come to, from nothing, when single levels have lasted so long.
    """
    knee = torch.as_tensor(values["knee_db"])[..., None].clamp(min=1e-3)
    over = levels - values["threshold_db"][..., None]
    bent = torch.minimum((over + 0.5 * knee).clamp(min=0.0), knee)
    slope = (1.0 - 1.0 / values["ratio"])[..., None]
    reduced = slope * (bent.square() / (2.0 * knee) + (over - 0.5 * knee).clamp(min=0.0))
    if lasting_ms is not None:
        return (1.0 - torch.exp(-lasting_ms / values["attack_ms"])[..., None]) * reduced
    fast = 1.0 - torch.exp(-_MOMENT_MS / values["attack_ms"])[..., None]
    held = (values["release_ms"] / (values["release_ms"] + _BETWEEN_MS))[..., None]
    mean = (torch.softmax(levels * _TO_NATURAL, dim=-1) * reduced).sum(dim=-1, keepdim=True)
    same = mean + fast * held * (reduced[..., -2:-1] - mean)
    follows = fast * (1.0 - held)
    return follows * reduced + (1.0 - follows) * same


@lru_cache(maxsize=4)
def _room_powers(console: str, rate: float) -> np.ndarray:
    """What a bus's reverb makes of the power of left, of right and of both together, (3, 96)."""
    (slot,) = CONSOLES[console].buses["reverb"].slots
    settings = Insert(slot.effect, dict(slot.held)).settings
    bands = range(1, len(REVERB_CENTRES_HZ) + 1)
    gains, decays_s = (np.array([settings[f"band{k}_{name}"] for k in bands]) for name in ("gain", "decay_s"))
    response = shaped_noise(gains, decays_s, settings["width"], settings["seed"], rate) * settings["wet"]
    size = 1 << math.ceil(math.log2(response.shape[1]))
    left, right = np.fft.rfft(response, size)
    values = np.abs(left) ** 2, np.abs(right) ** 2, (left * right.conj()).real
    bins = _fine_bins(size, rate)
    return np.array([[y[first:last].mean() if last > first else 0.0 for first, last in bins] for y in values])


def foreseen_loss(foreseen: Foreseen, record: Record) -> Tensor:
    """What of the guarded audio-feature loss can be foreseen, (songs,): all but the level of each channel."""
    bark_apart = _apart(foreseen.bark, record.bark)
    crest_apart = foreseen.crest_db - record.crest_db.mean(dim=-1)
    return (
        AF_TERMS["crest"].weight * crest_apart.square()
        + AF_TERMS["bark"].weight * bark_apart.square().mean(dim=(-2, -1))
        + AF_TERMS["width"].weight * _bounded_square(foreseen.width - record.width)
        + AF_TERMS["imbalance"].weight * (foreseen.imbalance - record.imbalance).square()
    )


def _bounded_square(x: Tensor) -> Tensor:
    """Squares up to 1, and in a straight line from there: a mix that is all side does not drown the others."""
    return torch.where(x.abs() <= 1.0, x.square(), 2.0 * x.abs() - 1.0)


def _apart(bark: Tensor, wanted: Tensor) -> Tensor:
    return torch.log(_guarded(bark, wanted) / _guarded(wanted, wanted))


def _guarded(bark: Tensor, like: Tensor) -> Tensor:
    return torch.maximum(bark, (GUARD * like.amax(dim=(-2, -1), keepdim=True)).clamp(min=EPSILON))
