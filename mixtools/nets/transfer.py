"""A controller that mixes stems like a record: Diff-MST (Vanka et al. 2024), and one that foresees what it does.

The paper's controller answers from spectrograms alone. Ours also knows how the stems' bands add up, so that it can hear
what its own controls would come to, compare that with the record in the terms of the audio-feature loss, and correct
itself, some rounds in a row, before anything is rendered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from mixtools.controls import EFFECTS, shown
from mixtools.diff.console import chain, preset_controls
from mixtools.errors import ParameterError, nearest
from mixtools.measure.audio_features import EPSILON, GUARD
from mixtools.measure.catalogue import BARK_BANDS
from mixtools.mix import Insert
from mixtools.nets.foresight import (
    BANDS,
    CONSOLES,
    FINE,
    LEAST,
    LEVELS,
    Controls,
    Heard,
    Record,
    _apart,
    _collecting,
    _widths,
    foresee,
)
from mixtools.presets import Preset, Settings, Slot, Strip

HEARS = {
    "spectra": "Spectrograms of stems and record, as the paper's.",
    "foreseen": "These, and what the controls would come to, from how the stems' bands add up.",
}

MOST_WIDTH, MOST_LAYERS, MOST_ROUNDS = 1024, 16, 16

CHANNELS = 96, 128

STARTS: dict[str, dict[str, Any]] = {
    "compressor": {"threshold_db": -18.0, "ratio": 1.3, "attack_ms": 15.0, "release_ms": 150.0, "makeup_db": 0.0},
    "limiter": {"ceiling_db": -2.0},
}
"""What an untrained strip is near, where that is not its default: it does little, but enough to learn from."""

MASTER_STARTS = {**STARTS, "compressor": {**STARTS["compressor"], "makeup_db": -8.0}}
"""The sum of many stems comes to the limiter with room above it."""

START_SEND_DB = -36.0

START_MARGIN = 0.05

START_ASIDE = 0.4
"""How far from the centre untrained stems stand: exactly there, no pan has a slope."""

LEVEL_SCALE_DB, MOST_SCALED = 10.0, 3.0

MOST_APART = 4.0
"""Of the natural logarithms of two bands, as far as the network is told."""


@dataclass(frozen=True)
class Spec:
    """What a model is, as plain data. console: one of `CONSOLES`; hears: one of `HEARS`; rounds: of correction."""

    console: str = "transfer"
    hears: str = "foreseen"
    width: int = 192
    layers: int = 3
    rounds: int = 3

    def __post_init__(self) -> None:
        for name, known in (("console", CONSOLES), ("hears", HEARS)):
            value = getattr(self, name)
            if not isinstance(value, str) or value not in known:
                raise ParameterError(f"{name} is {shown(value)}; give {nearest(str(value), known)}")
        for name, most in (("width", MOST_WIDTH), ("layers", MOST_LAYERS), ("rounds", MOST_ROUNDS)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
                raise ParameterError(f"{name} is {shown(value)}; give a whole number, 1 to {most}")
        if self.width % 32:
            raise ParameterError(f"width is {self.width}; give a multiple of 32")
        if self.hears == "spectra" and self.rounds != 1:
            raise ParameterError(f"rounds is {self.rounds}; give 1 where nothing is foreseen")

    def plain(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, found: Any, where: str) -> Spec:
        """A spec from what a file holds."""
        names = [field.name for field in fields(cls)]
        if not isinstance(found, dict) or set(found) != set(names):
            raise ParameterError(f"{where} does not hold {', '.join(names)}; give a transfer model")
        try:
            return cls(**found)
        except ParameterError as error:
            raise ParameterError(f"{where}.{error}") from None


def _normal(bark: Tensor) -> Tensor:
    """Bark bands for a network: ln against the largest, about -1 to 1."""
    largest = bark.amax(dim=(-2, -1), keepdim=True).clamp(min=EPSILON)
    return 1.0 + torch.log((bark / largest).clamp(min=GUARD)) / 4.6


class SpectrogramEncoder(nn.Module):
    """Spectrograms (b, frames, 64) to embeddings (b, width); one for stems and records."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = BANDS
        for wider in CHANNELS:
            layers += [nn.Conv1d(inputs, wider, 5, stride=2, padding=2), nn.GroupNorm(8, wider), nn.ReLU()]
            inputs = wider
        self.features = nn.Sequential(*layers)
        self.embeddings = nn.Linear(2 * inputs, width)

    def forward(self, x: Tensor) -> Tensor:
        found = self.features(0.5 * x.transpose(1, 2))
        return self.embeddings(torch.cat([found.mean(dim=-1), found.amax(dim=-1)], dim=-1))


class _Layer(nn.Module):
    """Attention among the tokens that are there, and a step of each on its own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // 32
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.asked = nn.Linear(width, 3 * width)
        self.answered = nn.Linear(width, width)
        self.step = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        asked = self.asked(self.before(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        found = nn.functional.scaled_dot_product_attention(*asked.unbind(0), attn_mask=present[:, None, None])
        x = x + self.answered(found.transpose(1, 2).flatten(2))
        return x + self.step(self.between(x))


TRACK, MIDDLE, SIDE, MASTER = range(4)

_RECORD_NUMBERS = 2 * BARK_BANDS + 4

_MIX_NUMBERS = 2 * BARK_BANDS + 7

_STEM_NUMBERS = 2 * BARK_BANDS + LEVELS + 3

_SHARE_NUMBERS = BARK_BANDS + 2


class TransferController(nn.Module):
    """What sets a console so that its mix is like a record; the same for every stem, however many there are.

    A stereo stem is one strip, panned by balance. Which side a stem goes to is not learned: from the lowest to the
    highest, they take turns, and the network says how far each goes, or that it crosses over.
    """

    def __init__(self, spec: Spec, rate: float) -> None:
        super().__init__()
        self.spec, self.rate = spec, rate
        self.console = CONSOLES[spec.console]
        width = spec.width
        self.encoder = SpectrogramEncoder(width)
        self.types = nn.Parameter(torch.empty(4, width))
        # On its meta device torch imports its compiler for this, which takes two seconds.
        if not self.types.is_meta:
            nn.init.normal_(self.types, std=0.02)
        self.of_told = nn.Linear(1, width)
        track, master = self.console.track.labels(), self.console.master.labels()
        self._pan, self._fader = track.index("pan.pan"), track.index("gain.gain_db")
        if spec.hears == "foreseen":
            self.of_record = nn.Linear(_RECORD_NUMBERS, width)
            self.of_stem = nn.Linear(_STEM_NUMBERS, width)
            self.of_mix = nn.Linear(_MIX_NUMBERS + len(master), width)
            self.of_share = nn.Linear(_SHARE_NUMBERS + len(track), width)
        self.layers = nn.ModuleList(_Layer(width) for _ in range(spec.layers))
        self.last = nn.LayerNorm(width)
        self.track_head, self.master_head = (
            nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, len(labels)))
            for labels in (track, master)
        )
        for head in (self.track_head, self.master_head):
            nn.init.zeros_(head[-1].bias)
            with torch.no_grad():
                head[-1].weight.mul_(0.1)
        self.register_buffer("track_start", self._started(self.console.track, STARTS), persistent=False)
        self.register_buffer("master_start", self._started(self.console.master, MASTER_STARTS), persistent=False)

    def _started(self, strip: Strip, starts: Mapping[str, Mapping[str, Any]]) -> Tensor:
        inserts = [
            Insert(slot.effect, {**EFFECTS[slot.effect].defaults, **slot.held, **_within(slot, self.rate, starts)})
            for slot in strip.slots
        ]
        sends = {bus: min(max(START_SEND_DB, low), high) for bus, (low, high) in strip.sends.items()}
        units = torch.from_numpy(strip.to_vector(Settings(inserts, sends), self.rate))
        start = torch.atanh(2.0 * units.clamp(START_MARGIN, 1.0 - START_MARGIN) - 1.0).float()
        if "pan.pan" in strip.labels():
            start[strip.labels().index("pan.pan")] = START_ASIDE
        return start

    def plain(self) -> dict[str, Any]:
        """What it is, for a checkpoint's record."""
        return self.spec.plain()

    def forward(self, heard: Heard, record: Record) -> list[Controls]:
        """The controls after every round; the last are the answer."""
        stems, middle_and_side = self._listened(heard, record)
        sides = sides_of(heard)
        track = self.track_start.expand(*heard.present.shape, -1)
        master = self.master_start.expand(len(track), -1)
        rounds: list[Controls] = []
        present = torch.cat([heard.present, heard.present.new_ones(len(track), 3)], dim=1)
        for _ in range(self.spec.rounds):
            tokens, whole = stems, self.types[MASTER].expand(len(track), -1)
            if self.spec.hears == "foreseen":
                before = rounds[-1] if rounds else self._units(track, master, sides)
                mix, shares = self._compared(heard, record, sides, before)
                tokens = tokens + self.of_share(torch.cat([shares, torch.tanh(track)], dim=-1))
                whole = whole + self.of_mix(torch.cat([mix, torch.tanh(master)], dim=-1))
            x = torch.cat([tokens, middle_and_side, whole[:, None]], dim=1)
            for layer in self.layers:
                x = layer(x, present)
            x = self.last(x)
            track = self._levelled(track + self.track_head(x[:, :-3]), heard.present)
            master = master + self.master_head(x[:, -1])
            rounds.append(self._units(track, master, sides))
        return rounds

    def _listened(self, heard: Heard, record: Record) -> tuple[Tensor, Tensor]:
        """Tokens of the stems and of the record, as far as they stay the same in all rounds."""
        found = self.encoder(heard.spectrograms[heard.present])
        stems = found.new_zeros(*heard.present.shape, self.spec.width).index_put((heard.present,), found)
        told = (heard.told_db / LEVEL_SCALE_DB).clamp(-MOST_SCALED, MOST_SCALED)
        stems = stems + self.types[TRACK] + self.of_told(told[..., None])
        both = self.encoder(record.spectrograms.flatten(0, 1)).unflatten(0, (-1, 2))
        both = both + self.types[MIDDLE : SIDE + 1]
        if self.spec.hears == "foreseen":
            stems = stems + self.of_stem(self._stem_numbers(heard))
            numbers = [_normal(record.bark).flatten(1), (record.crest_db - 14.0) / 6.0]
            numbers += [torch.log(record.width.clamp(1e-4, 10.0))[:, None] / 3.0, 5.0 * record.imbalance[:, None]]
            both = both + self.of_record(torch.cat(numbers, dim=-1))[:, None]
        return stems, both

    def _stem_numbers(self, heard: Heard) -> Tensor:
        own = heard.powers.diagonal(dim1=-2, dim2=-1).permute(0, 3, 1, 2)
        collecting = torch.from_numpy(_collecting(self.rate)).to(own)
        middle = (own[:, :, 0] + own[:, :, 1] + 2.0 * own[:, :, 2]).clamp(min=0.0)
        side = (own[:, :, 0] + own[:, :, 1] - 2.0 * own[:, :, 2]).clamp(min=0.0)
        bands = torch.stack([middle.sqrt() @ collecting.T, side.sqrt() @ collecting.T], dim=-2)
        of_left, of_right, middle, side = (
            (x * _widths(own)).sum(dim=-1) for x in (own[:, :, 0], own[:, :, 1], middle, side)
        )
        tilt = (of_right - of_left) / (of_left + of_right).clamp(min=LEAST)
        width = side / middle.clamp(min=LEAST)
        more = torch.stack([heard.stereo.to(own), tilt, torch.log(width.clamp(1e-4, 10.0)) / 3.0], dim=-1)
        return torch.cat([_normal(bands).flatten(2), heard.levels / 20.0 + 1.5, more], dim=-1)

    def _levelled(self, track: Tensor, present: Tensor) -> Tensor:
        """With faders whose mean stays where it starts: how loud all of them are is the master's."""
        faders = track[..., self._fader]
        mean = (faders * present).sum(dim=1, keepdim=True) / present.sum(dim=1, keepdim=True).clamp(min=1)
        levelled = track.clone()
        levelled[..., self._fader] = faders - mean + self.track_start[self._fader]
        return levelled

    def _units(self, track: Tensor, master: Tensor, sides: Tensor) -> Controls:
        turned = torch.ones_like(track)
        turned[..., self._pan] = sides
        return Controls(0.5 + 0.5 * torch.tanh(track * turned), 0.5 + 0.5 * torch.tanh(master))

    def _compared(self, heard: Heard, record: Record, sides: Tensor, controls: Controls) -> tuple[Tensor, Tensor]:
        """What the mix would come to beside the record, (songs, ...), and what each stem has to do with it."""
        mix = foresee(heard, self.console, controls, self.rate)
        apart = _apart(mix.bark, record.bark).clamp(-MOST_APART, MOST_APART)
        askew = mix.imbalance - record.imbalance
        numbers = [
            apart.flatten(1),
            torch.log(mix.width.clamp(1e-4, 10.0) / record.width.clamp(1e-4, 10.0))[:, None],
            (mix.width - record.width).clamp(-1.0, 1.0)[:, None],
            5.0 * askew[:, None],
            0.5 * torch.log(mix.power.clamp(min=1e-9))[:, None] + 1.0,
            (heard.sum_crest_db - 14.0) / 6.0,
            ((mix.crest_db - record.crest_db.mean(dim=-1)) / 6.0).clamp(-2.0, 2.0)[:, None],
        ]
        shares = 1.0 + torch.log(mix.shares.clamp(min=1e-3)) / 3.0
        weighed = (mix.shares * apart[:, :1]).sum(dim=-1, keepdim=True)
        return torch.cat(numbers, dim=-1), torch.cat(
            [shares, weighed, 5.0 * (askew[:, None] * sides)[..., None]], dim=-1
        )


def _within(slot: Slot, rate: float, starts: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Where the varied numbers of a slot start: in their ranges, equaliser bands in the middle of theirs."""
    found = {}
    for control in slot.varied:
        low, high = slot.span(control.name, rate)
        value = starts.get(slot.effect, {}).get(control.name, control.default)
        if control.name.endswith(("_freq_hz", "_q")):
            value = math.sqrt(low * high)
        found[control.name] = min(max(value, low), high)
    return found


def sides_of(heard: Heard) -> Tensor:
    """-1 or 1 for every stem (songs, stems): from the lowest to the highest in pitch they take turns."""
    own = heard.powers[:, :2].diagonal(dim1=-2, dim2=-1).sum(dim=1).clamp(min=0.0).sqrt()
    place = torch.arange(FINE, device=own.device).to(own)[None, :, None]
    pitch = (own * place).sum(dim=1) / own.sum(dim=1).clamp(min=1e-9)
    rank = torch.argsort(torch.argsort(pitch.masked_fill(~heard.present, math.inf), dim=1, stable=True), dim=1)
    return torch.where(rank % 2 == 0, -1.0, 1.0).to(own)


def rendered(console: Preset, stems: Tensor, heard: Heard, controls: Controls, rate: float) -> Tensor:
    """The mixes (songs, 2, n) that controls make of stems (songs, stems, 2, n), the mono ones twice, differentiable."""
    mix = stems.new_zeros(len(stems), 2, stems.shape[-1])
    sent = {bus: mix for bus in console.track.sends}
    number = torch.arange(len(mix), device=mix.device)[:, None].expand_as(heard.present)
    for chosen, channels in ((heard.present & ~heard.stereo, 1), (heard.present & heard.stereo, 2)):
        if not bool(chosen.any()):
            continue
        effects, sends = preset_controls(console.track, controls.tracks[chosen], rate)
        y = chain(stems[chosen][:, :channels], rate, effects)
        mix = mix.index_add(0, number[chosen], y)
        for bus, level_db in sends.items():
            level = (10.0 ** (level_db / 20.0)).to(y)[:, None, None]
            sent[bus] = sent[bus].index_add(0, number[chosen], y * level)
    for bus, strip in console.buses.items():
        effects, _ = preset_controls(strip, mix.new_zeros(len(mix), len(strip.labels())), rate)
        mix = mix + chain(sent[bus], rate, effects)
    effects, _ = preset_controls(console.master, controls.master, rate)
    return chain(mix, rate, effects)
