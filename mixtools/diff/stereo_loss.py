"""DMC's stereo distance of a batch of mixes, with the gradient made beside the value.

The values are those of `measure.distance.sum_difference_mr_stft`, song by song. `diff.losses` serves one target that
is come back to; here every target is seen once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import fold, pad

from mixtools.measure.arrays import Resolution, root
from mixtools.measure.distance import LOWEST_MAGNITUDE, MR_STFT
from mixtools.measure.frames import hann

LEAST_DIFFERENCE = 1e-3
"""The energy of L - R that counts at least, relative to that of L + R: beside a mono target's, which has none, every
difference would be endless, and drown all other songs."""


def stereo_distance(mixes: Tensor, targets: Tensor, stride: int = 1) -> Tensor:
    """Mean over songs of the sum/difference MR-STFT distance of mixes (songs, 2, n), with gradients by the mixes.

    Every `stride`-th frame is looked at.
    """
    found, wanted = _sides(mixes), _sides(targets.detach())
    distances = [_Distance.apply(found, wanted, replace(r, hop=r.hop * stride)) for r in MR_STFT]
    return 2.0 * sum(distances) / len(MR_STFT)


def _sides(x: Tensor) -> Tensor:
    """Sum and difference of mixes (songs, 2, n), as (2 * songs, n)."""
    return torch.cat([x[:, 0] + x[:, 1], x[:, 0] - x[:, 1]])


class _Distance(torch.autograd.Function):
    """The mean of one resolution's distances between signals (items, n), the sums before the differences."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, resolution: Resolution) -> Tensor:
        window = torch.from_numpy(hann(resolution.window)).to(a)
        q = _spectra(b, resolution, window).abs().clip_(min=LOWEST_MAGNITUDE)
        spectra = _spectra(a, resolution, window)
        p = spectra.abs()
        heard = p > LOWEST_MAGNITUDE
        p.clip_(min=LOWEST_MAGNITUDE)
        logs = torch.log(p / q)
        energy = q.square().sum(dim=(-2, -1))
        sums = energy[: len(energy) // 2]
        energy = torch.maximum(energy, torch.cat([torch.zeros_like(sums), LEAST_DIFFERENCE * sums]))
        difference = q.neg_().add_(p)
        error = difference.square().sum(dim=(-2, -1))
        distance = root(error / energy).mean() + logs.abs().mean()
        if ctx.needs_input_grad[0]:
            slopes = torch.where(error > 0.0, 1.0 / torch.sqrt((error * energy).clamp(min=1e-30)), 0.0) / len(a)
            slope = difference.mul_(slopes[:, None, None]).mul_(p)
            slope.add_(logs.sign_(), alpha=1.0 / logs.numel()).div_(p.square_()).mul_(heard)
            # The inverse transform counts every bin twice but the first and the last.
            slope[..., 1:-1] *= 0.5
            pieces = torch.fft.irfft(spectra.mul_(slope), resolution.size, norm="forward")[..., : len(window)] * window
            ctx.save_for_backward(_overlapped(pieces, a.shape[-1], resolution))
        return distance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weight: Tensor) -> tuple[Tensor, None, None]:
        return weight * ctx.saved_tensors[0], None, None


def _margin(n: int, resolution: Resolution) -> tuple[int, int, str]:
    """What surrounds a signal of n samples, where its first frame begins in that, and how (see `measure.arrays`)."""
    half = resolution.size // 2
    return half, (resolution.size - resolution.window) // 2, "reflect" if n > half else "constant"


def _spectra(x: Tensor, resolution: Resolution, window: Tensor) -> Tensor:
    """(items, frames, bins)"""
    half, first, mode = _margin(x.shape[-1], resolution)
    padded = pad(x[:, None], (half, half), mode=mode)[:, 0]
    held = padded[:, first : padded.shape[-1] - (resolution.size - resolution.window - first)]
    return torch.fft.rfft(held.unfold(-1, resolution.window, resolution.hop) * window, resolution.size)


def _overlapped(pieces: Tensor, n: int, resolution: Resolution) -> Tensor:
    """Frames (items, frames, window) added up where they were taken from: (items, n)."""
    half, first, mode = _margin(n, resolution)
    count, length = pieces.shape[1:]
    reach = (count - 1) * resolution.hop + length
    summed = fold(pieces.transpose(1, 2), (1, reach), (1, length), stride=(1, resolution.hop))[:, 0, 0]
    whole = pad(summed, (first, n + 2 * half - first - reach))
    inside = whole[:, half : half + n].clone()
    if mode == "reflect":
        inside[:, 1 : half + 1] += whole[:, :half].flip(-1)
        inside[:, n - half - 1 : n - 1] += whole[:, half + n :].flip(-1)
    return inside
