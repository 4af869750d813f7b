"""`mixtools train`: models for the commands that can use one, each with a file of its own."""

from __future__ import annotations

import typer

from mixtools.cli.help import Command, Group
from mixtools.cli.train_emulate_console import console
from mixtools.cli.train_emulate_device import device
from mixtools.cli.train_mix import mix
from mixtools.cli.train_transfer import transfer

emulate = typer.Typer(cls=Group, rich_markup_mode="rich")
emulate.command(cls=Command)(console)
emulate.command(cls=Command)(device)

train = typer.Typer(cls=Group, rich_markup_mode="rich")
train.add_typer(emulate, name="emulate")
train.command(cls=Command)(mix)
train.command(cls=Command)(transfer)


@train.callback(invoke_without_command=True)
def group(context: typer.Context) -> None:
    """Train models: on songs in folders, or on synthesised ones."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@emulate.callback(invoke_without_command=True)
def emulators(context: typer.Context) -> None:
    """Train models of a channel or a device, for `mixtools emulate`."""
    if context.invoked_subcommand is None:
        print(context.get_help())
