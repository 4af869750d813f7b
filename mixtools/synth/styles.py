"""What songs are made of, as data: the parts that stems play, and the styles that choose among them.

A pattern has one character per sixteenth: `.` rests, `-` holds the note before it, anything else starts a note.
Drums read the characters as strokes, chords as strums (`m` is muted), basses and arpeggios as rungs on the ladder of
chord tones. Words in one string are a choice, or a list.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SECTIONS = ("intro", "verse", "chorus", "bridge", "outro")

SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "harmonic": (0, 2, 3, 5, 7, 8, 11),
}
MINOR_SCALES = ("minor", "dorian", "harmonic")

FORMS = (
    "verse chorus verse chorus bridge chorus",
    "verse verse chorus verse chorus bridge chorus",
    "chorus verse chorus bridge verse chorus",
)
"""What comes between intro and outro, again and again."""

PLAYS = {
    "kick": (0.4, 1.0, 1.0, 0.5, 0.6),
    "snare": (0.3, 1.0, 1.0, 0.4, 0.5),
    "hats": (0.6, 0.95, 0.9, 0.5, 0.6),
    "cymbals": (0.7, 0.6, 1.0, 0.8, 0.8),
    "toms": (0.6, 0.8, 1.0, 0.9, 0.6),
    "percussion": (0.4, 0.5, 0.95, 0.4, 0.4),
    "bass": (0.45, 1.0, 1.0, 0.75, 0.7),
    "guitar": (0.6, 0.75, 1.0, 0.6, 0.7),
    "keys": (0.7, 0.75, 0.95, 0.8, 0.8),
    "pad": (0.6, 0.4, 0.95, 0.9, 0.8),
    "lead": (0.7, 0.15, 0.6, 0.7, 0.5),
    "lead_vocal": (0.0, 1.0, 1.0, 0.8, 0.15),
    "backing_vocal": (0.05, 0.2, 1.0, 0.5, 0.15),
}
"""How likely a role plays in each of `SECTIONS`."""

LEVELS_DB = {
    "kick": (-9.0, -3.0),
    "snare": (-10.0, -3.0),
    "hats": (-18.0, -9.0),
    "cymbals": (-16.0, -6.0),
    "toms": (-12.0, -4.0),
    "percussion": (-18.0, -7.0),
    "bass": (-12.0, -4.0),
    "guitar": (-15.0, -5.0),
    "keys": (-16.0, -6.0),
    "pad": (-18.0, -9.0),
    "lead": (-15.0, -6.0),
    "lead_vocal": (-12.0, -4.0),
    "backing_vocal": (-17.0, -8.0),
}
"""Peaks that stems are recorded at, by role, in dBFS."""

RHYTHMS = (
    "x--x--x-x---x--- ..x-x-x-x--x---- x-x-x---x-x-x--- "
    "x---x--xx------- ..x-x--x-x-x---- x-xx-x--x---.... "
    "....x-x-x--x--x- x-----x-x------- x--xx--x--x-----"
)
"""Bars that melodies are put together from."""

SYLLABLES = "a e i o u sa la ma to me be ho fy ki da li mo su ty kr za"
"""What is sung: a consonant, or none, and a vowel."""


@dataclass(frozen=True)
class Part:
    """What a stem plays: its role, the player that reads its patterns, and the sounds it may have.

    `centre` is the MIDI pitch it plays around, `shift` moves a melody by scale degrees. `opening` is struck at the
    beginning of every section, `fills` end it. Parts of one `family` share what they play and on what.
    """

    role: str
    player: str
    sounds: str
    patterns: str = "X..............."
    centre: int = 60
    shift: int = 0
    opening: str = ""
    fills: str = ""
    family: str = ""


_STRUMS = "X---x-x-X---x-x- X-m-x-m-X-m-x-m- X--------------- X-x-x-X-x-X-x-x-"
_COMPS = "X-------x------- X---x---x---x--- X-----x-----x--- x---x--x--x-x---"
_LADDERS = "0-1-2-3-4-3-2-1- 0123210123432101 0.2.4.2.3.1.2.4. 4-2-3-1-2-0-1-2-"
_HELD = "x--------------- x-------x-------"
_SUNG_CHORDS = "1--------------- 1-------1------- ..1-....1--..... 1-----..1-------"

_VOICES = "voice_low voice_high voice_airy"
_CLEAN = "guitar_clean guitar_crunch"

PARTS = {
    "kick": Part("kick", "hits", "kick_acoustic", fills="X...X...X...X... X.......X.x.X..."),
    "snare": Part("snare", "hits", "snare_acoustic", fills="....X...X.x.xxXX ....X.......XxXX ....X...X..X..X."),
    "hats": Part("hats", "hits", "hats_acoustic"),
    "overheads": Part(
        "cymbals",
        "hits",
        "cymbals",
        "r...r...r...r... r.r.r.r.r.r.r.r. C............... r..rr..rr..rr..r",
        opening="C",
    ),
    "toms": Part(
        "toms",
        "hits",
        "toms",
        "................ ..............m. ......h...m...f.",
        opening="f",
        fills="........hhmmffff ............hmff h.h.m.m.f.f.f... ........h..m..f.",
    ),
    "claps": Part(
        "percussion", "hits", "claps", "....X.......X... ....X.......X..x ..........X.....", fills="....X...X.X.XXXX"
    ),
    "snaps": Part("percussion", "hits", "snaps", "....X.......X... ..........X..... ....x.......x.x."),
    "shaker": Part("percussion", "hits", "shaker", "XgxgXgxgXgxgXgxg x.X.x.X.x.X.x.X. Xgx.Xgx.Xgx.Xgx."),
    "tambourine": Part("percussion", "hits", "tambourine", "....X.......X... xgXgxgXgxgXgxgXg ..X...X...X...X."),
    "congas": Part("percussion", "hits", "congas", "g.sgg.oog.sgl.oo s..gs.oos..gs.ol ..s...oo..s..lo."),
    "cowbell": Part("percussion", "hits", "cowbell woodblock", "X...X...X...X... X.x.XX.x.xX.x.X. X..X..X...X.X..."),
    "bass": Part("bass", "ladder", "bass_finger bass_pick", centre=34),
    "bass_synth": Part("bass", "ladder", "bass_saw bass_sub", "0--------------- 0-------0-------", centre=34),
    "gtr_left": Part("guitar", "chords", _CLEAN, _STRUMS, centre=55, family="gtr"),
    "gtr_right": Part("guitar", "chords", _CLEAN, _STRUMS, centre=55, family="gtr"),
    "gtr_wide": Part("guitar", "chords", "guitar_wide", _STRUMS, centre=57),
    "gtr_acoustic": Part("guitar", "chords", "guitar_acoustic", _STRUMS, centre=58),
    "gtr_picked": Part("guitar", "ladder", "guitar_clean guitar_acoustic", _LADDERS, centre=55),
    "gtr_lead": Part("lead", "melody", "guitar_lead", centre=64),
    "piano": Part("keys", "chords", "piano", _COMPS, centre=60),
    "epiano": Part("keys", "chords", "epiano", _COMPS, centre=60),
    "organ": Part("keys", "chords", "organ", _HELD, centre=62),
    "clav": Part("keys", "chords", "clav", "x.x..x.xx..x.x.x x..x..x.x..x..x. ..xx..x...xx..x.", centre=60),
    "mallets": Part("keys", "ladder", "vibes marimba", _LADDERS, centre=67),
    "bells": Part("keys", "ladder", "bells", "0-----2-----4--- 4-------2------- 0---------------", centre=76),
    "pad": Part("pad", "chords", "pad_warm pad_choir pad_glass", "x---------------", centre=60),
    "strings": Part("pad", "chords", "strings", _HELD, centre=67),
    "arp": Part("lead", "ladder", "arp_saw arp_square", _LADDERS, centre=64),
    "lead": Part("lead", "melody", "lead_saw lead_square", centre=69),
    "brass": Part("lead", "chords", "brass", "X.....x-........ ..X...X-....x... X-......X--x....", centre=62),
    "vox_lead": Part("lead_vocal", "melody", _VOICES, centre=60, family="vox"),
    "vox_double": Part("lead_vocal", "melody", _VOICES, centre=60, family="vox"),
    "bgv_1": Part("backing_vocal", "melody", _VOICES, shift=2),
    "bgv_2": Part("backing_vocal", "melody", _VOICES, shift=-3),
    "bgv_3": Part("backing_vocal", "ladder", "choir_high choir_low", _SUNG_CHORDS, centre=57),
    "bgv_4": Part("backing_vocal", "ladder", "choir_low choir_high", _SUNG_CHORDS.replace("1", "2"), centre=55),
}
"""Every part a song may have, by the name of its stem."""


@dataclass(frozen=True)
class Style:
    """Ranges of tempo (bpm), swing (of a sixteenth) and looseness (ms); harmony; patterns and sounds; who plays.

    `core` plays in every song, then come the groups of `usual` in any order (`+` joins a group), then all other parts.
    `progressions` are the degrees of chords, one to a bar: 1 is the tonic.
    """

    tempo: tuple[int, int]
    core: str
    usual: str
    progressions: str
    patterns: dict[str, str]
    scales: str = "major minor"
    sevenths: float = 0.2
    swing: tuple[float, float] = (0.0, 0.04)
    loose_ms: float = 6.0
    sounds: dict[str, str] = field(default_factory=dict)


_POP = "1564 6415 1645 4156 1465"
_MINOR = "1637 1767 1465 1374"
_ROCKING = "1741 1454 1564 6415 1145"
_VAMPS = "1144 1414 1114 2511"
_JAZZY = "2516 1625 4325 1345"

_ELECTRONIC_KIT = {
    "kick": "kick_electronic",
    "snare": "snare_electronic",
    "hats": "hats_electronic",
}
_808_KIT = {"kick": "kick_808 kick_electronic", "snare": "snare_electronic", "hats": "hats_electronic"}
_LOUD_GUITARS = {"gtr": "guitar_power", "bass": "bass_pick bass_finger"}

STYLES = {
    "rock": Style(
        tempo=(104, 156),
        core="kick snare hats overheads bass gtr_left gtr_right vox_lead",
        usual="toms gtr_lead bgv_1+bgv_2 organ tambourine vox_double gtr_wide",
        progressions=_ROCKING,
        patterns={
            "kick": "X.......X.x..... X.....x.X....... X.x.....X.x...x.",
            "snare": "....X.......X... ....X.......X.g. ....X..g.g..X...",
            "hats": "X.x.X.x.X.x.X.x. x.x.x.x.x.x.x.o- X...X...X...X...",
            "bass": "0-0-0-0-0-0-0-0- 0---0-0-0---2-0- 0-0-0-0-0-2-3-2-",
            "gtr": "X---x-x-X---x-x- X--------------- m-m-m-m-m-m-X--- X-mmx-mmX-mmx-x-",
        },
        scales="major minor mixolydian",
        sevenths=0.05,
        sounds=_LOUD_GUITARS,
    ),
    "pop": Style(
        tempo=(92, 126),
        core="kick snare hats bass piano pad vox_lead claps",
        usual="bgv_1+bgv_2 gtr_left+gtr_right gtr_acoustic arp overheads shaker vox_double strings toms",
        progressions=_POP,
        patterns={
            "kick": "X.......X..x.... X..x..x.X....... X...X...X...X...",
            "snare": "....X.......X... ....X..g....X...",
            "hats": "x.x.x.x.x.x.x.x. x.xgx.x.x.xgx.x. ..X...X...X...X.",
            "bass": "0---0---0---0-2- 0-----0-0-----2- 0--0--0-0--0--0-",
        },
        sounds={"kick": "kick_electronic kick_acoustic", "bass": "bass_finger bass_saw"},
    ),
    "funk": Style(
        tempo=(94, 116),
        core="kick snare hats bass gtr_left clav brass vox_lead",
        usual="congas overheads organ gtr_right tambourine bgv_1+bgv_2 toms epiano cowbell",
        progressions=_VAMPS,
        patterns={
            "kick": "X..x......x..x.. X.x....x..x..... X.....x..xx.....",
            "snare": "....X..g.g..X..g ....X..g.g.gX... ....X.......X.g.",
            "hats": "xgxgxgxgxgxgxgo- x.xxx.xxx.xxx.o- xgxgx.o-xgxgx.o-",
            "bass": "0..0..3.0.1.2.3. 0-.0.3..0-..2.10 0.00..3.....2.3.",
            "gtr": "..x.x..m..x.x.mm mmxmmmxmmmxmmmxm .x..xm.x.x..xm..",
        },
        scales="dorian mixolydian minor",
        sevenths=0.9,
        swing=(0.02, 0.14),
        sounds={"bass": "bass_finger bass_slap"},
    ),
    "house": Style(
        tempo=(119, 128),
        core="kick claps hats shaker bass piano pad vox_lead",
        usual="arp snare congas lead bgv_3+bgv_4 strings overheads brass tambourine",
        progressions=_MINOR,
        patterns={
            "kick": "X...X...X...X... X...X...X...X..x",
            "snare": "............X..x ....x.......x...",
            "hats": "..o-..o-..o-..o- x.o-x.o-x.o-x.o- xgo-xgo-xgo-xgo-",
            "bass": "..0-..0-..0-..3- 0..0..0.0..0..3. ..00.00...00.03.",
            "piano": "x..x..x.x..x..x. x--.x--.x--.x-x- ..x...x...x...x.",
        },
        scales="minor dorian",
        sevenths=0.7,
        swing=(0.0, 0.12),
        loose_ms=2.0,
        sounds=_ELECTRONIC_KIT | {"bass": "bass_saw bass_square"},
    ),
    "hiphop": Style(
        tempo=(78, 98),
        core="kick snare hats bass epiano pad vox_lead snaps",
        usual="vox_double bells overheads gtr_picked bgv_3 strings cowbell claps lead",
        progressions=f"{_MINOR} {_JAZZY}",
        patterns={
            "kick": "X......x..X..... X..X...x..x..... X.x.......X..x..",
            "snare": "....X.......X... ....X.......X..g",
            "hats": "x.x.x.xxx.x.x.x. x.xxx.x.x.x.xxxx x.x.x.x.x.x.x.o-",
            "bass": "0------0..0----- 0-----..0---2--- 0---------3-2---",
            "epiano": "X-----------x--- X-------.x------ X---------------",
        },
        scales="minor dorian",
        sevenths=0.8,
        swing=(0.08, 0.24),
        sounds=_808_KIT | {"bass": "bass_sub bass_finger"},
    ),
    "ballad": Style(
        tempo=(58, 78),
        core="kick snare hats bass piano strings vox_lead overheads",
        usual="bgv_1+bgv_2 gtr_acoustic toms pad gtr_lead tambourine organ vox_double bells",
        progressions=_POP,
        patterns={
            "kick": "X.........X..... X.......x.X.....",
            "snare": "....X.......X... ........X.......",
            "hats": "x.x.x.x.x.x.x.x. x...x...x...x...",
            "bass": "0-------0-----2- 0-----2-3-----2- 0---------------",
            "piano": "X---x---x---x--- X-x-x-x-X-x-x-x- X-------x---x---",
            "gtr_acoustic": "X-x-x-x-X-x-x-x- X---x-xxX---x-xx",
        },
    ),
    "reggae": Style(
        tempo=(68, 84),
        core="kick snare hats bass gtr_left organ vox_lead shaker",
        usual="clav congas bgv_1+bgv_2 brass overheads toms cowbell gtr_picked",
        progressions=f"{_VAMPS} {_ROCKING}",
        patterns={
            "kick": "........X....... X...X...X...X... ........X.....x.",
            "snare": "........X....... ........X..g..g.",
            "hats": "x.xgx.xgx.xgx.xg x.x.x.x.x.x.x.o-",
            "bass": "0-..0-2-3---2-.. ....0-0-2---0-.. 0---..2-..3-2-0-",
            "gtr": "....x.......x... ....x.m.....x.m. ..x...x...x...x.",
            "organ": "..x.x.x...x.x.x. ....x.......x...",
        },
        swing=(0.06, 0.2),
        scales="major minor mixolydian",
    ),
    "soul": Style(
        tempo=(72, 104),
        core="kick snare hats bass epiano gtr_left vox_lead bgv_3",
        usual="brass organ strings bgv_1+bgv_2+bgv_4 congas tambourine overheads snaps mallets",
        progressions=_JAZZY,
        patterns={
            "kick": "X..x....X..x.... X......xX.x..... X.x.....x.X.....",
            "snare": "....X.......X... ....X..g....X.g. ....X..g.g..X...",
            "hats": "x.x.x.x.x.x.x.x. x.xgx.x.x.xgx.o-",
            "bass": "0---..0-3-2---1- 0-..0-1-2---3-2- 0--0--2-0--0--1-",
            "gtr": "....x.......x... ..x-....x-..m.x. x-..m.x.x-..m.x.",
        },
        sevenths=0.95,
        swing=(0.06, 0.2),
        loose_ms=9.0,
    ),
    "folk": Style(
        tempo=(84, 132),
        core="kick snare shaker bass gtr_acoustic gtr_picked vox_lead bgv_1",
        usual="bgv_2 tambourine piano strings hats mallets organ overheads",
        progressions=f"{_POP} {_ROCKING}",
        patterns={
            "kick": "X.......X....... X...X...X...X...",
            "snare": "....x.......x... ..g.x.g...g.x.gg",
            "hats": "x...x...x...x... ..x...x...x...x.",
            "bass": "0-------2------- 0-----0-2-----2- 0---2---0---2---",
            "gtr_acoustic": "X---x-xxX---x-xx X---x-x---x-x-xx X-x-x-x-X-x-x-x-",
        },
        sevenths=0.1,
        loose_ms=9.0,
        sounds={"bass": "bass_upright bass_finger", "gtr_picked": "guitar_acoustic"},
    ),
    "synthwave": Style(
        tempo=(84, 118),
        core="kick snare hats bass arp pad lead vox_lead",
        usual="toms claps strings brass gtr_lead bells overheads bgv_3+bgv_4 bass_synth",
        progressions=_MINOR,
        patterns={
            "kick": "X...X...X...X... X.......X....... X.....X.X.......",
            "snare": "....X.......X...",
            "hats": "x.x.x.x.x.x.x.x. xgxgxgxgxgxgxgxg ..o-..o-..o-..o-",
            "bass": "0.0.0.0.0.0.0.0. 0000000000000000 0.3.0.3.0.3.0.3.",
        },
        scales="minor harmonic",
        sevenths=0.3,
        loose_ms=1.5,
        sounds=_ELECTRONIC_KIT | {"bass": "bass_saw bass_square", "toms": "toms_electronic"},
    ),
    "dnb": Style(
        tempo=(164, 176),
        core="kick snare hats bass pad vox_lead shaker bass_synth",
        usual="arp overheads bells lead strings congas bgv_3+bgv_4 piano",
        progressions=_MINOR,
        patterns={
            "kick": "X.........X..... X.x.......X..... X.....x...X.....",
            "snare": "....X.......X... ....X..g.g..X..g ....X..g....X.g.",
            "hats": "x.x.x.x.x.x.x.x. xgxgxgxgxgxgxgxg x.xxx.xxx.xxx.xx",
            "bass": "0-----0-..0----- 0-..0---..3-0--- 0-------....2-3-",
        },
        scales="minor harmonic dorian",
        sevenths=0.5,
        loose_ms=2.0,
        sounds=_ELECTRONIC_KIT | {"bass": "bass_saw bass_sub"},
    ),
    "latin": Style(
        tempo=(88, 112),
        core="kick congas shaker cowbell bass piano vox_lead brass",
        usual="hats gtr_acoustic overheads bgv_1+bgv_2 toms claps snare mallets strings",
        progressions=f"{_ROCKING} {_JAZZY}",
        patterns={
            "kick": "X..x..X.X..x..X. X...X...X...X...",
            "snare": "...x..x....x..x. ..x..x....x..x..",
            "hats": "x.x.x.x.x.x.x.x. x.xxx.xxx.xxx.xx",
            "bass": "0--2--3-...2--0- ...2--3-...2--3- 0--0--2-0--0--2-",
            "piano": "x.x..x.x.x.x..x. x..x.x.x..x.x.x. x--x--x-x--x--x-",
            "congas": "g.sgg.oog.sgl.oo s..gs.oos..gs.ol",
        },
        scales="minor major harmonic",
        sevenths=0.5,
        loose_ms=7.0,
        sounds={"bass": "bass_upright bass_finger"},
    ),
}
"""Every style by name."""
