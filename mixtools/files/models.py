"""Models by name or file: those that come with mixtools, and those that `mixtools train` wrote."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixtools.controls import shown
from mixtools.errors import ParameterError, nearest
from mixtools.files.checkpoints import read_checkpoint
from mixtools.files.outputs import AtomicFile
from mixtools.files.weights import packed, read_model

if TYPE_CHECKING:
    from torch import Tensor

BUNDLED = Path(__file__).parents[1] / "models"
"""A folder of them for every task."""

SUFFIX = ".safetensors"


def bundled(task: str) -> list[str]:
    """The names of the models for a task that come with mixtools."""
    return sorted(path.stem for path in (BUNDLED / task).glob(f"*{SUFFIX}"))


@dataclass(frozen=True)
class Card:
    """What a bundled model is and what it is worth; it stands beside its weights as YAML.

    figures: rows of what was measured, what it came to, and what it stands beside; the command measures them.
    """

    summary: str
    data: str
    training: str
    licence: str
    limits: str
    figures: tuple[tuple[str, str, str], ...]
    command: str


def card(task: str, name: str) -> Card:
    """The card of a bundled model."""
    from mixtools.files.mixfile import plain_tree, read_text

    path = BUNDLED / task / f"{name}.yaml"
    found = plain_tree(read_text(path), str(path))
    wanted = [field.name for field in fields(Card)]
    if not isinstance(found, dict) or list(found) != wanted:
        raise ParameterError(f"{path} does not hold {', '.join(wanted)}; give them in this order")
    figures = tuple(tuple(str(cell) for cell in row) for row in found["figures"])
    return Card(**{**found, "figures": figures})


def open_model(argument: str, task: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of a model for a task, and what they are about.

    The argument is a bundled model's name, a file that `export` wrote, or the folder of a training, whose best
    weights so far are taken.
    """
    if argument in bundled(task):
        return read_model(BUNDLED / task / f"{argument}{SUFFIX}")
    if argument and Path(argument).is_dir():
        tensors, record = read_checkpoint(argument, "best")
        about = record.get("about")
        return tensors, about if isinstance(about, dict) else {}
    if not argument or not (Path(argument).exists() or "/" in argument or argument.endswith(SUFFIX)):
        known = bundled(task)
        name = f"{nearest(argument, known)}, or a file" if known else "a file"
        raise ParameterError(
            f"the model is {shown(argument) if argument else 'empty'}, neither a file nor a model that comes with"
            f" mixtools; give {name} that `mixtools train {task}` wrote"
        )
    tensors, about = read_model(argument)
    made_for = about.get("task", task)
    if made_for != task:
        raise ParameterError(
            f"{argument} is a model for {shown(made_for)}; give one that `mixtools train {task}` wrote"
        )
    return tensors, about


def export(folder: str | Path, target: str | Path, task: str, more: dict[str, Any], force: bool = False) -> dict:
    """Write the best weights of a training as one file; gives what it says they are about."""
    tensors, record = read_checkpoint(folder, "best")
    state = record.get("state")
    figures = {"step": state["step"], "validation": state["lowest"]} if isinstance(state, dict) else {}
    about = {"task": task, **record["about"], **more, "figures": figures}
    with AtomicFile(target, force=force) as output, output.writing() as file:
        file.write(packed(tensors, about))
    return about
