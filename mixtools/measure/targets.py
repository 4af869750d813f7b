"""The loudness that broadcasters and services ask for, as data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A published target; `source` says who asks for it."""

    lufs: float
    true_peak_dbtp: float
    source: str


TARGETS = {
    "ebu": Target(-23.0, -1.0, "EBU R 128, European broadcasting"),
    "atsc": Target(-24.0, -2.0, "ATSC A/85, American broadcasting"),
    "streaming": Target(-14.0, -1.0, "what most music services play at"),
    "quiet-streaming": Target(-16.0, -1.0, "AES TD1008 for music in albums, and Apple's Sound Check"),
    "podcast": Target(-16.0, -1.0, "Apple Podcasts; mono or stereo"),
    "speech": Target(-18.0, -1.0, "AES TD1008 for speech"),
}
