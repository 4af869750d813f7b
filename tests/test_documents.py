"""What documents show is run: sessions, examples of the man pages."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer

from mixtools.cli import manpage
from mixtools.cli.main import app

ROOT = Path(__file__).parent.parent
COMMANDS = list(manpage.commands(typer.main.get_command(app)))
"""With their whole names: `train mix`, too."""

SHOWN = [line[2:] for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith("$ ")]
"""Commands of the README's sessions: they are run there."""


EXAMPLE_S = 8.0
"""Of the song, for the examples of the man pages; the README shows what comes of all of it."""


def prepared(folder: Path, seconds: float | None = None) -> Path:
    """What the examples work on: stems and a mix file, another take of them, a mix, and a record to compare with."""
    run = [sys.executable, str(ROOT / "examples" / "song.py"), "stems"]
    subprocess.run(run, cwd=folder, check=True, capture_output=True, timeout=300)
    if seconds is not None:
        for stem in (folder / "stems").iterdir():
            about = soundfile.info(stem)
            sound, rate = soundfile.read(stem, frames=round(seconds * about.samplerate))
            soundfile.write(stem, sound, rate, about.subtype)
    (folder / "mix.yaml").write_text((ROOT / "examples" / "mix.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "take2").mkdir()
    for stem in (folder / "stems").iterdir():
        os.link(stem, folder / "take2" / stem.name.replace(".wav", "_02.wav"))
    shell("mixtools mix stems/ -p mix.yaml -o rough.wav", folder)
    shell("mixtools mix stems/ -o ref.wav", folder)
    shell("mixtools mix synth:7 -o record.wav", folder)
    (folder / "controls.yaml").write_text("compressor: {threshold_db: -24, ratio: 3}\nconvolution.wet: 0.1\n")
    (folder / "pairs").mkdir()
    for number, drive in enumerate((2.0, 4.0, 8.0)):
        sound, rate = soundfile.read(folder / "stems" / "bass.wav", frames=3 * 44100)
        soundfile.write(folder / "pairs" / f"{number}_input.wav", sound, rate)
        soundfile.write(folder / "pairs" / f"{number}_target.wav", np.tanh(drive * sound), rate)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("example"), EXAMPLE_S)


@pytest.fixture
def workplace(made, tmp_path):
    """A place of one's own with all that in it."""
    folder = tmp_path / "workplace"
    shutil.copytree(made, folder, copy_function=os.link)
    return folder


def shell(command: str, folder: Path) -> str:
    """What a line prints on both outputs, as a person would see it."""
    bin_folder = Path(sys.executable).parent
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f'export PATH="{bin_folder}:$PATH"; {command}'],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode in (0, 2), f"{command}\n{done.stdout}"
    return done.stdout


def examples():
    for name, command in COMMANDS:
        for what, line in inspect.getmodule(inspect.unwrap(command.callback)).EXAMPLES:
            if line not in SHOWN:
                yield pytest.param(line, id=f"{name}: {what}")


@pytest.mark.skipif(sys.platform == "win32", reason="the examples are for a POSIX shell")
@pytest.mark.parametrize("line", list(examples()))
def test_examples_of_the_man_pages_run(line, workplace):
    if "| jq" in line and not shutil.which("jq"):
        pytest.skip("needs jq")
    output = shell(line, workplace)
    assert "Traceback" not in output
    assert output.strip(), "it says nothing"


def sessions():
    """Every command of the README's console blocks, with the lines that follow it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            if not command.startswith(("make", "pip", "git", "man ")):
                yield command, expected


def steady(text: str) -> str:
    """Without what differs from run to run: how long it took, and the note of a first run."""
    text = re.sub(r"in \d+\.\d s\b", "in T s", text)
    text = re.sub(r"^mixtools: compiling .*\n", "", text, flags=re.MULTILINE)
    return re.sub(r'"seconds_taken": [\d.]+', '"seconds_taken": T', text)


def roughly(text: str) -> list[str]:
    """What a search says, without what it found: other processors round differently, and its numbers with them."""
    kept = [line.split(":")[:2] for line in text.splitlines() if ": " in line]
    return [f"{name}:{re.sub(r'[-+]?[0-9.]+', 'N', what.split(',')[0])}" for name, what in kept] + [
        re.split(r"  +", line)[0] for line in text.splitlines() if ": " not in line
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="the sessions are for a POSIX shell")
def test_sessions_of_the_readme(tmp_path):
    workplace, ran = prepared(tmp_path), 0
    for command, expected in sessions():
        if "| jq" in command and not shutil.which("jq"):
            continue
        searching = "transfer" in command
        seen = roughly if searching else steady
        # Of a search no numbers are compared: one round has the same lines.
        assert seen(shell(f"{command} --steps 1" if searching else command, workplace)) == seen(expected), command
        ran += 1
    assert ran >= 5


def test_python_of_the_readme():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_mix_files_of_the_readme():
    from mixtools.files.mixfile import parse_mix

    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        parse_mix(block, "README.md")


def test_links_of_the_readme_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text(encoding="utf-8")):
        assert "://" in target or (ROOT / target).exists(), target
