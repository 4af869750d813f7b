"""Where a strip's audio comes from: anything with `channels`, `frames` and `read(n)`, placed in time."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from mixtools.dsp.history import History
from mixtools.dsp.interpolation import filtered, interpolation
from mixtools.errors import ParameterError


class Source(Protocol):
    """Audio that is read once, from its beginning."""

    channels: int
    frames: int

    def read(self, n: int) -> np.ndarray:
        """The next samples, (channels, at most n); fewer only at the end."""
        ...


class ArraySource:
    """Audio in memory, (channels, n)."""

    def __init__(self, samples: np.ndarray):
        self._samples = samples
        self._at = 0
        self.channels, self.frames = samples.shape

    def read(self, n: int) -> np.ndarray:
        block = self._samples[:, self._at : self._at + n]
        self._at += block.shape[1]
        return block


class PlacedSource:
    """A source's chosen channel, moved in time by any fraction of a sample; silence before and after it."""

    def __init__(self, source: Source, channel: str, offset_samples: float, dtype: np.dtype, where: str = "channel"):
        if source.channels == 1 and channel in ("left", "right", "side"):
            raise ParameterError(f"{where} is {channel}, but the stem is mono; give both")
        self._source = source
        self._channel = channel
        self._dtype = np.dtype(dtype)
        self.channels = source.channels if channel == "both" else 1
        whole = math.floor(offset_samples)
        first, taps = interpolation(offset_samples - whole)
        self._taps = None
        if offset_samples != whole:
            self._taps = taps
            whole += first
            self._past = History(self.channels, len(taps) - 1, np.dtype(np.float64))
        self._silence = max(0, whole)
        self._skip = max(0, -whole)
        self.frames = max(0, source.frames + whole + (len(taps) - 1 if self._taps is not None else 0))

    def read(self, n: int) -> np.ndarray:
        """The next n samples of the session, silence where there is no audio."""
        while self._skip:
            skipped = self._next(min(self._skip, 65536))
            self._skip -= skipped.shape[1]
        lead = min(n, self._silence)
        self._silence -= lead
        return np.concatenate([np.zeros((self.channels, lead), self._dtype), self._next(n - lead)], axis=1)

    def _next(self, n: int) -> np.ndarray:
        block = self._chosen(self._source.read(n)) if n else np.zeros((self.channels, 0))
        if block.shape[1] < n:
            block = np.concatenate([block, np.zeros((self.channels, n - block.shape[1]), block.dtype)], axis=1)
        if self._taps is None:
            return block.astype(self._dtype, copy=False)
        return filtered(self._past.extend(block), self._taps).astype(self._dtype)

    def _chosen(self, block: np.ndarray) -> np.ndarray:
        if self._channel == "both" or len(block) == 1:
            return block
        left, right = block
        if self._channel == "mid":
            return (0.5 * (left + right))[None]
        if self._channel == "side":
            return (0.5 * (left - right))[None]
        return (left if self._channel == "left" else right)[None]
