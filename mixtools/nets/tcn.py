"""The thesis's temporal convolutional network (Steinmetz 2020, section 4.3.1): stacks of ten dilated convolutions.

Parameters and receptive fields are those of its table 6: 290k, 528k and 764k (to less than 0.4 %), and 324.8, 649.5
and 974.3 ms at 44.1 kHz.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mixtools.nets.wave_u_net import CONDITION, Film, condition

CHANNELS = 32
KERNEL = 15
DILATIONS = tuple(2**k for k in range(10))
"""Of the blocks of one stack."""


class Block(nn.Module):
    """A dilated convolution without padding, batch norm, FiLM, PReLU, and a residual connection with a learned gain.

    The residual of the first block is the sound itself, added to all channels.
    """

    def __init__(self, inputs: int, channels: int, kernel: int, dilation: int, features: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, channels, kernel, dilation=dilation)
        self.norm = nn.BatchNorm1d(channels, affine=False)
        self.film = Film(features, channels)
        self.activation = nn.PReLU()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, condition: Tensor, causal: bool) -> Tensor:
        y = self.activation(self.film(self.norm(self.conv(x)), condition))
        return y + self.gain.clamp(0.0, 1.0) * cropped(x, y.shape[-1], causal)


class TCN(nn.Module):
    """A sound (b, 1, n) and controls (b, controls) from 0 to 1 to a sound (b, outputs, n - before - after).

    The first sample that comes out belongs to the sample `before` of what goes in. The causal one hears nothing of
    what comes `after`, the thesis's as much as of what came before.
    """

    def __init__(
        self,
        controls: int,
        stacks: int = 1,
        outputs: int = 1,
        causal: bool = False,
        channels: int = CHANNELS,
        kernel: int = KERNEL,
        dilations: tuple[int, ...] = DILATIONS,
        features: int = CONDITION,
    ) -> None:
        super().__init__()
        self.causal = causal
        self.condition = condition(controls, features)
        every = dilations * stacks
        self.blocks = nn.ModuleList(
            Block(channels if i else 1, channels, kernel, dilation, features) for i, dilation in enumerate(every)
        )
        self.out = nn.Conv1d(channels, outputs, 1)
        reach = sum(every) * (kernel - 1)
        self.before, self.after = (reach, 0) if causal else (reach // 2, reach - reach // 2)

    @property
    def receptive_field(self) -> int:
        """Samples that one that comes out depends on."""
        return self.before + self.after + 1

    def forward(self, x: Tensor, controls: Tensor) -> Tensor:
        condition = self.condition(2.0 * controls - 1.0)
        n = x.shape[-1] - self.before - self.after
        skipped = torch.zeros((), dtype=x.dtype, device=x.device)
        for block in self.blocks:
            x = block(x, condition, self.causal)
            skipped = skipped + cropped(x, n, self.causal)
        return self.out(skipped / len(self.blocks))


def cropped(x: Tensor, n: int, causal: bool) -> Tensor:
    """The last n samples of (..., more), or those in the middle."""
    start = x.shape[-1] - n if causal else (x.shape[-1] - n) // 2
    return x[..., start : start + n]
