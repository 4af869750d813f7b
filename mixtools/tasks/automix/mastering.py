"""The end of an automatic mix: a gain and a limiter that bring it to its loudness."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np

from mixtools.dsp.console import Console
from mixtools.mix import Insert, Master, Mix
from mixtools.tasks.automix.options import CEILING_DBTP, TARGET_LUFS
from mixtools.tasks.loudnorm import MOST_LIMITING_DB, Plan, plan
from mixtools.tasks.mix import render_to

IN_MEMORY_BYTES = 1 << 28
"""Longer mixes wait on disk to be measured again."""

Progress = Callable[[int], None]


@dataclass
class Mastered:
    """A mix at its loudness, and what that took."""

    mix: Mix
    plan: Plan


def mastered(
    mix: Mix,
    open_console: Callable[[Mix], Console],
    target_lufs: float = TARGET_LUFS.default,
    ceiling_dbtp: float = CEILING_DBTP,
    progress: Progress = lambda done: None,
    most_limiting_db: float = MOST_LIMITING_DB,
) -> Mastered:
    """A mix with a gain and a limiter on its master, in place of a limiter that is last there now.

    `open_console` gives a console for a mix, with its stems at their beginning. The limiter is there where the gain
    needs it.
    """
    chain = list(mix.master.chain)
    if chain and chain[-1].effect == "limiter":
        chain.pop()
    with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES) as file:
        console = open_console(replace(mix, master=Master(chain)))
        held = _Held(file)
        render_to(console, held, progress=progress)
        found = plan(
            lambda: _Played(file, held.frames),
            console.rate,
            target_lufs,
            ceiling_dbtp,
            most_limiting_db=most_limiting_db,
        )
    if found.unchanged is None:
        chain.append(Insert("gain", {"gain_db": float(f"{found.gain_db:.5g}")}))
        if found.limiting_db > 0.0:
            chain.append(Insert("limiter", {"ceiling_db": ceiling_dbtp}))
    return Mastered(replace(mix, master=Master(chain)).check(), found)


class _Held:
    """Keeps what is rendered."""

    def __init__(self, file: Any):
        self._file = file
        self.frames = 0

    def write(self, block: np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(block.T, np.float32).data)
        self.frames += block.shape[1]


class _Played:
    """What was kept, from its beginning."""

    channels = 2

    def __init__(self, file: BinaryIO, frames: int):
        self._file, self.frames = file, frames
        self._at = 0

    def read(self, n: int) -> np.ndarray:
        n = min(n, self.frames - self._at)
        self._file.seek(8 * self._at)
        self._at += n
        return np.frombuffer(self._file.read(8 * n), np.float32).reshape(n, 2).T
