"""Options that commands share, each declared once; and how times are given."""

from __future__ import annotations

import os
from typing import Annotated

import typer

Stems = Annotated[
    list[str],
    typer.Argument(
        metavar="STEMS...",
        help="A folder of stems, or the files themselves, or [bold]synth:SEED[/bold] for a synthesised song.",
        show_default=False,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite outputs that are there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say what is done to every strip.")]
Json = Annotated[bool, typer.Option("--json", help="Write a summary to stdout as JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, say what would be done, write nothing.")]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        help="Threads to use at most; all cores unless given. The result is the same.",
        show_default=False,
    ),
]
Rate = Annotated[
    int | None,
    typer.Option(
        "--rate",
        metavar="HZ",
        help="Session rate: else the mix file's, else the stems' most common one.",
        show_default=False,
    ),
]
Bits = Annotated[
    str | None,
    typer.Option(
        "--bits",
        metavar="16|24|32f",
        help="Sample format: 32f (float) for WAV and 24 for FLAC unless given; 16 and 24 are dithered.",
        show_default=False,
    ),
]


def parse_time(text: str) -> float:
    """Seconds from `12.5`, `1:05` or `1:02:03.5`."""
    parts = text.split(":")
    try:
        if len(parts) > 3 or any(not part.strip() or part.strip()[0] in "+-" for part in parts):
            raise ValueError
        seconds = 0.0
        for part in parts:
            seconds = seconds * 60 + float(part)
        if not 0.0 <= seconds <= 86400.0:
            raise ValueError
    except ValueError:
        raise typer.BadParameter(f"{text} is not a time; give seconds or minutes:seconds, 0 to 24 h") from None
    return seconds


def time_option(name: str, help: str) -> object:
    """An option that takes a time."""
    return typer.Option(name, metavar="TIME", help=help, parser=parse_time, show_default=False)


def thread_count(asked: int | None) -> int:
    """Threads to use: as asked, else as many as this process may run on."""
    if asked is not None:
        if asked < 1:
            raise typer.BadParameter(f"--threads is {asked}; give 1 or more")
        return asked
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
