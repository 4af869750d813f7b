"""Places a mono strip between left and right; on a stereo strip every law is a balance."""

from __future__ import annotations

import torch

from mixtools.diff.effect import Values, twin
from mixtools.diff.ramps import ramped
from mixtools.dsp.pan import balance_gains, pan_gains


@twin
def pan(x: torch.Tensor, rate: float, values: Values) -> torch.Tensor:
    """See `mixtools.dsp.pan`. At the centre of a balance the gradient is the slope towards the right."""
    gains = pan_gains if x.shape[1] == 1 else balance_gains
    return ramped(x, gains(values["pan"], values["law"]).movedim(-1, 1))
