"""What `mixtools transfer` does, from the names it is given to the files it writes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mixtools.cli import options
from mixtools.cli.automatic import Automatic, given_roles, locked_mix, opener, outline, warn_of_missing
from mixtools.cli.automatic import Wanted as Automix
from mixtools.cli.batch import Input, batch_of
from mixtools.cli.recordings import check_finished, recording, recordings
from mixtools.cli.rendering import Outputs, Session, Written, load, write
from mixtools.cli.report import Report, clock, count, levels
from mixtools.cli.tables import write_json
from mixtools.cli.training import torch_threads
from mixtools.errors import ParameterError
from mixtools.files.excerpts import Excerpts
from mixtools.files.models import bundled, open_model
from mixtools.measure.audio_features import AF_TERMS, AudioFeatures
from mixtools.mix import Master, Mix
from mixtools.tasks.automix.expert import Expert
from mixtools.tasks.automix.mastering import Held
from mixtools.tasks.recordings import Recording
from mixtools.tasks.transfer.engine import Transferred, mastered_as_wanted, transfer
from mixtools.tasks.transfer.goal import Goal, Reference, goal_of
from mixtools.tasks.transfer.options import Amount
from mixtools.tasks.transfer.places import near_centre

LISTENING, SEARCHING, MEASURING = "listening", "searching", "measuring"
"""Stages, as progress is told of them."""

WHO = {"equal-loudness": "equal loudness", "start": "start", "found": "result"}
"""Mixes, as tables name them; the reference comes last."""

BANDS_IN_ONE = 4
"""Bark bands that make one row of the table, unless -v asks for each."""


@dataclass(frozen=True)
class Wanted:
    """What is asked for."""

    stems: list[str]
    records: list[str]
    weights: Sequence[float] | None
    engine: str | None
    model: str | None
    steps: int
    amount: Amount
    start_s: float
    end_s: float | None
    ref_start_s: float
    ref_end_s: float | None
    from_file: str | None
    lock: str | None
    roles: Sequence[str]
    target_lufs: float | None
    rate: int | None
    threads: int
    dry_run: bool
    json: bool


class Run:
    """One transfer."""

    def __init__(
        self,
        report: Report,
        wanted: Wanted,
        output: str,
        bits: str | None,
        stems_out: Path | None,
        write_mix: str | None,
        force: bool,
        command: str,
    ):
        self.report, self.wanted = report, wanted
        if write_mix is None:
            write_mix = "mix.yaml" if output == options.STDIO else str(Path(output).with_suffix(".yaml"))
        on_stdout = [name for name, path in (("-o", output), ("--write-mix", write_mix)) if path == options.STDIO]
        if len(on_stdout) + (wanted.json and not wanted.dry_run) > 1:
            raise ParameterError(f"{' - and '.join(on_stdout)} - and --json write to stdout; give one of them a place")
        self.outputs = Outputs(output, bits, stems_out, write_mix, force, command)

    def do(self) -> None:
        began = time.perf_counter()
        # The search's sums are small: more threads would wait for each other, and round differently.
        with self.report.compiling(), torch_threads(1), ExitStack() as stack:
            records = list(self._records(stack))
            session = self._session()
            self._try_outputs(session)
            if self.wanted.dry_run:
                self._tell_plan(session, records)
                return
            excerpts = stack.enter_context(closing(Excerpts()))
            self._transfer(session, records, excerpts, began)

    def _records(self, stack: ExitStack) -> Iterator[tuple[Input, float]]:
        """Every record with its weight; a folder's share it."""
        weights = self.wanted.weights or [1.0] * len(self.wanted.records)
        for name, weight in zip(self.wanted.records, weights, strict=True):
            batch = stack.enter_context(batch_of([name], self.report))
            for item in batch.inputs:
                check_finished(item, self.wanted.ref_start_s, self.wanted.ref_end_s, "--ref-", "a record")
                yield item, weight / len(batch.inputs)

    def _session(self) -> Automatic:
        wanted = self.wanted
        if wanted.from_file is None:
            return outline(self.report, wanted.stems, Automix(), wanted.rate)
        found = load(self.report, wanted.stems, wanted.from_file, [], True, wanted.rate, None)
        return Automatic(**vars(found))

    def _try_outputs(self, session: Automatic) -> None:
        """Find out before any work what could not be written after it."""
        self._end(session)
        quiet = Report(quiet=True, verbose=False)
        self.planned = write(
            session, session.console(quiet, self.wanted.threads), self.outputs, 0.0, None, None, quiet, dry_run=True
        )

    def _end(self, session: Session) -> int | None:
        seconds = session.frames / session.rate
        if self.wanted.start_s >= seconds:
            raise ParameterError(
                f"--start is {self.wanted.start_s:g}, but the stems end at {seconds:g} s; start earlier"
            )
        return None if self.wanted.end_s is None else round(self.wanted.end_s * session.rate)

    def _transfer(
        self, session: Automatic, records: list[tuple[Input, float]], excerpts: Excerpts, began: float
    ) -> None:
        wanted, report, threads = self.wanted, self.report, self.wanted.threads
        references = [self._reference(excerpts, item, weight) for item, weight in records]
        sounds = [recording(excerpts, item.open(), session.rate) for item, _ in records]
        session.others = [item.path for item, _ in records]
        locked, responses = locked_mix(report, session, wanted.lock)
        session.named_files = session.named_files | responses
        goal = goal_of(references, session.rate)
        stems = recordings(excerpts, session.stems, session.rate)
        with report.stages(LISTENING) as tell, ExitStack() as closing_consoles:
            expert = Expert(
                stems,
                session.rate,
                given_roles(wanted.roles, sorted(stems)),
                threads,
                lambda share: tell(LISTENING, share),
                opener(session, threads, closing_consoles),
            )
            start, by = self._start(session, expert, references, sounds, goal, locked)
        roles = {name: role for name, (role, _) in expert.roles.items()}
        report.note(f"{by}: {count(len(stems), 'stem')} like {_named(records)}")
        steps = 0 if self.engine == "controller" else wanted.steps
        with report.stages(SEARCHING) as tell:
            found = transfer(
                stems,
                session.rate,
                goal,
                start,
                roles=roles,
                locked={track.file for track in locked.tracks} if locked else (),
                steps=steps,
                target_lufs=wanted.target_lufs,
                first=round(wanted.start_s * session.rate),
                last=self._end(session),
                threads=threads,
                responses=session.heard_responses(),
                progress=lambda done, of, loss: tell(f"{SEARCHING}, loss {loss:.4f}", done / of),
            )
        with Held() as held:
            session = self._finished(session, found, held)
            console = held.ended(session.console(report, threads))
            written = write(session, console, self.outputs, 0.0, None, None, report)
        self._tell(session, goal, found, written, time.perf_counter() - began)
        if found.stopped:
            if sys.stdout is not None:
                sys.stdout.flush()
            raise KeyboardInterrupt(f"interrupted: the best so far is in {self._shown}")

    def _reference(self, excerpts: Excerpts, item: Input, weight: float) -> Reference:
        with item.open() as file:
            rate = file.rate
            sound = recording(excerpts, file, rate)
        end = self.wanted.ref_end_s
        first = round(self.wanted.ref_start_s * rate)
        return Reference(item.shown, sound, rate, weight, first, None if end is None else round(end * rate))

    @cached_property
    def engine(self) -> str:
        """What finds the mix."""
        return self.wanted.engine or ("both" if self.wanted.model is not None else "optimise")

    @cached_property
    def _model(self) -> str | None:
        """The controller's name."""
        return None if self.engine == "optimise" else self.wanted.model or bundled("transfer")[0]

    def _start(
        self,
        session: Automatic,
        expert: Expert,
        references: Sequence[Reference],
        sounds: Sequence[Recording],
        goal: Goal,
        locked: Mix | None,
    ) -> tuple[Mix, str]:
        """Where the search starts, and who mixed that; `sounds` are the references at the session's rate."""
        if self.wanted.from_file is not None:
            return _with(session.mix, locked), f"from {self.wanted.from_file}"
        if self._model is None:
            return expert.mix(locked=locked).mix, "from a mix by rules"
        from mixtools.tasks.transfer.controller import Controller

        tensors, about = open_model(self._model, "transfer")
        if Path(self._model).exists():
            session.others.append(Path(self._model))
        controller = Controller.load(tensors, about, self._model)
        scales = [session.rate / reference.rate for reference in references]
        heard = [
            [(round(first * scale), round(last * scale)) for first, last in ranges]
            for scale, ranges in zip(scales, goal.ranges, strict=True)
        ]
        weights = [reference.weight for reference in references]
        answer = controller.mix(expert.stems, sounds, session.rate, weights, expert.ranges, heard)
        mix = near_centre(answer, {name: role for name, (role, _) in expert.roles.items()})
        return _with(mix, locked), f"from the answer of {self._model}"

    def _finished(self, session: Automatic, found: Transferred, held: Held) -> Automatic:
        """The session with the mix that is wanted of what was found, at its loudness."""
        mix = found.blended(self.wanted.amount)
        with self.report.progress(MEASURING, session.frames) as progress, ExitStack() as stack:
            open_console = opener(session, self.wanted.threads, stack)
            done = mastered_as_wanted(mix, open_console, found, self.wanted.amount, progress, held)
        if done.plan.unchanged is not None:
            self.report.warn(f"the mix has no loudness to bring to {found.target_lufs:.1f} LUFS: {done.plan.unchanged}")
        else:
            most_db = found.most_limiting_of(self.wanted.amount)
            warn_of_missing(self.report, done.plan, found.target_lufs, most_db)
        notes = {"report": {"references": self.wanted.records, "loss": _losses(found), "tracks": found.lines}}
        return replace(session, mix=replace(done.mix, notes=done.mix.notes | notes))

    @property
    def _shown(self) -> str:
        return "stdout" if self.outputs.mix == options.STDIO else self.outputs.mix

    def _tell_plan(self, session: Automatic, records: list[tuple[Input, float]]) -> None:
        """What a dry run has to say, on stdout."""
        names = [item.shown for item, _ in records]
        if self.wanted.json:
            facts = {"stems": sorted(session.stems), "references": names, "engine": self.engine, "model": self._model}
            places = {"output": self.outputs.mix, "write_mix": self.outputs.mix_file}
            parts = {"stems_out": [str(path) for path in self.planned.parts]}
            write_json([facts | {"sample_rate": session.rate} | places | parts], single=True)
            return
        by = f"{self.engine}, {self._model}" if self._model else self.engine
        print(f"would mix {count(len(session.stems), 'stem')} at {session.rate} Hz like {', '.join(names)}: {by}")
        for path in [self.outputs.mix, self.outputs.mix_file, *self.planned.parts]:
            print(f"would write {path}")

    def _tell(self, session: Automatic, goal: Goal, found: Transferred, written: Written, took: float) -> None:
        """What was done, for people on stderr, and for machines on stdout if they asked."""
        verbose = self.report.verbose
        self.report.table(*feature_table(found.features, goal.features, 1 if verbose else BANDS_IN_ONE))
        self.report.table(*loss_table(found.losses))
        for line in found.lines:
            self.report.note(line)
        self.report.note(
            f"{self._shown}: {clock(written.seconds)} at {session.rate} Hz, {options.FORMATS[written.bits]}, "
            f"{levels(written.peak_dbfs, written.integrated_lufs)}; in {took:.1f} s"
        )
        if self.wanted.json:
            features = {WHO[name]: each and each.plain() for name, each in found.features.items()}
            write_json(
                [
                    {
                        "output": self.outputs.mix,
                        "write_mix": self.outputs.mix_file,
                        "stems_out": [str(path) for path in written.parts],
                        "engine": self.engine,
                        "model": self._model,
                        "features": features | {"reference": goal.features.plain()},
                        "losses": _losses(found),
                        "tracks": found.lines,
                        "rounds": found.rounds,
                        "integrated_lufs": written.integrated_lufs,
                        "peak_dbfs": written.peak_dbfs,
                        "interrupted": found.stopped,
                        "seconds_taken": took,
                    }
                ],
                single=True,
            )


def _with(mix: Mix, locked: Mix | None) -> Mix:
    """A mix in which tracks are those of another that settles them, with the buses that they need."""
    if locked is None:
        return mix
    settled = {track.file for track in locked.tracks}
    tracks = [track for track in mix.tracks if track.file not in settled] + list(locked.tracks)
    tracks.sort(key=lambda track: track.file)
    master = locked.master if locked.master.chain else Master(list(mix.master.chain))
    return replace(mix, tracks=tracks, buses=mix.buses | locked.buses, master=master).check()


def _named(records: Sequence[tuple[Input, float]]) -> str:
    return records[0][0].shown if len(records) == 1 else count(len(records), "record")


def _losses(found: Transferred) -> dict[str, dict[str, float]]:
    return {WHO[name]: loss for name, loss in found.losses.items()}


def loss_table(losses: Mapping[str, Mapping[str, float]]) -> tuple[list[str], list[list[str]]]:
    """The terms of the loss of every mix, and their sum."""
    rows = [
        [WHO[name], *(f"{loss.get(term, float('nan')):.4f}" for term in (*AF_TERMS, "total"))]
        for name, loss in losses.items()
    ]
    return ["loss", *AF_TERMS, "total"], rows


def feature_table(
    found: Mapping[str, AudioFeatures | None], goal: AudioFeatures, together: int
) -> tuple[list[str], list[list[str]]]:
    """Every feature of every mix and of the reference; Bark bands in dB, some in one."""
    import numpy as np

    from mixtools.measure.filterbanks import bark_edges_hz

    heard = {WHO[name]: each for name, each in found.items()} | {"reference": goal}

    def row(what: str, value: Any) -> list[str]:
        return [what, *("–" if each is None else f"{value(each) + 0.0:.3g}" for each in heard.values())]

    def decibels(amplitude: Any) -> float:
        return 20.0 * float(np.log10(max(float(amplitude), 1e-10)))

    rows = []
    for k, side in enumerate(("left", "right")):
        rows.append(row(f"RMS {side}, dBFS", lambda each, k=k: decibels(each.rms[k])))
    for k, side in enumerate(("left", "right")):
        rows.append(row(f"crest {side}, dB", lambda each, k=k: float(each.crest_db[k])))
    rows.append(row("width", lambda each: float(each.width)))
    rows.append(row("imbalance", lambda each: float(each.imbalance)))
    edges = bark_edges_hz()
    for k, what in enumerate(("L+R", "L-R")):
        for first in range(0, goal.bark.shape[-1], together):
            last = min(first + together, goal.bark.shape[-1]) - 1
            name = f"{what} {edges[first]:.0f} to {edges[last + 2]:.0f} Hz, dB"
            rows.append(
                row(name, lambda each, k=k, a=first, b=last + 1: decibels(np.sqrt(np.mean(each.bark[k, a:b] ** 2))))
            )
    return ["", *heard], rows
