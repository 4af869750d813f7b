"""What a newcomer asks first: `--help`, the man pages, what a shell completes, and what a slip leads to."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from cli_helpers import REPOSITORY, run
from rich.text import Text

from mixtools import __version__
from mixtools.cli import manpage
from mixtools.cli.main import app

COMMANDS = dict(manpage.commands(typer.main.get_command(app)))
COLUMNS, LINES = 80, 30
"""A small screen."""


def words_of(text: str) -> str:
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


def options_of(command) -> list[str]:
    return [name for p in command.params if p.param_type_name == "option" for name in p.opts]


@pytest.fixture(autouse=True)
def _small_screen(monkeypatch):
    monkeypatch.setenv("COLUMNS", str(COLUMNS))


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_a_screen_that_names_every_option_and_ends_with_two_examples(name):
    command = COMMANDS[name]
    shown = run(*name.split(), "--help")
    assert (shown.code, shown.err) == (0, "")
    assert run(*name.split(), "-h") == shown
    lines = shown.out.decode().rstrip().splitlines()
    assert len(lines) <= LINES and max(map(len, lines)) <= COLUMNS
    assert lines[0].startswith(f"Usage: mixtools {name} [OPTIONS] ")
    assert set(re.findall(r"--[a-z-]+", "\n".join(lines))) >= {o for o in options_of(command) if o.startswith("--")}
    module = inspect.getmodule(inspect.unwrap(command.callback))
    told = "\n".join(lines).partition("\nExamples:\n")[2].replace("\\\n", " ")
    assert [" ".join(line.split()) for line in told.splitlines()] == [line for _, line in module.EXAMPLES[:2]]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_explains_what_is_used_every_day(name):
    command = COMMANDS[name]
    module = inspect.getmodule(inspect.unwrap(command.callback))
    assert {*module.EVERYDAY} <= {*options_of(command)}
    shown = words_of(run(*name.split(), "--help").out.decode())
    for parameter in command.params:
        if {*parameter.opts} & {*module.EVERYDAY} or parameter.param_type_name == "argument":
            first = re.split(r"(?<=[^.])\. ", words_of(Text.from_markup(parameter.help).plain))[0]
            assert first.rstrip(".") in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_help_all_explains_every_option(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    shown = run(*name.split(), "--help-all")
    assert (shown.code, shown.err) == (0, "")
    told = words_of(shown.out.decode())
    for parameter in COMMANDS[name].params:
        assert parameter.metavar is None or parameter.metavar in told
        assert words_of(Text.from_markup(parameter.help).plain)[:200] in told, parameter.help


@pytest.mark.parametrize("words", [[], ["train"], ["train", "emulate"]])
def test_a_group_lists_its_commands(words):
    shown = run(*words)
    assert shown == run(*words, "--help") and shown.code == 0
    group = typer.main.get_command(app)
    for word in words:
        group = group.commands[word]
    listed = re.findall(r"^  ([a-z]+) ", shown.out.decode(), re.MULTILINE)
    assert listed == [*group.commands]
    assert max(map(len, shown.out.decode().splitlines())) <= COLUMNS


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("mxi stems", "mixtools: No such command 'mxi'. Did you mean 'mix'?"),
        ("train mox songs", "mixtools: train: No such command 'mox'. Did you mean 'mix'?"),
        ("mix stems --stem-out x", "mixtools: mix: No such option: --stem-out (Possible options: --stems-out)"),
        ("fit stems mix.wav --model stereo", "mixtools: --model is stereo; give stereo-bus"),
        ("loudnorm a.wav --preset podcst", "mixtools: --preset is podcst; give podcast"),
    ],
)
def test_a_slip_leads_to_the_right_word(line, told):
    result = run(*line.split())
    assert (result.code, result.out) == (2, b"")
    assert result.err.strip() == told


# Man pages


@pytest.mark.parametrize("page", sorted((REPOSITORY / "man").iterdir()), ids=lambda page: page.name)
def test_man_reads_every_page(page):
    if not shutil.which("man") or not shutil.which("lexgrog"):
        pytest.skip("needs man-db")
    found = subprocess.run(["lexgrog", page], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")
    name = page.name.rpartition(".")[0]
    assert re.fullmatch(rf'.*: "{re.escape(name)} - \S.*"\n', found.stdout), found.stdout
    options = ["--warnings=w", "-E", "UTF-8", "-l", "-Tutf8"]
    read = subprocess.run(
        ["man", *options, page], capture_output=True, text=True, check=False, env=os.environ | {"MANWIDTH": "100"}
    )
    assert (read.returncode, read.stderr) == (0, "")
    assert f"mixtools {__version__}" in read.stdout


def test_what_holds_to_a_promise_is_there():
    for _, tests in manpage.PROMISES:
        named = re.findall(r"tests/\S+\.py", tests)
        assert named and all((REPOSITORY / name).exists() for name in named), tests


# Completion


def completed(shell: str, script: str, home: Path) -> str:
    if not shutil.which(shell):
        pytest.skip(f"needs {shell}")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    plain = ["-f"] if shell == "zsh" else []
    done = subprocess.run(
        [shell, *plain, "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"HOME": str(home), "PATH": path, "ZDOTDIR": str(home)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


CASES = [
    ("mixtools tra", "transfer train"),
    ("mixtools mix --bas", "--baseline"),
    ("mixtools mix --baseline eq", "equal-loudness"),
    ("mixtools train mix --kind dmc-f", "dmc-full"),
    ("mixtools emulate --model opt", "optical"),
    ("mixtools train mix --family vo", "vocal-forward"),
    ("mixtools train mix --layout mus", "musdb18-hq"),
    ("mixtools mix --role kic", "kick="),
]


@pytest.mark.parametrize(("line", "expected"), CASES)
def test_bash_completes(line, expected, tmp_path):
    words = line.split()
    script = (
        'eval "$(_MIXTOOLS_COMPLETE=source_bash mixtools)"\n'
        f'COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _mixtools_completion mixtools; echo "${{COMPREPLY[*]}}"'
    )
    assert sorted(completed("bash", script, tmp_path).split()) == sorted(expected.split())


@pytest.mark.parametrize(("line", "expected"), CASES)
def test_fish_completes(line, expected, tmp_path):
    script = f'_MIXTOOLS_COMPLETE=source_fish mixtools | source; complete -C "{line}"'
    found = [each.split("\t")[0] for each in completed("fish", script, tmp_path).splitlines()]
    assert sorted(found) == sorted(expected.split())


@pytest.mark.parametrize(("line", "expected"), CASES)
def test_zsh_completes(line, expected, tmp_path):
    """What its completion system would be told."""
    script = (
        "autoload -U compinit; compinit -u -d $HOME/dump\n"
        'eval "$(_MIXTOOLS_COMPLETE=source_zsh mixtools)"; echo $_comps[mixtools]\n'
        f'_TYPER_COMPLETE_ARGS="{line}" _MIXTOOLS_COMPLETE=complete_zsh mixtools'
    )
    told = completed("zsh", script, tmp_path)
    assert told.startswith("_mixtools_completion\n_arguments ")
    assert sorted(re.findall(r'^(?:_arguments .*\(\()?"([^":]+)"', told, re.MULTILINE)) == sorted(expected.split())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_installed_where_the_shell_looks(shell, tmp_path):
    told = completed(shell, "mixtools --install-completion; true", tmp_path)
    assert f"{shell} completion installed in " in told
    place = Path(re.search(r"installed in (\S+)", told)[1])
    assert place.is_relative_to(tmp_path) and "_MIXTOOLS_COMPLETE" in place.read_text()
