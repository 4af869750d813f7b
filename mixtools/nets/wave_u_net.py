"""The Wave-U-Net with the changes of Demucs (Défossez et al. 2019), as in Steinmetz 2020, section 4.3.2 and table 4.

With conditions it is a model of an effect; without, and with stems for channels, it is the direct way from stems to a
mix that the differentiable mixing console is compared with (section 5.1.1).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import glu, pad

from mixtools.errors import ParameterError
from mixtools.nets.dmc import Songs

CONDITION_LAYERS = 128, 256
CONDITION = 128
"""The thesis leaves the network open that hears the controls; these widths give the parameters of its table 6."""

LAYERS = 6
CHANNELS = 16
GROWTH = 2
KERNEL, STRIDE = 8, 4
CONTEXT = 3
WEIGHT_SCALE = 0.1

MIXER_INPUTS = 8
MIXER_CHANNELS = 62
"""First layer of the mixing baseline: the thesis gives 83 million parameters and no number of channels."""


class Film(nn.Module):
    """Scales and moves every channel by what a condition (b, features) says; equation 4.13, with its own two layers."""

    def __init__(self, features: int, channels: int) -> None:
        super().__init__()
        self.scale = nn.Linear(features, channels)
        self.shift = nn.Linear(features, channels)
        nn.init.ones_(self.scale.bias)
        nn.init.zeros_(self.shift.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return self.scale(condition)[..., None] * x + self.shift(condition)[..., None]


def condition(controls: int, features: int = CONDITION) -> nn.Sequential:
    """The network that all blocks hear the controls (b, controls) through, from -1 to 1 each: (b, features)."""
    wide, wider = CONDITION_LAYERS
    return nn.Sequential(
        nn.Linear(controls, wide), nn.ReLU(), nn.Linear(wide, wider), nn.ReLU(), nn.Linear(wider, features), nn.ReLU()
    )


class Encoder(nn.Module):
    """One step down: a strided convolution, FiLM where there are conditions, PReLU, twice as many channels, GLU."""

    def __init__(self, inputs: int, channels: int, features: int | None = None, kernel: int = KERNEL) -> None:
        super().__init__()
        self.down = nn.Conv1d(inputs, channels, kernel, STRIDE)
        self.film = Film(features, channels) if features else None
        self.activation = nn.PReLU()
        self.gate = nn.Conv1d(channels, 2 * channels, 1)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        x = self.down(x)
        if self.film is not None:
            x = self.film(x, condition)
        return glu(self.gate(self.activation(x)), dim=1)


class Decoder(nn.Module):
    """One step up: twice as many channels from a context of 3, GLU, a transposed convolution, FiLM, PReLU.

    The last one ends without PReLU: audio goes both ways.
    """

    def __init__(
        self, channels: int, outputs: int, features: int | None = None, last: bool = False, kernel: int = KERNEL
    ) -> None:
        super().__init__()
        self.gate = nn.Conv1d(channels, 2 * channels, CONTEXT, padding=CONTEXT // 2)
        self.up = nn.ConvTranspose1d(channels, outputs, kernel, STRIDE)
        self.film = Film(features, outputs) if features else None
        self.activation = nn.Identity() if last else nn.PReLU()

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        x = self.up(glu(self.gate(x), dim=1))
        if self.film is not None:
            x = self.film(x, condition)
        return self.activation(x)


class WaveUNet(nn.Module):
    """Audio (b, inputs, n) to audio (b, outputs, n) of the same length.

    `features` is the length of a condition (b, features), where there is one. `lstm` puts Demucs's two bidirectional
    layers in the middle, which the thesis leaves out.
    """

    def __init__(
        self,
        inputs: int = 1,
        outputs: int = 1,
        channels: int = CHANNELS,
        layers: int = LAYERS,
        features: int | None = None,
        lstm: bool = False,
        kernel: int = KERNEL,
    ) -> None:
        super().__init__()
        self.kernel = kernel
        widths = [channels * GROWTH**layer for layer in range(layers)]
        self.encoders = nn.ModuleList(
            Encoder(before, width, features, kernel) for before, width in zip([inputs, *widths], widths, strict=False)
        )
        self.decoders = nn.ModuleList(
            Decoder(width, after, features, i == layers - 1, kernel)
            for i, (width, after) in enumerate(zip(widths[::-1], [*widths[-2::-1], outputs], strict=True))
        )
        deepest = widths[-1]
        self.lstm = nn.LSTM(deepest, deepest, 2, bidirectional=True) if lstm else None
        self.after_lstm = nn.Linear(2 * deepest, deepest) if lstm else None
        _rescale(self)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        n = x.shape[-1]
        missing = self.fitting_length(n) - n
        # At the end alone, so that the strides' grid begins with the sound, however long it is.
        x = pad(x, (0, missing))
        skipped = []
        for encoder in self.encoders:
            x = encoder(x, condition)
            skipped.append(x)
        if self.lstm is not None:
            x = self.after_lstm(self.lstm(x.permute(2, 0, 1))[0]).permute(1, 2, 0)
        for decoder in self.decoders:
            x = decoder(x + skipped.pop(), condition)
        return x[..., :n]

    def fitting_length(self, n: int) -> int:
        """The shortest length from n on that comes out as it went in."""
        depth = len(self.encoders)
        for _ in range(depth):
            n = max(1, -(-(n - self.kernel) // STRIDE) + 1)
        for _ in range(depth):
            n = (n - 1) * STRIDE + self.kernel
        return n


def _rescale(net: nn.Module) -> None:
    """Bring the weights of convolutions nearer to a deviation of 0.1, as Demucs does."""
    for module in net.modules():
        if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d)):
            with torch.no_grad():
                scale = (module.weight.std() / WEIGHT_SCALE).sqrt()
                module.weight /= scale
                module.bias /= scale


class ConditionedWaveUNet(nn.Module):
    """A sound (b, 1, n) and controls (b, controls) from 0 to 1 to a sound (b, outputs, n) of the same length."""

    before = after = 0

    def __init__(self, controls: int, outputs: int = 1, channels: int = CHANNELS, kernel: int = KERNEL) -> None:
        super().__init__()
        self.condition = condition(controls)
        self.net = WaveUNet(1, outputs, channels, features=CONDITION, kernel=kernel)

    def forward(self, x: Tensor, controls: Tensor) -> Tensor:
        return self.net(x, self.condition(2.0 * controls - 1.0))


class DirectMixer(nn.Module):
    """Stems straight to their mix, at most a fixed number; where a song has fewer, the rest is silent.

    It hears stems in mono and in the order that they come in, which it has to learn from. `levels` says how loud
    they come (see `dmc.LEVELS`).
    """

    def __init__(self, inputs: int = MIXER_INPUTS, channels: int = MIXER_CHANNELS, levels: str = "same") -> None:
        super().__init__()
        self.inputs, self.channels, self.levels = inputs, channels, levels
        self.net = WaveUNet(inputs, 2, channels)

    def plain(self) -> dict[str, Any]:
        """What it is, for a checkpoint's record."""
        return {"kind": "direct", "inputs": self.inputs, "channels": self.channels, "levels": self.levels}

    def forward(self, songs: Songs) -> Tensor:
        stems = (songs.stems * songs.present[..., None, None]).mean(dim=2)
        if stems.shape[1] > self.inputs:
            raise ParameterError(f"a song has {stems.shape[1]} stems; give at most {self.inputs}, the model's inputs")
        return self.net(pad(stems, (0, 0, 0, self.inputs - stems.shape[1])))
