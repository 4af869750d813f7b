"""`mixtools transfer`: mix stems like a record."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mixtools.cli import options
from mixtools.cli.report import Report
from mixtools.errors import ParameterError
from mixtools.tasks.automix.options import TARGET_LUFS
from mixtools.tasks.transfer.options import AMOUNT, ASPECTS, STEPS, WEIGHT, Amount

SYNTH = "synth:"
"""What the name of a synthesised song begins with."""

ENGINES = {
    "optimise": "a search from the mix by rules of `mixtools mix`",
    "controller": "a network's answer alone",
    "both": "a search from the network's answer",
}

DESCRIPTION = """
The stems get faders, equalisers, compressors, pans and reverb sends, and the master an equaliser, a compressor and a
limiter, so that the mix has the spectrum in the middle and at the sides, the width, the balance and the crest factor of
the record: the audio-feature loss of Diff-MST (Vanka et al. 2024) becomes small. It is a mix, not a master: levels and
places do as much of it as they can, no stem gets lost, and what belongs in the centre strays from it least. The mix
comes out at the record's loudness, or at --target-lufs, under -1 dBTP, and the mix file holds all that was done. Where
that would take more than 6 dB of limiting, or more than the record's crest factor asks for, it stays below, and a
warning says by how much.

Several records are averaged, a folder is all records in it, and --weight says what each counts. Stems and records may
have any rate, length and loudness; records may be mono. What is listened to are excerpts in which stems, or the record,
are loud; --start, --end, --ref-start and --ref-end narrow that down. The whole song is mixed all the same.

A table on stderr shows every feature of the equal-loudness mix, the start, the result and the record, the loss by its
terms, and what was done to each track; --json writes that to stdout, for machines. The search starts from --from, else
from the mix that `mixtools mix` makes by rules; with --engine both from the answer of a trained controller, which
--engine controller gives as it is, in a fraction of the time. --amount says how far to go from the start: 0 is the
start, 1 all the way; --levels, --eq, --dynamics, --stereo and --reverb say it for one aspect.

The same command on the same machine writes the same bytes, whatever the order of the stems and the loudness of the
record. An interrupt (Ctrl-C) while it searches writes the best so far, and ends with exit code 130.
"""

EVERYDAY = "--output", "--engine", "--steps", "--amount", "--lock", "--target-lufs", "--force"
"""What `--help` explains."""

EXAMPLES = (
    ("Mix them like that record, into like.wav and like.yaml:", "mixtools transfer stems/ record.wav -o like.wav"),
    (
        "Half way between two records, of which the first counts twice, after a short search; how near did it come?",
        "mixtools transfer stems/ record.wav rough.wav --weight 2 --weight 1 --amount 0.5 --steps 1 -q -o both.wav "
        "--json | jq .losses.result.total",
    ),
    ("See what would be done:", "mixtools transfer synth:7 record.wav --dry-run"),
)
"""What each example does, and its command line; tests run them where such files are."""


def _aspect(name: str) -> Any:
    return options.number_option(f"--{name}", "X", f"How far to go with {ASPECTS[name]}.", AMOUNT.low, AMOUNT.high)


def transfer(
    context: typer.Context,
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="STEMS REF...",
            help="A folder of stems, or [bold]synth:SEED[/bold] for a synthesised song; then the records, files or "
            "folders of them, or [bold]-[/bold] for stdin. Where stems are named one by one, the last file is the "
            "record.",
            show_default=False,
        ),
    ],
    output: options.MixOutput = "mix.wav",
    write_mix: Annotated[
        str | None,
        typer.Option(
            "--write-mix",
            metavar="FILE|-",
            help="The mix file that makes this mix; OUT with .yaml unless given.",
            show_default=False,
        ),
    ] = None,
    stems_out: options.StemsOut = None,
    engine: Annotated[
        str | None,
        options.word_option(
            "--engine",
            ENGINES,
            "What finds the mix: a search unless given, a trained network, or both in turn.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        options.model_option(
            "transfer", "The controller: one that comes with mixtools, or what `mixtools train transfer` wrote."
        ),
    ] = None,
    steps: Annotated[int, options.control_option(STEPS, "N")] = str(STEPS.default),
    amount: Annotated[float, options.control_option(AMOUNT, "X")] = "1",
    levels: Annotated[float, _aspect("levels")] = "1",
    eq: Annotated[float, _aspect("eq")] = "1",
    dynamics: Annotated[float, _aspect("dynamics")] = "1",
    stereo: Annotated[float, _aspect("stereo")] = "1",
    reverb: Annotated[float, _aspect("reverb")] = "1",
    weight: Annotated[
        list[float] | None,
        typer.Option(
            "--weight",
            metavar="X",
            parser=options.number(WEIGHT),
            help="What a record counts beside others: once for every REF, in their order.",
            show_default=False,
        ),
    ] = None,
    start: Annotated[float, options.time_option("--start", "Listen to the stems from here on.")] = "0",
    end: Annotated[float | None, options.time_option("--end", "Listen to the stems up to here.")] = None,
    ref_start: Annotated[float, options.time_option("--ref-start", "Listen to the records from here on.")] = "0",
    ref_end: Annotated[float | None, options.time_option("--ref-end", "Listen to the records up to here.")] = None,
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="FILE", help="Start from this mix file.", show_default=False),
    ] = None,
    lock: options.Lock = None,
    role: options.Role = None,
    target_lufs: Annotated[
        float | None,
        typer.Option(
            "--target-lufs",
            metavar="LUFS",
            parser=options.number(TARGET_LUFS),
            help="Loudness of the mix; that of the records unless given.",
            show_default=False,
        ),
    ] = None,
    rate: options.Rate = None,
    bits: options.Bits = None,
    threads: options.Threads = None,
    dry_run: options.DryRun = False,
    force: options.Force = False,
    json_: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Mix stems like a record: its spectrum, width, balance and dynamics."""
    stems, records = _divided(files)
    for name, first, last in (("", start, end), ("ref-", ref_start, ref_end)):
        if last is not None and last <= first:
            raise ParameterError(f"--{name}end is {last:g}, --{name}start {first:g}; give an end after the start")
    if weight is not None and len(weight) != len(records):
        raise ParameterError(f"--weight is given {len(weight)} times for {len(records)} REF; give it once for each")
    if engine == "optimise" and model is not None:
        raise ParameterError("--model names a controller, and --engine optimise has none; leave one out")
    if from_ is not None and (engine in ("controller", "both") or model is not None):
        raise ParameterError("--from is where the search starts, and so is the controller's answer; leave one out")

    from mixtools.cli.transferring import Run, Wanted

    wanted = Wanted(
        stems=stems,
        records=records,
        weights=weight,
        engine="optimise" if from_ is not None else engine,
        model=model,
        steps=steps,
        amount=Amount(amount, levels, eq, dynamics, stereo, reverb),
        start_s=start,
        end_s=end,
        ref_start_s=ref_start,
        ref_end_s=ref_end,
        from_file=from_,
        lock=lock,
        roles=role or (),
        target_lufs=target_lufs,
        rate=rate,
        threads=options.thread_count(threads),
        dry_run=dry_run,
        json=json_,
    )
    outputs = output, bits, stems_out, write_mix, force, context.find_root().obj
    Run(Report(quiet, verbose), wanted, *outputs).do()


def _divided(files: list[str]) -> tuple[list[str], list[str]]:
    """Stems and records: one folder and what follows it, or files and the last of them."""
    if len(files) < 2:
        raise ParameterError(
            f"REF is missing; give the stems and then a record, as in: mixtools transfer {files[0]} ref.wav"
        )
    if files[0].startswith(SYNTH) or Path(files[0]).is_dir():
        return files[:1], files[1:]
    return files[:-1], files[-1:]
