"""Every reference effect against its oracle, at random controls, at four rates, in both precisions."""

from __future__ import annotations

import inspect
import math

import numpy as np
import oracles
import pytest
from conftest import audio, error_db

from mixtools import dsp
from mixtools.controls import EFFECTS
from mixtools.dsp.convolution import impulse_response

RATES = (8000, 44100, 48000, 96000)
LIMIT_DB = {np.float32: -110.0, np.float64: -140.0}
DRAWS = 30


def random_controls(effect: str, rng: np.random.Generator) -> dict:
    """A draw over the full range; now and then an end of it, or the default."""
    drawn = {}
    for control in EFFECTS[effect].controls:
        if control.kind == "switch":
            drawn[control.name] = bool(rng.integers(2))
        elif control.kind == "choice":
            drawn[control.name] = str(rng.choice(control.choices))
        elif control.kind == "whole":
            drawn[control.name] = int(rng.integers(100))
        elif control.kind == "number":
            choices = [0.0, 1.0, None, *rng.random(5)]
            unit = choices[rng.integers(len(choices))]
            drawn[control.name] = control.default if unit is None else control.from_unit(unit)
    return drawn


def compare(effect, oracle, rate, dtype, n, draws=DRAWS, narrow=lambda controls: controls):
    for seed in range(draws):
        rng = np.random.default_rng([seed, rate])
        controls = narrow(random_controls(effect, rng))
        x = audio(seed, 1 + seed % 2, n, dtype)
        expected = oracle(x.astype(np.float64), rate, **controls)
        actual = getattr(dsp, effect)(x, rate, **controls)
        assert actual.dtype == dtype
        assert np.abs(expected).max() == np.abs(actual).max() == 0 or error_db(actual, expected) < LIMIT_DB[dtype], (
            f"{error_db(actual, expected):.1f} dB at {controls}"
        )


precisions = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
rates = pytest.mark.parametrize("rate", RATES)


@rates
@precisions
@pytest.mark.parametrize("effect", ["gain", "pan", "parametric_eq", "compressor"])
def test_pointwise_and_recursive_effects(effect, rate, dtype):
    compare(effect, getattr(oracles, effect), rate, dtype, 2500)


@rates
@precisions
def test_graphic_eq(rate, dtype):
    compare("graphic_eq", oracles.graphic_eq, rate, dtype, 6000, draws=4)


@rates
@precisions
def test_delay(rate, dtype):
    def short(controls):
        # Over the full range most draws would be silent for this short a signal.
        return controls | {"time_ms": controls["time_ms"] / 2000 * 700 / rate * 1000}

    compare("delay", oracles.delay, rate, dtype, 900, draws=10, narrow=short)


@rates
@precisions
def test_saturation(rate, dtype):
    compare("saturation", oracles.saturation, rate, dtype, 300, draws=4)


@rates
@precisions
def test_limiter(rate, dtype):
    compare("limiter", oracles.limiter, rate, dtype, 1500, draws=10)


@rates
@precisions
@pytest.mark.parametrize("sides", [1, 2])
def test_convolution(rate, dtype, sides):
    rng = np.random.default_rng([rate, sides])
    response = rng.standard_normal((sides, 1700)) * np.exp(-np.arange(1700) / 300)

    def oracle(x, rate, decay, **controls):
        kept = math.ceil(decay * response.shape[1])
        cut = response[:, :kept].copy()
        if kept < response.shape[1]:
            fade = max(1, round(0.1 * kept))
            for k in range(fade):
                cut[:, kept - fade + k] *= 1 - (k + 1) / fade
        return oracles.convolution(x, cut, rate, **controls)

    def effect_controls(controls):
        return controls | {"predelay_ms": controls["predelay_ms"] / 20}

    for seed in range(10):
        controls = effect_controls(random_controls("convolution", np.random.default_rng([seed, rate])))
        x = audio(seed, 1 + seed % 2, 4000, dtype)
        expected = oracle(x.astype(np.float64), rate, **controls)
        actual = dsp.convolution(x, rate, ir=(response, rate), **controls)
        if np.abs(expected).max() == 0:
            assert np.abs(actual).max() == 0
        else:
            assert error_db(actual, expected) < LIMIT_DB[dtype], controls


@rates
@precisions
def test_reverb_is_convolution_with_its_own_response(rate, dtype):
    for seed in range(3):
        controls = random_controls("reverb", np.random.default_rng([seed, rate]))
        controls |= {f"band{k}_decay_s": min(controls[f"band{k}_decay_s"], 0.3) for k in range(1, 13)}
        impulse = np.zeros((1, 4000))
        impulse[0, 0] = 1.0
        response = dsp.reverb(impulse, rate, **(controls | {"wet": 1.0, "dry": 0.0, "predelay_ms": 0.0}))
        x = audio(seed, 1, 4000, dtype)
        wet = {name: controls[name] for name in ("wet", "dry", "predelay_ms")}
        expected = oracles.convolution(x.astype(np.float64), response, rate, **wet)
        actual = dsp.reverb(x, rate, **controls)
        assert np.abs(expected).max() == np.abs(actual).max() == 0 or error_db(actual, expected) < LIMIT_DB[dtype]


def test_impulse_responses_are_resampled_at_unchanged_gain():
    for name in ("small_room", "plate"):
        response = impulse_response(name, 44100)
        resampled = impulse_response((response, 44100), 48000)
        spectra = [np.fft.rfft(r[0], n)[:15000] for r, n in ((response, 88200), (resampled, 96000))]
        assert error_db(np.abs(spectra[1]), np.abs(spectra[0])) < -60


@pytest.mark.parametrize("name", dsp.EFFECT_FUNCTIONS)
def test_signatures_are_the_control_table(name):
    keywords = {
        k: p.default
        for k, p in inspect.signature(getattr(dsp, name)).parameters.items()
        if p.kind is p.KEYWORD_ONLY and k != "tail_s"
    }
    missing = inspect.Parameter.empty
    assert keywords == {c.name: missing if c.default is None else c.default for c in EFFECTS[name].controls}


def test_every_declared_effect_is_there():
    assert set(dsp.EFFECT_FUNCTIONS) == set(dsp.PROCESSORS) == set(EFFECTS) - {"neural"}
