"""Moving controls against oracles that take the coefficients of every sample from the definition.

Coefficients are computed at every 64th sample of the session, and are linear between.
"""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
from conftest import audio, error_db

from mixtools import dsp
from mixtools.controls import EFFECTS, Curve
from mixtools.dsp.console import Chain
from mixtools.mix import Insert

RATE = 44100
N = 3000


def along(coefficient, n: int = N) -> np.ndarray:
    """What `coefficient(seconds)` gives at the control points, linear between, (n, ...)."""
    points = np.array([coefficient(64 * k / RATE) for k in range(n // 64 + 2)], dtype=np.float64)
    at = np.arange(n)
    k, t = at // 64, (at % 64) / 64
    t = t.reshape(-1, *[1] * (points.ndim - 1))
    return points[k] + t * (points[k + 1] - points[k])


def moving(effect: str, name: str, *values: float) -> tuple[Curve, object]:
    """A curve through these values over the length of the signal, and its value at a time."""
    curve = Curve(tuple((i * N / RATE / (len(values) - 1), v) for i, v in enumerate(values)))
    control = EFFECTS[effect][name]
    return curve, lambda seconds: curve.at(np.array([seconds]), control)[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equaliser(dtype):
    x = audio(1, 1, N, dtype)
    gain, gain_at = moving("parametric_eq", "band1_gain_db", -12.0, 12.0, 0.0)
    freq, freq_at = moving("parametric_eq", "band1_freq_hz", 100.0, 8000.0)
    shelf, shelf_at = moving("parametric_eq", "low_shelf_gain_db", 0.0, -18.0)
    y = dsp.parametric_eq(x, RATE, band1_gain_db=gain, band1_freq_hz=freq, low_shelf_gain_db=shelf)[0]

    def sections(seconds):
        rows = []
        for kind, level, f in (("low", shelf_at(seconds), 80.0), ("peak", gain_at(seconds), freq_at(seconds))):
            b0, b1, b2, a0, a1, a2 = oracles.rbj(kind, level, f, 0.707, RATE)
            rows.append([b0 / a0, b1 / a0, b2 / a0, a1 / a0, a2 / a0])
        return rows

    signal = x[0].astype(np.float64)
    coefficients = along(sections)
    for m in range(2):
        s = u = 0.0
        out = np.empty(N)
        for n in range(N):
            # Transposed direct form II: with moving coefficients the form matters.
            b0, b1, b2, a1, a2 = coefficients[n, m]
            out[n] = b0 * signal[n] + s
            s, u = b1 * signal[n] - a1 * out[n] + u, b2 * signal[n] - a2 * out[n]
        signal = out
    assert error_db(y, signal) < (-110 if dtype == np.float32 else -140)


@pytest.mark.parametrize("lookahead_ms", [0.0, 3.0])
def test_compressor(lookahead_ms):
    x = audio(2, 2, N)
    curves = {}
    values = {}
    for name, spans in {
        "threshold_db": (-10.0, -50.0),
        "ratio": (1.5, 10.0),
        "attack_ms": (0.5, 20.0),
        "release_ms": (5.0, 60.0),
        "knee_db": (1.0, 12.0),
        "makeup_db": (0.0, 6.0, 0.0),
    }.items():
        curves[name], values[name] = moving("compressor", name, *spans)
    y = dsp.compressor(x, RATE, **curves, lookahead_ms=lookahead_ms)
    ahead = round(lookahead_ms / 1000 * RATE)
    total = N + ahead
    seen = np.concatenate([x, np.zeros((2, ahead))], axis=1)
    detector = along(
        lambda s: [
            values["threshold_db"](s),
            1 - 1 / values["ratio"](s),
            values["knee_db"](s),
            math.exp(-1000 / (values["attack_ms"](s) * RATE)),
            math.exp(-1000 / (values["release_ms"](s) * RATE)),
        ],
        total,
    )
    makeup = along(values["makeup_db"], total)
    held = 0.0
    expected = np.empty((2, N))
    for n in range(total):
        threshold, slope, knee, attack, release = detector[n]
        over = max(20 * math.log10(max(np.abs(seen[:, n]).max(), 1e-30)), -120.0) - threshold
        bent = min(max(over + knee / 2, 0.0), knee)
        target = slope * (bent**2 / (2 * knee) + max(over - knee / 2, 0.0))
        a = attack if target > held else release
        held = a * held + (1 - a) * target
        if n >= ahead:
            expected[:, n - ahead] = x[:, n - ahead] * 10 ** ((makeup[n - ahead] - held) / 20)
    assert error_db(y, expected) < -140


def test_graphic_eq():
    x = audio(3, 1, N)
    curve, at = moving("graphic_eq", "band1000_gain_db", -30.0, 12.0)
    y = dsp.graphic_eq(x, RATE, band1000_gain_db=curve)
    others = {f"band{hz}_gain_db": 0.0 for hz in oracles.CENTRES}
    flat = oracles.graphic_eq(x, RATE, **others)
    doubled = oracles.graphic_eq(x, RATE, **others | {"band1000_gain_db": 20 * math.log10(2)})
    band = doubled - flat
    expected = flat - band + band * along(lambda s: 10 ** (at(s) / 20))
    assert error_db(y, expected) < -140


def test_wet_and_dry():
    x = audio(4, 1, N)
    response = np.random.default_rng(0).standard_normal((1, 300))
    wet, wet_at = moving("convolution", "wet", 0.0, 1.0)
    dry, dry_at = moving("convolution", "dry", 1.0, 0.2)
    y = dsp.convolution(x, RATE, ir=(response, RATE), wet=wet, dry=dry)
    convolved = np.convolve(x[0], response[0])[:N]
    assert error_db(y[0], along(wet_at) * convolved + along(dry_at) * x[0]) < -140


def test_delay():
    x = audio(5, 1, N)
    feedback, feedback_at = moving("delay", "feedback", 0.0, 0.9)
    damping, damping_at = moving("delay", "damping_hz", 500.0, 15000.0)
    y = dsp.delay(x, RATE, time_ms=1000 * 50 / RATE, feedback=feedback, damping_hz=damping)[0]
    levels = along(feedback_at)
    poles = along(lambda s: math.exp(-2 * math.pi * damping_at(s) / RATE))
    out = np.zeros(N)
    low = 0.0
    for n in range(N):
        back = levels[n] * (out[n - 50] if n >= 50 else 0.0)
        low = back + poles[n] * (low - back)
        out[n] = (x[0, n - 50] if n >= 50 else 0.0) + low
    assert error_db(y, out) < -140


def test_saturation_bends_when_it_says():
    """On a constant the curve needs no interpolation: the output follows drive and bias sample by sample."""
    x = np.full((1, N), 0.4)
    drive, drive_at = moving("saturation", "drive_db", 3.0, 24.0, 3.0)
    mix, mix_at = moving("saturation", "mix", 1.0, 0.5)
    y = dsp.saturation(x, RATE, drive_db=drive, bias=0.1, mix=mix)[0]
    k = along(lambda s: 10 ** (drive_at(s) / 20) - 1)
    span = (np.tanh(k * 1.1) + np.tanh(k * 0.9)) / 2
    bent = (np.tanh(k * 0.5) - np.tanh(k * 0.1)) / span
    wet = along(mix_at)
    expected = wet * bent + (1 - wet) * 0.4
    inside = slice(100, N - 100)
    assert np.abs(y[inside] - expected[inside]).max() < 2e-4, "the control's own corners are band-limited a little"


def test_limiter_holds_a_moving_ceiling():
    rng = np.random.default_rng(6)
    x = 3 * rng.standard_normal((2, N))
    ceiling, at = moving("limiter", "ceiling_db", -24.0, -1.0, -20.0, -2.0)
    y = dsp.limiter(x, RATE, ceiling_db=ceiling, release_ms=5.0)
    limit = along(lambda s: 10 ** (at(s) / 20))
    assert (oracles.true_peaks(y) <= limit).all()


@pytest.mark.parametrize("effect", list(dsp.PROCESSORS))
def test_a_step_lands_on_its_sample_behind_any_latency(effect):
    """The fader behind an effect that is late opens at the same time as the fader in front of one that is not."""
    late = {
        "convolution": {"ir": "small_room", "wet": 0.0, "dry": 1.0},
        "reverb": {"wet": 0.0, "dry": 1.0},
        "delay": {"wet": 0.0, "dry": 1.0},
        "graphic_eq": {"band16000_gain_db": -1e-9},
        "compressor": {"lookahead_ms": 20.0},
        "saturation": {"drive_db": 1e-9},
    }.get(effect, {})
    opening = Curve(((64 * 20 / RATE, -96.0), (64 * 21 / RATE, 0.0)))
    chain = Chain([Insert(effect, late), Insert("gain", {"gain_db": opening})], RATE, 1, np.float64)
    x = np.full((1, N + chain.latency), 0.5)
    y = chain.process(x)[:, chain.latency :]
    expected = 0.5 * along(lambda s: 10 ** (opening.at(np.array([s]), EFFECTS["gain"]["gain_db"])[0] / 20))
    inside = slice(1100, 2500)
    assert np.abs(y[0, inside] - expected[inside]).max() < 1e-6
