"""How loud stems come to a model."""

from __future__ import annotations

from collections.abc import Iterable

from mixtools.measure.loudness import LoudnessMeter
from mixtools.tasks.excerpts import Range
from mixtools.tasks.recordings import Recording

STEM_LUFS = -23.0
"""What models bring stems to: the log-mel spectra of quieter ones would fall below the encoder's floor."""

MOST_DB = 24.0
"""Stems are not moved by more, so that the fader's own range still fits onto the console's."""


def level_db(stem: Recording, rate: float, ranges: Iterable[Range]) -> float:
    """The gain that brings a stem to -23 LUFS where it plays; 0 where it never does."""
    meter = LoudnessMeter(rate, stem.channels, dual_mono=True)
    for first, last in ranges:
        meter.add(stem.read(first, last - first))
    lufs = meter.integrated_lufs
    return 0.0 if lufs is None else max(-MOST_DB, min(STEM_LUFS - lufs, MOST_DB))
