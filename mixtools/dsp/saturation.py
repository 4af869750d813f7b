"""tanh drive, four times oversampled; full scale stays full scale, and 0 dB of drive is transparent."""

from __future__ import annotations

import numpy as np

from mixtools.dsp.compiled import kernel
from mixtools.dsp.effect import DelayLine, Processor, pure, ramp_values
from mixtools.dsp.interpolation import HALF, History, fir, interpolation

OVERSAMPLING = 4

_DRIVE, _BIAS, _WET, _DRY = range(4)

LEAST_DRIVE = 1e-6
"""Below this slope tanh is a straight line to within -240 dB."""


def shape(x: np.ndarray, drive: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """The curve: tanh of drive times (x + bias), moved through the origin, scaled to keep full scale's peak to peak."""
    drive = np.maximum(drive, LEAST_DRIVE)
    span = 0.5 * (np.tanh(drive * (1.0 + bias)) + np.tanh(drive * (1.0 - bias)))
    return (np.tanh(drive * (x + bias)) - np.tanh(drive * bias)) / span


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


@kernel
def decimate(x, taps, y):
    """y[i] = sum of taps[k] * x[4 i + len(taps) - 1 - k]: x begins with len(taps) - 1 samples of history."""
    count = taps.size
    for i in range(y.size):
        total = 0.0
        for k in range(count):
            total += taps[k] * x[OVERSAMPLING * i + count - 1 - k]
        y[i] = total


class Saturation(Processor):
    effect = "saturation"

    def prepare(self) -> None:
        clean = not self.automated and (self._steady[0, _DRIVE] == 0.0 or self._steady[0, _WET] == 0.0)
        self._clean = bool(clean)
        if self._clean:
            return
        self.latency = 2 * HALF
        self.tail = 2 * HALF
        self._up = upsampling_taps()
        self._down = downsampling_taps()
        self._past = History(self.channels, self._up.shape[1] - 1, np.dtype(np.float64))
        self._past_wet = History(self.channels, len(self._down) - 1, np.dtype(np.float64))
        self._straight = DelayLine(self.channels, self.latency, self.dtype)
        # Controls belong to the moment the signal comes out.
        self.position -= self.latency

    def coefficients(self, values: dict[str, np.ndarray]) -> np.ndarray:
        mix = values["mix"]
        return np.stack([10.0 ** (values["drive_db"] / 20.0) - 1.0, values["bias"], mix, 1.0 - mix], axis=1)

    def run(self, x: np.ndarray, coefficients: np.ndarray, phase: int) -> np.ndarray:
        if self._clean:
            return x
        n = x.shape[1]
        settings = np.empty((4, OVERSAMPLING * n))
        ramp_values(coefficients, phase, OVERSAMPLING, settings)
        joined = self._past.extend(x.astype(np.float64))
        wide = np.empty((self.channels, n, OVERSAMPLING))
        part = np.empty(n)
        for c in range(self.channels):
            for p, taps in enumerate(self._up):
                fir(joined[c], taps, part)
                wide[c, :, p] = part
        wide = shape(wide.reshape(self.channels, -1), settings[_DRIVE], settings[_BIAS])
        joined = self._past_wet.extend(wide)
        y = np.empty((self.channels, n))
        for c in range(self.channels):
            decimate(joined[c], self._down, y[c])
        every = slice(None, None, OVERSAMPLING)
        return (settings[_WET, every] * y + settings[_DRY, every] * self._straight.process(x)).astype(self.dtype)


saturation = pure(Saturation)
