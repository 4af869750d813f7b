"""Convolution with an impulse response: a file's, a bundled room's, or one that is being learned."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import pad

from mixtools.diff.effect import Values, twin
from mixtools.diff.fft import convolved
from mixtools.diff.ramps import ramped
from mixtools.dsp.convolution import impulse_response, kept_window
from mixtools.errors import ParameterError


@twin
def convolution(x: torch.Tensor, rate: float, values: Values) -> torch.Tensor:
    """See `mixtools.dsp.convolution`.

    `ir` is a room's name, (samples, rate), or a tensor at this rate, (1 or 2, taps) or one per item (..., 1 or 2,
    taps), which gradients flow into. `decay` and `predelay_ms` are rounded to samples and have none.
    """
    response = _shortened(_response(values["ir"], x, rate), values["decay"])
    return wet_and_dry(x, response, rate, values)


def wet_and_dry(x: torch.Tensor, response: torch.Tensor, rate: float, values: Values) -> torch.Tensor:
    """x plus x through responses (1 or batch, 1 or 2, taps), by the controls wet, dry and predelay_ms."""
    late = _delayed(convolved(x, response), values["predelay_ms"] * rate / 1000)
    return ramped(late, values["wet"][:, None]) + ramped(x, values["dry"][:, None])


def alike(values: torch.Tensor) -> bool:
    """Whether one number stands for all items, (batch, 1)."""
    return len(values) == 1 or values.stride(0) == 0


def _delayed(x: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
    """x (batch, channels, n) later by numbers of samples (batch, 1) that are rounded, as long as before."""
    n = x.shape[-1]
    shifts = [round(shift) for shift in samples[:, 0].tolist()]
    if not any(shifts):
        return x
    if alike(samples):
        return pad(x, (shifts[0], 0))[..., :n]
    return torch.stack([pad(item, (shift, 0))[:, :n] for item, shift in zip(x, shifts, strict=True)])


def _response(ir: Any, x: torch.Tensor, rate: float) -> torch.Tensor:
    if not isinstance(ir, torch.Tensor):
        return torch.from_numpy(impulse_response(ir, rate))[None].to(x.device, x.dtype)
    usable = ir.is_floating_point() and ir.ndim >= 2 and ir.shape[-2] in (1, 2) and ir.numel() > 0
    if not usable or ir.shape[:-2].numel() not in (1, len(x)):
        raise ParameterError(
            f"convolution.ir has shape {tuple(ir.shape)}, {ir.dtype}; give floats (1 or 2, taps), or such for each item"
        )
    if not bool(torch.isfinite(ir).all()):
        raise ParameterError("convolution.ir holds NaN or infinity; give finite samples")
    return ir.reshape(-1, *ir.shape[-2:]).to(x)


def _shortened(responses: torch.Tensor, decays: torch.Tensor) -> torch.Tensor:
    """Responses (1 or batch, channels, taps) of which the items' parts are kept."""
    taps = responses.shape[-1]
    parts = decays[: 1 if alike(decays) else None, 0].tolist()
    found = [torch.from_numpy(kept_window(taps, part)) for part in parts]
    longest = max(len(window) for window in found)
    windows = torch.stack([pad(window, (0, longest - len(window))) for window in found])
    return responses[..., :longest] * windows[:, None].to(responses)
