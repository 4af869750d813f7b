"""How fast networks run on recordings, beside a plain stack of conv1d, and how fast the console makes examples.

A TCN-10 on 60 s of mono sound: the network as it is trained, then with batch norm and FiLM folded, channels last and
layers that remember (`nets.inference`), and the same in bfloat16; beside them, our strip. GFLOP/s are those that the
network's equations need, and the machine's peak is that of a matrix product.

python tests/bench/emulate.py [ROUNDS [THREADS]]     (or make -C tests bench)
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn.functional import pad

from mixtools.nets.inference import PRECISIONS, has_bfloat16, stream_of
from mixtools.nets.tcn import TCN
from mixtools.tasks.emulate.console import Channel
from mixtools.tasks.train.emulate import ConsoleData, new_network

RATE = 44100
SECONDS = 60
SPEED_BAR = 4.0
EXACT_DB = -100.0
EXAMPLES = 128
EXAMPLES_BAR = 600.0


def seconds_of(work: Callable[[], torch.Tensor], rounds: int, warm: bool = True) -> tuple[float, torch.Tensor]:
    """The median of some rounds, after a first one unless it is long anyway, and what came of it."""
    found = work() if warm else None
    taken = []
    for _ in range(max(rounds, 1)):
        began = time.perf_counter()
        found = work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken), found


def operations(net: TCN, n: int) -> float:
    """Multiplications and additions of a TCN's convolutions for n samples."""
    weights = sum(block.conv.weight.numel() for block in net.blocks) + net.out.weight.numel()
    return 2.0 * weights * n


def peak_gflops() -> float:
    a = torch.randn(2048, 2048)
    best, _ = seconds_of(lambda: a @ a, 5)
    return 2.0 * 2048**3 / best / 1e9


def networks(rounds: int) -> bool:
    n = SECONDS * RATE
    x = 0.1 * torch.randn(1, n)
    data = ConsoleData()
    print(f"{SECONDS} s of mono sound, {torch.get_num_threads()} threads, peak {peak_gflops():.0f} GFLOP/s")
    net = new_network(data.spec("tcn-10")).eval()
    units = torch.rand(net.condition[0].in_features)
    padded = pad(x, (net.before, net.after))

    def plain() -> torch.Tensor:
        with torch.inference_mode():
            return net(padded[None], units[None])[0]

    def streamed(precision: str) -> torch.Tensor:
        stream = stream_of(net, units, 1, precision)
        return torch.cat([stream.feed(padded), stream.finish()], dim=-1)

    slow, expected = seconds_of(plain, rounds, warm=False)
    gflop = operations(net, n) / 1e9
    print(f"  TCN-10 plain conv1d   {SECONDS / slow:6.1f} x real time  {gflop / slow:6.1f} GFLOP/s")
    good = True
    for precision in PRECISIONS:
        if precision == "bfloat16" and not has_bfloat16():
            print("  TCN-10 bfloat16       not measured: this processor has to emulate it")
            continue
        taken, found = seconds_of(lambda precision=precision: streamed(precision), rounds)
        error = float(10.0 * torch.log10(((found - expected) ** 2).sum() / (expected**2).sum()))
        line = f"  TCN-10 {precision:<15}{SECONDS / taken:6.1f} x real time  {gflop / taken:6.1f} GFLOP/s"
        print(f"{line}  {slow / taken:.1f} x plain, error {error:.0f} dB")
        if precision == "float32":
            good = slow / taken >= SPEED_BAR and error < EXACT_DB
    strip = new_network(data.spec("strip")).eval()
    taken, _ = seconds_of(lambda: stream_of(strip, units, 1).feed(x), rounds)
    print(f"  strip                 {SECONDS / taken:6.1f} x real time")
    return good


def console(rounds: int) -> bool:
    """Examples of EQ, compressor and reverb per second, on one core whatever the threads."""
    channel = Channel(RATE)
    rng = np.random.default_rng(1)
    sounds = 0.1 * rng.standard_normal((EXAMPLES, round(1.5 * RATE))).astype(np.float32)
    units = channel.draw(rng, ["combined"] * EXAMPLES)
    taken, _ = seconds_of(lambda: channel.process(sounds, units), rounds)
    print(f"{EXAMPLES / taken:.0f} examples of 1.5 s per second and core through EQ, compressor and reverb")
    return EXAMPLES / taken >= EXAMPLES_BAR


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    torch.set_num_threads(int(sys.argv[2]) if len(sys.argv) > 2 else 2)
    torch.manual_seed(0)
    results = {"networks": networks(rounds), "examples": console(rounds)}
    missed = [name for name, good in results.items() if not good]
    print(f"missed: {', '.join(missed)}" if missed else "all bars reached")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
