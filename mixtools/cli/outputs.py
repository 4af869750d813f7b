"""Where outputs may go: never over an input, never two to one name; and what is said of samples that clip."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mixtools.cli.options import STDIO
from mixtools.cli.report import Report
from mixtools.errors import OutputError, ParameterError
from mixtools.files.outputs import is_device


def refuse_inputs(outputs: Iterable[str | Path | None], inputs: Iterable[str | Path]) -> None:
    """No output may be one of the inputs, not even with --force."""
    read = {os.path.realpath(path): path for path in inputs}
    for output in outputs:
        if output not in (None, STDIO) and os.path.realpath(output) in read:
            raise ParameterError(f"{output} is an input of this run; give another name for the output")


def refuse_twins(outputs: Iterable[str | Path | None]) -> None:
    """No two outputs may be one file."""
    places: dict[str, str | Path] = {}
    for output in outputs:
        if output not in (None, STDIO):
            place = os.path.realpath(output)
            if place in places and not is_device(output):
                raise ParameterError(f"{output} would be written twice; give every output its own name")
            places[place] = output


def make_folder(folder: Path, option: str, closing: contextlib.ExitStack) -> None:
    """Make a folder for outputs; it goes again if nothing comes to lie in it."""
    if folder.is_dir():
        return
    try:
        folder.mkdir()
    except FileExistsError:
        raise ParameterError(f"{folder} is a file; give a folder for {option}") from None
    except FileNotFoundError:
        raise ParameterError(f"{folder}: the folder {folder.parent} does not exist; create it") from None
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror}") from None

    def remove_if_empty() -> None:
        with contextlib.suppress(OSError):
            folder.rmdir()

    closing.callback(remove_if_empty)


def warn_of_clipping(report: Report, name: str, writer: Any, remedy: str) -> None:
    """Say how many samples an integer file could not hold; `remedy` says what lowers them."""
    if writer.bits != "32f" and writer.clipped:
        over = 20 * math.log10(writer.peak)
        instead = "" if name.lower().endswith(".flac") else ", or give --bits 32f"
        report.warn(
            f"{name}: {writer.clipped} SAMPLES CLIPPED, the loudest by {over:.1f} dB; "
            f"{remedy.format(math.ceil(over * 10) / 10)}{instead}"
        )
