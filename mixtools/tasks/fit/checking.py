"""How near an estimate comes to the mix: rendered by the console that will render its mix file, over the whole song."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mixtools.diff.losses import TOWARDS
from mixtools.dsp.console import Console
from mixtools.measure.features import Analyser
from mixtools.tasks.excerpts import Range
from mixtools.tasks.features import COMPARED_GROUPS, Heard, compare
from mixtools.tasks.fit.estimate import Estimate, Progress
from mixtools.tasks.recordings import Playing, Recording

SILENCE = 1e-20


@dataclass
class Checked:
    """Residuals in dB of the mix's energy, over what was fitted and over the rest (None without a rest); over what was
    fitted the mean square of what was not explained, and the loss; and features compared over everything."""

    residual_db: float | None
    unseen_residual_db: float | None
    residual_power: float
    loss: float
    features: dict[str, Any]


def check(
    estimate: Estimate,
    stems: Mapping[str, Recording],
    target: Recording,
    rate: int,
    seen: list[Range],
    loss: str,
    threads: int,
    progress: Progress = lambda share: None,
) -> Checked:
    """Render an estimate and compare it with the mix; `seen` is what it was fitted to."""
    mix = estimate.mix(rate)
    responses = {key: (response, rate) for key, response in estimate.responses.items()}
    sources = [Playing(stems[track.file]) for track in mix.tracks]
    console = Console(mix, sources, rate, responses=responses, threads=threads)
    analysers = [Analyser(rate, 2, COMPARED_GROUPS) for _ in range(2)]
    energies = np.zeros((2, 2))
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    at = 0
    for block, _ in console.blocks_and_parts(0, target.frames, parts=False):
        n = block.shape[1]
        wanted = np.broadcast_to(target.read(at, n), (2, n))
        rest = np.ones(n, bool)
        for first, last in seen:
            inside = slice(min(max(first - at, 0), n), min(max(last - at, 0), n))
            rest[inside] = False
            if inside.stop > inside.start:
                parts.append((block[:, inside].astype(np.float32), wanted[:, inside]))
        for place, signal in enumerate((wanted - block, wanted)):
            power = np.square(signal, dtype=np.float64).sum(0)
            energies[place] += power[~rest].sum(), power[rest].sum()
        analysers[0].add(block)
        analysers[1].add(wanted)
        at += n
        progress(at / target.frames)
    heard = [Heard.by(analyser) for analyser in analysers]
    a, b = (torch.from_numpy(np.concatenate([part[place] for part in parts], axis=1)) for place in range(2))
    return Checked(
        _db(energies[0, 0], energies[1, 0]),
        _db(energies[0, 1], energies[1, 1]),
        float(energies[0, 0]) / (2 * a.shape[1]),
        float(TOWARDS[loss](b)(a)),
        compare(*heard)["relative_errors"],
    )


def _db(residual: float, energy: float) -> float | None:
    """A residual relative to what it is of; None of silence."""
    return 10.0 * math.log10(max(residual, SILENCE) / energy) if energy > SILENCE else None
