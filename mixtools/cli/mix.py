"""`mixtools mix`: render stems and a mix file into a mix, or mix them without one."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixtools.cli import options
from mixtools.cli.report import Report, clock, count, levels
from mixtools.cli.tables import write_json
from mixtools.errors import ParameterError
from mixtools.tasks.automix.options import BASELINES, TARGET_LUFS

if TYPE_CHECKING:
    from mixtools.cli.rendering import Outputs, Session, Written

SKILLED = {"--keep-levels", "--role", "--variations", "--lock"}
"""Options that the baselines do not have."""

DESCRIPTION = """
Without a mix file the stems are mixed by rules, as an engineer would begin: every stem has a role (kick, bass,
lead_vocal, guitar, ...) by its name or, where that says nothing, by its sound; from that follow its loudness, low cut,
compression, place and reverb, and stems that mask more important ones give way to them. The rules, their sources and
their numbers are listed below; -v says which did what, and --write-mix writes a mix file to go on from. --lock keeps
the tracks that a mix file settles already, and mixes the others around them. --baseline gives the mixes that research
compares with. --model mixes with a network that `mixtools train mix` trained: it listens to 40 seconds in which stems
are loud, and sets fader and pan of every stem, or its whole channel; then no stem is further than 10 LU from what its
role usually has, and what leads and the bass stand in the centre. What a dmc-full model sets can be played by a neural
channel (--channel); one that learned with it is. The mix file has all of it.

The session's rate is --rate, else the mix file's sample_rate, else the stems' most common rate; what differs is
resampled, and said so. The mix is as long as the longest stem, and goes on until the tail of its effects has
fallen below -90 dBFS. Intermediate audio is 32-bit float, so that nothing clips between commands; 16 and 24 bit
are dithered, and a sample that would clip is reported. Files beyond 4 GiB become RF64. The time stamp (bext) and
the tags of the stems are carried where all stems agree.

The same command on the same machine writes the same bytes. Neither --threads nor --start and --end change a
sample. The first run compiles the effects, which takes some seconds, and says so.
"""

EVERYDAY = (
    "--mix-file",
    "--output",
    "--write-mix",
    "--stems-out",
    "--target-lufs",
    "--lock",
    "--variations",
    "--dry-run",
    "--force",
)
"""What `--help` explains."""

EXAMPLES = (
    ("Mix them, into mix.wav, and have a mix file to go on from:", "mixtools mix stems/ --write-mix first.yaml"),
    ("Render a mix file:", "mixtools mix stems/ -p mix.yaml -o song.wav"),
    ("Three different mixes:", "mixtools mix stems/ --variations 3 --target-lufs -14 -o take.wav"),
    ("Sum stems as they are:", "mixtools mix stems/ --baseline sum -o sum.wav"),
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
    output: options.MixOutput = "mix.wav",
    write_mix: Annotated[
        str | None,
        typer.Option(
            "--write-mix",
            metavar="FILE",
            help="Also write the mix file that makes this mix; comments of the one it was read from are kept.",
            show_default=False,
        ),
    ] = None,
    stems_out: options.StemsOut = None,
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
        options.word_option(
            "--missing", ["error", "skip"], "What to do about tracks of the mix file whose stem is not there."
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
    expert: Annotated[
        bool, typer.Option("--expert", help="Mix by rules; so it is without a mix file, --baseline or --model.")
    ] = False,
    baseline: Annotated[
        str | None,
        options.word_option(
            "--baseline",
            BASELINES,
            "Mix without any skill: the stems as they are, in mono, at random, or all equally loud.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        options.model_option(
            "mix", "Mix with a trained model: one that comes with mixtools, or what `mixtools train mix` wrote."
        ),
    ] = None,
    channel: Annotated[
        str | None,
        typer.Option(
            "--channel",
            metavar="NAME|FILE",
            help="With a dmc-full model: play the channels it sets by this model of `mixtools emulate`.",
            show_default=False,
        ),
    ] = None,
    target_lufs: Annotated[
        float | None,
        typer.Option(
            "--target-lufs",
            metavar="LUFS",
            parser=options.number(TARGET_LUFS),
            help="Loudness of a mix without a mix file, under -1 dBTP; -16 unless given. A sum has its own.",
            show_default=False,
        ),
    ] = None,
    keep_levels: Annotated[
        bool, typer.Option("--keep-levels", help="Start from the stems' own balance: leave it as it is.")
    ] = False,
    role: options.Role = None,
    variations: Annotated[
        int | None,
        options.whole_option(
            "--variations", "Make N mixes that differ, equally sound: mix_1.wav and mix_1.yaml, and so on.", 1, 99
        ),
    ] = None,
    lock: options.Lock = None,
    seed: Annotated[
        int,
        options.seed_option("Seed of what is random: the random baseline, and variations."),
    ] = "0",
    split_stereo: Annotated[
        bool,
        typer.Option(
            "--split-stereo", help="With --baseline sum: two mono tracks, hard left and right, per stereo stem."
        ),
    ] = False,
    threads: options.Threads = None,
    dry_run: options.DryRun = False,
    force: options.Force = False,
    json_: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Mix stems: as a mix file says, or by rules or a model where there is none."""
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
    if assets is not None and mix_file is None:
        raise ParameterError("--assets is for mix files; give one with -p")
    if end is not None and tail is not None:
        raise ParameterError("--end and --tail both say where the mix stops; give one")
    if end is not None and end <= start:
        raise ParameterError(f"--end is {end:g}, --start {start:g}; give an end after the start")
    asked = {
        "--expert": expert,
        "--baseline": baseline,
        "--model": model is not None,
        "--channel": channel is not None,
        "--target-lufs": target_lufs is not None,
        "--keep-levels": keep_levels,
        "--role": role,
        "--variations": variations,
        "--lock": lock,
        "--split-stereo": split_stereo,
    }
    _check_automatic({name for name, value in asked.items() if value}, mix_file, baseline, model)
    if variations is not None and options.STDIO in (output, write_mix):
        raise ParameterError("--variations writes numbered files; give -o and --write-mix names")

    from mixtools.cli.automatic import Wanted, mixed, outline
    from mixtools.cli.rendering import Outputs, load, write
    from mixtools.tasks.automix.mastering import Held
    from mixtools.tasks.mix import describe

    plan = Outputs(output, bits, stems_out, write_mix, force, context.find_root().obj)
    told = []
    with report.compiling(), Held() as held:
        if mix_file is not None:
            sessions = [load(report, stems, mix_file, map_ or [], missing == "skip", rate, assets)]
        else:
            wanted = Wanted(
                baseline, model, target_lufs, keep_levels, role or (), variations, lock, seed, split_stereo, channel
            )
            summed = outline(report, stems, wanted, rate)
            if not wanted.as_they_are:
                silent = Report(quiet=True, verbose=False)
                for number in range(1, (variations or 1) + 1):
                    outputs = plan if variations is None else _numbered(plan, number)
                    write(summed, summed.console(silent, workers), outputs, start, end, tail, silent, dry_run=True)
            kept = variations is None and end is None and tail is None
            sessions = mixed(report, summed, wanted, workers, held if kept else None)
        for number, session in enumerate(sessions, 1):
            console = held.ended(session.console(report, workers))
            for line in describe(session.mix):
                report.detail(line)
            outputs = plan if variations is None else _numbered(plan, number)
            written = write(session, console, outputs, start, end, tail, report, dry_run)
            told.append(_facts(session, outputs, written))
            if not dry_run:
                _say(report, session, outputs, written, time.perf_counter() - began)
    if dry_run:
        _say_plan(told, json_)
    elif json_:
        took = time.perf_counter() - began
        write_json([facts | {"seconds_taken": took} for facts in told], single=variations is None)


def _check_automatic(asked: set[str], mix_file: str | None, baseline: str | None, model: str | None) -> None:
    """Refuse options that have no part in what is done."""
    name = min(asked, default=None)
    if mix_file is not None and name is not None:
        raise ParameterError(f"{name} is for mixes without a mix file; give it, or -p")
    if "--channel" in asked and model is None:
        raise ParameterError("--channel plays what a model sets; give one with --model")
    if baseline is not None and model is not None:
        raise ParameterError("--baseline and --model both say how to mix; give one")
    if "--expert" in asked and (baseline, model) != (None, None):
        other = "--model" if model is not None else "--baseline"
        raise ParameterError(f"--expert and {other} both say how to mix; give one")
    if baseline is not None and (name := min(asked & SKILLED, default=None)):
        raise ParameterError(f"{name} is not for baselines; give it, or --baseline")
    if "--split-stereo" in asked and baseline != "sum":
        mixer = "the expert" if model is None else "a model"
        raise ParameterError(f"--split-stereo is for --baseline sum; {mixer} treats a stereo stem as one")


def _numbered(outputs: Outputs, number: int) -> Outputs:
    """The same outputs for one mix of several: each name has its number, and every mix has its mix file."""

    def name(path: str) -> str:
        return str(Path(path).with_stem(f"{Path(path).stem}_{number}"))

    return replace(
        outputs,
        mix=name(outputs.mix),
        mix_file=name(outputs.mix_file or str(Path(outputs.mix).with_suffix(".yaml"))),
        stems=None if outputs.stems is None else outputs.stems / str(number),
    )


def _facts(session: Session, outputs: Outputs, written: Written) -> dict[str, Any]:
    """What was done, or would be, for machines."""
    facts: dict[str, Any] = {
        "output": outputs.mix,
        "mix_file": session.mix_file,
        "stems": [track.file for track in session.mix.tracks],
        "missing": session.missing,
        "unnamed": session.unnamed,
        "sample_rate": session.rate,
        "bits": written.bits,
        "stems_out": [str(path) for path in written.parts],
        "write_mix": outputs.mix_file,
        "seconds": written.seconds,
    }
    made = {name: found for name in ("roles", "rules") if (found := getattr(session, name, None))}
    if not written.samples:
        return facts | made | {"may_end_earlier": written.may_end_earlier}
    return (
        facts
        | made
        | {
            "samples": written.samples,
            "peak_dbfs": written.peak_dbfs,
            "integrated_lufs": written.integrated_lufs,
            "clipped_samples": written.clipped,
        }
    )


def _say(report: Report, session: Session, outputs: Outputs, written: Written, took: float) -> None:
    report.note(
        f"{'stdout' if outputs.mix == options.STDIO else outputs.mix}: {clock(written.seconds)} at {session.rate} Hz, "
        f"{options.FORMATS[written.bits]}, {levels(written.peak_dbfs, written.integrated_lufs)}; "
        f"{count(len(session.mix.tracks), 'track')} in {took:.1f} s"
    )


def _say_plan(told: list[dict[str, Any]], json_: bool) -> None:
    """What a dry run has to say, on stdout."""
    if json_:
        write_json(told, single=len(told) == 1)
        return
    for facts in told:
        length = ("at most " if facts["may_end_earlier"] else "") + clock(facts["seconds"])
        print(f"would write {facts['output']}: {length} at {facts['sample_rate']} Hz, {options.FORMATS[facts['bits']]}")
        print(f"from {count(len(facts['stems']), 'track')}: {', '.join(facts['stems'])}")
        for path in [*facts["stems_out"], *filter(None, [facts["write_mix"]])]:
            print(f"would write {path}")
