"""tanh drive, four times oversampled, in float64."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint

from mixtools.controls import EFFECTS
from mixtools.diff.effect import Values, moving, precise, twin
from mixtools.diff.ramps import interpolated, ramped
from mixtools.dsp.compiled import GRID
from mixtools.dsp.interpolation import HALF
from mixtools.dsp.saturation import OVERSAMPLING, decimating_taps, shape, upsampling_taps

BLOCK = 2 * HALF
"""Samples that a matrix filters at a time: its taps reach back over one block."""

SAMPLES_AT_A_TIME = 1 << 18
"""Of all items together; float64 temporaries of this size, times the oversampling, stay small."""


@twin
def saturation(x: torch.Tensor, rate: float, values: Values) -> torch.Tensor:
    """See `mixtools.dsp.saturation`. At 0 dB of drive, where it is transparent, no gradient asks for more or less."""
    drive = _drive(values["drive_db"])
    settings = [_extended(values[name], name) for name in ("drive_db", "bias")]
    together = max(1, SAMPLES_AT_A_TIME // (x.shape[1] * x.shape[2]))
    parts = zip(x.split(together), *(setting.split(together) for setting in settings), strict=True)
    # What lies between is four times as much, in float64, several times over: it is computed again on the way back.
    bent = torch.cat([checkpoint(_bent, *part, use_reentrant=False, preserve_rng_state=False) for part in parts])
    y = ramped(bent, values["mix"][:, None]) + ramped(x, 1.0 - values["mix"][:, None])
    if moving(values.values()):
        return y
    return torch.where((drive == 0.0)[:, None], x, y)


def _drive(drive_db: torch.Tensor) -> torch.Tensor:
    return 10.0 ** (drive_db / 20.0) - 1.0


def _extended(points: torch.Tensor, name: str) -> torch.Tensor:
    """A moving control (batch, points) one more point to each side: the filters' ringing is bent there, too.

    It stands still before the start, and goes on straight after the end.
    """
    if points.shape[1] == 1:
        return points
    control = EFFECTS["saturation"][name]
    beyond = (2.0 * points[:, -1:] - points[:, -2:-1]).clamp(control.low, control.high)
    return torch.cat([points[:, :1], points, beyond], dim=1)


def _bent(x: torch.Tensor, drive_db: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """x (batch, channels, n) through the curve at four times the rate, in x's type."""
    n = x.shape[-1]
    up, down = _matrices(precise(x), x.device)
    # Each filter delays by HALF samples; together that is one block.
    blocks = -(-n // BLOCK) + 1
    padded = pad(x.to(precise(x)), (0, blocks * BLOCK - n))
    raised = _filtered(padded.unflatten(-1, (blocks, BLOCK)), up)
    settings = (_along(setting, blocks) for setting in (_drive(drive_db), bias))
    lowered = _filtered(shape(raised, *settings), down)
    return lowered.flatten(-2)[..., BLOCK : BLOCK + n].to(x.dtype)


def _filtered(blocks: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
    """Blocks (..., blocks, size) by two matrices (2, size, size out): of the block before, and of their own."""
    before = pad(blocks, (0, 0, 1, 0))[..., :-1, :]
    return before @ matrices[0] + blocks @ matrices[1]


def _along(points: torch.Tensor, blocks: int) -> torch.Tensor:
    """A control (batch, points) of `_extended` at every value of oversampled blocks that are HALF samples late."""
    if points.shape[1] == 1:
        return points[..., None, None]
    start = OVERSAMPLING * (GRID - HALF)
    size = OVERSAMPLING * BLOCK
    values = interpolated(points, start + blocks * size, OVERSAMPLING * GRID)
    return values[:, None, start:].unflatten(-1, (blocks, size))


@lru_cache(maxsize=8)
def _matrices(dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The filters from samples to blocks of which every sample is four values, and back."""
    lag = BLOCK + np.arange(BLOCK) - np.arange(2 * BLOCK)[:, None]
    reached = (lag >= 0) & (lag <= BLOCK)
    up, down = (taps[:, lag.clip(0, BLOCK)] * reached for taps in (upsampling_taps(), decimating_taps()))
    raising = np.moveaxis(up, 0, -1).reshape(2, BLOCK, -1)
    lowering = np.moveaxis(down, 0, 1).reshape(2, -1, BLOCK)
    return tuple(torch.from_numpy(matrices).to(device, dtype) for matrices in (raising, lowering))
