"""What a mix shall be like: the features of references, averaged, at one loudness."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mixtools.controls import shown
from mixtools.errors import AudioError, ParameterError
from mixtools.measure.audio_features import EPSILON, GUARD, AudioFeatures, audio_feature_loss
from mixtools.measure.features import AudioFeatureMeter
from mixtools.measure.loudness import LoudnessMeter
from mixtools.tasks.excerpts import Range, choose_excerpts
from mixtools.tasks.recordings import Recording
from mixtools.tasks.transfer.options import WEIGHT
from mixtools.tasks.transfer.sketch import typical_of

HIGHEST_RATE = 48000
"""Nothing is compared above half of this."""

MOST_S, PIECE_S = 60.0, 6.0
"""What of a reference is listened to, at most: pieces where it is loud."""

DECIMALS = 5

SHORTEST_S = 0.4
"""Shorter audio has no loudness."""


@dataclass(frozen=True, eq=False)
class Reference:
    """A finished record, what it counts, and the samples that are listened to."""

    name: str
    recording: Recording
    rate: int
    weight: float = WEIGHT.default
    start: int = 0
    end: int | None = None


@dataclass(frozen=True, eq=False)
class Goal:
    """Features of a mix at -16 LUFS, the rate that they are measured at, and the loudness to end with.

    `typical` is the spectrum at most times, (24,): see `sketch.typical_bands`. `ranges` are the samples of each
    reference that were listened to.
    """

    features: AudioFeatures
    rate: int
    lufs: float
    typical: np.ndarray
    ranges: tuple[list[Range], ...]

    def loss(self, found: AudioFeatures | None) -> dict[str, float]:
        """The terms of the guarded audio-feature loss and their sum; infinite where there is nothing to hear."""
        if found is None:
            return {"total": math.inf}
        return {name: float(value) for name, value in audio_feature_loss(found, self.features).items()}


def goal_of(references: Sequence[Reference], rate: int) -> Goal:
    """The weighted mean of references as a mix at a rate can be like them.

    Everything is compared at the lowest of all rates: what only one side can have does not count. Bands are averaged
    as logarithms, crest factors in dB, the others as they are.
    """
    if not references:
        raise ParameterError("there is no reference; give at least one record")
    for reference in references:
        WEIGHT.check(reference.weight, f"{reference.name}: weight")
    compared = min([rate, HIGHEST_RATE, *(reference.rate for reference in references)])
    heard = [_heard(reference, compared) for reference in references]
    shares = np.array([reference.weight for reference in references])
    shares = shares / shares.sum()
    features = [each for each, *_ in heard]
    return Goal(
        AudioFeatures(
            rms=_mean([each.rms for each in features], shares),
            crest_db=_mean([each.crest_db for each in features], shares),
            bark=np.exp(_mean([np.log(_guarded(each.bark)) for each in features], shares)),
            width=_mean([np.float64(each.width) for each in features], shares),
            imbalance=_mean([np.float64(each.imbalance) for each in features], shares),
        ),
        compared,
        float(_mean([np.float64(lufs) for _, lufs, _, _ in heard], shares)),
        _mean([typical for *_, typical, _ in heard], shares),
        tuple(ranges for *_, ranges in heard),
    )


def features_at(x: np.ndarray, rate: int, compared: int) -> AudioFeatures | None:
    """Diff-MST's features of audio (1 or 2, n) at -16 LUFS and the rate of comparison; None where it has none."""
    meter = AudioFeatureMeter(compared, len(x))
    meter.add(resampled(x, rate, compared).astype(np.float64))
    meter.finish()
    return meter.audio_features


def resampled(x: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    if rate == wanted:
        return x
    import soxr

    return np.ascontiguousarray(soxr.resample(np.ascontiguousarray(x.T), rate, wanted, "VHQ").T)


def _mean(values: list[np.ndarray], shares: np.ndarray) -> np.ndarray:
    """Rounded, so that it does not hang on how loud a record was stored."""
    return np.round(sum(share * value for share, value in zip(shares, values, strict=True)), DECIMALS)


def _guarded(bands: np.ndarray) -> np.ndarray:
    return np.maximum(bands, max(GUARD * float(bands.max()), EPSILON))


def _heard(reference: Reference, compared: int) -> tuple[AudioFeatures, float, np.ndarray, list[Range]]:
    """A reference's features, its loudness as it is, its typical spectrum, and what was listened to."""
    record, rate = reference.recording, reference.rate
    end = record.frames if reference.end is None else min(reference.end, record.frames)
    if end - reference.start < SHORTEST_S * rate:
        length = max(0, end - reference.start) / rate
        raise AudioError(f"{reference.name}: {length:.3g} s are to be heard; give {SHORTEST_S:g} s or more")
    ranges = choose_excerpts({reference.name: record}, record, rate, MOST_S, PIECE_S, reference.start, end)
    x = np.concatenate([record.read(first, last - first) for first, last in ranges], axis=1)
    meter = LoudnessMeter(rate, len(x), dual_mono=True)
    meter.add(x)
    features = features_at(x, rate, compared)
    if meter.integrated_lufs is None or features is None:
        raise AudioError(f"{reference.name}: is silent; give a record that can be heard")
    if not all(np.isfinite(value).all() for value in vars(features).values()):
        raise AudioError(f"{reference.name}: holds {shown(math.nan)}; give a record of finite samples")
    typical = typical_of(resampled(x, rate, compared), compared, compared).numpy()
    return features, meter.integrated_lufs, typical, ranges
