"""The distribution of the values that a signal's samples take."""

from __future__ import annotations

import math

import numpy as np

from mixtools.dsp.compiled import kernel

STEPS = 1 << 16
"""Bins of the histogram on each side of zero."""

FLATNESS_BINS = 201
EMPTY = 1e-12
"""What an empty bin counts as in the flatness: the geometric mean of a distribution with any empty bin would be 0."""

WITHIN_1_DB = 10.0 ** (-1.0 / 20.0)


class Moments:
    """Takes sample values (n,) block by block and keeps their mean and the sums of powers of the distance from it.

    They are the moments of the values' probability mass function as its bins become narrow, without the bins' rounding.
    """

    def __init__(self):
        self._count = 0
        self._lowest = math.inf
        self._highest = -math.inf
        self._mean = self._second = self._third = self._fourth = 0.0

    def add(self, values: np.ndarray) -> None:
        if not values.size:
            return
        self._lowest = min(self._lowest, float(values.min()))
        self._highest = max(self._highest, float(values.max()))
        mean = float(values.mean())
        distances = values - mean
        squares = distances**2
        sums = float(squares.sum()), float((squares * distances).sum()), float((squares**2).sum())
        self._merge(values.size, mean, *sums)

    def _merge(self, m: int, mean: float, second: float, third: float, fourth: float) -> None:
        """The moments of two sets together, after Pébay 2008."""
        n = self._count
        total = n + m
        d = mean - self._mean
        self._fourth += (
            fourth
            + d**4 * n * m * (n * n - n * m + m * m) / total**3
            + 6.0 * d**2 * (n * n * second + m * m * self._second) / total**2
            + 4.0 * d * (n * third - m * self._third) / total
        )
        self._third += third + d**3 * n * m * (n - m) / total**2 + 3.0 * d * (n * second - m * self._second) / total
        self._second += second + d**2 * n * m / total
        self._mean += d * m / total
        self._count = total

    def measures(self) -> dict[str, float]:
        """Centroid, spread, skewness and kurtosis; NaN where undefined."""
        if not self._count:
            return dict.fromkeys(("centroid", "spread", "skewness", "kurtosis"), math.nan)
        if self._lowest == self._highest:
            return {"centroid": self._lowest, "spread": 0.0, "skewness": math.nan, "kurtosis": math.nan}
        variance = self._second / self._count
        shaped = variance**2 > 0.0
        return {
            "centroid": self._mean,
            "spread": math.sqrt(variance),
            "skewness": self._third / self._count / variance**1.5 if shaped else math.nan,
            "kurtosis": self._fourth / self._count / variance**2 if shaped else math.nan,
        }


@kernel
def count_values(values, steps_per_unit, counts):
    """Count values (n,) in counts (2, steps): the side, negative first, and the steps from zero."""
    for value in values:
        side = 0 if value < 0.0 else 1
        counts[side, np.int64(abs(value) * steps_per_unit)] += 1


class Histogram:
    """Counts sample values in equal bins whose range, a power of two, doubles whenever a larger sample comes.

    A bin is at most 2^-15 of the peak wide. Doubling merges pairs of bins: the outcome does not depend on the order.
    """

    def __init__(self):
        self._exponent = -1000
        self._counts = np.zeros((2, STEPS), np.int64)
        self._peak = 0.0

    def add(self, values: np.ndarray) -> None:
        if not values.size:
            return
        self._peak = max(self._peak, float(np.abs(values).max()))
        if self._peak:
            self._widen(math.frexp(self._peak)[1] - self._exponent)
        count_values(values, math.ldexp(STEPS, -self._exponent), self._counts)

    def _widen(self, doublings: int) -> None:
        if doublings <= 0:
            return
        merged = np.arange(STEPS) >> min(doublings, 63)
        self._counts = np.stack([np.bincount(merged, side, STEPS).astype(np.int64) for side in self._counts])
        self._exponent += doublings

    @property
    def _step(self) -> float:
        return math.ldexp(1.0, self._exponent) / STEPS

    @property
    def top_1_db_percent(self) -> float:
        """How many samples are within 1 dB of the peak, give or take 0.0002 dB; NaN for silence."""
        if not self._peak:
            return math.nan
        magnitudes = (np.arange(STEPS) + 0.5) * self._step
        near = self._counts[:, magnitudes >= WITHIN_1_DB * self._peak]
        return 100.0 * float(near.sum()) / float(self._counts.sum())

    @property
    def flatness(self) -> float:
        """Geometric over arithmetic mean of the distribution in 201 bins between -peak and peak; NaN for silence."""
        if not self._peak:
            return math.nan
        steps = np.arange(-STEPS, STEPS + 1)
        cumulated = np.concatenate([[0], np.cumsum([*self._counts[0, ::-1], *self._counts[1]])])
        edges = np.linspace(-1.0, 1.0, FLATNESS_BINS + 1) * (self._peak / self._step)
        edges[[0, -1]] = -STEPS, STEPS  # the bins that hold the peaks reach beyond them
        shares = np.maximum(np.diff(np.interp(edges, steps, cumulated)) / cumulated[-1], EMPTY)
        return float(np.exp(np.log(shares).mean()) / shares.mean())


class EnvelopeMeter:
    """Takes audio (channels, n) in blocks of any size and measures all of the catalogue's envelope group."""

    def __init__(self):
        self._moments = Moments()
        self._histogram = Histogram()

    def add(self, x: np.ndarray) -> None:
        self._moments.add(x.ravel())
        self._histogram.add(x.ravel())

    def measures(self) -> dict[str, float]:
        """NaN where undefined."""
        return {**self._moments.measures(), "flatness": self._histogram.flatness}
