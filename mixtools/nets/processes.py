"""The processes that train together, as torchrun starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import distributed


@dataclass(frozen=True)
class World:
    """The processes that train together: this one's number among how many, and its device."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def mean(self, values: Sequence[float]) -> list[float]:
        """The mean over all processes of each value."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return (total / self.size).tolist()

    def share(self, data: bytes) -> bytes:
        """The bytes that rank 0 gives."""
        size = torch.tensor(len(data), device=self.device)
        distributed.broadcast(size, 0)
        content = torch.zeros(int(size), dtype=torch.uint8, device=self.device)
        if self.rank == 0:
            content.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        distributed.broadcast(content, 0)
        return content.cpu().numpy().tobytes()


@contextmanager
def processes(device: str = "cpu") -> Iterator[World]:
    """The processes that torchrun started, or this one alone; each takes a GPU of its own where the device is cuda."""
    if "RANK" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        yield World(device=torch.device(device))
        return
    own = torch.device(device)
    if own.type == "cuda":
        own = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(own)
    distributed.init_process_group("nccl" if own.type == "cuda" else "gloo")
    try:
        yield World(distributed.get_rank(), distributed.get_world_size(), own)
    finally:
        distributed.destroy_process_group()
