"""What is measured of a sound for a page, and the page."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

import numpy as np

from mixtools.dsp.source import Source
from mixtools.measure.bands import BandMeter, centres_hz
from mixtools.measure.catalogue import GROUPS, in_four_digits
from mixtools.measure.features import Analyser, Measures
from mixtools.measure.loudness import SLOT_S, SLOTS_IN_SHORT_TERM, LoudnessMeter
from mixtools.mix import Mix
from mixtools.tasks.page.charts import FREQUENCIES, Chart, even, minutes
from mixtools.tasks.page.strips import strips

BLOCK = 65536
MEASURED = "loudness", "spectral", "stereo", "envelope"
MOST_SOUNDS = 8
"""As many as can be told apart by their colours."""

MOST_POINTS = 1500
"""Of a line over time."""

DEEPEST_DB = 70.0
"""Below the highest, nothing is drawn of a spectrum."""

QUIETEST_LUFS = -60.0
NARROWEST_DB, WIDEST_DB = -40.0, 10.0
"""Of the side against the middle."""


@dataclass(frozen=True, eq=False)
class Sound:
    """What a page shows of a sound: measures, mean squares of middle and side (2, bands), and loudness over time."""

    name: str
    rate: int
    channels: int
    seconds: float
    measures: Measures
    bands: np.ndarray
    times_s: np.ndarray
    short_term_lufs: np.ndarray

    @property
    def lufs(self) -> float | None:
        return self.measures["loudness"]["integrated_lufs"]


def listen(name: str, source: Source, rate: int, progress: Callable[[float], None] = lambda share: None) -> Sound:
    """Measure a whole source for a page, in bounded memory."""
    analyser = Analyser(rate, source.channels, MEASURED)
    bands, loudness = BandMeter(rate), LoudnessMeter(rate, source.channels)
    done = 0
    while done < source.frames:
        block = source.read(BLOCK)
        for meter in (analyser, bands, loudness):
            meter.add(block)
        done += block.shape[1]
        progress(done / source.frames)
    bands.finish()
    series = loudness.short_term_lufs()
    step = max(1, -(-len(series) // MOST_POINTS))
    times = SLOT_S * (SLOTS_IN_SHORT_TERM + np.arange(len(series)))
    return Sound(
        name,
        rate,
        source.channels,
        source.frames / rate,
        analyser.measures(),
        bands.powers(),
        times[::step],
        series[::step],
    )


def matched_db(sounds: Sequence[Sound]) -> tuple[float | None, list[float]]:
    """The loudness of the quietest, and the gains that bring all to it; no sound gets louder, so that none clips."""
    known = [sound.lufs for sound in sounds if sound.lufs is not None]
    if not known:
        return None, [0.0] * len(sounds)
    return min(known), [0.0 if sound.lufs is None else min(known) - sound.lufs for sound in sounds]


def page(
    sounds: Sequence[Sound],
    mixes: Mapping[str, Mix],
    audio: Mapping[int, bytes] | None = None,
    gains_db: Mapping[int, float] | None = None,
) -> str:
    """The page as HTML. `audio` are FLAC files of sounds by number, and `gains_db` what makes up for their level."""
    audio, louder = dict(audio or {}), dict(gains_db or {})
    target, gains = matched_db(sounds)
    told = {
        "names": [sound.name for sound in sounds],
        "gains": [10.0 ** ((gain + louder.get(i, 0.0)) / 20.0) for i, gain in enumerate(gains)],
        "heard": sorted(audio),
        "seconds": max((sound.seconds for sound in sounds), default=0.0),
    }
    parts = {
        "title": " · ".join([*(sound.name for sound in sounds), *mixes]),
        "player": _player(sounds, target, bool(audio)),
        "charts": _charts(sounds, gains, target) if sounds else "",
        "numbers": _numbers(sounds) if sounds else "",
        "mixes": "".join(
            f"<h2>{escape(name)}</h2>{strips(str(number), mix)}" for number, (name, mix) in enumerate(mixes.items())
        ),
        "audio": "".join(
            f'<script type="application/octet-stream" id="audio-{i}">{base64.b64encode(data).decode()}</script>'
            for i, data in audio.items()
        ),
        "told": json.dumps(told).replace("<", "\\u003c"),
    }
    parts["title"] = escape(parts["title"])
    text = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    before, *rest = text.split("{{")
    return before + "".join(parts[name] + after for name, _, after in (piece.partition("}}") for piece in rest))


def _player(sounds: Sequence[Sound], target: float | None, playable: bool) -> str:
    buttons = "".join(
        f'<button class="sound s{i}" data-sound="{i}" aria-pressed="{"true" if i == 0 else "false"}">'
        f"<kbd>{i + 1}</kbd> {escape(sound.name)}</button>"
        for i, sound in enumerate(sounds)
    )
    if not sounds:
        return ""
    if not playable:
        return f'<div class="player">{buttons}</div>'
    how = "" if target is None else f"All play at {target:.1f} LUFS, the loudness of the quietest."
    return (
        '<div class="player"><button id="play" disabled><kbd>space</kbd> play</button>'
        f'<output id="clock">0:00</output>{buttons}<p>{how}'
        " Switch while it plays; click on the loudness to go there.</p></div>"
    )


def _charts(sounds: Sequence[Sound], gains: Sequence[float], target: float | None) -> str:
    at = "" if target is None else f", all at {target:.1f} LUFS"
    drawn = (
        (f"Spectrum in sixths of an octave{at}", _spectrum(sounds, gains)),
        ("Loudness of 3 s, as it is", _loudness(sounds)),
        ("Width: the side against the middle", _width(sounds)),
    )
    return "".join(f"<figure><figcaption>{escape(what)}</figcaption>{svg}</figure>" for what, svg in drawn)


def _decibels(power: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return 10.0 * np.log10(power)


def _spectrum(sounds: Sequence[Sound], gains: Sequence[float]) -> str:
    # Left and right together have twice the power of middle and side.
    curves = [_decibels(2.0 * sound.bands.sum(axis=0)) + gain for sound, gain in zip(sounds, gains, strict=True)]
    top = max((float(curve.max(initial=-math.inf)) for curve in curves), default=0.0)
    top = top if math.isfinite(top) else 0.0
    chart = Chart("spectrum", FREQUENCIES, even(top - DEEPEST_DB, top, "dB"))
    for i, (sound, curve) in enumerate(zip(sounds, curves, strict=True)):
        chart.draw(centres_hz(sound.rate), curve, f"line s{i}")
    return chart.svg("mean power by frequency")


def _loudness(sounds: Sequence[Sound]) -> str:
    heard = np.concatenate([sound.short_term_lufs for sound in sounds])
    heard = heard[heard > QUIETEST_LUFS]
    low, high = (float(heard.min()), float(heard.max())) if heard.size else (QUIETEST_LUFS, 0.0)
    chart = Chart("loudness", minutes(max(sound.seconds for sound in sounds)), even(low - 1.0, high + 1.0, "LUFS"))
    for i, sound in enumerate(sounds):
        chart.draw(sound.times_s, sound.short_term_lufs, f"line s{i}")
    chart.lines.append('<path id="cursor" d=""/>')
    return chart.svg("short-term loudness over time")


def _width(sounds: Sequence[Sound]) -> str:
    chart = Chart("width", FREQUENCIES, even(NARROWEST_DB, WIDEST_DB, "dB"))
    for i, sound in enumerate(sounds):
        middle, side = sound.bands
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = _decibels(side / middle)
        loud = middle + side > (middle + side).max(initial=0.0) * 10.0 ** (-DEEPEST_DB / 10.0)
        chart.draw(centres_hz(sound.rate), np.where(loud, np.maximum(ratio, NARROWEST_DB), np.nan), f"line s{i}")
    return chart.svg("level of the side against the middle, by frequency")


def _numbers(sounds: Sequence[Sound]) -> str:
    head = "".join(f'<th class="s{i}">{escape(sound.name)}</th>' for i, sound in enumerate(sounds))
    rows = [
        f"<tr><td>length, rate, channels</td>{''.join(f'<td>{_facts(sound)}</td>' for sound in sounds)}</tr>",
    ]
    for group in MEASURED:
        for feature in GROUPS[group].features:
            if feature.size == 1:
                values = "".join(f"<td>{in_four_digits(sound.measures[group][feature.name])}</td>" for sound in sounds)
                rows.append(f'<tr><td title="{escape(feature.help)}">{group} {feature.name}</td>{values}</tr>')
    return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _facts(sound: Sound) -> str:
    minutes_, seconds = divmod(sound.seconds, 60.0)
    return f"{minutes_:.0f}:{seconds:04.1f}, {sound.rate} Hz, {sound.channels}"
