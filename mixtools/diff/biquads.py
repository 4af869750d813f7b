"""Biquads in cascade that gradients flow through."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from mixtools.diff.effect import side_by_side
from mixtools.diff.recursion import contiguous, precise, recursion
from mixtools.dsp.biquad_adjoints import (
    cascade_adjoint,
    cascade_automated_adjoint,
    cascade_automated_marked,
    cascade_marked,
    marks_of_automated,
    marks_of_cascade,
    out_of_lanes,
)
from mixtools.dsp.biquads import in_lanes


def biquads(x: torch.Tensor, sections: torch.Tensor) -> torch.Tensor:
    """x (batch, channels, n) through sections (batch, points, sections, 5) of b0, b1, b2, a1, a2, at most eight.

    One point where they are steady, else the points of the control grid.
    """
    return recursion(_Cascade, x, sections)


class _Cascade(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, sections: torch.Tensor) -> torch.Tensor:
        batch, channels, n = x.shape
        steady = sections.shape[1] == 1
        y = torch.empty(x.shape, dtype=x.dtype)
        source, out = contiguous(x), y.numpy()
        coefficients = [in_lanes(item[0]) if steady else item for item in precise(sections)]
        count = batch * channels
        marks = [marks_of_cascade(n) if steady else marks_of_automated(n, sections.shape[2]) for _ in range(count)]
        run = cascade_marked if steady else cascade_automated_marked

        def work(index: int) -> None:
            item, channel = divmod(index, channels)
            run(source[item, channel], out[item, channel], coefficients[item], marks[index])

        side_by_side(work, count)
        ctx.save_for_backward(x, sections)
        ctx.coefficients, ctx.marks = coefficients, marks
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, sections = ctx.saved_tensors
        batch, channels, _ = x.shape
        steady = sections.shape[1] == 1
        dx = torch.empty(x.shape, dtype=x.dtype)
        source, given, out = contiguous(x), contiguous(dy), dx.numpy()
        found = np.zeros((batch, channels, *ctx.coefficients[0].shape))
        run = cascade_adjoint if steady else cascade_automated_adjoint

        def work(index: int) -> None:
            item, _ = place = divmod(index, channels)
            run(source[place], given[place], out[place], ctx.coefficients[item], ctx.marks[index], found[place])

        side_by_side(work, batch * channels)
        gradients = found.sum(axis=1)
        if steady:
            pairs = zip(gradients, precise(sections)[:, 0], strict=True)
            gradients = np.stack([out_of_lanes(*pair) for pair in pairs])[:, None]
        return dx, torch.from_numpy(gradients).to(sections.dtype)
