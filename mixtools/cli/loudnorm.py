"""`mixtools loudnorm`: bring audio to a target loudness."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixtools.cli import options
from mixtools.cli.report import Report, clock, count, signed
from mixtools.controls import EFFECTS, Control
from mixtools.errors import ParameterError
from mixtools.measure.targets import TARGETS

if TYPE_CHECKING:
    from mixtools.cli.batch import Batch, Input
    from mixtools.tasks.loudnorm import Plan, Progress

DESCRIPTION = """
Loudness is that of ITU-R BS.1770-4, with the maxima of EBU R 128 (400 ms and 3 s, moved by 10 ms), the loudness range
of EBU Tech 3342, and the true peak of BS.1770-4's annex 2.

Every file gets one gain, and nothing else, unless that would lift its true peak over `--true-peak`. Then `--peak` says
what to do: `limit` (the default) runs the console's true-peak limiter, and measures and corrects until the target is
met within 0.1 LU; `lower` takes back the gain until the peak fits, and says what loudness was reached; `ignore` lets
the peak pass. More than 6 dB of limiting is never done: the file then stays below the target, the line says by how
much, and the exit code is 1.

Silence, audio shorter than 400 ms and audio that is below -70 LUFS throughout have no loudness. They are passed
through unchanged, and named.

`-o` names a file where one file is given, else a folder, which is made if need be. Files in it keep their names; what
is not FLAC becomes WAV. With `--together` the files are stems of one song: the loudness of their sum is brought to the
target by one gain for all of them, so that their balance stays.

Measures that do not exist are null in JSON and empty in CSV: all of them for silence, integrated and momentary loudness
for less than 400 ms, short-term loudness and range for less than 3 s. One file gives an object in JSON, a folder or
several files a list.
"""

EVERYDAY = "--output", "--target", "--true-peak", "--preset", "--together", "--measure", "--force"
"""What `--help` explains."""

EXAMPLES = (
    ("A master for streaming:", "mixtools loudnorm rough.wav --preset streaming -o master.wav"),
    ("In a pipe behind the mixer:", "mixtools mix stems/ -p mix.yaml -o - | mixtools loudnorm - -t -14 -o master.wav"),
    ("How loud are they?", "mixtools loudnorm stems/ --measure"),
    ("Every file of a folder, none of them limited:", "mixtools loudnorm take2/ -t -23 --peak lower -o even/"),
    ("Stems that sum to -20 LUFS, in the balance they have:", "mixtools loudnorm stems/ --together -t -20 -o level/"),
    ("For a script:", "mixtools loudnorm rough.wav --measure --json | jq .true_peak_dbtp"),
)
"""What each example does, and its command line; tests run them where such files are."""

TARGET = Control("--target", "", -16.0, -60.0, 0.0)
CEILING = Control("--true-peak", "", -1.0, EFFECTS["limiter"]["ceiling_db"].low, EFFECTS["limiter"]["ceiling_db"].high)

PEAKS = "limit", "lower", "ignore"

_PRESETS = ", ".join(f"{name} {target.lufs:g}" for name, target in TARGETS.items())


def loudnorm(
    files: options.AudioFiles,
    output: options.FilesOutput = None,
    target: Annotated[
        float | None,
        typer.Option(
            "--target",
            "-t",
            metavar="LUFS",
            parser=options.number(TARGET),
            help=f"Integrated loudness to reach, {TARGET.range}; {TARGET.default:g} unless given.",
            show_default=False,
        ),
    ] = None,
    true_peak: Annotated[
        float | None,
        typer.Option(
            "--true-peak",
            metavar="DBTP",
            parser=options.number(CEILING),
            help=f"What no peak may exceed, {CEILING.range}; {CEILING.default:g} unless given.",
            show_default=False,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        options.word_option("--preset", TARGETS, f"Target and true peak by name: {_PRESETS}.", metavar="NAME"),
    ] = None,
    peak: Annotated[
        str | None,
        options.word_option(
            "--peak", PEAKS, "What to do about peaks over the ceiling; limit unless given, lower with --together."
        ),
    ] = None,
    together: Annotated[
        bool, typer.Option("--together", help="One gain for all files, from the loudness of their sum.")
    ] = False,
    measure: Annotated[bool, typer.Option("--measure", help="Only measure; nothing is written.")] = False,
    dual_mono: options.DualMono = False,
    bits: options.Bits = None,
    jobs: options.Jobs = None,
    dry_run: options.DryRun = False,
    force: options.Force = False,
    json_: options.Json = False,
    csv: options.Csv = False,
    quiet: options.Quiet = False,
) -> None:
    """Bring audio to a target loudness, under a true-peak ceiling; or measure it."""
    report = Report(quiet, verbose=False)
    _refuse_contradictions(output, peak, together, measure, dry_run, json_, csv)
    if measure:
        changing = {"--target": target, "--true-peak": true_peak, "--preset": preset, "--peak": peak, "--bits": bits}
        _refuse_with_measure(changing | {"--dry-run": dry_run or None, "--force": force or None})

    from mixtools.cli.batch import batch_of

    with report.compiling(), batch_of(files, report) as batch:
        workers = options.thread_count(jobs)
        if measure:
            _measure(batch, workers, together, dual_mono, json_, csv)
        else:
            named = TARGETS[preset] if preset else None
            wanted = next(value for value in (target, named and named.lufs, TARGET.default) if value is not None)
            ceiling = next(
                value for value in (true_peak, named and named.true_peak_dbtp, CEILING.default) if value is not None
            )
            run = _Run(batch, report, wanted, ceiling, peak, dual_mono, output, bits, force, dry_run, json_, workers)
            run.do(together)
        batch.finish()


def _refuse_contradictions(
    output: str | None, peak: str | None, together: bool, measure: bool, dry_run: bool, json_: bool, csv: bool
) -> None:
    if measure and output is not None:
        raise ParameterError("--measure writes no audio, but -o names some; give one of them")
    if output == "":
        raise ParameterError("-o is empty; give the name of a file or a folder, or - for stdout")
    if not measure and output is None:
        raise ParameterError("-o is missing; give the name of a file or a folder, or --measure")
    if csv and not measure:
        raise ParameterError("--csv is for --measure; give --json for what was done")
    if csv and json_:
        raise ParameterError("--csv and --json both write to stdout; give one")
    if json_ and output == options.STDIO and not dry_run:
        raise ParameterError("--json writes to stdout, and so does -o -; give one of them another place")
    if together and peak == "limit":
        raise ParameterError("--together with --peak limit would change the balance; give --peak lower or ignore")


def _refuse_with_measure(changing: dict[str, Any]) -> None:
    for name, value in changing.items():
        if value is not None:
            raise ParameterError(f"--measure changes nothing, but {name} says how to; give one of them")


def _measure(batch: Batch, workers: int, together: bool, dual_mono: bool, json_: bool, csv: bool) -> None:
    """Levels of every file, or of the sum of all, on stdout."""
    from mixtools.cli.tables import write_csv, write_json, write_table
    from mixtools.files.stems import at_rate
    from mixtools.tasks.loudnorm import Sum
    from mixtools.tasks.loudnorm import measure as levels_of

    def one(item: Input, progress: Progress) -> dict[str, Any]:
        with item.open() as file:
            return item.facts(file) | asdict(levels_of(file, file.rate, dual_mono, progress))

    if together:
        rate = _common_rate(batch)
        summed = Sum([at_rate(item.open(), rate) for item in batch.inputs])
        facts = {"file": f"sum of {len(batch.inputs)}", "seconds": summed.frames / rate, "sample_rate": rate}
        rows = [facts | {"channels": summed.channels} | asdict(levels_of(summed, rate, dual_mono))]
    else:
        rows = [row for _, row in batch.each("measuring", one, workers)]
    if json_:
        write_json(rows, batch.single or together)
    elif csv:
        write_csv(rows)
    elif rows:
        head = ["file", "length", "LUFS", "momentary max", "short-term max", "range LU", "peak dBFS", "true peak dBTP"]
        write_table(head, [[r["file"], clock(r["seconds"]), *map(_level, list(r.values())[4:])] for r in rows])


def _level(value: float | None) -> str:
    return "–" if value is None else f"{round(value, 1) + 0.0:.1f}"


def _common_rate(batch: Batch) -> int:
    """The rate that most of the files have; one that cannot be read ends the run."""
    from mixtools.tasks.mix import most_common_rate

    return most_common_rate([item.open().rate for item in batch.inputs])


@dataclass
class _Run:
    """Plans every file, and writes it."""

    batch: Batch
    report: Report
    target: float
    ceiling: float
    peak: str | None
    dual_mono: bool
    output: str
    bits: str | None
    force: bool
    dry_run: bool
    json: bool
    workers: int
    written: list[str] = field(default_factory=list)

    def do(self, together: bool) -> None:
        from mixtools.cli.tables import write_json

        done = []
        with contextlib.ExitStack() as closing:
            targets = self.batch.targets(self.output, closing)
            shared = self._plan_together(targets) if together else None

            def one(item: Input, progress: Progress) -> tuple[Plan, Any]:
                return self._one(item, targets[item], shared, progress)

            try:
                for item, (plan, writer) in self.batch.each("normalising", one, self.workers):
                    done.append((item, plan))
                    self._tell(item, targets[item], plan, writer, shared is not None)
            except KeyboardInterrupt:
                if not self.written:
                    raise
                told = f"{count(len(self.written), 'file')} of {len(targets)} written, the others not"
                raise KeyboardInterrupt(f"interrupted; {told}") from None
        if shared and not shared.unchanged:
            self._tell_sum(shared, len(done))
        if self.json and shared:
            files = [{"file": item.shown, "output": targets[item]} for item, _ in done]
            write_json([_facts(shared) | {"files": files}], single=True)
        elif self.json:
            rows = [{"file": item.shown, "output": targets[item]} | _facts(plan) for item, plan in done]
            write_json(rows, self.batch.single)

    def _bits_of(self, target: str) -> str:
        from mixtools.files.writing import default_bits

        return self.bits if self.bits is not None else default_bits(target)

    def _plan_together(self, targets: Mapping[Input, str]) -> Plan:
        from mixtools.files.stems import at_rate
        from mixtools.tasks.loudnorm import plan_together

        for item, target in targets.items():
            item.writer(item.open(), target, self.bits, self.force).abort()
        rate = _common_rate(self.batch)
        with self.report.progress("measuring the sum", 1000) as tell:
            return plan_together(
                [item.open for item in targets],
                rate,
                self.target,
                min(_room_for(self._bits_of(target), self.ceiling) for target in targets.values()),
                self.peak or "lower",
                self.dual_mono,
                lambda share: tell(round(1000 * share)),
                lambda source: at_rate(source, rate),
            )

    def _one(self, item: Input, target: str, shared: Plan | None, progress: Progress) -> tuple[Plan, Any]:
        from mixtools.tasks.loudnorm import plan as plan_of

        ceiling = _room_for(self._bits_of(target), self.ceiling)
        with item.open() as file, item.writer(file, target, self.bits, self.force) as writer:
            plan = shared or plan_of(
                item.open,
                file.rate,
                self.target,
                ceiling,
                self.peak or "limit",
                self.dual_mono,
                _in_turn(progress),
            )
            if self.dry_run:
                writer.abort()
                return plan, None
            if plan.unchanged and self.bits is None and _same_kind(item, target):
                writer.abort()
                self._copy(item, target)
                return plan, None
            for block in plan.carried_out(file, file.rate, ceiling, lambda share: progress(0.8 + 0.2 * share)):
                writer.write(block)
        self.written.append(target)
        return plan, writer

    def _copy(self, item: Input, target: str) -> None:
        from mixtools.files.outputs import AtomicFile

        with (
            AtomicFile(target, force=self.force) as output,
            item.path.open("rb") as source,
            output.writing() as sink,
        ):
            shutil.copyfileobj(source, sink)
        self.written.append(target)

    def _tell(self, item: Input, target: str, plan: Plan, writer: Any, together: bool) -> None:
        """One line on what was done, or would be."""
        from mixtools.cli.outputs import warn_of_clipping

        name = "stdout" if target == options.STDIO else target
        if plan.unchanged:
            line = f"{item.shown}: {plan.unchanged}; passed through unchanged"
        elif together:
            line = f"{name}: {signed(plan.gain_db)} dB"
        else:
            line = f"{name}: {_loudness(plan)}; {signed(plan.gain_db)} dB"
            line += f", limited by up to {plan.limiting_db:.1f} dB" if plan.limiting_db else ""
        if not self.dry_run:
            self.report.note(line)
        elif not self.json:
            print(f"would write {line}")
        if writer is not None:
            quieter = "lower it by {:.1f} dB first" if plan.unchanged else "lower the target by {:.1f} LU"
            warn_of_clipping(self.report, name, writer, quieter)
        if plan.missed_lu and not together:
            self._tell_missed(name, plan)

    def _tell_sum(self, plan: Plan, number: int) -> None:
        self.report.note(f"the sum of {count(number, 'file')}: {_loudness(plan)}")
        if plan.missed_lu:
            self.report.warn(f"{plan.missed_lu:.1f} LU below {self.target:g}, so that no peak exceeds the ceiling")

    def _tell_missed(self, name: str, plan: Plan) -> None:
        missed = f"{name}: {plan.missed_lu:.1f} LU below {self.target:g}"
        if self.peak == "lower":
            self.report.note(f"{missed}, so that no peak exceeds the ceiling")
            return
        from mixtools.tasks.loudnorm import MOST_LIMITING_DB

        self.report.warn(
            f"{missed}: more would take over {MOST_LIMITING_DB:g} dB of limiting; "
            "give a lower target, or compress it first"
        )
        self.batch.failed += 1


def _same_kind(item: Input, target: str) -> bool:
    return target != options.STDIO and Path(target).suffix.lower() == item.path.suffix.lower()


def _room_for(bits: str, ceiling_db: float) -> float:
    """The ceiling, lowered by what dither and rounding to integers can add to a true peak."""
    if bits == "32f":
        return ceiling_db
    from mixtools.dsp.true_peak import HIGHEST_GAIN

    most_steps = 1.5
    return 20.0 * math.log10(10.0 ** (ceiling_db / 20.0) - most_steps * HIGHEST_GAIN / 2.0 ** (int(bits) - 1))


def _in_turn(progress: Progress) -> Progress:
    """Progress over passes whose number is not known: each takes half of what is left of 80 %."""
    begun = 0.0
    last = 0.0

    def passed(share: float) -> None:
        nonlocal begun, last
        if share < last:
            begun += (0.8 - begun) / 2
        last = share
        progress(begun + (0.8 - begun) / 2 * share)

    return passed


def _loudness(plan: Plan) -> str:
    before, after = plan.before, plan.predicted
    reached = "no loudness left" if after.integrated_lufs is None else f"{after.integrated_lufs:.1f} LUFS"
    return (
        f"{reached}, true peak {signed(after.true_peak_dbtp)} dBTP "
        f"(was {before.integrated_lufs:.1f} LUFS, {signed(before.true_peak_dbtp)} dBTP)"
    )


def _facts(plan: Plan) -> dict[str, Any]:
    return {
        "gain_db": plan.gain_db,
        "limiting_db": plan.limiting_db,
        "missed_lu": plan.missed_lu,
        "unchanged": plan.unchanged,
        "before": asdict(plan.before),
        "after": asdict(plan.predicted),
    }
