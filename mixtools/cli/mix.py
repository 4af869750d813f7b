"""`mixtools mix`: render stems and a mix file into a mix."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shlex
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mixtools.cli import options
from mixtools.cli.report import Report, clock, decibels
from mixtools.errors import OutputError, ParameterError

if TYPE_CHECKING:
    from mixtools.mix import Mix

STDIO = "-"

LONGEST_RESPONSE_S = 120.0

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
        Literal["error", "skip"],
        typer.Option(
            "--missing", metavar="error|skip", help="What to do about tracks of the mix file whose stem is not there."
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
    if output == STDIO and json_ and not dry_run:
        raise ParameterError("--json writes to stdout, and so does -o -; give one of them another place")
    if end is not None and tail is not None:
        raise ParameterError("--end and --tail both say where the mix stops; give one")
    if end is not None and end <= start:
        raise ParameterError(f"--end is {end:g}, --start {start:g}; give an end after the start")
    if split_stereo and mix_file is not None:
        raise ParameterError("--split-stereo is for mixes without a mix file; set channel: left and right in the file")

    from mixtools.files.reading import read_audio
    from mixtools.files.stems import agreed_bext, agreed_tags, at_rate, open_stems, reader
    from mixtools.tasks.mix import equal_gain, match_stems, session_rate

    opened = open_stems(stems)
    text = _read_mix_file(mix_file) if mix_file is not None else None
    if text is None:
        document = equal_gain({name: stem.channels for name, stem in opened.items()}, split_stereo)
        report.note("no mix file (-p): the stems are summed as they are")
    else:
        from mixtools.files.mixfile import parse_mix

        document = parse_mix(text, _shown(mix_file))
    try:
        matched = match_stems(document, opened, map_ or (), missing == "skip")
    except ParameterError as error:
        raise ParameterError(f"{_shown(mix_file)}: {error}" if mix_file else str(error)) from None
    document = matched.mix
    for name in matched.missing:
        report.warn(f"{_shown(mix_file)}: {name} is not among the stems; its track is left out")
    if matched.unnamed:
        report.warn(f"{_shown(mix_file)} has no track for {', '.join(matched.unnamed)}; not in the mix")

    used = [opened[track.file] for track in document.tracks]
    session = session_rate(rate, document, [stem.rate for stem in used])
    folder = assets or next((path.parent for path in _as_path(mix_file)), Path())
    impulse_files = _impulse_files(document, folder)
    inputs = [stem.path for stem in opened.values() if stem.path] + [*impulse_files.values()]
    _refuse_inputs([output], [*inputs, *_as_path(mix_file)])
    _refuse_inputs(_as_path(write_mix), inputs)

    from mixtools.dsp.console import Console, seconds_to_samples
    from mixtools.files.writing import open_writer
    from mixtools.tasks.mix import describe, length_of, render_to, stem_names

    with contextlib.ExitStack() as closing, report.compiling():
        responses = {name: read_audio(path, LONGEST_RESPONSE_S) for name, path in impulse_files.items()}
        for name in sorted({track.file for track in document.tracks}):
            if opened[name].rate != session:
                report.note(f"{name}: {opened[name].rate} Hz, resampled to {session} Hz")
        sources = [at_rate(closing.enter_context(reader(opened[t.file])), session) for t in document.tracks]
        console = Console(document, sources, session, threads=workers, responses=responses)
        for note in console.notes:
            report.note(note)
        for line in describe(document):
            report.detail(line)
        first = seconds_to_samples(start, session)
        last = seconds_to_samples(end, session) if end is not None else None
        more = seconds_to_samples(tail, session) if tail is not None else None
        stop, may_end = length_of(console, first, last, more)
        summary: dict[str, Any] = {
            "output": output,
            "mix_file": mix_file,
            "stems": [track.file for track in document.tracks],
            "missing": matched.missing,
            "unnamed": matched.unnamed,
            "sample_rate": session,
            "bits": bits or _default_bits(output),
        }
        if dry_run:
            summary["seconds_at_most" if may_end else "seconds"] = (stop - first) / session
            _say_plan(report, summary, console.latency, stems_out, write_mix, json_)
            return
        names = stem_names(document, console.feeders)
        keywords: dict[str, Any] = {
            "force": force,
            "position": first,
            "tags": agreed_tags(used),
            "bext": agreed_bext(used, session, first),
        }
        target = sys.stdout.buffer if output == STDIO else output
        sink = closing.enter_context(open_writer(target, session, 2, summary["bits"], **keywords))
        parts = {}
        if stems_out is not None:
            _make_folder(stems_out, closing)
            _refuse_inputs([stems_out / name for name in names.values()], inputs)
            for key, name in names.items():
                parts[key] = closing.enter_context(open_writer(stems_out / name, session, 2, bits or "32f", **keywords))
        if write_mix is not None:
            _write_mix(write_mix, document, text, impulse_files, session, force, closing)
        with report.progress("mixing", stop - first) as progress:
            rendered = render_to(console, sink, first, last, more, parts, progress)
    seconds = rendered.frames / session
    took = time.perf_counter() - began
    _warn_of_clipping(report, output, sink)
    for part, name in zip(parts.values(), names.values(), strict=False):
        _warn_of_clipping(report, str(stems_out / name), part)
    report.note(
        f"{'stdout' if output == STDIO else output}: {clock(seconds)} at {session} Hz, {summary['bits']} bit, "
        f"peak {decibels(rendered.peak_dbfs, 'dBFS')}, {decibels(rendered.integrated_lufs, 'LUFS')}; "
        f"{len(document.tracks)} tracks in {took:.1f} s"
    )
    if json_:
        summary |= {
            "seconds": seconds,
            "samples": rendered.frames,
            "peak_dbfs": rendered.peak_dbfs,
            "integrated_lufs": rendered.integrated_lufs,
            "clipped_samples": sink.clipped,
            "stems_out": [str(stems_out / name) for name in names.values()] if stems_out else [],
            "write_mix": write_mix,
            "seconds_taken": took,
        }
        print(json.dumps(summary, indent=2))


def _shown(mix_file: str) -> str:
    return "stdin" if mix_file == STDIO else mix_file


def _as_path(name: str | None) -> list[Path]:
    return [] if name in (None, STDIO) else [Path(name)]


def _read_mix_file(mix_file: str) -> str:
    from mixtools.files.mixfile import LARGEST_BYTES, decode, read_text

    if mix_file == STDIO:
        return decode(sys.stdin.buffer.read(LARGEST_BYTES + 1), "stdin")
    return read_text(mix_file)


def _default_bits(output: str) -> str:
    return "24" if output.lower().endswith(".flac") else "32f"


def _impulse_files(document: Mix, folder: Path) -> dict[str, Path]:
    """Where every impulse response is that the mix names, by the name it has there."""
    from mixtools.presets import ROOMS
    from mixtools.tasks.mix import responses_named

    files = {}
    for where, name in responses_named(document, ROOMS):
        files[name] = folder / name
        if not files[name].is_file():
            raise ParameterError(
                f"{where} is {name}, but there is no {files[name]}; give a file beside the mix file, --assets DIR, "
                f"or one of {', '.join(ROOMS)}"
            )
    return files


def _refuse_inputs(outputs: list[str | Path], inputs: list[Path]) -> None:
    """No output may be one of the inputs, not even with --force."""
    for output in outputs:
        for path in inputs:
            if os.path.realpath(output) == os.path.realpath(path):
                raise ParameterError(f"{output} is an input of this mix; give another name for the output")


def _make_folder(folder: Path, closing: contextlib.ExitStack) -> None:
    """Make a folder for outputs; it goes again if nothing comes to lie in it."""
    if folder.is_dir():
        return
    try:
        folder.mkdir()
    except FileExistsError:
        raise ParameterError(f"{folder} is a file; give a folder for --stems-out") from None
    except FileNotFoundError:
        raise ParameterError(f"{folder}: the folder {folder.parent} does not exist; create it") from None
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror}") from None

    def remove_if_empty() -> None:
        with contextlib.suppress(OSError):
            folder.rmdir()

    closing.callback(remove_if_empty)


def _write_mix(
    target: str,
    document: Mix,
    text: str | None,
    impulse_files: dict[str, Path],
    rate: int,
    force: bool,
    closing: contextlib.ExitStack,
) -> None:
    """Write the mix file, and beside it copies of the impulse responses that are not there already."""
    from mixtools import __version__
    from mixtools.files.mixfile import format_mix
    from mixtools.files.outputs import AtomicFile

    names = {}
    for name, path in impulse_files.items():
        beside = Path(target).parent / name
        if os.path.realpath(beside) == os.path.realpath(path):
            continue
        names[name] = f"{Path(target).stem}.{path.name}"
        copy = closing.enter_context(AtomicFile(Path(target).parent / names[name], force=force))
        with path.open("rb") as source, copy.writing() as file:
            shutil.copyfileobj(source, file)
    made = {"by": f"mixtools {__version__}", "command": shlex.join(["mixtools", *sys.argv[1:]])}
    written = replace(document, sample_rate=rate, notes=document.notes | {"made": made}).check()
    for _, insert in written.inserts():
        if insert.controls.get("ir") in names:
            insert.controls["ir"] = names[insert.controls["ir"]]
    output = closing.enter_context(AtomicFile(sys.stdout.buffer if target == STDIO else target, force=force))
    with output.writing() as file:
        file.write(format_mix(written, text).encode())


def _say_plan(
    report: Report,
    summary: dict[str, Any],
    latency: int,
    stems_out: Path | None,
    write_mix: str | None,
    json_: bool,
) -> None:
    """What a dry run has to say."""
    if json_:
        print(json.dumps(summary, indent=2))
        return
    length = summary.get("seconds")
    words = clock(length) if length is not None else f"at most {clock(summary['seconds_at_most'])}"
    print(f"would write {summary['output']}: {words} at {summary['sample_rate']} Hz, {summary['bits']} bit,")
    print(f"from {len(summary['stems'])} tracks: {', '.join(summary['stems'])}")
    if stems_out:
        print(f"would write what feeds the master into {stems_out}")
    if write_mix:
        print(f"would write {write_mix}")
    report.detail(f"{latency} samples of latency are compensated")


def _warn_of_clipping(report: Report, name: str, sink: Any) -> None:
    if sink.bits != "32f" and sink.clipped:
        over = 20 * math.log10(sink.peak)
        report.warn(
            f"{name}: {sink.clipped} SAMPLES CLIPPED, the loudest by {over:.1f} dB; lower the master by "
            f"{math.ceil(over * 10) / 10:.1f} dB, limit it, or give --bits 32f"
        )
