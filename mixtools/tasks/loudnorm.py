"""Bringing audio to a target loudness, under a true-peak ceiling."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from mixtools.dsp.effect import amplitude, as_block
from mixtools.dsp.limiter import Limiter
from mixtools.dsp.source import ArraySource, Source
from mixtools.measure.levels import LevelMeter, Levels
from mixtools.measure.loudness import ABSOLUTE_GATE_LUFS, SLOT_S, SLOTS_IN_A_BLOCK, LoudnessMeter
from mixtools.measure.peaks import PeakMeter, decibels

BLOCK = 65536
TOLERANCE_LU = 0.1
"""How near the target a limited file has to come."""

AIM_LU = 0.02
"""How near it is brought while there are passes left."""

MOST_PASSES = 10
ROUNDING_DB = 1e-5
"""Kept below the ceiling, for the rounding of float32 audio."""

MOST_LIMITING_DB = 6.0
"""A limiter that has to do more than this is heard."""

Peak = Literal["limit", "lower", "ignore"]
Progress = Callable[[float], None]


Opener = Callable[[], Source]
"""Gives a source at its beginning, once per pass over it."""


@dataclass(frozen=True)
class Plan:
    """What a file needs: a gain, and a limiter where `limiting_db` is above 0.

    `predicted` are the levels that come of it, `missed_lu` by how much they are below the target, and `unchanged` says
    why a file has no loudness to change.
    """

    before: Levels
    predicted: Levels
    gain_db: float = 0.0
    limiting_db: float = 0.0
    missed_lu: float = 0.0
    unchanged: str | None = None

    def carried_out(
        self, source: Source, rate: int, true_peak_dbtp: float, progress: Progress = lambda share: None
    ) -> Iterator[np.ndarray]:
        """The source as planned for that ceiling, block by block."""
        return changed(source, rate, self.gain_db, true_peak_dbtp if self.limiting_db > 0 else None, progress)


class Sum:
    """Sources of one rate, summed; mono ones reach both sides of a stereo sum."""

    def __init__(self, sources: Sequence[Source]):
        self._sources = sources
        self.channels = max(source.channels for source in sources)
        self.frames = max(source.frames for source in sources)

    def read(self, n: int) -> np.ndarray:
        """The next n samples, float64; sources that have ended are silent."""
        total = np.zeros((self.channels, n))
        longest = 0
        for source in self._sources:
            block = source.read(n)
            total[:, : block.shape[1]] += block
            longest = max(longest, block.shape[1])
        return total[:, :longest]


def blocks(source: Source, progress: Progress = lambda share: None) -> Iterator[np.ndarray]:
    """A source from its start to its end; `progress` hears the share that is done, 0 to 1."""
    done = 0
    while done < source.frames:
        block = source.read(BLOCK)
        yield block
        done += block.shape[1]
        progress(done / source.frames)


def metered(source: Source, rate: int, dual_mono: bool, progress: Progress) -> LevelMeter:
    """A meter that has heard a whole source."""
    meter = LevelMeter(rate, source.channels, dual_mono)
    for block in blocks(source, progress):
        meter.add(block)
    return meter


def measure(source: Source, rate: int, dual_mono: bool = False, progress: Progress = lambda share: None) -> Levels:
    """Loudness and peaks of a whole source."""
    return metered(source, rate, dual_mono, progress).levels


def gain_to(target_lufs: float, meter: LoudnessMeter) -> float:
    """The gain in dB that brings what a meter heard to a target: quiet blocks pass the absolute gate on the way."""
    gain = target_lufs - meter.integrated_lufs
    for _ in range(MOST_PASSES):
        reached = meter.integrated_lufs_after(gain)
        if reached is None or abs(target_lufs - reached) <= AIM_LU:
            break
        gain += target_lufs - reached
    return gain


def changed(
    source: Source, rate: int, gain_db: float, ceiling_db: float | None, progress: Progress = lambda share: None
) -> Iterator[np.ndarray]:
    """A source with a gain, and through the console's limiter where there is a ceiling: float32, as long as before."""
    gain = np.float64(amplitude(gain_db))
    raised_blocks = ((block * gain).astype(np.float32) for block in blocks(source, progress))
    if ceiling_db is None:
        yield from raised_blocks
        return
    limiter = Limiter(rate, source.channels, np.float32, ceiling_db=ceiling_db)
    late = limiter.latency
    for block in raised_blocks:
        limited = limiter.process(block)
        skipped = min(late, limited.shape[1])
        late -= skipped
        yield limited[:, skipped:]
    yield limiter.process(np.zeros((source.channels, limiter.latency), np.float32))[:, late:]


def plan(
    open_source: Opener,
    rate: int,
    target_lufs: float,
    true_peak_dbtp: float,
    peak: Peak = "limit",
    dual_mono: bool = False,
    progress: Progress = lambda share: None,
    most_limiting_db: float = MOST_LIMITING_DB,
) -> Plan:
    """Measure a source, and find what brings it to the target."""
    source = open_source()
    meter = metered(source, rate, dual_mono, progress)
    before = meter.levels
    if before.integrated_lufs is None:
        return Plan(before, before, unchanged=_why_unchanged(before, source, rate))
    gain = gain_to(target_lufs, meter.loudness)
    over = before.true_peak_dbtp + gain - true_peak_dbtp + ROUNDING_DB
    if over <= 0.0 or peak == "ignore":
        return Plan(before, raised(meter, gain), gain)
    if peak == "lower":
        return lowered(meter, gain - over, target_lufs)
    return _limited(open_source, rate, before, target_lufs, true_peak_dbtp, dual_mono, progress, most_limiting_db)


def _why_unchanged(levels: Levels, source: Source | Sum, rate: int) -> str:
    if levels.sample_peak_dbfs is None:
        return "silence"
    if source.frames < round(SLOTS_IN_A_BLOCK * SLOT_S * rate):
        return f"shorter than {1000 * SLOTS_IN_A_BLOCK * SLOT_S:g} ms, too short to have a loudness"
    return f"below {ABSOLUTE_GATE_LUFS:g} LUFS throughout, too quiet to have a loudness"


def raised(meter: LevelMeter, gain_db: float) -> Levels:
    """The levels after a gain."""
    levels = meter.levels
    moved = {name: value + gain_db for name, value in vars(levels).items() if value is not None and name != "range_lu"}
    return replace(levels, **moved | {"integrated_lufs": meter.loudness.integrated_lufs_after(gain_db)})


def lowered(meter: LevelMeter, gain_db: float, target_lufs: float) -> Plan:
    """A gain that stays below what the target needs."""
    after = raised(meter, gain_db)
    reached = ABSOLUTE_GATE_LUFS if after.integrated_lufs is None else after.integrated_lufs
    missed = target_lufs - reached
    return Plan(meter.levels, after, gain_db, missed_lu=missed if missed > TOLERANCE_LU else 0.0)


def _limited(
    open_source: Opener,
    rate: int,
    before: Levels,
    target_lufs: float,
    ceiling_db: float,
    dual_mono: bool,
    progress: Progress,
    most_limiting_db: float,
) -> Plan:
    """Find the gain before the limiter at which the target is met after it, by measuring and correcting.

    Loudness after the limiter rises with the gain before it, by less than the gain: the secant through the gain that
    needs no limiter and the last one that was too low, kept below gains known to be too high.
    """
    free = ceiling_db - before.true_peak_dbtp - ROUNDING_DB
    most = free + most_limiting_db
    low, low_lufs, high = free, before.integrated_lufs + free, np.inf
    gain = min(target_lufs - before.integrated_lufs, most)
    for _ in range(MOST_PASSES):
        source = open_source()
        meter = LevelMeter(rate, source.channels, dual_mono)
        for block in changed(source, rate, gain, ceiling_db, progress):
            meter.add(block)
        found = meter.levels
        found_lufs = ABSOLUTE_GATE_LUFS if found.integrated_lufs is None else found.integrated_lufs
        error = target_lufs - found_lufs
        if abs(error) <= AIM_LU or (error > 0 and gain == most):
            break
        slope = max((found_lufs - low_lufs) / (gain - low), 0.05)
        if error > 0:
            low, low_lufs = gain, found_lufs
        else:
            high = gain
        gain = min(gain + error / slope, most)
        if not low < gain < high:
            gain = (low + high) / 2
    missed = target_lufs - found_lufs
    return Plan(before, found, gain, gain - free, missed if abs(missed) > TOLERANCE_LU else 0.0)


def plan_together(
    open_sources: Sequence[Opener],
    rate: int,
    target_lufs: float,
    true_peak_dbtp: float,
    peak: Literal["lower", "ignore"] = "lower",
    dual_mono: bool = False,
    progress: Progress = lambda share: None,
    at_rate: Callable[[Source], Source] = lambda source: source,
) -> Plan:
    """One gain for stems, from the loudness of their sum; neither it nor a stem may exceed the ceiling.

    `at_rate` brings a stem to the rate of the sum; its own peaks are those it has before, as it will be written.
    """
    sources = [_Watched(open_()) for open_ in open_sources]
    total = Sum([at_rate(source) for source in sources])
    meter = metered(total, rate, dual_mono, progress)
    before = meter.levels
    if before.integrated_lufs is None:
        return Plan(before, before, unchanged=_why_unchanged(before, total, rate))
    gain = gain_to(target_lufs, meter.loudness)
    highest = max(before.true_peak_dbtp, decibels(max(source.peaks.true_peak for source in sources)))
    over = highest + gain - true_peak_dbtp + ROUNDING_DB
    if peak == "lower" and over > 0.0:
        return lowered(meter, gain - over, target_lufs)
    return Plan(before, raised(meter, gain), gain)


class _Watched:
    """A source that is measured as it is read."""

    def __init__(self, source: Source):
        self._source = source
        self.peaks = PeakMeter(source.channels)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def read(self, n: int) -> np.ndarray:
        block = self._source.read(n)
        self.peaks.add(block)
        return block


def normalise(
    x: np.ndarray,
    rate: int,
    target_lufs: float = -16.0,
    true_peak_dbtp: float = -1.0,
    peak: Peak = "limit",
    dual_mono: bool = False,
) -> np.ndarray:
    """Audio (channels, n) or (n,) at a target loudness, as float32 (channels, n); audio without a loudness as it is."""
    x = as_block(x)
    found = plan(lambda: ArraySource(x), rate, target_lufs, true_peak_dbtp, peak, dual_mono)
    return np.concatenate(list(found.carried_out(ArraySource(x), rate, true_peak_dbtp)), axis=1)
