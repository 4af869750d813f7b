"""What the expert knows: its rules with their sources, and how each role is treated. Data only.

Where a paper gives a method, the method is the paper's; the numbers of the table are ours, chosen after the practice
that handbooks describe (R. Izhaki, Mixing Audio; B. Owsinski, The Mixing Engineer's Handbook).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """One rule: what it does, and where it comes from."""

    text: str
    source: str


RULES = {
    "role": Rule(
        "A stem's role is what its name says, else what it sounds like.",
        "practice; source recognition as a first stage: D. Moffat and M. Sandler 2019",
    ),
    "low cut": Rule(
        "What a role does not need is turned down by a low shelf; where no bass plays, from an octave lower.",
        "practice",
    ),
    "unmask": Rule(
        "A stem is cut by up to 4 dB in at most two bands that a more important stem lives from and it does not.",
        "S. Hafezi and J. D. Reiss, Autonomous multitrack equalization based on masking reduction, 2015",
    ),
    "compress": Rule(
        "A crest factor above its role's is brought half the way there, by 6 dB of compression at most.",
        "D. Giannoulis, M. Massberg and J. D. Reiss, Parameter automation in a dynamic range compressor, 2013",
    ),
    "level": Rule(
        "All stems of a role together have its loudness, relative to the lead, while they sound.",
        "E. Perez Gonzalez and J. D. Reiss 2009 (equal loudness), S. Mansbridge et al. 2012 (loudness after R 128)",
    ),
    "keep": Rule(
        "The stems' own balance stays: what equaliser and compressor take away is given back.",
        "practice; only with --keep-levels",
    ),
    "centre": Rule(
        "Kick, snare, bass and lead stand in the centre, and so does whatever lives from low frequencies.",
        "E. Perez Gonzalez and J. D. Reiss, Automatic mixing: live downmixing stereo panner, 2007",
    ),
    "spread": Rule(
        "The others go to the side where less of what they overlap with is, and less energy; pairs go to both sides.",
        "E. Perez Gonzalez and J. D. Reiss 2007",
    ),
    "wide": Rule(
        "A stereo recording keeps its own width.",
        "practice",
    ),
    "space": Rule(
        "Each role is sent to a room or a plate as much as suits it.",
        "practice",
    ),
    "loudness": Rule(
        "A gain and a true-peak limiter on the master bring the mix to its loudness.",
        "ITU-R BS.1770, EBU R 128",
    ),
    "lock": Rule(
        "Tracks that a mix file settles stay as they are; the others find their loudness relative to theirs.",
        "practice; only with --lock",
    ),
}


@dataclass(frozen=True)
class Manner:
    """How a role is treated.

    `level_lu` is the loudness of all its stems together relative to the lead, `low_cut_hz` where its low cut is,
    `crest_db` the crest factor that is left alone, `width` how far from the centre it may stand (0.5 is hard left or
    right), and `rank` how important it is: of two stems that mask each other the one of the higher number gives way.
    Sends are in dB, None for none.
    """

    rank: int
    level_lu: float
    low_cut_hz: float
    crest_db: float
    attack_ms: float
    release_ms: float
    width: float
    room_db: float | None = None
    plate_db: float | None = None


MANNERS = {
    #                        rank  level  cut   crest attack release width  room   plate
    "lead_vocal": Manner(       0,   0.0,  90.0, 12.0,  8.0, 120.0,  0.00, -24.0, -15.0),
    "kick": Manner(             1,  -4.5,  30.0, 16.0, 25.0, 100.0,  0.00),
    "snare": Manner(            2,  -4.0,  90.0, 16.0, 15.0, 120.0,  0.00, -18.0, -20.0),
    "bass": Manner(             3,  -4.0,  30.0, 11.0, 25.0, 150.0,  0.00),
    "drums": Manner(            4,  -2.5,  30.0, 15.0, 25.0, 120.0,  0.00, -24.0),
    "lead": Manner(             5,  -4.0, 100.0, 12.0, 15.0, 150.0,  0.12, -24.0, -16.0),
    "guitar": Manner(           6,  -6.0, 80.0, 13.0, 20.0, 150.0,  0.34, -20.0),
    "keys": Manner(             7,  -7.0, 60.0, 14.0, 20.0, 150.0,  0.26, -22.0, -22.0),
    "toms": Manner(             8,  -7.5,  60.0, 17.0, 15.0, 150.0,  0.24, -18.0),
    "backing_vocal": Manner(    9,  -6.0, 120.0, 12.0,  8.0, 150.0,  0.30, -22.0, -13.0),
    "pad": Manner(             10,  -9.0, 100.0, 12.0, 30.0, 250.0,  0.30, None, -16.0),
    "cymbals": Manner(         11, -11.0, 250.0, 18.0, 15.0, 150.0,  0.30, -24.0),
    "hats": Manner(            12, -13.0, 300.0, 18.0, 10.0, 100.0,  0.18),
    "percussion": Manner(      13, -11.0, 120.0, 18.0, 10.0, 100.0,  0.30, -18.0),
    "other": Manner(           14,  -8.0,  40.0, 15.0, 20.0, 150.0,  0.22, -22.0),
    "effects": Manner(         15, -11.0, 60.0, 18.0, 20.0, 200.0,  0.30, None, -18.0),
}  # fmt: skip
"""The table."""

LEADS = "lead_vocal", "lead"
"""Who leads: the first of these that plays is the lead, and stands in the centre."""

SPACES = {"room": "medium_room", "plate": "plate"}
"""The buses that sends go to, and the bundled impulse response of each."""


@dataclass(frozen=True)
class Taste:
    """In what mixes that are equally sound may differ; the default is the table as it stands.

    Levels move by `levels_lu` per role, sides may be swapped, widths and compression are scaled, sends raised, and the
    spaces may be others.
    """

    levels_lu: dict[str, float] | None = None
    mirrored: bool = False
    width: float = 1.0
    compression: float = 1.0
    sends_db: float = 0.0
    spaces: dict[str, str] | None = None
