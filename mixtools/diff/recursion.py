"""How recursions become part of torch's graph: kernels of `dsp`, forwards and backwards."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def recursion(function: type[torch.autograd.Function], x: torch.Tensor, *arguments: Any) -> torch.Tensor:
    """Apply the autograd function of a recursion, which runs in float64 on the CPU.

    Signals on a GPU go there and come back: a recursion with a branch at every sample or poles close to 1 has no form
    that is both exact and fast there, and all else stays where it is.
    """
    moved = (value.cpu() if isinstance(value, torch.Tensor) else value for value in arguments)
    return function.apply(x.cpu(), *moved).to(x.device)


def contiguous(x: torch.Tensor) -> np.ndarray:
    """A tensor's samples as kernels read them."""
    return x.detach().contiguous().numpy()


def precise(x: torch.Tensor) -> np.ndarray:
    """Coefficients as kernels read them."""
    return x.detach().to(torch.float64).contiguous().numpy()
