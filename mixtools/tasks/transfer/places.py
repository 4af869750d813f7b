"""What stays near the centre, whichever way a record leans: what leads, and what carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mixtools.mix import Mix

CENTRED = "lead_vocal", "kick", "bass", "snare", "drums"
REACH = 0.12
"""The furthest that they stand from the centre, on the pan's scale from 0 to 1."""


def near_centre(mix: Mix, roles: Mapping[str, str]) -> Mix:
    """A mix whose pans do not go further with such stems."""
    copy = Mix.from_plain(mix.to_plain())
    for track in copy.tracks:
        if roles.get(track.file) in CENTRED:
            for insert in track.chain:
                if insert.effect == "pan":
                    insert.controls["pan"] = min(max(insert.settings["pan"], 0.5 - REACH), 0.5 + REACH)
    return replace(copy, notes=mix.notes).check()
