"""What a mix is: tracks, buses and a master as plain data, checked against the controls.

`files.mixfile` reads and writes it as YAML; `dsp.console` renders it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

from mixtools.controls import CHANNEL, EFFECTS, OFFSET_MS, SAMPLE_RATE, SEND, Curve, plain_number, shown, unquoted
from mixtools.errors import ParameterError, nearest

FORMAT_VERSION = 1
MASTER = "master"


@dataclass
class Insert:
    """One effect in a chain, and the controls that were given (the rest keep their defaults)."""

    effect: str
    controls: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """Every control's value."""
        return EFFECTS[self.effect].defaults | self.controls


@dataclass
class Track:
    """A stem's strip: which part of the file, when, through which chain, and where to."""

    file: str
    channel: str = CHANNEL.default
    offset_ms: float = OFFSET_MS.default
    mute: bool = False
    solo: bool = False
    output: str = MASTER
    chain: list[Insert] = field(default_factory=list)
    sends: dict[str, Any] = field(default_factory=dict)


@dataclass
class Bus:
    """A sub-group or an effect return."""

    mute: bool = False
    output: str = MASTER
    chain: list[Insert] = field(default_factory=list)
    sends: dict[str, Any] = field(default_factory=dict)


@dataclass
class Master:
    """The strip that everything ends in."""

    chain: list[Insert] = field(default_factory=list)


@dataclass
class Mix:
    """A whole mix; `notes` holds the sections that are kept but not rendered (`made`, `report`)."""

    tracks: list[Track] = field(default_factory=list)
    buses: dict[str, Bus] = field(default_factory=dict)
    master: Master = field(default_factory=Master)
    sample_rate: int | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    def strips(self) -> Iterator[tuple[str, Track | Bus | Master]]:
        """Every strip with its path in the document."""
        for i, track in enumerate(self.tracks):
            yield f"tracks[{i}]", track
        for name, bus in self.buses.items():
            yield f"buses.{name}", bus
        yield "master", self.master

    def inserts(self) -> Iterator[tuple[str, Insert]]:
        """Every effect with its path in the document."""
        for where, strip in self.strips():
            for i, insert in enumerate(strip.chain):
                yield f"{where}.chain[{i}].{insert.effect}", insert

    def heard(self) -> list[Track]:
        """The tracks that sound: none that is muted, and only the soloed ones where there are any."""
        soloed = any(track.solo for track in self.tracks)
        return [track for track in self.tracks if not track.mute and (track.solo or not soloed)]

    def bus_order(self) -> list[str]:
        """Bus names so that every bus comes after all that feed it; raises on a loop."""
        order: list[str] = []
        visiting: list[str] = []

        def visit(name: str) -> None:
            if name in order:
                return
            if name in visiting:
                loop = [*visiting[visiting.index(name) :], name]
                raise ParameterError(
                    f"buses.{name} feeds itself: {' -> '.join(loop)}; remove a send or change an output on the way"
                )
            visiting.append(name)
            for target in sorted(targets(self.buses[name])):
                if target != MASTER:
                    visit(target)
            visiting.pop()
            order.append(name)

        for name in sorted(self.buses):
            visit(name)
        return order[::-1]

    @classmethod
    def from_plain(cls, tree: Any) -> Mix:
        """Check a tree of plain dicts, lists and scalars, and build the mix; raises `ParameterError`."""
        return _Reader().mix(tree)

    def to_plain(self) -> dict[str, Any]:
        """The tree that `from_plain` reads, without what is at its default."""
        plain: dict[str, Any] = {"mixtools": FORMAT_VERSION}
        if self.sample_rate is not None:
            plain["sample_rate"] = self.sample_rate
        plain["tracks"] = [_strip_to_plain(track) for track in self.tracks]
        if self.buses:
            plain["buses"] = {name: _strip_to_plain(bus) for name, bus in self.buses.items()}
        if self.master.chain:
            plain["master"] = _strip_to_plain(self.master)
        return plain | self.notes

    def check(self) -> Mix:
        """Check a mix that was built in Python as if it had been read, and return it."""
        return Mix.from_plain(self.to_plain())


def targets(strip: Track | Bus) -> list[str]:
    """Where a strip's signal goes: its output, then its sends."""
    return [strip.output, *strip.sends]


def _strip_to_plain(strip: Track | Bus | Master) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for item in fields(strip):
        value = getattr(strip, item.name)
        if item.name == "chain":
            if value:
                plain["chain"] = [{i.effect: {k: _value_to_plain(v) for k, v in i.controls.items()}} for i in value]
        elif item.name == "sends":
            if value:
                plain["sends"] = {bus: _value_to_plain(level) for bus, level in value.items()}
        elif item.name == "file" or value != item.default:
            plain[item.name] = value
    return plain


def _value_to_plain(value: Any) -> Any:
    if isinstance(value, (Curve, list, tuple)):
        points = value.points if isinstance(value, Curve) else value
        return [[plain_number(x) for x in point] if isinstance(point, (list, tuple)) else point for point in points]
    if isinstance(value, dict):
        return {key: _value_to_plain(item) for key, item in value.items()}
    return plain_number(value)


NOTE_SECTIONS = ("made", "report")


class _Reader:
    """Turns a plain tree into a `Mix`, or says where in the document it cannot."""

    def mix(self, tree: Any) -> Mix:
        keys = ("mixtools", "sample_rate", "tracks", "buses", "master", *NOTE_SECTIONS)
        tree = self.mapping(tree, "", keys, "a mapping with mixtools: 1 and tracks")
        version = tree.get("mixtools")
        if version is None:
            raise ParameterError(f"mixtools is missing; give mixtools: {FORMAT_VERSION}, the format version")
        if version != FORMAT_VERSION or isinstance(version, bool):
            raise ParameterError(f"mixtools is {unquoted(version)}; give {FORMAT_VERSION}, the format version")
        mix = Mix()
        if tree.get("sample_rate") is not None:
            mix.sample_rate = SAMPLE_RATE.check(tree["sample_rate"], "sample_rate")
        buses = self.mapping(tree.get("buses", {}), "buses", None, "a mapping of bus names")
        for name in buses:
            self.bus_name(name)
        self.buses = [str(name) for name in buses]
        mix.tracks = [
            self.track(item, f"tracks[{i}]")
            for i, item in enumerate(self.sequence(tree.get("tracks", []), "tracks", "a list of tracks"))
        ]
        if not mix.tracks:
            raise ParameterError("tracks is empty; give at least one {file: NAME}")
        mix.buses = {str(name): self.bus(item, f"buses.{name}") for name, item in buses.items()}
        master = self.mapping(tree.get("master", {}), "master", ("chain",), "a mapping with a chain")
        mix.master = Master(self.chain(master.get("chain", []), "master.chain"))
        mix.notes = {key: tree[key] for key in NOTE_SECTIONS if key in tree}
        self.no_repeats(mix.tracks)
        mix.bus_order()
        return mix

    def bus_name(self, name: Any) -> None:
        if not isinstance(name, str) or not name or name == MASTER:
            raise ParameterError(f"buses has the name {shown(name)}; give a word other than {MASTER}")

    def track(self, item: Any, where: str) -> Track:
        item = self.mapping(item, where, [f.name for f in fields(Track)], "a mapping with a file")
        file = item.get("file")
        if not isinstance(file, str) or not file.strip():
            found = "missing" if "file" not in item else shown(file)
            raise ParameterError(f"{where}.file is {found}; give the name of a stem")
        return Track(
            file=file,
            channel=CHANNEL.check(item.get("channel", CHANNEL.default), f"{where}.channel"),
            offset_ms=OFFSET_MS.check(item.get("offset_ms", OFFSET_MS.default), f"{where}.offset_ms"),
            solo=self.switch(item, "solo", where),
            **self.strip(item, where),
        )

    def bus(self, item: Any, where: str) -> Bus:
        item = self.mapping(item, where, [f.name for f in fields(Bus)], "a mapping with a chain")
        return Bus(**self.strip(item, where))

    def strip(self, item: dict[str, Any], where: str) -> dict[str, Any]:
        output = item.get("output", MASTER)
        known = [MASTER, *self.buses]
        if output not in known:
            raise ParameterError(f"{where}.output is {shown(output)}; give {nearest(str(output), known)}")
        sends = {}
        for name, level in self.mapping(item.get("sends", {}), f"{where}.sends", None, "bus names and dB").items():
            if name not in self.buses:
                give = nearest(str(name), self.buses) if self.buses else "a bus under buses"
                raise ParameterError(f"{where}.sends.{shown(name)} is not a bus; give {give}")
            sends[name] = SEND.check(self.value(level, f"{where}.sends.{name}"), f"{where}.sends.{name}")
        return {
            "mute": self.switch(item, "mute", where),
            "output": output,
            "chain": self.chain(item.get("chain", []), f"{where}.chain"),
            "sends": sends,
        }

    def switch(self, item: dict[str, Any], key: str, where: str) -> bool:
        value = item.get(key, False)
        if not isinstance(value, bool):
            raise ParameterError(f"{where}.{key} is {unquoted(value)}; give true or false")
        return value

    def chain(self, items: Any, where: str) -> list[Insert]:
        items = self.sequence(items, where, "a list of effects")
        return [self.insert(item, f"{where}[{i}]") for i, item in enumerate(items)]

    def insert(self, item: Any, where: str) -> Insert:
        if isinstance(item, str):
            item = {item: {}}
        item = self.mapping(item, where, list(EFFECTS), "one effect, as in - gain: {gain_db: -3}")
        if len(item) != 1:
            raise ParameterError(f"{where} has {len(item)} effects; give one, each behind its own dash")
        ((name, given),) = item.items()
        where = f"{where}.{name}"
        effect = EFFECTS[name]
        given = self.mapping(given, where, effect.names, "a mapping of controls")
        controls = {
            key: effect[key].check(self.value(value, f"{where}.{key}"), f"{where}.{key}")
            for key, value in given.items()
        }
        for control in effect.controls:
            if control.default is None and control.name not in controls:
                raise ParameterError(f"{where}.{control.name} is missing; give {control.range}")
        return Insert(name, controls)

    def value(self, value: Any, where: str) -> Any:
        if not isinstance(value, list):
            return value
        for i, point in enumerate(value):
            if not isinstance(point, list) or len(point) != 2:
                raise ParameterError(f"{where}[{i}] is {shown(point)}; give a pair [seconds, value]")
        return Curve(tuple((seconds, level) for seconds, level in value))

    def mapping(self, value: Any, where: str, known: Any, give: str) -> dict[str, Any]:
        if value is None and where:
            value = {}
        if not isinstance(value, dict):
            raise ParameterError(f"{where or 'the document'} is {shown(value)}; give {give}")
        for key in value:
            if known is not None and key not in known:
                place = f"{where}.{shown(key)}" if where else shown(key)
                raise ParameterError(f"{place} is not known; did you mean {nearest(str(key), known)}?")
        return value

    def sequence(self, value: Any, where: str, give: str) -> list[Any]:
        if value is None:
            value = []
        if not isinstance(value, list):
            raise ParameterError(f"{where} is {shown(value)}; give {give}")
        return value

    def no_repeats(self, tracks: list[Track]) -> None:
        for i, track in enumerate(tracks):
            first = tracks.index(track)
            if first != i:
                raise ParameterError(
                    f"tracks[{i}] repeats tracks[{first}] ({shown(track.file)}); remove one, or give them "
                    "different channels or chains"
                )
