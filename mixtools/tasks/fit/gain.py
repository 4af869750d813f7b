"""The gain mix of Barchiesi & Reiss 2010: one amplitude for every stem and side, by least squares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mixtools.controls import EFFECTS
from mixtools.mix import Insert, Track

SAMPLES_AT_A_TIME = 1 << 16

LOWEST_DB, HIGHEST_DB = EFFECTS["gain"]["gain_db"].low, EFFECTS["gain"]["gain_db"].high


class Gains:
    """Least squares over blocks of samples, for stems of so many channels each; memory does not grow with length.

    A mono stem feeds both sides, a stereo stem's channels one side each. What is kept is the triangle of a QR
    decomposition: normal equations would square the condition of stems that are nearly alike.
    """

    def __init__(self, channels: Sequence[int]):
        self._channels = list(channels)
        # Without stereo stems both sides share one matrix, and the decomposition.
        self._sides = [[0], [1]] if 2 in self._channels else [[0, 1]]
        self._triangles = [np.zeros((0, len(self._channels) + len(sides))) for sides in self._sides]
        self._samples = 0

    def add(self, stems: Sequence[np.ndarray], target: np.ndarray) -> None:
        """Take the next samples: a block (channels, n) of every stem, and of the target (2, n)."""
        for start in range(0, target.shape[1], SAMPLES_AT_A_TIME):
            part = slice(start, start + SAMPLES_AT_A_TIME)
            for i, sides in enumerate(self._sides):
                columns = [stem[min(sides[0], len(stem) - 1), part] for stem in stems]
                columns += [target[side, part] for side in sides]
                rows = np.array(columns, np.float64).T
                self._triangles[i] = np.linalg.qr(np.concatenate([self._triangles[i], rows]), mode="r")
        self._samples += target.shape[1]

    def solve(self) -> np.ndarray:
        """The amplitudes, (stems, 2); stems that cannot be told apart share theirs, silent ones have 0."""
        count = len(self._channels)
        tolerance = np.finfo(np.float64).eps * max(self._samples, count)
        solved = [
            np.linalg.lstsq(triangle[:, :count], triangle[:, count:], rcond=tolerance)[0]
            for triangle in self._triangles
        ]
        return np.concatenate(solved, axis=1)


def solve_gains(stems: Sequence[np.ndarray], target: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """The amplitudes (stems, 2) with which stems (1 or 2, n) come nearest to a target (2, n), where `mask` (n,) holds.

    Minimum-norm where there are many, float64.
    """
    gains = Gains([len(stem) for stem in stems])
    for start in range(0, target.shape[1], SAMPLES_AT_A_TIME):
        part = slice(start, start + SAMPLES_AT_A_TIME)
        used = slice(None) if mask is None else np.asarray(mask[part], bool)
        gains.add([stem[:, part][:, used] for stem in stems], target[:, part][:, used])
    return gains.solve()


def gain_tracks(file: str, channels: int, amplitudes: Sequence[float]) -> list[Track]:
    """Console strips that give a stem its amplitudes (left, right): one, or two where the sides differ in sign.

    Mono or stereo, the strip is the same: the pan's law `balance` is 1 on the near side. An amplitude beyond the range
    of `gain_db` is written as its end, so that a stem without any part in the mix stands in it at -96 dB.
    """
    if channels not in (1, 2):
        raise ValueError(f"a strip has 1 or 2 channels, not {channels}")
    left, right = (float(a) for a in amplitudes)
    audible = 10.0 ** (LOWEST_DB / 20.0)
    if left * right < 0.0 and min(abs(left), abs(right)) >= audible:
        return [_strip(file, left, 0.0), _strip(file, 0.0, right)]
    if left * right < 0.0:
        left, right = (left, 0.0) if abs(left) > abs(right) else (0.0, right)
    return [_strip(file, left, right)]


def _strip(file: str, left: float, right: float) -> Track:
    """A strip for two amplitudes that are not of opposite signs."""
    loudest = max(abs(left), abs(right))
    gain = {"gain_db": decibels(loudest), "invert": left + right < 0.0}
    return Track(file, chain=[Insert("gain", gain), Insert("pan", {"pan": balance_for(abs(left), abs(right))})])


def balance_for(left: float, right: float) -> float:
    """The pan whose law `balance` gives two sides the ratio of these amplitudes, neither of them negative."""
    loudest = max(left, right)
    if loudest == 0.0:
        return 0.5
    return right / (2.0 * loudest) if left >= right else 1.0 - left / (2.0 * loudest)


def decibels(amplitude: float, low: float = LOWEST_DB, high: float = HIGHEST_DB) -> float:
    """An amplitude, not negative, in dB within a control's range."""
    return float(np.clip(20.0 * np.log10(max(amplitude, 1e-30)), low, high))
