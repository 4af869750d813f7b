"""Ten octave bands in one linear-phase FIR, as in Colonel & Reiss 2021, section II B."""

from __future__ import annotations

import numpy as np
import scipy.fft

from mixtools.controls import GRAPHIC_CENTRES_HZ, HIGHEST_FREQUENCY, Curve
from mixtools.dsp.effect import Processor, amplitude, pure, ramped
from mixtools.dsp.partitioned import PartitionedConvolver

LENGTH_S = 2048 / 44100


def fir_length(rate: float) -> int:
    """Taps, odd so that the delay is whole: 2049 at 44.1 kHz."""
    return 2 * round(LENGTH_S * rate / 2) + 1


def usable_bands(rate: float) -> list[int]:
    """Centres in Hz that the sample rate has room for."""
    return [hz for hz in GRAPHIC_CENTRES_HZ if hz <= HIGHEST_FREQUENCY * rate]


def band_firs(rate: float) -> np.ndarray:
    """One FIR per usable band, (bands, taps): summed with the bands' amplitudes as weights they make the equaliser.

    A band's transfer curve is 1 at its own centre, 0 at its neighbours', linear between; the lowest and the highest
    stay at 1 beyond.
    """
    taps = fir_length(rate)
    centres = usable_bands(rate)
    frequencies = np.arange(taps // 2 + 1) * (rate / (taps - 1))
    curves = np.array([np.interp(frequencies, centres, row) for row in np.eye(len(centres))])
    # The curve is sampled at taps - 1 points; the tap furthest from the middle is shared by both ends, for symmetry.
    half = scipy.fft.irfft(curves, taps - 1)[:, : taps // 2 + 1]
    half[:, -1] *= 0.5
    return np.concatenate([half[:, :0:-1], half], axis=1)


class GraphicEq(Processor):
    effect = "graphic_eq"

    def prepare(self) -> None:
        self._bands = usable_bands(self.rate)
        for hz in GRAPHIC_CENTRES_HZ:
            value = self.controls[f"band{hz}_gain_db"]
            if hz not in self._bands and (isinstance(value, Curve) or value != 0.0):
                limit = HIGHEST_FREQUENCY * self.rate
                self.notes.append(
                    f"band{hz}_gain_db is left out: {hz} Hz is above {limit:g}, {HIGHEST_FREQUENCY} of the sample rate"
                )
        firs = band_firs(self.rate)
        middle = firs.shape[1] // 2
        self._flat = not self.automated and bool((self._steady == 1.0).all())
        if self.automated:
            self._convolvers = [PartitionedConvolver(fir[None], self.channels, self.dtype) for fir in firs]
        elif not self._flat:
            weighted = self._steady[0] @ firs
            self._convolvers = [PartitionedConvolver(weighted[None], self.channels, self.dtype)]
        self.latency = 0 if self._flat else middle + self._convolvers[0].latency
        self.boost_db = max(self.highest(name) for name in self.controls) + 3.0
        # Automated amplitudes belong to the moment the filtered signal comes out, not to when it went in.
        self.position -= self.latency if self.automated else 0

    def tail(self, decay_db: float) -> int:
        return 0 if self._flat else fir_length(self.rate) // 2

    def coefficients(self, values: dict[str, np.ndarray]) -> np.ndarray:
        bands = usable_bands(self.rate)
        return np.stack([amplitude(values[f"band{hz}_gain_db"]) for hz in bands], axis=1)

    def run(self, x: np.ndarray, coefficients: np.ndarray, phase: int) -> np.ndarray:
        if self._flat:
            return x
        if not self.automated:
            return self._convolvers[0].process(x)
        y = np.zeros_like(x)
        for band, convolver in enumerate(self._convolvers):
            weights = coefficients[:, band : band + 1].repeat(self.channels, axis=1)
            y += ramped(convolver.process(x), np.ascontiguousarray(weights), phase)
        return y


graphic_eq = pure(GraphicEq)
