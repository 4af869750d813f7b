"""The same command gives the same bytes: in two processes, from two folders, on one thread and on two.

`fit`, `emulate` and `train` promise that for the same number of threads only.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from cli_helpers import process, write, yaml

from mixtools import synth_song

CHANNEL = "  chain: [{parametric_eq: {band1_gain_db: 3}}, {compressor: {ratio: 4}}]\n  sends: {room: -9}\n"

COMMANDS = {
    "a mix file": "mix stems -p mix.yaml -o out/mix.wav --stems-out out/parts --bits 16",
    "rules": "mix stems -o out/mix.wav --write-mix out/mix.yaml",
    "variations": "mix stems -o out/mix.wav --variations 2 --seed 3",
    "a model": "mix stems --model dmc -o out/mix.wav --write-mix out/mix.yaml",
    "transfer": "transfer stems ref.wav -o out/mix.wav --steps 1",
    "its controller": "transfer stems ref.wav -o out/mix.wav --engine controller",
    "loudnorm": "loudnorm stems -o out -t -30 --bits 24",
    "features": "features stems ref.wav --against ref.wav --aligned --json",
    "pages": "features ref.wav mix.yaml --html out/page.html",
}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Two folders of different names and depth that hold the same."""
    found = tmp_path_factory.mktemp("a"), tmp_path_factory.mktemp("b") / "deep er"
    stems = synth_song(5, 2.0, 44100, 8).stems
    before = os.getcwd()
    for place in found:
        place.mkdir(exist_ok=True)
        os.chdir(place)
        for name, samples in stems.items():
            write(Path("stems") / name, samples)
        text = "".join(f"- file: {name}\n{CHANNEL}" for name in sorted(stems))
        yaml(f"tracks:\n{text}buses: {{room: {{chain: [{{convolution: {{ir: hall}}}}]}}}}\n")
        write("ref.wav", sum(x[:1] for x in synth_song(6, 2.0, 44100, 8).stems.values()) * [[0.3], [0.2]])
    os.chdir(before)
    return found


def bytes_of(path: Path) -> bytes:
    whole = path.read_bytes()
    return re.sub(rb"^ *command: .*\n", b"", whole, flags=re.MULTILINE) if path.suffix == ".yaml" else whole


def outcome(place: Path, line: str, threads: int, monkeypatch) -> dict[str, bytes]:
    """All that a command writes, and its stdout; but for the command line that a mix file notes."""
    monkeypatch.chdir(place)
    out = place / "out"
    if out.exists():
        shutil.rmtree(out)
    out.mkdir()
    workers = "--jobs" if line.split()[0] in ("features", "loudnorm") else "--threads"
    result = process(*line.split(), workers, str(threads))
    assert result.code == 0, result.err
    files = [path for path in sorted(out.rglob("*")) if path.is_file()]
    return {str(path.relative_to(out)): bytes_of(path) for path in files} | {"stdout": result.out}


@pytest.mark.parametrize("what", COMMANDS)
def test_the_same_command_gives_the_same_bytes(what, places, monkeypatch):
    line = COMMANDS[what]
    first = outcome(places[0], line, 1, monkeypatch)
    second = outcome(places[1], line, 2, monkeypatch)
    assert sorted(first) == sorted(second)
    assert [name for name in first if first[name] != second[name]] == []
    assert len(first) > 1 or first["stdout"]
