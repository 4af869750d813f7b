"""What man pages are written with."""

from __future__ import annotations

import re

from mixtools import __version__


def roff(text: str) -> str:
    """Text for a man page: markup of `--help` becomes bold, characters that roff reads are escaped."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = re.sub(r"\[bold\](.*?)\[/bold\]", r"\\fB\1\\fR", text)
    text = re.sub(r"`(.*?)`", r"\\fB\1\\fR", text)
    return re.sub(r"^(['.])", r"\\&\1", text, flags=re.MULTILINE)


def page(name: str, section: int, summary: str, sections: dict[str, str]) -> str:
    """A whole page."""
    title = name.upper().replace("-", "\\-")
    parts = [
        "'\\\" t",
        f'.TH "{title}" "{section}" "" "mixtools {__version__}" "mixtools"',
        ".SH NAME",
        f"{roff(name)} \\- {roff(summary)}",
    ]
    for heading, body in sections.items():
        if body:
            parts += [f".SH {heading}", body.strip()]
    return "\n".join(parts) + "\n"


def paragraphs(text: str) -> str:
    """Paragraphs apart by empty lines."""
    return "\n.PP\n".join(roff(" ".join(part.split())) for part in text.strip().split("\n\n"))


def tagged(tag: str, text: str) -> str:
    """An indented paragraph under a bold tag."""
    return f".TP\n\\fB{roff(tag)}\\fR\n{roff(text)}"


def code(text: str) -> str:
    """Lines as they are."""
    return "\n".join([".PP", ".RS 4", ".nf", roff(text.rstrip()), ".fi", ".RE"])


def table(head: list[str], rows: list[list[str]], widths: str) -> str:
    """A table; columns of a width with an x wrap."""
    wrapping = ["x" in width for width in widths.split()]
    lines = [".ad l", ".TS", "tab(\t);", widths + ".", "\t".join(f"\\fB{cell}\\fR" for cell in head)]
    for row in rows:
        if len(row) != len(head):
            raise ValueError(f"the row {row} is not as long as {head}")
        cells = [f"T{{\n{roff(cell)}\nT}}" if wraps else roff(cell) for cell, wraps in zip(row, wrapping, strict=True)]
        lines.append("\t".join(cells))
    return "\n".join([*lines, ".TE", ".ad"])
