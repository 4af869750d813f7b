"""Places a mono strip between left and right; on a stereo strip every law is a balance."""

from __future__ import annotations

import numpy as np

from mixtools.dsp.effect import Fader, pure


def pan_gains(pan: np.ndarray, law: str) -> np.ndarray:
    """Left and right amplitudes of a mono strip, (..., 2)."""
    if law == "balance":
        left, right = np.minimum(1.0, 2.0 * (1.0 - pan)), np.minimum(1.0, 2.0 * pan)
        return np.stack([left, right], axis=-1)
    linear = np.stack([1.0 - pan, pan], axis=-1)
    # Both sides through cos of the distance to their own end: exactly 0 at the far end, exactly alike at the centre.
    power = np.where(linear > 0.0, np.cos(0.5 * np.pi * (1.0 - linear)), 0.0)
    if law == "constant_power":
        return power
    return linear if law == "linear" else np.sqrt(linear * power)


def balance_gains(pan: np.ndarray, law: str) -> np.ndarray:
    """Left and right amplitudes of a stereo strip: the law's gains over those at the centre, never above 1."""
    return np.minimum(1.0, pan_gains(pan, law) / pan_gains(np.asarray(0.5), law))


class Pan(Fader):
    effect = "pan"

    def prepare(self) -> None:
        self.channels_out = 2

    def coefficients(self, values: dict[str, np.ndarray]) -> np.ndarray:
        gains = pan_gains if self.channels == 1 else balance_gains
        return gains(values["pan"], self.controls["law"])


pan = pure(Pan)
