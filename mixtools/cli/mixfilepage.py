"""The man page of the mix file, and of every control of every effect."""

from __future__ import annotations

from typing import Any

from mixtools.cli.roff import code, page, paragraphs, roff, table
from mixtools.controls import CHANNEL, EFFECTS, OFFSET_MS, SEND, Control, shown
from mixtools.presets import PRESETS, BelowNyquist, Slot, Strip

EXAMPLE = """\
mixtools: 1                     # format version
sample_rate: 44100
tracks:
  - file: kick.wav              # a stem, by its file name; a file may appear twice
    channel: both               # or left, right, mid, side
    offset_ms: 0                # moves the stem in time, fractions of a sample too
    mute: false                 # and solo: true
    output: drums               # a bus instead of the master
    chain:                      # in this order; leaving an effect out bypasses it
      - gain: {gain_db: -3.2}
      - parametric_eq: {low_shelf_freq_hz: 70, low_shelf_gain_db: 2.5}
      - compressor: {threshold_db: -18, ratio: 4, attack_ms: 8, release_ms: 120}
      - pan: {pan: [[0, 0.5], [10, 0.3]]}
    sends: {room: -14}          # dB, after the chain
buses:
  drums:
    chain: [{compressor: {threshold_db: -12, ratio: 2}}]
  room:
    chain:
      - convolution: {ir: hall}
master:
  chain:
    - parametric_eq: {high_shelf_gain_db: 1.0}
    - limiter: {ceiling_db: -1}
"""

_FORMAT = """
YAML 1.2 in UTF-8. Tags, anchors, aliases and repeated keys are refused; `1e-3` is a number and `no` a word. Keys
that are left out have their defaults. Unknown keys are errors that name the nearest known one.

Tracks are summed in the order of their file names, whatever order they are listed in, and in double precision, so
that a console at its defaults gives the exact sum. Every effect's latency is compensated. A mono stem is a mono
strip until an effect makes it stereo (pan, or a stereo reverb); it reaches a bus or the master on both sides.
Buses and the master are stereo. Where any track is solo, only the tracks that are solo sound; mute wins over solo.

`sample_rate` is the rate the mix is rendered at unless `--rate` says otherwise; stems of another rate are
resampled.

The sections `made` and `report` are kept and never change the sound: they record which command wrote the file, and
what it measured.
"""

_AUTOMATION = """
Any control that is not marked fixed may be a list of breakpoints, `[[seconds, value], ...]`, and so may a send.
Between breakpoints it moves in its own scale (logarithmically where it is marked log); before the first and after
the last it holds. It is read on a grid of 64 samples that begins at the session's first sample, and what the
effect makes of it (an amplitude, a filter coefficient) moves linearly from grid point to grid point. Times are the
session's: `offset_ms` moves the stem, not its automation.
"""


def control_row(control: Control) -> list[str]:
    """Name, range, default and what it does."""
    marks = ["log"] * control.log + ["fixed"] * (not control.automatable)
    help = control.help + (f" ({', '.join(marks)})" if marks else "")
    values = "" if control.kind == "choice" else control.range
    default = "" if control.default is None else shown(control.default)
    return [control.name, values, default, help]


def effect_tables() -> str:
    """Every effect with the table of its controls."""
    parts = []
    for effect in EFFECTS.values():
        rows = [control_row(control) for control in effect.controls]
        parts += [
            f".SS {effect.name}",
            roff(effect.help),
            ".PP",
            table(["control", "range", "default", "what it does"], rows, "l l l lx"),
        ]
    return "\n".join(parts)


def limit(value: Any) -> str:
    """One end of a preset's range."""
    return f"rate/2 - {value.hz:g}" if isinstance(value, BelowNyquist) else shown(float(value))


def slot_rows(slot: Slot) -> list[list[str]]:
    """A preset's ranges for one effect."""
    rows = []
    for control in slot.varied:
        if control.name in slot.ranges:
            words = " to ".join(limit(end) for end in slot.ranges[control.name])
        elif control.name in slot.choices:
            words = ", ".join(slot.choices[control.name])
        else:
            words = f"true with probability {slot.probabilities[control.name]:g}"
        rows.append([slot.effect, control.name, words])
    return rows + [[slot.effect, name, f"always {shown(value)}"] for name, value in slot.held.items()]


def strip_table(title: str, strip: Strip) -> list[str]:
    """A preset's strip."""
    if not strip.slots:
        return []
    rows = [row for slot in strip.slots for row in slot_rows(slot)]
    rows += [["send", bus, " to ".join(limit(end) for end in span)] for bus, span in strip.sends.items()]
    shuffled = ", ".join(slot.effect for slot in strip.shuffled)
    note = [".PP", roff(f"{shuffled} may stand in any order.")] if shuffled else []
    return [".PP", roff(title), ".PP", table(["effect", "control", "range"], rows, "l l lx"), *note]


def preset_tables() -> str:
    """The papers' consoles."""
    parts = []
    for preset in PRESETS.values():
        parts += [f".SS {preset.name}", roff(preset.help)]
        parts += strip_table("Tracks:", preset.track) + strip_table("Master:", preset.master)
    return "\n".join(parts)


def mixfile_page() -> str:
    """The page of the mix file and of every control."""
    keys = [[c.name, c.range, shown(c.default), c.help] for c in (CHANNEL, OFFSET_MS)]
    keys[0][1] = ""
    keys += [
        ["mute", "true or false", "false", "Leaves the track out; buses have it, too."],
        ["solo", "true or false", "false", "Leaves all tracks out that are not solo."],
        ["output", "", "master", "A bus, or the master; buses have it, too."],
        ["chain", "", "", "Effects, each `name: {controls}`; buses and the master have it, too."],
        ["sends", SEND.range, "", "Levels in dB into buses, after the chain, by bus; buses have them, too."],
    ]
    return page(
        "mixtools-mixfile",
        5,
        "the mix file: tracks, buses, effects and their controls",
        {
            "EXAMPLE": code(EXAMPLE),
            "DESCRIPTION": paragraphs(_FORMAT),
            "TRACKS AND BUSES": table(["key", "range", "default", "what it does"], keys, "l l l lx"),
            "AUTOMATION": paragraphs(_AUTOMATION),
            "EFFECTS": effect_tables(),
            "PRESETS": roff(
                "The consoles of three papers: which effects, in which order, over which ranges. The learning commands "
                "draw from them; from Python they are mixtools.PRESETS."
            )
            + "\n"
            + preset_tables(),
            "SEE ALSO": "\\fBmixtools\\fR(1), \\fBmixtools\\-mix\\fR(1)",
        },
    )
