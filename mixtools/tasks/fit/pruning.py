"""What a mix can do without: effects, sends and entries whose removal hardly raises the residual.

After S. Lee et al. 2024, "Searching for music mixing graphs: a pruning approach": candidates are removed one by one,
the least important first, as long as all removals together cost no more than was granted.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mixtools.controls import EFFECTS, Curve
from mixtools.dsp.console import Chain, Console
from mixtools.dsp.gain import Gain
from mixtools.dsp.source import ArraySource, PlacedSource
from mixtools.mix import MASTER, Bus, Insert, Mix, Track, targets
from mixtools.tasks.excerpts import Range, merged
from mixtools.tasks.fit.estimate import Estimate, Progress
from mixtools.tasks.recordings import Playing, Recording

HEARD_S, PIECE_S = 10.0, 2.0
"""Costs are measured on so much of what was fitted, in pieces of such a length."""

WARM_UP_S = 0.5
"""Before a piece, besides the length of the impulse responses: for equalisers to fill and compressors to settle."""

AFTER_S = 0.2
"""After a piece, for effects that look ahead."""

ROUND = 64
"""Samples around a stem, for what interpolates between them."""

SILENT = 1e-8
"""A stem of at most this power, relative to the loudest one, tells nothing of its gain, which stays."""

ROUNDING = 1e-12
"""Of the mix's energy: a residual below this is that of the arithmetic."""

UNHEARD = 0.01
"""Of a stem's energy: pieces that hold more of it are worth more first where this little is in those chosen yet."""

REPRESENTED = 0.1
"""A stem that is quieter by this power in the pieces than in all that was fitted is not judged by them."""

SPACES = "convolution", "reverb"
"""A bus without its space, or a wet entry without it, would be another dry path: they go as a whole."""

LINEAR = "gain", "pan", "graphic_eq", "parametric_eq", "convolution", "reverb", "delay"

Signal = list[np.ndarray]
"""A strip's audio in every piece, (1 or 2, n) each."""


@dataclass(frozen=True)
class Removal:
    """What may go from a strip (a track's index, a bus's name or the master): the effect at a place in its chain, its
    send to a bus, or all of it."""

    strip: int | str
    what: int | str | None


@dataclass
class _State:
    """Removals so far, and by how many dB tracks were raised to make up for them."""

    removals: frozenset[Removal] = frozenset()
    raised_db: dict[int, float] = field(default_factory=dict)


def pruned(
    estimate: Estimate,
    stems: Mapping[str, Recording],
    target: Recording,
    rate: int,
    ranges: list[Range],
    db: float,
    threads: int = 1,
    progress: Progress = lambda share: None,
) -> tuple[Estimate, list[str]]:
    """The estimate without what it does not need, and what was removed, in words.

    An effect, a send or a further entry of a strip goes if the energy of what is not explained of the mix over `ranges`
    then stays less than `db` dB above what it was at the start, everything that went before it included: `db` is what
    all removals cost together. The cheapest go first. A track that loses an effect keeps its level, by its gain. Turned
    polarities and offsets are no effects and stay.
    """
    return _Pruning(estimate, stems, target, rate, ranges, threads, progress).run(db)


class _Pruning:
    def __init__(
        self,
        estimate: Estimate,
        stems: Mapping[str, Recording],
        target: Recording,
        rate: int,
        ranges: list[Range],
        threads: int,
        progress: Progress,
    ):
        self.estimate, self.stems, self.target, self.rate, self.ranges = estimate, stems, target, rate, ranges
        self.threads, self._progress = threads, progress
        pieces, self.judged, self.silent = _pieces(estimate.tracks, stems, rate, ranges)
        self.rendering = _Rendering(estimate, stems, target, rate, pieces)

    def run(self, db: float) -> tuple[Estimate, list[str]]:
        state = _State()
        signals = self.rendering.tracks(self.without(state))
        granted = _granted(db, self.rendering.residual(self.without(state), signals), self.rendering.energy)

        def cost(removal: Removal) -> float:
            return self.rendering.residual(*self.tried(state, removal, signals)[1:])

        candidates = self.candidates()
        with ThreadPoolExecutor(self.threads) as pool:
            costs = []
            for done, value in enumerate(pool.map(cost, candidates), 1):
                costs.append(value)
                self._progress(0.6 * done / len(candidates))
        affordable = [place for place in np.argsort(costs, kind="stable").tolist() if costs[place] < granted]
        history = [state]
        for done, place in enumerate(affordable, 1):
            if Removal(candidates[place].strip, None) in state.removals:
                continue
            found, *rendered = self.tried(state, candidates[place], signals)
            if self.rendering.residual(*rendered) < granted:
                state, signals = found, rendered[1]
                history.append(state)
            self._progress(0.6 + 0.2 * done / len(affordable))
        state = self.confirmed(history, db)
        return self.tidy(state)

    def confirmed(self, history: list[_State], db: float) -> _State:
        """The latest state that the console confirms to cost less than granted over all that was fitted."""
        if len(history) == 1:
            return history[0]
        granted = _granted(db, *self.residual(history[0]))
        sound, latest = 0, len(history) - 1
        tested = latest
        while sound < latest:
            if self.residual(history[tested])[0] < granted:
                sound = tested
            else:
                latest = tested - 1
            tested = (sound + latest + 1) // 2
        self._progress(1.0)
        return history[sound]

    def candidates(self) -> list[Removal]:
        """All that may be removed, in the order of the mix."""
        candidates = []
        for i, track in enumerate(self.estimate.tracks):
            if track.mute or not self.judged[i]:
                continue
            further = self.estimate.whose[i] in self.estimate.whose[:i]
            if further:
                candidates.append(Removal(i, None))
            kept = (*SPACES * further, *["gain"] * bool(self.silent[i]))
            candidates += _effects(i, track.chain, kept)
            candidates += [Removal(i, bus) for bus in track.sends]
        for name, bus in self.estimate.buses.items():
            candidates += _effects(name, bus.chain, SPACES)
            candidates += [Removal(name, other) for other in bus.sends]
        return candidates + _effects(MASTER, self.estimate.master.chain, ())

    def tried(
        self, state: _State, removal: Removal, signals: dict[int, Signal]
    ) -> tuple[_State, Estimate, dict[int, Signal]]:
        """The state after one more removal, its estimate, and its tracks' signals."""
        state = _State(state.removals | {removal}, dict(state.raised_db))
        i, what = removal.strip, removal.what
        if not isinstance(i, int) or isinstance(what, str):
            return state, self.without(state), signals
        if what is None:
            return state, self.without(state), {key: signal for key, signal in signals.items() if key != i}
        track = self.without(state).tracks[i]
        changed = self.rendering.track(i, track)
        if self.estimate.tracks[i].chain[what].effect != "gain":
            raised_db = _makes_up(track, signals[i], changed)
            state.raised_db[i] = state.raised_db.get(i, 0.0) + raised_db
            changed = [np.float32(10.0 ** (raised_db / 20.0)) * piece for piece in changed]
        return state, self.without(state), signals | {i: changed}

    def without(self, state: _State) -> Estimate:
        """The estimate in a state; tracks that are gone are muted, so that all keep their places."""
        gone = state.removals

        def rest(key: int | str, strip: Track | Bus) -> dict[str, Any]:
            return {
                "chain": [insert for place, insert in enumerate(strip.chain) if Removal(key, place) not in gone],
                "sends": {bus: level for bus, level in strip.sends.items() if Removal(key, bus) not in gone},
            }

        tracks = []
        for i, track in enumerate(self.estimate.tracks):
            changed = replace(track, **rest(i, track), mute=track.mute or Removal(i, None) in gone)
            changed.chain = _raised(changed.chain, state.raised_db.get(i, 0.0))
            tracks.append(changed)
        buses = {name: replace(bus, **rest(name, bus)) for name, bus in self.estimate.buses.items()}
        inserts = enumerate(self.estimate.master.chain)
        master = [insert for place, insert in inserts if Removal(MASTER, place) not in gone]
        return replace(self.estimate, tracks=tracks, buses=buses, master=replace(self.estimate.master, chain=master))

    def tidy(self, state: _State) -> tuple[Estimate, list[str]]:
        """The estimate in a state without the entries, buses and responses that are gone, and all that is gone."""
        found = self.without(state)
        kept = [i for i in range(len(found.tracks)) if Removal(i, None) not in state.removals]
        tracks, buses = [found.tracks[i] for i in kept], found.buses
        while True:
            fed = {name for strip in (*tracks, *buses.values()) for name in targets(strip)}
            if buses.keys() <= fed:
                break
            buses = {name: bus for name, bus in buses.items() if name in fed}
        there = {*kept, *buses, MASTER}
        words = [
            self.said(removal)
            for removal in self.candidates()
            if removal in state.removals and (removal.what is None or removal.strip in there)
        ]
        words += [f"{name} (bus)" for name in found.buses if name not in buses]
        found = replace(found, tracks=tracks, whose=[found.whose[i] for i in kept], buses=buses)
        used = {insert.controls.get("ir") for _, insert in found.mix(self.rate).inserts()}
        responses = {key: response for key, response in found.responses.items() if key in used}
        return replace(found, responses=responses), words

    def said(self, removal: Removal) -> str:
        """What a removal takes away, in words."""
        strip, what = removal.strip, removal.what
        if strip == MASTER:
            return f"{MASTER}: {self.estimate.master.chain[what].effect}"
        track = self.estimate.tracks[strip] if isinstance(strip, int) else None
        where = f"{strip} (bus)" if track is None else _label(track)
        if what is None:
            return f"{where}: second entry"
        if isinstance(what, str):
            return f"{where}: send to {what}"
        return f"{where}: {(track or self.estimate.buses[strip]).chain[what].effect}"

    def residual(self, state: _State) -> tuple[float, float]:
        """The energy that the console leaves unexplained over all that was fitted, and the mix's there."""
        mix = self.without(state).mix(self.rate)
        sources = [Playing(self.stems[track.file]) for track in mix.tracks]
        responses = {key: (response, self.rate) for key, response in self.estimate.responses.items()}
        console = Console(mix, sources, self.rate, responses=responses, threads=self.threads)
        first, last = self.ranges[0][0], self.ranges[-1][1]
        energies, at = np.zeros(2), first
        for block in console.blocks(first, last):
            n = block.shape[1]
            wanted = np.broadcast_to(self.target.read(at, n), (2, n))
            for start, stop in self.ranges:
                inside = slice(min(max(start - at, 0), n), min(max(stop - at, 0), n))
                energies += [_energy(x[:, inside]) for x in (wanted - block, wanted)]
            at += n
        return tuple(energies.tolist())


class _Rendering:
    """Renders an estimate piece by piece, as the console does, and keeps what tracks are made of."""

    def __init__(
        self, estimate: Estimate, stems: Mapping[str, Recording], target: Recording, rate: int, pieces: list[Range]
    ):
        taps = max((response.shape[-1] for response in estimate.responses.values()), default=0)
        self._lead, self._rate = taps + round(WARM_UP_S * rate), rate
        self._spans = [(first - self._lead, last + round(AFTER_S * rate)) for first, last in pieces]
        self._responses = {key: (response, rate) for key, response in estimate.responses.items()}
        self._wanted = [np.broadcast_to(target.read(first, last - first), (2, last - first)) for first, last in pieces]
        self.energy = sum(_energy(wanted) for wanted in self._wanted)
        self._inputs = [self._placed(track, stems[track.file]) for track in estimate.tracks]

    def tracks(self, estimate: Estimate) -> dict[int, Signal]:
        """What leaves the chain of every track, by its place."""
        return {i: self.track(i, track) for i, track in enumerate(estimate.tracks) if not track.mute}

    def track(self, i: int, track: Track) -> Signal:
        return self._through(track.chain, self._inputs[i])

    def residual(self, estimate: Estimate, signals: Mapping[int, Signal]) -> float:
        """The energy that an estimate leaves unexplained, when its tracks are `signals`."""
        fed: list[tuple[Track | Bus, Signal]] = [(estimate.tracks[i], signal) for i, signal in signals.items()]
        for name in Mix(estimate.tracks, estimate.buses).bus_order():
            bus = estimate.buses[name]
            if not bus.mute and any(name in targets(strip) for strip, _ in fed):
                fed.append((bus, self._through(bus.chain, self._sum(name, fed))))
        energy = 0.0
        for wanted, whole in zip(
            self._wanted, self._through(estimate.master.chain, self._sum(MASTER, fed)), strict=True
        ):
            rest = wanted - whole[:, self._lead : self._lead + wanted.shape[1]]
            energy += _energy(rest)
        return energy

    def _sum(self, name: str, fed: list[tuple[Track | Bus, Signal]]) -> Signal:
        sums = [np.zeros((2, last - first), np.float32) for first, last in self._spans]
        for strip, signal in fed:
            for total, x, (first, _) in zip(sums, signal, self._spans, strict=True):
                if strip.output == name:
                    total += x
                if name in strip.sends:
                    level = Gain(self._rate, len(x), np.float32, first, gain_db=strip.sends[name])
                    total += level.process(x)
        return sums

    def _through(self, inserts: list[Insert], signal: Signal) -> Signal:
        passed = []
        for x, (first, _) in zip(signal, self._spans, strict=True):
            chain = Chain(inserts, self._rate, len(x), np.float32, start=first, responses=self._responses)
            late = np.concatenate([x, np.zeros((len(x), chain.latency), np.float32)], axis=1)
            passed.append(chain.process(late)[:, chain.latency :])
        return passed

    def _placed(self, track: Track, recording: Recording) -> Signal:
        offset = track.offset_ms * self._rate / 1000
        whole = round(offset)
        fraction = offset - whole if abs(offset - whole) > 1e-6 else 0
        placed = []
        for first, last in self._spans:
            source = ArraySource(recording.read(first - whole - ROUND, last - first + 2 * ROUND))
            placed.append(PlacedSource(source, track.channel, fraction - ROUND, np.float32).read(last - first))
        return placed


def _pieces(
    tracks: list[Track], stems: Mapping[str, Recording], rate: int, ranges: list[Range]
) -> tuple[list[Range], np.ndarray, np.ndarray]:
    """The pieces of what was fitted in which tracks are loud, and which tracks are as loud there, and which nowhere."""
    size = round(PIECE_S * rate)
    blocks = [(at, min(at + size, last)) for first, last in ranges for at in range(first, last, size)]
    lengths = np.array([stop - start for start, stop in blocks])
    energies = np.zeros((len(tracks), len(blocks)))
    for i, track in enumerate(tracks):
        offset = round(track.offset_ms * rate / 1000)
        for k, (start, stop) in enumerate(blocks):
            x = stems[track.file].read(start - offset, stop - start)
            energies[i, k] = _energy(x)
    totals = energies.sum(axis=1)
    shares = energies / np.maximum(totals, 1e-30)[:, None]
    chosen: list[int] = []
    while len(chosen) < min(len(blocks), round(HEARD_S / PIECE_S)):
        gathered = shares[:, chosen].sum(axis=1, keepdims=True)
        worth = np.log(gathered + shares + UNHEARD).sum(axis=0)
        worth[chosen] = -np.inf
        chosen.append(int(worth.argmax()))
    there = energies[:, chosen].sum(axis=1) / lengths[chosen].sum()
    return (
        merged([blocks[k] for k in chosen]),
        there >= REPRESENTED * totals / lengths.sum(),
        totals <= SILENT * totals.max(),
    )


def _granted(db: float, residual: float, energy: float) -> float:
    """What a residual may grow to, of a mix of some energy."""
    return 10.0 ** (db / 10.0) * max(residual, ROUNDING * energy)


def _energy(x: np.ndarray) -> float:
    return float(np.square(x, dtype=np.float64).sum())


def _label(track: Track) -> str:
    return track.file if track.channel in ("both", "mid") else f"{track.file} ({track.channel})"


def _effects(strip: int | str, chain: list[Insert], kept: tuple[str, ...]) -> list[Removal]:
    """The effects of a chain that may go: none of `kept`, and none that turns the polarity."""
    return [
        Removal(strip, place)
        for place, insert in enumerate(chain)
        if insert.effect not in kept and not insert.controls.get("invert")
    ]


def _fader(chain: list[Insert]) -> int | None:
    """The place of the gain that sets the level at which a strip leaves its chain."""
    for place in reversed(range(len(chain))):
        if chain[place].effect == "gain":
            return place
        if chain[place].effect not in LINEAR:
            break
    return None


def _makes_up(track: Track, before: Signal, after: Signal) -> float:
    """How many dB the track's gain has to rise for what leaves it to be as near as it can to what left it before."""
    place = _fader(track.chain)
    energy = sum(_energy(x) * 2 / len(x) for x in after)
    product = sum(
        float((x.astype(np.float64) * y).sum()) * 2 / max(len(x), len(y)) for x, y in zip(before, after, strict=True)
    )
    if place is None or product <= 0.0 or energy == 0.0:
        return 0.0
    control, value = EFFECTS["gain"]["gain_db"], track.chain[place].settings["gain_db"]
    values = [level for _, level in value.points] if isinstance(value, Curve) else [value]
    return float(np.clip(20.0 * np.log10(product / energy), control.low - min(values), control.high - max(values)))


def _raised(chain: list[Insert], db: float) -> list[Insert]:
    """A chain whose level is higher."""
    place = _fader(chain)
    if place is None or db == 0.0:
        return chain
    insert = chain[place]
    value = insert.settings["gain_db"]
    raised = Curve(tuple((s, level + db) for s, level in value.points)) if isinstance(value, Curve) else value + db
    return [*chain[:place], replace(insert, controls=insert.controls | {"gain_db": raised}), *chain[place + 1 :]]
