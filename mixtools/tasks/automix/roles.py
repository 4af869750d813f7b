"""What a stem is in a song, and how its name tells; nothing heavy is imported, so that the command line can ask."""

from __future__ import annotations

import re
import unicodedata

ROLES = (
    "kick",
    "snare",
    "toms",
    "hats",
    "cymbals",
    "percussion",
    "drums",
    "bass",
    "guitar",
    "keys",
    "pad",
    "lead",
    "lead_vocal",
    "backing_vocal",
    "effects",
    "other",
)
"""`drums` is a whole kit or a loop of one, `lead` a solo instrument or a lead synth, `effects` are risers, noises and
scratches; `other` is all else."""

VOICES = "lead_vocal", "backing_vocal"
KIT = "kick", "snare", "toms", "hats", "cymbals", "percussion"
"""What a drum kit is made of."""

NAMES = {
    "kick": "kick kik kck kic bd kd bassdrum kickdrum bombo grossecaisse",
    "snare": "snare snr sn sd rim rimshot sidestick caisseclaire tarola redoblante",
    "toms": "tom tomtom rototom floortom",
    "hats": "hat hihat hh hho hhc ohh chh charley charleston",
    "cymbals": "cymbal cym cymb cymbale crash ride china splash gong oh ovh ovhd overhead becken platillo",
    "percussion": "percussion perc perk perkussion percu percusion tambourine tambourin tamb tambo pandereta "
    "shaker shkr maraca conga bongo djembe cajon cabasa guiro timbale timpani timp tabla udu agogo cowbell woodblock "
    "clave castanet triangle vibraslap windchime clap handclap clp snap fingersnap palmas klatschen stomp",
    "drums": "drum drm drumkit drumset drumloop breakbeat schlagzeug batterie bateria",
    "bass": "bass bs basse bajo kontrabass contrabass contrebasse contrabajo reese",
    "guitar": "guitar gtr gt gtar git egtr agtr acgtr elgtr gitarre gitarren guitare guitarra banjo mandolin ukulele "
    "uke dobro sitar",
    "keys": "keys key keyboard kbd piano pno klavier flugel rhodes rhds wurli wurly wurlitzer epiano organ org orgel "
    "orgue hammond clav clavi clavinet harpsichord cembalo clavecin mallet vibe vibraphone marimba xylophone "
    "glockenspiel glock bell celesta harp accordion akkordeon accordeon melodica harmonium mellotron clavier teclado",
    "pad": "pad string strgs streicher cordes cuerdas violins violas cellos celli orchestra orchester orch drone atmo "
    "atmos atmosphere texture",
    "lead": "arp arpeggio arpeggiator pluck brass horn trumpet tpt trp trombone tbn tuba sax saxophone saxofon saxo "
    "flute flote querflote clarinet klarinette clarinette oboe bassoon fagott violin viola cello violoncello fiddle "
    "geige harmonica whistle woodwind flugelhorn cornet blaser blaeser trompete posaune cuivres trompette trompeta "
    "metales theremin",
    "lead_vocal": "vox vocal voc vocals voice vx lv lvox ldvox leadvox leadvocal singer stimme hauptstimme gesang voix "
    "voz rap rapper acapella acappella narration spoken speech dialogue dialog",
    "backing_vocal": "bgv bv bgvox bgvocal bvox bkv bkvox bgvoc bvoc backvox choir chor choeur coro gang "
    "adlib ooh aah ahs",
    "effects": "fx sfx efx effect effekt effekte effet efecto riser uplifter downlifter whoosh swoosh impact foley",
}
"""Words that name a role. Their plurals need not be given."""

HINTS = {
    "toms": "floor rack",
    "percussion": "jingle sleigh chime block stick",
    "drums": "loop beat break kit room groove trommel 909",
    "bass": "sub 808",
    "guitar": "acoustic acou ac ag electric elec eg rhythm rhy strum strat tele nylon akustik acoustique acustica",
    "keys": "synth synthe synthesizer syn syt moog juno prophet minilogue ep leslie wurl stab",
    "pad": "str swell ensemble",
    "lead": "melody melodie melodia hook",
    "lead_vocal": "double dbl male female",
    "backing_vocal": "backing background backup bg harmony harmonie harm tenor alto soprano",
    "effects": "scratch fill noise reverse sweep build buildup drop transition vinyl crackle glitch siren hit boom "
    "crowd soundscape verb reverb delay dly echo sample",
    "other": "click metronome smpte timecode talkback guide",
}
"""Words that tell a role where nothing in the name does so outright: a room is that of the drums, but not a piano's."""

LEADS = "lead ld solo soli"
"""A lead alone is a lead; a guitar's lead is one, too, but a lead guitar is a guitar, and a lead voice a voice."""

PHRASES = {
    "bass drum": "kick",
    "kick drum": "kick",
    "grosse caisse": "kick",
    "grosse trommel": "kick",
    "caisse claire": "snare",
    "kleine trommel": "snare",
    "side stick": "snare",
    "cross stick": "snare",
    "over head": "cymbals",
    "cow bell": "percussion",
    "wood block": "percussion",
    "sleigh bell": "percussion",
    "wind chime": "percussion",
    "finger snap": "percussion",
    "hand clap": "percussion",
    "bass drop": "effects",
    "sound effect": "effects",
    "steel drum": "keys",
    "steel pan": "keys",
    "pedal steel": "guitar",
    "lap steel": "guitar",
    "back vox": "backing_vocal",
    "back vocal": "backing_vocal",
    "back voc": "backing_vocal",
    "vox back": "backing_vocal",
    "vocal back": "backing_vocal",
    "group vox": "backing_vocal",
    "group vocal": "backing_vocal",
    "ad lib": "backing_vocal",
}
"""Pairs of words that mean something else than their last one does."""

BESIDE = (
    "left right lft rgt top bottom bot btm inside outside in out front rear near far close mid side mono stereo high "
    "hi low lo mic mics amp cab di dry wet main alt open closed and und et take tk line pre post verse chorus bridge "
    "intro outro prechorus breakdown upper lower male female"
)
"""Words between others that change nothing."""

_SUFFIX = re.compile(r"\.(?:wave?|w64|rf64|bwf|flac|aif[fc]?|caf|mp[23]|m4a|aac|ac3|ogg|oga|opus|sd2|au|wv)$", re.I)
_RUN = re.compile(r"(?<!\d)(?:808|909)(?!\d)|[^\W\d_]+")
_CAMEL = re.compile(r"[A-Z]{2,}s(?![a-z])|[A-Z]+(?![^A-Z])|[A-Z]?[^A-Z]+")
_SHORTEST_PART = 3
"""Letters of a word in a compound: `bassguitar` is one of two words, `gtrl` is not."""

_LEAD = "a lead"


def _table(lists: dict[str, str]) -> dict[str, str]:
    return {word: role for role, words in lists.items() for word in words.split()}


_NAMES = _table(NAMES) | dict.fromkeys(LEADS.split(), _LEAD)
_HINTS = _table(HINTS)
_BESIDE = set(BESIDE.split())


def role_named(name: str) -> str | None:
    """The role that a stem's file name tells, None where it tells none or, as `pad_bass` does, two that exclude each
    other.

    What stands last counts most, so that a song's title may precede it. Two parts of a kit are `drums`, and anything
    called an effect is one, a vocal effect, too.

    >>> [role_named(name) for name in ("01_Song - Kick In.wav", "bass_gtr.wav", "kick_hats.wav", "snapshot.wav")]
    ['kick', 'bass', 'drums', None]
    """
    runs = _runs(_words(name))
    for run in reversed(runs):
        if any(word in _NAMES for word in run):
            return _settled(run)
    hints = [_HINTS[word] for run in runs for word in run if word in _HINTS]
    return hints[-1] if hints else None


def _words(name: str) -> list[str]:
    """The words of a name as the tables have them: split at all that is no letter and at CamelCase, without accents."""
    plain = unicodedata.normalize("NFKD", _SUFFIX.sub("", name).replace("ß", "ss"))
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    parts = [part.lower() for run in _RUN.findall(plain) for part in _CAMEL.findall(run)]
    return [word for part in parts for word in _parted(_singular(part))]


def _known(word: str) -> bool:
    return word in _NAMES or word in _HINTS or word in _BESIDE


def _singular(word: str) -> str:
    return word if _known(word) or not _known(word.removesuffix("s")) else word.removesuffix("s")


def _parted(word: str) -> list[str]:
    """A compound of two words that are known, one of them a role's name; any other word is itself."""
    if not _known(word):
        for at in range(_SHORTEST_PART, len(word) - _SHORTEST_PART + 1):
            parts = [_singular(word[:at]), _singular(word[at:])]
            if all(map(_known, parts)) and any(part in _NAMES for part in parts):
                return parts
    return [word]


def _runs(words: list[str]) -> list[list[str]]:
    """Words that stand together with nothing unknown between them; a pair that is a phrase becomes its role's name."""
    runs: list[list[str]] = [[]]
    for word in words:
        pair = PHRASES.get(" ".join([*runs[-1][-1:], word]))
        if pair:
            runs[-1][-1] = _name_of(pair)
        elif _known(word) or len(word) == 1 or any(phrase.startswith(f"{word} ") for phrase in PHRASES):
            runs[-1].append(word)
        else:
            runs.append([])
    return runs


def _name_of(role: str) -> str:
    return NAMES[role].split()[0]


def _settled(run: list[str]) -> str | None:
    """The role of words of which one at least is a role's name."""
    named = [_NAMES[word] for word in run if word in _NAMES]
    hinted = {_HINTS[word] for word in run if word in _HINTS}
    roles = [role for role in named if role != _LEAD]
    if not roles:
        return "lead"
    last, both = roles[-1], set(roles[-2:])
    if "effects" in roles:
        return "effects"
    if last in VOICES or (last == "cymbals" and both & set(VOICES)):
        behind = last == "cymbals" or {"backing_vocal", "bass"} & {*roles, *hinted}
        return "backing_vocal" if behind else "lead_vocal"
    if last in (*KIT, "drums"):
        parts = {role for role in roles if role in KIT}
        parts = parts - {"percussion"} or parts
        return parts.pop() if len(parts) == 1 else "drums"
    if roles[-2:] == ["pad", "bass"]:
        return None
    if both == {"bass", "guitar"}:
        return "bass"
    return "lead" if last in ("guitar", "keys", "pad") and named[-1] == _LEAD else last
