"""`fit`: what happens in which order, and what is said of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from mixtools.controls import GRAPHIC_CENTRES_HZ, Curve
from mixtools.diff.losses import TOWARDS
from mixtools.dsp.graphic_eq import band_firs, usable_bands
from mixtools.errors import ParameterError
from mixtools.mix import Mix, Track
from mixtools.tasks.excerpts import Range, alternate_blocks, choose_excerpts
from mixtools.tasks.fit.alignment import align
from mixtools.tasks.fit.checking import Checked, check
from mixtools.tasks.fit.conditioning import Conditioning, telling_apart
from mixtools.tasks.fit.descent import REVERB, Descent
from mixtools.tasks.fit.dynamics import Dynamics
from mixtools.tasks.fit.estimate import Estimate, Problem, Strip
from mixtools.tasks.fit.linear import LEAST_ORDER, Linear, fit_gains
from mixtools.tasks.fit.options import DEFAULTS, Options
from mixtools.tasks.fit.pruning import pruned
from mixtools.tasks.fit.unheard import without_unheard
from mixtools.tasks.fit.whitening import ORDER
from mixtools.tasks.recordings import Chosen, Recording

SOLVING, VALIDATING, CHECKING = "solving", "validating", "checking"
"""Stages, as progress is told of them."""

MOST_S = 60.0
"""Of a song, what is fitted at most: more of it costs time and memory, and says little more."""

EXCERPT_SAMPLES = 30 * 44100
"""What descent hears, in one piece, about as long as the paper's."""

ALIGNED_S = 20.0
"""What stems are aligned by."""

MUCH = 0.03
"""Of the mix's energy: what the console model may leave before it looks for more."""

POLISH_STEPS = 40
POLISH_RATES = 1e-2, 1e-3, 1e-4
POLISHED_DB = -40.0
"""A residual above this is polished by descent, unless the number of steps says otherwise; responses of their own for
every strip are only polished where steps are asked for."""

POOR_DB = -6.0
"""A fit whose residual is above this is tried on what it did not see, asked or not."""

UNRELATED_DB = -1.0
"""An unseen residual above this explains nothing."""

CROWDED = 0.5
"""Unknowns per sample from which on the residual of what was fitted says little."""


@dataclass
class Fitted:
    """A mix that remakes the mix, its impulse responses (2, taps) by the keys the mix names them with, and a report."""

    mix: Mix
    responses: dict[str, np.ndarray]
    report: dict[str, Any]
    warnings: list[str] = field(default_factory=list)
    interrupted: bool = False


def fit(
    stems: Mapping[str, Recording],
    target: Recording,
    rate: int,
    options: Options = DEFAULTS,
    progress: Callable[[str, float], None] = lambda what, share: None,
) -> Fitted:
    """Find the console settings that make `target` of the stems, all at `rate`.

    Interrupted (KeyboardInterrupt) after something was found, it returns the best so far.
    """
    return _Fit(stems, target, rate, options, progress).run()


class _Fit:
    def __init__(
        self,
        stems: Mapping[str, Recording],
        target: Recording,
        rate: int,
        options: Options,
        progress: Callable[[str, float], None],
    ):
        self.stems = {name: stems[name] for name in sorted(stems)}
        self.target, self.rate, self.options = target, rate, options
        self._progress = progress
        self.warnings: list[str] = []
        self.best: Estimate | None = None
        self.removed: list[str] | None = None
        self.unheard: set[int] = set()
        self._last: tuple[Estimate, list[Range], Checked] | None = None
        self.reverb_s = options.reverb_s

    def stage(self, what: str) -> Callable[[float], None]:
        return lambda share: self._progress(what, share)

    def run(self) -> Fitted:
        ranges = self.ranges(MOST_S, 10.0)
        length = sum(stop - start for start, stop in ranges) / self.rate
        if self.options.has_reverb and length < self.reverb_s:
            self.warnings.append(
                f"the mix is shorter than the reverb: what is fitted lasts {length:.2f} s, and so do the impulse "
                f"responses, instead of {self.reverb_s:g} s"
            )
            self.reverb_s = length
        problem = Problem(self.strips(), self.target, self.rate, ranges)
        crowd = len(problem.strips) * self.reverb_s / length
        if self.options.model == "individual-bus" and crowd > CROWDED and not self.options.validate:
            self.warnings.append(
                f"{len(problem.strips)} responses of {self.reverb_s:g} s on {length:.1f} s have {crowd:.2f} unknowns "
                "per sample, and would fit much of anything; give --validate for the residual that counts"
            )
        unseen, interrupted = None, False
        try:
            if self.options.align:
                self.align(problem)
            conditioning = telling_apart(
                [strip.moved for strip in problem.strips], ranges, self.rate, [_label(s) for s in problem.strips]
            )
            if self.options.validate:
                unseen = self.unseen(problem)
            self.estimate(problem, SOLVING, self.keep)
            if self.options.prune_db is not None:
                self.prune(problem, self.options.prune_db)
            checked = self.check(self.best, problem.ranges, CHECKING)
            poor = checked.residual_db is not None and checked.residual_db > POOR_DB
            if poor and unseen is None and checked.unseen_residual_db is None:
                unseen = self.unseen(problem)
        except KeyboardInterrupt:
            if self.best is None:
                raise
            interrupted = True
            checked = self.check(self.best, problem.ranges, CHECKING)
        return self.fitted(problem, conditioning, checked, unseen, interrupted)

    def ranges(self, most_s: float, piece_s: float) -> list[Range]:
        options, rate = self.options, self.rate
        start = round((options.start_s or 0.0) * rate)
        end = self.target.frames if options.end_s is None else min(round(options.end_s * rate), self.target.frames)
        if start >= end:
            raise ParameterError(
                f"start_s is {start / rate:g}, but what can be fitted ends at {end / rate:g} s; start earlier"
            )
        return choose_excerpts(self.stems, self.target, rate, most_s, piece_s, start, end)

    def strips(self) -> list[Strip]:
        strips = []
        for name, recording in self.stems.items():
            if recording.channels == 1:
                strips.append(Strip(name, "both", recording))
            elif self.target.channels == 1:
                strips.append(Strip(name, "mid", Chosen(recording, "mid")))
            elif self.options.split_stereo:
                strips += [Strip(name, side, Chosen(recording, side)) for side in ("left", "right")]
            else:
                strips.append(Strip(name, "both", recording))
        return strips

    def align(self, problem: Problem) -> None:
        """Move every strip by whole samples to where it belongs; what is left of a sample the settings find."""
        named = {_label(strip): strip for strip in problem.strips}
        ranges = self.ranges(ALIGNED_S, 10.0)
        found = align(
            {label: strip.recording for label, strip in named.items()},
            self.target,
            self.rate,
            ranges,
            self.stage("aligning"),
        )
        for label, strip in named.items():
            strip.offset = round(found.stems[label].offset)

    def estimate(self, problem: Problem, stage: str, keep: Callable[[Estimate], None]) -> Estimate:
        """Fit the model to a problem's ranges; `keep` hears of everything better on the way."""
        found = self.modelled(problem, stage, keep)
        power = self.check(found, problem.ranges, stage).residual_power
        found, unheard = without_unheard(problem, found, power)
        if stage == SOLVING:
            self.unheard = unheard
        keep(found)
        return found

    def modelled(self, problem: Problem, stage: str, keep: Callable[[Estimate], None]) -> Estimate:
        """The model's own answer."""
        options = self.options
        if options.method == "descent":
            return self.descend(problem, stage, keep)
        if options.model == "gain":
            found = fit_gains(problem)
            keep(found)
            return found
        if options.model == "console":
            return self.moving(problem, stage, keep)
        linear = Linear(problem, 0.0 if options.model == "eq" else self.reverb_s, self.stage(stage))
        individual = options.model == "individual-bus"
        found = linear.individual() if individual else linear.estimate(linear.structured(keep))
        keep(found)
        steps = options.steps
        if steps is None:
            residual = self.check(found, problem.ranges, stage).residual_db
            near = individual or residual is None or residual < POLISHED_DB
            steps = 0 if near else POLISH_STEPS
        return self.polished(problem, found, steps, keep) if steps else found

    def prune(self, problem: Problem, db: float) -> None:
        """Take from the best what it can do without."""
        self.best, self.removed = pruned(
            self.best,
            self.stems,
            self.target,
            self.rate,
            problem.ranges,
            db,
            self.options.threads,
            self.stage("pruning"),
        )

    def moving(self, problem: Problem, stage: str, keep: Callable[[Estimate], None]) -> Estimate:
        """The console with dynamics, from a linear one.

        Dynamics are looked for in a white mix, where quiet differences count, and if those do not explain it in one
        where only what is loud counts; what is left then goes to responses of their own.
        """
        options, final = self.options, stage == SOLVING

        def desk(order: int) -> Dynamics:
            linear = Linear(problem, self.reverb_s, self.stage(stage), order)
            settings = linear.structured(keep)
            found = Dynamics(problem, self.excerpt(problem), self.reverb_s, linear, settings)
            found.search(self.stage("searching dynamics" if final else stage))
            if options.automation_s is not None:
                found.automate(options.automation_s)
            return found

        dynamics = desk(ORDER)
        if dynamics.left() > MUCH:
            loud = desk(LEAST_ORDER)
            # Both in what is loud.
            dynamics.listen(loud.colour)
            dynamics = min(loud, dynamics, key=lambda found: found.left())
            if dynamics.left() > MUCH:
                dynamics.explain_rest()
        keep(dynamics.estimate())
        towards = None if options.loss == "time" else TOWARDS[options.loss](torch.from_numpy(dynamics.heard))
        try:
            dynamics.descend(options.steps, towards, self.stage("descending" if final else stage))
        finally:
            keep(dynamics.estimate())
        return dynamics.estimate()

    def descend(self, problem: Problem, stage: str, keep: Callable[[Estimate], None]) -> Estimate:
        """The paper's own method, on one excerpt of the ranges."""
        options = self.options
        architecture = "stereo-bus" if options.model == "console" else options.model
        descent, mask = self.descent(problem, [s.moved for s in problem.strips], architecture=architecture)
        files, channels = zip(*((strip.file, strip.channel) for strip in problem.strips), strict=True)
        try:
            descent.run(options.steps, self.stage(stage), mask)
        finally:
            tracks, buses, responses = descent.tracks(files, channels)
            for track, strip in zip(tracks, problem.strips, strict=True):
                track.offset_ms += problem.ms(strip.offset)
            found = Estimate(tracks, list(range(len(tracks))), buses, responses=responses)
            keep(found)
        return found

    def polished(self, problem: Problem, found: Estimate, steps: int, keep: Callable[[Estimate], None]) -> Estimate:
        """An estimate after some steps of descent, from where it is."""
        start = found.tracks, found.buses, found.responses
        descent, mask = self.descent(problem, [problem.strips[i].recording for i in found.whose], start=start)
        try:
            descent.run(steps, self.stage("polishing"), mask, POLISH_RATES, patience=max(1, steps // 4))
        finally:
            tracks, buses, responses = descent.tracks(law="balance")
            found = replace(found, tracks=tracks, buses=buses, responses=responses)
            keep(found)
        return found

    def descent(self, problem: Problem, stems: list[Recording], **keywords: Any) -> tuple[Descent, np.ndarray]:
        """A descent on the excerpt that stands for the problem best, and which of its samples count."""
        first, last = self.excerpt(problem)
        taps = round(self.reverb_s * self.rate)
        lead = 2 * taps + self.rate
        if "start" in keywords:
            lead += round(max(abs(track.offset_ms) for track in keywords["start"][0]) / 1000 * self.rate)
        descent = Descent(
            [stem.read(first - lead, last - first + lead) for stem in stems],
            np.broadcast_to(self.target.read(first, last - first), (2, last - first)).copy(),
            self.rate,
            taps=taps,
            seed=self.options.seed,
            device=self.options.device,
            loss=self.options.loss,
            lead=lead,
            **keywords,
        )
        mask = np.zeros(last - first, bool)
        for start, stop in problem.ranges:
            mask[max(start - first, 0) : max(stop - first, 0)] = True
        return descent, mask

    def excerpt(self, problem: Problem) -> Range:
        """The piece of the mix that stands for the problem best, where a method takes only one."""
        seconds = EXCERPT_SAMPLES / self.rate
        return choose_excerpts(
            self.stems, self.target, self.rate, seconds, seconds, problem.ranges[0][0], problem.ranges[-1][1]
        )[0]

    def keep(self, estimate: Estimate) -> None:
        self.best = estimate

    def check(self, estimate: Estimate, seen: list[Range], stage: str) -> Checked:
        """How near an estimate comes; the last one's answer is kept, as several steps ask for it."""
        if self._last is None or self._last[0] is not estimate or self._last[1] != seen:
            checked = check(
                estimate,
                self.stems,
                self.target,
                self.rate,
                seen,
                self.options.loss,
                self.options.threads,
                self.stage(CHECKING if stage == SOLVING else stage),
            )
            self._last = estimate, seen, checked
        return self._last[2]

    def unseen(self, problem: Problem) -> float | None:
        """The residual on what a fit of alternate blocks does not see."""
        seen, rest = alternate_blocks(problem.ranges, self.rate)
        if not rest:
            self.warnings.append("the mix is too short to keep blocks of 5 s back; there is no unseen residual")
            return None
        estimate = self.estimate(problem.within(seen), VALIDATING, lambda found: None)
        return self.check(estimate, seen, VALIDATING).unseen_residual_db

    def fitted(
        self,
        problem: Problem,
        conditioning: Conditioning,
        checked: Checked,
        unseen: float | None,
        interrupted: bool,
    ) -> Fitted:
        unseen = checked.unseen_residual_db if unseen is None else unseen
        notes = self.notes(problem, conditioning)
        for label, note in notes.items():
            if note:
                self.warnings.append(f"{label}: {note}; nothing certain can be said of its settings")
        if unseen is not None and unseen > UNRELATED_DB:
            self.warnings.append(
                f"the mix does not seem to be made of these stems: a fit leaves {unseen:+.1f} dB of what it did not see"
            )
        mix = self.best.mix(self.rate)
        report = {
            "model": self.options.model,
            "method": self.options.method,
            "sample_rate": self.rate,
            "reverb_s": self.reverb_s if self.options.has_reverb else None,
            "seconds": self.target.frames / self.rate,
            "fitted": [[start / self.rate, stop / self.rate] for start, stop in problem.ranges],
            "residual_db": checked.residual_db,
            "unseen_residual_db": unseen,
            "loss": checked.loss,
            "pruned": self.removed,
            "features": checked.features,
            "tracks": self.lines(problem, conditioning, checked, notes),
        }
        return Fitted(mix, self.best.responses, report, self.warnings, interrupted)

    def notes(self, problem: Problem, conditioning: Conditioning) -> dict[str, str | None]:
        """What keeps a strip from being known, by its label."""
        notes = {_label(strip): conditioning.stems[_label(strip)].note for strip in problem.strips}
        for i in self.unheard:
            label = _label(problem.strips[i])
            notes[label] = f"{notes[label] or 'too quiet'} in what was fitted, and has the others' gain"
        return notes

    def lines(
        self, problem: Problem, conditioning: Conditioning, checked: Checked, notes: Mapping[str, str | None]
    ) -> list[dict[str, Any]]:
        """What is said of each strip."""
        lines = []
        gains: dict[str, float] = {}
        for i, strip in enumerate(problem.strips):
            own = [track for track, whose in zip(self.best.tracks, self.best.whose, strict=True) if whose == i]
            line = _line(own, self.best, self.rate)
            gains[_label(strip)] = 10.0 ** (line["gain_db"] / 20.0)
            lines.append(line)
        sure = conditioning.sure_db(checked.residual_power, gains)
        for i, (strip, line) in enumerate(zip(problem.strips, lines, strict=True)):
            line["sure_db"] = sure[_label(strip)] if i not in self.unheard else None
            line["note"] = notes[_label(strip)]
        return lines


def _label(strip: Strip) -> str:
    return strip.file if strip.channel in ("both", "mid") else f"{strip.file} ({strip.channel})"


def _line(own: list[Track], estimate: Estimate, rate: int) -> dict[str, Any]:
    """A strip in numbers, from its tracks: the dry one, and perhaps one that holds the rest."""
    dry = own[0]
    given = {insert.effect: insert.settings for insert in dry.chain}
    eq = given.get("graphic_eq")
    bands = usable_bands(rate)
    gain = given.get("gain", {"gain_db": 0.0, "invert": False})
    return {
        "file": dry.file,
        "channel": dry.channel,
        "gain_db": _steady(gain["gain_db"]),
        "inverted": gain["invert"],
        "pan": given.get("pan", {"pan": 0.5})["pan"],
        "eq_db": [eq[f"band{hz}_gain_db"] if hz in bands else None for hz in GRAPHIC_CENTRES_HZ] if eq else None,
        "delay_ms": dry.offset_ms,
        "reverb_db": _reverb_db(own, given, estimate, rate),
    }


def _steady(value: float | Curve) -> float:
    """A control's value, of one that moves the mean of its breakpoints."""
    return sum(level for _, level in value.points) / len(value.points) if isinstance(value, Curve) else value


def _reverb_db(own: list[Track], given: dict[str, Any], estimate: Estimate, rate: int) -> float | None:
    """Level of what a strip sounds like after its direct sound, relative to that, for a stem that is white noise."""
    keys = [insert.controls["ir"] for track in own for insert in track.chain if insert.effect == "convolution"]
    shared = estimate.responses.get(REVERB)
    if keys:
        eq = given.get("graphic_eq")
        amplitudes = [10.0 ** (eq[f"band{hz}_gain_db"] / 20.0) if eq else 1.0 for hz in usable_bands(rate)]
        pan = given.get("pan", {"pan": 0.5})["pan"]
        sides = min(1.0, 2 * (1 - pan)) ** 2 + min(1.0, 2 * pan) ** 2
        gain_db = _steady(given.get("gain", {"gain_db": 0.0})["gain_db"])
        direct = np.square(amplitudes @ band_firs(rate)).sum() * 10.0 ** (gain_db / 10.0) * sides
        wet = sum(float(np.square(estimate.responses[key], dtype=np.float64).sum()) for key in keys)
        return 10.0 * math.log10(max(wet, 1e-20) / max(direct, 1e-20))
    if shared is None or REVERB not in own[0].sends:
        return None
    pan = given.get("pan", {"pan": 0.5})["pan"]
    sides = np.square([min(1.0, 2 * (1 - pan)), min(1.0, 2 * pan)])
    wet = float((np.square(shared, dtype=np.float64).sum(1) * sides).sum() / sides.sum())
    return own[0].sends[REVERB] + 10.0 * math.log10(max(wet, 1e-20))
