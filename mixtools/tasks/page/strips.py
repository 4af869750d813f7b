"""A mix file as strips: faders, pans, equalisers as curves, and what else is in the chain."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

from mixtools.controls import EFFECTS, Curve, shown, side
from mixtools.dsp.console import Chain
from mixtools.mix import Insert, Mix, targets
from mixtools.tasks.page.charts import FREQUENCIES, Chart, even

RATE = 48000
EQUALISERS = "parametric_eq", "graphic_eq"
DRAWN_DB = 12.0
POINTS = 160


def strips(name: str, mix: Mix) -> str:
    """Every strip of a mix, in the order of its file, as HTML."""
    cards = [
        _card(f"{name}-{number}", getattr(strip, "file", place.removeprefix("buses.")), strip)
        for number, (place, strip) in enumerate(mix.strips())
    ]
    return f'<div class="strips">{"".join(cards)}</div>'


def _card(key: str, title: str, strip: Any) -> str:
    chain: list[Insert] = strip.chain
    rows: list[tuple[str, str]] = []
    states = [word for word in ("mute", "solo") if getattr(strip, word, False)]
    if states:
        rows.append(("", ", ".join(states)))
    for insert in chain:
        if insert.effect == "gain":
            rows.append(("fader", _value(insert.settings["gain_db"], " dB", "+.1f")))
        elif insert.effect == "pan":
            rows.append(("pan", side(insert.settings["pan"])))
        elif insert.effect not in EQUALISERS:
            rows.append((insert.effect, _told(insert)))
    if hasattr(strip, "output"):
        rows += [("send", f"{bus} {_value(strip.sends[bus], ' dB', '.1f')}") for bus in targets(strip)[1:]]
        rows.append(("to", strip.output))
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in rows)
    return f'<section class="strip"><h3>{escape(title)}</h3>{_curve(key, chain)}<dl>{listed}</dl></section>'


def _curve(key: str, chain: list[Insert]) -> str:
    """The equalisers of a chain together, as they stand at the beginning; nothing where there are none."""
    own = [insert for insert in chain if insert.effect in EQUALISERS]
    if not own:
        return '<p class="flat">no equaliser</p>'
    hz = np.geomspace(FREQUENCIES.low, FREQUENCIES.high, POINTS)
    gains_db = equalised_db(own, hz)
    top = max(DRAWN_DB, float(np.abs(gains_db).max()))
    marks = tuple((value, text) for value, text in FREQUENCIES.marks if value in (100.0, 1000.0, 10000.0))
    x = type(FREQUENCIES)(FREQUENCIES.low, FREQUENCIES.high, marks, "", log=True)
    chart = Chart(f"eq-{key}", x, even(-top, top, "dB", most=4), width=300, height=150)
    chart.draw(hz, gains_db, "eq-line")
    return chart.svg("what the equaliser does, in dB by frequency")


def equalised_db(inserts: list[Insert], hz: np.ndarray) -> np.ndarray:
    """What equalisers in series do at frequencies, in dB: the spectrum of what they make of an impulse."""
    chain = Chain([_steady(insert) for insert in inserts], RATE, 1, np.float64)
    impulse = np.zeros((1, RATE + chain.latency))
    impulse[0, 0] = 1.0
    spectrum = np.abs(np.fft.rfft(chain.process(impulse)[0]))
    bins = np.arange(len(spectrum)) * (RATE / impulse.shape[1])
    return np.interp(hz, bins, 20.0 * np.log10(np.maximum(spectrum, 1e-6)))


def _steady(insert: Insert) -> Insert:
    """An effect whose curves stand where they begin."""
    controls = {
        name: float(value.at(np.zeros(1), EFFECTS[insert.effect][name])[0]) if isinstance(value, Curve) else value
        for name, value in insert.controls.items()
    }
    return Insert(insert.effect, controls)


def _told(insert: Insert) -> str:
    """The settings that were given."""
    return ", ".join(f"{name} {_value(value, '', '.4g')}" for name, value in insert.controls.items()) or "as it is"


def _value(value: Any, unit: str, form: str) -> str:
    if isinstance(value, Curve):
        return f"{_value(value.points[0][1], unit, form)}, moving"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return shown(value)
    return f"{value:{form}}{unit}"
