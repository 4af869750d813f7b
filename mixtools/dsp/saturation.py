"""tanh drive, four times oversampled; full scale stays full scale, and 0 dB of drive is transparent."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace

from mixtools.dsp.effect import Processor, pure, ramp_values
from mixtools.dsp.history import DelayLine, History
from mixtools.dsp.interpolation import HALF, filtered, interpolation

OVERSAMPLING = 4

_DRIVE, _BIAS, _WET, _DRY = range(4)

LEAST_DRIVE = 1e-6
"""Below this slope tanh is a straight line to within -240 dB."""


def shape(x: Any, drive: Any, bias: Any) -> Any:
    """The curve: tanh of drive times (x + bias), moved through the origin, scaled to keep full scale's peak to peak.

    All are arrays, or all are tensors.
    """
    xp = array_namespace(x)
    drive = xp.where(drive > LEAST_DRIVE, drive, LEAST_DRIVE)
    span = 0.5 * (xp.tanh(drive * (1.0 + bias)) + xp.tanh(drive * (1.0 - bias)))
    return (xp.tanh(drive * (x + bias)) - xp.tanh(drive * bias)) / span


def upsampling_taps() -> np.ndarray:
    """Row p delays by HALF - p/4 samples: the four phases of the signal at four times the rate, (4, 2 * HALF + 1)."""
    taps = np.zeros((OVERSAMPLING, 2 * HALF + 1))
    for p in range(OVERSAMPLING):
        first, kernel_taps = interpolation(HALF - p / OVERSAMPLING)
        taps[p, first : first + 2 * HALF] = kernel_taps
    return taps


def downsampling_taps() -> np.ndarray:
    """The same kernel as one low-pass at four times the rate, delaying by HALF samples of the lower rate."""
    taps = upsampling_taps().T.reshape(-1)[: 2 * OVERSAMPLING * HALF + 1]
    return taps / taps.sum()


def decimating_taps() -> np.ndarray:
    """The low-pass apart by phase, (4, HALF * 2 + 1): the phases of its output's every fourth value, to be summed."""
    taps = downsampling_taps()
    phases = np.zeros((OVERSAMPLING, 2 * HALF + 1))
    phases[0] = taps[::OVERSAMPLING]
    for p in range(1, OVERSAMPLING):
        phases[p, 1:] = taps[OVERSAMPLING - p :: OVERSAMPLING]
    return phases


class Saturation(Processor):
    effect = "saturation"

    def prepare(self) -> None:
        clean = not self.automated and (self._steady[0, _DRIVE] == 0.0 or self._steady[0, _WET] == 0.0)
        self._clean = bool(clean)
        if self._clean:
            return
        self.latency = 2 * HALF
        self.boost_db = self.highest("drive_db")
        self._up = upsampling_taps()
        self._down = decimating_taps()
        self._past = History(self.channels, 2 * HALF, np.dtype(np.float64))
        self._past_phases = [History(self.channels, 2 * HALF, np.dtype(np.float64)) for _ in range(OVERSAMPLING)]
        self._straight = DelayLine(self.channels, self.latency, self.dtype)
        # Mix belongs to the moment the signal comes out; the curve acts half way there.
        self.position -= self.latency

    def tail(self, decay_db: float) -> int:
        return self.latency

    def coefficients(self, values: dict[str, np.ndarray]) -> np.ndarray:
        mix = values["mix"]
        return np.stack([10.0 ** (values["drive_db"] / 20.0) - 1.0, values["bias"], mix, 1.0 - mix], axis=1)

    def run(self, x: np.ndarray, coefficients: np.ndarray, phase: int) -> np.ndarray:
        if self._clean:
            return x
        n = x.shape[1]
        joined = self._past.extend(x.astype(np.float64))
        total = np.zeros((self.channels, n))
        for p in range(OVERSAMPLING):
            drive, bias = self._settings(*self.at(n, HALF), n, p)[: _BIAS + 1]
            bent = self._past_phases[p].extend(shape(filtered(joined, self._up[p]), drive, bias))
            total += filtered(bent, self._down[p])
        wet, dry = self._settings(coefficients, phase, n, 0)[_WET:]
        return (wet * total + dry * self._straight.process(x)).astype(self.dtype)

    def _settings(self, coefficients: np.ndarray, phase: int, n: int, part: int) -> np.ndarray:
        """Drive, bias, wet and dry: numbers where they are steady, else values `part` quarters into each sample."""
        if len(coefficients) == 1:
            return coefficients[0]
        values = np.empty((coefficients.shape[1], n))
        ramp_values(coefficients, phase, part / OVERSAMPLING, values)
        return values


saturation = pure(Saturation)
