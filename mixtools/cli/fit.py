"""`mixtools fit`: find the console settings that made a mix from its stems."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixtools.cli import options
from mixtools.cli.report import Report, clock, count
from mixtools.controls import GRAPHIC_CENTRES_HZ, SAMPLE_RATE
from mixtools.errors import ParameterError
from mixtools.tasks.fit import LOSSES, METHODS, MODELS, WITH_REVERB, Options

if TYPE_CHECKING:
    import numpy as np

    from mixtools.cli.batch import Input
    from mixtools.cli.rendering import Outputs, Written
    from mixtools.files.stems import Stem
    from mixtools.mix import Mix
    from mixtools.tasks.fit import Fitted

DESCRIPTION = """
The mix file holds a gain, a pan, a ten-band EQ, a delay and a reverb send per track, as far as the model has them;
impulse responses are WAV files beside it, called after it. `mixtools mix STEMS -p mix.yaml` renders it to the estimated
mix. Nothing has to be known about how the mix was made; what cannot be explained by the model (mastering, another
singer) stays in the residual, which `--residual` writes.

The models: `stereo-bus` has one stereo reverb with a send per track; `individual-bus` a stereo impulse response of its
own for every track; `gain` is a gain per track and side; `eq` has gain, pan and EQ, and no reverb; `console` adds
compressors to the tracks, and EQ, compressor and limiter to the master. The methods: `solve` finds a filter per track
and side by least squares, reads the controls off those, and polishes them; `descent` is the gradient descent of
Colonel & Reiss 2021.

Stems may begin before or after the mix and have their polarity turned; both are found. The session's rate is --rate,
else the stems' most common one; what differs is resampled, and said so. With `--validate` the residual is measured on
audio that the fit did not see: the residual on what it was fitted to proves little, as the filters of many tracks can
follow any music.

The same command on the same machine writes the same bytes; with another number of threads the last digits of what is
found differ. An interrupt (Ctrl-C) while the fit is improving writes the best so far, and ends with exit code 130.
"""

EVERYDAY = "--output", "--model", "--reverb-seconds", "--render", "--residual", "--validate", "--force"
"""What `--help` explains."""

EXAMPLES = (
    ("How loud is every stem in the mix?", "mixtools fit stems/ ref.wav --model gain -o levels.yaml"),
    (
        "Gain, pan and EQ of the first seconds, the estimated mix, and what is left of the real one:",
        "mixtools fit stems/ rough.wav --model eq --end 0:06 -o eq.yaml --render est.wav --residual rest.wav",
    ),
    (
        "Use the levels of a finished mix for another take:",
        "mixtools fit stems/ ref.wav --model gain -q -o - | "
        "mixtools mix take2/ -p - --map '*_02.wav=*.wav' -o again.wav",
    ),
    (
        "See what would be done, with a reverb for every track:",
        "mixtools fit stems/ ref.wav --model individual-bus --dry-run",
    ),
)
"""What each example does, and its command line; tests run them where such files are."""

EQ_TITLE = f"EQ dB, {GRAPHIC_CENTRES_HZ[0]} Hz to {GRAPHIC_CENTRES_HZ[-1] // 1000} kHz"
KEPT = ("model", "method", "reverb_s", "fitted", "residual_db", "unseen_residual_db", "loss", "pruned")
"""Of the report, in the mix file."""

DIGITS = 6


def fit(
    context: typer.Context,
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="STEMS... MIX",
            help="A folder of stems, or the files themselves, or [bold]synth:SEED[/bold] for a synthesised song; "
            "and last the mix that was made of them, a file, or [bold]-[/bold] for stdin.",
            show_default=False,
        ),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE|-", help="The mix file to write, or - for stdout.")
    ] = "mix.yaml",
    model: Annotated[
        str,
        options.word_option("--model", MODELS, "What the mix may have been made with."),
    ] = "stereo-bus",
    method: Annotated[
        str,
        options.word_option("--method", METHODS, "Least squares and a polish, or the gradient descent of the paper."),
    ] = "solve",
    reverb_seconds: Annotated[
        float | None,
        options.number_option(
            "--reverb-seconds",
            "SECONDS",
            f"Length of the impulse responses, {Options.reverb_s:g} unless given.",
            0.05,
            10.0,
        ),
    ] = None,
    start: Annotated[float, options.time_option("--start", "Fit the mix from here on.")] = "0",
    end: Annotated[
        float | None,
        options.time_option(
            "--end", "Fit the mix up to here; without both, all of it, or excerpts that stand for a long song."
        ),
    ] = None,
    loss: Annotated[
        str | None,
        options.word_option(
            "--loss",
            LOSSES,
            "What descent makes small: multi-scale spectra (unless given), multi-resolution STFT, or samples "
            "(console's unless given).",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        options.whole_option(
            "--steps", "Steps of descent at most; the method's own number unless given.", 1, 1_000_000
        ),
    ] = None,
    seed: Annotated[
        int,
        options.seed_option("Seed of what is random: where descent begins."),
    ] = "0",
    device: Annotated[
        str,
        options.word_option("--device", options.DEVICES, "Where gradients are computed."),
    ] = "auto",
    render: Annotated[
        str | None,
        typer.Option("--render", metavar="OUT|-", help="Also write the estimated mix.", show_default=False),
    ] = None,
    residual: Annotated[
        str | None,
        typer.Option(
            "--residual",
            metavar="OUT|-",
            help="Also write the mix minus the estimated mix, in float, as long as the mix.",
            show_default=False,
        ),
    ] = None,
    stems_out: Annotated[
        Path | None,
        typer.Option(
            "--stems-out",
            metavar="DIR",
            help="Also write what feeds the master of the estimated mix, one file per track or bus.",
            show_default=False,
        ),
    ] = None,
    validate: Annotated[
        bool,
        typer.Option("--validate", help="Also measure the residual on 5-second blocks that a first fit did not see."),
    ] = False,
    automation: Annotated[
        float | None,
        options.number_option(
            "--automation",
            "SECONDS",
            "With --model console: gains that move, with a breakpoint this often.",
            0.1,
            600.0,
        ),
    ] = None,
    prune: Annotated[
        float | None,
        options.number_option(
            "--prune",
            "DB",
            "Leave out effects and sends, the least needed first, as long as that raises the residual by less "
            "than this in all.",
            0.0,
            60.0,
        ),
    ] = None,
    no_align: Annotated[
        bool, typer.Option("--no-align", help="Take the stems as they lie: look for no offsets and turned polarities.")
    ] = False,
    split_stereo: Annotated[
        bool, typer.Option("--split-stereo", help="Two tracks, left and right, per stereo stem.")
    ] = False,
    assets: Annotated[
        Path | None,
        typer.Option(
            "--assets",
            metavar="DIR",
            help="Where impulse responses go, instead of beside the mix file; needed for them with -o -.",
            show_default=False,
        ),
    ] = None,
    rate: Annotated[
        int | None,
        typer.Option(
            "--rate",
            metavar="HZ",
            parser=options.whole(replace(SAMPLE_RATE, name="--rate")),
            help="Session rate: else the stems' most common one.",
            show_default=False,
        ),
    ] = None,
    bits: options.Bits = None,
    threads: options.RoundingThreads = None,
    dry_run: options.DryRun = False,
    force: options.Force = False,
    json_: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Find the gains, pans, EQs, delays and reverbs that make a mix of its stems."""
    report = Report(quiet, verbose)
    if len(files) < 2:
        raise ParameterError(
            f"MIX is missing; give the stems and then their mix, as in: mixtools fit {files[0]} mix.wav"
        )
    *stems, finished = files
    if end is not None and end <= start:
        raise ParameterError(f"--end is {end:g}, --start {start:g}; give an end after the start")
    _refuse_useless(model, method, reverb_seconds, automation, prune)
    _refuse_on_stdout({"-o": output, "--render": render, "--residual": residual}, json_ and not dry_run)
    if output == options.STDIO and assets is None and model in WITH_REVERB:
        raise ParameterError(f"-o - leaves no place for the impulse responses of {model}; give --assets DIR")

    from mixtools.cli.batch import batch_of
    from mixtools.cli.rendering import Outputs, opened_stems

    wanted = Options(
        model=model,
        method=method,
        reverb_s=Options.reverb_s if reverb_seconds is None else reverb_seconds,
        start_s=start,
        end_s=end,
        loss=loss,
        steps=steps,
        seed=seed,
        device=device,
        validate=validate,
        align=not no_align,
        automation_s=automation,
        prune_db=prune,
        split_stereo=split_stereo,
        threads=options.thread_count(threads),
    )
    outputs = Outputs(render, bits, stems_out, output, force, context.find_root().obj)
    with report.compiling(), batch_of([finished], report) as batch:
        if not batch.single:
            raise ParameterError(f"{finished} is a folder; give the finished mix, a file, after the stems")
        opened, broken = opened_stems(report, stems, "fit")
        for error in broken.values():
            raise error
        _Run(report, wanted, batch.inputs[0], opened, outputs, residual, assets, rate, threads, json_).do(dry_run)


def _refuse_useless(
    model: str, method: str, reverb_s: float | None, automation_s: float | None, prune_db: float | None
) -> None:
    """No option is given that the model has no use for."""
    if automation_s is not None and model != "console":
        raise ParameterError(f"--automation is for --model console, not {model}; leave it out, or give that model")
    if prune_db is not None and model == "gain":
        raise ParameterError("--prune finds nothing to remove from --model gain; leave it out, or give another model")
    if reverb_s is not None and model not in WITH_REVERB:
        raise ParameterError(
            f"--reverb-seconds is for models with a reverb, not {model}; leave it out, or give {', '.join(WITH_REVERB)}"
        )
    if method == "descent" and model == "gain":
        raise ParameterError("--method descent is not for --model gain, which is solved at once; give --method solve")


def _refuse_on_stdout(outputs: Mapping[str, str | None], json_: bool) -> None:
    """One thing at most may go to stdout."""
    there = ["--json"] * json_ + [f"{name} -" for name, output in outputs.items() if output == options.STDIO]
    if len(there) > 1:
        raise ParameterError(f"{there[0]} writes to stdout, and so does {there[1]}; give one of them another place")


@dataclass
class _Run:
    """Checks everything, fits, and writes."""

    report: Report
    options: Options
    finished: Input
    stems: dict[str, Stem]
    outputs: Outputs
    residual: str | None
    assets: Path | None
    asked_rate: int | None
    asked_threads: int | None
    json: bool

    def do(self, dry_run: bool) -> None:
        from contextlib import closing

        from mixtools.cli.recordings import check_finished, recording, recordings
        from mixtools.files.excerpts import Excerpts
        from mixtools.tasks.fit import fit as fit_

        began = time.perf_counter()
        self._refuse_finished_among_stems()
        check_finished(self.finished, self.options.start_s, self.options.end_s)
        with closing(Excerpts()) as excerpts:
            target = recording(excerpts, self.finished.open(), self.rate)
            if self.residual is not None:
                self.outputs.difference = (self.residual, target)
            planned = self._written(*self._outline(), self.report, dry_run=True)
            self._tell_rates()
            if dry_run:
                self._tell_plan(planned)
                return
            if self.asked_threads is not None:
                _use_threads(self.asked_threads)
            stems = recordings(excerpts, self.stems, self.rate)
            with self.report.stages("aligning") as progress:
                fitted = fit_(stems, target, self.rate, self.options, progress)
            for line in fitted.warnings:
                self.report.warn(line)
            notes = {"report": compact(fitted.report)}
            written = self._written(replace(fitted.mix, notes=notes), fitted.responses, self.report)
        self._tell(fitted, written, time.perf_counter() - began)
        if fitted.interrupted:
            if sys.stdout is not None:
                sys.stdout.flush()
            raise KeyboardInterrupt(f"interrupted: the best so far is in {self._shown_output}")

    @cached_property
    def rate(self) -> int:
        from mixtools.tasks.mix import most_common_rate

        return self.asked_rate or most_common_rate(stem.rate for stem in self.stems.values())

    @property
    def threads(self) -> int:
        return options.thread_count(self.asked_threads)

    @property
    def _shown_output(self) -> str:
        return "stdout" if self.outputs.mix_file == options.STDIO else self.outputs.mix_file

    def _refuse_finished_among_stems(self) -> None:
        place = os.path.realpath(self.finished.path)
        for stem in self.stems.values():
            if stem.path is not None and os.path.realpath(stem.path) == place:
                raise ParameterError(
                    f"{self.finished.shown} is one of the stems, too; move it elsewhere, or name the stems one by one"
                )

    def _tell_rates(self) -> None:
        rate = self.finished.open().rate
        if rate != self.rate:
            self.report.note(f"{self.finished.shown}: {rate} Hz, resampled to {self.rate} Hz")

    def _outline(self) -> tuple[Mix, dict[str, np.ndarray]]:
        """A mix with the tracks, buses and impulse responses that the fit will have, to try its outputs with."""
        import numpy as np

        from mixtools.mix import Bus, Insert, Track
        from mixtools.tasks.mix import equal_gain

        mix = equal_gain({name: stem.channels for name, stem in self.stems.items()}, self.options.split_stereo)
        keys = []
        if self.options.model == "individual-bus":
            from mixtools.tasks.fit.descent import response_names

            keys = response_names(mix.tracks)
            mix.tracks += [
                Track(track.file, track.channel, chain=[Insert("convolution", {"ir": key})])
                for track, key in zip(mix.tracks, keys, strict=True)
            ]
        elif self.options.model in WITH_REVERB:
            keys = ["reverb"]
            if self.options.model == "console":
                from mixtools.tasks.fit.descent import response_names

                sides = equal_gain({name: stem.channels for name, stem in self.stems.items()}, split_stereo=True)
                keys += response_names(sides.tracks)
            mix.buses["reverb"] = Bus(chain=[Insert("convolution", {"ir": "reverb"})])
        return mix, dict.fromkeys(keys, np.zeros((2, 1), np.float32))

    def _written(self, mix: Mix, responses: Mapping[str, np.ndarray], report: Report, dry_run: bool = False) -> Written:
        """Write the mix file, its impulse responses and what is rendered from them, or see whether that can be done.

        `responses` have the names that the mix knows them by; in the file they are called after it.
        """
        from mixtools.cli.rendering import Session, write

        places = {key: self._place(key) for key in responses}
        mix = replace(mix, sample_rate=self.rate).check()
        for _, insert in mix.inserts():
            if insert.controls.get("ir") in places:
                insert.controls["ir"] = places[insert.controls["ir"]][0]
        samples = {places[key][0]: response for key, response in responses.items()}
        self.outputs.responses = dict(places.values())
        session = Session(self.stems, mix, self.rate, responses=samples, others=[self.finished.path])
        console = session.console(report if dry_run else Report(quiet=True, verbose=False), self.threads)
        return write(session, console, self.outputs, 0.0, None, None, report, dry_run)

    def _place(self, key: str) -> tuple[str, Path]:
        """What the mix file calls an impulse response, and where that is."""
        beside = Path() if self.outputs.mix_file == options.STDIO else Path(self.outputs.mix_file).parent
        base = "mix" if self.outputs.mix_file == options.STDIO else Path(self.outputs.mix_file).stem
        path = (beside if self.assets is None else self.assets) / f"{base}.{re.sub(r'[/:]', '_', key)}.wav"
        if self.assets is None or self.outputs.mix_file == options.STDIO:
            return path.name, path
        return Path(os.path.relpath(path, beside)).as_posix(), path

    def _files(self, written: Written) -> dict[str, Any]:
        """What is written, or would be, for machines."""
        return {
            "output": self.outputs.mix_file,
            "responses": [str(path) for path in self.outputs.responses.values()],
            "render": self.outputs.mix,
            "residual": self.residual,
            "stems_out": [str(path) for path in written.parts],
        }

    def _tell_plan(self, written: Written) -> None:
        """What a dry run has to say, on stdout."""
        from mixtools.cli.tables import write_json

        files = self._files(written)
        with self.finished.open() as file:
            seconds = file.seconds
        if self.json:
            facts = {"stems": [*self.stems], "mix": self.finished.shown, "sample_rate": self.rate, "seconds": seconds}
            write_json([files | facts | {"model": self.options.model, "method": self.options.method}], single=True)
            return
        print(
            f"would fit {count(len(self.stems), 'stem')} to {self.finished.shown}, {clock(seconds)} "
            f"at {self.rate} Hz: {self.options.model}, {self.options.method}"
        )
        for path in [files["output"], *files["responses"], files["render"], files["residual"], *files["stems_out"]]:
            if path is not None:
                print(f"would write {path}")

    def _tell(self, fitted: Fitted, written: Written, took: float) -> None:
        """The report, for people on stderr, and for machines on stdout if they asked."""
        from mixtools.cli.tables import write_json
        from mixtools.tasks.mix import describe

        self.report.table(*track_table(fitted.report["tracks"]))
        for line in summary(fitted.report):
            self.report.note(line)
        for line in describe(fitted.mix):
            self.report.detail(line)
        made = [self.options.model, count(len(fitted.mix.tracks), "track")]
        if self.outputs.responses:
            made.append(count(len(self.outputs.responses), "impulse response"))
        self.report.note(f"{self._shown_output}: {', '.join(made)}; in {took:.1f} s")
        if self.json:
            ends = {"warnings": fitted.warnings, "interrupted": fitted.interrupted, "seconds_taken": took}
            write_json([fitted.report | self._files(written) | ends], single=True)


def _use_threads(number: int) -> None:
    """Let nobody use more threads than this."""
    import numba
    import torch

    torch.set_num_threads(number)
    numba.set_num_threads(min(number, numba.config.NUMBA_NUM_THREADS))


def _label(track: Mapping[str, Any]) -> str:
    return track["file"] if track["channel"] == "both" else f"{track['file']} {track['channel']}"


def _shown(value: float | None, digits: int, sign: bool = False) -> str:
    """A number for people, never minus zero."""
    return "–" if value is None else f"{round(value, digits) + 0.0:{'+' if sign else ''}.{digits}f}"


def track_table(tracks: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]], tuple[int, ...]]:
    """Heading, rows, and which columns stand to the left; without the columns that no track has anything in."""
    columns = {
        "": [_label(track) for track in tracks],
        "gain dB": [_shown(track["gain_db"], 2, sign=True) for track in tracks],
        "± dB": [_shown(track["sure_db"], 2) for track in tracks],
        "pan": [_shown(track["pan"], 3) for track in tracks],
        "delay ms": [_shown(track["delay_ms"], 2) for track in tracks],
        "reverb dB": [_shown(track["reverb_db"], 1, sign=True) for track in tracks],
        EQ_TITLE: [" ".join(_shown(gain, 1, sign=True) for gain in track["eq_db"] or ()) for track in tracks],
        "note": [
            "; ".join([*["inverted"] * bool(track["inverted"]), *filter(None, [track["note"]])]) for track in tracks
        ],
    }
    kept = {
        head: cells for head, cells in columns.items() if head == "" or any(cell not in ("", "–") for cell in cells)
    }
    left = tuple(i for i, head in enumerate(kept) if head in ("", EQ_TITLE, "note"))
    return list(kept), [list(row) for row in zip(*kept.values(), strict=True)], left


def summary(report: Mapping[str, Any]) -> list[str]:
    """What the whole fit is worth, in lines."""
    from mixtools.cli.tables import TABLE2_TITLES, percent

    unseen = report["unseen_residual_db"]
    errors = report["features"]
    by_group = ", ".join(f"{title} {percent(errors['groups'][group])}" for group, title in TABLE2_TITLES.items())
    checked = "" if unseen is None else f", and {_shown(unseen, 1)} dB on audio that the fit did not see"
    lines = [
        f"residual {_shown(report['residual_db'], 1)} dB{checked}",
        f"loss {report['loss']:.4g}; feature errors: {by_group}; total {percent(errors['total'])}",
    ]
    if report["pruned"] is not None:
        lines.append(f"pruned: {', '.join(report['pruned']) or 'nothing'}")
    return lines


def compact(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the mix file keeps of the report: figures of the whole, and per track what the file itself leaves out."""
    whole = {key: report[key] for key in KEPT if report[key] is not None}
    errors = report["features"]
    whole["features"] = {key: value for key, value in (errors["groups"] | {"total": errors["total"]}).items()}
    return _rounded(whole) | {"tracks": [_line(track) for track in report["tracks"]]}


def _line(track: Mapping[str, Any]) -> str:
    """How sure a track is, and how reverberant."""
    parts = [_label(track)]
    if track["gain_db"] is not None:
        sure = track["sure_db"]
        parts.append(f"gain {_shown(track['gain_db'], 2)} dB" + ("" if sure is None else f" +- {_shown(sure, 2)}"))
    if track["reverb_db"] is not None:
        parts.append(f"reverb {_shown(track['reverb_db'], 1)} dB")
    return ", ".join([*parts, *filter(None, [track["note"]])])


def _rounded(value: Any) -> Any:
    """Numbers with the digits that mean something."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
