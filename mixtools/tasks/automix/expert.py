"""The expert: a mix by rules, whose numbers stand in `rules`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mixtools.controls import EFFECTS, HIGHEST_FREQUENCY, Curve
from mixtools.dsp import EFFECT_FUNCTIONS
from mixtools.dsp.console import Console
from mixtools.measure.loudness import LoudnessMeter
from mixtools.mix import Bus, Insert, Master, Mix, Track
from mixtools.tasks.automix.hearing import BANDS_HZ, listen
from mixtools.tasks.automix.recognition import roles_of
from mixtools.tasks.automix.rules import LEADS, MANNERS, SPACES, Manner, Taste
from mixtools.tasks.automix.sides import Strip, placed
from mixtools.tasks.excerpts import Range, choose_excerpts
from mixtools.tasks.recordings import Playing, Recording

MOST_S, PIECE_S = 40.0, 8.0
"""What of a song is listened to: where every stem is loud, and most of them play."""

LEAD_LUFS = -22.0
"""The loudness of what leads, before the master: faders end up about where people have them."""

HIGHEST_FADER_DB, LOWEST_FADER_DB = 30.0, -60.0

CUT_DB = -18.0
CUT_AT = 0.7
"""A low shelf and its frequency: by the cut's own frequency little more than 2 dB are missing."""

WITHOUT_BASS = 0.5
"""Where no bass plays, something else is the lowest: low cuts are an octave lower."""

WORTH_CUTTING = 1e-4
"""The share of a stem's energy that has to lie below its low cut for the cut to be there."""

LIVES_FROM, LIVES_WITHIN_DB = 6, 15.0
"""A stem lives from this many of its bands, the strongest, as far as they are not much weaker than the first."""

MASKS_DB = -10.0
"""A stem masks another in a band where it is not further than this below it."""

MOST_UNMASKED_DB, LEAST_UNMASKED_DB = 4.0, 1.0
UNMASKED = 0.5
"""How much of what a stem is too loud by in a band is cut."""

UNMASK_Q = 1.4
UNMASK_BANDS = "band2", "band3"

HALF_WAY = 0.5
MOST_COMPRESSED_DB, LEAST_COMPRESSED_DB = 6.0, 1.0
RATIO, KNEE_DB = 2.5, 6.0
"""With the ratio a threshold stands where peaks are compressed as much as is wanted."""

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Decision:
    """What a rule did to a stem."""

    stem: str
    rule: str
    what: str

    def __str__(self) -> str:
        return f"{self.stem}: {self.rule}: {self.what}"


@dataclass
class Engineered:
    """A mix without loudness on its master, the role of every stem, and what was decided."""

    mix: Mix
    roles: dict[str, str]
    decisions: list[Decision] = field(default_factory=list)


class Expert:
    """Somebody who listens once, and then mixes by rules, to any taste."""

    def __init__(
        self,
        stems: Mapping[str, Recording],
        rate: int,
        roles: Mapping[str, str] | None = None,
        threads: int = 1,
        progress: Progress = lambda share: None,
        open_console: Callable[[Mix], Console] | None = None,
    ):
        """`open_console` gives a console for a mix, with its stems at their beginning."""
        self.open_console = open_console or self._console
        self.stems = {name: stems[name] for name in sorted(stems)}
        self.rate, self.threads = rate, threads
        self.ranges: list[Range] = choose_excerpts(self.stems, None, rate, MOST_S, PIECE_S)
        self.sounds = listen(self.stems, rate, self.ranges, threads, progress)
        self.roles = roles_of(self.sounds, roles or {})

    def mix(self, taste: Taste | None = None, keep_levels: bool = False, locked: Mix | None = None) -> Engineered:
        """A mix of all stems; tracks that `locked` has stay as they are there."""
        return Engineer(self, taste or Taste(), keep_levels, locked).engineered()

    def processed_lufs(self, chains: Mapping[str, list[Insert]]) -> dict[str, float | None]:
        """How loud stems are after effects, while they sound."""

        def measured(name: str) -> float | None:
            stem = self.stems[name]
            meter = LoudnessMeter(self.rate, stem.channels, dual_mono=True)
            for first, last in self.ranges:
                x = stem.read(first, last - first)
                for insert in chains[name]:
                    x = EFFECT_FUNCTIONS[insert.effect](x, self.rate, **insert.controls)
                meter.add(x)
            return meter.integrated_lufs

        with ThreadPoolExecutor(self.threads) as pool:
            return dict(zip(chains, pool.map(measured, chains), strict=True))

    def _console(self, mix: Mix) -> Console:
        sources = [Playing(self.stems[track.file]) for track in mix.tracks]
        return Console(mix, sources, self.rate, threads=self.threads)

    def locked_lufs(self, locked: Mix) -> dict[str, float]:
        """How loud stems are that a mix file settles, on their way to the master."""
        found: dict[str, float] = {}
        for track in locked.heard():
            alone = Mix([track], locked.buses, sample_rate=self.rate)
            console = self.open_console(alone)
            meter = LoudnessMeter(self.rate, 2)
            at = 0
            for block in console.blocks(0, self.ranges[-1][1]):
                for first, last in self.ranges:
                    meter.add(block[:, max(first - at, 0) : max(last - at, 0)])
                at += block.shape[1]
            if meter.integrated_lufs is not None:
                found[track.file] = meter.integrated_lufs
        return found


class Engineer:
    """One mix, step by step."""

    def __init__(self, expert: Expert, taste: Taste, keep_levels: bool, locked: Mix | None):
        self.expert, self.taste, self.keep_levels = expert, taste, keep_levels
        self.locked = locked or Mix()
        self.roles = {name: role for name, (role, _) in expert.roles.items()}
        self.settled = {track.file for track in self.locked.tracks}
        self.sounding = {name: sound for name, sound in expert.sounds.items() if sound.lufs is not None}
        self.free = [name for name in self.sounding if name not in self.settled]
        self.has_bass = "bass" in {self.roles[name] for name in self.sounding}
        self.lead = next((role for role in LEADS if role in {self.roles[name] for name in self.sounding}), None)
        self.decisions = [
            Decision(name, "role", f"{role}, {why}")
            for name, (role, why) in expert.roles.items()
            if name not in self.settled
        ]
        self.decisions += [Decision(name, "lock", "as it is") for name in sorted(self.settled)]

    def decide(self, stem: str, rule: str, what: str) -> None:
        self.decisions.append(Decision(stem, rule, what))

    def engineered(self) -> Engineered:
        strips = self.strips(self.targets())
        tracks = list(self.locked.tracks)
        for name in self.expert.stems:
            if name not in self.settled:
                chain, sends = strips.get(name, ([], {}))
                tracks.append(Track(name, chain=chain, sends=sends))
        tracks.sort(key=lambda track: track.file)
        buses = dict(self.locked.buses)
        rooms = SPACES | (self.taste.spaces or {})
        for bus in sorted({bus for track in tracks for bus in track.sends} - set(buses)):
            buses[bus] = Bus(chain=[Insert("convolution", {"ir": rooms[bus]})])
        mix = Mix(tracks, buses, Master(list(self.locked.master.chain)), self.expert.rate)
        return Engineered(mix.check(), self.roles, sorted(self.decisions, key=lambda decision: decision.stem))

    def strips(self, targets: Mapping[str, float]) -> dict[str, tuple[list[Insert], dict[str, float]]]:
        """Chain and sends of every stem that sounds and is not settled."""
        equalisers = self.equalisers(targets)
        chains = {
            name: [
                *([Insert("parametric_eq", equalisers[name])] if equalisers[name] else []),
                *self.compressor(name),
            ]
            for name in self.free
        }
        faders = self.faders(chains, targets)
        places = self.places(targets)
        for name, chain in chains.items():
            chain.append(Insert("gain", {"gain_db": faders[name]}))
            if places[name] != 0.5:
                chain.append(Insert("pan", {"pan": places[name]}))
        return {name: (chain, self.sends(name)) for name, chain in chains.items()}

    def manner(self, name: str) -> Manner:
        return MANNERS[self.roles[name]]

    def together(self, a: str, b: str) -> float:
        """How much two stems sound at the same time, 0 to 1."""
        x, y = (np.sqrt(self.sounding[name].envelope) for name in (a, b))
        return float(x @ y / max(math.sqrt(float((x @ x) * (y @ y))), 1e-30))

    def targets(self) -> dict[str, float]:
        """The loudness of every stem that sounds, in LUFS before the master."""
        targets = {}
        for name in self.sounding:
            role = self.roles[name]
            level = 0.0 if role == self.lead else self.manner(name).level_lu
            level += (self.taste.levels_lu or {}).get(role, 0.0)
            alike = [other for other in self.sounding if self.roles[other] == role]
            targets[name] = LEAD_LUFS + level - 10.0 * math.log10(sum(self.together(name, other) for other in alike))
        if self.settled:
            found = self.expert.locked_lufs(self.locked)
            shift = float(np.median([lufs - targets[name] for name, lufs in found.items()])) if found else 0.0
            targets = {name: target + shift for name, target in targets.items()}
        return targets

    def equalisers(self, targets: Mapping[str, float]) -> dict[str, dict[str, float]]:
        """Low cuts, and room for what is more important."""
        controls: dict[str, dict[str, float]] = {name: {} for name in self.free}
        heard = {}
        for name, sound in self.sounding.items():
            powers = sound.powers * 10.0 ** ((targets[name] - sound.lufs) / 10.0)
            cut_hz = None if name in self.settled else self.low_cut_hz(name)
            if cut_hz is not None:
                controls[name] |= {"low_shelf_gain_db": CUT_DB, "low_shelf_freq_hz": typed(CUT_AT * cut_hz)}
                powers = powers * 10.0 ** (CUT_DB / 10.0 / (1.0 + (BANDS_HZ / (CUT_AT * cut_hz)) ** 4))
                self.decide(name, "low cut", f"below {cut_hz:.0f} Hz")
            heard[name] = powers
        within = 10.0 ** (-LIVES_WITHIN_DB / 10.0)
        lives_from = {name: p >= max(np.sort(p)[-LIVES_FROM], within * p.max()) for name, p in heard.items()}
        for name in self.free:
            for band, (hz, cut_db, other) in zip(UNMASK_BANDS, self.unmasking(name, heard, lives_from), strict=False):
                controls[name] |= {
                    f"{band}_gain_db": typed(-cut_db),
                    f"{band}_freq_hz": typed(min(hz, HIGHEST_FREQUENCY * self.expert.rate)),
                    f"{band}_q": UNMASK_Q,
                }
                self.decide(name, "unmask", f"{-cut_db:.1f} dB at {_hz(hz)}, for {other}")
        return controls

    def low_cut_hz(self, name: str) -> float | None:
        """Where a stem's low cut is, if it has anything to cut."""
        powers = self.sounding[name].powers
        cut_hz = self.manner(name).low_cut_hz
        if not self.has_bass and self.roles[name] not in LEADS:
            cut_hz *= WITHOUT_BASS
        below = float(powers[cut_hz > BANDS_HZ].sum()) / max(float(powers.sum()), 1e-30)
        lowest = EFFECTS["parametric_eq"]["low_shelf_freq_hz"].low
        return cut_hz if below > WORTH_CUTTING and CUT_AT * cut_hz >= lowest else None

    def unmasking(
        self, name: str, heard: Mapping[str, np.ndarray], lives_from: Mapping[str, np.ndarray]
    ) -> list[tuple[float, float, str]]:
        """Where a stem gives way, by how much, and for whom: (Hz, dB, stem), the deepest cuts first."""
        cuts: dict[int, tuple[float, str]] = {}
        for other in self.sounding:
            if self.manner(other).rank >= self.manner(name).rank:
                continue
            over_db = 10.0 * np.log10(np.maximum(heard[name], 1e-30) / np.maximum(heard[other], 1e-30))
            wanted = UNMASKED * self.together(name, other) * np.maximum(over_db - MASKS_DB, 0.0)
            for band in np.flatnonzero(lives_from[other] & ~lives_from[name]):
                cut = min(float(wanted[band]), MOST_UNMASKED_DB)
                if cut >= LEAST_UNMASKED_DB and cut > cuts.get(band, (0.0, ""))[0]:
                    cuts[band] = cut, other
        chosen: list[tuple[float, float, str]] = []
        for band in sorted(cuts, key=lambda band: (-cuts[band][0], band)):
            hz = float(BANDS_HZ[band])
            if all(abs(math.log2(hz / taken)) > 0.6 for taken, *_ in chosen):
                chosen.append((hz, *cuts[band]))
        return chosen[: len(UNMASK_BANDS)]

    def compressor(self, name: str) -> list[Insert]:
        """A compressor where a stem's crest factor asks for one."""
        sound, manner = self.sounding[name], self.manner(name)
        wanted = min(HALF_WAY * (sound.crest_db - manner.crest_db) * self.taste.compression, MOST_COMPRESSED_DB)
        if wanted < LEAST_COMPRESSED_DB:
            return []
        control = EFFECTS["compressor"]["threshold_db"]
        threshold = min(max(sound.peak_db - wanted / (1.0 - 1.0 / RATIO), control.low), control.high)
        above = f"{RATIO:g}:1 above {threshold:.0f} dB"
        what = f"{above}, {wanted:.1f} dB at its peaks, for a crest of {sound.crest_db:.0f} dB"
        self.decide(name, "compress", what)
        settings: dict[str, Any] = {
            "threshold_db": typed(threshold),
            "ratio": RATIO,
            "attack_ms": manner.attack_ms,
            "release_ms": manner.release_ms,
            "knee_db": KNEE_DB,
        }
        return [Insert("compressor", settings)]

    def faders(self, chains: Mapping[str, list[Insert]], targets: Mapping[str, float]) -> dict[str, float]:
        """Gains that bring what the chains make of the stems to its loudness."""
        faders = {}
        for name, lufs in self.expert.processed_lufs(chains).items():
            before = self.sounding[name].lufs
            after = before if lufs is None else lufs
            wanted = before if self.keep_levels else targets[name]
            faders[name] = typed(min(max(wanted - after, LOWEST_FADER_DB), HIGHEST_FADER_DB))
            if not self.keep_levels:
                self.decide(name, "level", f"{faders[name]:+.1f} dB, to {targets[name]:.1f} LUFS")
            elif faders[name]:
                self.decide(name, "keep", f"{faders[name]:+.1f} dB")
        return faders

    def places(self, targets: Mapping[str, float]) -> dict[str, float]:
        """Where every stem stands."""
        strips = []
        for name, sound in self.sounding.items():
            manner = self.manner(name)
            settled = next((track for track in self.locked.tracks if track.file == name), None)
            width = 0.0 if self.roles[name] == self.lead else manner.width * self.taste.width
            powers = sound.powers * 10.0 ** ((targets[name] - sound.lufs) / 10.0)
            strips.append(
                Strip(name, min(width, 0.5), powers, sound.width, None if settled is None else _pan_of(settled))
            )
        places, decided = placed(strips, self.together, self.taste.mirrored)
        self.decisions += [Decision(name, rule, what) for name, rule, what in decided if name not in self.settled]
        return places

    def sends(self, name: str) -> dict[str, float]:
        manner = self.manner(name)
        levels = {"room": manner.room_db, "plate": manner.plate_db}
        sends = {bus: typed(level + self.taste.sends_db) for bus, level in levels.items() if level is not None}
        if sends:
            self.decide(name, "space", ", ".join(f"{bus} {level:g} dB" for bus, level in sends.items()))
        return sends


def _pan_of(track: Track) -> float:
    """Where a track of a mix file stands."""
    for insert in track.chain:
        if insert.effect == "pan":
            pan = insert.settings["pan"]
            return float(np.mean([value for _, value in pan.points])) if isinstance(pan, Curve) else pan
    return 0.5


def typed(value: float) -> float:
    """Four digits, as many as anybody would type."""
    return float(f"{value:.4g}") + 0.0


def _hz(hz: float) -> str:
    return f"{hz / 1000:.3g} kHz" if hz >= 1000 else f"{hz:.0f} Hz"
