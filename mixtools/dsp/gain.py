"""A fader, and the polarity switch."""

from __future__ import annotations

import numpy as np

from mixtools.dsp.effect import Fader, amplitude, pure


class Gain(Fader):
    effect = "gain"

    def prepare(self) -> None:
        self.boost_db = max(0.0, self.highest("gain_db"))

    def coefficients(self, values: dict[str, np.ndarray]) -> np.ndarray:
        sign = -1.0 if self.controls["invert"] else 1.0
        return sign * amplitude(values["gain_db"])[:, None].repeat(self.channels, axis=1)


gain = pure(Gain)
