"""The man page of the models that come with mixtools."""

from __future__ import annotations

from mixtools.cli.roff import code, page, paragraphs, roff, table, tagged
from mixtools.files.models import bundled, card

TASKS = {"mix": "mixtools mix --model", "emulate": "mixtools emulate --model", "transfer": "mixtools transfer"}
"""What bundled models are for, and the command that takes them."""

_FORMAT = """
Every model is one file in the safetensors format, which holds numbers and plain data and can run no code; its header
says for which command it is, what network it holds, and what it was trained on. `--model` takes the name of one of the
models below, such a file, or the folder of a training, whose best weights so far are taken.

Models that others have published are read where their layout is known: VGGish's weights (.pth or .safetensors) by
`mixtools features --vggish` and `mixtools train mix --weights`. Checkpoints of torch are read as numbers only: what
would run code is refused.
"""


def models_page() -> str:
    """The page of the bundled models: their data, training and figures."""
    sections = {"DESCRIPTION": paragraphs(_FORMAT)}
    for task, command in TASKS.items():
        if names := bundled(task):
            sections[f"MODELS FOR {command.upper()}"] = "\n".join(model_card(task, name) for name in names)
    sections["SEE ALSO"] = ", ".join(
        f"\\fB{roff(name)}\\fR(1)" for name in ("mixtools-mix", "mixtools-train-mix", "mixtools-features")
    )
    return page("mixtools-models", 7, "the models that come with mixtools, and how they were trained", sections)


def model_card(task: str, name: str) -> str:
    """One model's card."""
    found = card(task, name)
    return "\n".join(
        [
            f".SS {roff(name)}",
            paragraphs(found.summary),
            tagged("Data", " ".join(found.data.split())),
            tagged("Training", " ".join(found.training.split())),
            tagged("Licence", " ".join(found.licence.split())),
            tagged("Limits", " ".join(found.limits.split())),
            ".PP",
            table(["figure", "measured", "beside"], [list(row) for row in found.figures], "lx l lx"),
            code(found.command),
        ]
    )
