"""Spoilt files of every kind that is read: refused in one line or read, quickly, and nothing else is touched."""

from __future__ import annotations

import signal
import sys
import time

import pytest
from hostile import READERS, spoilt

TRIES = 400
LONGEST_S = 5.0


@pytest.mark.parametrize("kind", READERS)
def test_good_files_are_read(kind, tmp_path):
    for name, data in READERS[kind].seeds().items():
        (tmp_path / name).write_bytes(data)
        read = READERS[kind](tmp_path / name)
        assert read or kind == "model" or name in ("aliases.yaml", "deep.yaml"), name


def attempt(kind: str, data: bytes, name: str, folder) -> None:
    path = folder / name
    path.write_bytes(data)
    began = time.monotonic()
    READERS[kind](path)
    assert time.monotonic() - began < LONGEST_S
    assert [each.name for each in folder.iterdir()] == [name] and path.read_bytes() == data
    path.unlink()


@pytest.mark.parametrize("kind", READERS)
def test_files_cut_off_anywhere(kind, tmp_path):
    for name, data in READERS[kind].seeds().items():
        places = range(len(data)) if len(data) < 200 else range(0, len(data), len(data) // 60)
        for at in places:
            attempt(kind, data[:at], name, tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX alarms")
@pytest.mark.parametrize("kind", READERS)
def test_spoilt_files(kind, tmp_path):
    seeds = list(READERS[kind].seeds().items())
    signal.alarm(300)
    try:
        for seed in range(TRIES):
            name, data = seeds[seed % len(seeds)]
            attempt(kind, spoilt(data, seed), name, tmp_path)
    finally:
        signal.alarm(0)
