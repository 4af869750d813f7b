"""What `--help` shows: a screen with what is used every day and two examples; `--help-all` explains every option."""

from __future__ import annotations

import inspect
import re
import shutil
import textwrap
from copy import copy
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

NARROWEST, WIDEST = 60, 100
"""Columns that it is set in."""

TEXT_FROM = 26
"""The column that explanations begin at."""

SHOWN = 2
"""Examples; the others are in the man page."""


class Command(TyperCommand):
    """A command, of whose module `EVERYDAY` names the parameters that are explained, and `EXAMPLES` what it is for."""

    def get_params(self, ctx: Any) -> list[Any]:
        params = super().get_params(ctx)
        # Of --help, which is the last of them, all but what it is called and what it does.
        more = copy(params[-1])
        more.name, more.opts, more.callback, more.help = "help_all", ["--help-all"], _show_all, "Explain every option."
        return [*params, more]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        module = inspect.getmodule(inspect.unwrap(self.callback))
        width = _width()
        arguments = [p for p in self.params if p.param_type_name == "argument"]
        everyday = [p for name in module.EVERYDAY for p in self.params if name in p.opts]
        rest = [p for p in self.params if p not in arguments and p not in everyday]
        lines = [
            f"Usage: {ctx.command_path} [OPTIONS] {' '.join(p.metavar for p in arguments)}",
            "",
            *textwrap.wrap(_plain(inspect.cleandoc(self.callback.__doc__).partition("\n\n")[0]), width),
            "",
            *(line for p in arguments for line in _entry(p.metavar, p.help, width)),
            *(line for p in everyday for line in _entry(signature(p), p.help, width, default=default_of(p))),
            "",
            *_run_in(f"More options: {', '.join(max(p.opts, key=len) for p in rest)}.", width),
            *_run_in(f"`{ctx.command_path} --help-all` explains them, `man {ctx.command_path.replace(' ', '-')}`"
                     " everything.", width),
            "",
            "Examples:",
            *(part for _, line in module.EXAMPLES[:SHOWN] for part in _continued(line, width)),
        ]  # fmt: skip
        formatter.write("\n".join(lines) + "\n")

    def format_all(self, ctx: Any) -> str:
        """Every option with all that is said of it."""
        formatter = ctx.make_formatter()
        super().format_help(ctx, formatter)
        return formatter.getvalue()


class Group(TyperGroup):
    """Commands, each in a line."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        width = _width()
        options = [p for p in self.params if p.param_type_name == "option"]
        lines = [
            f"Usage: {ctx.command_path} COMMAND [OPTIONS] ...",
            "",
            *textwrap.wrap(_plain(self.help), width),
            "",
            *(line for name, each in self.commands.items() for line in _entry(name, each.help, width, 13)),
            *([""] if options else []),
            *(line for p in options for line in _entry(signature(p), p.help, width)),
            "",
            f"`{ctx.command_path} COMMAND --help` says how each is used.",
        ]
        formatter.write("\n".join(lines) + "\n")


def _width() -> int:
    return min(max(shutil.get_terminal_size().columns, NARROWEST), WIDEST)


def _show_all(ctx: Any, parameter: Any, asked: bool) -> None:
    if asked:
        print(ctx.command.format_all(ctx).rstrip())
        raise typer.Exit


def _plain(text: str) -> str:
    return " ".join(re.sub(r"\[/?bold\]", "", text).split())


def signature(parameter: Any) -> str:
    """An option's names, and what it takes."""
    names = ", ".join(sorted([*parameter.opts, *parameter.secondary_opts], key=len))
    return names if parameter.is_flag else f"{names} {parameter.metavar or 'VALUE'}"


def default_of(parameter: Any) -> str:
    """A sentence, where a default is to be shown."""
    default = parameter.default
    return f" Default: {default}." if getattr(parameter, "show_default", False) and default not in (None, False) else ""


def _entry(name: str, text: str, width: int, start: int = TEXT_FROM, default: str = "") -> list[str]:
    """A name, and beside or under it the first sentence of what is said of it."""
    sentence = re.split(r"(?<=[^.])\. ", _plain(text.split("\n\n")[0]))[0].rstrip(".") + "."
    wrapped = textwrap.wrap(sentence + default, width - start, break_on_hyphens=False)
    wrapped = [" " * start + line for line in wrapped]
    if len(name) + 4 > start:
        return [f"  {name}", *wrapped]
    return [f"  {name}".ljust(start) + wrapped[0][start:], *wrapped[1:]]


def _continued(line: str, width: int) -> list[str]:
    """A command line, in as many lines as it needs."""
    return [f"  {part}" for part in " \\\n  ".join(_run_in(line, width - 6)).splitlines()]


def _run_in(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)
