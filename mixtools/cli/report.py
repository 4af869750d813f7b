"""What a command says to the person who runs it: notes, warnings and a progress bar, all on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Report:
    """Says things on stderr, as much as the person asked for."""

    def __init__(self, quiet: bool, verbose: bool):
        self._quiet = quiet
        self._verbose = verbose

    def note(self, text: str) -> None:
        """Something to know; not with --quiet."""
        if not self._quiet:
            say(text)

    def detail(self, text: str) -> None:
        """Only with --verbose."""
        if self._verbose and not self._quiet:
            say(text)

    def warn(self, text: str) -> None:
        """Something that is probably not as it should be; not with --quiet."""
        self.note(f"warning: {text}")

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar with an estimate, on a terminal only; the caller says how much of `total` is done."""
        if self._quiet or not sys.stderr.isatty():
            yield lambda done: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda done: bar.update(task, completed=done)

    @contextmanager
    def compiling(self) -> Iterator[None]:
        """Says so when kernels have to be compiled: only the first run does."""
        from mixtools.dsp.compiled import on_first_compilation

        with on_first_compilation(lambda: self.note("compiling the effects for this machine; later runs will not")):
            yield


def say(text: str) -> None:
    """One line on stderr, under the program's name."""
    try:
        print(f"mixtools: {text}", file=sys.stderr, flush=True)
    except UnicodeEncodeError:
        encoding = sys.stderr.encoding or "ascii"
        print(f"mixtools: {text}".encode(encoding, "replace").decode(encoding), file=sys.stderr, flush=True)
    except BrokenPipeError:
        pass


def clock(seconds: float) -> str:
    """A length for people: 0:07.5, 1:02:03.0."""
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"


def decibels(value: float | None, unit: str) -> str:
    """A level for people, or what it means when there is none."""
    return "silence" if value is None else f"{value:+.1f} {unit}".replace("+-", "-")
