"""Parametric reverberation: convolution with decaying noise that is shaped in twelve octave bands."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint

from mixtools.controls import REVERB_CENTRES_HZ
from mixtools.diff.convolution import alike, wet_and_dry
from mixtools.diff.effect import Values, twin
from mixtools.dsp.noise import band_envelope, both_sides, noise_bands, noise_size, response_length


@twin
def reverb(x: torch.Tensor, rate: float, values: Values) -> torch.Tensor:
    """See `mixtools.dsp.reverb`.

    Which noise it is, and where the response is cut at -90 dB, depends on the slowest band that sounds, and has no
    gradient; nor has `predelay_ms`, which is rounded to samples.
    """
    bands = range(1, len(REVERB_CENTRES_HZ) + 1)
    gains, decays_s = (torch.cat([values[f"band{k}_{name}"] for k in bands], dim=1) for name in ("gain", "decay_s"))
    width = values["width"]
    shared = all(alike(value) for name, value in values.items() if name.startswith("band") or name == "width")
    responses = [
        _response(gains[item], decays_s[item], width[item], values["seed"], rate, x.shape[-1])
        for item in range(1 if shared else len(x))
    ]
    longest = max(response.shape[-1] for response in responses)
    padded = [pad(response, (0, longest - response.shape[-1])) for response in responses]
    return wet_and_dry(x, torch.stack(padded), rate, values)


def _response(
    gains: torch.Tensor, decays_s: torch.Tensor, width: torch.Tensor, seed: int, rate: float, most: int
) -> torch.Tensor:
    """One item's impulse response, (2, taps), or its first `most` taps."""
    taps = response_length(gains.tolist(), decays_s.tolist(), rate)
    noise = _noise(noise_size(taps), seed, rate, gains.dtype, gains.device)[..., : min(taps, most)]
    # The bands' envelopes are much more than the response that they make: they are made again on the way back.
    return checkpoint(_shaped, noise, gains, decays_s, width, rate, use_reentrant=False, preserve_rng_state=False)


def _shaped(
    noise: torch.Tensor, gains: torch.Tensor, decays_s: torch.Tensor, width: torch.Tensor, rate: float
) -> torch.Tensor:
    time = torch.arange(noise.shape[-1], dtype=noise.dtype, device=noise.device)
    envelopes = band_envelope(gains[:, None], decays_s[:, None], time, rate)
    middle, side = sum(band * envelope for band, envelope in zip(noise, envelopes, strict=True))
    return both_sides(middle, side, width)


@lru_cache(maxsize=4)
def _noise(size: int, seed: int, rate: float, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """All bands' noises, (12, 2, size)."""
    return torch.from_numpy(np.stack(list(noise_bands(size, seed, rate)))).to(device, dtype)
