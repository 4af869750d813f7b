"""VGGish (Hershey et al. 2017): 128 numbers per 0.96 s of audio, without the PCA of the AudioSet release."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from mixtools.measure.filterbanks import htk_mel, triangles
from mixtools.measure.frames import hann
from mixtools.nets.restoring import refuse_misfit

RATE_HZ = 16000
WINDOW = 400
HOP = 160
FFT = 512
BANDS = 64
LOW_HZ, HIGH_HZ = 125.0, 7500.0
LOG_OFFSET = 0.01
FRAMES = 96
"""Of one example; examples do not overlap."""

EMBEDDING = 128
EXAMPLES_AT_A_TIME = 16


def mel_bank() -> np.ndarray:
    """Triangles on the mel axis itself (64, 257), equally spaced in HTK's mel."""
    edges = np.linspace(htk_mel(LOW_HZ), htk_mel(HIGH_HZ), BANDS + 2)
    return triangles(edges, htk_mel(np.linspace(0.0, RATE_HZ / 2, FFT // 2 + 1)))


def log_mel(x: Tensor) -> Tensor:
    """ln(mel magnitudes + 0.01) of mono audio (..., n) at 16 kHz: (..., frames, 64), whole frames only."""
    frames = x.unfold(-1, WINDOW, HOP) * torch.as_tensor(hann(WINDOW)).to(x)
    return torch.log(torch.fft.rfft(frames, FFT).abs() @ torch.as_tensor(mel_bank().T).to(x) + LOG_OFFSET)


class VGGish(nn.Module):
    """Log-mel examples (b, 96, 64) to embeddings (b, 128). Parameters are named as in the published PyTorch port."""

    def __init__(self):
        super().__init__()
        layers, width = [], 1
        for block in ((64,), (128,), (256, 256), (512, 512)):
            for wider in block:
                layers += [nn.Conv2d(width, wider, 3, padding=1), nn.ReLU()]
                width = wider
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.embeddings = nn.Sequential(
            nn.Linear(width * (FRAMES // 16) * (BANDS // 16), 4096),
            nn.ReLU(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, EMBEDDING),
            nn.ReLU(),
        )

    def forward(self, examples: Tensor) -> Tensor:
        # The weights come from TensorFlow, where channels are last.
        return self.embeddings(self.features(examples[:, None]).permute(0, 2, 3, 1).flatten(1))

    @classmethod
    def load(cls, state: dict[str, Tensor], where: str = "the weights") -> VGGish:
        """The network with given weights, ready to embed; raises a `ParameterError` that names the first wrong one."""
        with torch.device("meta"):
            net = cls()
        found = {name: x.float() if x.is_floating_point() else x for name, x in state.items()}
        refuse_misfit(net.state_dict(), found, where, "give the weights of VGGish's PyTorch port")
        net.load_state_dict(found, assign=True)
        return net.eval().requires_grad_(False)

    def embed(self, x: np.ndarray) -> np.ndarray:
        """Embeddings (examples, 128) of audio (n,) or (channels, n) at 16 kHz; channels are averaged, the rest of less
        than one example at the end is left out. Memory does not grow with n."""
        hop = FRAMES * HOP
        span = hop + WINDOW - HOP
        count = max((x.shape[-1] - span) // hop + 1, 0)
        weight = self.embeddings[-2].weight
        embedded = [np.zeros((0, EMBEDDING), np.float32)]
        for first in range(0, count, EXAMPLES_AT_A_TIME):
            last = min(first + EXAMPLES_AT_A_TIME, count)
            piece = np.asarray(x[..., first * hop : (last - 1) * hop + span], np.float64)
            mono = piece.mean(axis=0) if piece.ndim == 2 else piece
            # In float64 as published, up to the network.
            examples = log_mel(torch.from_numpy(mono)).reshape(-1, FRAMES, BANDS)
            with torch.inference_mode():
                embedded.append(self(examples.to(weight)).cpu().numpy())
        return np.concatenate(embedded)
