"""Spoilt files of every kind that is read: refused in one line or read, quickly, and nothing else is touched."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest
from cli_helpers import noise, process, run, snapshot, write, yaml
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


NAMES = ["kick.wav", "ne\nw.wav", "\x1b[31mred.wav", "-rf.wav", "a b'c\"d.wav", os.fsdecode(b"bad\xff.wav")]


@pytest.fixture
def odd_names(tmp_path, monkeypatch):
    """Stems whose names play tricks, links that lead in circles, and a file that nobody may touch."""
    (tmp_path / "outside.wav").write_bytes(b"untouched")
    (tmp_path / "at").mkdir()
    monkeypatch.chdir(tmp_path / "at")
    for seed, name in enumerate(NAMES):
        write(Path("stems") / name, noise(4410, seed=seed))
    Path("loop").symlink_to("loop")
    Path("d").mkdir()
    Path("d/up").symlink_to("..")
    Path("d/loop.wav").symlink_to("loop.wav")
    return tmp_path


@pytest.mark.skipif(os.name != "posix", reason="elsewhere files cannot have such names")
def test_names_that_play_tricks_are_names(odd_names):
    """Newlines, escapes, options, quotes, bytes that are no letters: mixed, written, read again, shown harmlessly."""
    made = run("mix", "stems", "-o", "m.wav", "--write-mix", "m.yaml", "--stems-out", "parts")
    assert made.code == 0, made.err
    assert {*NAMES} <= {*os.listdir("parts")}
    again = run("mix", "stems", "-p", "m.yaml", "-o", "again.wav")
    assert again.code == 0 and Path("again.wav").read_bytes() == Path("m.wav").read_bytes()
    measured = process("features", "stems", "--csv")
    assert measured.code == 0
    for told in (made.err, again.err, measured.err):
        assert "\x1b" not in told and "ne\nw" not in told
    assert (odd_names / "outside.wav").read_bytes() == b"untouched"


@pytest.mark.skipif(os.name != "posix", reason="links are made otherwise elsewhere")
@pytest.mark.parametrize(
    "command", ["mix", "features", "loudnorm --measure", "emulate -o x", "train mix -o run --dry-run"]
)
@pytest.mark.parametrize("place", ["loop", "d"])
def test_links_in_circles_are_one_line(odd_names, command, place):
    before = snapshot()
    result = run(*command.split(), place, "-q")
    assert result.code in (1, 2, 3)
    assert re.fullmatch(r"mixtools: [^\n]*\n", result.err), result.err
    assert snapshot() == before


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("- file: ../outside.wav", "mix.yaml: tracks[0].file is ../outside.wav, which is not among the stems; give "),
        (
            "- {file: kick.wav, chain: [{convolution: {ir: ../outside.wav}}]}",
            "../outside.wav: is not audio that can be read; give WAV, FLAC, AIFF, OGG or MP3",
        ),
    ],
)
def test_mix_files_lead_nowhere_else(odd_names, text, line):
    yaml(f"tracks:\n{text}\n")
    before = snapshot(odd_names)
    result = run("mix", "stems", "-p", "mix.yaml", "--missing", "error", "-q")
    assert result.code in (2, 3) and result.err.startswith(f"mixtools: {line}"), result.err
    assert snapshot(odd_names) == before


def test_buses_that_are_named_like_paths_stay_in_their_folder(odd_names):
    yaml('tracks: [{file: kick.wav, output: "../../x"}]\nbuses: {"../../x": {}}\n')
    assert run("mix", "stems", "-p", "mix.yaml", "--stems-out", "parts", "-o", "m.wav").code == 0
    assert os.listdir("parts") == ["bus_.._.._x.wav"]
    assert sorted(os.listdir(odd_names)) == ["at", "outside.wav"]
