"""The end of an automatic mix: a gain and a limiter that bring it to its loudness."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np

from mixtools.dsp.console import BLOCK, END_DB, Chain, Console
from mixtools.mix import Insert, Master, Mix
from mixtools.tasks.automix.options import CEILING_DBTP, TARGET_LUFS
from mixtools.tasks.loudnorm import MOST_LIMITING_DB, Plan, plan
from mixtools.tasks.mix import render_to

IN_MEMORY_BYTES = 1 << 28
"""Longer mixes wait on disk to be measured again."""

MOST_RAISED_DB = 30.0
"""A mix is held until it has died away so much further than anybody hears: its end is there when it is made louder."""

Progress = Callable[[int], None]


@dataclass
class Mastered:
    """A mix at its loudness, and what that took."""

    mix: Mix
    plan: Plan


class Held:
    """A mix as it was played, and what is still to be done to it, so that the stems need not be played again."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115
        self.frames = 0
        self.lead = 0
        """Samples of it before the session begins."""
        self.ending: list[Insert] | None = None
        """The end of the master's chain; None where the mix has to be played again."""

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, block: np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(block.T, np.float32).data)
        self.frames += block.shape[1]

    def played(self, first: int = 0) -> _Played:
        """It again, from a sample on."""
        return _Played(self._file, min(first, self.frames), self.frames)

    def ended(self, console: Console) -> Console | Ending:
        """What renders as a console of the mix at its loudness does."""
        return console if self.ending is None else Ending(console, self)


class _Played:
    """What was kept, from a sample on."""

    channels = 2

    def __init__(self, file: BinaryIO, first: int, end: int):
        self._file, self.frames = file, end - first
        self._at, self._end = first, end

    def read(self, n: int) -> np.ndarray:
        n = min(n, self._end - self._at)
        self._file.seek(8 * self._at)
        self._at += n
        return np.frombuffer(self._file.read(8 * n), np.float32).reshape(n, 2).T


class Ending:
    """A console of which only the end of the master's chain is left to be played; its bits are those of the whole."""

    def __init__(self, console: Console, held: Held):
        self._console, self._held = console, held

    def __getattr__(self, name: str) -> Any:
        return getattr(self._console, name)

    def blocks_and_parts(
        self, start: int, end: int, parts: bool = True
    ) -> Iterator[tuple[np.ndarray, dict[int | str, np.ndarray]]]:
        """As a console's; what feeds the master is not held, and takes the console itself."""
        if parts:
            yield from self._console.blocks_and_parts(start, end)
            return
        chain = Chain(self._held.ending, self.rate, 2, start=-self._held.lead)
        source = self._held.played()
        at = -self._held.lead - chain.latency
        while at < end:
            n = min(BLOCK, end - at)
            block = source.read(n)
            y = chain.process(np.pad(block, ((0, 0), (0, n - block.shape[1]))))
            skip = max(0, start - at)
            if skip < n:
                yield y[:, skip:], {}
            at += n


def mastered(
    mix: Mix,
    open_console: Callable[[Mix], Console],
    target_lufs: float = TARGET_LUFS.default,
    ceiling_dbtp: float = CEILING_DBTP,
    progress: Progress = lambda done: None,
    most_limiting_db: float = MOST_LIMITING_DB,
    held: Held | None = None,
) -> Mastered:
    """A mix with a gain and a limiter on its master, in place of a limiter that is last there now.

    `open_console` gives a console for a mix, with its stems at their beginning. The limiter is there where the gain
    needs it. What was played on the way stays in `held`, if that is given.
    """
    chain = list(mix.master.chain)
    if chain and chain[-1].effect == "limiter":
        chain.pop()
    with ExitStack() as stack:
        held = held or stack.enter_context(Held())
        console = open_console(replace(mix, master=Master(chain)))
        held.lead = console.latency
        render_to(console, held, -held.lead, progress=progress, end_db=END_DB + MOST_RAISED_DB)
        found = plan(
            lambda: held.played(held.lead),
            console.rate,
            target_lufs,
            ceiling_dbtp,
            most_limiting_db=most_limiting_db,
        )
        ending = []
        if found.unchanged is None:
            ending.append(Insert("gain", {"gain_db": float(f"{found.gain_db:.5g}")}))
            if found.limiting_db > 0.0:
                ending.append(Insert("limiter", {"ceiling_db": ceiling_dbtp}))
        if found.gain_db <= MOST_RAISED_DB:
            held.ending = ending
    return Mastered(replace(mix, master=Master([*chain, *ending])).check(), found)
