"""The Fréchet distance between two sets of vectors, each taken for a Gaussian."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixtools.errors import ParameterError


@dataclass(frozen=True)
class Gaussian:
    """The mean (d,) and covariance (d, d) of n vectors."""

    mean: np.ndarray
    covariance: np.ndarray
    n: int

    @classmethod
    def of(cls, vectors: np.ndarray) -> Gaussian:
        """Estimated from vectors (n, d), at least two of them; the covariance with n - 1."""
        if len(vectors) < 2:
            raise ParameterError(f"a Fréchet distance is between sets of at least 2, found {len(vectors)}; give more")
        vectors = np.asarray(vectors, np.float64)
        mean = vectors.mean(axis=0)
        centred = vectors - mean
        return cls(mean, centred.T @ centred / (len(vectors) - 1), len(vectors))


def frechet_distance(p: Gaussian, q: Gaussian) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), after Dowson & Landau 1982; never negative.

    The trace is the smallest ||R1 - R2 U||^2 over all rotations U, R the symmetric roots of the covariances: a sum of
    squares, which loses no digits where the two are close or have fewer vectors than dimensions.
    """
    first, second = _root(p.covariance), _root(q.covariance)
    left, _, right = np.linalg.svd(second @ first)
    return float(((p.mean - q.mean) ** 2).sum() + ((first - second @ (left @ right)) ** 2).sum())


def _root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    # What rounding leaves of an eigenvalue of 0, and would grow under the root.
    rounding = values[-1] * len(values) * np.finfo(values.dtype).eps
    return (vectors * np.sqrt(np.where(values > rounding, values, 0.0))) @ vectors.T
