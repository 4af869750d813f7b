"""The fader and the polarity switch."""

from __future__ import annotations

import torch

from mixtools.diff.effect import Values, twin
from mixtools.diff.ramps import ramped


@twin
def gain(x: torch.Tensor, rate: float, values: Values) -> torch.Tensor:
    """See `mixtools.dsp.gain`."""
    amplitudes = 10.0 ** (values["gain_db"] / 20.0)
    signs = torch.where(values["invert"], -1.0, 1.0)
    return ramped(x, (amplitudes * signs)[:, None])
