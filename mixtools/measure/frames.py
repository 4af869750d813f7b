"""A signal cut into overlapping frames, block by block."""

from __future__ import annotations

import numpy as np


def hann(size: int) -> np.ndarray:
    """The periodic Hann window (size,), as spectra are taken with."""
    return 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(size) / size)


class Framer:
    """Takes audio (channels, n) in blocks of any size and gives frames (channels, frames, size), `hop` samples apart.

    Frames are read-only views, and the hop is at most the size. Not centred, only whole frames count. Centred, frame k
    is centred on sample k * hop and the ends are reflected, as in `torch.stft` with `center=True`: 1 + n // hop frames.
    Audio too short to be reflected, n <= size / 2, is surrounded by zeros instead.
    """

    def __init__(self, size: int, hop: int, channels: int, centred: bool = False):
        self._size = size
        self._hop = hop
        self._margin = size // 2 if centred else 0
        self._started = not centred
        self._pending = np.zeros((channels, 0))
        self._latest = np.zeros((channels, 0))

    def add(self, block: np.ndarray) -> np.ndarray:
        """Every frame that the block (channels, m) makes whole."""
        self._pending = np.concatenate([self._pending, block], axis=1)
        if self._margin:
            self._latest = np.concatenate([self._latest, block], axis=1)[:, -(self._margin + 1) :]
        if not self._started and self._pending.shape[1] > self._margin:
            self._pending = np.concatenate([self._pending[:, self._margin : 0 : -1], self._pending], axis=1)
            self._started = True
        return self._whole_frames()

    def finish(self) -> np.ndarray:
        """Every frame that the end makes whole."""
        if self._margin and self._started:
            self._pending = np.concatenate([self._pending, self._latest[:, -2::-1]], axis=1)
        elif self._margin:
            self._pending = np.pad(self._pending, ((0, 0), (self._margin, self._margin)))
        self._started = True
        return self._whole_frames()

    def _whole_frames(self) -> np.ndarray:
        if not self._started or self._pending.shape[1] < self._size:
            return np.zeros((len(self._pending), 0, self._size))
        frames = np.lib.stride_tricks.sliding_window_view(self._pending, self._size, axis=1)[:, :: self._hop]
        self._pending = self._pending[:, frames.shape[1] * self._hop :]
        return frames
