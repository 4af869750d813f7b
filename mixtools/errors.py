"""The errors a user can cause, each with the exit code it ends in."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from enum import IntEnum


class ExitStatus(IntEnum):
    """What a command's exit code means; the man pages print this table."""

    DONE = 0
    FAILED = 1
    BAD_PARAMETERS = 2
    BAD_AUDIO = 3
    INTERRUPTED = 130

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]


_MEANINGS = {
    ExitStatus.DONE: "Done.",
    ExitStatus.FAILED: "Some inputs of a batch failed and the rest are done, or an output could not be written.",
    ExitStatus.BAD_PARAMETERS: "Bad command line, or bad parameter file.",
    ExitStatus.BAD_AUDIO: "Unusable audio.",
    ExitStatus.INTERRUPTED: "Interrupted.",
}


class MixtoolsError(Exception):
    """One line for a person: where, what was found, what to give instead."""

    status = ExitStatus.FAILED


class OutputError(MixtoolsError):
    """An output could not be written."""

    status = ExitStatus.FAILED


class ParameterError(MixtoolsError):
    """A command line, a mix file or a control value is wrong."""

    status = ExitStatus.BAD_PARAMETERS


class AudioError(MixtoolsError):
    """An input holds no audio that can be used."""

    status = ExitStatus.BAD_AUDIO


def nearest(word: str, known: Iterable[str]) -> str:
    """Say which known word was probably meant, or list them all.

    >>> nearest("atack_ms", ["attack_ms", "ratio"])
    'attack_ms'
    >>> nearest("zzz", ["attack_ms", "ratio"])
    'attack_ms, ratio'
    """
    known = list(known)
    close = get_close_matches(str(word), known, n=1, cutoff=0.6)
    return close[0] if close else ", ".join(known)
