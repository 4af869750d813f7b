"""The papers' consoles against their numbers, random sampling, and the control vector."""

from __future__ import annotations

import numpy as np
import pytest

from mixtools.controls import EFFECTS, EQ_BANDS, GRAPHIC_CENTRES_HZ, ROOMS
from mixtools.errors import ParameterError
from mixtools.mix import Bus, Mix, Track
from mixtools.presets import PRESETS

STRIPS = [(name, part) for name, preset in PRESETS.items() for part in ("track", "master")]


def ranges(preset: str, part: str = "track", rate: int = 44100) -> dict[str, tuple[float, float]]:
    strip = getattr(PRESETS[preset], part)
    return {
        f"{slot.effect}.{control.name}": slot.span(control.name, rate)
        for slot in strip.slots
        for control in slot.varied
        if control.kind == "number"
    }


def effects(preset: str, part: str = "track") -> list[str]:
    return [slot.effect for slot in getattr(PRESETS[preset], part).slots]


def test_colonel():
    for name in ("colonel", "colonel_individual"):
        found = ranges(name)
        assert all(found[f"graphic_eq.band{hz}_gain_db"] == (-60, 0) for hz in GRAPHIC_CENTRES_HZ)
        assert found["pan.pan"] == (0, 1)
        slots = {slot.effect: slot for slot in PRESETS[name].track.slots}
        assert slots["pan"].held == {"law": "linear"}
        assert slots["gain"].probabilities["invert"] > 0, "the gain is an amplitude that may be negative"
    assert effects("colonel") == ["graphic_eq", "gain", "pan"]
    assert set(PRESETS["colonel"].track.sends) == {"reverb"}
    assert effects("colonel_individual") == ["graphic_eq", "gain", "pan", "convolution"]


def test_dmc():
    strip = PRESETS["dmc"].track
    assert effects("dmc") == ["gain", "parametric_eq", "compressor", "convolution", "gain", "pan"]
    assert [slot.effect for slot in strip.shuffled] == ["parametric_eq", "compressor", "convolution"]
    assert strip.before[0].probabilities == {"invert": 0.2}
    eq = strip.shuffled[0]
    assert eq.held == {"low_shelf_q": 0.707, "high_shelf_q": 0.707}
    assert ranges("dmc") == {
        "gain.gain_db": (-24, 24),
        "parametric_eq.low_shelf_gain_db": (-24, 24),
        "parametric_eq.low_shelf_freq_hz": (20, 1000),
        "parametric_eq.band1_gain_db": (-24, 24),
        "parametric_eq.band1_freq_hz": (200, 5000),
        "parametric_eq.band1_q": (0.1, 10),
        "parametric_eq.band2_gain_db": (-24, 24),
        "parametric_eq.band2_freq_hz": (500, 6000),
        "parametric_eq.band2_q": (0.1, 10),
        "parametric_eq.band3_gain_db": (-24, 24),
        "parametric_eq.band3_freq_hz": (2000, 10000),
        "parametric_eq.band3_q": (0.1, 10),
        "parametric_eq.high_shelf_gain_db": (-24, 24),
        "parametric_eq.high_shelf_freq_hz": (8000, 20000),
        "compressor.threshold_db": (-60, 0),
        "compressor.ratio": (1, 10),
        "compressor.attack_ms": (0.03, 30),
        "compressor.release_ms": (50, 3000),
        "compressor.makeup_db": (-12, 12),
        "convolution.decay": (0.1, 1),
        "convolution.wet": (0, 1),
        "convolution.dry": (0, 1),
        "pan.pan": (0, 1),
    }
    assert strip.shuffled[2].choices == {"ir": ROOMS}


def test_diffmst():
    eq = {
        "low_shelf": (20, 2000),
        "band1": (80, 2000),
        "band2": (2000, 8000),
        "band3": (8000, 12000),
        "band4": (12000, 21050),
        "high_shelf": (6000, 21050),
    }
    shared = {"gain.gain_db": (-48, 48)}
    for band, span in eq.items():
        shared |= {
            f"parametric_eq.{band}_gain_db": (-12, 12),
            f"parametric_eq.{band}_freq_hz": span,
            f"parametric_eq.{band}_q": (0.1, 5),
        }
    shared |= {
        "compressor.threshold_db": (-60, 0),
        "compressor.ratio": (1, 10),
        "compressor.attack_ms": (5, 250),
        "compressor.release_ms": (10, 250),
        "compressor.knee_db": (3, 12),
        "compressor.makeup_db": (0, 6),
    }
    assert ranges("diffmst") == shared | {"pan.pan": (0, 1)}
    assert ranges("diffmst", "master") == shared
    assert effects("diffmst", "master") == ["gain", "parametric_eq", "compressor", "gain"]
    assert PRESETS["diffmst"].track.sends == {"reverb": (-80, 12)}
    assert PRESETS["diffmst"].track.after == ()
    assert PRESETS["diffmst"].track.slots[-1].held == {"law": "compromise"}


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 96000])
@pytest.mark.parametrize(("preset", "part"), STRIPS)
def test_ranges_are_never_inverted_and_lie_within_the_effects(preset, part, rate):
    for name, (low, high) in ranges(preset, part, rate).items():
        effect, _, control = name.partition(".")
        declared = EFFECTS[effect][control]
        assert declared.low <= low <= high <= declared.high, name


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(("preset", "part"), STRIPS)
def test_vector_and_back(preset, part, shuffle):
    strip = getattr(PRESETS[preset], part)
    orders = set()
    for seed in range(40):
        drawn = strip.sample(seed, 44100, shuffle)
        vector = strip.to_vector(drawn, 44100, shuffle)
        assert vector.shape == (len(strip.labels(shuffle)),)
        assert ((vector >= 0) & (vector <= 1)).all()
        back = strip.from_vector(vector, 44100, shuffle)
        assert [insert.effect for insert in back.chain] == [insert.effect for insert in drawn.chain]
        for a, b in zip(back.chain, drawn.chain, strict=True):
            assert a.controls.keys() == b.controls.keys()
            for name, value in b.controls.items():
                assert a.controls[name] == (pytest.approx(value, rel=1e-9) if isinstance(value, float) else value)
        assert back.sends == pytest.approx(drawn.sends)
        orders.add(drawn.order)
    assert len(orders) == (len(strip.orders) if shuffle else 1)


@pytest.mark.parametrize(("preset", "part"), STRIPS)
def test_what_is_drawn_is_a_legal_mix_and_follows_its_seed(preset, part):
    strip = getattr(PRESETS[preset], part)
    for seed in range(10):
        drawn = strip.sample(seed, 44100, shuffle=True)
        assert drawn == strip.sample(seed, 44100, shuffle=True)
        buses = {name: Bus(chain=bus.sample(seed, 44100).chain) for name, bus in PRESETS[preset].buses.items()}
        Mix([Track("a.wav", chain=drawn.chain, sends=drawn.sends)], buses).check()
    if strip.slots:
        assert strip.sample(1, 44100) != strip.sample(2, 44100)


def test_linear_sampling_is_uniform_in_hz_and_logarithmic_sampling_in_octaves():
    strip = PRESETS["dmc"].track
    rng = np.random.default_rng(0)
    for log, middle in ((None, 510.0), (False, 510.0), (True, np.sqrt(20 * 1000))):
        drawn = [
            next(i for i in strip.sample(rng, 44100, log=log).chain if i.effect == "parametric_eq").controls
            for _ in range(2000)
        ]
        frequencies = [controls["low_shelf_freq_hz"] for controls in drawn]
        assert np.median(frequencies) == pytest.approx(middle, rel=0.1)


def test_polarity_is_flipped_as_often_as_it_says():
    strip = PRESETS["dmc"].track
    rng = np.random.default_rng(0)
    flipped = [strip.sample(rng, 44100).chain[0].controls["invert"] for _ in range(2000)]
    assert np.mean(flipped) == pytest.approx(0.2, abs=0.03)


def test_vectors_are_clipped_and_checked():
    strip = PRESETS["diffmst"].track
    size = len(strip.labels())
    assert strip.from_vector(np.full(size, 9.0), 44100) == strip.from_vector(np.ones(size), 44100)
    with pytest.raises(ParameterError, match=r"^the control vector has shape \(3,\); give \(27,\)$"):
        strip.from_vector(np.zeros(3), 44100)
    with pytest.raises(ParameterError, match="NaN"):
        strip.from_vector(np.full(size, np.nan), 44100)


def test_bands_are_named_once():
    assert [c.name for c in EFFECTS["parametric_eq"].controls][::3] == [f"{band}_gain_db" for band in EQ_BANDS]
