"""`mixtools mix`: render stems and a mix file into a mix."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from mixtools.cli import options
from mixtools.cli.report import Report, clock, count, levels
from mixtools.errors import ParameterError

DESCRIPTION = """
The session's rate is --rate, else the mix file's sample_rate, else the stems' most common rate; what differs is
resampled, and said so. The mix is as long as the longest stem, and goes on until the tail of its effects has
fallen below -90 dBFS. Intermediate audio is 32-bit float, so that nothing clips between commands; 16 and 24 bit
are dithered, and a sample that would clip is reported. Files beyond 4 GiB become RF64. The time stamp (bext) and
the tags of the stems are carried where all stems agree.

The same command on the same machine writes the same bytes. Neither --threads nor --start and --end change a
sample. The first run compiles the effects, which takes some seconds, and says so.
"""

EXAMPLES = (
    ("Sum stems as they are, into mix.wav:", "mixtools mix stems/"),
    ("Render a mix file:", "mixtools mix stems/ -p mix.yaml -o song.wav"),
    ("The first verse only, as 24-bit FLAC:", "mixtools mix stems/ -p mix.yaml --start 0:05 --end 0:09 -o verse.flac"),
    ("Try one without any stems:", "mixtools mix synth:7 --write-mix mine.yaml -o mine.wav"),
    ("Check a mix file, and see what would be done:", "mixtools mix stems/ -p mix.yaml --dry-run -v"),
    (
        "Another take, whose files are called kick_02.wav and so on:",
        "mixtools mix take2/ -p mix.yaml --map '*_02.wav=*.wav' -o again.wav",
    ),
    (
        "In a pipe, with the mix file from another command:",
        "sed s/-14/-10/ mix.yaml | mixtools mix stems/ -p - -o - > wet.wav",
    ),
    ("Loudness and peak for a script:", "mixtools mix stems/ -p mix.yaml -o out.wav --json"),
)
"""What each example does, and its command line; tests run them where `stems/` and `mix.yaml` are."""


def mix(
    context: typer.Context,
    stems: options.Stems,
    mix_file: Annotated[
        str | None,
        typer.Option("--mix-file", "-p", metavar="FILE|-", help="The mix file to render.", show_default=False),
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="OUT|-", help="The mix: a .wav or .flac file, or - for stdout.")
    ] = "mix.wav",
    write_mix: Annotated[
        str | None,
        typer.Option(
            "--write-mix",
            metavar="FILE",
            help="Also write the mix file that makes this mix; comments of the one it was read from are kept.",
            show_default=False,
        ),
    ] = None,
    stems_out: Annotated[
        Path | None,
        typer.Option(
            "--stems-out",
            metavar="DIR",
            help="Also write what feeds the master, one file per track or bus: they sum to the mix before the master.",
            show_default=False,
        ),
    ] = None,
    start: Annotated[float, options.time_option("--start", "Begin here (the bits are those of the whole).")] = "0",
    end: Annotated[float | None, options.time_option("--end", "Stop exactly here.")] = None,
    tail: Annotated[
        float | None,
        options.time_option("--tail", "Stop this long after the longest stem, instead of where the tail is over."),
    ] = None,
    rate: options.Rate = None,
    bits: options.Bits = None,
    missing: Annotated[
        str,
        typer.Option(
            "--missing",
            metavar="error|skip",
            parser=options.word("--missing", ["error", "skip"]),
            help="What to do about tracks of the mix file whose stem is not there.",
        ),
    ] = "error",
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="NEW=OLD",
            help="The stem NEW is the mix file's OLD. Wildcards work: '*_02.wav=*.wav'. May be repeated.",
            show_default=False,
        ),
    ] = None,
    assets: Annotated[
        Path | None,
        typer.Option(
            "--assets",
            metavar="DIR",
            help="Where impulse responses are, instead of beside the mix file.",
            show_default=False,
        ),
    ] = None,
    split_stereo: Annotated[
        bool,
        typer.Option(
            "--split-stereo", help="Without a mix file: two mono tracks, hard left and right, per stereo stem."
        ),
    ] = False,
    threads: options.Threads = None,
    dry_run: options.DryRun = False,
    force: options.Force = False,
    json_: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Render stems and a mix file into a mix.

    Without a mix file the stems are summed as they are.
    """
    report = Report(quiet, verbose)
    began = time.perf_counter()
    workers = options.thread_count(threads)
    if output == options.STDIO and json_ and not dry_run:
        raise ParameterError("--json writes to stdout, and so does -o -; give one of them another place")
    if write_mix == options.STDIO and (json_ or output == options.STDIO):
        other = "--json" if json_ else "-o -"
        raise ParameterError(f"--write-mix - writes to stdout, and so does {other}; give one of them another place")
    if map_ and mix_file is None:
        raise ParameterError("--map is for mix files; give one with -p")
    if end is not None and tail is not None:
        raise ParameterError("--end and --tail both say where the mix stops; give one")
    if end is not None and end <= start:
        raise ParameterError(f"--end is {end:g}, --start {start:g}; give an end after the start")
    if split_stereo and mix_file is not None:
        raise ParameterError("--split-stereo is for mixes without a mix file; set channel: left and right in the file")

    from mixtools.cli.rendering import Outputs, load, write
    from mixtools.tasks.mix import describe

    with report.compiling():
        session = load(report, stems, mix_file, map_ or [], missing == "skip", rate, assets, split_stereo)
        console = session.console(report, workers)
        for line in describe(session.mix):
            report.detail(line)
        outputs = Outputs(output, bits, stems_out, write_mix, force, context.find_root().obj)
        written = write(session, console, outputs, start, end, tail, report, dry_run)
    facts: dict[str, Any] = {
        "output": output,
        "mix_file": mix_file,
        "stems": [track.file for track in session.mix.tracks],
        "missing": session.missing,
        "unnamed": session.unnamed,
        "sample_rate": session.rate,
        "bits": written.bits,
        "stems_out": [str(path) for path in written.parts],
        "write_mix": write_mix,
    }
    if dry_run:
        _say_plan(facts | {"seconds": written.seconds, "may_end_earlier": written.may_end_earlier}, json_)
        return
    took = time.perf_counter() - began
    report.note(
        f"{'stdout' if output == options.STDIO else output}: {clock(written.seconds)} at {session.rate} Hz, "
        f"{options.FORMATS[written.bits]}, {levels(written.peak_dbfs, written.integrated_lufs)}; "
        f"{count(len(session.mix.tracks), 'track')} in {took:.1f} s"
    )
    if json_:
        facts |= {
            "seconds": written.seconds,
            "samples": written.samples,
            "peak_dbfs": written.peak_dbfs,
            "integrated_lufs": written.integrated_lufs,
            "clipped_samples": written.clipped,
            "seconds_taken": took,
        }
        print(json.dumps(facts, indent=2))


def _say_plan(facts: dict[str, Any], json_: bool) -> None:
    """What a dry run has to say, on stdout."""
    if json_:
        print(json.dumps(facts, indent=2))
        return
    length = ("at most " if facts["may_end_earlier"] else "") + clock(facts["seconds"])
    print(f"would write {facts['output']}: {length} at {facts['sample_rate']} Hz, {options.FORMATS[facts['bits']]}")
    print(f"from {count(len(facts['stems']), 'track')}: {', '.join(facts['stems'])}")
    for path in [*facts["stems_out"], *filter(None, [facts["write_mix"]])]:
        print(f"would write {path}")
