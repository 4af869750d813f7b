"""What goes wrong outside: runs that are killed, disks that are full, folders that take nothing, two runs at once."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from cli_helpers import command, environment, noise, run, snapshot, song, write, yaml
from faults import Killing

from mixtools.errors import ParameterError
from mixtools.files.outputs import AtomicFile

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals, limits and capabilities are Linux's here")


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_kill_at_any_moment_breaks_no_render():
    """`python tests/bench/faults.py` tries 50, and as many of a fit and a training."""
    trials = Killing("render").kill(6, seed=os.getpid())
    assert [f"{trial.signal.name} after {trial.after_s:.2f} s: {trial.wrong}" for trial in trials if trial.wrong] == []
    assert len(trials) == 6


GAINS = "--method", "solve", "--model", "gain"
TRAINING = "--steps", "1", "--batch", "1", "--seconds", "1", "--excerpts", "2", "--held-out", "1", "--width", "8"
WRITING = {
    "mix": ("mix", "stems", "-p", "mix.yaml", "-o", "out/mix.wav"),
    "its stems": ("mix", "stems", "-p", "mix.yaml", "-o", "out/mix.wav", "--stems-out", "out/parts"),
    "its mix file": ("mix", "stems", "-p", "mix.yaml", "-o", "mix.wav", "--write-mix", "out/again.yaml"),
    "flac": ("mix", "stems", "-p", "mix.yaml", "-o", "out/mix.flac"),
    "fit": ("fit", "stems", "ref.wav", "-o", "out/mix.yaml", *GAINS, "--render", "out/mix.wav"),
    "transfer": ("transfer", "stems", "ref.wav", "-o", "out/like.wav", "--engine", "controller"),
    "emulate": ("emulate", "stems/kick.wav", "--model", "optical", "-o", "out/kick.wav"),
    "loudnorm": ("loudnorm", "stems/kick.wav", "-o", "out/kick.wav"),
    "page": ("features", "ref.wav", "--html", "out/page.html"),
    "training": ("train", "mix", "synth:1", "-o", "out/run", *TRAINING),
}


@pytest.fixture
def place():
    """Stems, a mix file, a mix, and a folder for what is written."""
    song("stems", 3 * 44100)
    write("ref.wav", noise(3 * 44100, 2, seed=9))
    yaml("tracks: [{file: kick.wav}, {file: bass.wav}, {file: keys.wav}]\n")
    Path("out").mkdir()


@contextmanager
def full_disk():
    """No file of this process may grow beyond this."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)


@contextmanager
def bound_by_permissions():
    """As for anybody else, permissions bind this thread even where it is root's."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, data) == 0
    before = data[0]
    data[0] = before & ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, data) == 0
    try:
        yield
    finally:
        data[0] = before
        assert libc.capset(header, data) == 0


def refused_for(why: str, arguments: tuple[str, ...]) -> None:
    """It ends in a line that names what could not be written and why, and leaves nothing."""
    before = snapshot()
    result = run(*arguments, "-q")
    told = result.err.splitlines()
    assert result.code == 1, result.err
    assert len(told) == 1 and told[0].startswith("mixtools: "), result.err
    assert why in told[0] and (any(name in told[0] for name in ("out", "mix.wav", "again.yaml"))), told[0]
    left = {name for name in snapshot() if name not in before and not name.startswith("out/run")}
    assert not left and snapshot().items() >= before.items()


@pytest.mark.parametrize("what", WRITING)
def test_a_full_disk_is_one_line(place, what):
    with full_disk():
        refused_for("File too large", WRITING[what])


@pytest.mark.parametrize("what", WRITING)
def test_a_folder_that_takes_nothing_is_one_line(place, what):
    Path("out").chmod(0o555)
    with bound_by_permissions():
        refused_for("ermission denied", WRITING[what])


@pytest.mark.parametrize("force", [True, False])
def test_two_runs_that_write_one_file_leave_a_whole_one(place, force):
    """Without --force the first is kept, and the others say that it is there."""
    yaml("tracks: [{file: kick.wav}, {file: bass.wav}]\n", "other.yaml")
    whole = {}
    for text in ("mix.yaml", "other.yaml"):
        assert run("mix", "stems", "-p", text, "-o", "whole.wav", "-q", "--force").code == 0
        whole[Path("whole.wav").read_bytes()] = text
    Path("whole.wav").unlink()
    more = ("--force",) if force else ()
    runs = [
        subprocess.Popen(
            command("mix", "stems", "-p", text, "-o", "out/mix.wav", "-q", *more),
            env=environment(),
            stderr=subprocess.PIPE,
        )
        for text in (*whole.values(), *whole.values())
    ]
    told = [each.communicate(timeout=60)[1].decode() for each in runs]
    codes = sorted(each.returncode for each in runs)
    if force:
        assert codes == [0, 0, 0, 0], told
    else:
        assert codes == [0, 2, 2, 2], told
        line = "mixtools: out/mix.wav exists; give --force to overwrite it, or another name\n"
        assert sorted(told) == ["", line, line, line]
    assert [path.name for path in Path("out").iterdir()] == ["mix.wav"]
    assert Path("out/mix.wav").read_bytes() in whole


def test_a_file_that_appears_meanwhile_is_not_overwritten(place):
    """The name is free when the writing begins, and is not when it ends."""
    output = AtomicFile("out/mix.wav")
    output.file.write(b"mine")
    Path("out/mix.wav").write_bytes(b"another's")
    with pytest.raises(ParameterError, match="out/mix.wav exists; give --force"):
        output.commit()
    output.abort()
    assert [path.name for path in Path("out").iterdir()] == ["mix.wav"]
    assert Path("out/mix.wav").read_bytes() == b"another's"
