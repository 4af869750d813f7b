"""Minima without gradients: a grid, and a pattern search from its best place."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from mixtools.diff.effect import side_by_side

SPANS: dict[str, float] = {
    "threshold_db": 3.0,
    "ratio": -1.4,
    "attack_ms": -2.0,
    "release_ms": -2.0,
    "knee_db": 3.0,
    "drive_db": 1.0,
    "ceiling_db": 0.2,
}
"""The first steps of the search in each number; a negative one is a factor."""

HALVINGS = 3


Cost = Callable[[Mapping[str, float]], float]


def cheapest(grid: list[dict[str, float]], cost: Cost) -> dict[str, float]:
    """The first of the cheapest."""
    costs = [0.0] * len(grid)

    def work(k: int) -> None:
        costs[k] = cost(grid[k])

    side_by_side(work, len(grid))
    return grid[int(np.argmin(costs))]


def pattern_search(
    start: dict[str, float], cost: Cost, ranges: Mapping[str, tuple[float, float]]
) -> tuple[dict[str, float], float]:
    """Pattern search: each number in turn up and down while that helps, by steps that halve from round to round."""
    best, least = dict(start), cost(start)
    for halving in range(HALVINGS):
        for name, (low, high) in ranges.items():
            span = SPANS[name]
            step = abs(span) ** (0.5**halving) if span < 0 else span * 0.5**halving
            for sign in (1, -1):
                while True:
                    value = best[name] * step**sign if span < 0 else best[name] + sign * step
                    tried = best | {name: min(max(value, low), high)}
                    found = cost(tried) if tried != best else math.inf
                    if found >= least:
                        break
                    best, least = tried, found
    return best, least
