"""The song synthesiser: the same seed gives the same song, and songs look like songs."""

from __future__ import annotations

import numpy as np
import pytest

from mixtools.controls import Curve
from mixtools.errors import ParameterError
from mixtools.synth import STYLES, finished_mix, synth_song
from mixtools.synth.instruments import SOUNDS
from mixtools.synth.mixing import EFFECT_CHOICES
from mixtools.synth.score import Note

FRAME_S = 0.05

CREST_DB = {
    "kick": (12, 20),
    "snare": (16, 26),
    "hats": (16, 28),
    "cymbals": (16, 28),
    "toms": (14, 25),
    "percussion": (14, 27),
    "bass": (5, 18),
    "pad": (6, 15),
    "lead_vocal": (9, 19),
}

BANDS_HZ = {
    "kick": (40, 100, 0.4),
    "snare": (100, 12000, 0.85),
    "hats": (6000, 22050, 0.8),
    "cymbals": (2000, 22050, 0.8),
    "bass": (40, 300, 0.6),
    "guitar": (80, 6000, 0.8),
    "lead_vocal": (300, 3500, 0.8),
}
"""Where most of a role's energy is, and how much of it at least."""


@pytest.fixture(scope="module")
def songs():
    return [synth_song(seed, 14.0, stems=24) for seed in (1, 2, 3)]


def stems_of(songs):
    return [(song, name, audio) for song in songs for name, audio in song.stems.items()]


def energies(audio, rate):
    """The mean square of every frame, (frames,)."""
    frame = round(FRAME_S * rate)
    whole = audio[:, : audio.shape[1] // frame * frame]
    return np.mean(np.square(whole, dtype=np.float64).reshape(len(audio), -1, frame), axis=(0, 2))


def crest_db(audio, rate):
    """Peak over RMS of the frames within 60 dB of the peak."""
    peak = np.max(np.abs(audio))
    frames = energies(audio, rate)
    return 20 * np.log10(peak) - 10 * np.log10(np.mean(frames[frames > 1e-6 * peak**2]))


def share(audio, rate, low_hz, high_hz):
    """The part of the energy between two frequencies."""
    power = np.sum(np.abs(np.fft.rfft(audio)) ** 2, axis=0)
    frequencies = np.fft.rfftfreq(audio.shape[1], 1 / rate)
    return power[(frequencies >= low_hz) & (frequencies < high_hz)].sum() / power.sum()


def same(song, other):
    return song.stems.keys() == other.stems.keys() and all(
        np.array_equal(audio, other.stems[name]) for name, audio in song.stems.items()
    )


@pytest.mark.parametrize("settings", [{"seconds": 3.0}, {"seconds": 9.0, "stems": 8}, {"seconds": 2.0, "stems": 24}])
def test_the_same_seed_gives_the_same_bits(settings):
    assert same(synth_song(5, **settings), synth_song(5, **settings))


def test_a_stem_is_the_same_however_many_others_play():
    few, many = synth_song(6, 4.0, stems=8), synth_song(6, 4.0, stems=15)
    assert few.stems.keys() < many.stems.keys()
    assert all(np.array_equal(audio, many.stems[name]) for name, audio in few.stems.items())


def test_other_seeds_are_other_songs():
    songs = [synth_song(seed, 0.5, rate=8000) for seed in range(24)]
    assert len({song.style for song in songs}) >= 6
    assert len({song.tempo for song in songs}) >= 12
    assert len({song.key for song in songs}) >= 8
    assert len({len(song.stems) for song in songs}) >= 8
    assert len({frozenset(song.stems) for song in songs}) >= 20
    assert len({song.stems["kick.wav"].tobytes() for song in songs}) == len(songs)


@pytest.mark.parametrize("stems", [8, 13, 24])
def test_stems_are_as_many_as_asked_for_and_in_order(stems):
    song = synth_song(7, 1.0, stems=stems)
    assert len(song.stems) == stems
    assert list(song.stems) == sorted(song.stems)
    assert song.roles.keys() == song.stems.keys()
    assert {"kick.wav", "bass.wav", "vox_lead.wav"} <= song.stems.keys()


def test_the_name_says_what_the_song_is():
    song = synth_song(7, 1.0)
    assert song.name == f"{song.style}-{song.tempo:.0f}bpm-{song.key}-0007"


@pytest.mark.parametrize("style", STYLES)
def test_every_style_plays(style):
    song = synth_song(8, 2.0, rate=22050, stems=24, style=style)
    assert song.style == style
    assert all(np.max(np.abs(audio)) > 0.1 for audio in song.stems.values())


@pytest.mark.parametrize("rate", [8000, 48000, 96000])
def test_every_rate_and_short_songs_work(rate):
    song = synth_song(9, 1.0, rate=rate, stems=24)
    for audio in song.stems.values():
        assert audio.shape[1] == rate
        assert np.isfinite(audio).all()
        assert np.max(np.abs(audio)) > 0.1


def test_shorter_than_a_sample_still_has_one():
    song = synth_song(9, 1e-6)
    assert all(audio.shape[1] == 1 and np.isfinite(audio).all() for audio in song.stems.values())


def test_stems_are_recorded_like_stems(songs):
    for song, name, audio in stems_of(songs):
        assert audio.dtype == np.float32
        assert audio.shape in ((1, 14 * 44100), (2, 14 * 44100))
        assert np.isfinite(audio).all()
        assert -18.01 < 20 * np.log10(np.max(np.abs(audio))) < -2.99, (song.name, name)
        assert np.abs(np.mean(audio)) < 0.01 * np.max(np.abs(audio)), (song.name, name)
    assert len({round(float(np.max(np.abs(audio))), 4) for _, _, audio in stems_of(songs)}) > 60


def test_some_stems_are_mono_and_some_are_wide(songs):
    for song in songs:
        channels = {name: len(audio) for name, audio in song.stems.items()}
        assert channels["kick.wav"] == channels["bass.wav"] == channels["vox_lead.wav"] == 1
        wide = [audio for audio in song.stems.values() if len(audio) == 2]
        assert len(wide) >= 5
        assert all(not np.array_equal(left, right) for left, right in wide)


def test_crest_factors_suit_the_instruments(songs):
    for song, name, audio in stems_of(songs):
        if song.roles[name] in CREST_DB:
            low, high = CREST_DB[song.roles[name]]
            assert low < crest_db(audio, song.rate) < high, (song.name, name)


def test_spectra_look_like_the_instruments(songs):
    for song, name, audio in stems_of(songs):
        if song.roles[name] in BANDS_HZ:
            low, high, least = BANDS_HZ[song.roles[name]]
            assert share(audio, song.rate, low, high) > least, (song.name, name)


def test_instruments_rest_and_play(songs):
    for song in songs:
        bar = 240 / song.tempo
        playing = {
            name: energies(audio, song.rate) > 1e-6 * np.max(np.abs(audio)) ** 2 for name, audio in song.stems.items()
        }
        resting = [name for name, frames in playing.items() if longest_rest(frames) * FRAME_S > bar]
        assert 3 <= len(resting) < len(playing)
        assert np.min(np.sum(list(playing.values()), axis=0)[: round(10 / FRAME_S)]) >= 1
        names = [section for _, section in song.sections]
        assert "chorus" in names
        assert song.sections[0][0] == 0.0
        assert all(start < later for (start, _), (later, _) in zip(song.sections, song.sections[1:], strict=False))


def longest_rest(playing):
    return max(len(rest) for rest in "".join(".x"[bool(frame)] for frame in playing).split("x"))


def test_doubled_guitars_play_together_but_are_not_copies():
    song = synth_song(2, 8.0, style="rock")
    left, right = song.stems["gtr_left.wav"][0], song.stems["gtr_right.wav"][0]
    loudness = [np.sqrt(energies(side[np.newaxis], song.rate)) for side in (left, right)]
    assert np.corrcoef(loudness)[0, 1] > 0.7
    assert np.abs(np.corrcoef(left, right)[0, 1]) < 0.5


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"seed": -1}, "seed is -1; give a whole number, 0 or above"),
        ({"seed": 0.5}, "seed is 0.5; give a whole number, 0 or above"),
        ({"seconds": 0}, "seconds is 0; give more than 0, at most 3600"),
        ({"seconds": float("nan")}, "seconds is nan; give more than 0, at most 3600"),
        ({"seconds": float("inf")}, "seconds is inf; give more than 0, at most 3600"),
        ({"seconds": 3601}, "seconds is 3601; give more than 0, at most 3600"),
        ({"stems": 7}, "stems is 7; give a whole number, 8 to 24"),
        ({"stems": 25}, "stems is 25; give a whole number, 8 to 24"),
        ({"style": "raggae"}, "style is raggae; give reggae"),
        ({"rate": 7999}, "rate is 7999; give 8000 to 192000"),
        ({"rate": 44100.5}, "rate is 44100.5; give a whole number, 8000 to 192000"),
    ],
)
def test_bad_arguments_are_told_what_to_give(settings, line):
    with pytest.raises(ParameterError) as error:
        synth_song(**({"seed": 0, "seconds": 1.0} | settings))
    assert str(error.value) == line


def effects_in(mix):
    return {insert.effect for _, insert in mix.inserts()}


def test_a_finished_mix_uses_every_effect_it_may(songs):
    for song in songs:
        mix = finished_mix(song, effects=EFFECT_CHOICES)
        assert mix.check() == mix
        assert [track.file for track in mix.tracks] == list(song.stems)
        assert mix.sample_rate == song.rate
        assert effects_in(mix) == {"gain", "pan", "parametric_eq", "delay", "reverb", "compressor", "limiter"}
        assert mix.buses.keys() == {"room", "echo"}


@pytest.mark.parametrize(
    ("effects", "expected"),
    [
        ((), set()),
        (("gain",), {"gain"}),
        (("gain", "pan"), {"gain", "pan"}),
        (("eq",), {"parametric_eq"}),
        (("reverb",), {"reverb"}),
        (("delay",), {"delay"}),
        (("dynamics",), {"parametric_eq", "compressor", "limiter"}),
    ],
)
def test_a_finished_mix_uses_only_what_it_may(songs, effects, expected):
    assert effects_in(finished_mix(songs[0], effects=effects)) == expected


def test_a_finished_mix_is_seeded_moderate_and_centred(songs):
    song = songs[1]
    mix = finished_mix(song)
    assert finished_mix(song) == mix
    assert finished_mix(song, seed=99) != mix
    for track in mix.tracks:
        controls = {insert.effect: insert.controls for insert in track.chain}
        assert abs(controls["gain"]["gain_db"]) <= 24
        assert controls["pan"]["law"] == "linear"
        if song.roles[track.file] in ("kick", "snare", "bass", "lead_vocal"):
            assert controls["pan"]["pan"] == 0.5
    places = {track.file: track.chain[-1].controls["pan"] for track in mix.tracks}
    assert places["gtr_left.wav"] < 0.45 < 0.55 < places["gtr_right.wav"]
    reverb = mix.buses["room"].chain[0].settings
    assert max(reverb[f"band{band}_decay_s"] for band in range(1, 13)) * 50 / 60 < 1.0


def test_automation_rides_the_faders(songs):
    mix = finished_mix(songs[0], automation=True)
    assert all(isinstance(track.chain[0].controls["gain_db"], Curve) for track in mix.tracks)
    assert mix.check() == mix


def test_a_finished_mix_fits_a_low_rate():
    finished_mix(synth_song(3, 1.0, rate=8000), effects=EFFECT_CHOICES)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"effects": ("gain", "revreb")}, "effects holds revreb; give reverb"),
        ({"effects": ("eq",), "automation": True}, "effects is eq; give gain too, which automation rides"),
        (
            {"law": "cubic"},
            "tracks[0].chain[2].pan.law is cubic; give one of balance, linear, constant_power, compromise",
        ),
    ],
)
def test_bad_mix_arguments_are_told_what_to_give(songs, settings, line):
    with pytest.raises(ParameterError) as error:
        finished_mix(songs[0], **settings)
    assert str(error.value) == line


@pytest.mark.parametrize("rate", [8000, 44100])
@pytest.mark.parametrize("sound", ["arp_square", "bass_saw", "bass_sub"])
def test_tones_do_not_alias(sound, rate):
    note = Note(0.0, 1.5, 1.0, pitches=(81,))
    tone = SOUNDS[sound].perform([note], round(1.5 * rate), np.random.default_rng(0), rate)[0]
    steady = tone[round(0.3 * rate) : round(1.3 * rate)] * np.blackman(rate)
    power = np.abs(np.fft.rfft(steady)) ** 2
    distance = np.abs((np.arange(len(power)) + 440.0) % 880.0 - 440.0)
    assert power[distance > 60].sum() < 1e-6 * power.sum()
