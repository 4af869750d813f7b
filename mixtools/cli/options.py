"""Options that commands share, each declared once; and how times are given."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from mixtools.controls import SAMPLE_RATE, Control, shown
from mixtools.errors import ParameterError, nearest

STDIO = "-"
"""Where a file is named: stdin or stdout."""

FORMATS = {"16": "16 bit", "24": "24 bit", "32f": "32-bit float"}
"""What --bits takes, in words."""

DEVICES = "auto", "cpu", "cuda", "mps"
"""What --device takes."""

LATEST_S = 86400.0
"""A day: no mix is longer."""


def number(control: Control) -> Callable[[str], float]:
    """Reads a number within a control's range."""

    def parse(text: str) -> float:
        try:
            return control.check(float(text), control.name)
        except ValueError:
            found = shown(text) if text else "empty"
            raise ParameterError(f"{control.name} is {found}; give a number, {control.range}") from None

    return parse


def word(name: str, words: Iterable[str]) -> Callable[[str], str]:
    """Reads one of some words."""
    known = list(words)

    def parse(text: str) -> str:
        if text not in known:
            raise ParameterError(f"{name} is {shown(text) if text else 'empty'}; give {nearest(text, known)}")
        return text

    return parse


def whole(control: Control) -> Callable[[str], int]:
    """Reads a whole number within a control's range."""

    def parse(text: str) -> int:
        try:
            return control.check(int(text), control.name)
        except ValueError:
            found = shown(text) if text else "empty"
            raise ParameterError(f"{control.name} is {found}; give a whole number, {control.range}") from None

    return parse


def number_option(name: str, metavar: str, help: str, low: float, high: float) -> Any:
    """An option that takes a number."""
    return typer.Option(name, metavar=metavar, parser=number(Control(name, "", None, low, high)), help=help)


def whole_option(name: str, help: str, low: int = 1, high: int = 10**9) -> Any:
    """An option that takes a whole number."""
    return typer.Option(name, metavar="N", parser=whole(Control(name, "", None, low, high, kind="whole")), help=help)


def word_option(name: str, words: Iterable[str], help: str, metavar: str | None = None) -> Any:
    """An option that takes one of some words."""
    known = list(words)
    return typer.Option(
        name,
        metavar=metavar or "|".join(known),
        parser=word(name, known),
        help=help,
        autocompletion=completing(lambda: known),
    )


def model_option(task: str, help: str, *names: str) -> Any:
    """An option --model: one that comes with mixtools for a task, or a file."""

    def models() -> list[str]:
        from mixtools.files.models import bundled

        return bundled(task)

    return typer.Option("--model", *names, metavar="NAME|FILE", help=help, autocompletion=completing(models))


def completing(words: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """What a shell completes the beginning of a word to; words are asked for when one is to be completed."""
    return lambda incomplete: [word for word in words() if word.startswith(incomplete)]


def _roles() -> list[str]:
    from mixtools.tasks.automix.roles import ROLES

    return [f"{role}=" for role in ROLES]


def control_option(control: Control, metavar: str) -> Any:
    """An option that takes what is declared elsewhere."""
    parse = whole(control) if control.kind == "whole" else number(control)
    return typer.Option(control.name, metavar=metavar, parser=parse, help=control.help)


def seed_option(help: str) -> Any:
    """The option --seed."""
    return whole_option("--seed", help, 0, 2**32 - 1)


Stems = Annotated[
    list[str],
    typer.Argument(
        metavar="STEMS...",
        help="A folder of stems, or the files themselves, or [bold]synth:SEED[/bold] for a synthesised song.",
        show_default=False,
    ),
]
AudioFiles = Annotated[
    list[str],
    typer.Argument(
        metavar="FILES...",
        help="Audio files, folders of them, or [bold]-[/bold] for stdin.",
        show_default=False,
    ),
]
SomeAudioFiles = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FILES...",
        help="Audio files, folders of them, or [bold]-[/bold] for stdin.",
        show_default=False,
    ),
]
"""Of commands that can do without."""

FilesOutput = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT|DIR|-",
        help="A .wav or .flac file, a folder, or - for stdout.",
        show_default=False,
    ),
]
Csv = Annotated[bool, typer.Option("--csv", help="Write CSV to stdout, one line per file.")]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        metavar="N",
        parser=whole(Control("--jobs", "", None, 1, 1024, kind="whole")),
        help="Files to work on at once; as many as there are cores unless given. The result is the same.",
        show_default=False,
    ),
]
DualMono = Annotated[
    bool,
    typer.Option("--dual-mono", help="Count a mono file as what two loudspeakers make of it, 3 LU louder."),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite outputs that are there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say what is done to every strip.")]
Json = Annotated[bool, typer.Option("--json", help="Write a summary to stdout as JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, say what would be done, write nothing.")]
Threads = Annotated[
    int | None,
    whole_option("--threads", "Threads to use at most; all cores unless given. The result is the same.", 1, 1024),
]
MixOutput = Annotated[
    str, typer.Option("--output", "-o", metavar="OUT|-", help="The mix: a .wav or .flac file, or - for stdout.")
]
StemsOut = Annotated[
    Path | None,
    typer.Option(
        "--stems-out",
        metavar="DIR",
        help="Also write what feeds the master, one file per track or bus: they sum to the mix before the master.",
        show_default=False,
    ),
]
Role = Annotated[
    list[str] | None,
    typer.Option(
        "--role",
        metavar="ROLE=STEM",
        help="What a stem is, where its name does not say. Wildcards work: 'guitar=AGT*'. May be repeated.",
        autocompletion=completing(_roles),
        show_default=False,
    ),
]
Lock = Annotated[
    str | None,
    typer.Option(
        "--lock", metavar="FILE", help="Keep the tracks of this mix file, and mix the others.", show_default=False
    ),
]
RoundingThreads = Annotated[
    int | None,
    whole_option(
        "--threads", "Threads to use at most; all cores unless given. Another number rounds differently.", 1, 1024
    ),
]
"""For what is solved or learned: its sums are in another order with other threads."""

Rate = Annotated[
    int | None,
    typer.Option(
        "--rate",
        metavar="HZ",
        parser=whole(replace(SAMPLE_RATE, name="--rate")),
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


def time_option(name: str, help: str) -> Any:
    """An option that takes a time: `12.5`, `1:05` or `1:02:03.5`."""

    def parse(text: str) -> float:
        parts = text.split(":")
        try:
            seconds = float(parts[-1])
            minutes = [int(part) for part in parts[:-1]]
            clock = not minutes or (seconds < 60 and len(parts) <= 3 and all(part.isdecimal() for part in parts[:-1]))
            if not clock or seconds < 0 or (len(minutes) == 2 and minutes[1] >= 60):
                raise ValueError
            for place, count in enumerate(reversed(minutes), 1):
                seconds += count * 60**place
            if not 0.0 <= seconds <= LATEST_S:
                raise ValueError
        except ValueError:
            shown_text = shown(text) if text else "empty"
            raise ParameterError(
                f"{name} is {shown_text}; give seconds, minutes:seconds or hours:minutes:seconds, 0 to 24 h"
            ) from None
        return seconds

    return typer.Option(name, metavar="TIME", help=help, parser=parse, show_default=False)


def thread_count(asked: int | None) -> int:
    """Threads to use: as asked, else as many as this process may run on."""
    if asked is not None:
        return asked
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
