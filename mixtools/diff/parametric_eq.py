"""Six bands of biquads in cascade."""

from __future__ import annotations

import torch

from mixtools.controls import EQ_BANDS
from mixtools.diff.biquads import biquads
from mixtools.diff.effect import Values, twin
from mixtools.dsp.parametric_eq import biquad


@twin
def parametric_eq(x: torch.Tensor, rate: float, values: Values) -> torch.Tensor:
    """See `mixtools.dsp.parametric_eq`. A band at 0 dB changes nothing but has a gradient."""
    points = max(value.shape[1] for value in values.values())

    def of(band: str, name: str) -> torch.Tensor:
        return values[f"{band}_{name}"].expand(-1, points)

    sections = [biquad(band, of(band, "gain_db"), of(band, "freq_hz"), of(band, "q"), rate) for band in EQ_BANDS]
    return biquads(x, torch.stack(sections, dim=2))
