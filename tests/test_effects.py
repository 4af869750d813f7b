"""What the effects mean: neutral, in place, the same in any blocks, finite, and as fast on silence as on noise."""

from __future__ import annotations

import time

import numpy as np
import oracles
import pytest
from conftest import audio, error_db
from test_effects_exact import random_controls

from mixtools import dsp
from mixtools.controls import EFFECTS, Curve
from mixtools.dsp.pan import pan_gains

EFFECT_NAMES = list(dsp.PROCESSORS)
RATE = 44100

SETTINGS = {
    "gain": {"gain_db": -3.0, "invert": True},
    "pan": {"pan": 0.3, "law": "compromise"},
    "parametric_eq": {
        "low_shelf_gain_db": 3.0,
        "band1_gain_db": -4.0,
        "band3_gain_db": 6.0,
        "high_shelf_gain_db": -9.0,
    },
    "graphic_eq": {"band60_gain_db": -5.0, "band4000_gain_db": -10.0},
    "compressor": {"threshold_db": -25.0, "ratio": 4.0, "knee_db": 6.0, "lookahead_ms": 1.0},
    "convolution": {"ir": "small_room", "dry": 0.5, "predelay_ms": 3.0},
    "reverb": {"dry": 0.5, "predelay_ms": 10.0, **{f"band{k}_decay_s": 0.1 for k in range(1, 13)}},
    "delay": {"time_ms": 2.34, "feedback": 0.6, "dry": 0.5},
    "saturation": {"drive_db": 20.0, "bias": 0.2},
    "limiter": {"ceiling_db": -12.0},
}


def automation(effect: str, settings: dict) -> dict:
    """Every automatable control moving away from its setting and back, within 30 ms."""
    moving = {}
    for control in EFFECTS[effect].controls:
        if control.automatable and control.kind == "number":
            value = settings.get(control.name, control.default)
            moving[control.name] = Curve(((0.0, value), (0.02, control.from_unit(0.6)), (0.03, value)))
    return settings | moving


def in_blocks(effect, settings, x, block, dtype):
    processor = dsp.PROCESSORS[effect](RATE, len(x), dtype, **settings)
    pieces = [processor.process(x[:, i : i + block]) for i in range(0, x.shape[1], block)]
    return np.concatenate(pieces, axis=1)


@pytest.mark.parametrize("moving", [False, True], ids=["steady", "automated"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("effect", EFFECT_NAMES)
def test_block_size_never_changes_a_bit(effect, dtype, moving):
    settings = automation(effect, SETTINGS[effect]) if moving else SETTINGS[effect]
    x = audio(1, 2, 5000, dtype)
    whole = in_blocks(effect, settings, x, 5000, dtype)
    for block in (7, 63, 64, 65, 512, 4097):
        assert np.array_equal(in_blocks(effect, settings, x, block, dtype), whole), block
    assert np.array_equal(in_blocks(effect, settings, x[:, :300], 1, dtype), whole[:, :300])


@pytest.mark.parametrize(
    "effect", ["gain", "pan", "parametric_eq", "graphic_eq", "compressor", "saturation", "limiter"]
)
def test_defaults_are_transparent(effect):
    x = 0.3 * np.clip(audio(2, 2, 4000, np.float32), -1, 1)
    assert np.array_equal(getattr(dsp, effect)(x, RATE), x)


def test_a_mono_strip_at_the_centre_of_the_balance_law_is_on_both_sides_as_it_is():
    x = audio(2, 1, 1000, np.float32)
    assert np.array_equal(dsp.pan(x, RATE), np.concatenate([x, x]))


@pytest.mark.parametrize("moving", [False, True], ids=["steady", "automated"])
@pytest.mark.parametrize("effect", EFFECT_NAMES)
def test_an_impulse_keeps_its_place(effect, moving):
    """With everything that delays by design at 0, the impulse stays where it was, at its largest."""
    settings = {
        "compressor": {"threshold_db": -60.0, "lookahead_ms": 5.0},
        "convolution": {"ir": (np.ones((1, 1)), RATE)},
        "reverb": {"wet": 0.2, "dry": 1.0},
        "delay": {"time_ms": 0.0, "feedback": 0.0},
        "saturation": {"drive_db": 12.0},
        "limiter": {"ceiling_db": -12.0},
    }.get(effect, SETTINGS[effect])
    if moving:
        steady = {"parametric_eq": ["band1_gain_db"], "gain": ["gain_db"], "pan": ["pan"]}.get(effect)
        steady = steady or [c.name for c in EFFECTS[effect].controls if c.automatable and c.kind == "number"][:1]
        value = settings.get(steady[0], EFFECTS[effect][steady[0]].default)
        settings = settings | {steady[0]: [[0.0, value], [1.0, value]]}
    x = np.zeros((1, 6000))
    x[0, 2500] = 0.5
    y = getattr(dsp, effect)(x, RATE, **settings)
    assert np.abs(y).max(axis=0).argmax() == 2500


@pytest.mark.parametrize("effect", EFFECT_NAMES)
def test_constant_automation_is_no_automation(effect):
    x = audio(3, 1, 4000)
    settings = SETTINGS[effect]
    names = [c.name for c in EFFECTS[effect].controls if c.automatable and c.kind == "number"]
    values = EFFECTS[effect].defaults | settings
    moving = settings | {name: [[0.0, values[name]], [0.01, values[name]]] for name in names}
    function = getattr(dsp, effect)
    assert error_db(function(x, RATE, **moving), function(x, RATE, **settings)) < -140


def test_automation_reaches_its_breakpoints_on_the_grid():
    x = np.ones((1, 6400))
    seconds = 64 * 50 / RATE
    y = dsp.gain(x, RATE, gain_db=[[0.0, -20.0], [seconds, 0.0]])[0]
    assert abs(y[0] - 0.1) < 1e-12
    assert abs(y[3200] - 1.0) < 1e-12
    assert abs(y[1600] - 10 ** (-10 / 20)) < 1e-9
    halfway = 0.5 * (10 ** (-10 / 20) + 10 ** (-9.6 / 20))
    assert abs(y[1632] - halfway) < 1e-9, "between control points the coefficient, here the amplitude, is linear"
    assert np.array_equal(y[3200:], np.ones(3200))


def test_logarithmic_controls_move_logarithmically():
    curve = Curve(((0.0, 100.0), (1.0, 10000.0)))
    assert abs(curve.at(np.array([0.5]), EFFECTS["parametric_eq"]["band1_freq_hz"])[0] - 1000.0) < 1e-9


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 96000, 192000])
@pytest.mark.parametrize("effect", EFFECT_NAMES)
def test_extreme_controls_are_finite_and_stable(effect, rate):
    """At both ends of every control's range, and at random corners, a signal that stops dies away."""
    declared = [c for c in EFFECTS[effect].controls if c.kind == "number"]
    corners = [dict.fromkeys([c.name for c in declared], k) for k in (0.0, 1.0)]
    rng = np.random.default_rng(rate)
    corners += [{c.name: float(rng.integers(2)) for c in declared} for _ in range(6 if effect != "reverb" else 1)]
    n = 6000
    for corner in corners:
        controls = {c.name: c.from_unit(corner[c.name]) for c in declared}
        if effect == "reverb":
            controls |= {f"band{k}_decay_s": min(controls[f"band{k}_decay_s"], 1.0) for k in range(1, 13)}
        if effect == "convolution":
            controls["ir"] = "plate"
        x = audio(4, 2, n)
        y = getattr(dsp, effect)(x, rate, **controls)
        assert np.isfinite(y).all(), controls
        limit = 10 ** (2 * 24 * 6 / 20) if effect == "parametric_eq" else 10 ** (96 / 20)
        assert np.abs(y).max() < limit, controls


@pytest.mark.parametrize("rate", [8000, 48000, 192000])
def test_every_equaliser_setting_is_stable(rate):
    """Poles stay inside the unit circle for all corners of gain, frequency and Q, band by band."""
    from mixtools.controls import EQ_BANDS
    from mixtools.dsp.parametric_eq import biquad

    for band in EQ_BANDS:
        frequency = EFFECTS["parametric_eq"][f"{band}_freq_hz"]
        for gain_db in (-24.0, -0.1, 0.1, 24.0):
            for freq in (frequency.low, frequency.default, frequency.high):
                for q in (0.1, 0.707, 10.0):
                    _, _, _, a1, a2 = biquad(band, *np.atleast_1d(gain_db, freq, q), rate)[0]
                    assert abs(a2) < 1 and abs(a1) < 1 + a2, (band, gain_db, freq, q)


@pytest.mark.parametrize("effect", ["parametric_eq", "compressor", "delay", "limiter", "reverb"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_a_decaying_tail_does_not_stay_denormal(effect, dtype):
    settings = SETTINGS[effect] | ({"feedback": 0.2} if effect == "delay" else {})
    settings |= {"release_ms": 5.0} if effect in ("compressor", "limiter") else {}
    x = np.zeros((1, 200_000), dtype)
    x[0, :1000] = audio(5, 1, 1000, dtype)
    y = np.abs(getattr(dsp, effect)(x, RATE, **settings))
    smallest = np.finfo(np.float32).tiny
    assert ((y > 0) & (y < smallest)).sum() <= 64, "a fast decay may cross that range between two control points"
    assert y[0, -1] == 0.0


def test_a_decaying_tail_costs_no_more_than_noise():
    """The states would be denormal for most of this silence if nothing cleared them."""
    n = 400_000
    quiet = np.zeros((1, n), np.float32)
    quiet[0, :100] = 0.5
    loud = audio(6, 1, n, np.float32)
    for effect in ("parametric_eq", "compressor", "delay"):
        took = {}
        for name, x in (("quiet", quiet), ("loud", loud)):
            times = []
            for _ in range(7):
                began = time.perf_counter()
                getattr(dsp, effect)(x, RATE, **SETTINGS[effect])
                times.append(time.perf_counter() - began)
            took[name] = min(times)
        # Denormals cost a factor of 10 and more; this bound only has to tell that from noise.
        assert took["quiet"] < 3 * took["loud"], (effect, took)


def test_pan_laws():
    for law in ("balance", "linear", "constant_power", "compromise"):
        assert np.array_equal(pan_gains(np.asarray(0.0), law), [1.0, 0.0])
        assert np.array_equal(pan_gains(np.asarray(1.0), law), [0.0, 1.0])
        left, right = pan_gains(np.asarray(0.3), law)
        assert np.allclose(pan_gains(np.asarray(0.7), law), [right, left], atol=1e-15)
        middle = pan_gains(np.asarray(0.5), law)
        assert middle[0] == pytest.approx(middle[1], abs=1e-16)
        expected = {"balance": 0.0, "linear": -6.02, "constant_power": -3.01, "compromise": -4.52}[law]
        assert 20 * np.log10(middle[0]) == pytest.approx(expected, abs=0.01)
        x = audio(7, 2, 500)
        assert np.allclose(dsp.pan(x, RATE, pan=0.5, law=law), x, atol=0), "a stereo strip at the centre is untouched"
        assert (np.abs(dsp.pan(x, RATE, pan=0.2, law=law)) <= np.abs(x)).all(), "a balance never boosts"


def test_compressor_lands_on_its_static_curve():
    for level_db in (-40.0, -20.0, -6.0):
        x = np.full((1, 40000), 10 ** (level_db / 20))
        y = dsp.compressor(x, RATE, threshold_db=-24.0, ratio=4.0, attack_ms=1.0)
        over = max(0.0, level_db + 24)
        assert 20 * np.log10(y[0, -1]) == pytest.approx(level_db - over * 0.75, abs=1e-6)


def test_compressor_times_are_time_constants():
    """63.2 % of the way after the attack time, and back after the release time."""
    n = 44100
    x = np.full((1, 3 * n), 1e-3)
    x[0, n : 2 * n] = 1.0
    y = dsp.compressor(x, RATE, threshold_db=-40.0, ratio=2.0, attack_ms=20.0, release_ms=80.0)
    reduction = -20 * np.log10(y[0] / x[0])
    assert reduction[n + round(0.020 * RATE)] == pytest.approx(20 * (1 - np.exp(-1)), rel=2e-3)
    assert reduction[2 * n + round(0.080 * RATE)] == pytest.approx(20 * np.exp(-1), rel=2e-3)


def test_compressor_ratio_1_does_nothing():
    x = audio(8, 2, 3000, np.float32)
    assert np.array_equal(dsp.compressor(x, RATE, threshold_db=-60.0, ratio=1.0), x)


def test_compressor_on_stereo_has_one_gain():
    x = audio(9, 2, 4000)
    y = dsp.compressor(x, RATE, threshold_db=-30.0, ratio=8.0)
    sounding = np.abs(x).min(axis=0) > 1e-3
    gains = (y / np.where(x == 0, 1, x))[:, sounding]
    assert np.allclose(gains[0], gains[1], rtol=1e-12)


def test_compressor_looks_ahead():
    """With look-ahead as long as the attack needs, the first sample of a burst is reduced."""
    x = np.zeros((1, 8000))
    x[0, 4000:] = 1.0
    late = dsp.compressor(x, RATE, threshold_db=-20.0, ratio=20.0, attack_ms=1.0)
    early = dsp.compressor(x, RATE, threshold_db=-20.0, ratio=20.0, attack_ms=1.0, lookahead_ms=10.0)
    assert late[0, 4000] > 0.9
    assert early[0, 4000] < 0.15


def test_limiter_holds_the_true_peak():
    n = 20000
    rng = np.random.default_rng(0)
    signals = {
        "noise": rng.standard_normal((2, n)) * 4,
        "quarter of the rate, between the samples": np.tile([1, 1, -1, -1], n // 4)[None] * 8.0,
        "clicks": (rng.random((2, n)) < 0.01) * rng.standard_normal((2, n)) * 30,
        "sweep": 16 * np.sin(np.cumsum(np.linspace(0, np.pi, n)))[None],
        "square": 10 * np.sign(np.sin(0.143 * np.arange(n)))[None],
    }
    for ceiling in (-24.0, -1.0, 0.0):
        for release in (5.0, 1000.0):
            for name, x in signals.items():
                for dtype in (np.float32, np.float64):
                    y = dsp.limiter(x.astype(dtype), RATE, ceiling_db=ceiling, release_ms=release)
                    peak = oracles.true_peaks(y.astype(np.float64)).max()
                    assert peak <= 10 ** (ceiling / 20), (name, ceiling, release)
                    assert (np.abs(y) <= np.abs(x.astype(dtype))).all(), "gain never above 1"
                    assert peak > 10 ** (ceiling / 20) * 0.98, "and it does not limit more than it has to"


def test_graphic_eq_follows_its_curve():
    x = np.zeros((1, 8000))
    x[0, 4000] = 1.0
    y = dsp.graphic_eq(x, RATE, band1000_gain_db=-12.0, band2000_gain_db=6.0, band16000_gain_db=-20.0)[0]
    assert np.allclose(y[4000 - 1000 : 4000], y[4001 : 4000 + 1001][::-1], atol=1e-15), "linear phase"
    spectrum = np.abs(np.fft.rfft(y, 44100))
    bin_hz = RATE / 2048
    for hz, db in ((125, 0.0), (250, 0.0), (1000, -12.0), (2000, 6.0), (16000, -20.0), (20000, -20.0)):
        sampled = round(hz / bin_hz) * bin_hz
        assert 20 * np.log10(spectrum[round(sampled)]) == pytest.approx(db, abs=0.6)
    half = 0.5 * (10 ** (-12 / 20) + 10 ** (6 / 20))
    assert spectrum[1500] == pytest.approx(half, rel=0.03), "linear in amplitude over linear frequency"


def test_delay_echoes_where_it_says():
    x = np.zeros((1, 9000))
    x[0, 100] = 1.0
    y = dsp.delay(x, RATE, time_ms=1000 * 2000 / RATE, feedback=0.5, damping_hz=20000.0)[0]
    a = np.exp(-2 * np.pi * 20000 / RATE)
    assert y[2100] == pytest.approx(1.0)
    assert y[4100] == pytest.approx(0.5 * (1 - a))
    assert y[6100] == pytest.approx((0.5 * (1 - a)) ** 2)
    assert not y[:2100].any()


def test_fractional_delay_delays_by_fractions():
    n = np.arange(4000)
    tone = np.sin(0.7 * n)[None]
    y = dsp.delay(tone, RATE, time_ms=1000 * 20.4 / RATE, feedback=0.0)
    assert error_db(y[:, 100:], np.sin(0.7 * (n - 20.4))[None, 100:]) < -80


def test_saturation_keeps_full_scale_and_lifts_what_is_small():
    n = np.arange(20000)
    for drive in (6.0, 24.0):
        loud = dsp.saturation(np.sin(0.01 * n)[None], RATE, drive_db=drive)
        assert np.abs(loud[0, 100:-100]).max() == pytest.approx(1.0, abs=1e-4)
        small = dsp.saturation(1e-4 * np.sin(0.01 * n)[None], RATE, drive_db=drive)
        k = 10 ** (drive / 20) - 1
        assert np.abs(small).max() == pytest.approx(1e-4 * k / np.tanh(k), rel=0.01)


def test_saturation_hardly_aliases():
    """The third harmonic of 9 kHz lies at 27 kHz; without oversampling it would come back at 17.1 kHz."""
    n = np.arange(44100)
    y = dsp.saturation(0.7 * np.sin(2 * np.pi * 9000 / RATE * n)[None], RATE, drive_db=12.0)[0]
    spectrum = np.abs(np.fft.rfft(y * np.hanning(len(y))))
    assert 20 * np.log10(spectrum[17100 - 5 : 17100 + 5].max() / spectrum.max()) < -75


def test_reverb_decays_as_it_says():
    controls = {f"band{k}_decay_s": 0.8 if k == 8 else 0.05 for k in range(1, 13)}
    controls |= {f"band{k}_gain": 1.0 if k == 8 else 0.0 for k in range(1, 13)}
    x = np.zeros((1, RATE))
    x[0, 0] = 1.0
    y = dsp.reverb(x, RATE, **controls)
    energy = (y**2).sum(axis=0)
    backwards = 10 * np.log10(np.cumsum(energy[::-1])[::-1] / energy.sum())
    t = [np.argmax(backwards < level) / RATE for level in (-5.0, -35.0)]
    assert 2 * (t[1] - t[0]) == pytest.approx(0.8, rel=0.1)
    spectrum = np.abs(np.fft.rfft(y[0])) ** 2
    inside = spectrum[500:2000].sum() / spectrum.sum()
    assert inside > 0.99, "band 8 fades out an octave to each side; its decay blurs that a little"


def test_reverb_has_unit_energy_whatever_its_decay():
    for decay in (0.1, 1.0):
        x = np.zeros((1, 2 * RATE))
        x[0, 0] = 1.0
        y = dsp.reverb(x, RATE, **{f"band{k}_decay_s": decay for k in range(1, 13)})
        assert 10 * np.log10((y**2).sum() / 2) == pytest.approx(0.0, abs=0.5)


def test_reverb_width_and_seed():
    x = np.zeros((1, 20000))
    x[0, 0] = 1.0
    mono = dsp.reverb(x, RATE, width=0.0)
    wide = dsp.reverb(x, RATE, width=1.0)
    assert np.array_equal(mono[0], mono[1])
    assert abs(np.corrcoef(wide)[0, 1]) < 0.1
    assert np.array_equal(dsp.reverb(x, RATE, seed=5), dsp.reverb(x, RATE, seed=5))
    assert not np.array_equal(dsp.reverb(x, RATE, seed=5), dsp.reverb(x, RATE, seed=6))


def test_rooms_differ_and_are_of_unit_energy():
    from mixtools.controls import ROOMS
    from mixtools.dsp.rooms import room_response

    lengths = []
    for room in ROOMS:
        for rate in (16000, 44100, 96000):
            response = room_response(room, rate)
            assert (response**2).sum() / 2 == pytest.approx(1.0)
            assert np.isfinite(response).all()
        energy = np.cumsum((room_response(room, 44100) ** 2).sum(axis=0)[::-1])[::-1]
        lengths.append(np.argmax(energy < 1e-6 * energy[0]) / 44100)
    assert lengths[0] < lengths[1] < lengths[2] < lengths[3]
    assert 0.2 < lengths[0] < 0.5 and 2.0 < lengths[3] < 3.5


def test_notes_say_what_is_limited():
    eq = dsp.ParametricEq(8000, 1, np.float32, band4_gain_db=3.0)
    assert eq.notes == ["band4_freq_hz is 10000; limited to 3600, 0.45 of the sample rate"]
    graphic = dsp.GraphicEq(8000, 1, np.float32, band8000_gain_db=-3.0)
    assert graphic.notes == ["band8000_gain_db is left out: 8000 Hz is above 3600, 0.45 of the sample rate"]


@pytest.mark.parametrize(
    ("effect", "keywords", "line"),
    [
        ("compressor", {"attack_ms": 300}, "compressor.attack_ms is 300; give 0.03 to 250"),
        ("compressor", {"attack_ms": float("nan")}, "compressor.attack_ms is nan; give 0.03 to 250"),
        ("compressor", {"atack_ms": 3}, "compressor: atack_ms is not known; did you mean attack_ms?"),
        (
            "compressor",
            {"lookahead_ms": [[0, 1]]},
            "compressor.lookahead_ms is a list; it cannot be automated, give one value",
        ),
        ("gain", {"invert": 1}, "gain.invert is 1; give true or false"),
        ("pan", {"law": "lin"}, "pan.law is lin; give one of balance, linear, constant_power, compromise"),
        ("gain", {"gain_db": [[0.5, 1], [0.5, 2]]}, "gain.gain_db[1][0] is 0.5; give a time after 0.5, the one before"),
        ("convolution", {}, "convolution: ir is missing; give a file"),
        ("reverb", {"seed": 1.5}, "reverb.seed is 1.5; give a whole number, 0 to 2147483647"),
    ],
)
def test_wrong_controls_say_what_to_give(effect, keywords, line):
    with pytest.raises(Exception) as caught:
        getattr(dsp, effect)(np.zeros(10), RATE, **keywords)
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("x", "line"),
    [
        (np.zeros(4, np.int16), "the audio is int16; give float32 or float64"),
        (np.zeros((3, 4)), "the audio has shape (3, 4); give (n,), (1, n) or (2, n)"),
        (np.array([0.0, np.nan]), "the audio holds NaN or infinity; give finite samples"),
    ],
)
def test_wrong_audio_says_what_to_give(x, line):
    with pytest.raises(Exception) as caught:
        dsp.gain(x, RATE)
    assert str(caught.value) == line


def test_random_controls_of_every_effect_are_legal():
    for effect in EFFECT_NAMES:
        for seed in range(20):
            for name, value in random_controls(effect, np.random.default_rng(seed)).items():
                EFFECTS[effect][name].check(value, name)
