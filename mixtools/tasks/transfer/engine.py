"""Direct optimisation: stems, records and a start mix in, a mix that is like the records out."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from mixtools.dsp.console import Console, Responses
from mixtools.dsp.noise import generator
from mixtools.errors import ParameterError
from mixtools.measure.audio_features import AF_TERMS, AudioFeatures
from mixtools.mix import Mix
from mixtools.tasks.automix.baselines import baseline
from mixtools.tasks.automix.mastering import Held, Mastered, mastered
from mixtools.tasks.automix.options import CEILING_DBTP
from mixtools.tasks.automix.roles import role_named
from mixtools.tasks.excerpts import Range
from mixtools.tasks.loudnorm import MOST_LIMITING_DB
from mixtools.tasks.recordings import ArrayRecording, Recording
from mixtools.tasks.transfer.blending import blended
from mixtools.tasks.transfer.desk import Desk
from mixtools.tasks.transfer.dynamics import Finished, compressed_db, crest_db, decibels, finished, squeeze
from mixtools.tasks.transfer.goal import Goal, features_at
from mixtools.tasks.transfer.options import ASPECTS, STEPS, Amount
from mixtools.tasks.transfer.report import lines, master_line
from mixtools.tasks.transfer.search import Search
from mixtools.tasks.transfer.session import Session
from mixtools.tasks.transfer.sketch import Sketch, typical_of

SQUEEZED_FROM_DB, RELEASED_FROM_DB = 3.0, 1.0
SQUEEZED, RELEASED = 0.5, 2.0
MOST_SQUEEZED_DB, MOST_RELEASED_DB = 5.0, 10.0
"""A start whose crest factor is further above the reference's than the first has its tracks compressed by this part of
the rest, so that the master need not do it all; one that is below the second has its compressors do less."""

RADII = 2.5, 1.5, 1.0, 0.7, 0.5
"""How far each round may go from the one before, in spreads: the sketch knows best what is near."""

FIRM, EASE = 3, 0.3
"""After so many rounds, what keeps near the start counts less."""

ENOUGH = 1e-4
PATIENCE, TRIES = 2, 4
"""So many rounds in a row that gain less are the last, and so many that make it worse: each goes half as far."""

CLIMB, AGAIN = 8, 4
NEAR = 5e-3
KICK = 0.5
"""A search of so many rounds that is not yet so near goes on for so many more from a place aside, all controls moved
at random by so many spreads, and again: where it ends depends on where it begins."""

WHOLE = Amount()

Progress = Callable[[int, int, float], None]
"""Hears of rounds that are done, of how many, and the loss of the best so far."""


@dataclass(frozen=True, eq=False)
class Transferred:
    """What came of it: the start as it was given, and the mix that was found, without loudness on its master.

    `base` is the start with all the effects and sends of what was found, doing nothing where the start has none.
    `ceiling_dbtp` is for the limiter that ends the mix at `target_lufs`, and lowers peaks by `limited_db` or what a
    limiter may do unheard. `losses` are the terms of the loss on the
    parts that were listened to (`ranges`), of the equal-loudness mix, of the start and of what was found, `features`
    those it is of.
    """

    start: Mix
    base: Mix
    found: Mix
    target_lufs: float
    ceiling_dbtp: float
    limited_db: float
    losses: dict[str, dict[str, float]]
    features: dict[str, AudioFeatures]
    ranges: list[Range]
    lines: list[str]
    rounds: int
    stopped: bool = False

    def blended(self, amount: Amount) -> Mix:
        """The mix that goes so far; the start itself where that is nowhere."""
        if not any(amount.of(aspect) for aspect in ASPECTS):
            return self.start
        return blended(self.base, self.found, amount)

    def ceiling_of(self, amount: Amount) -> float:
        """The ceiling of the limiter that ends it."""
        return float(f"{CEILING_DBTP + amount.of('dynamics') * (self.ceiling_dbtp - CEILING_DBTP):.4g}")

    def most_limiting_of(self, amount: Amount) -> float:
        """What that limiter may do, in dB."""
        return max(MOST_LIMITING_DB, amount.of("dynamics") * self.limited_db)


@dataclass(frozen=True, eq=False)
class _Point:
    """Controls that were heard."""

    x: np.ndarray
    mix: Mix
    done: Finished
    features: AudioFeatures | None
    typical: np.ndarray
    cost: float
    total: float


def transfer(
    stems: Mapping[str, Recording],
    rate: int,
    goal: Goal,
    start: Mix,
    *,
    roles: Mapping[str, str] | None = None,
    locked: Collection[str] = (),
    steps: int = STEPS.default,
    target_lufs: float | None = None,
    first: int = 0,
    last: int | None = None,
    most_s: float | None = None,
    threads: int = 1,
    responses: Responses | None = None,
    progress: Progress = lambda done, steps, loss: None,
    stop: Callable[[], bool] = lambda: False,
) -> Transferred:
    """Move a start mix towards a goal, and stay near it.

    `roles` say which stems belong in the centre; without, their names do. Tracks whose files are `locked` stay as they
    are. Samples from `first` to `last` may be listened to, `most_s` seconds of them at most. `stop` is asked between
    rounds; it, or a KeyboardInterrupt, ends the search with the best so far.
    """
    if not stems:
        raise ParameterError("there are no stems; give at least one")
    for i, track in enumerate(start.tracks):
        if track.file not in stems:
            raise ParameterError(f"tracks[{i}].file is {track.file}, which is not among the stems; give it")
    steps = STEPS.check(steps, STEPS.name)
    stems = {name: stems[name] for name in sorted(stems)}
    roles = dict(roles or {name: role_named(name) or "other" for name in stems})
    kept = {} if most_s is None else {"most_s": most_s}
    session = Session(stems, rate, start=first, end=last, threads=threads, responses=responses, **kept)
    return _Engine(session, goal, start, roles, locked, goal.lufs if target_lufs is None else target_lufs).run(
        steps, progress, stop
    )


def mastered_as_wanted(
    mix: Mix,
    open_console: Callable[[Mix], Console],
    result: Transferred,
    amount: Amount = WHOLE,
    progress: Callable[[int], None] = lambda done: None,
    held: Held | None = None,
) -> Mastered:
    """A mix of a transfer, gone so far, at its loudness under its ceiling; see `mastered`."""
    most_db = result.most_limiting_of(amount)
    return mastered(mix, open_console, result.target_lufs, result.ceiling_of(amount), progress, most_db, held)


class _Engine:
    def __init__(
        self,
        session: Session,
        goal: Goal,
        start: Mix,
        roles: Mapping[str, str],
        locked: Collection[str],
        target_lufs: float,
    ):
        self.session, self.goal, self.roles, self.target_lufs = session, goal, roles, target_lufs
        self.start = start
        self.silent = [name for name, x in session.stems.items() if not _sounds(session.cut(x))]
        self.locked = locked
        self.equal = self.equally_loud()
        self.wanted_crest_db = float(np.mean(goal.features.crest_db))

    def run(self, steps: int, progress: Progress, stop: Callable[[], bool]) -> Transferred:
        equal = self.heard(self.session.rendered(self.equal))
        before = self.heard(self.session.rendered(self.start))
        features = {"equal-loudness": equal, "start": before}
        self.limits = dict.fromkeys(AF_TERMS, math.inf) | self.goal.loss(equal)
        self.desk = Desk(self.start, self.locked, self.silent)
        best, rounds, stopped = None, 0, False
        if steps and before is not None and self.desk.free:
            try:
                self.parts_lufs = self.target_lufs + self.session.louder_lu(self.desk.neutral)
                for rounds, best in enumerate(self.rounds(steps), 1):
                    progress(rounds, steps, best.total)
                    if stop():
                        stopped = True
                        break
            except KeyboardInterrupt:
                stopped = True
        base, found, ceiling, told = self.start, self.start, CEILING_DBTP, self.told(self.desk.neutral)
        limited_db = 0.0
        if best is not None and best.total > self.goal.loss(before)["total"]:
            # The search heeds more than the loss, but what it brings has to be nearer than the start.
            best = None
        features["found"] = before
        if best is not None:
            written = self.written(best)
            base, found = self.desk.tidied(written)
            ceiling, limited_db, told = self.ceiling(best.done), best.done.limited_db, self.told(written)
            features["found"] = best.features
        losses = {name: self.goal.loss(each) for name, each in features.items()}
        return Transferred(
            self.start,
            base,
            found,
            self.target_lufs,
            ceiling,
            limited_db,
            losses,
            features,
            self.session.ranges,
            told,
            rounds,
            stopped,
        )

    def heard(self, x: np.ndarray) -> AudioFeatures | None:
        return features_at(x, self.session.rate, self.goal.rate)

    def equally_loud(self) -> Mix:
        parts = {name: ArrayRecording(self.session.cut(x)) for name, x in self.session.stems.items()}
        return baseline("equal-loudness", parts, self.session.rate)

    def rounds(self, steps: int) -> Iterator[_Point]:
        """The best point so far, again and again, each time after a step."""
        self.squeeze()
        self.sketch = Sketch(self.desk, self.session, self.goal.rate)
        self.search = Search(self.sketch, self.goal, self.roles, self.limits)
        best, done, kicks = self.point(np.zeros(len(self.search.low))), 0, 0
        for there in self.climb(best, min(CLIMB, steps)):
            best, done = there, done + 1
            yield best
        best = self.eased(best)
        while done < steps and best.total >= NEAR:
            for there in self.climb(self.kicked(best, kicks), min(AGAIN, steps - done), 1):
                best, done = min(best, there, key=lambda point: point.cost), done + 1
                yield best
            kicks += 1

    def climb(self, best: _Point, steps: int, first: int = 0) -> Iterator[_Point]:
        """The best point from one on, again and again; the first step may go as far as that one of `RADII`, or, as
        the very first, as far as it likes."""
        scale, few, failed = 1.0, 0, 0
        for step in range(first, first + steps):
            radius = RADII[min(step, len(RADII) - 1)] * scale if step else math.inf
            if step:
                self.sketch.listen_again(best.mix, self.search.moving(best.x))
            if step == FIRM:
                best = self.eased(best)
            self.search.correct(best.x, best.features, best.done.free_crest_db, best.typical)
            new = self.point(self.search.improved(best.x, radius))
            gained = best.cost - new.cost
            if gained > 0.0:
                best, failed = new, 0
                few = few + 1 if gained < ENOUGH else 0
            else:
                scale, failed = 0.5 * scale, failed + 1
            yield best
            if few == PATIENCE or failed == TRIES:
                return

    def eased(self, best: _Point) -> _Point:
        """What keeps near the start counts less from here on."""
        self.search.ease = EASE
        cost = self.search.true_cost(best.x, self.goal.loss(best.features), best.typical)
        return replace(best, cost=cost)

    def kicked(self, best: _Point, kick: int) -> _Point:
        """A place aside; the same every time."""
        moved = KICK * generator(kick, "transfer").standard_normal(len(best.x))
        return self.point(np.clip(best.x + moved, self.search.low, self.search.high))

    def point(self, x: np.ndarray) -> _Point:
        """Hear controls."""
        mix = self.desk.set(self.search.controls(x))
        done = finished(self.session.rendered(mix), self.session.rate, self.wanted_crest_db, self.parts_lufs)
        features = self.heard(done.audio)
        loss = self.goal.loss(features)
        typical = typical_of(done.audio, self.session.rate, self.goal.rate).numpy()
        return _Point(x, mix, done, features, typical, self.search.true_cost(x, loss, typical), loss["total"])

    def squeeze(self) -> None:
        """Let the tracks' compressors do their part for the crest factor."""
        over = float(crest_db(self.session.rendered(self.desk.mix)).mean()) - self.wanted_crest_db
        if over > SQUEEZED_FROM_DB:
            amount = min(SQUEEZED * (over - SQUEEZED_FROM_DB), MOST_SQUEEZED_DB)
        else:
            amount = max(RELEASED * (over - RELEASED_FROM_DB), -MOST_RELEASED_DB)
        if over > SQUEEZED_FROM_DB or over < RELEASED_FROM_DB:
            squeeze(self.desk, self.session, amount, self.roles)

    def ceiling(self, done: Finished) -> float:
        """That of the limiter at the end, whose mix is as loud as wanted; the parts that were heard may be louder."""
        if done.ceiling_db is None:
            return CEILING_DBTP
        return float(f"{min(CEILING_DBTP, done.ceiling_db + self.parts_lufs):.3g}")

    def written(self, best: _Point) -> Mix:
        controls = replace(self.search.controls(best.x), master_squeeze_db=best.done.squeeze_db)
        return self.desk.set(controls, best.done.peak_db)

    def told(self, mix: Mix) -> list[str]:
        """What was done, track by track, and to the master."""
        timed = self.session.in_its_time(mix)
        compressed = {}
        for k, i in enumerate(self.desk.free):
            place = self.desk.places[k].compressor
            x = self.session.through(timed.tracks[i].chain[:place], self.session.placed(timed.tracks[i]))
            compressed[i] = compressed_db(timed.tracks[i].chain[place], decibels(np.abs(self.session.cut(x)).max()))
        settled = set(range(len(mix.tracks))) - set(self.desk.free)
        return [*lines(self.equal, mix, compressed, settled), master_line(mix)]


def _sounds(x: np.ndarray) -> bool:
    return bool(np.abs(x).max(initial=0.0) > 1e-6)
