"""Measuring audio, comparing it with a reference, and comparing sets of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixtools.dsp.source import Source
from mixtools.errors import AudioError
from mixtools.measure.audio_features import AF_TERMS, AudioFeatures, audio_feature_loss
from mixtools.measure.catalogue import TABLE2_GROUP
from mixtools.measure.features import Analyser, Measures, relative_errors, vector
from mixtools.measure.frechet import Gaussian, frechet_distance

BLOCK = 65536
COMPARED_GROUPS = TABLE2_GROUP, "diffmst"
"""What a comparison with a reference needs of both."""

VECTOR_GROUPS = TABLE2_GROUP, "spectral"
VECTOR_RATE = 44100
VECTOR_WINDOW_S = 10.0
"""One feature vector is made of this much audio at this rate, whatever the file's: its features depend on both."""

Progress = Callable[[float], None]


def analyse(
    source: Source, rate: int, groups: Iterable[str] | None = None, progress: Progress = lambda share: None
) -> Analyser:
    """Measure a whole source."""
    analyser = Analyser(rate, source.channels, groups)
    done = 0
    while done < source.frames:
        block = source.read(BLOCK)
        analyser.add(block)
        done += block.shape[1]
        progress(done / source.frames)
    return analyser


@dataclass(frozen=True)
class Heard:
    """What a comparison needs to know of a sound; unlike the analyser that found it, threads can share it."""

    measures: Measures
    audio_features: AudioFeatures | None

    @classmethod
    def by(cls, analyser: Analyser) -> Heard:
        return cls(analyser.measures(), analyser.audio_features)


def compare(estimate: Heard, reference: Heard) -> dict[str, Any]:
    """Table II's relative errors, and Diff-MST's audio-feature loss per term, guarded and as the paper has it.

    The loss and its terms are None where one of the two has no loudness to be brought to -16 LUFS from.
    """
    a, b = estimate.audio_features, reference.audio_features
    losses: dict[str, Any] = {}
    for name, guarded in (("guarded", True), ("paper", False)):
        if a is None or b is None:
            losses[name] = dict.fromkeys([*AF_TERMS, "total"])
        else:
            losses[name] = {term: float(value) for term, value in audio_feature_loss(a, b, guarded).items()}
    return {
        "relative_errors": relative_errors(estimate.measures, reference.measures),
        "audio_feature_loss": losses,
    }


def feature_vectors(source: Source, rate: int, progress: Progress = lambda share: None) -> Iterator[np.ndarray]:
    """The feature vector of every 10 s of a source, and of a shorter one as a whole.

    Silent stretches have none, nor has a source of less than 3 s, which has no loudness range.
    """
    window = round(VECTOR_WINDOW_S * rate)
    for start in range(0, max(source.frames - window, 0) + 1, window):
        block = source.read(window)
        analyser = Analyser(rate, source.channels, VECTOR_GROUPS)
        analyser.add(block)
        found = vector(analyser.measures())
        if found is not None:
            yield found
        progress((start + block.shape[1]) / source.frames)


def distance_of_sets(first: np.ndarray, second: np.ndarray, names: tuple[str, str]) -> float:
    """The Fréchet distance between two sets of vectors (n, d)."""
    for vectors, name in zip((first, second), names, strict=True):
        if len(vectors) < 2:
            raise AudioError(
                f"{name}: holds too little sound for a Fréchet distance"
                f" ({len(vectors)} vector{'s' * (len(vectors) != 1)}); give more files"
            )
    return frechet_distance(Gaussian.of(first), Gaussian.of(second))
