"""The house: imports point down, nothing is declared twice, and the pages say what the code does."""

from __future__ import annotations

import ast
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
        "set",
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


def test_docstring_examples():
    import doctest

    import mixtools.errors

    for module in (mixtools, mixtools.errors):
        assert doctest.testmod(module).failed == 0
