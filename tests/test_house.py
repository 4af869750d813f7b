"""The house: imports point down, nothing is declared twice, and the pages say what the code does."""

from __future__ import annotations

import ast
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import mixtools
from mixtools.cli import manpage, mixfilepage
from mixtools.cli.main import app
from mixtools.controls import EFFECTS
from mixtools.errors import ExitStatus

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mixtools"

ROOMS = {
    "errors": set(),
    "controls": {"errors"},
    "mix": {"controls", "errors"},
    "presets": {"mix", "controls", "errors"},
    "dsp": {"presets", "mix", "controls", "errors"},
    "synth": {"dsp", "presets", "mix", "controls", "errors"},
    "measure": {"dsp", "presets", "mix", "controls", "errors"},
    "files": {"synth", "presets", "mix", "controls", "errors"},
    "diff": {"measure", "dsp", "presets", "mix", "controls", "errors"},
    "nets": {"diff", "measure", "dsp", "presets", "mix", "controls", "errors"},
    "tasks": {"nets", "diff", "measure", "dsp", "presets", "mix", "controls", "errors"},
}
"""What each room may import, besides itself."""
ROOMS["cli"] = set(ROOMS)

COMMANDS = list(manpage.commands(typer.main.get_command(app)))
"""With their whole names: `train mix`, too."""

HEAVY = {"torch", "numba", "scipy", "numpy", "soundfile", "soxr", "ruamel", "pyloudnorm"}


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imports(path: Path):
    """Every module that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module


FILES = sorted(
    path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem not in ("__init__", "__main__")
)


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(PACKAGE)) for p in FILES])
def test_imports_point_down(path):
    relative = path.relative_to(PACKAGE)
    room = relative.parts[0].removesuffix(".py")
    for module in imports(path):
        if module == "mixtools":
            assert room == "cli", "only the command line needs the version"
        elif module.startswith("mixtools."):
            target = room_of(module)
            assert target == room or target in ROOMS[room], f"{relative} imports {module}"


def test_dsp_never_knows_torch():
    for path in (PACKAGE / "dsp").rglob("*.py"):
        assert not any(module.split(".")[0] == "torch" for module in imports(path)), path


def modules_loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint('\\n'.join(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in done.stderr.splitlines()}


@pytest.mark.parametrize(
    "arguments",
    [[], ["--help"], ["--version"], *([*name.split(), "--help"] for name, _ in COMMANDS)],
    ids=" ".join,
)
def test_help_loads_nothing_heavy(arguments):
    assert not HEAVY & modules_loaded_by(f"from mixtools.cli.main import run\nrun({arguments!r})")


def test_importing_mixtools_loads_nothing_heavy():
    assert not HEAVY & modules_loaded_by("import mixtools; dir(mixtools)")


def test_completion_loads_nothing_heavy():
    code = (
        "import os\nos.environ.update(_MIXTOOLS_COMPLETE='complete_bash', COMP_WORDS='mixtools mi', COMP_CWORD='1')\n"
        "from mixtools.cli.main import run\n"
        "try: run([])\nexcept SystemExit: pass"
    )
    script = f"{code}\nimport sys\nassert not {HEAVY!r} & {{m.split('.')[0] for m in sys.modules}}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "mix" in done.stdout.split()


def test_everything_the_library_names_is_there():
    for name in mixtools.__all__:
        assert getattr(mixtools, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = mixtools.nonsense


def test_every_control_says_what_it_is():
    units = ("_db", "_ms", "_hz", "_s", "_q", "_gain")
    bare = {
        "ratio",
        "pan",
        "law",
        "invert",
        "ir",
        "wet",
        "dry",
        "decay",
        "width",
        "seed",
        "feedback",
        "mix",
        "bias",
        "model",
    }
    for effect in EFFECTS.values():
        assert effect.help.endswith(".")
        for control in effect.controls:
            assert control.name.endswith(units) or control.name in bare, control.name
            assert control.help.endswith(".")
            if control.kind == "number":
                assert control.low <= control.default <= control.high
                assert not control.log or control.low > 0


def test_every_option_has_help_and_says_what_it_takes():
    for name, command in COMMANDS:
        for parameter in command.params:
            assert parameter.help or parameter.name == "help", f"{name} {parameter.name}"
            assert parameter.is_flag if parameter.param_type_name == "option" and not parameter.metavar else True


def test_man_pages_are_up_to_date():
    written = manpage.pages()
    assert {path.name for path in (ROOT / "man").iterdir()} == set(written)
    for name, text in written.items():
        assert (ROOT / "man" / name).read_text(encoding="utf-8") == text, f"{name}: python -m mixtools.cli.manpage man"


def test_man_pages_name_every_effect_control_and_exit_code():
    page = (ROOT / "man" / "mixtools-mixfile.5").read_text(encoding="utf-8")
    for effect in EFFECTS.values():
        assert f".SS {effect.name}" in page
        for control in effect.controls:
            assert control.name in page
    for status in ExitStatus:
        assert rf"\fB{int(status)}\fR" in (ROOT / "man" / "mixtools-mix.1").read_text(encoding="utf-8")


def test_the_man_page_of_the_mix_file_shows_a_mix_file():
    from mixtools.files.mixfile import parse_mix

    assert len(parse_mix(mixfilepage.EXAMPLE, "man").tracks) == 1


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What the examples work on: stems and a mix file, another take of them, a mix, and a record to compare with."""
    folder = tmp_path_factory.mktemp("example")
    run = [sys.executable, str(ROOT / "examples" / "song.py"), "stems"]
    subprocess.run(run, cwd=folder, check=True, capture_output=True, timeout=300)
    (folder / "mix.yaml").write_text((ROOT / "examples" / "mix.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "take2").mkdir()
    for stem in (folder / "stems").iterdir():
        os.link(stem, folder / "take2" / stem.name.replace(".wav", "_02.wav"))
    shell("mixtools mix stems/ -p mix.yaml -o rough.wav", folder)
    shell("mixtools mix stems/ -o ref.wav", folder)
    return folder


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
def test_sessions_of_the_readme(workplace):
    ran = 0
    for command, expected in sessions():
        if "| jq" in command and not shutil.which("jq"):
            continue
        seen = steady if "transfer" not in command else roughly
        assert seen(shell(command, workplace)) == seen(expected), command
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


def test_library_example_runs():
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "library.py")], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "voice (2, 176400) float32"


def test_learning_example_finds_the_mix():
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "learn.py")], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    before, after = re.findall(r"error (?:before|after): (-?\d+) dB", done.stdout)
    assert int(after) < int(before) - 25


def test_docstring_examples():
    import doctest

    import mixtools.errors

    for module in (mixtools, mixtools.errors):
        assert doctest.testmod(module).failed == 0
