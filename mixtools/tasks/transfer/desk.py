"""A mix as a console of gain, equaliser, compressor, pan and sends per track, whose controls are numbers in arrays."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from mixtools.controls import EFFECTS, EQ_BANDS, SEND, Curve
from mixtools.measure.arrays import Array
from mixtools.mix import Bus, Insert, Mix, Track
from mixtools.tasks.automix.expert import KNEE_DB, RATIO
from mixtools.tasks.automix.rules import SPACES, Manner
from mixtools.tasks.transfer.session import steady

ROOM = "room"
LOWEST_SEND_DB = -48.0
"""A send that does nothing yet."""

LEAST_HEARD_SEND_DB = -40.0
"""Sends that were added, and end below this, are left out again."""

LEAST_EQ_DB = 0.05
"""Bands that were added, and end within this of 0 dB, are left out again."""

NEUTRAL = {
    "parametric_eq": {},
    "compressor": {"threshold_db": 0.0, "ratio": 1.0},
    "gain": {"gain_db": 0.0},
    "pan": {"pan": 0.5},
}

TRACK_ORDER = "parametric_eq", "compressor", "gain", "pan"
DIGITS = 4

MASTER_RATIO = 4.0
MASTER_ATTACK_MS, MASTER_RELEASE_MS = 1.0, 80.0
MASTER_LOOKAHEAD_MS = 2.0
FASTEST_ATTACK_MS = 2.0
"""The more peaks are compressed, the faster: a slow attack lets them pass."""


@dataclass(frozen=True, eq=False)
class Controls:
    """What is looked for, by track in the order of their files; arrays, or tensors.

    faders_db and pans (tracks,), eq_db and eq_octaves (tracks, 6) gains and how far the bands' frequencies have moved,
    sends_db (tracks, buses); of the master eq_db and eq_octaves (6,), and how much of its peaks is compressed.
    """

    faders_db: Array
    pans: Array
    eq_db: Array
    eq_octaves: Array
    sends_db: Array
    master_eq_db: Array
    master_eq_octaves: Array
    master_squeeze_db: float = 0.0


@dataclass(frozen=True)
class Places:
    """Where a track's own effects are in its chain; None for what is automated, and stays as it is."""

    parametric_eq: int
    compressor: int
    gain: int
    pan: int | None


class Desk:
    """A start mix with everything on it that may be moved, and mixes from numbers."""

    def __init__(self, start: Mix, locked: Collection[str] = (), silent: Collection[str] = ()):
        """Tracks that are locked or silent stay as they are."""
        mix = Mix.from_plain(start.to_plain())
        mix.tracks.sort(key=lambda track: (track.file, repr(track)))
        _without_mastering(mix)
        heard = [any(track is other for other in mix.heard()) for track in mix.tracks]
        self.free = [
            i
            for i, track in enumerate(mix.tracks)
            if heard[i] and track.file not in locked and track.file not in silent
        ]
        self.new_room = bool(self.free) and ROOM not in mix.buses and not any(track.sends for track in mix.tracks)
        if self.new_room:
            mix.buses[ROOM] = Bus(chain=[Insert("convolution", {"ir": SPACES[ROOM]})])
        self.added: list[set[str]] = []
        self.places: list[Places] = []
        for i in self.free:
            added, places = _completed(mix.tracks[i])
            self.added.append(added)
            self.places.append(places)
        self.buses = sorted({bus for track in mix.tracks for bus in track.sends} or set(mix.buses) & {ROOM})
        self.new_sends: list[set[str]] = []
        for i in self.free:
            track = mix.tracks[i]
            new = self.buses[-1:] if self.buses and not track.sends else []
            self.new_sends.append(set(new))
            track.sends = dict(track.sends) | dict.fromkeys(new, LOWEST_SEND_DB)
        self.master_eq, self.master_compressor = _completed_master(mix)
        self.mix = mix.check()
        self.neutral = Mix.from_plain(self.mix.to_plain())

    @property
    def tracks(self) -> list[Track]:
        """Those that may be moved."""
        return [self.mix.tracks[i] for i in self.free]

    def insert(self, k: int, effect: str) -> Insert | None:
        """A movable track's own effect."""
        place = getattr(self.places[k], effect)
        return None if place is None else self.tracks[k].chain[place]

    def start(self) -> Controls:
        """The numbers of the start."""
        tracks = self.tracks
        eqs = [self.insert(k, "parametric_eq").settings for k in range(len(tracks))]
        pans = [self.insert(k, "pan") for k in range(len(tracks))]
        sends = np.full((len(tracks), len(self.buses)), LOWEST_SEND_DB)
        for k, track in enumerate(tracks):
            for b, bus in enumerate(self.buses):
                level = track.sends.get(bus)
                if level is not None and not isinstance(level, Curve):
                    sends[k, b] = max(level, LOWEST_SEND_DB)
        master = self.mix.master.chain[self.master_eq].settings
        return Controls(
            np.array([self.insert(k, "gain").settings["gain_db"] for k in range(len(tracks))]),
            np.array([0.5 if pan is None else pan.settings["pan"] for pan in pans]),
            np.array([[eq[f"{band}_gain_db"] for band in EQ_BANDS] for eq in eqs]).reshape(len(tracks), -1),
            np.zeros((len(tracks), len(EQ_BANDS))),
            sends,
            np.array([master[f"{band}_gain_db"] for band in EQ_BANDS]),
            np.zeros(len(EQ_BANDS)),
        )

    def sendable(self) -> np.ndarray:
        """Which levels of sends may be moved, (tracks, buses)."""
        return np.array(
            [
                [bus in track.sends and not isinstance(track.sends[bus], Curve) for bus in self.buses]
                for track in self.tracks
            ]
        ).reshape(len(self.tracks), len(self.buses))

    def set(self, controls: Controls, peak_db: float = 0.0) -> Mix:
        """The mix with such numbers; the master's compressor hears this peak."""
        first = self.start()
        mix = Mix.from_plain(self.mix.to_plain())
        for k, i in enumerate(self.free):
            track, places = mix.tracks[i], self.places[k]
            gain = track.chain[places.gain].controls
            gain["gain_db"] = _typed(_held("gain", "gain_db", controls.faders_db[k]))
            if places.pan is not None:
                track.chain[places.pan].controls["pan"] = float(f"{min(max(controls.pans[k], 0.0), 1.0):.3g}")
            _equalise(track.chain[places.parametric_eq], controls.eq_db[k] - first.eq_db[k], controls.eq_octaves[k])
            for b, bus in enumerate(self.buses):
                if bus in track.sends and not isinstance(track.sends[bus], Curve):
                    track.sends[bus] = _typed(min(max(controls.sends_db[k, b], SEND.low), SEND.high))
        change = controls.master_eq_db - first.master_eq_db
        _equalise(mix.master.chain[self.master_eq], change, controls.master_eq_octaves)
        if controls.master_squeeze_db > 0.0:
            found = master_compressor(controls.master_squeeze_db, peak_db)
            mix.master.chain[self.master_compressor].controls = found
        return mix.check()

    def tidied(self, mix: Mix) -> tuple[Mix, Mix]:
        """The start and a mix without what was put there and does nothing in the mix."""
        pair = [Mix.from_plain(each.to_plain()) for each in (self.neutral, mix)]
        found = pair[1]
        for k, i in enumerate(self.free):
            idle = {
                getattr(self.places[k], effect)
                for effect in self.added[k]
                if _idle(found.tracks[i].chain[getattr(self.places[k], effect)])
            }
            unheard = [bus for bus in self.new_sends[k] if found.tracks[i].sends[bus] < LEAST_HEARD_SEND_DB]
            for each in pair:
                chain = each.tracks[i].chain
                each.tracks[i].chain = [insert for place, insert in enumerate(chain) if place not in idle]
                for bus in unheard:
                    del each.tracks[i].sends[bus]
        own = self.master_eq, self.master_compressor
        idle = {place for place in own if _idle(found.master.chain[place])}
        for each in pair:
            each.master.chain = [insert for place, insert in enumerate(each.master.chain) if place not in idle]
        if self.new_room and not any(track.sends for track in found.tracks):
            for each in pair:
                del each.buses[ROOM]
        start, found = pair
        return start.check(), found.check()


def master_compressor(squeeze_db: float, peak_db: float) -> dict[str, float]:
    """Controls of a compressor that takes so much off peaks."""
    threshold = peak_db - squeeze_db / (1.0 - 1.0 / MASTER_RATIO)
    return {
        "threshold_db": _typed(_held("compressor", "threshold_db", threshold)),
        "ratio": MASTER_RATIO,
        "attack_ms": MASTER_ATTACK_MS,
        "release_ms": MASTER_RELEASE_MS,
        "knee_db": KNEE_DB,
        "lookahead_ms": MASTER_LOOKAHEAD_MS,
    }


def _without_mastering(mix: Mix) -> None:
    """Take the limiter off the master's end, and the gain before it: what `mastered` puts there."""
    chain = mix.master.chain
    if chain and chain[-1].effect == "limiter":
        chain.pop()
        if chain and chain[-1].effect == "gain" and steady(chain[-1]):
            chain.pop()


def _completed(track: Track) -> tuple[set[str], Places]:
    """Put all that a track has not got into its chain; what was added, and where everything is."""
    added: set[str] = set()
    places: dict[str, int | None] = {}

    def own(effect: str) -> int | None:
        found = [i for i, insert in enumerate(track.chain) if insert.effect == effect and steady(insert)]
        return found[-1] if found else None

    def put(effect: str, at: int) -> None:
        track.chain.insert(at, Insert(effect, dict(NEUTRAL[effect])))
        added.add(effect)

    if own("parametric_eq") is None:
        put("parametric_eq", 0)
    if own("compressor") is None:
        put("compressor", own("parametric_eq") + 1)
    moving = any(insert.effect == "pan" and not steady(insert) for insert in track.chain)
    if own("gain") is None:
        pan = next((i for i, insert in enumerate(track.chain) if insert.effect == "pan"), len(track.chain))
        put("gain", max(pan, own("compressor") + 1))
    if own("pan") is None and not moving:
        put("pan", len(track.chain))
    for effect in TRACK_ORDER:
        places[effect] = own(effect)
    return added, Places(**places)


def _completed_master(mix: Mix) -> tuple[int, int]:
    """An equaliser and a compressor of the master's own, at its end."""
    chain = mix.master.chain
    for effect in ("parametric_eq", "compressor"):
        chain.append(Insert(effect, dict(NEUTRAL[effect])))
    return len(chain) - 2, len(chain) - 1


def _equalise(insert: Insert, change_db: np.ndarray, octaves: np.ndarray) -> None:
    settings = insert.settings
    for band, change, moved in zip(EQ_BANDS, change_db, octaves, strict=True):
        if abs(change) < LEAST_EQ_DB and abs(moved) < 0.01:
            continue
        gain_db = settings[f"{band}_gain_db"] + change
        insert.controls[f"{band}_gain_db"] = _typed(_held("parametric_eq", f"{band}_gain_db", gain_db))
        hz = _held("parametric_eq", f"{band}_freq_hz", settings[f"{band}_freq_hz"] * 2.0**moved)
        insert.controls[f"{band}_freq_hz"] = float(f"{hz:.{DIGITS}g}")


def squeezed(insert: Insert, squeeze_db: float, peak_db: float, manner: Manner) -> Insert:
    """A compressor that takes so much more off peaks, or less than it did."""
    controls = dict(insert.controls)
    if insert.settings["ratio"] == 1.0:
        if squeeze_db <= 0.0:
            return insert
        controls = {
            "threshold_db": 0.0,
            "ratio": RATIO,
            "attack_ms": manner.attack_ms,
            "release_ms": manner.release_ms,
            "knee_db": KNEE_DB,
        }
    settings = Insert("compressor", controls).settings
    threshold = min(settings["threshold_db"], peak_db) - squeeze_db / (1.0 - 1.0 / settings["ratio"])
    controls["threshold_db"] = _typed(_held("compressor", "threshold_db", threshold))
    if squeeze_db > 0.0:
        attack = settings["attack_ms"] * 2.0 ** (-squeeze_db / 2.0)
        controls["attack_ms"] = _typed(max(attack, min(settings["attack_ms"], FASTEST_ATTACK_MS)))
    return Insert("compressor", controls)


def _idle(insert: Insert) -> bool:
    settings = insert.settings
    if insert.effect == "parametric_eq":
        return not any(settings[f"{band}_gain_db"] for band in EQ_BANDS)
    if insert.effect == "compressor":
        return settings["ratio"] == 1.0 and settings["makeup_db"] == 0.0
    if insert.effect == "gain":
        return settings["gain_db"] == 0.0 and not settings["invert"]
    return settings["pan"] == 0.5


def _held(effect: str, name: str, value: float) -> float:
    control = EFFECTS[effect][name]
    return min(max(float(value), control.low), control.high)


def _typed(value: float) -> float:
    return float(f"{value:.{DIGITS}g}") + 0.0
