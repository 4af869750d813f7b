"""Mix files: read strictly, written for people, rewritten without losing what they wrote."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixtools.controls import CHANNELS, EFFECTS, SEND, Curve
from mixtools.errors import ParameterError
from mixtools.files.mixfile import format_mix, parse_mix, read_mix, write_mix
from mixtools.mix import Bus, Insert, Master, Mix, Track

COMMENTED = """\
mixtools: 1                     # format version
sample_rate: 44100
tracks:
  - file: kick.wav              # relative to the stems folder
    channel: both               # or left, right, mid, side
    offset_ms: 0
    mute: false                 # and solo: true
    output: drums
    chain:                      # in this order
      - gain: {gain_db: -3.2}
      # warm
      - parametric_eq: {low_shelf_freq_hz: 70, low_shelf_gain_db: 2.5}
      - compressor: {threshold_db: -18, ratio: 4, attack_ms: 8, release_ms: 1.2e2}
      - pan: {pan: [[0, 0.5], [1e-3, 0.7]]}
    sends: {room: -14}          # dB, after the chain
  - file: no
buses:
  drums:
    chain: [{compressor: {threshold_db: -12, ratio: 2}}]
  room:
    chain:
      - convolution: {ir: mix.room.wav}   # relative to the mix file
master:
  chain:
    - parametric_eq: {high_shelf_gain_db: 1.0}
    - limiter: {ceiling_db: -1}
"""

MIX = Mix(
    [
        Track(
            "kick.wav",
            output="drums",
            chain=[
                Insert("gain", {"gain_db": -3.2}),
                Insert("parametric_eq", {"low_shelf_freq_hz": 70.0, "low_shelf_gain_db": 2.5}),
                Insert("compressor", {"threshold_db": -18.0, "ratio": 4.0, "attack_ms": 8.0, "release_ms": 120.0}),
                Insert("pan", {"pan": Curve(((0.0, 0.5), (0.001, 0.7)))}),
            ],
            sends={"room": -14.0},
        ),
        Track("no"),
    ],
    {
        "drums": Bus(chain=[Insert("compressor", {"threshold_db": -12.0, "ratio": 2.0})]),
        "room": Bus(chain=[Insert("convolution", {"ir": "mix.room.wav"})]),
    },
    Master([Insert("parametric_eq", {"high_shelf_gain_db": 1.0}), Insert("limiter", {"ceiling_db": -1.0})]),
    44100,
)


def test_what_a_person_writes_is_what_is_read():
    assert parse_mix(COMMENTED, "mix.yaml") == MIX


def test_the_written_form():
    assert (
        format_mix(MIX)
        == """\
mixtools: 1
sample_rate: 44100
tracks:
  - file: kick.wav
    output: drums
    chain:
      - gain: {gain_db: -3.2}
      - parametric_eq: {low_shelf_freq_hz: 70, low_shelf_gain_db: 2.5}
      - compressor: {threshold_db: -18, ratio: 4, attack_ms: 8, release_ms: 120}
      - pan: {pan: [[0, 0.5], [0.001, 0.7]]}
    sends: {room: -14}
  - file: no
buses:
  drums:
    chain:
      - compressor: {threshold_db: -12, ratio: 2}
  room:
    chain:
      - convolution: {ir: mix.room.wav}
master:
  chain:
    - parametric_eq: {high_shelf_gain_db: 1}
    - limiter: {ceiling_db: -1}
"""
    )


def test_rewriting_what_did_not_change_changes_nothing():
    text = format_mix(MIX)
    assert format_mix(MIX, text) == text


def test_rewriting_keeps_comments_order_and_spelling():
    mix = parse_mix(COMMENTED, "mix.yaml")
    mix.tracks[0].chain[2].controls["ratio"] = 3.5
    mix.tracks[0].sends["room"] = -9.25
    mix.tracks[0].chain.insert(0, Insert("saturation", {"drive_db": 3.0}))
    mix.master.chain.pop()
    del mix.tracks[1]
    again = format_mix(mix, COMMENTED)
    assert parse_mix(again, "again") == mix
    for kept in ("# format version", "# relative to the stems folder", "channel: both               # or left",
                 "mute: false                 # and solo", "# in this order", "release_ms: 1.2e2",
                 "# dB, after the chain", "# relative to the mix file"):  # fmt: skip
        assert kept in again


def number(control) -> st.SearchStrategy:
    plain = st.floats(control.low, control.high, allow_nan=False)
    if not control.automatable:
        return plain
    times = st.lists(st.floats(0, 1e4), min_size=1, max_size=4, unique=True).map(sorted)
    curves = times.flatmap(
        lambda t: st.lists(plain, min_size=len(t), max_size=len(t)).map(lambda v: Curve(tuple(zip(t, v, strict=True))))
    )
    return plain | curves


def value(control) -> st.SearchStrategy:
    return {
        "number": lambda: number(control),
        "switch": st.booleans,
        "choice": lambda: st.sampled_from(control.choices),
        "whole": lambda: st.integers(int(control.low), int(control.high)),
        "file": lambda: words,
        "settings": lambda: st.dictionaries(words, words | st.floats(-1e6, 1e6), max_size=3),
    }[control.kind]()


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(
    lambda word: word.strip() and word != "master"
)


@st.composite
def inserts(draw) -> Insert:
    effect = EFFECTS[draw(st.sampled_from(sorted(EFFECTS)))]
    names = draw(st.lists(st.sampled_from(effect.names), unique=True, max_size=4))
    names += [c.name for c in effect.controls if c.default is None and c.name not in names]
    return Insert(effect.name, {name: draw(value(effect[name])) for name in names})


@st.composite
def mixes(draw) -> Mix:
    chains = st.lists(inserts(), max_size=3)
    names = draw(st.lists(words, max_size=3, unique=True))
    sends = st.dictionaries(st.sampled_from(names), number(SEND), max_size=2) if names else st.just({})
    buses = {name: Bus(mute=draw(st.booleans()), chain=draw(chains)) for name in names}
    tracks = [
        Track(
            f"{i}{draw(words)}",
            channel=draw(st.sampled_from(CHANNELS)),
            offset_ms=draw(st.floats(-1000, 1000)),
            mute=draw(st.booleans()),
            solo=draw(st.booleans()),
            output=draw(st.sampled_from(["master", *names])),
            chain=draw(chains),
            sends=draw(sends),
        )
        for i in range(draw(st.integers(1, 3)))
    ]
    return Mix(tracks, buses, Master(draw(chains)), draw(st.none() | st.integers(8000, 192000)))


@settings(max_examples=150, deadline=None)
@given(mixes())
def test_round_trip_without_loss(mix):
    text = format_mix(mix)
    assert parse_mix(text, "x") == mix.check() == mix
    assert format_mix(mix, text) == text


@settings(max_examples=60, deadline=None)
@given(mixes(), mixes())
def test_rewriting_one_mix_as_another(old, new):
    assert parse_mix(format_mix(new, format_mix(old)), "x") == new


def test_made_and_report_sections_are_kept():
    text = "mixtools: 1\ntracks:\n  - file: a.wav\nmade: {by: me, loss: [3.5, 1.25]}\nreport: {residual_db: -41.5}\n"
    mix = parse_mix(text, "x")
    assert mix.notes == {"made": {"by": "me", "loss": [3.5, 1.25]}, "report": {"residual_db": -41.5}}
    assert parse_mix(format_mix(mix), "x") == mix


HEAD = "mixtools: 1\ntracks:\n  - file: a.wav\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "the document is empty; give a mapping with mixtools: 1 and tracks"),
        ("- 1", "the document is a list; give a mapping with mixtools: 1 and tracks"),
        ("tracks: []", "mixtools is missing; give mixtools: 1, the format version"),
        ("mixtools: 2", "mixtools is 2; give 1, the format version"),
        ("mixtools: true", "mixtools is true; give 1, the format version"),
        ("mixtools: 1", "tracks is empty; give at least one {file: NAME}"),
        ("mixtools: 1\ntracks: [{chain: []}]", "tracks[0].file is missing; give the name of a stem"),
        ("mixtools: 1\ntracks: [{file: 3}]", "tracks[0].file is 3; give the name of a stem"),
        ("mixtools: 1\ntrack: []", "track is not known; did you mean tracks?"),
        (HEAD + "    mute: no\n", "tracks[0].mute is no; give true or false"),
        (HEAD + "    channel: centre\n", "tracks[0].channel is centre; give one of both, left, right, mid, side"),
        (HEAD + "    offset_ms: .inf\n", "tracks[0].offset_ms is inf; give -3600000 to 3600000"),
        (HEAD + "    output: drum\nbuses: {drums: {}}\n", "tracks[0].output is drum; give drums"),
        (HEAD + "    sends: {romo: -3}\nbuses: {room: {}}\n", "tracks[0].sends.romo is not a bus; give room"),
        (HEAD + "    sends: {room: -3}\n", "tracks[0].sends.room is not a bus; give a bus under buses"),
        (HEAD + "    sends: {room: 30}\nbuses: {room: {}}\n", "tracks[0].sends.room is 30; give -96 to 24"),
        (HEAD + "    chain: {gain: {}}\n", "tracks[0].chain is a mapping; give a list of effects"),
        (HEAD + "    chain: [gian: {}]\n", "tracks[0].chain[0].gian is not known; did you mean gain?"),
        (HEAD + "    chain: [{gain: {}, pan: {}}]\n",
         "tracks[0].chain[0] has 2 effects; give one, each behind its own dash"),
        (HEAD + "    chain: [gain: {gain: 3}]\n", "tracks[0].chain[0].gain.gain is not known; did you mean gain_db?"),
        (HEAD + "    chain: [gain: {gain_db: loud}]\n", "tracks[0].chain[0].gain.gain_db is loud; give -96 to 48"),
        (HEAD + "    chain: [gain: {gain_db: .nan}]\n", "tracks[0].chain[0].gain.gain_db is nan; give -96 to 48"),
        (HEAD + "    chain: [gain: {gain_db: '3'}]\n", 
         "tracks[0].chain[0].gain.gain_db is the text '3' (in quotes); give -96 to 48"),
        (HEAD + "    chain: [gain: {gain_db: true}]\n", "tracks[0].chain[0].gain.gain_db is true; give -96 to 48"),
        (HEAD + "    chain: [convolution: {}]\n", "tracks[0].chain[0].convolution.ir is missing; give a file"),
        (HEAD + "    chain: [pan: {pan: [0, 1]}]\n",
         "tracks[0].chain[0].pan.pan[0] is 0; give a pair [seconds, value]"),
        (HEAD + "    chain: [pan: {pan: []}]\n",
         "tracks[0].chain[0].pan.pan is an empty list; give 0 to 1, or [[seconds, value], ...]"),
        (HEAD + "    chain: [pan: {pan: [[1, 0], [1, 1]]}]\n",
         "tracks[0].chain[0].pan.pan[1][0] is 1; give a time after 1, the one before"),
        (HEAD + "    chain: [pan: {pan: [[0, 2]]}]\n", "tracks[0].chain[0].pan.pan[0][1] is 2; give 0 to 1"),
        (HEAD + "    chain: [delay: {time_ms: [[0, 2]]}]\n",
         "tracks[0].chain[0].delay.time_ms is a list; it cannot be automated, give one value"),
        (HEAD + "  - file: a.wav\n",
         "tracks[1] repeats tracks[0] (a.wav); remove one, or give them different channels or chains"),
        (HEAD + "buses: {a: {output: b}, b: {sends: {a: 0}}}\n",
         "buses.a feeds itself: a -> b -> a; remove a send or change an output on the way"),
        (HEAD + "buses: {a: {sends: {a: 0}}}\n",
         "buses.a feeds itself: a -> a; remove a send or change an output on the way"),
        (HEAD + "buses: {master: {}}\n", "buses has the name master; give a word other than master"),
        (HEAD + "sample_rate: 100\n", "sample_rate is 100; give 8000 to 192000"),
        (HEAD + "sample_rate: 44100.5\n", "sample_rate is 44100.5; give a whole number, 8000 to 192000"),
        (HEAD + "mixtools: 1\n", "line 4, column 1: mixtools is there twice; keep one"),
        ("a: &x [1]\nb: *x", "line 1, column 4: anchors and aliases are not taken (*x); write the value out"),
        ("a: !!python/object/apply:os.system [id]",
         "line 1, column 4: tags are not taken (tag:yaml.org,2002:python/object/apply:os.system); leave it out"),
        ("a: [", "line 1, column 5: expected the node content, but found '<stream end>'; mend the YAML there"),
        ("[" * 200, "line 1, column 22: nested deeper than 20 levels; give a mix file"),
        ("%YAML 1.1\n---\n" + HEAD + "    mute: yes\n",
         "line 2, column 1: the %YAML directive asks for another version; leave it out"),
        (HEAD + "---\n" + HEAD, "line 4, column 1: a second document begins; give one mix to a file"),
    ],
)  # fmt: skip
def test_errors_say_where_what_and_what_instead(text, line):
    with pytest.raises(ParameterError) as caught:
        parse_mix(text, "vocal.yaml")
    assert str(caught.value) == f"vocal.yaml: {line}"


def test_the_example_of_an_error_line():
    text = "mixtools: 1\ntracks:\n" + "  - file: a.wav\n" * 1 + "  - file: b.wav\n  - file: c.wav\n    chain:\n"
    text += "      - gain: {}\n      - compressor: {attack_ms: 300}\n"
    with pytest.raises(ParameterError) as caught:
        parse_mix(text, "vocal.yaml")
    assert str(caught.value) == "vocal.yaml: tracks[2].chain[1].compressor.attack_ms is 300; give 0.03 to 250"


def test_read_and_write(tmp_path):
    path = tmp_path / "mix.yaml"
    path.write_text(COMMENTED)
    mix = read_mix(path)
    with pytest.raises(ParameterError, match="exists; give --force"):
        write_mix(mix, path)
    mix.sample_rate = 48000
    write_mix(mix, path, force=True)
    assert path.read_text() == COMMENTED.replace("44100", "48000")


def test_unreadable_mix_files(tmp_path):
    with pytest.raises(ParameterError, match=r"is not there; give a mix file$"):
        read_mix(tmp_path / "absent.yaml")
    with pytest.raises(ParameterError, match=r"is a folder; give a mix file$"):
        read_mix(tmp_path)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("mixtools: 1 # f\xfcr".encode("latin-1"))
    with pytest.raises(ParameterError, match=r"is not UTF-8 text \(byte 15\); give a mix file$"):
        read_mix(latin)
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (16 * 2**20 + 1))
    with pytest.raises(ParameterError, match=r"is larger than 16 MiB; give a mix file$"):
        read_mix(large)
