"""Parametric reverberation: convolution with decaying noise that is shaped in twelve octave bands."""

from __future__ import annotations

import numpy as np

from mixtools.dsp.convolution import WetDry
from mixtools.dsp.effect import pure
from mixtools.dsp.noise import shaped_noise


class Reverb(WetDry):
    effect = "reverb"

    def response(self) -> np.ndarray:
        controls = self.controls
        bands = range(1, 13)
        return shaped_noise(
            np.array([controls[f"band{k}_gain"] for k in bands]),
            np.array([controls[f"band{k}_decay_s"] for k in bands]),
            controls["width"],
            controls["seed"],
            self.rate,
        )


reverb = pure(Reverb)
