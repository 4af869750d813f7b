"""Mixes whose every control is known, by our console and by an engine that is not ours, for fits to find again.

The gauge in which controls are compared: EQ 0 dB at 1 kHz, impulse responses of unit energy (both sides together) with
first sample 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

import numpy as np
import scipy.fft
import scipy.signal

from mixtools import Bus, Insert, Master, Mix, Track, compressor, graphic_eq, render
from mixtools.controls import GRAPHIC_CENTRES_HZ
from mixtools.dsp.graphic_eq import usable_bands
from mixtools.synth import Song

BUS = "reverb"
PEAK = 0.9
"""The target's, so that it fits into any file."""

LENGTH = 0.9
"""Of the fitted impulse response is what the true one takes: the rest is for equalisers that ring and for echoes."""

STEM_REACH_DB, MIX_REACH_DB = 40.0, 50.0
"""An octave band counts where the stem is within the first of its own loudest band and the second of the mix."""

NONLINEAR = "compressor", "limiter", "saturation"


@dataclass(frozen=True)
class Truth:
    """A mix (2, n) of mono stems (1, n), float32, and what made it.

    Our console: `mix` and `responses`, float32 (2, taps). Another engine: `strips`, from a stem (n,) to (2, n) float64.
    """

    stems: dict[str, np.ndarray]
    rate: int
    target: np.ndarray
    mix: Mix | None = None
    responses: dict[str, np.ndarray] = field(default_factory=dict)
    strips: dict[str, Callable[[np.ndarray], np.ndarray]] = field(default_factory=dict)


@dataclass(frozen=True)
class Controls:
    """A linear strip in the gauge: `eq_db` (bands,), `wet` (2, taps) all that the stem goes through besides the dry
    path, None where there is none; `send_db` None where it is not a send."""

    gain_db: float
    inverted: bool
    pan: float
    eq_db: np.ndarray
    delay_ms: float
    send_db: float | None
    wet: np.ndarray | None


def mono_stems(song: Song) -> dict[str, np.ndarray]:
    """The raw mono tracks, float32 (1, n)."""
    return {name: stem.mean(axis=0, keepdims=True, dtype=np.float32) for name, stem in song.stems.items()}


def own_mix(song: Song, seed: int, model: str = "stereo-bus", reverb_s: float = 1.0, delays: bool = True) -> Truth:
    """A linear mix by our console: one shared reverb, or with "individual-bus" one for every track."""
    rng = np.random.default_rng([seed, 1])
    stems = mono_stems(song)
    mix, responses = _own_console(rng, stems, song.rate, model, reverb_s, delays)
    loudest = np.abs(_rendered(mix, stems, song.rate, responses)).max()
    for track in mix.tracks:
        _insert(track, "gain").controls["gain_db"] += min(0.0, float(_db(PEAK / loudest)))
    return Truth(stems, song.rate, _rendered(mix, stems, song.rate, responses), mix, responses)


def mastered(song: Song, seed: int, reverb_s: float = 1.0, delays: bool = True) -> Truth:
    """An own stereo bus mix with compressors on every other track, and a limiter on the master that works."""
    rng = np.random.default_rng([seed, 2])
    stems = mono_stems(song)
    mix, responses = _own_console(rng, stems, song.rate, "stereo-bus", reverb_s, delays)
    for track in mix.tracks[::2]:
        equalised = graphic_eq(stems[track.file], song.rate, **_insert(track, "graphic_eq").controls)
        settings = _working_compressor(rng, equalised, song.rate)
        if settings:
            track.chain.insert(1, Insert("compressor", settings))
    loudest = np.abs(_rendered(mix, stems, song.rate, responses)).max()
    drive_db = _db(PEAK / loudest) + rng.uniform(4.0, 7.0)
    limiter = Insert("limiter", {"ceiling_db": float(_db(PEAK)), "release_ms": float(rng.uniform(60.0, 200.0))})
    mix.master = Master([Insert("gain", {"gain_db": float(drive_db)}), limiter])
    return Truth(stems, song.rate, _rendered(mix, stems, song.rate, responses), mix, responses)


def foreign_mix(song: Song, seed: int, model: str = "stereo-bus", reverb_s: float = 1.0, echoes: int = 2) -> Truth:
    """A linear mix by an engine that is not ours: minimum-phase EQ, other pan laws, echoes, velvet-noise reverbs."""
    rng = np.random.default_rng([seed, 3])
    stems = mono_stems(song)
    echo_s = min(0.05, 0.1 * reverb_s)
    echoing = set(rng.permutation(list(stems))[:echoes])
    shared = _velvet_response(rng, song.rate, LENGTH * reverb_s - echo_s)
    strips = {}
    for name in stems:
        own = model == "individual-bus"
        response = _velvet_response(rng, song.rate, LENGTH * reverb_s - echo_s) if own else shared
        strips[name] = _foreign_strip(rng, song.rate, response, echo_s if name in echoing else 0.0)
    target = sum(strips[name](stem[0]) for name, stem in stems.items())
    scale = PEAK / np.abs(target).max()
    scaled = {name: (lambda x, strip=strip: scale * strip(x)) for name, strip in strips.items()}
    return Truth(stems, song.rate, scale * target, strips=scaled)


def controls_of_fit(mix: Mix, responses: Mapping[str, np.ndarray], rate: int) -> dict[str, Controls]:
    """Every file's controls, of a mix as `fit` writes it: one dry strip per file, and all that is wet beside it."""
    linear = _without_dynamics(mix)
    master_db = sum(insert.controls["gain_db"] for insert in linear.master.chain if insert.effect == "gain")
    linear.master = Master()
    return {
        track.file: _controls_of(track, master_db, linear, responses, rate)
        for track in linear.tracks
        if not any(insert.effect == "convolution" for insert in track.chain)
    }


def compare_controls(
    truth: Truth, mix: Mix, responses: Mapping[str, np.ndarray], end: int | None = None
) -> dict[str, dict[str, Any]]:
    """How far every track's controls are off: gain_db, pan, delay_samples, dry_db (bands,), wet_db (2, bands).

    All are absolute, NaN where the stem has no energy before `end`, in samples, to tell them by; a wrong polarity is
    infinitely wrong.
    """
    true = controls_of_fit(truth.mix, truth.responses, truth.rate)
    found = controls_of_fit(mix, responses, truth.rate)
    bands_of_mix = band_powers(truth.target[:, :end], truth.rate).sum(axis=0)
    return {
        name: _compared(true[name], found[name], truth.stems[name][:, :end], bands_of_mix, truth.rate)
        for name in true
        if name in found
    }


def worst(differences: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The largest difference of each control over all tracks, of those that can be told."""
    names = "gain_db", "pan", "delay_samples", "dry_db", "wet_db"
    return {name: max((_largest(track[name]) for track in differences.values()), default=0.0) for name in names}


def residual_db(estimate: np.ndarray, target: np.ndarray) -> float:
    """Energy of the difference relative to the target's."""
    error = np.sum((np.asarray(estimate, np.float64) - target) ** 2)
    return 10 * np.log10(max(error, 1e-30) / np.sum(np.asarray(target, np.float64) ** 2))


def band_powers(x: np.ndarray, rate: int) -> np.ndarray:
    """Energy of (channels, n) in the octave bands that the rate has room for, (channels, bands)."""
    size = scipy.fft.next_fast_len(x.shape[1], real=True)
    power = np.abs(scipy.fft.rfft(x, size)) ** 2
    frequencies = np.arange(power.shape[1]) * (rate / size)
    bands = [(hz / np.sqrt(2) <= frequencies) & (frequencies < hz * np.sqrt(2)) for hz in usable_bands(rate)]
    return np.stack([power[:, band].sum(axis=1) for band in bands], axis=1)


def _own_console(
    rng: np.random.Generator, stems: dict[str, np.ndarray], rate: int, model: str, reverb_s: float, delays: bool
) -> tuple[Mix, dict[str, np.ndarray]]:
    mix = Mix(sample_rate=rate)
    responses = {}
    if model == "stereo-bus":
        responses[BUS] = _noise_response(rng, rate, LENGTH * reverb_s)
    for i, name in enumerate(stems):
        key = BUS if model == "stereo-bus" else PurePath(name).stem
        if key not in responses:
            responses[key] = _noise_response(rng, rate, LENGTH * reverb_s)
        mix.buses[key] = Bus(chain=[Insert("convolution", {"ir": key})])
        bands = {f"band{hz}_gain_db": float(rng.uniform(-12.0, 6.0)) for hz in usable_bands(rate) if hz != 1000}
        delay = float(rng.integers(0, round(0.02 * rate)) + (rng.uniform() if i % 2 else 0.0)) * 1000 / rate
        chain = [
            Insert("graphic_eq", bands),
            Insert("gain", {"gain_db": float(rng.uniform(-12.0, 3.0))}),
            Insert("pan", {"pan": float(rng.uniform(0.0, 1.0))}),
        ]
        send = float(rng.uniform(-20.0, -3.0))
        mix.tracks.append(Track(name, offset_ms=delay if delays else 0.0, chain=chain, sends={key: send}))
    return mix, responses


def _noise_response(rng: np.random.Generator, rate: int, seconds: float) -> np.ndarray:
    """Independent noise on both sides that falls by 52 to 80 dB, float32 (2, taps), in the gauge."""
    taps = round(seconds * rate)
    fall_db = rng.uniform(52.0, 80.0)
    return _gauged(rng.standard_normal((2, taps)) * 10 ** (-fall_db / 20 * np.arange(taps) / taps)).astype(np.float32)


def _velvet_response(rng: np.random.Generator, rate: int, seconds: float) -> np.ndarray:
    """Sparse pulses of either sign, 3000 a second, that darken and fall by 55 dB, float64 (2, taps), in the gauge."""
    taps = round(seconds * rate)
    predelay = round(rng.uniform(0.01, 0.06) * taps)
    time = np.arange(taps - predelay) / (taps - predelay)
    pulses = rng.choice([-1.0, 1.0], (2, len(time))) * (rng.uniform(size=(2, len(time))) < 3000 / rate)
    soft = scipy.signal.lfilter([0.5], [1.0, -0.5], pulses)
    mixed = (1.0 - time) * pulses + time * soft
    response = np.concatenate([np.zeros((2, predelay)), mixed * 10 ** (-55 / 20 * time)], axis=1)
    return _gauged(response)


def _gauged(response: np.ndarray) -> np.ndarray:
    response[:, 0] = 0.0
    return response / np.sqrt((response**2).sum())


def _working_compressor(rng: np.random.Generator, x: np.ndarray, rate: int) -> dict[str, float]:
    """Settings that take 3 to 8 dB off the loud parts of (1, n), by the static curve first, then as measured."""
    peaks = np.abs(x[0, : x.shape[1] // 441 * 441]).reshape(-1, 441).max(axis=1)
    sounding = peaks[peaks > 0.01 * peaks.max()]
    if not len(sounding) or sounding.max() < 1e-4:
        return {}
    ratio, wanted_db = rng.uniform(2.5, 6.0), rng.uniform(4.0, 7.0)
    settings = {
        "threshold_db": float(_db(np.percentile(sounding, 90)) - wanted_db / (1 - 1 / ratio)),
        "ratio": float(ratio),
        "attack_ms": float(rng.uniform(1.0, 20.0)),
        "release_ms": float(rng.uniform(60.0, 250.0)),
        "knee_db": float(rng.uniform(0.0, 6.0)),
    }
    for _ in range(8):
        settings["threshold_db"] = float(np.clip(settings["threshold_db"], -80.0, 0.0))
        missing_db = wanted_db - reduction_db(x, rate, settings)
        if abs(missing_db) < 0.5:
            break
        settings["threshold_db"] -= missing_db
    return settings


def reduction_db(x: np.ndarray, rate: int, settings: Mapping[str, float]) -> float:
    """What a compressor takes off the loud parts of (1, n): the 90th percentile where the input is within 20 dB of its
    peak."""
    loud = np.abs(x[0]) > 0.1 * np.abs(x[0]).max()
    y = compressor(x, rate, **settings)[0, : x.shape[1]]
    return float(np.percentile(-_db(np.abs(y[loud] / x[0, loud])), 90))


def _foreign_strip(
    rng: np.random.Generator, rate: int, response: np.ndarray, echo_s: float
) -> Callable[[np.ndarray], np.ndarray]:
    """A strip with settings of its own: EQ, echo, delay, gain, pan, and a send into `response` (2, taps)."""
    sections = [
        ("low_shelf", rng.uniform(60, 250), rng.uniform(-8, 6), 0.707),
        ("peak", rng.uniform(200, 900), rng.uniform(-9, 5), rng.uniform(0.5, 1.5)),
        ("peak", rng.uniform(1500, 6000), rng.uniform(-9, 5), rng.uniform(0.5, 1.5)),
        ("high_shelf", rng.uniform(4000, 9000), rng.uniform(-8, 6), 0.707),
    ]
    gain = 10 ** (rng.uniform(-12, 3) / 20)
    send = 10 ** (rng.uniform(-20, -3) / 20)
    pan = rng.uniform(0.0, 1.0)
    sides = np.array([1 - pan, pan]) if rng.uniform() < 0.5 else np.cos(np.pi / 2 * np.array([pan, 1 - pan]))
    delay = int(rng.integers(0, round(0.02 * rate)))
    echo_gain = rng.uniform(0.2, 0.4)

    def strip(x: np.ndarray) -> np.ndarray:
        y = gain * equalised(x, rate, sections)
        if echo_s:
            y = y + echo_gain * _later(y, round(echo_s * rate))
        placed = sides[:, None] * _later(y, delay)
        return placed + send * scipy.signal.oaconvolve(placed, response, axes=1)[:, : x.size]

    return strip


def equalised(x: np.ndarray, rate: int, sections: list[tuple[str, float, float, float]]) -> np.ndarray:
    """(n,) through sections of (kind, Hz, dB, Q), float64: by pedalboard, or where that is missing by the cookbook."""
    try:
        import pedalboard
    except ImportError:
        sos = [_cookbook_section(kind, hz, db, q, rate) for kind, hz, db, q in sections]
        return scipy.signal.sosfilt(np.array(sos), x)
    filters = {
        "low_shelf": pedalboard.LowShelfFilter,
        "peak": pedalboard.PeakFilter,
        "high_shelf": pedalboard.HighShelfFilter,
    }
    board = pedalboard.Pedalboard([filters[kind](hz, db, q) for kind, hz, db, q in sections])
    return board(x.astype(np.float32), rate).astype(np.float64)


def _cookbook_section(kind: str, hz: float, db: float, q: float, rate: int) -> np.ndarray:
    """One second-order section (6,), after R. Bristow-Johnson's cookbook."""
    a = 10 ** (db / 40)
    w = 2 * np.pi * hz / rate
    alpha, cos = np.sin(w) / (2 * q), np.cos(w)
    if kind == "peak":
        top, bottom = [1 + alpha * a, -2 * cos, 1 - alpha * a], [1 + alpha / a, -2 * cos, 1 - alpha / a]
    else:
        s = 1 if kind == "low_shelf" else -1
        plus, minus, root = a + 1, s * (a - 1), 2 * np.sqrt(a) * alpha
        top = [a * (plus - minus * cos + root), 2 * a * s * (a - 1 - s * plus * cos), a * (plus - minus * cos - root)]
        bottom = [plus + minus * cos + root, -2 * s * (a - 1 + s * plus * cos), plus + minus * cos - root]
    return np.array([*top, *bottom]) / bottom[0]


def _later(x: np.ndarray, samples: int) -> np.ndarray:
    return np.concatenate([np.zeros(samples), x])[: x.size]


def _rendered(mix: Mix, stems: Mapping[str, np.ndarray], rate: int, responses: Mapping[str, np.ndarray]) -> np.ndarray:
    end = max(stem.shape[1] for stem in stems.values())
    return render(mix, stems, rate, responses={name: (ir, rate) for name, ir in responses.items()}, end=end)


def _without_dynamics(mix: Mix) -> Mix:
    def linear(strip: Any) -> Any:
        return replace(strip, chain=[insert for insert in strip.chain if insert.effect not in NONLINEAR])

    buses = {name: linear(bus) for name, bus in mix.buses.items()}
    return replace(mix, tracks=[linear(track) for track in mix.tracks], buses=buses, master=linear(mix.master))


def _controls_of(dry: Track, master_db: float, mix: Mix, responses: Mapping[str, np.ndarray], rate: int) -> Controls:
    settings = {insert.effect: insert.settings for insert in dry.chain}
    gain = settings.get("gain", {"gain_db": 0.0, "invert": False})
    eq = settings.get("graphic_eq", {})
    eq_db = np.array([eq.get(f"band{hz}_gain_db", 0.0) for hz in usable_bands(rate)])
    at_1k = eq_db[GRAPHIC_CENTRES_HZ.index(1000)]
    sends = [(level, mix.buses[bus]) for bus, level in dry.sends.items()]
    send_db = None
    if len(sends) == 1:
        level, bus = sends[0]
        response = responses[_insert(bus, "convolution").controls["ir"]].astype(np.float64)
        send_db = level + 10 * np.log10((response**2).sum())
    return Controls(
        gain_db=gain["gain_db"] + master_db + at_1k,
        inverted=gain["invert"],
        pan=settings.get("pan", {"pan": 0.5})["pan"],
        eq_db=eq_db - at_1k,
        delay_ms=dry.offset_ms,
        send_db=send_db,
        wet=_wet_response(dry, master_db, mix, responses, rate),
    )


def _wet_response(
    dry: Track, master_db: float, mix: Mix, responses: Mapping[str, np.ndarray], rate: int
) -> np.ndarray | None:
    """What a mono stem's impulse makes of the whole mix, less what its dry strip makes of it, (2, taps)."""
    entries = [track for track in mix.tracks if track.file == dry.file]
    if entries == [dry] and not dry.sends:
        return None
    longest = max((response.shape[1] for response in responses.values()), default=0)
    lead = rate // 5 + round(max(abs(track.offset_ms) for track in entries) * rate / 1000)
    impulse = np.zeros((1, 2 * lead + longest))
    impulse[0, lead] = 1.0
    whole, straight = (
        _rendered(part, {dry.file: impulse}, rate, responses)
        for part in (replace(mix, tracks=entries), Mix([replace(dry, sends={})]))
    )
    return (whole - straight) * 10 ** (master_db / 20)


def _compared(true: Controls, found: Controls, stem: np.ndarray, bands_of_mix: np.ndarray, rate: int) -> dict[str, Any]:
    powers = band_powers(stem, rate)[0]
    heard = powers > 10 ** (-STEM_REACH_DB / 10) * max(powers.max(), 1e-30)
    sides = np.minimum(1.0, 2.0 * np.array([1 - true.pan, true.pan]))
    dry_db = true.gain_db + true.eq_db
    counted = heard & _audible(powers * 10 ** (dry_db / 10) * (sides**2).sum(), bands_of_mix)
    at_1k = GRAPHIC_CENTRES_HZ.index(1000)
    compared = {
        "gain_db": abs(found.gain_db - true.gain_db) if counted[at_1k] else np.nan,
        "pan": abs(found.pan - true.pan) if counted.any() else np.nan,
        "delay_samples": abs(found.delay_ms - true.delay_ms) * rate / 1000 if counted.any() else np.nan,
        "dry_db": np.where(counted, np.abs(found.gain_db + found.eq_db - dry_db), np.nan),
        "wet_db": np.full((2, len(powers)), np.nan),
    }
    if counted.any() and found.inverted != true.inverted:
        compared["gain_db"] = np.inf
    if true.wet is not None:
        wet = _response_powers(true.wet, rate)
        audible = heard & _audible(powers * wet, bands_of_mix)
        found_wet = np.zeros_like(wet) if found.wet is None else _response_powers(found.wet, rate)
        difference = 10 * np.abs(np.log10(np.maximum(found_wet, 1e-30) / np.maximum(wet, 1e-30)))
        compared["wet_db"] = np.where(audible, difference, np.nan)
    return compared


def _audible(powers: np.ndarray, bands_of_mix: np.ndarray) -> np.ndarray:
    return powers > 10 ** (-MIX_REACH_DB / 10) * bands_of_mix


def _response_powers(response: np.ndarray, rate: int) -> np.ndarray:
    """The mean power gain of (2, taps) in every octave band, (2, bands)."""
    impulse = np.zeros((1, response.shape[1]))
    impulse[0, 0] = 1.0
    return band_powers(response, rate) / band_powers(impulse, rate)


def _insert(strip: Track | Bus | Master, effect: str) -> Insert:
    return next(insert for insert in strip.chain if insert.effect == effect)


def _largest(values: Any) -> float:
    values = np.ravel(values)
    values = values[~np.isnan(values)]
    return float(values.max()) if values.size else 0.0


def _db(amplitude: Any) -> Any:
    return 20 * np.log10(np.maximum(amplitude, 1e-9))
