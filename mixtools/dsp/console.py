"""The console: tracks, buses and a master, rendered block by block with every latency compensated."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mixtools.controls import ROOMS, Curve
from mixtools.dsp import PROCESSORS, Processor
from mixtools.dsp.compiled import kernel
from mixtools.dsp.effect import checked
from mixtools.dsp.gain import Gain
from mixtools.dsp.history import DelayLine
from mixtools.dsp.neural import Emulation, Neural
from mixtools.dsp.source import PlacedSource, Source
from mixtools.errors import ParameterError
from mixtools.mix import MASTER, Bus, Insert, Mix, Track, targets

BLOCK = 65536
"""Samples that go through the whole console at once."""

STRETCH = 32768
"""Samples that go through a whole chain at once, so that they stay in the processor's cache."""

END_DB = 90.0
"""Below full scale: where a mix ends, its tail can no longer be heard."""

FEEDERS_DB = 30.0
"""In hand for many strips that sound at once, and for stems beyond full scale."""

Responses = Mapping[str, tuple[np.ndarray, float] | Emulation]
"""What a mix names that is not in it, by that name: impulse responses (channels, n) and their rate, and models."""


@kernel
def add_to_sum(total, x):
    """Add (1 or 2, n) to a float64 sum (2, n); a mono signal goes to both sides."""
    if x.shape[0] == 1:
        for i in range(x.shape[1]):
            value = np.float64(x[0, i])
            total[0, i] += value
            total[1, i] += value
    else:
        for c in range(2):
            for i in range(x.shape[1]):
                total[c, i] += np.float64(x[c, i])


class Chain:
    """Effects in series on one strip; `process` takes and gives (channels, n), `latency` samples late."""

    def __init__(
        self,
        inserts: list[Insert],
        rate: float,
        channels: int,
        dtype: Any = np.float32,
        *,
        start: int = 0,
        responses: Responses | None = None,
        where: str = "chain",
    ):
        self.processors: list[Processor] = []
        self.notes: list[str] = []
        self.latency = 0
        for i, insert in enumerate(inserts):
            place = f"{where}[{i}].{insert.effect}"
            controls = checked(insert.effect, insert.controls, place)
            if insert.effect == "convolution" and controls["ir"] not in ROOMS:
                if controls["ir"] not in (responses or {}):
                    raise ParameterError(f"{place}.ir is {controls['ir']}, which is not there; give a WAV file")
                controls["ir"] = responses[controls["ir"]]
            if insert.effect == "neural":
                processor = _neural(controls, responses or {}, place, rate, channels, dtype)
            else:
                processor = PROCESSORS[insert.effect](rate, channels, dtype, start - self.latency, **controls)
            self.processors.append(processor)
            self.notes += [f"{place}.{note}" for note in processor.notes]
            self.latency += processor.latency
            channels = processor.channels_out
        self.channels_out = channels
        self.boost_db = sum(processor.boost_db for processor in self.processors)
        self.pause = sum(processor.pause for processor in self.processors)

    def tail(self, decay_db: float) -> int:
        """Samples after the end of the input until what still comes out has fallen by this much."""
        return sum(processor.tail(decay_db) for processor in self.processors)

    def process(self, x: np.ndarray) -> np.ndarray:
        if not self.processors or x.shape[1] <= STRETCH:
            return self._stretch(x)
        y = np.empty((self.channels_out, x.shape[1]), x.dtype)
        for i in range(0, x.shape[1], STRETCH):
            self._stretch(x[:, i : i + STRETCH], y[:, i : i + STRETCH])
        return y

    def _stretch(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        for processor in self.processors[:-1]:
            x = processor.process(x)
        return self.processors[-1].process(x, out) if self.processors else x


def _neural(controls: dict[str, Any], named: Responses, place: str, rate: float, channels: int, dtype: Any) -> Neural:
    model = named.get(controls["model"])
    if model is None or isinstance(model, tuple):
        raise ParameterError(f"{place}.model is {controls['model']}, which is not there; give a model")
    try:
        return Neural(rate, channels, dtype, model=model, set=controls.get("set", {}))
    except ParameterError as error:
        raise ParameterError(f"{place}.{error}") from None


@dataclass
class _Edge:
    """A signal's way from one strip into another: a level, and the delay that lines it up with the others."""

    source: int | str
    level: Gain | None
    line: DelayLine

    @property
    def boost_db(self) -> float:
        return self.level.boost_db if self.level else 0.0


@dataclass
class _Node:
    """A strip in the console's graph; its output is `total_latency` samples behind the session.

    `total_boost_db` is the most that anything is raised on its way here, `total_pause` the longest silence that the
    delays on a way here can add up to.
    """

    chain: Chain
    total_latency: int
    total_boost_db: float
    total_pause: int
    edges: list[_Edge] = field(default_factory=list)


class Console:
    """Renders a mix.

    `sources` holds one source per track of the mix, all at the session's rate. Tracks are summed in the order of
    their file names. `threads` tracks are processed at once; neither that nor the block size changes a bit.
    """

    def __init__(
        self,
        mix: Mix,
        sources: list[Source],
        rate: float,
        *,
        dtype: Any = np.float32,
        threads: int = 1,
        responses: Responses | None = None,
        block: int = BLOCK,
    ):
        self.rate = rate
        self.dtype = np.dtype(dtype)
        self.notes: list[str] = []
        self._block = block
        self._threads = threads
        self._responses = responses
        placed = [self._place(t, s, f"tracks[{i}]") for i, (t, s) in enumerate(zip(mix.tracks, sources, strict=True))]
        self.frames = max((source.frames for source in placed), default=0)
        heard = mix.heard()
        order = sorted(
            (i for i, track in enumerate(mix.tracks) if any(track is other for other in heard)),
            key=lambda i: (mix.tracks[i].file, repr(mix.tracks[i])),
        )
        self._inputs = {i: placed[i] for i in order}
        self._nodes: dict[int | str, _Node] = {}
        strips: dict[int | str, Track | Bus] = {i: mix.tracks[i] for i in order}
        for i in order:
            track = mix.tracks[i]
            self._add(i, self._chain(track.chain, placed[i].channels, 0, f"tracks[{i}].chain"), [])
        for name in mix.bus_order():
            if not mix.buses[name].mute:
                feeders = [key for key, strip in strips.items() if name in targets(strip)]
                self._add_sum(name, strips, feeders, mix.buses[name].chain, f"buses.{name}.chain")
                strips[name] = mix.buses[name]
        self.feeders = [key for key, strip in strips.items() if strip.output == MASTER]
        self._add_sum(MASTER, strips, self.feeders, mix.master.chain, "master.chain")
        if self._nodes[MASTER].chain.channels_out != 2:
            raise AssertionError("the master is stereo")
        master = self._nodes[MASTER]
        self.latency = master.total_latency
        self.tail = self._tail(MASTER, END_DB + FEEDERS_DB + master.total_boost_db)
        self.pause = master.total_pause
        self.last_breakpoint = seconds_to_samples(_last_breakpoint(mix), rate)
        self._started = False

    def _place(self, track: Track, source: Source, where: str) -> PlacedSource:
        offset = track.offset_ms * self.rate / 1000
        offset = round(offset) if abs(offset - round(offset)) < 1e-6 else offset
        return PlacedSource(source, track.channel, offset, self.dtype, f"{where}.channel")

    def _chain(self, inserts: list[Insert], channels: int, start: int, where: str) -> Chain:
        chain = Chain(inserts, self.rate, channels, self.dtype, start=start, responses=self._responses, where=where)
        self.notes += chain.notes
        return chain

    def _add(self, key: int | str, chain: Chain, edges: list[_Edge]) -> None:
        before = [self._nodes[edge.source] for edge in edges]
        self._nodes[key] = _Node(
            chain,
            max((node.total_latency for node in before), default=0) + chain.latency,
            max((self._nodes[edge.source].total_boost_db + edge.boost_db for edge in edges), default=0.0)
            + chain.boost_db,
            max((node.total_pause for node in before), default=0) + chain.pause,
            edges,
        )

    def _tail(self, key: int | str, decay_db: float) -> int:
        node = self._nodes[key]
        return max((self._tail(edge.source, decay_db) for edge in node.edges), default=0) + node.chain.tail(decay_db)

    def _add_sum(
        self,
        key: str,
        strips: Mapping[int | str, Track | Bus],
        feeders: list[int | str],
        inserts: list[Insert],
        where: str,
    ) -> None:
        arrival = max((self._nodes[feeder].total_latency for feeder in feeders), default=0)
        edges = []
        for feeder in feeders:
            node, strip = self._nodes[feeder], strips[feeder]
            channels = node.chain.channels_out
            levels: list[Gain | None] = [None] if strip.output == key else []
            if key in strip.sends:
                send = Gain(self.rate, channels, self.dtype, -node.total_latency, gain_db=strip.sends[key])
                levels.append(send)
            for level in levels:
                edges.append(_Edge(feeder, level, DelayLine(channels, arrival - node.total_latency, self.dtype)))
        self._add(key, self._chain(inserts, 2, -arrival, where), edges)

    def blocks(self, start: int, end: int) -> Iterator[np.ndarray]:
        """The mix from sample `start` of the session to `end`, in float blocks (2, n).

        Always rendered from the session's beginning, so that any slice has the bits of the whole; a console renders
        once, as its sources can be read once.
        """
        for block, _ in self.blocks_and_parts(start, end, parts=False):
            yield block

    def blocks_and_parts(
        self, start: int, end: int, parts: bool = True
    ) -> Iterator[tuple[np.ndarray, dict[int | str, np.ndarray]]]:
        """As `blocks`, with what each of `feeders` adds to the sum before the master, (2, n), aligned with it."""
        if self._started:
            raise RuntimeError("this console has rendered already; make a new one, with its sources at their beginning")
        self._started = True
        master = self._nodes[MASTER]
        held = {key: DelayLine(2, master.chain.latency, self.dtype) for key in self.feeders} if parts else {}
        sums = [key for key in self._nodes if isinstance(key, str)]
        at = -self.latency
        lengths = [min(self._block, end - first) for first in range(at, end, self._block)]
        with _Crew(self._threads) as crew:
            # While the buses and the master work on one block, the tracks are already at the next.
            crew.start(self._track_jobs(lengths[0]) if lengths else {})
            for n, following in zip(lengths, [*lengths[1:], 0], strict=True):
                outputs = crew.finish()
                crew.start(self._track_jobs(following) if following else {})
                for name in sums:
                    total, added = self._sum(self._nodes[name], outputs, n)
                    outputs[name] = self._nodes[name].chain.process(total)
                aligned = {key: line.process(added[key]) for key, line in held.items()}
                skip = max(0, start - at)
                if skip < n:
                    yield outputs[MASTER][:, skip:], {key: part[:, skip:] for key, part in aligned.items()}
                at += n

    def _track_jobs(self, n: int) -> dict[int | str, Callable[[], np.ndarray]]:
        return {
            i: (lambda node=self._nodes[i], source=source: node.chain.process(source.read(n)))
            for i, source in self._inputs.items()
        }

    def _sum(
        self, node: _Node, outputs: dict[int | str, np.ndarray], n: int
    ) -> tuple[np.ndarray, dict[int | str, np.ndarray]]:
        total = np.zeros((2, n))
        added = {}
        for edge in node.edges:
            x = outputs[edge.source]
            x = edge.line.process(x if edge.level is None else edge.level.process(x))
            add_to_sum(total, x)
            if edge.level is None:
                added[edge.source] = np.broadcast_to(x, (2, n))
        return total.astype(self.dtype), added


class _Crew:
    """Does jobs on a number of threads, of which the caller's is one."""

    def __init__(self, threads: int):
        self._pool = ThreadPoolExecutor(threads - 1) if threads > 1 else None
        self._helpers = threads - 1
        self._keys: list[int | str] = []
        self._waiting: deque[tuple[int | str, Callable[[], np.ndarray]]] = deque()
        self._results: dict[int | str, np.ndarray] = {}
        self._futures: list[Future] = []

    def __enter__(self) -> _Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.clear()
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def start(self, jobs: dict[int | str, Callable[[], np.ndarray]]) -> None:
        """Let the helpers begin."""
        self._keys = list(jobs)
        self._waiting.extend(jobs.items())
        self._results = {}
        if self._pool:
            self._futures = [self._pool.submit(self._work) for _ in range(min(self._helpers, len(jobs)))]

    def finish(self) -> dict[int | str, np.ndarray]:
        """Lend a hand until all jobs are done; their results, in the order of the jobs."""
        self._work()
        for future in self._futures:
            future.result()
        self._futures = []
        return {key: self._results[key] for key in self._keys}

    def _work(self) -> None:
        while True:
            try:
                key, job = self._waiting.popleft()
            except IndexError:
                return
            self._results[key] = job()


def _last_breakpoint(mix: Mix) -> float:
    """When the last automated control comes to rest, in seconds."""
    values = [value for _, insert in mix.inserts() for value in insert.controls.values()]
    values += [level for _, strip in mix.strips() for level in getattr(strip, "sends", {}).values()]
    return max((value.points[-1][0] for value in values if isinstance(value, Curve)), default=0.0)


def seconds_to_samples(seconds: float, rate: float) -> int:
    """A time in seconds as the nearest sample."""
    return math.floor(seconds * rate + 0.5)
