"""The last samples of a stream, kept from block to block."""

from __future__ import annotations

from typing import Any

import numpy as np


class History:
    """Prepends to every block (channels, n) the last `samples` samples before it."""

    def __init__(self, channels: int, samples: int, dtype: Any):
        self._past = np.zeros((channels, samples), dtype)

    def extend(self, x: np.ndarray) -> np.ndarray:
        joined = np.concatenate([self._past, x], axis=1)
        self._past = joined[:, joined.shape[1] - self._past.shape[1] :].copy()
        return joined


class DelayLine:
    """Delays (channels, n) by a whole number of samples."""

    def __init__(self, channels: int, samples: int, dtype: Any):
        self._history = History(channels, samples, dtype) if samples else None

    def process(self, x: np.ndarray) -> np.ndarray:
        return x if self._history is None else self._history.extend(x)[:, : x.shape[1]]
