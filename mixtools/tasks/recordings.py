"""Audio that can be read at any place, at the session's rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Recording(Protocol):
    """A stem or a mix, mono or stereo, at the session's rate."""

    channels: int
    frames: int

    def read(self, start: int, frames: int) -> np.ndarray:
        """Samples from `start` on, float32 (channels, frames); silence before the beginning and after the end."""
        ...


class ArrayRecording:
    """Audio in memory, (channels, n)."""

    def __init__(self, samples: np.ndarray):
        self._samples = np.atleast_2d(samples)
        self.channels, self.frames = self._samples.shape

    def read(self, start: int, frames: int) -> np.ndarray:
        return padded(lambda first, last: self._samples[:, first:last], self.channels, self.frames, start, frames)


def padded(read: Callable[[int, int], np.ndarray], channels: int, held: int, start: int, frames: int) -> np.ndarray:
    """`frames` samples from `start` on of what `read(first, last)` has from 0 to `held`, silence around it."""
    block = np.zeros((channels, frames), np.float32)
    first, last = max(start, 0), min(start + frames, held)
    if last > first:
        block[:, first - start : last - start] = read(first, last)
    return block


@dataclass
class Chosen:
    """One channel of a stereo recording, or the mean of both: `left`, `right` or `mid`."""

    recording: Recording
    channel: str
    channels: int = 1

    @property
    def frames(self) -> int:
        return self.recording.frames

    def read(self, start: int, frames: int) -> np.ndarray:
        left, right = self.recording.read(start, frames)
        return {"left": left, "right": right, "mid": 0.5 * (left + right)}[self.channel][None]


@dataclass
class Moved:
    """A recording that begins `offset` samples later."""

    recording: Recording
    offset: int

    @property
    def channels(self) -> int:
        return self.recording.channels

    @property
    def frames(self) -> int:
        return max(0, self.recording.frames + self.offset)

    def read(self, start: int, frames: int) -> np.ndarray:
        return self.recording.read(start - self.offset, frames)


class Playing:
    """A recording read from its beginning on, as the console reads."""

    def __init__(self, recording: Recording):
        self._recording = recording
        self._at = 0
        self.channels, self.frames = recording.channels, recording.frames

    def read(self, n: int) -> np.ndarray:
        n = min(n, self.frames - self._at)
        self._at += n
        return self._recording.read(self._at - n, n)
