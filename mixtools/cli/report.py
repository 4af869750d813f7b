"""What a command says to the person who runs it: notes, warnings and a progress bar, all on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import BinaryIO

from mixtools.errors import OutputError, ParameterError


class Report:
    """Says things on stderr, as much as the person asked for."""

    def __init__(self, quiet: bool, verbose: bool):
        self._quiet = quiet
        self.verbose = verbose

    def note(self, text: str) -> None:
        """Something to know; not with --quiet."""
        if not self._quiet:
            say(text)

    def detail(self, text: str) -> None:
        """Only with --verbose."""
        if self.verbose and not self._quiet:
            say(text)

    def warn(self, text: str) -> None:
        """Something that is probably not as it should be; not with --quiet."""
        self.note(f"warning: {text}")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> None:
        """A table to read; not with --quiet."""
        if self._quiet or sys.stderr is None:
            return
        from mixtools.cli.tables import write_table

        with suppress(BrokenPipeError):
            write_table(head, rows, left=left, stream=sys.stderr)

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar with an estimate, on a terminal only; the caller says how much of `total` is done."""
        with self.stages(what) as tell:
            yield lambda done: tell(what, done / total)

    @contextmanager
    def stages(self, first: str) -> Iterator[Callable[[str, float], None]]:
        """A bar for one stage after the other; the caller names the stage, and says which share of it is done."""
        if self._quiet or sys.stderr is None or not sys.stderr.isatty():
            yield lambda what, share: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(first, total=1.0)
            at = first

            def tell(what: str, share: float) -> None:
                nonlocal at
                if what != at:
                    at = what
                    bar.reset(task, description=what)
                bar.update(task, completed=share)

            yield tell

    @contextmanager
    def compiling(self) -> Iterator[None]:
        """Says so when kernels have to be compiled: only the first run does."""
        from mixtools.dsp.compiled import on_first_compilation

        with on_first_compilation(lambda: self.note("compiling the effects for this machine; later runs will not")):
            yield


def say(text: str) -> None:
    """One line on stderr, under the program's name; nowhere if stderr is closed."""
    if sys.stderr is None:
        return
    line = "".join(
        c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in f"mixtools: {text}"
    )
    encoding = sys.stderr.encoding or "ascii"
    with suppress(BrokenPipeError):
        print(line.encode(encoding, "backslashreplace").decode(encoding), file=sys.stderr, flush=True)


def stdin_bytes() -> BinaryIO:
    """stdin as it is, for reading."""
    if sys.stdin is None:
        raise ParameterError("stdin is closed; give the name of a file instead of -")
    return sys.stdin.buffer


def stdout_bytes() -> BinaryIO:
    """stdout as it is, for writing."""
    if sys.stdout is None:
        raise OutputError("stdout is closed; give the name of a file instead of -")
    return sys.stdout.buffer


def clock(seconds: float) -> str:
    """A length for people: 0:07.5, 1:02:03.0."""
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"


def levels(peak_dbfs: float | None, integrated_lufs: float | None) -> str:
    """Peak and loudness for people, or why there is none."""
    if peak_dbfs is None:
        return "silence"
    loudness = "no LUFS (too short or too quiet)" if integrated_lufs is None else f"{integrated_lufs:.1f} LUFS"
    return f"peak {signed(peak_dbfs)} dBFS, {loudness}"


def signed(db: float) -> str:
    """dB for people, with a sign; never minus zero."""
    return f"{round(db, 1) + 0.0:+.1f}"


def count(number: int, thing: str) -> str:
    """1 track, 2 tracks."""
    return f"{number} {thing}{'' if number == 1 else 's'}"
