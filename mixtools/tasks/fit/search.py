"""Minima without gradients: a grid, and a simplex from its best place."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from scipy.optimize import minimize

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

STEPS = 50
"""Places that are tried, times the numbers that are looked for."""

NEAR = 0.01
"""Where the simplex is this small, in first steps, the search is over."""

Cost = Callable[[Mapping[str, float]], float]


def cheapest(grid: list[dict[str, float]], cost: Cost) -> dict[str, float]:
    """The first of the cheapest."""
    costs = [0.0] * len(grid)

    def work(k: int) -> None:
        costs[k] = cost(grid[k])

    side_by_side(work, len(grid))
    return grid[int(np.argmin(costs))]


def descended(
    start: Mapping[str, float], cost: Cost, ranges: Mapping[str, tuple[float, float]]
) -> tuple[dict[str, float], float]:
    """The best place that Nelder and Mead's simplex meets from a start, and its cost; numbers stay in their ranges.

    Threshold and ratio trade for each other along a narrow valley, which steps in one number at a time do not follow.
    """
    names = list(ranges)

    def steps(name: str, value: float) -> float:
        span = SPANS[name]
        return math.log(max(value, 1e-9)) / math.log(-span) if span < 0 else value / span

    def value(name: str, steps: float) -> float:
        span = SPANS[name]
        low, high = ranges[name]
        return float(min(max((-span) ** steps if span < 0 else steps * span, low), high))

    def place(x: np.ndarray) -> dict[str, float]:
        return {name: value(name, at) for name, at in zip(names, x, strict=True)}

    bounds = [tuple(steps(name, end) for end in ranges[name]) for name in names]
    first = np.array([steps(name, start[name]) for name in names])
    simplex = np.stack([first, *(first + row for row in np.eye(len(names)))])
    for i, (_, high) in enumerate(bounds):
        if simplex[i + 1, i] > high:
            simplex[i + 1, i] = first[i] - 1.0
    scale = max(abs(cost(start)), 1e-30)
    found = minimize(
        lambda x: cost(place(x)) / scale,
        first,
        method="Nelder-Mead",
        bounds=bounds,
        options={"initial_simplex": simplex, "maxfev": STEPS * len(names), "xatol": NEAR, "fatol": 1e-7},
    )
    return place(found.x), float(found.fun) * scale
