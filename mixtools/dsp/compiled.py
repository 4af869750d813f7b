"""How kernels are compiled: once per machine, into numba's cache, releasing the GIL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numba import njit
from numba.core import event


def kernel(function: Callable) -> Callable:
    """Compile a kernel. Products and sums may fuse, nothing may be reordered: every block size gives the same bits.

    numba keeps what it compiled beside the source, or in the user's cache folder where that cannot be written.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
    try:
        compiled = njit(cache=True, **options)(function)
        # numba would look at the kernel's own file only, but inlined helpers and constants come from its neighbours.
        cache_file = getattr(compiled._cache, "_cache_file", None)
        if hasattr(cache_file, "_source_stamp"):
            cache_file._source_stamp = (cache_file._source_stamp, _NEWEST)
        return compiled
    except RuntimeError:  # no folder at all can be written
        return njit(**options)(function)


inlined = njit(inline="always", fastmath={"contract"})
"""Compiles a helper into the kernels that call it."""

_NEWEST = max((path.stat().st_mtime_ns for path in Path(__file__).parent.glob("*.py")), default=0)

TINY = 1e-30
"""States below this (-600 dB) become 0 at control points, so that no decaying tail reaches the slow denormal range."""

VANISHED = 1e-150
"""The same for adjoint states: gradients may well be smaller than audio."""

GRID = 64
"""Samples between control points; the grid is anchored to sample 0 of the session."""


@contextmanager
def on_first_compilation(tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` once if a kernel has to be compiled because no cache holds it yet."""

    class Listener(event.Listener):
        told = False

        def on_start(self, _: event.Event) -> None:
            if not self.told:
                self.told = True
                tell()

        def on_end(self, _: event.Event) -> None:
            pass

    with event.install_listener("numba:compile", Listener()):
        yield
