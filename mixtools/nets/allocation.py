"""Memory that stays with the process: a training step asks for the same large pieces again and again."""

from __future__ import annotations

import ctypes
import sys

KEPT_BYTES = 1 << 30
"""The largest piece that is not given back to the system when it is freed."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def keep_pages() -> bool:
    """Let the C library keep what is freed, for all of this process; says whether it could be told so.

    Otherwise every large tensor is made of fresh pages, whose first touch takes up to two thirds of a step on a CPU.
    It does what MALLOC_TRIM_THRESHOLD_ and MALLOC_MMAP_THRESHOLD_ do from outside, on glibc alone.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        tell = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return all([bool(tell(which, KEPT_BYTES)) for which in (_TRIM_THRESHOLD, _MMAP_THRESHOLD)])
