"""Convolution with an impulse response: a file's, or a bundled room's."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import numpy as np

from mixtools.controls import ROOMS
from mixtools.dsp.effect import Processor, as_block, pure, ramped
from mixtools.dsp.history import DelayLine
from mixtools.dsp.partitioned import PartitionedConvolver
from mixtools.dsp.rooms import room_response
from mixtools.errors import ParameterError

FADE = 0.1
"""Part of a shortened response over which it fades out."""


class WetDry(Processor):
    """An effect that adds a convolved signal, `wet` times, to the unprocessed one, `dry` times."""

    @abstractmethod
    def response(self) -> np.ndarray:
        """The impulse response at this rate, (1 or 2, taps)."""

    def prepare(self) -> None:
        response = self.response()
        self._convolver = PartitionedConvolver(response, self.channels, self.dtype)
        self._straight = DelayLine(self.channels, self._convolver.latency, self.dtype)
        self.channels_out = self._convolver.channels_out
        predelay = round(self.controls["predelay_ms"] * self.rate / 1000)
        self._predelay = DelayLine(self.channels_out, predelay, self.dtype)
        self.latency = self._convolver.latency
        self._length = self.pause = predelay + response.shape[1]
        loudest = np.abs(response).sum(axis=1).max()
        self.boost_db = max(0.0, 20 * math.log10(max(loudest, 1e-6)))
        # Wet and dry belong to the moment the signal comes out.
        self.position -= self.latency

    def tail(self, decay_db: float) -> int:
        return self._length

    def coefficients(self, values: dict[str, np.ndarray]) -> np.ndarray:
        return np.stack([values["wet"], values["dry"]], axis=1)

    def run(self, x: np.ndarray, coefficients: np.ndarray, phase: int) -> np.ndarray:
        both = [np.ascontiguousarray(coefficients[:, i : i + 1].repeat(self.channels_out, axis=1)) for i in range(2)]
        wet = ramped(self._predelay.process(self._convolver.process(x)), both[0], phase)
        straight = self._straight.process(x)
        return wet + ramped(straight, both[1], phase) if coefficients[:, 1].any() else wet


class Convolution(WetDry):
    effect = "convolution"

    def response(self) -> np.ndarray:
        response = impulse_response(self.controls["ir"], self.rate)
        window = kept_window(response.shape[1], self.controls["decay"])
        return response[:, : len(window)] * window


def kept_window(taps: int, decay: float) -> np.ndarray:
    """What a response of so many taps is shortened by: ones and the fade, as many as are kept."""
    kept = max(1, math.ceil(decay * taps))
    window = np.ones(kept)
    if kept < taps:
        fade = max(1, round(FADE * kept))
        window[kept - fade :] = np.linspace(1.0, 0.0, fade + 1)[1:]
    return window


def impulse_response(ir: Any, rate: float) -> np.ndarray:
    """An impulse response at a rate, float64 (1 or 2, taps): a bundled room by name, or (array, its rate)."""
    if isinstance(ir, str):
        if ir not in ROOMS:
            raise ParameterError(f"convolution.ir is {ir}; give (samples, rate), or one of {', '.join(ROOMS)}")
        return room_response(ir, round(rate))
    samples, own_rate = ir
    samples = as_block(np.asarray(samples)).astype(np.float64)
    if samples.shape[1] == 0:
        raise ParameterError("convolution.ir holds no samples; give an impulse response")
    if own_rate == rate:
        return samples
    import soxr

    # Resampling keeps the samples' height; a filter's gain is their sum, so it has to shrink as they multiply.
    return np.ascontiguousarray(soxr.resample(samples.T, own_rate, rate, "VHQ").T) * (own_rate / rate)


convolution = pure(Convolution)
