"""Every feature of the catalogue in one pass over the audio, and what is derived from their values."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy.fft import rfft

from mixtools.measure.audio_features import BARK_FFT, BARK_HOP, AudioFeatures
from mixtools.measure.catalogue import GROUPS, TABLE2, Feature, chosen
from mixtools.measure.dynamics import DynamicsMeter
from mixtools.measure.envelope import EnvelopeMeter
from mixtools.measure.filterbanks import bark_filterbank
from mixtools.measure.frames import Framer, hann
from mixtools.measure.loudness import LoudnessMeter
from mixtools.measure.spectral import SpectralMeter, frame_size
from mixtools.measure.stereo import PanningMeter, StereoMeter

Measures = dict[str, dict[str, Any]]

CHUNK = 1 << 16
"""Samples that are measured at once, whatever blocks come in: what is made of them stays in the cache."""

AF_LOUDNESS_LUFS = -16.0
"""Where signals are brought to before Diff-MST's audio features are compared."""

BARK_REACH_DB = 80.0
"""In the feature vector no Bark band is further than this below the loudest."""


class AudioFeatureMeter:
    """Takes audio (channels, n) in blocks of any size and keeps the sums that Diff-MST's audio features are made of."""

    def __init__(self, rate: float, channels: int):
        self._loudness = LoudnessMeter(rate, channels, dual_mono=True)
        self._bank = bark_filterbank(BARK_FFT // 2 + 1, rate)
        self._framer = Framer(BARK_FFT, BARK_HOP, 2, centred=True)
        self._window = hann(BARK_FFT)
        self._magnitudes = np.zeros((2, BARK_FFT // 2 + 1))
        self._frames = 0
        self._energies = np.zeros(2)
        self._cross = 0.0
        self._peaks = np.zeros(2)
        self._length = 0

    def add(self, x: np.ndarray) -> None:
        left, right = x[0], x[-1]
        self._loudness.add(x)
        self._energies += [(left**2).sum(), (right**2).sum()]
        self._cross += float((left * right).sum())
        self._peaks = np.maximum(self._peaks, [np.abs(left).max(initial=0.0), np.abs(right).max(initial=0.0)])
        self._length += len(left)
        self._add_frames(self._framer.add(np.stack([left + right, left - right])))

    def finish(self) -> None:
        self._add_frames(self._framer.finish())

    def _add_frames(self, frames: np.ndarray) -> None:
        self._magnitudes += np.abs(rfft(frames * self._window)).sum(axis=1)
        self._frames += frames.shape[1]

    @property
    def audio_features(self) -> AudioFeatures | None:
        """Those of the signal brought to -16 LUFS; None where it has no loudness to be brought there from."""
        lufs = self._loudness.integrated_lufs
        if lufs is None:
            return None
        bands = self._magnitudes @ self._bank.T / self._frames
        features = AudioFeatures.from_sums(self._energies, self._cross, self._peaks, bands, self._length)
        return features.scaled(10.0 ** ((AF_LOUDNESS_LUFS - lufs) / 20.0))

    def measures(self) -> dict[str, Any]:
        features = self.audio_features
        if features is None:
            return {f.name: [None] * f.size if f.size > 1 else None for f in GROUPS["diffmst"].features}
        return features.plain()


class Analyser:
    """Takes audio (channels, n), mono or stereo, in blocks of any size, and measures the groups named; all by default.

    A mono signal counts as two equal channels wherever left and right are told apart. Nothing can be added after
    anything was asked for.
    """

    def __init__(self, rate: int, channels: int, groups: Iterable[str] | None = None):
        self._rate = rate
        self._wanted = chosen(groups)
        self._chunk = np.zeros((channels, CHUNK))
        self._held = 0
        self._length = 0
        self._finished = False
        self._size = frame_size(rate)
        self._framer = Framer(self._size, self._size // 2, channels)
        self._window = hann(self._size)
        of_samples = {
            "loudness": lambda: DynamicsMeter(rate, channels),
            "stereo": StereoMeter,
            "envelope": EnvelopeMeter,
            "diffmst": lambda: AudioFeatureMeter(rate, channels),
        }
        of_spectra = {"spectral": lambda: SpectralMeter(rate), "stereo": lambda: PanningMeter(rate)}
        self._of_samples = {name: meter() for name, meter in of_samples.items() if name in self._wanted}
        self._of_spectra = {name: meter() for name, meter in of_spectra.items() if name in self._wanted}

    def add(self, block: np.ndarray) -> None:
        at = 0
        while at < block.shape[1]:
            take = min(CHUNK - self._held, block.shape[1] - at)
            self._chunk[:, self._held : self._held + take] = block[:, at : at + take]
            self._held += take
            at += take
            if self._held == CHUNK:
                self._measure(self._chunk)
                self._held = 0

    def _measure(self, x: np.ndarray) -> None:
        self._length += x.shape[1]
        for meter in self._of_samples.values():
            meter.add(x)
        if self._of_spectra:
            spectra = rfft(self._framer.add(x) * self._window)
            for meter in self._of_spectra.values():
                meter.add(spectra)

    def _finish(self) -> None:
        if self._finished:
            return
        self._finished = True
        if self._held:
            self._measure(self._chunk[:, : self._held].copy())
        if "diffmst" in self._of_samples:
            self._of_samples["diffmst"].finish()

    def measures(self) -> Measures:
        """{group: {feature: value}}, plain numbers and lists of them, with None where undefined."""
        self._finish()
        return {group: self._measures_of(group, wanted) for group, wanted in self._wanted.items()}

    def _measures_of(self, group: str, wanted: tuple[Feature, ...]) -> dict[str, Any]:
        meters = [meters[group] for meters in (self._of_samples, self._of_spectra) if group in meters]
        values = {name: value for meter in meters for name, value in meter.measures().items()}
        return {feature.name: _plain(values[feature.name]) for feature in wanted}

    @property
    def audio_features(self) -> AudioFeatures | None:
        """Diff-MST's, of the signal brought to -16 LUFS; None where it has no loudness to be brought there from."""
        self._finish()
        return self._of_samples["diffmst"].audio_features

    def series(self) -> dict[str, np.ndarray]:
        """`time_s`, the centres of the frames, and what the groups have for each; NaN where undefined."""
        self._finish()
        hop = self._size // 2
        time_s = (np.arange(max(self._length // hop - 1, 0)) * hop + hop) / self._rate
        columns = {"time_s": time_s}
        for meter in self._of_spectra.values():
            columns.update(meter.series())
        if "loudness" in self._of_samples:
            columns.update(self._of_samples["loudness"].series(time_s))
        return columns


def _plain(value: Any) -> Any:
    """A number, or None for what is not finite; element by element in lists."""
    if isinstance(value, list):
        return [_plain(element) for element in value]
    return float(value) if value is not None and math.isfinite(value) else None


def features(x: np.ndarray, rate: int, groups: Iterable[str] | None = None) -> Measures:
    """What `Analyser` measures of a whole array (channels, n)."""
    analyser = Analyser(rate, len(x), groups)
    analyser.add(x)
    return analyser.measures()


def relative_errors(measured: Measures, reference: Measures) -> dict[str, Any]:
    """Table II's errors: of every feature, the mean of every group, and the mean of all.

    Undefined in both is agreement. Undefined in one makes the error None, and that of the group and the total with it.
    """
    errors = {
        f"{group}.{feature.name}": _relative_error(
            measured[group][feature.name], reference[group][feature.name], feature
        )
        for group, declared in TABLE2.items()
        for feature in declared
    }
    groups = {
        group: _mean([errors[f"{group}.{feature.name}"] for feature in declared]) for group, declared in TABLE2.items()
    }
    return {"features": errors, "groups": groups, "total": _mean(list(errors.values()))}


def _relative_error(a: float | None, b: float | None, feature: Feature) -> float | None:
    if a is None or b is None:
        return 0.0 if a is b else None
    return abs(a - b) / max(abs(b), feature.floor)


def _mean(errors: list[float | None]) -> float | None:
    return None if None in errors else sum(errors) / len(errors)


def vector(measures: Measures) -> np.ndarray | None:
    """What Fréchet distances compare, (47,): Table II's features and the Bark bands about their mean, as declared.

    Bands that are empty or above half the sample rate count as 80 dB below the loudest. None where a feature is null.
    """
    table2 = [(measures[group][feature.name], feature) for group, declared in TABLE2.items() for feature in declared]
    bark = next(feature for feature in GROUPS["spectral"].features if feature.name == "bark_db")
    bands = np.array(measures["spectral"]["bark_db"], dtype=np.float64)
    if any(value is None for value, _ in table2) or np.isnan(bands).all():
        return None
    bands = np.fmax(bands, np.nanmax(bands) - BARK_REACH_DB)
    return np.array([*(_scaled(value, feature) for value, feature in table2), *(bands - bands.mean()) / bark.scale])


def _scaled(value: float, feature: Feature) -> float:
    return (math.log2(max(value, feature.floor)) if feature.log else value) / feature.scale
