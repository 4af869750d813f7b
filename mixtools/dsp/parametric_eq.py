"""Six bands of biquads in cascade, after the RBJ audio EQ cookbook."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from mixtools.controls import EQ_BANDS, HIGHEST_FREQUENCY, Curve
from mixtools.dsp.biquads import AutomatedBiquadCascade, BiquadCascade
from mixtools.dsp.effect import Processor, pure


def biquad(band: str, gain_db: Any, freq_hz: Any, q: Any, rate: float) -> Any:
    """Cookbook coefficients b0, b1, b2, a1, a2 over a0, (..., 5) from (...) controls, numpy arrays or torch tensors."""
    xp = array_namespace(gain_db, freq_hz, q)
    a = 10.0 ** (gain_db / 40.0)
    w = 2.0 * np.pi * xp.clip(freq_hz, max=HIGHEST_FREQUENCY * rate) / rate
    cos = xp.cos(w)
    alpha = xp.sin(w) / (2.0 * q)
    if "shelf" not in band:
        b = (1.0 + alpha * a, -2.0 * cos, 1.0 - alpha * a)
        d = (1.0 + alpha / a, -2.0 * cos, 1.0 - alpha / a)
    else:
        side = 1.0 if band == "low_shelf" else -1.0
        slope = 2.0 * xp.sqrt(a) * alpha
        up, down = a + 1.0, a - 1.0
        b = (
            a * (up - side * down * cos + slope),
            side * 2.0 * a * (down - side * up * cos),
            a * (up - side * down * cos - slope),
        )
        d = (
            up + side * down * cos + slope,
            side * -2.0 * (down + side * up * cos),
            up + side * down * cos - slope,
        )
    return xp.stack([b[0] / d[0], b[1] / d[0], b[2] / d[0], d[1] / d[0], d[2] / d[0]], axis=-1)


class ParametricEq(Processor):
    effect = "parametric_eq"

    def prepare(self) -> None:
        rate = self.rate
        moved = [b for b in self._active() if self.highest(f"{b}_freq_hz") > HIGHEST_FREQUENCY * rate]
        for band in moved:
            self.notes.append(
                f"{band}_freq_hz is {self.highest(f'{band}_freq_hz'):g}; "
                f"limited to {HIGHEST_FREQUENCY * rate:g}, {HIGHEST_FREQUENCY} of the sample rate"
            )
        if self.automated:
            self._cascade = AutomatedBiquadCascade(len(self._active()), self.channels)
        else:
            self._cascade = BiquadCascade(self._steady[0], self.channels, self.position)
        self._slowest = self._slowest_time_constant()
        # A shelf of high Q overshoots its gain by about as much.
        self.boost_db = sum(
            max(0.0, self.highest(f"{band}_gain_db")) + max(0.0, 20 * math.log10(self.highest(f"{band}_q")))
            for band in self._active()
        )

    def tail(self, decay_db: float) -> int:
        return math.ceil(decay_db / 20 * math.log(10) * self._slowest)

    def _active(self) -> list[str]:
        """The bands that do something: a band that stays at 0 dB is left out, hence exactly transparent."""
        gains = {band: self.controls[f"{band}_gain_db"] for band in EQ_BANDS}
        return [band for band, gain in gains.items() if isinstance(gain, Curve) or gain != 0.0]

    def coefficients(self, values: dict[str, np.ndarray]) -> np.ndarray:
        bands = self._active()
        if not bands:
            return np.zeros((len(values["band1_q"]), 0, 5))
        return np.stack(
            [biquad(b, values[f"{b}_gain_db"], values[f"{b}_freq_hz"], values[f"{b}_q"], self.rate) for b in bands],
            axis=1,
        )

    def _slowest_time_constant(self) -> float:
        """In samples, from the poles: exact for steady bands, from the extremes of automated ones."""
        slowest = 0.0
        for band in self._active():
            corners = [
                biquad(band, *np.atleast_2d(gain, freq, q), self.rate)[0, 0]
                for gain in self._extremes(f"{band}_gain_db")
                for freq in self._extremes(f"{band}_freq_hz")
                for q in self._extremes(f"{band}_q")
            ]
            radius = max(np.abs(np.roots([1.0, c[3], c[4]])).max() for c in corners)
            slowest = max(slowest, -1.0 / math.log(radius) if radius > 0 else 0.0)
        return slowest

    def _extremes(self, name: str) -> tuple[float, ...]:
        value = self.controls[name]
        if isinstance(value, Curve):
            levels = [v for _, v in value.points]
            return min(levels), max(levels)
        return (value,)

    def run(self, x: np.ndarray, coefficients: np.ndarray, phase: int) -> np.ndarray:
        if coefficients.shape[1] == 0:
            return x
        if self.automated:
            return self._cascade.process(x, coefficients, phase)
        return self._cascade.process(x)


parametric_eq = pure(ParametricEq)
