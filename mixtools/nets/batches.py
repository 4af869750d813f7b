"""Batches that follow from their number, and random numbers that follow from a seed: what resuming stands on."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.utils.data import default_collate


def seed_everything(*numbers: int) -> None:
    """Let all global generators follow from these numbers alone."""
    state = np.random.SeedSequence(numbers).generate_state(4)
    torch.manual_seed(int(state[0]) << 32 | int(state[1]))
    np.random.seed(state[2])
    random.seed(int(state[3]))


@dataclass(frozen=True)
class Shuffled:
    """Batches of a finite set by number: every item once per epoch, in an order that follows from seed and epoch."""

    items: Sequence[Any]
    batch_size: int
    seed: int = 0
    collate: Callable[[list[Any]], Any] = default_collate

    def __call__(self, number: int) -> Any:
        first = number * self.batch_size
        return self.collate([self.items[self._index(first + i)] for i in range(self.batch_size)])

    def _index(self, position: int) -> int:
        epoch, place = divmod(position, len(self.items))
        return int(_order(len(self.items), self.seed, epoch)[place])


@lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(count)
