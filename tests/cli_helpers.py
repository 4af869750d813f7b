"""What the tests of the command line share: stems, runs of the real entry point, and what a folder holds."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import soundfile

from mixtools.cli import main
from mixtools.files.writing import open_writer

RATE = 44100
REPOSITORY = Path(__file__).parents[1]
COMPILING = "mixtools: compiling the effects for this machine; later runs will not\n"
SUMMED = "mixtools: the stems are summed as they are\n"
SUM = "--baseline", "sum"
"""Of most tests of `mix` without a mix file: what comes out is known to the bit."""


@dataclass
class Result:
    """What a run ended in; `err` without what differs from run to run."""

    code: int
    out: bytes
    err: str

    def __post_init__(self):
        self.err = re.sub(r" in \d+\.\d s$", " in T s", self.err.replace(COMPILING, ""), flags=re.MULTILINE)


def noise(frames: int, channels: int = 1, seed: int = 0, level: float = 0.2) -> np.ndarray:
    """White noise, float32, (channels, frames)."""
    return np.random.default_rng(seed).uniform(-level, level, (channels, frames)).astype(np.float32)


def write(path: str | Path, samples: np.ndarray, rate: int = RATE, bits: str = "32f", **options) -> Path:
    """Write a stem, its folder too."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_writer(path, rate, len(samples), bits, **options) as writer:
        writer.write(samples)
    return path


def song(folder: str | Path = "stems", frames: int = RATE // 10) -> dict[str, np.ndarray]:
    """Two mono stems and a stereo one, and their samples by file name."""
    stems = {
        "kick.wav": noise(frames, 1, seed=1),
        "bass.wav": noise(frames, 1, seed=2),
        "keys.wav": noise(frames, 2, seed=3),
    }
    for name, samples in stems.items():
        write(Path(folder) / name, samples)
    return stems


def total(stems: dict[str, np.ndarray]) -> np.ndarray:
    """The sum of stems of equal length in the order of their names, (2, n), as a float file holds it."""
    frames = next(iter(stems.values())).shape[1]
    added = np.zeros((2, frames))
    for _, samples in sorted(stems.items()):
        added += samples
    return added.astype(np.float32)


def read(path: str | Path | io.BytesIO, dtype: str = "float32") -> np.ndarray:
    """A file's samples, (channels, n)."""
    return soundfile.read(path, dtype=dtype, always_2d=True)[0].T


def yaml(text: str, path: str | Path = "mix.yaml") -> str:
    """Write a mix file; the version is put before it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mixtools: 1\n" + text, encoding="utf-8")
    return str(path)


def run(*arguments: str | Path, stdin: bytes = b"") -> Result:
    """Run the entry point in this process."""
    streams = {name: io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for name in ("stdout", "stderr")}
    given = io.TextIOWrapper(io.BytesIO(stdin), "utf-8")
    with mock.patch.multiple(sys, stdin=given, **streams):
        code = main.run([str(argument) for argument in arguments])
    out, err = (streams[name].buffer.getvalue() for name in ("stdout", "stderr"))
    return Result(int(code), out, err.decode())


def command(*arguments: str | Path) -> list[str]:
    """What starts a process of its own."""
    return [sys.executable, "-m", "mixtools", *map(str, arguments)]


def environment() -> dict[str, str]:
    """The environment for such a process, wherever the package is."""
    return os.environ | {"PYTHONPATH": str(REPOSITORY)}


def process(*arguments: str | Path, stdin: bytes | None = b"", **options) -> Result:
    """Run the command in a process of its own."""
    if "stdin" not in options and stdin is not None:
        options["input"] = stdin
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    done = subprocess.run(command(*arguments), env=environment(), timeout=60, check=False, **streams)
    return Result(done.returncode, done.stdout or b"", (done.stderr or b"").decode())


def python(code: str) -> str:
    """What some Python prints in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def snapshot(folder: str | Path = ".") -> dict[str, bytes | str | None]:
    """Everything in a folder, hidden files too: the bytes of files, the targets of links, None for folders."""
    found: dict[str, bytes | str | None] = {}
    for path in Path(folder).rglob("*"):
        if path.is_symlink():
            found[str(path)] = os.readlink(path)
        else:
            found[str(path)] = path.read_bytes() if os.access(path, os.R_OK) and path.is_file() else None
    return found


def assert_unchanged(before: dict[str, bytes | str | None]) -> None:
    """Nothing is left behind, nothing is gone, and every file holds what it held."""
    after = snapshot()
    assert sorted(after) == sorted(before), f"left {after.keys() - before.keys()}, lost {before.keys() - after.keys()}"
    changed = [name for name in before if after[name] != before[name]]
    assert not changed, f"changed {changed}"


def summing(of: str, arguments: tuple[str | Path, ...]) -> tuple[str | Path, ...]:
    """The same arguments, and that the stems are summed where no mix file says how to mix them."""
    named = any(str(argument) in ("-p", "--mix-file", "--baseline", "--expert", "--model") for argument in arguments)
    return arguments if of != "mix" or named else (*arguments, *SUM)


def done(
    *arguments: str | Path,
    stdin: bytes = b"",
    new: tuple[str, ...] = ("mix.wav",),
    code: int = 0,
    of: str = "mix",
) -> Result:
    """A command that has to work: it writes the files `new` and no other, even where its exit code is not 0."""
    before = snapshot()
    result = run(of, *summing(of, arguments), stdin=stdin)
    assert result.code == code, f"{result.code}: {result.err}"
    after = snapshot()
    left = {name for name in after.keys() - before.keys() if after[name] is not None} - {*new}
    assert not left, f"left {left}"
    changed = {name for name in before if after.get(name) != before[name]} - {*new}
    assert not changed, f"changed {changed}"
    missing = {*new} - after.keys()
    assert not missing, f"did not write {missing}"
    return result


def refused(line: str, *arguments: str | Path, code: int = 2, stdin: bytes = b"", of: str = "mix") -> None:
    """A command that has to end in this one line, and leave everything as it was.

    It is quiet, so that the line is all there is on stderr.
    """
    before = snapshot()
    result = run(of, "-q", *summing(of, arguments), stdin=stdin)
    assert result.err == f"mixtools: {line}\n", f"{result.code}: {result.err}"
    assert (result.code, result.out) == (code, b""), result.code
    assert_unchanged(before)


def refused_with(words: list[str], *arguments: str | Path, code: int = 2, but: str | None = None) -> None:
    """As `refused`, for lines whose wording is partly another's: what they have to say, and what not."""
    before = snapshot()
    result = run("mix", "-q", *summing("mix", arguments))
    assert (result.code, result.out) == (code, b""), f"{result.code}: {result.err}"
    assert re.fullmatch(r"mixtools: [^\n]+\n", result.err), result.err
    assert [word for word in words if word not in result.err] == [], result.err
    assert but is None or but not in result.err, result.err
    assert_unchanged(before)
