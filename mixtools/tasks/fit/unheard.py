"""Stems that cannot be heard in what was fitted: whatever was found for them would be arbitrary where they sound."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mixtools.mix import Insert, Track
from mixtools.tasks.fit.estimate import Estimate, Problem

BLOCK = 1 << 18

LEAST_HEARD = 1e-3
"""A stem is heard where its energy in the mix is this part of the energy that nothing explains, or more."""

NOTHING_DB = -90.0
"""Gains below this are no choice that a mix was made by."""


def without_unheard(problem: Problem, estimate: Estimate, residual_power: float) -> tuple[Estimate, set[int]]:
    """An estimate whose unheard strips have the others' median gain and nothing else, and which strips those are.

    A stem that is next to silent where the fit listened would else have what explains a little of the rest there, at
    whatever gain that takes, and be as loud wherever it plays.
    """
    powers = _powers(problem)
    gains_db = np.full(len(problem.strips), -np.inf)
    for track, i in zip(estimate.tracks, estimate.whose, strict=True):
        gain = next((insert.settings["gain_db"] for insert in track.chain if insert.effect == "gain"), None)
        if isinstance(gain, float):
            gains_db[i] = max(gains_db[i], gain)
    usual = powers * 10.0 ** (np.minimum(gains_db, 0.0) / 10.0) >= LEAST_HEARD * residual_power
    known = gains_db[usual & (gains_db > NOTHING_DB)]
    gain_db = float(np.median(known)) if known.size else 0.0
    unheard = {int(i) for i in np.flatnonzero(powers * 10.0 ** (gain_db / 10.0) < LEAST_HEARD * residual_power)}
    if not unheard or len(unheard) == len(problem.strips):
        return estimate, set()
    tracks, whose = [], []
    for track, i in zip(estimate.tracks, estimate.whose, strict=True):
        if i not in unheard:
            tracks.append(track)
            whose.append(i)
        elif i not in whose:
            strip = problem.strips[i]
            gain = Insert("gain", {"gain_db": gain_db})
            tracks.append(Track(strip.file, strip.channel, problem.ms(strip.offset), chain=[gain]))
            whose.append(i)
    named = {insert.controls.get("ir") for track in tracks for insert in track.chain}
    named |= {insert.controls.get("ir") for bus in estimate.buses.values() for insert in bus.chain}
    responses = {key: response for key, response in estimate.responses.items() if key in named}
    return replace(estimate, tracks=tracks, whose=whose, responses=responses), unheard


def _powers(problem: Problem) -> np.ndarray:
    """The mean square of every strip over what is fitted."""
    samples = sum(stop - start for start, stop in problem.ranges)
    powers = np.zeros(len(problem.strips))
    for i, strip in enumerate(problem.strips):
        for start, stop in problem.ranges:
            for at in range(start, stop, BLOCK):
                block = strip.moved.read(at, min(BLOCK, stop - at))
                powers[i] += float(np.square(block, dtype=np.float64).mean(axis=0).sum())
    return powers / max(samples, 1)
