"""Loudness and peaks against EBU Tech 3341 and 3342, the recommendation's words, and independent implementations."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import oracles
import pyloudnorm
import pytest
import scipy.signal

from mixtools.files.reading import read_audio
from mixtools.measure.loudness import LoudnessMeter, k_weighting
from mixtools.measure.peaks import PeakMeter, decibels
from mixtools.synth import synth_song

RATE = 48000
RATES = 44100, 48000, 96000


def sine(rate: int, hz: float, *pieces: tuple[float, float]) -> np.ndarray:
    """A stereo tone that goes on through pieces of (seconds, peak level in dBFS); None is silence."""
    levels = [np.full(round(seconds * rate), 0.0 if level is None else 10 ** (level / 20)) for seconds, level in pieces]
    envelope = np.concatenate(levels)
    return np.tile(envelope * np.sin(2 * np.pi * hz / rate * np.arange(len(envelope))), (2, 1))


def measured(x: np.ndarray, rate: int, block: int = 16384) -> LoudnessMeter:
    meter = LoudnessMeter(rate, len(x))
    for at in range(0, x.shape[1], block):
        meter.add(x[:, at : at + block])
    return meter


def true_peak_db(x: np.ndarray, block: int = 5000) -> float | None:
    meter = PeakMeter(len(x))
    for at in range(0, x.shape[1], block):
        meter.add(x[:, at : at + block])
    return decibels(meter.true_peak)


INTEGRATED = {
    "3341-1": ([(20, -23)], -23),
    "3341-2": ([(20, -33)], -33),
    "3341-3": ([(10, -36), (60, -23), (10, -36)], -23),
    "3341-4": ([(10, -72), (10, -36), (60, -23), (10, -36), (10, -72)], -23),
    "3341-5": ([(20, -26), (20.1, -20), (20, -26)], -23),
}


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("case", INTEGRATED)
def test_integrated_loudness_of_tech_3341(case, rate):
    pieces, expected = INTEGRATED[case]
    assert measured(sine(rate, 1000, *pieces), rate).integrated_lufs == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("level", [-23, -33])
def test_momentary_and_short_term_of_tech_3341_1_and_2(level, rate):
    meter = measured(sine(rate, 1000, (20, level)), rate)
    for series in (meter.momentary_lufs(), meter.short_term_lufs()):
        np.testing.assert_allclose(series[100:], level, atol=0.1)


def test_short_term_of_tech_3341_9_is_constant():
    meter = measured(sine(RATE, 1000, *[(1.34, -20), (1.66, -30)] * 5), RATE)
    np.testing.assert_allclose(meter.short_term_lufs(), -23, atol=0.1)


@pytest.mark.parametrize("step", range(20))
def test_short_term_of_tech_3341_10(step):
    meter = measured(sine(RATE, 1000, (0.15 * step, None), (3, -23), (1, None)), RATE)
    assert meter.short_term_max_lufs == pytest.approx(-23, abs=0.1)


def test_short_term_of_tech_3341_11_follows_each_segment():
    pieces = [
        part
        for step in range(20)
        for part in [(0.15 * step, None), (3, -38 + step), (3 - 0.15 * step, None)]
        if part[0] > 0
    ]
    series = measured(sine(RATE, 1000, *pieces), RATE).short_term_lufs()
    for step in range(20):
        segment = series[max(0, 600 * step - 300) : 600 * (step + 1) - 300]
        assert segment.max() == pytest.approx(-38 + step, abs=0.1)


def test_momentary_of_tech_3341_12_is_constant():
    meter = measured(sine(RATE, 1000, *[(0.18, -20), (0.22, -30)] * 25), RATE)
    np.testing.assert_allclose(meter.momentary_lufs(), -23, atol=0.1)


@pytest.mark.parametrize("step", range(20))
def test_momentary_of_tech_3341_13(step):
    meter = measured(sine(RATE, 1000, (0.02 * step, None), (0.4, -23), (1, None)), RATE)
    assert meter.momentary_max_lufs == pytest.approx(-23, abs=0.1)


def test_momentary_of_tech_3341_14_follows_each_segment():
    pieces = [
        part
        for step in range(20)
        for part in [(0.02 * step, None), (0.4, -38 + step), (0.4 - 0.02 * step, None)]
        if part[0] > 0
    ]
    series = measured(sine(RATE, 1000, *pieces), RATE).momentary_lufs()
    for step in range(20):
        segment = series[max(0, 80 * step - 40) : 80 * (step + 1) - 40]
        assert segment.max() == pytest.approx(-38 + step, abs=0.1)


TONES = {
    "3341-15": (4, 0.0, 0.50, -6.0),
    "3341-16": (4, 45.0, 0.50, -6.0),
    "3341-17": (6, 60.0, 0.50, -6.0),
    "3341-18": (8, 67.5, 0.50, -6.0),
    "3341-19": (4, 45.0, 1.41, 3.0),
}


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("case", TONES)
def test_true_peak_of_tech_3341_tones(case, rate):
    divisor, degrees, amplitude, expected = TONES[case]
    n = np.arange(rate)
    fade = np.minimum(1.0, np.minimum(n, n[::-1]) / (rate / 10))
    x = amplitude * fade * np.sin(2 * np.pi * n / divisor + np.radians(degrees))
    assert -0.4 <= true_peak_db(np.tile(x, (2, 1))) - expected <= 0.2


@pytest.mark.parametrize("offset", range(4))
def test_true_peak_between_samples_in_the_manner_of_tech_3341_20_to_23(offset):
    """A full-scale burst made at four times the rate, decimated with each offset: its peak lies between samples."""
    n = np.arange(4 * RATE)
    burst = np.exp(-(((n - 2 * RATE) / 40) ** 2)) * np.cos(2 * np.pi * (n - 2 * RATE) / 24)
    assert -0.4 <= true_peak_db(burst[None, offset::4]) <= 0.2


@pytest.mark.parametrize("rate", [8000, 22050, 44100])
def test_true_peak_is_the_recommendations_filter_in_blocks_of_any_size(rate):
    x = np.random.default_rng(rate).standard_normal((2, 3000))
    for block in (1, 7, 64, 3000):
        assert 10 ** (true_peak_db(x, block) / 20) == pytest.approx(
            oracles.true_peaks(np.pad(x, ((0, 0), (0, 11)))).max(), rel=1e-12
        )


RANGES = {
    "3342-1": ([(20, -20), (20, -30)], 10),
    "3342-2": ([(20, -20), (20, -15)], 5),
    "3342-3": ([(20, -40), (20, -20)], 20),
    "3342-4": ([(20, -50), (20, -35), (20, -20), (20, -35), (20, -50)], 15),
}


@pytest.mark.parametrize("case", RANGES)
def test_loudness_range_of_tech_3342(case):
    pieces, expected = RANGES[case]
    assert measured(sine(RATE, 1000, *pieces), RATE).range_lu == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("rate", RATES)
def test_a_full_scale_tone_in_one_channel_is_at_minus_3_01(rate):
    """BS.1770-4: 0 dBFS at 997 Hz reads -3.01 LKFS; at 96 kHz the bilinear filters read 0.018 LU less."""
    x = np.sin(2 * np.pi * 997 / rate * np.arange(5 * rate))[None]
    assert measured(x, rate).integrated_lufs == pytest.approx(-3.01, abs=0.02 if rate > 48000 else 0.01)


def test_weighting_has_the_published_coefficients_at_48_khz():
    shelf = [1.53512485958697, -2.69169618940638, 1.19839281085285, -1.69065929318241, 0.73248077421585]
    high_pass = [1.0, -2.0, 1.0, -1.99004745483398, 0.99007225036621]
    np.testing.assert_allclose(k_weighting(48000), [shelf, high_pass], atol=1e-9)


def plain_loudness(x: np.ndarray, rate: int) -> dict[str, float]:
    """The recommendation and the two EBU documents, word for word, with whole arrays."""
    weighted = np.asarray(x, np.float64)
    for b0, b1, b2, a1, a2 in k_weighting(rate):
        weighted = scipy.signal.lfilter([b0, b1, b2], [1, a1, a2], weighted)
    power = (weighted**2).sum(axis=0)

    def windows(seconds: float, hop: float) -> np.ndarray:
        starts = np.arange(0, (len(power) / rate - seconds) / hop + 1e-9).astype(int) * hop
        return np.array([power[round(s * rate) : round((s + seconds) * rate)].mean() for s in starts])

    def lufs(mean_square: float) -> float:
        return -0.691 + 10 * math.log10(mean_square)

    def above(powers: np.ndarray, gate: float) -> np.ndarray:
        return np.array([p for p in powers if p > 0 and lufs(p) > gate])

    blocks = above(windows(0.4, 0.1), -70)
    short = above(windows(3, 0.1), -70)
    ordered = np.sort([lufs(p) for p in above(short, lufs(short.mean()) - 20)])
    last = len(ordered) - 1
    return {
        "integrated_lufs": lufs(above(blocks, lufs(blocks.mean()) - 10).mean()),
        "range_lu": ordered[round(0.95 * last)] - ordered[round(0.1 * last)],
        "momentary_max_lufs": lufs(windows(0.4, 0.01).max()),
        "short_term_max_lufs": lufs(windows(3, 0.01).max()),
    }


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 96000])
@pytest.mark.parametrize("channels", [1, 2])
def test_every_figure_against_a_plain_implementation(rate, channels):
    rng = np.random.default_rng(rate)
    swells = np.repeat(10 ** rng.uniform(-3, 0, 12), rate // 2)
    x = (rng.standard_normal((channels, len(swells))) * 0.2 * swells).astype(np.float32)
    meter = measured(x, rate, block=3001)
    for name, expected in plain_loudness(x, rate).items():
        assert getattr(meter, name) == pytest.approx(expected, abs=1e-6), name


@pytest.mark.parametrize("rate", [44100, 48000])
def test_integrated_loudness_is_pyloudnorms(rate):
    """With its `DeMan` filters, which are the recommendation's; its default ones read about 0.04 LU less."""
    x = sum(synth_song(5, seconds=8, stems=8, rate=rate).stems.values()) * np.ones((2, 1))
    ours = measured(x, rate).integrated_lufs
    assert ours == pytest.approx(pyloudnorm.Meter(rate, filter_class="DeMan").integrated_loudness(x.T), abs=1e-4)
    assert ours == pytest.approx(pyloudnorm.Meter(rate).integrated_loudness(x.T), abs=0.1)


def test_block_sizes_do_not_matter():
    x = np.random.default_rng(1).standard_normal((2, 5 * RATE)) * 0.1
    whole = measured(x, RATE, x.shape[1])
    for block in (1000, 4097):
        parts = measured(x, RATE, block)
        assert parts.integrated_lufs == pytest.approx(whole.integrated_lufs, abs=1e-10)
        np.testing.assert_allclose(parts.momentary_lufs(), whole.momentary_lufs(), rtol=1e-10)


def test_gain_moves_loudness_by_as_much():
    x = np.random.default_rng(2).standard_normal((2, 6 * RATE)) * np.repeat([0.01, 0.1, 0.3], 2 * RATE)
    soft, loud = measured(x, RATE), measured(2 * x, RATE)
    for name in ("integrated_lufs", "momentary_max_lufs", "short_term_max_lufs"):
        assert getattr(loud, name) - getattr(soft, name) == pytest.approx(20 * math.log10(2), abs=1e-9)
    assert loud.range_lu == pytest.approx(soft.range_lu, abs=1e-9)
    assert true_peak_db(2 * x) - true_peak_db(x) == pytest.approx(20 * math.log10(2), abs=1e-9)


def test_a_mono_file_counts_once_or_as_two_loudspeakers():
    x = np.random.default_rng(3).standard_normal((1, RATE)) * 0.1
    stereo = measured(np.concatenate([x, x]), RATE).integrated_lufs
    dual = LoudnessMeter(RATE, 1, dual_mono=True)
    dual.add(x)
    assert dual.integrated_lufs == pytest.approx(stereo, abs=1e-9)
    assert measured(x, RATE).integrated_lufs == pytest.approx(stereo - 10 * math.log10(2), abs=1e-9)


def test_what_cannot_be_measured_is_none():
    silent = measured(np.zeros((2, 5 * RATE)), RATE)
    short = measured(np.ones((1, RATE // 4)), RATE)
    faint = measured(np.random.default_rng(4).standard_normal((2, 5 * RATE)) * 1e-5, RATE)
    assert (silent.integrated_lufs, silent.range_lu, silent.momentary_max_lufs) == (None, None, None)
    assert (short.integrated_lufs, short.momentary_max_lufs, short.short_term_max_lufs) == (None, None, None)
    assert (faint.integrated_lufs, faint.range_lu) == (None, None)
    assert faint.momentary_max_lufs < -70
    assert true_peak_db(np.zeros((1, 100))) is None
    assert decibels(PeakMeter(2).true_peak) is None


AUDIO = Path(os.environ.get("MIXTOOLS_AUDIO", "/nowhere"))


@pytest.mark.audio
@pytest.mark.skipif(not (AUDIO / "loudness").is_dir(), reason="needs MIXTOOLS_AUDIO")
def test_published_test_signals_read_what_they_should():
    expected = json.loads((AUDIO / "loudness" / "expected.json").read_text())
    found = {"I": "integrated_lufs", "LRA": "range_lu", "M": "momentary_max_lufs", "S": "short_term_max_lufs"}
    checked = 0
    for name, values in expected.items():
        if name == "sine_1000.wav":  # pyloudnorm's own figure, with its own filters
            continue
        x, rate = read_audio(AUDIO / "loudness" / name)
        meter = measured(x, rate)
        for key, attribute in found.items():
            if key in values:
                tolerance = values["tol_lra"] if key == "LRA" else values["tol"]
                assert getattr(meter, attribute) == pytest.approx(values[key], abs=tolerance), (name, key)
                checked += 1
    assert checked > 10


def real_mixes() -> list[Path]:
    return sorted([*AUDIO.glob("references/*.flac"), *AUDIO.glob("multitrack/*/mix.flac")])


@pytest.mark.audio
@pytest.mark.skipif(not real_mixes(), reason="needs MIXTOOLS_AUDIO")
def test_real_mixes_read_what_pyloudnorm_and_ffmpeg_read():
    for path in real_mixes():
        x, rate = read_audio(path)
        ours = measured(x, rate).integrated_lufs
        theirs = pyloudnorm.Meter(rate, filter_class="DeMan").integrated_loudness(x.T.astype(np.float64))
        assert ours == pytest.approx(theirs, abs=0.02), path.name
        if shutil.which("ffmpeg"):
            command = ["ffmpeg", "-nostats", "-i", str(path), "-af", "ebur128=peak=true", "-f", "null", "-"]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stderr.rpartition("Summary:")[2]
            integrated, peak = (float(re.search(rf"{key}:\s+(-?[\d.]+)", said)[1]) for key in ("I", "Peak"))
            assert ours == pytest.approx(integrated, abs=0.1), path.name
            assert true_peak_db(x) == pytest.approx(peak, abs=0.3), path.name
