"""The differentiable mixing console: stems in, their controls and a mix out.

Steinmetz et al. 2021, and Steinmetz 2020, chapter 5. Their channel is a network trained to sound like a console; here
it is the console's differentiable twin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from mixtools.controls import EFFECTS, shown
from mixtools.diff.console import chain, preset_controls
from mixtools.dsp.convolution import FADE, kept_window
from mixtools.dsp.pan import balance_gains, pan_gains
from mixtools.dsp.rooms import room_response
from mixtools.errors import ParameterError, nearest
from mixtools.mix import Insert
from mixtools.nets.restoring import refuse_misfit
from mixtools.nets.vggish import BANDS, EMBEDDING, FRAMES, HOP, RATE_HZ, WINDOW, VGGish, log_mel
from mixtools.presets import PRESETS, Settings, Slot, Strip

STRIPS = {"basic": Strip(after=PRESETS["dmc"].track.after, log=False), "full": PRESETS["dmc"].track}
"""What a model sets on every stem: fader (-24 to 24 dB) and pan, or the papers' whole channel."""

WIDTH = 2048
HIDDEN_LAYERS = 3
DROPOUT = 0.1
WIDEST = 16384

PATCH = FRAMES * HOP
"""Samples at 16 kHz from one patch of 0.96 s to the next."""

MEL_MEAN, MEL_SPREAD = -2.0, 1.8
"""About those of log-mel of stems at -23 LUFS, for the small encoder."""

SMALL_CHANNELS = 32, 64, 96, 128, 192
LEVELS = {
    "same": "Stems come at one loudness, and how loud they were is forgotten.",
    "told": "Stems come at one loudness, and the network is told how loud each was against the others.",
    "raw": "Stems come as they were recorded, which the network may hear or not: the papers' way.",
}
"""How loud stems come. At one loudness, faders say how loud they are in the mix."""

LEVEL_SCALE_DB, MOST_SCALED = 10.0, 3.0
"""Of the levels that a network is told."""

PATCHES_AT_A_TIME = 128
"""Where nothing is learned."""

STARTS: dict[str, dict[str, Any]] = {
    "compressor": {"threshold_db": -30.0, "ratio": 1.5, "attack_ms": 10.0, "release_ms": 200.0, "makeup_db": 0.0},
    "convolution": {"decay": 0.7, "wet": 0.1, "dry": 0.9},
}
"""What an untrained full strip is near: it does little, but enough to learn from. All else starts at its default; the
papers say nothing."""

START_MARGIN = 0.05
"""How far from the ends of its range a control starts at least: beyond, tanh has hardly a slope."""


class Songs(NamedTuple):
    """A batch of songs, filled up with stems that are not there; n is of all, and so is the number of patches.

    A song's mono stems have both channels alike where the batch has stereo ones.
    """

    stems: Tensor
    """(songs, stems, 1 or 2, n)"""
    stereo: Tensor
    """(songs, stems), which are stereo"""
    present: Tensor
    """(songs, stems), which are there"""
    patches: Tensor
    """(songs, stems, patches, 96, 64), log-mel as of `patches_of`"""
    levels_db: Tensor
    """(songs, stems), how loud stems were recorded, against their song's mean power"""
    target: Tensor
    """(songs, 2, n), the mix to learn from; anything where there is none"""


@dataclass(frozen=True)
class Spec:
    """What a model is, as plain data.

    kind: `basic` sets fader and pan, `full` the papers' whole channel. encoder: `vggish`, or `small`, ours. levels: one
    of `LEVELS`.
    """

    kind: str = "basic"
    encoder: str = "small"
    width: int = WIDTH
    dropout: float = DROPOUT
    levels: str = "told"

    def __post_init__(self) -> None:
        for name, known in (("kind", STRIPS), ("encoder", ENCODERS), ("levels", LEVELS)):
            value = getattr(self, name)
            if not isinstance(value, str) or value not in known:
                raise ParameterError(f"{name} is {shown(value)}; give {nearest(str(value), known)}")
        if not isinstance(self.width, int) or isinstance(self.width, bool) or not 1 <= self.width <= WIDEST:
            raise ParameterError(f"width is {shown(self.width)}; give a whole number, 1 to {WIDEST}")
        if not isinstance(self.dropout, float) or not 0.0 <= self.dropout < 1.0:
            raise ParameterError(f"dropout is {shown(self.dropout)}; give 0 to less than 1")

    def plain(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, found: Any, where: str) -> Spec:
        """A spec from what a file holds."""
        names = [field.name for field in fields(cls)]
        if not isinstance(found, dict) or set(found) != set(names):
            raise ParameterError(f"{where} does not hold {', '.join(names)}; give a mixing model")
        try:
            return cls(**found)
        except ParameterError as error:
            raise ParameterError(f"{where}.{error}") from None


def patches_of(x: np.ndarray, rate: float) -> Tensor:
    """Log-mel patches (patches, 96, 64) of audio (channels, n) at any rate: the channels' mean, at least one patch.

    What is left over at the end, less than 0.96 s, is left out.
    """
    mono = np.asarray(x, np.float32).mean(axis=0)
    if rate != RATE_HZ:
        import soxr

        mono = soxr.resample(mono, rate, RATE_HZ, "HQ")
    shortest = PATCH + WINDOW - HOP
    mono = np.pad(mono, (0, max(0, shortest - len(mono))))
    count = (len(mono) - shortest) // PATCH + 1
    mel = log_mel(torch.from_numpy(np.ascontiguousarray(mono)))
    return mel[: count * FRAMES].reshape(count, FRAMES, BANDS)


class SmallEncoder(nn.Module):
    """Log-mel patches (b, 96, 64) to embeddings (b, 128), with half a million parameters.

    Normalised over groups of channels, so that a patch is heard alike whatever else is in the batch.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 1
        for wider in SMALL_CHANNELS:
            layers += [nn.Conv2d(width, wider, 3, stride=2, padding=1), nn.GroupNorm(8, wider), nn.ReLU()]
            width = wider
        self.features = nn.Sequential(*layers)
        parts = 2 ** len(SMALL_CHANNELS)
        self.embeddings = nn.Linear(width * (FRAMES // parts) * (BANDS // parts), EMBEDDING)

    def forward(self, patches: Tensor) -> Tensor:
        return self.embeddings(self.features((patches[:, None] - MEL_MEAN) / MEL_SPREAD).flatten(1))


ENCODERS: dict[str, type[nn.Module]] = {"small": SmallEncoder, "vggish": VGGish}


class Controller(nn.Module):
    """What listens to all stems and sets the controls of each; the same for every stem, however many there are."""

    def __init__(
        self, controls: int, encoder: str = "small", width: int = WIDTH, dropout: float = DROPOUT, told: bool = False
    ) -> None:
        super().__init__()
        self.encoder = ENCODERS[encoder]()
        self.told = told
        layers: list[nn.Module] = []
        inputs = 2 * EMBEDDING + told
        for _ in range(HIDDEN_LAYERS):
            layers += [nn.Linear(inputs, width), nn.PReLU(), nn.Dropout(dropout)]
            inputs = width
        self.post_processor = nn.Sequential(*layers, nn.Linear(inputs, controls))

    def embed(self, patches: Tensor) -> Tensor:
        """Mean embeddings (stems, 128) of patches (stems, patches, 96, 64)."""
        flat = patches.flatten(0, 1)
        if torch.is_grad_enabled():
            return self.encoder(flat).unflatten(0, patches.shape[:2]).mean(dim=1)
        parts = [self.encoder(part) for part in flat.split(PATCHES_AT_A_TIME)]
        return torch.cat(parts).unflatten(0, patches.shape[:2]).mean(dim=1)

    def decide(self, embeddings: Tensor, present: Tensor, levels_db: Tensor) -> Tensor:
        """Controls (songs, stems, controls) in 0 to 1, from embeddings (songs, stems, 128) and their levels."""
        there = present[..., None].to(embeddings)
        context = (embeddings * there).sum(dim=1, keepdim=True) / there.sum(dim=1, keepdim=True).clamp(min=1.0)
        heard = [embeddings, context.expand_as(embeddings)]
        if self.told:
            heard.append((levels_db / LEVEL_SCALE_DB).clamp(-MOST_SCALED, MOST_SCALED)[..., None].to(embeddings))
        heard = torch.cat(heard, dim=-1)
        return 0.5 + 0.5 * torch.tanh(self.post_processor(heard))

    def forward(self, patches: Tensor, present: Tensor, levels_db: Tensor) -> Tensor:
        """Controls (songs, stems, controls) in 0 to 1, from patches (songs, stems, patches, 96, 64) and levels."""
        found = self.embed(patches[present])
        embeddings = found.new_zeros(*present.shape, EMBEDDING)
        return self.decide(embeddings.index_put((present,), found), present, levels_db)


class MixingConsole(nn.Module):
    """A controller, and the console that it sets: songs to their mixes (songs, 2, n).

    A stereo stem is one strip, panned by balance: two strips that sound almost alike would get the same pan, and the
    stem would lose its width.
    """

    def __init__(self, spec: Spec, rate: float, channel: Channel | None = None) -> None:
        """`channel` plays equaliser, compressor and reverb instead of the console; it is no part of the model."""
        super().__init__()
        self.spec, self.rate = spec, rate
        self._channel = (channel,)
        self.strip = STRIPS[spec.kind]
        self.controller = Controller(
            len(self.strip.labels()), spec.encoder, spec.width, spec.dropout, spec.levels == "told"
        )
        with torch.no_grad():
            last = self.controller.post_processor[-1]
            last.bias.copy_(torch.atanh(2.0 * _starts(self.strip, rate) - 1.0))

    def plain(self) -> dict[str, Any]:
        """What it is, for a checkpoint's record."""
        return self.spec.plain()

    def forward(self, songs: Songs) -> Tensor:
        return self.mixed(songs, self.controller(songs.patches, songs.present, songs.levels_db))

    def mixed(self, songs: Songs, units: Tensor) -> Tensor:
        """The mixes (songs, 2, n) that controls (songs, stems, controls) in 0 to 1 make."""
        if self.spec.kind == "basic":
            return self._balanced(songs, units)
        channel = self._channel[0]
        if isinstance(channel, nn.Module):
            channel.to(songs.stems.device)
        mix = songs.stems.new_zeros(len(songs.stems), 2, songs.stems.shape[-1])
        number = torch.arange(len(mix), device=mix.device)[:, None].expand_as(songs.present)
        for chosen, channels in ((~songs.stereo, 1), (songs.stereo, 2)):
            chosen = chosen & songs.present
            if bool(chosen.any()):
                stems = songs.stems[chosen][:, :channels]
                strips = processed(self.strip, stems, self.rate, units[chosen], channel)
                mix = mix.index_add(0, number[chosen], strips)
        return mix

    def _balanced(self, songs: Songs, units: Tensor) -> Tensor:
        (_, fader), (_, panned) = preset_controls(self.strip, units, self.rate)[0]
        pan, law = panned["pan"], EFFECTS["pan"]["law"].default
        sides = torch.where(songs.stereo[..., None], balance_gains(pan, law), pan_gains(pan, law))
        gains = (10.0 ** (fader["gain_db"] / 20.0))[..., None] * sides * songs.present[..., None]
        gains = gains.to(songs.stems)
        sources = songs.stems.expand(-1, -1, 2, -1)
        return torch.stack([torch.einsum("st,stn->sn", gains[..., side], sources[:, :, side]) for side in (0, 1)], 1)

    def settings(self, units: np.ndarray) -> Settings:
        """What a stem's controls (controls,) in 0 to 1 are on the console."""
        return self.strip.from_vector(units, self.rate)


Channel = Callable[[Tensor, Tensor], Tensor]
"""A network that plays the shuffled part of a strip: sounds (b, 1 or 2, n) and its units (b, controls) to (b, 2, n)."""


def processed(strip: Strip, x: Tensor, rate: float, units: Tensor, channel: Channel | None = None) -> Tensor:
    """Stems (stems, 1 or 2, n) through their strips, (stems, 2, n), set by units (stems, controls) in 0 to 1.

    What is heard is what `Strip.from_vector` would set: one room, and a polarity. Gradients of the room are those of
    the rooms' mean by their units, those of the polarity are of a gain that goes from 1 to -1, and those of the
    response's length are of where it fades out.
    """
    columns = dict(zip(strip.labels(), units.unbind(-1), strict=True))
    numbers = [replace(slot, choices={}, probabilities={}) for slot in strip.slots]
    plain = Strip(after=tuple(numbers))
    kept = [columns[label] for label in plain.labels()]
    effects = []
    sign: Tensor | float = 1.0
    for (effect, controls), slot in zip(
        preset_controls(plain, torch.stack(kept, -1), rate)[0], strip.slots, strict=True
    ):
        if "invert" in slot.probabilities:
            turned = columns[f"{effect}.invert"]
            sign = _heard(1.0 - 2.0 * turned, torch.where(turned >= 0.5, -1.0, 1.0))[:, None, None]
        if "ir" in slot.choices:
            rooms = slot.choices["ir"]
            shares = torch.stack([columns[f"{effect}.ir={room}"] for room in rooms], dim=-1)
            controls = {**controls, "ir": _response(rooms, shares.to(x), controls.pop("decay").to(x), rate)}
        effects.append((effect, controls))
    if channel is None:
        return sign * chain(x, rate, effects)
    first, last = len(strip.before), len(strip.before) + len(strip.shuffled)
    played = [columns[label] for label in Strip(shuffled=strip.shuffled).labels()]
    x = channel(chain(x, rate, effects[:first]), torch.stack(played, dim=-1))
    return sign * chain(x, rate, effects[last:])


def _heard(learned: Tensor, heard: Tensor) -> Tensor:
    """The second, with the gradient of the first."""
    return heard + (learned - learned.detach())


def _response(rooms: tuple[str, ...], units: Tensor, decay: Tensor, rate: float) -> Tensor:
    """Every stem's impulse response (stems, 2, taps), of the room with the largest of units (stems, rooms)."""
    bank = _bank(rooms, round(rate))
    lengths = [room_response(room, round(rate)).shape[1] for room in rooms]
    chosen = units.argmax(dim=-1)
    shares = units / units.sum(dim=-1, keepdim=True).clamp(min=1e-6)
    one = torch.nn.functional.one_hot(chosen, len(rooms)).to(units)
    responses = torch.einsum("sr,rct->sct", _heard(shares, one), bank.to(units))
    taps = torch.tensor([lengths[k] for k in chosen.tolist()]).to(decay)
    end = decay * taps
    time = torch.arange(responses.shape[-1], device=decay.device).to(decay)
    fading = ((end[:, None] - time) / (FADE * end[:, None])).clamp(0.0, 1.0)
    windows = [torch.from_numpy(kept_window(int(n), float(part))) for n, part in zip(taps, decay.detach(), strict=True)]
    exact = torch.stack([pad(window, (0, responses.shape[-1] - len(window))) for window in windows]).to(decay)
    return responses * _heard(fading, exact)[:, None]


@lru_cache(maxsize=4)
def _bank(rooms: tuple[str, ...], rate: int) -> Tensor:
    """The rooms' responses, (rooms, 2, taps of the longest)."""
    # What is made while mixing could not be learned with later.
    with torch.inference_mode(False):
        responses = [torch.from_numpy(room_response(room, rate)).float() for room in rooms]
        longest = max(response.shape[-1] for response in responses)
        return torch.stack([pad(response, (0, longest - response.shape[-1])) for response in responses])


def _starts(strip: Strip, rate: float) -> Tensor:
    """The units (controls,) of a strip that does little."""
    inserts = [Insert(slot.effect, _start(slot)) for slot in strip.slots]
    units = torch.from_numpy(strip.to_vector(Settings(inserts), rate))
    return units.clamp(START_MARGIN, 1.0 - START_MARGIN).float()


def _start(slot: Slot) -> dict[str, Any]:
    rooms = {name: options[0] for name, options in slot.choices.items()}
    return {**EFFECTS[slot.effect].defaults, **slot.held, **rooms, **STARTS.get(slot.effect, {})}


def balanced_loudness(x: Tensor, rate: float, like: Tensor) -> Tensor:
    """Mixes (songs, 2, n) as loud as others: the same K-weighted power, without gates, with gradients."""
    power, wanted = _power(x, rate), _power(like, rate)
    return x * torch.sqrt(wanted / power.clamp(min=1e-12))[:, None, None]


def _power(x: Tensor, rate: float) -> Tensor:
    size = 1 << max(1, math.ceil(math.log2(x.shape[-1])))
    weights = torch.from_numpy(_weights(size, rate)).to(x)
    return (torch.fft.rfft(x, size).abs().square() * weights).sum(dim=(-2, -1)) / (size * x.shape[-1])


@lru_cache(maxsize=4)
def _weights(size: int, rate: float) -> np.ndarray:
    """The power that K-weighting gives every bin, twice but for the first and the last."""
    from mixtools.measure.loudness import k_power

    doubled = np.full(size // 2 + 1, 2.0)
    doubled[[0, -1]] = 1.0
    return k_power(np.arange(size // 2 + 1) * (rate / size), rate) * doubled


def start_from_basic(net: MixingConsole, state: Mapping[str, Tensor], where: str) -> None:
    """Let a full model begin with what a basic one of its size has learned: to listen, and to set fader and pan.

    Raises a `ParameterError` where the weights do not fit.
    """
    spec = replace(net.spec, kind="basic")
    with torch.device("meta"):
        basic = MixingConsole(spec, net.rate)
    refuse_misfit(basic.state_dict(), state, where, f"give a model with the encoder {spec.encoder}, {spec.width} wide")
    last = f"controller.post_processor.{len(net.controller.post_processor) - 1}."
    own = dict(net.state_dict())
    common = len(STRIPS["basic"].labels())
    for name, tensor in state.items():
        # Fader and pan stand last in both strips.
        own[name] = torch.cat([own[name][:-common], tensor.to(own[name])]) if name.startswith(last) else tensor
    net.load_state_dict(own)


def start_from_vggish(net: MixingConsole, state: Mapping[str, Tensor], where: str) -> None:
    """Let a model's encoder begin with VGGish's published weights; raises a `ParameterError` where they do not fit."""
    if net.spec.encoder != "vggish":
        raise ParameterError(
            f"{where}: the encoder is {net.spec.encoder}; give the encoder vggish to begin with VGGish"
        )
    net.controller.encoder.load_state_dict(VGGish.load(dict(state), where).state_dict())
