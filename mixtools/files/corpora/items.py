"""What a corpus is made of: songs, and recordings of a device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from mixtools.files.excerpts import AudioSource


@dataclass(frozen=True)
class About:
    """What is published about a song's files: roles or instruments by name, and whether microphones pick up others."""

    roles: dict[str, str] = field(default_factory=dict)
    has_bleed: bool | None = None


@dataclass(frozen=True, eq=False)
class Song:
    """A multitrack recording: stems and finished mixes by name, and the raw recordings where stems are processed.

    `split` is the published one: train, validation or test. `describe` is called when somebody asks what it is about.
    """

    name: str
    stems: dict[str, AudioSource]
    mixes: dict[str, AudioSource] = field(default_factory=dict)
    raw: dict[str, AudioSource] = field(default_factory=dict)
    artist: str | None = None
    split: str | None = None
    describe: Callable[[], About] = About

    @property
    def inputs(self) -> dict[str, AudioSource]:
        """What a mixing engineer starts from: the raw recordings, else the stems."""
        return self.raw or self.stems

    @cached_property
    def about(self) -> About:
        """Roles, and whether there is bleed: read when it is first asked for."""
        return self.describe()


@dataclass(frozen=True, eq=False)
class Pair:
    """A device's input and what came out of it at some setting of its controls."""

    name: str
    input: AudioSource
    target: AudioSource
    controls: dict[str, float | str] = field(default_factory=dict)
    split: str | None = None
    artist: str | None = None
