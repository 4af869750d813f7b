"""An emulated channel or device on a strip: a network, which the console meets as something that is fed blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from mixtools.dsp.effect import Processor
from mixtools.errors import ParameterError

BLOCK = 65536
"""Samples that a network is always fed at once, so that the console's blocks do not change a bit."""

MOST_BOOST_DB = 48.0
"""Nobody knows how loud a network can get; this is what the console reckons with."""


class Emulation(Protocol):
    """A model that works at one rate. Its streams are at most `late` samples behind, and ring for `rings` samples."""

    rate: int
    late: int
    rings: int

    def outputs(self, channels: int) -> int:
        """How many channels it makes of so many."""

    def stream(self, channels: int, settings: Mapping[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
        """What takes the next block (channels, n), and gives what is ready by then."""


class Neural(Processor):
    """`model` is an `Emulation`, `set` its settings."""

    effect = "neural"
    boost_db = MOST_BOOST_DB

    def prepare(self) -> None:
        model: Emulation = self.controls["model"]
        if model.rate != self.rate:
            raise ParameterError(
                f"model works at {model.rate} Hz, and the session is at {self.rate:g} Hz; give --rate {model.rate}"
            )
        self._feed = model.stream(self.channels, self.controls["set"])
        self.channels_out = model.outputs(self.channels)
        self.latency = BLOCK + model.late
        self._rings = self.pause = model.rings
        self._waiting = np.zeros((self.channels, 0), np.float32)
        self._ready = np.zeros((self.channels_out, self.latency), np.float32)

    def tail(self, decay_db: float) -> int:
        return self._rings

    def run(self, x: np.ndarray, coefficients: np.ndarray, phase: int) -> np.ndarray:
        n = x.shape[1]
        waiting = np.concatenate([self._waiting, x.astype(np.float32)], axis=1)
        made = [self._ready]
        whole = waiting.shape[1] - waiting.shape[1] % BLOCK
        for start in range(0, whole, BLOCK):
            made.append(self._feed(np.ascontiguousarray(waiting[:, start : start + BLOCK])))
        self._waiting = waiting[:, whole:]
        ready = np.concatenate(made, axis=1)
        self._ready = ready[:, n:]
        return ready[:, :n].astype(self.dtype)
