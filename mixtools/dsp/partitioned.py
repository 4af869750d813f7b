"""Uniformly partitioned FFT convolution whose partitions are anchored to the first sample it is given."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft

from mixtools.dsp.compiled import kernel

BATCH = 4
"""Partitions that are transformed together: scipy's FFT then uses vector registers."""

SMALLEST, LARGEST = 256, 16384
"""Samples in a partition."""


@kernel
def accumulate(spectrum, history, response, present):
    """Sum history[j - k] * response[k] over the partitions k that hold anything, for every j of the batch.

    spectrum (batch, bins); history (batch + partitions - 1, bins), oldest first; response (partitions, bins).
    """
    batch, bins = spectrum.shape
    partitions = response.shape[0]
    for j in range(batch):
        for b in range(bins):
            spectrum[j, b] = 0.0
        for k in range(partitions):
            if present[k]:
                past = history[j + partitions - 1 - k]
                for b in range(bins):
                    spectrum[j, b] += past[b] * response[k, b]


class PartitionedConvolver:
    """Convolves (channels, n), block by block, with an impulse response (1 or channels_out, taps).

    The output is `latency` samples late. Input is gathered until a whole batch of partitions is there, so that the
    transforms see the same samples whatever the block size.
    """

    def __init__(self, response: np.ndarray, channels: int, dtype: Any):
        taps = response.shape[1]
        self.dtype = np.dtype(dtype)
        self.size = min(max(1 << (taps // BATCH).bit_length(), SMALLEST), LARGEST)
        self.latency = BATCH * self.size
        self.channels = channels
        self.channels_out = max(channels, response.shape[0])
        partitions = -(-taps // self.size)
        blocks = np.zeros((response.shape[0], partitions, 2 * self.size), self.dtype)
        for k in range(partitions):
            piece = response[:, k * self.size : (k + 1) * self.size]
            blocks[:, k, : piece.shape[1]] = piece
        self._response = scipy.fft.rfft(blocks)
        self._present = np.abs(blocks).max(axis=(0, 2)) > 0.0
        bins = self.size + 1
        self._history = np.zeros((channels, BATCH + partitions - 1, bins), self._response.dtype)
        self._spectrum = np.zeros((self.channels_out, BATCH, bins), self._response.dtype)
        self._input = np.zeros((channels, self.latency + self.size), self.dtype)
        self._output = np.zeros((self.channels_out, self.latency), self.dtype)
        self._filled = 0

    def process(self, x: np.ndarray) -> np.ndarray:
        n = x.shape[1]
        y = np.empty((self.channels_out, n), self.dtype)
        done = 0
        while done < n:
            m = min(n - done, self.latency - self._filled)
            y[:, done : done + m] = self._output[:, self._filled : self._filled + m]
            self._input[:, self.size + self._filled : self.size + self._filled + m] = x[:, done : done + m]
            self._filled += m
            done += m
            if self._filled == self.latency:
                self._transform()
                self._filled = 0
        return y

    def _transform(self) -> None:
        windows = np.lib.stride_tricks.sliding_window_view(self._input, 2 * self.size, axis=1)[:, :: self.size]
        self._history[:, :-BATCH] = self._history[:, BATCH:].copy()
        self._history[:, -BATCH:] = scipy.fft.rfft(windows)
        for c in range(self.channels_out):
            source = self._history[min(c, self.channels - 1)]
            response = self._response[min(c, len(self._response) - 1)]
            accumulate(self._spectrum[c], source, response, self._present)
        blocks = scipy.fft.irfft(self._spectrum)[:, :, self.size :]
        self._output = np.ascontiguousarray(blocks).reshape(self.channels_out, self.latency)
        self._input[:, : self.size] = self._input[:, -self.size :].copy()
