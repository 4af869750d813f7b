"""The whole console, differentiable: chains, mixes with sends and buses, and the papers' presets from unit vectors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.nn.functional import pad

from mixtools.controls import EFFECTS, ROOMS, SEND, Control, Curve
from mixtools.diff import TWINS
from mixtools.diff.effect import curve_points
from mixtools.dsp import PROCESSORS
from mixtools.dsp.compiled import GRID
from mixtools.dsp.graphic_eq import fir_length
from mixtools.dsp.interpolation import interpolation
from mixtools.dsp.rooms import room_response
from mixtools.errors import ParameterError
from mixtools.mix import MASTER, Insert, Mix, Track
from mixtools.presets import Preset, Slot, Strip

Effects = Sequence[tuple[str, Mapping[str, Any]]]
"""A chain: effects by name with their controls, which are what the twins take."""


def chain(x: torch.Tensor, rate: float, effects: Effects) -> torch.Tensor:
    """Effects in series on strips (..., channels, n), mono or stereo."""
    room = _room([effects], rate)
    n = x.shape[-1]
    widened = [
        (effect, {name: _widened(value, EFFECTS[effect][name], x, rate, room) for name, value in controls.items()})
        for effect, controls in effects
    ]
    return _cropped(_through(_surrounded(x, room, room), rate, widened), room, n)


def _through(x: torch.Tensor, rate: float, effects: Effects) -> torch.Tensor:
    for effect, controls in effects:
        if effect not in TWINS:
            raise ParameterError(f"{effect} has no differentiable twin; leave it out")
        x = TWINS[effect](x, rate, **controls)
    return x


def _room(chains: Iterable[Effects], rate: float) -> int:
    """Samples before the start and after the end that strips one behind the other can reach into.

    What an effect makes of them would be cut off by its twin, and missed by the next effect that looks ahead or rings.
    """
    ahead = sum(_ahead(effect, controls, rate) for effects in chains for effect, controls in effects)
    return -(-ahead // GRID) * GRID


def _ahead(effect: str, controls: Mapping[str, Any], rate: float) -> int:
    """How many samples of what is still to come an effect's output depends on."""
    if effect == "graphic_eq":
        return fir_length(rate) // 2
    if effect == "compressor":
        return round(float(torch.as_tensor(controls.get("lookahead_ms", 0.0)).max()) * rate / 1000)
    return PROCESSORS[effect](rate, 1).latency if effect in ("saturation", "limiter") else 0


def _widened(value: Any, control: Control, x: torch.Tensor, rate: float, room: int) -> Any:
    """A control that moves, held before the start and after the end."""
    if isinstance(value, Curve):
        value = curve_points(value, control, x.shape[-1], rate)
    elif not isinstance(value, torch.Tensor) or value.ndim <= x.ndim - 2:
        return value
    return _held(value, room)


def _held(points: torch.Tensor, room: int) -> torch.Tensor:
    """Values on the control grid (..., points) with their first and last repeated over so many more samples."""
    if not room or points.shape[-1] == 1:
        return points
    more = (*points.shape[:-1], room // GRID)
    return torch.cat([points[..., :1].expand(more), points, points[..., -1:].expand(more)], dim=-1)


def _surrounded(x: torch.Tensor, before: int, after: int) -> torch.Tensor:
    """Silence before and after; less than none cuts off."""
    return pad(x, (before, after)) if before or after else x


def _cropped(x: torch.Tensor, room: int, n: int) -> torch.Tensor:
    return x[..., room : room + n]


def controls_of(mix: Mix) -> dict[str, torch.Tensor]:
    """Every steady number of a mix by its path in the document, `tracks[0].chain[1].compressor.ratio`, float64.

    These are what `render` takes as `values` to be learned; a control that moves stays as the mix has it.
    """
    found = {}
    for where, insert in mix.inserts():
        for control in EFFECTS[insert.effect].controls:
            value = insert.settings[control.name]
            if control.kind == "number" and not isinstance(value, Curve):
                found[f"{where}.{control.name}"] = torch.tensor(value, dtype=torch.float64)
    for where, strip in mix.strips():
        for bus, level in getattr(strip, "sends", {}).items():
            if not isinstance(level, Curve):
                found[f"{where}.sends.{bus}"] = torch.tensor(level, dtype=torch.float64)
    return found


def with_controls(mix: Mix, values: Mapping[str, torch.Tensor]) -> Mix:
    """A copy of a mix with such numbers written into it, to be saved and rendered."""
    copy = Mix.from_plain(mix.to_plain())
    for where, insert in copy.inserts():
        for name in EFFECTS[insert.effect].names:
            if f"{where}.{name}" in values:
                insert.controls[name] = float(values[f"{where}.{name}"].detach())
    for where, strip in copy.strips():
        for bus in getattr(strip, "sends", {}):
            if f"{where}.sends.{bus}" in values:
                strip.sends[bus] = float(values[f"{where}.sends.{bus}"].detach())
    return copy.check()


def render(
    mix: Mix,
    stems: Mapping[str, torch.Tensor],
    rate: float,
    values: Mapping[str, torch.Tensor] | None = None,
    frames: int | None = None,
    responses: Mapping[str, Any] | None = None,
) -> torch.Tensor:
    """A mix of stems (..., channels, n) as (..., 2, frames), as long as the longest stem unless given.

    `values` replace numbers of the mix by their paths (see `controls_of`), one for all or one per item (...).
    `responses` are the impulse responses that convolutions name, (samples, rate) or tensors at this rate. Tracks whose
    chains are alike go through them together.
    """
    return _Render(mix, stems, rate, values or {}, frames, responses or {}).render()


class _Render:
    def __init__(
        self,
        mix: Mix,
        stems: Mapping[str, torch.Tensor],
        rate: float,
        values: Mapping[str, torch.Tensor],
        frames: int | None,
        responses: Mapping[str, Any],
    ):
        missing = [track.file for track in mix.tracks if track.file not in stems]
        if missing:
            raise ParameterError(f"tracks[0].file is {missing[0]}, which is not among the stems; give it")
        self._mix = mix
        self._rate = rate
        self._values = values
        self._responses = responses
        self._stems = stems
        self._frames = frames or max(stems[track.file].shape[-1] for track in mix.tracks)
        strips = [strip.chain for _, strip in mix.strips()]
        self._room = _room([[(insert.effect, insert.settings) for insert in inserts] for inserts in strips], rate)
        self._items = torch.broadcast_shapes(*(stems[track.file].shape[:-2] for track in mix.tracks))
        self._sums: dict[str, torch.Tensor] = {}

    def render(self) -> torch.Tensor:
        heard = self._mix.heard()
        groups: dict[Any, list[tuple[str, Track, torch.Tensor]]] = {}
        for i, track in enumerate(self._mix.tracks):
            if any(track is other for other in heard):
                x = self._placed(track, f"tracks[{i}]")
                groups.setdefault((x.shape[-2], _structure(track.chain)), []).append((f"tracks[{i}]", track, x))
        for members in groups.values():
            self._process(members)
        for name in self._mix.bus_order():
            bus = self._mix.buses[name]
            if not bus.mute and name in self._sums:
                self._process([(f"buses.{name}", bus, self._sums[name])])
        total = self._sums.get(MASTER)
        if total is None:
            first = next(iter(self._stems.values()))
            return first.new_zeros(*self._items, 2, self._frames)
        y = _through(total[..., None, :, :], self._rate, self._effects([("master", self._mix.master)])).squeeze(-3)
        return _cropped(y, self._room, self._frames)

    def _process(self, members: list[tuple[str, Any, torch.Tensor]]) -> None:
        """Run strips of one structure through their chain, and add them to where they go."""
        together = torch.stack([x for _, _, x in members], dim=-3)
        y = _through(together, self._rate, self._effects([(where, strip) for where, strip, _ in members]))
        places: dict[str, list[int]] = {}
        for index, (_, strip, _) in enumerate(members):
            places.setdefault(strip.output, []).append(index)
        for target, indices in places.items():
            self._add(target, y[..., indices, :, :])
        for bus in sorted({bus for _, strip, _ in members for bus in strip.sends}):
            indices = [index for index, (_, strip, _) in enumerate(members) if bus in strip.sends]
            levels = [
                self._value(f"{members[index][0]}.sends.{bus}", members[index][1].sends[bus], SEND) for index in indices
            ]
            self._add(bus, TWINS["gain"](y[..., indices, :, :], self._rate, gain_db=self._joined(levels)))

    def _add(self, target: str, x: torch.Tensor) -> None:
        total = x.sum(dim=-3)
        total = total.expand(*total.shape[:-2], 2, total.shape[-1])
        self._sums[target] = self._sums[target] + total if target in self._sums else total

    def _effects(self, strips: Sequence[tuple[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
        """The chain that strips of one structure share, with every number of every strip, (..., strips)."""
        effects = []
        for i, insert in enumerate(strips[0][1].chain):
            controls: dict[str, Any] = {}
            for control in EFFECTS[insert.effect].controls:
                paths = [f"{where}.chain[{i}].{insert.effect}.{control.name}" for where, _ in strips]
                settings = [strip.chain[i].settings[control.name] for _, strip in strips]
                if control.kind == "number":
                    found = [self._value(*each, control) for each in zip(paths, settings, strict=True)]
                    controls[control.name] = self._joined(found)
                elif control.kind == "switch":
                    controls[control.name] = torch.tensor(settings)
                else:
                    controls[control.name] = self._responses.get(settings[0], settings[0])
            effects.append((insert.effect, controls))
        return effects

    def _value(self, path: str, value: Any, control: Control) -> torch.Tensor:
        """A number, (..., points): one point where it is steady."""
        if path not in self._values and isinstance(value, Curve):
            return curve_points(value, control, self._frames, self._rate)
        given = self._values.get(path, value)
        given = given if isinstance(given, torch.Tensor) else torch.tensor(given, dtype=torch.float64)
        return given if given.ndim > len(self._items) else given.expand(self._items)[..., None]

    def _joined(self, values: list[torch.Tensor]) -> torch.Tensor:
        """One control of several strips, (..., strips), or (..., strips, points) where any of them moves."""
        points = max(value.shape[-1] for value in values)
        together = _held(torch.stack([value.expand(*self._items, points) for value in values], dim=-2), self._room)
        return together.squeeze(-1) if points == 1 else together

    def _placed(self, track: Track, where: str) -> torch.Tensor:
        """The stem's chosen channel, moved in time, (..., channels, frames)."""
        x = self._stems[track.file]
        x = x.expand(*self._items, *x.shape[-2:])
        if track.channel != "both" and x.shape[-2] == 2:
            left, right = x[..., :1, :], x[..., 1:, :]
            parts = {"left": left, "right": right, "mid": 0.5 * (left + right), "side": 0.5 * (left - right)}
            x = parts[track.channel]
        elif track.channel not in ("both", "mid"):
            raise ParameterError(f"{where}.channel is {track.channel}, but the stem is mono; give both")
        moved, offset = _moved(x, track.offset_ms * self._rate / 1000)
        return _surrounded(_surrounded(moved, offset, self._frames - offset - moved.shape[-1]), self._room, self._room)


def _structure(inserts: Iterable[Insert]) -> tuple[Any, ...]:
    """What has to be the same for strips to be processed together: all but their numbers, and which of those move."""
    return tuple(
        (
            insert.effect,
            tuple(
                isinstance(insert.settings[c.name], Curve)
                if c.kind in ("number", "switch")
                else insert.settings[c.name]
                for c in EFFECTS[insert.effect].controls
            ),
        )
        for insert in inserts
    )


def _structural(value: Any, control: Control) -> Any:
    return isinstance(value, Curve) if control.kind in ("number", "switch") else value


def _moved(x: torch.Tensor, offset: float) -> tuple[torch.Tensor, int]:
    """A signal between samples, and by how many whole samples it still has to be moved."""
    if abs(offset - round(offset)) < 1e-6:
        return x, round(offset)
    first, taps = interpolation(offset)
    kernel = torch.from_numpy(taps).to(x).flip(0)
    padded = pad(x, (len(taps) - 1, len(taps) - 1))
    shape = padded.shape
    y = torch.nn.functional.conv1d(padded.reshape(-1, 1, shape[-1]), kernel[None, None])
    return y.reshape(*shape[:-1], -1), first


def preset_controls(strip: Strip, units: torch.Tensor, rate: float) -> tuple[Effects, dict[str, torch.Tensor]]:
    """A strip's effects in declared order, and its sends in dB, from unit vectors (..., size) as `Strip.labels` names.

    Numbers are scaled as `Strip.from_vector` does. A choice of rooms becomes the mean of their responses, weighted by
    its units, which is the room itself where one of them is 1; switches are on from 0.5, without gradients.
    """
    size = len(strip.labels())
    if units.shape[-1] != size:
        raise ParameterError(f"the control vectors have shape {tuple(units.shape)}; give (..., {size})")
    if not bool(torch.isfinite(units).all()):
        raise ParameterError("the control vectors hold NaN or infinity; give numbers from 0 to 1")
    columns = iter(units.clamp(0.0, 1.0).double().unbind(-1))
    effects = [(slot.effect, _slot_controls(slot, columns, rate)) for slot in strip.slots]
    sends = {bus: low + next(columns) * (high - low) for bus, (low, high) in strip.sends.items()}
    return effects, sends


def _slot_controls(slot: Slot, columns: Any, rate: float) -> dict[str, Any]:
    controls: dict[str, Any] = dict(slot.held)
    for control in slot.varied:
        if control.kind == "number":
            low, high = slot.span(control.name, rate)
            unit = next(columns)
            value = low * (high / low) ** unit if control.log and high > low else low + unit * (high - low)
            controls[control.name] = value.clamp(low, high)
        elif control.kind == "switch":
            controls[control.name] = next(columns) >= 0.5
        else:
            weights = torch.stack([next(columns) for _ in slot.choices[control.name]], dim=-1)
            controls[control.name] = _blended(slot.choices[control.name], weights, rate)
    return controls


def _blended(rooms: Sequence[str], weights: torch.Tensor, rate: float) -> torch.Tensor:
    """Rooms' responses added up with weights (..., rooms) that are made to sum to 1, (..., channels, taps)."""
    if not set(rooms) <= set(ROOMS):
        raise ParameterError(f"the choices {', '.join(rooms)} are no rooms; give some of {', '.join(ROOMS)}")
    responses = [torch.from_numpy(room_response(room, round(rate))) for room in rooms]
    longest = max(response.shape[-1] for response in responses)
    bank = torch.stack([pad(response, (0, longest - response.shape[-1])) for response in responses])
    shares = weights / weights.sum(dim=-1, keepdim=True).clamp(min=1e-6)
    return torch.einsum("...r,rct->...ct", shares, bank.to(shares))


def preset_console(
    preset: Preset,
    tracks: torch.Tensor,
    rate: float,
    track_units: torch.Tensor,
    master_units: torch.Tensor | None = None,
    bus_units: Mapping[str, torch.Tensor] | None = None,
    present: torch.Tensor | None = None,
) -> torch.Tensor:
    """A paper's console on tracks (..., tracks, channels, n): the mix (..., 2, n).

    `track_units` (..., tracks, size), `master_units` (..., size) and `bus_units` (..., size) by bus are in 0…1.
    `present` (..., tracks) says which tracks a song has, where songs of a batch have fewer than others.
    """
    effects, sends = preset_controls(preset.track, track_units, rate)
    below = {bus: preset.buses[bus] for bus in sends}
    units = {bus: (bus_units or {}).get(bus) for bus in sends}
    bus_effects = {
        bus: preset_controls(strip, _given(units[bus], strip, tracks), rate)[0] for bus, strip in below.items()
    }
    master_effects, _ = preset_controls(preset.master, _given(master_units, preset.master, tracks), rate)
    room = _room([effects, *bus_effects.values(), master_effects], rate)
    n = tracks.shape[-1]
    y = _through(_surrounded(tracks, room, room), rate, effects)
    if present is not None:
        y = y * present[..., None, None].to(y.dtype)
    total = _wide(y.sum(dim=-3))
    for bus, levels in sends.items():
        sent = _wide(TWINS["gain"](y, rate, gain_db=levels).sum(dim=-3))
        total = total + _wide(_through(sent, rate, bus_effects[bus]))
    return _cropped(_through(total, rate, master_effects), room, n)


def _given(units: torch.Tensor | None, strip: Strip, tracks: torch.Tensor) -> torch.Tensor:
    if units is not None:
        return units
    if strip.labels():
        raise ParameterError(f"a strip has {len(strip.labels())} controls and no vectors; give (..., size) for it")
    return tracks.new_zeros(*tracks.shape[:-3], 0)


def _wide(x: torch.Tensor) -> torch.Tensor:
    return x.expand(*x.shape[:-2], 2, x.shape[-1])
