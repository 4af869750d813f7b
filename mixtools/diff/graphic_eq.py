"""Ten octave bands in one linear-phase FIR."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch.nn.functional import pad

from mixtools.diff.effect import Values, moving, precise, twin
from mixtools.diff.fft import convolved
from mixtools.diff.ramps import ramped
from mixtools.dsp.graphic_eq import band_firs, usable_bands


@twin
def graphic_eq(x: torch.Tensor, rate: float, values: Values) -> torch.Tensor:
    """See `mixtools.dsp.graphic_eq`. Bands that the rate has no room for have no gradient."""
    firs = _firs(rate, precise(x), x.device)
    middle = firs.shape[-1] // 2
    late = pad(x, (0, middle))
    amplitudes = [10.0 ** (values[f"band{hz}_gain_db"] / 20.0) for hz in usable_bands(rate)]
    if moving(values.values()):
        bands = [convolved(late, fir[None, None])[..., middle:] for fir in firs]
        return sum(ramped(band, weight[:, None]) for band, weight in zip(bands, amplitudes, strict=True))
    response = torch.cat(amplitudes, dim=1) @ firs
    return convolved(late, response[:, None])[..., middle:]


@lru_cache(maxsize=8)
def _firs(rate: float, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(band_firs(rate)).to(device, dtype)
