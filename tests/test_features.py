"""Every feature against a plain whole-array implementation, and what each of them means."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import audio

from mixtools.errors import ParameterError
from mixtools.measure.audio_features import audio_features
from mixtools.measure.catalogue import GROUPS, TABLE2, chosen
from mixtools.measure.envelope import Histogram
from mixtools.measure.features import Analyser, features, relative_errors, vector
from mixtools.measure.filterbanks import bark, bark_filterbank, bark_hz
from mixtools.measure.frames import Framer, hann
from mixtools.measure.spectral import frame_size

RATES = (8000, 44100, 48000, 96000)


def song(rate: int, channels: int, seconds: float = 3.5) -> np.ndarray:
    """Tones, noise, clicks and a pause, louder and softer, off centre: music enough for every feature to be defined."""
    n = int(seconds * rate)
    t = np.arange(n) / rate
    rng = np.random.default_rng(rate)
    chord = sum(np.sin(2 * np.pi * f * t + k) / (k + 1) for k, f in enumerate((110.0, 277.2, 660.0, 1760.0, 3300.0)))
    x = np.stack([chord * (1.0 - 0.3 * c) + 0.2 * rng.standard_normal(n) for c in range(channels)])
    x *= 0.25 * (0.3 + np.sin(2 * np.pi * 0.7 * t) ** 2)
    x[:, n // 5 : n // 4] = 0.0
    x[-1, n // 2 : n // 2 + 30] -= 0.4
    return x


SIGNALS = {
    f"{name} {rate} Hz {'mono' if channels == 1 else 'stereo'}": (make(rate, channels), rate)
    for name, make in (
        ("music", song),
        ("bursts", lambda rate, channels: audio(3, channels, 2 * rate) / 2),
        ("noise", lambda rate, channels: 0.1 * np.random.default_rng(1).standard_normal((channels, rate + 77))),
    )
    for rate in RATES
    for channels in (1, 2)
}


class Plain:
    """The features of a whole array, one frame, window and bin after the other, as their equations read."""

    def __init__(self, x: np.ndarray, rate: int):
        self.x, self.rate = x, rate
        self.left, self.right = x[0], x[-1]

    def frames(self, y: np.ndarray):
        size = 2 ** int(np.rint(np.log2(2048 * self.rate / 44100)))
        window = np.array([np.sin(np.pi * i / size) ** 2 for i in range(size)])
        start = 0
        while start + size <= len(y):
            yield np.abs(np.fft.rfft(window * y[start : start + size]))
            start += size // 2

    def mean(self, levels, values):
        """Over what is not further than 60 dB below the loudest; levels are energies."""
        kept = [v for e, v in zip(levels, values, strict=True) if e >= 1e-6 * max(levels) and v is not None]
        return sum(kept) / len(kept)

    def spectral(self):
        rows, energies, before = [], [], None
        for m in self.frames((self.left + self.right) / 2):
            energies.append((m**2).sum())
            if m.max() == 0.0:
                rows.append(None)
                before = None
                continue
            m = np.where(m < 1e-6 * m.max(), 0.0, m)
            f = np.arange(len(m)) * self.rate / 2 / (len(m) - 1)
            p = m / m.sum()
            c = (f * p).sum()
            s = np.sqrt(((f - c) ** 2 * p).sum())
            q = m**2 / (m**2).sum()
            raised = np.maximum(m**2, 1e-12 * (m**2).max())
            unit = m / np.linalg.norm(m)
            rows.append(
                {
                    "centroid_hz": c,
                    "spread_hz": s,
                    "skewness": ((f - c) ** 3 * p).sum() / s**3,
                    "kurtosis": ((f - c) ** 4 * p).sum() / s**4,
                    "rolloff_85_hz": f[np.searchsorted(np.cumsum(m), 0.85 * np.cumsum(m)[-1])],
                    "rolloff_95_hz": f[np.searchsorted(np.cumsum(m), 0.95 * np.cumsum(m)[-1])],
                    "flatness": np.exp(np.mean(np.log(raised))) / np.mean(raised),
                    "entropy": -sum(v * np.log2(v) for v in q if v > 0) / np.log2(len(m)),
                    "crest": m.max() / m.mean(),
                    "flux": None if before is None else np.linalg.norm(unit - before),
                }
            )
            before = unit
        names = [f.name for f in GROUPS["spectral"].features if f.series]
        return {name: self.mean(energies, [row and row[name] for row in rows]) for name in names}

    def bark_db(self):
        spectra = np.array(list(self.frames((self.left + self.right) / 2)))
        spectra[spectra < 1e-6 * spectra.max(axis=1, keepdims=True)] = 0.0
        powers = (spectra**2).mean(axis=0)
        size = 2 * (len(powers) - 1)
        window_energy = 3 / 8 * size
        z = np.linspace(26.81 * 20 / 1980 - 0.53, 26.81 * 20000 / 21960 - 0.53, 26)
        edges = 1960 * (z + 0.53) / (26.28 - z)
        bands = []
        for low, peak, high in zip(edges, edges[1:], edges[2:], strict=False):
            total = 0.0
            for k, power in enumerate(powers):
                f = k * self.rate / size
                if low < f < high:
                    total += power * ((f - low) / (peak - low) if f <= peak else (high - f) / (high - peak))
            level = 10 * np.log10(2 * total / (size * window_energy)) if total else None
            bands.append(None if high > self.rate / 2 else level)
        return bands

    def stereo(self):
        left, right = self.left, self.right
        measured = {
            "width": ((left - right) ** 2).sum() / ((left + right) ** 2).sum(),
            "imbalance": ((right**2).sum() - (left**2).sum()) / ((right**2).sum() + (left**2).sum()),
            "correlation": (left * right).sum() / np.sqrt((left**2).sum() * (right**2).sum()),
        }
        rows, energies = [], []
        bands = {"all": (0, 1e9), "low": (0, 250), "mid": (250, 2500), "high": (2500, 1e9)}
        for a, b in zip(self.frames(left), self.frames(right), strict=True):
            power = a**2 + b**2
            energies.append(power.sum())
            kept = power > 1e-12 * power.max()
            with np.errstate(divide="ignore", invalid="ignore"):
                similarity = np.where(kept, 2 * a * b / power, 1.0)
                panning = (1 - similarity) * np.sign(np.nan_to_num(b / a - a / b))
            f = np.arange(len(a)) * self.rate / 2 / (len(a) - 1)
            rows.append({k: np.sqrt((panning[(f >= lo) & (f < hi)] ** 2).mean()) for k, (lo, hi) in bands.items()})
        for name in bands:
            measured[f"panning_{name}"] = self.mean(energies, [row[name] for row in rows])
        return measured

    def crest_db(self, window: int):
        pieces = [self.x[:, i : i + window] for i in range(0, self.x.shape[1] - window + 1, window)]
        crests = [20 * np.log10(np.abs(p).max() / np.sqrt((p**2).mean())) if p.any() else None for p in pieces]
        return self.mean([(p**2).sum() for p in pieces], crests)

    def envelope(self):
        x = self.x.ravel()
        values, counts = np.unique(x, return_counts=True)
        p = counts / counts.sum()
        c = (values * p).sum()
        s = np.sqrt(((values - c) ** 2 * p).sum())
        third, fourth = (((values - c) ** k * p).sum() / s**k for k in (3, 4))
        return {"centroid": c, "spread": s, "skewness": third, "kurtosis": fourth}


def assert_close(measured: dict, expected: dict, tolerance: float = 1e-6):
    for name, value in expected.items():
        assert measured[name] == pytest.approx(value, rel=tolerance, abs=1e-12), name


@pytest.mark.parametrize("signal", SIGNALS)
def test_features_are_those_of_the_equations(signal):
    x, rate = SIGNALS[signal]
    plain = Plain(x, rate)
    measured = features(x, rate)
    assert_close(measured["spectral"], plain.spectral())
    assert_close(measured["stereo"], plain.stereo())
    assert_close(measured["envelope"], plain.envelope())
    loudness = {
        "sample_peak_dbfs": 20 * np.log10(np.abs(x).max()),
        "rms_dbfs": 10 * np.log10((x**2).mean()),
        "crest_100ms_db": plain.crest_db(round(0.1 * rate)),
        "crest_1s_db": plain.crest_db(rate),
    }
    assert_close(measured["loudness"], loudness)
    for band, expected in zip(measured["spectral"]["bark_db"], plain.bark_db(), strict=True):
        assert band == (expected if expected is None else pytest.approx(expected, abs=1e-6))


@pytest.mark.parametrize("signal", SIGNALS)
def test_audio_features_are_those_of_the_whole_array_at_16_lufs(signal):
    x, rate = SIGNALS[signal]
    analyser = Analyser(rate, len(x), ["diffmst"])
    analyser.add(x)
    lufs = features(np.broadcast_to(x, (2, x.shape[1])), rate, ["loudness"])["loudness"]["integrated_lufs"]
    found, expected = analyser.audio_features, audio_features(x, rate).scaled(10 ** ((-16 - lufs) / 20))
    for name in ("rms", "crest_db", "bark", "width", "imbalance"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-9, atol=1e-9, err_msg=name)


def test_diffmst_features_are_of_the_signal_at_16_lufs():
    x, rate = SIGNALS["music 44100 Hz stereo"]
    gain = 10 ** ((-16 - features(x, rate)["loudness"]["integrated_lufs"]) / 20)
    once = features(x, rate, ["diffmst"])["diffmst"]
    assert once["rms"] == pytest.approx(np.sqrt(((gain * x) ** 2).mean(axis=1)).tolist(), rel=1e-9)
    twice = features(x * 0.1, rate, ["diffmst"])["diffmst"]
    for name, value in once.items():
        assert twice[name] == pytest.approx(value, rel=1e-9), name


def test_top_1_db_counts_samples_within_the_stated_tolerance():
    for x, rate in SIGNALS.values():
        share = features(x, rate, ["loudness"])["loudness"]["top_1_db_percent"]
        magnitudes = np.abs(x) / np.abs(x).max()
        nearer, further = (100 * np.mean(magnitudes >= 10 ** (-db / 20)) for db in (0.9998, 1.0002))
        assert nearer - 1e-12 <= share <= further + 1e-12


def test_top_1_db_and_flatness_of_a_histogram_that_grows():
    values = np.concatenate([np.linspace(-1, 1, 40001) * level for level in (1e-30, 1e-3, 0.011, 0.7, 3.0)])
    forwards, backwards, at_once = Histogram(), Histogram(), Histogram()
    for part in np.array_split(values, 50):
        forwards.add(part)
    for part in np.array_split(values[::-1], 7):
        backwards.add(part)
    at_once.add(values)
    assert forwards.flatness == backwards.flatness == at_once.flatness
    assert forwards.top_1_db_percent == backwards.top_1_db_percent == at_once.top_1_db_percent
    assert at_once.top_1_db_percent == pytest.approx(100 * np.mean(np.abs(values) >= 3 * 10**-0.05), rel=1e-3)


@pytest.mark.parametrize("signal", SIGNALS)
def test_envelope_flatness_is_that_of_201_bins(signal):
    x, rate = SIGNALS[signal]
    peak = np.abs(x).max()
    shares = np.maximum(np.histogram(x, 201, (-peak, peak))[0] / x.size, 1e-12)
    expected = np.exp(np.log(shares).mean()) / shares.mean()
    assert features(x, rate, ["envelope"])["envelope"]["flatness"] == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("rate", RATES)
def test_spectral_series_are_librosas(rate):
    librosa = pytest.importorskip("librosa")
    x = song(rate, 1, 1.0) + 1e-3 * np.random.default_rng(0).standard_normal((1, rate))
    analyser = Analyser(rate, 1, ["spectral"])
    analyser.add(x)
    series = analyser.series()
    size = frame_size(rate)
    spectrum = np.abs(librosa.stft(x[0], n_fft=size, hop_length=size // 2, center=False, dtype=np.complex128))
    kind = {"S": spectrum, "sr": rate}
    expected = {
        "centroid_hz": librosa.feature.spectral_centroid(**kind),
        "spread_hz": librosa.feature.spectral_bandwidth(**kind),
        "rolloff_85_hz": librosa.feature.spectral_rolloff(**kind, roll_percent=0.85),
        "rolloff_95_hz": librosa.feature.spectral_rolloff(**kind, roll_percent=0.95),
        "flatness": librosa.feature.spectral_flatness(S=spectrum, amin=1e-30),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(series[name], values[0], rtol=1e-5, err_msg=name)
    times = librosa.frames_to_time(np.arange(spectrum.shape[1]), sr=rate, hop_length=size // 2) + size / 2 / rate
    np.testing.assert_allclose(series["time_s"], times)


def test_bands_are_those_of_traunmueller():
    edges = np.array([20.0, 100.0, 1000.0, 5000.0, 20000.0])
    np.testing.assert_allclose(bark_hz(bark(edges)), edges)
    assert bark(1000.0) == pytest.approx(8.527, abs=1e-3)
    bank = bark_filterbank(16385, 44100)
    assert bank.shape == (24, 16385)
    assert (bank.max(axis=1) > 0.98).all() and bank.max() <= 1.0
    inside = slice(72, 10168)  # between the first band's peak and the last one's, neighbours add up to 1
    np.testing.assert_allclose(bank.sum(axis=0)[inside], 1.0)


def test_a_sine_amid_a_bark_band_is_at_its_level():
    t = np.arange(48000) / 48000
    levels = features(np.sin(2 * np.pi * 1341.804 * t)[None], 48000, ["spectral"])["spectral"]["bark_db"]
    assert np.nanargmax(np.array(levels, np.float64)) == 10
    assert levels[10] == pytest.approx(-3.01, abs=0.5)


@pytest.mark.parametrize("centred", (False, True))
@pytest.mark.parametrize("n", (1, 60, 65, 500, 1000))
def test_frames_are_the_same_whatever_the_blocks(n, centred):
    x = np.random.default_rng(n).standard_normal((2, n))
    size, hop = 128, 48
    if centred:
        x_padded = np.pad(x, ((0, 0), (64, 64)), mode="reflect" if n > 64 else "constant")
        count = 1 + n // hop
    else:
        x_padded = x
        count = max((n - size) // hop + 1, 0)
    for block in (1, 13, 1000):
        framer = Framer(size, hop, 2, centred)
        found = [framer.add(x[:, at : at + block]) for at in range(0, n, block)] + [framer.finish()]
        found = np.concatenate(found, axis=1)
        assert found.shape == (2, count, size)
        for k in range(count):
            np.testing.assert_array_equal(found[:, k], x_padded[:, k * hop : k * hop + size])


def test_hann_is_the_periodic_one():
    import scipy.signal

    np.testing.assert_allclose(hann(240), scipy.signal.get_window("hann", 240), atol=1e-15)


@pytest.mark.parametrize("block", (1000, 65537, 10**6))
def test_block_size_never_changes_a_bit(block):
    x, rate = song(48000, 2, 4.0), 48000
    analyser = Analyser(rate, 2)
    for at in range(0, x.shape[1], block):
        analyser.add(x[:, at : at + block])
    assert analyser.measures() == features(x, rate)


GAIN_DB = 20 * np.log10(2)
LEVELS = (
    "integrated_lufs",
    "momentary_max_lufs",
    "short_term_max_lufs",
    "true_peak_dbtp",
    "sample_peak_dbfs",
    "rms_dbfs",
)


def assert_same(actual: dict, expected: dict, tolerance: float = 1e-12):
    for group, values in expected.items():
        for name, value in values.items():
            found = np.array(actual[group][name], np.float64)  # None becomes NaN, and NaN has to be NaN
            np.testing.assert_allclose(
                found, np.array(value, np.float64), rtol=tolerance, atol=tolerance, err_msg=f"{group}.{name}"
            )


@pytest.mark.parametrize("signal", [name for name in SIGNALS if "music" in name])
def test_6_db_moves_levels_by_6_db_and_no_shape(signal):
    x, rate = SIGNALS[signal]
    moved, loud = features(x, rate), features(2 * x, rate)
    for name in LEVELS:
        moved["loudness"][name] += GAIN_DB
    moved["spectral"]["bark_db"] = [None if v is None else v + GAIN_DB for v in moved["spectral"]["bark_db"]]
    moved["envelope"]["centroid"] *= 2
    moved["envelope"]["spread"] *= 2
    assert_same(loud, moved, 1e-9)


def test_swapping_left_and_right_negates_the_imbalance_and_changes_nothing_else():
    x, rate = SIGNALS["music 48000 Hz stereo"]
    one, other = features(x, rate), features(x[::-1], rate)
    one["stereo"]["imbalance"] *= -1
    one["diffmst"]["imbalance"] *= -1
    for name in ("rms", "crest_db"):
        one["diffmst"][name].reverse()
    assert_same(other, one)


def test_polarity_negates_the_odd_moments_and_changes_nothing_else():
    x, rate = SIGNALS["music 48000 Hz stereo"]
    one, other = features(x, rate), features(-x, rate)
    one["envelope"]["centroid"] *= -1
    one["envelope"]["skewness"] *= -1
    assert_same(other, one)


@pytest.mark.parametrize("signal", [name for name in SIGNALS if "mono" in name])
def test_mono_counts_as_two_equal_channels(signal):
    x, rate = SIGNALS[signal]
    mono, stereo = features(x, rate), features(np.concatenate([x, x]), rate)
    for name in ("integrated_lufs", "momentary_max_lufs", "short_term_max_lufs"):
        if mono["loudness"][name] is not None:
            mono["loudness"][name] += 10 * np.log10(2)
    assert_same(stereo, mono, 1e-9)
    expected = {"width": 0.0, "imbalance": 0.0, "correlation": 1.0}
    assert mono["stereo"] == {**dict.fromkeys(mono["stereo"], 0.0), **expected}


def test_known_values():
    t = np.arange(2 * 44100) / 44100
    sine = 0.5 * np.sin(2 * np.pi * 441 * t)
    left_only = features(np.stack([sine, 0 * sine]), 44100)
    assert left_only["stereo"]["imbalance"] == -1.0
    assert left_only["stereo"]["width"] == 1.0
    assert left_only["stereo"]["correlation"] is None
    assert left_only["stereo"]["panning_mid"] > 0.3
    both = features(np.stack([sine, sine]), 44100)
    assert both["loudness"]["crest_100ms_db"] == pytest.approx(3.0103, abs=1e-3)
    assert both["loudness"]["rms_dbfs"] == pytest.approx(-9.0309, abs=1e-3)
    assert both["envelope"]["kurtosis"] == pytest.approx(1.5, abs=1e-6)
    assert both["spectral"]["centroid_hz"] == pytest.approx(441, rel=0.01)
    assert both["spectral"]["flux"] < 0.1
    opposite = features(np.stack([sine, -sine]), 44100)
    assert opposite["stereo"]["width"] is None
    assert opposite["stereo"]["correlation"] == -1.0
    assert opposite["spectral"]["centroid_hz"] is None
    within_1_db = 100 * (1 - 2 / np.pi * np.arcsin(10**-0.05))
    assert both["loudness"]["top_1_db_percent"] == pytest.approx(within_1_db, rel=0.02)
    noise = features(0.1 * np.random.default_rng(0).standard_normal((1, 10 * 44100)), 44100)
    assert noise["spectral"]["flatness"] == pytest.approx(np.exp(-np.euler_gamma), abs=0.005)
    assert noise["envelope"]["kurtosis"] == pytest.approx(3, abs=0.05)


EDGES = {
    "nothing": np.zeros((2, 0)),
    "silence": np.zeros((2, 200000)),
    "one sample": np.full((1, 1), 0.5),
    "shorter than a frame": np.full((2, 1500), 0.1) * np.arange(1500) % 0.7,
    "offset": np.full((2, 150000), 0.25),
    "full-scale square": np.sign(np.sin(0.01 + 0.02 * np.arange(150000)))[None],
    "click": np.eye(1, 200000, 102400),
    "one silent channel": np.stack([song(44100, 1)[0], np.zeros(154350)]),
    "denormal": 1e-310 * np.random.default_rng(0).standard_normal((2, 60000)),
    "tiny": 1e-170 * np.random.default_rng(0).standard_normal((2, 60000)),
    "huge": 1e30 * np.random.default_rng(0).standard_normal((2, 60000)),
    "starts and ends in silence": np.pad(song(44100, 2, 1.0), ((0, 0), (200000, 200000))),
}


def undefined(measures: dict) -> set[str]:
    """The features that are null, whole lists of them if need be."""
    return {
        f"{group}.{name}"
        for group, values in measures.items()
        for name, value in values.items()
        if value is None or (isinstance(value, list) and set(value) == {None})
    }


@pytest.mark.parametrize("edge", EDGES)
def test_edges_are_finite_or_null_without_a_warning(edge):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        analyser = Analyser(44100, len(EDGES[edge]))
        analyser.add(EDGES[edge])
        measures = analyser.measures()
        series = analyser.series()
    for group, declared in GROUPS.items():
        assert list(measures[group]) == [feature.name for feature in declared.features]
        for feature in declared.features:
            value = measures[group][feature.name]
            for number in value if isinstance(value, list) else [value]:
                assert number is None or (type(number) is float and np.isfinite(number)), feature.name
                assert number is not None or feature.undefined, feature.name
    assert {len(column) for column in series.values()} == {len(series["time_s"])}
    assert not any(np.isinf(column).any() for column in series.values())
    assert relative_errors(measures, measures)["total"] == 0.0


def test_what_is_null_when():
    silent = undefined(features(EDGES["silence"], 44100))
    everything = {f"{group}.{f.name}" for group, declared in GROUPS.items() for f in declared.features}
    assert silent == everything - {"envelope.centroid", "envelope.spread"}
    assert undefined(features(EDGES["nothing"], 44100)) == everything
    assert undefined(features(song(44100, 2), 44100)) == set()
    assert undefined(features(EDGES["offset"], 44100)) == {
        "envelope.skewness",
        "envelope.kurtosis",
        "diffmst.bark_difference",
    }
    assert undefined(features(EDGES["click"], 44100)) == {"spectral.flux", "diffmst.bark_difference"}
    one_side = features(EDGES["one silent channel"], 44100)
    assert undefined(one_side) == {"stereo.correlation"}
    assert one_side["diffmst"]["crest_db"][1] is None


def test_silence_around_a_sound_changes_no_frame_measure():
    x, rate = song(44100, 2), 44100
    padded = np.pad(x, ((0, 0), (20480, 20480)))
    bare, around = features(x, rate, ["spectral", "stereo"]), features(padded, rate, ["spectral", "stereo"])
    for group, names in (("spectral", ("centroid_hz", "flatness")), ("stereo", ("panning_all", "width"))):
        for name in names:
            assert around[group][name] == pytest.approx(bare[group][name], rel=0.02)


def test_series_begin_when_windows_have_ended():
    x, rate = song(48000, 2, 4.0), 48000
    analyser = Analyser(rate, 2)
    analyser.add(x)
    series = analyser.series()
    named = {feature.name for group in GROUPS.values() for feature in group.features if feature.series}
    named = {name.replace("_max", "") for name in named}
    assert set(series) == named | {"time_s"}
    time = series["time_s"]
    assert (
        np.isnan(series["momentary_lufs"][time < 0.4]).all()
        and np.isfinite(series["momentary_lufs"][time > 0.42]).all()
    )
    assert np.isnan(series["short_term_lufs"][time < 3.0]).all()
    assert np.isfinite(series["short_term_lufs"][time > 3.02]).all()
    assert np.nanmax(series["momentary_lufs"]) == pytest.approx(
        analyser.measures()["loudness"]["momentary_max_lufs"], abs=0.1
    )


def test_the_catalogue_is_whole():
    table2 = {f"{group}.{f.name}" for group, declared in TABLE2.items() for f in declared}
    assert len(table2) == 23
    assert {group: len(declared) for group, declared in TABLE2.items()} == {
        "spectral": 7,
        "envelope": 4,
        "stereo": 6,
        "loudness": 6,
    }
    for name, group in GROUPS.items():
        assert group.name == name and group.help.endswith(".")
        assert len({f.name for f in group.features}) == len(group.features)
        for f in group.features:
            assert f.help.endswith(".") and f.equation and f.source
            assert not f.undefined or (f.undefined.startswith("Null") and f.undefined.endswith("."))
            assert f.table2 == (f.floor is not None and f.floor > 0 and bool(f.floor_why))
            assert not f.table2 or f.scale
            assert not f.log or f.scale


def test_the_catalogue_loads_nothing_heavy():
    code = (
        "import mixtools.measure.catalogue, sys; "
        "print(*{'numpy', 'scipy', 'numba', 'torch'} & {name.split('.')[0] for name in sys.modules})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def test_groups_choose_what_is_measured():
    x, rate = SIGNALS["music 44100 Hz stereo"]
    everything = features(x, rate)
    for group in GROUPS:
        assert features(x, rate, [group]) == {group: everything[group]}
    table2 = features(x, rate, ["table2"])
    assert table2 == {
        group: {f.name: everything[group][f.name] for f in declared} for group, declared in TABLE2.items()
    }
    with_stereo = features(x, rate, ["table2", "stereo"])
    assert with_stereo["stereo"] == everything["stereo"] and with_stereo["spectral"] == table2["spectral"]


def test_an_unknown_group_is_named():
    with pytest.raises(ParameterError, match="^group is 'spectrl'; give spectral$"):
        chosen(["spectrl"])
    with pytest.raises(ParameterError, match="give spectral, loudness, stereo, envelope, diffmst, table2$"):
        chosen(["zzz"])


def test_relative_errors_are_over_the_reference_or_its_floor():
    x, rate = SIGNALS["music 44100 Hz stereo"]
    reference = features(x, rate, ["table2"])
    assert set(relative_errors(reference, reference)["features"].values()) == {0.0}
    measured = features(x, rate, ["table2"])
    measured["spectral"]["centroid_hz"] *= 1.1
    measured["envelope"]["centroid"] = reference["envelope"]["centroid"] + 0.001
    errors = relative_errors(measured, reference)
    assert errors["features"]["spectral.centroid_hz"] == pytest.approx(0.1)
    assert errors["features"]["envelope.centroid"] == pytest.approx(0.001 / 0.01)
    assert errors["groups"] == pytest.approx({"spectral": 0.1 / 7, "envelope": 0.1 / 4, "stereo": 0.0, "loudness": 0.0})
    assert errors["total"] == pytest.approx(0.2 / 23)


def test_an_error_is_null_when_only_one_side_is_defined():
    x, rate = SIGNALS["music 44100 Hz stereo"]
    reference = features(x, rate, ["table2"])
    silent = features(np.zeros_like(x), rate, ["table2"])
    errors = relative_errors(silent, reference)
    assert errors["total"] is None and errors["groups"]["spectral"] is None
    assert errors["features"]["spectral.flatness"] is None
    assert errors["features"]["envelope.spread"] == 1.0
    assert relative_errors(silent, silent)["total"] == 0.0


def test_the_feature_vector():
    x, rate = SIGNALS["music 44100 Hz stereo"]
    plain = vector(features(x, rate))
    assert plain.shape == (47,) and np.isfinite(plain).all()
    moved = vector(features(2 * x, rate)) - plain
    names = [f"{group}.{f.name}" for group, declared in TABLE2.items() for f in declared]
    changed = {names[i] for i in np.flatnonzero(np.abs(moved[:23]) > 1e-9)}
    assert changed == {"envelope.centroid", "envelope.spread", "loudness.integrated_lufs", "loudness.sample_peak_dbfs"}
    np.testing.assert_allclose(moved[23:], 0.0, atol=1e-9)
    assert moved[names.index("loudness.integrated_lufs")] == pytest.approx(GAIN_DB / 3)
    assert vector(features(np.zeros_like(x), rate)) is None
    low = vector(features(song(8000, 2), 8000))
    assert low.shape == (47,) and np.isfinite(low).all()


SONGS = sorted(Path(os.environ.get("MIXTOOLS_AUDIO", "/nowhere")).glob("references/*.flac"))


@pytest.mark.audio
@pytest.mark.skipif(not SONGS, reason="MIXTOOLS_AUDIO names no references")
@pytest.mark.parametrize("path", SONGS, ids=lambda path: path.stem)
def test_features_of_real_songs_are_those_of_the_equations(path):
    from mixtools.files.reading import read_audio

    x, rate = read_audio(path)
    x = x[:, 10 * rate : 16 * rate].astype(np.float64)
    measured = features(x, rate)
    assert undefined(measured) == set()
    plain = Plain(x, rate)
    assert_close(measured["spectral"], plain.spectral())
    assert_close(measured["stereo"], plain.stereo())
    assert_close(measured["envelope"], plain.envelope())
