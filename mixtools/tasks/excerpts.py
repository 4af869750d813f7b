"""Which parts of a song stand for all of it, and which of those are kept back to check what was found there."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mixtools.tasks.recordings import Recording

Range = tuple[int, int]
"""First sample, and the one after the last, in the mix's time."""

READ_S = 8
HEARD_DB = -60.0
"""A second of the mix this far below its loudest one tells nothing of how the mix was made."""


def choose_excerpts(
    stems: Mapping[str, Recording],
    target: Recording | None,
    rate: int,
    most_s: float = 60.0,
    piece_s: float = 10.0,
    start: int = 0,
    end: int | None = None,
    offset: int = 0,
) -> list[Range]:
    """The parts of the mix, in samples, that stand for all of it: everything, where that is at most `most_s` long.

    Of longer mixes, pieces of `piece_s`, in order and merged where they touch, so that every stem is heard where it is
    loud. The stems begin at sample `offset` of the mix; where there is none yet, they are what is heard.
    """
    frames = max(stem.frames for stem in stems.values()) if target is None else target.frames
    end = frames if end is None else min(end, frames)
    second = round(rate)
    seconds = max(0, end - start) // second
    piece = max(1, min(round(piece_s), seconds))
    pieces = int(most_s // piece) if seconds else 0
    if end - start <= most_s * rate or not pieces:
        return [(start, end)] if end > start else []
    energies = np.array([_energies(stem, start - offset, seconds, second) for stem in stems.values()])
    heard = energies.sum(axis=0) if target is None else _energies(target, start, seconds, second)
    audible = heard > heard.max() * 10.0 ** (HEARD_DB / 10.0)
    firsts = _cover(energies.reshape(-1, seconds) * audible, heard, piece, pieces)
    return merged([(start + first * second, start + (first + piece) * second) for first in firsts])


def merged(ranges: list[Range]) -> list[Range]:
    """Ranges in order, those that touch or overlap made one.

    >>> merged([(8, 9), (0, 4), (4, 6)])
    [(0, 6), (8, 9)]
    """
    joined: list[Range] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined


def alternate_blocks(ranges: list[Range], rate: int, seconds: float = 5.0) -> tuple[list[Range], list[Range]]:
    """Cut ranges into blocks and deal them out in turn: those to fit on, which get the first, and those to check on.

    >>> alternate_blocks([(0, 12), (20, 23)], 1, 5)
    ([(0, 5), (10, 12)], [(5, 10), (20, 23)])
    """
    size = max(1, round(seconds * rate))
    blocks = [(at, min(at + size, last)) for first, last in ranges for at in range(first, last, size)]
    return merged(blocks[::2]), merged(blocks[1::2])


def _energies(recording: Recording, start: int, seconds: int, second: int) -> np.ndarray:
    """The energy of every second from `start` on, (seconds,)."""
    energies = np.zeros(seconds)
    for first in range(0, seconds, READ_S):
        count = min(READ_S, seconds - first)
        block = recording.read(start + first * second, count * second).astype(np.float64)
        energies[first : first + count] = (block**2).reshape(len(block), count, second).sum(axis=(0, 2))
    return energies


def _cover(energies: np.ndarray, heard: np.ndarray, piece: int, pieces: int) -> list[int]:
    """The first seconds of pieces that do not overlap, chosen greedily; energies are (stems, seconds).

    A stem is worth the square root of its energy in the chosen pieces relative to its loudest piece, so that its first
    piece counts most, and the more the fewer seconds it sounds in.
    """
    sums = np.concatenate([np.zeros((len(energies), 1)), np.cumsum(energies, axis=1)], axis=1)
    inside = np.maximum(sums[:, piece:] - sums[:, :-piece], 0.0)
    loudest = inside.max(axis=1, keepdims=True)
    share = np.divide(inside, loudest, out=np.zeros_like(inside), where=loudest > 0.0)
    rarity = 1.0 / np.maximum((share > 0.1).mean(axis=1), 1.0 / share.shape[1])
    weights = np.sqrt(rarity) * (loudest[:, 0] > 0.0)
    level = np.convolve(heard, np.ones(piece), "valid")
    tie_breaker = 1e-6 * level / max(level.max(), 1e-300)
    gathered = np.zeros((len(energies), 1))
    free = np.ones(share.shape[1], bool)
    firsts: list[int] = []
    while len(firsts) < pieces and free.any():
        worth = weights @ (np.sqrt(gathered + share) - np.sqrt(gathered)) + tie_breaker
        best = int(np.argmax(np.where(free, worth, -1.0)))
        firsts.append(best)
        gathered += share[:, best : best + 1]
        free[max(0, best - piece + 1) : best + piece] = False
    return firsts
