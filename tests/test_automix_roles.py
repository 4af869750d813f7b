"""Roles: what a name tells, what is measured of a stem, and what a stem sounds like."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mixtools.measure.loudness import LoudnessMeter
from mixtools.synth import synth_song
from mixtools.synth.styles import PARTS
from mixtools.tasks.automix import roles as names
from mixtools.tasks.automix.hearing import BANDS_HZ, Sound, listen
from mixtools.tasks.automix.recognition import BY_SOUND, GIVEN, KINDS, NAMED, NOT_RECOGNISED, recognised, roles_of
from mixtools.tasks.automix.roles import ROLES, VOICES, role_named
from mixtools.tasks.recordings import ArrayRecording

RATE = 44100
AUDIO = Path(os.environ.get("MIXTOOLS_AUDIO", "/nowhere"))

NAMED_BY_PEOPLE = {
    "kick": "kick.wav|bass_drum.wav|Kick In.wav|KickOut.wav|Kick Sub.wav|BD_01.wav|kik.aif|808 Kick.wav|Kick 808.flac"
    "|01_Artist - Song - Kick In.wav|Bass Culture - 03 - Kick.wav|Grosse Caisse.wav|Kick Click.wav|Drums_Kick.wav",
    "snare": "Snare Top.wav|SnareBottom.wav|SN.wav|sd_2.wav|Snare Room.wav|caisse-claire.wav|Rim Shot.wav"
    "|Kick the Habit - Snare.wav|Snare Clap.wav",
    "toms": "Hi Tom.wav|Floor Tom.wav|FloorTom L.wav|Toms.wav|Rack 1.wav|Tom Fill.wav",
    "hats": "Hi Hat.wav|HiHat.wav|hi-hat_02.wav|HH.wav|alt_hats.flac|open_hats.flac|hats.wav",
    "cymbals": "OH L.wav|Overheads.wav|Over Head R.wav|Crash.wav|Ride.wav|Becken.wav|Drums OH.wav|cymbales.wav",
    "percussion": "Tamb.wav|Shaker 2.wav|congas.wav|Cow Bell.wav|Claps.wav|Perc Loop.wav|finger snaps.wav"
    "|Sleigh Bells.wav",
    "drums": "kick_hats.wav|break.wav|breakbeat.wav|big_beat.wav|scratch_beat.wav|trap_beat.wav|Drum Room.wav|Room.wav"
    "|Drums.wav|Schlagzeug.wav|batterie.wav|Loop 90bpm.wav|MusicDelta_Rock_Drums.wav|Synth Drums.wav",
    "bass": "bass.wav|bass_gtr.wav|bassguitar.wav|Synth Bass.wav|DIBass.wav|Bass DI.wav|808.wav|Sub.wav|Bässe.wav"
    "|Kontrabass.wav|Double Bass.wav|Bass Solo.wav|bajo.wav|Bass Amp (SM57).wav",
    "guitar": "lead_gtr.wav|leadguitar.flac|EGtr2.wav|AC 1.wav|eg_L.wav|Acoustic Gtr.wav|Gitarren.wav|Guitarra.wav"
    "|GTR DBL.wav|Electric.wav|Guitar Loop.wav|Scratch Guitar.wav|Baritone Guitar.wav",
    "keys": "Room Mic Piano.wav|pno.wav|Rhodes.wav|Electric Piano.wav|EPiano.wav|Organ.wav|clav.flac|Keys L.wav"
    "|minilogue_synth.flac|Wurli.wav|Bells.wav|Klavier.wav|Vibes.wav",
    "pad": "Strings.wav|Pad.wav|SynthPad.wav|Choir Pad.wav|Synth Strings.wav|Streicher.wav|Violins.wav|Bass Pad.wav",
    "lead": "lead.wav|Synth Lead.wav|Lead Synth.wav|String Solo.wav|gtr_lead.wav|GuitarSolo.wav|horns.flac"
    "|Tenor Sax.wav|Brass.wav|Flöte.wav|arp.wav|Bass Trombone.wav|Violin.wav|Lead.wav",
    "lead_vocal": "vox_lead.flac|Lead Vox.wav|LeadVocal_03.wav|LV.wav|Vocals.wav|vox_double.wav|Dbl.wav|Vocal Room.wav"
    "|Gesang.wav|Voix.wav|voz.wav|Scratch Vox.wav|Guide Vocal.wav|Main Vox Chorus.wav",
    "backing_vocal": "bgvox_alt_outro.flac|bgvox_bop.flac|BGVs.wav|BV 1.wav|bgv_3.wav|Choir.wav|Gang.wav"
    "|Vox Harmony.wav|Backing Vocals L.wav|backingvox.wav|Back Vox.wav|Lead Vox Harmony.wav|Chor.wav|Vox Oohs.wav"
    "|Vox OH.wav",
    "effects": "fill_scratch.flac|microcosm_effect.flac|Vocal FX.wav|SFX.wav|Riser 2.wav|build.flac|Sub Drop.wav"
    "|Noise.wav|Bass Drop.wav|White Noise Sweep.wav",
    "other": "Click.wav|metronome.wav|SMPTE.wav",
}

NAMELESS = (
    "audio_07.wav|track 3.wav|Bounce|snapshot.wav|sabbath.wav|Padding.wav|keyhole.wav|combat.wav|stage.wav"
    "|pad_bass.flac|sine.flac|Mix.wav|master 24bit.wav|.wav||12345.wav|Snowstorm.wav|Subway.wav|Foxes.wav|Breakout.wav"
)


def test_names_that_people_give_are_understood():
    for role, texts in NAMED_BY_PEOPLE.items():
        for name in texts.split("|"):
            assert role_named(name) == role, name


@pytest.mark.parametrize("name", NAMELESS.split("|"))
def test_names_that_tell_nothing_are_none(name):
    assert role_named(name) is None


def test_every_stem_of_the_synthesiser_is_known_by_name():
    assert {part.role for part in PARTS.values()} <= set(ROLES)
    for name, part in PARTS.items():
        assert role_named(f"{name}.wav") == part.role, name


def test_words_stand_in_one_table_only_and_name_roles():
    for tables in ([names.NAMES, names.HINTS],):
        words = [word for table in tables for text in table.values() for word in text.split()]
        assert len(words) == len(set(words))
        assert all(word == names._words(word)[0] for word in words if word.isalpha()), "a plural, or not plain"
    assert {*names.NAMES, *names.HINTS, *names.PHRASES.values()} <= set(ROLES)


def test_names_are_understood_without_anything_heavy():
    code = (
        "import sys\nfrom mixtools.tasks.automix.roles import role_named\nrole_named('Kick.wav')\n"
        "assert not {'numpy', 'torch', 'scipy', 'numba'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def heard(x: np.ndarray, rate: int = RATE, ranges=None) -> Sound:
    x = np.atleast_2d(np.asarray(x, np.float32))
    return listen({"x": ArrayRecording(x)}, rate, ranges or [(0, x.shape[1])])["x"]


def tone(hz: float, seconds: float = 2.0, rate: int = RATE, level: float = 0.5) -> np.ndarray:
    return level * np.sin(2.0 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize("rate", [8000, 24000, 44100, 192000])
@pytest.mark.parametrize("hz", [63.0, 1000.0, 3150.0])
def test_a_tone_is_measured_as_it_is(rate, hz):
    sound = heard(tone(hz, rate=rate), rate)
    assert BANDS_HZ[np.argmax(sound.powers)] == hz
    assert sound.powers.sum() == pytest.approx(0.125, rel=0.02)
    assert sound.rms_db == pytest.approx(-9.03, abs=0.05) and sound.peak_db == pytest.approx(-6.02, abs=0.3)
    assert sound.crest_db == pytest.approx(3.01, abs=0.3)
    assert sound.envelope.sum() == pytest.approx(0.125 * 2 * rate, rel=0.01) and len(sound.envelope) == 20
    assert not sound.powers[0.45 * rate < BANDS_HZ].any()
    assert sound.character.glide_cents < 1.0 and sound.character.held == 1.0
    assert sound.character.centre_oct == pytest.approx(np.log2(hz / 1000.0), abs=0.1)
    assert hz > 1000.0 or sound.character.clarity > 0.9


def test_a_mono_stem_is_as_loud_as_from_both_loudspeakers():
    x = tone(997.0, 3.0)
    mono, both = heard(x), heard(np.stack([x, x]))
    meter = LoudnessMeter(RATE, 2)
    meter.add(np.stack([x, x]).astype(np.float32))
    assert mono.lufs == pytest.approx(meter.integrated_lufs, abs=1e-6)
    assert both.lufs == pytest.approx(mono.lufs, abs=1e-6)
    np.testing.assert_allclose(both.powers, mono.powers, rtol=1e-6)
    np.testing.assert_allclose(both.envelope, mono.envelope, rtol=1e-6)


def test_width_and_balance():
    x, y = tone(300.0), tone(4000.0)
    silence = np.zeros_like(x)
    assert heard(x).width == 0.0 and heard(x).balance_db == 0.0
    assert heard(np.stack([x, -x])).width == 1.0
    assert heard(np.stack([x, y])).width == pytest.approx(0.5, abs=0.01)
    assert heard(np.stack([x, 0.5 * x])).balance_db == pytest.approx(-6.02, abs=0.01)
    assert heard(np.stack([silence, x])).balance_db > 60.0
    assert heard(np.stack([x, -x])).character.clarity > 0.9


def test_silence_between_does_not_count_but_in_the_envelope():
    x = tone(500.0, 4.0)
    x[RATE : 3 * RATE] = 0.0
    sound, steady = heard(x), heard(tone(500.0, 4.0))
    assert sound.rms_db == pytest.approx(steady.rms_db, abs=0.1)
    assert sound.sounding == pytest.approx(0.5, abs=0.03)
    assert not sound.envelope[11:29].any()


def test_only_the_ranges_are_heard():
    x = np.concatenate([tone(200.0), tone(5000.0)])
    half = 2 * RATE
    sound = heard(x, ranges=[(half, 2 * half)])
    assert BANDS_HZ[np.argmax(sound.powers)] == 5000.0
    beyond = heard(x, ranges=[(half, 4 * half)])
    assert len(beyond.envelope) == 60 and not beyond.envelope[20:].any()
    assert beyond.rms_db == pytest.approx(sound.rms_db, abs=0.01)


def test_long_ranges_are_heard_in_pieces():
    rng = np.random.default_rng(3)
    x = 0.1 * rng.standard_normal((2, 25 * RATE))
    assert heard(x).rms_db == pytest.approx(-20.0, abs=0.05)
    assert len(heard(x).envelope) == 250


@pytest.mark.parametrize("rate", [8000, 48000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("n", [0, 1, 7, 300, 5000])
def test_short_and_silent_stems(n, channels, rate):
    rng = np.random.default_rng(n)
    for x in (np.zeros((channels, n)), 0.2 * rng.standard_normal((channels, n)), np.ones((channels, n))):
        sound = heard(x, rate, [(0, n)] if n else [])
        assert (sound.peak_db is None) == (not x.any()) == (sound.crest_db is None) == (sound.character is None)
        assert np.isfinite(sound.powers).all() and sound.powers.shape == BANDS_HZ.shape
        assert sound.lufs is None or np.isfinite(sound.lufs)
        role, sure = recognised(sound)
        assert role in ROLES and 0.0 <= sure <= 1.0 and np.isfinite(sure)
    assert recognised(heard(np.zeros((channels, 5000)), rate)) == ("other", 0.0)


def test_character_of_strokes_and_of_what_is_held():
    rng = np.random.default_rng(1)
    strokes = np.zeros(4 * RATE)
    for at in range(RATE // 4, 4 * RATE, RATE // 2):
        strokes[at : at + RATE // 8] += rng.standard_normal(RATE // 8) * np.exp(-np.arange(RATE // 8) / (0.01 * RATE))
    hits = heard(0.3 * strokes).character
    assert hits.onsets_per_s == pytest.approx(2.0, abs=0.4)
    assert hits.fall_db > 20 and hits.held < 0.5 and hits.clarity < 0.3
    swell = tone(220.0, 4.0) * np.minimum(np.linspace(0, 2, 4 * RATE), 1.0)
    held = heard(swell).character
    assert held.onsets_per_s <= 0.5 and held.held > 0.9 and held.clarity > 0.9
    sung = 0.5 * np.sin(
        2 * np.pi * np.cumsum(220.0 * 2 ** (0.5 / 12 * np.sin(2 * np.pi * 5.5 * np.arange(4 * RATE) / RATE))) / RATE
    )
    assert heard(sung).character.glide_cents > 15 > heard(tone(220.0, 4.0)).character.glide_cents


@pytest.fixture(scope="module")
def songs():
    return [synth_song(seed, 12.0, stems=20) for seed in (9201, 9202, 9203, 9204)]


@pytest.fixture(scope="module")
def sounds(songs):
    return [
        listen({name: ArrayRecording(x) for name, x in song.stems.items()}, song.rate, [(0, 12 * song.rate)], 2)
        for song in songs
    ]


def same(a: Sound, b: Sound) -> bool:
    return all(
        np.array_equal(x, y) if isinstance(x, np.ndarray) else x == y
        for x, y in zip(vars(a).values(), vars(b).values(), strict=True)
    )


def test_threads_and_order_change_nothing(songs, sounds):
    song = songs[0]
    shares = []
    backwards = {name: ArrayRecording(song.stems[name]) for name in reversed(song.stems)}
    again = listen(backwards, song.rate, [(0, 12 * song.rate)], 1, shares.append)
    assert list(again) == list(backwards) and shares[-1] == 1.0 and shares == sorted(shares)
    assert all(same(again[name], sound) for name, sound in sounds[0].items())


def group(role: str) -> str:
    return "voice" if role in VOICES else role


def test_stems_are_recognised_by_sound(songs, sounds):
    pairs = [
        (group(song.roles[name]), group(recognised(sound)[0]))
        for song, its_sounds in zip(songs, sounds, strict=True)
        for name, sound in its_sounds.items()
        if sound.character
    ]
    central = {"kick", "snare", "bass", "voice"}
    assert np.mean([right == said for right, said in pairs]) > 0.75
    assert np.mean([(right in central and right) == (said in central and said) for right, said in pairs]) > 0.9


def nameless(its_sounds):
    return {f"audio_{k:02d}.wav": sound for k, sound in enumerate(its_sounds.values())}


def test_a_set_has_one_kick_and_one_lead_voice(songs, sounds):
    for song, its_sounds in zip(songs, sounds, strict=True):
        unnamed = nameless(its_sounds)
        roles = roles_of(unnamed, {})
        told = [role for role, _ in roles.values()]
        assert told.count("kick") <= 1 and told.count("lead_vocal") == 1
        assert {why for _, why in roles.values()} <= {BY_SOUND, NOT_RECOGNISED}
        lead = next(place for place, role in enumerate(told) if role == "lead_vocal")
        assert list(song.roles.values())[lead] in VOICES
        assert roles_of(dict(reversed(unnamed.items())), {}) == roles


def test_two_kicks_are_one_unless_names_say_so(songs, sounds):
    kick = next(
        sound
        for song, its_sounds in zip(songs, sounds, strict=True)
        for name, sound in its_sounds.items()
        if song.roles[name] == "kick" and recognised(sound)[0] == "kick"
    )
    told = [role for role, _ in roles_of({"a7.wav": kick, "a8.wav": kick}, {}).values()]
    assert told[0] == "kick" != told[1]
    assert [role for role, _ in roles_of({"a7.wav": kick, "Kick In.wav": kick}, {}).values()][1] == "kick"
    assert roles_of({"a7.wav": kick, "Kick In.wav": kick}, {})["a7.wav"][0] != "kick"
    assert {role for role, _ in roles_of({"Kick Out.wav": kick, "Kick In.wav": kick}, {}).values()} == {"kick"}


def test_what_is_given_counts_then_the_name_then_the_sound(sounds):
    its_sounds = sounds[0]
    roles = roles_of(its_sounds, {"kick.wav": "effects"})
    assert roles["kick.wav"] == ("effects", GIVEN)
    assert roles["snare.wav"] == ("snare", NAMED)
    assert list(roles) == list(its_sounds)
    voice = its_sounds["vox_lead.wav"]
    assert roles_of({"x1.wav": voice}, {}) == {"x1.wav": ("lead_vocal", BY_SOUND)}
    assert roles_of({"x1.wav": voice, "vox.wav": voice}, {})["x1.wav"] == ("backing_vocal", BY_SOUND)
    silent = heard(np.zeros((1, RATE)))
    assert roles_of({"x1.wav": silent, "bass.wav": silent}, {}) == {
        "x1.wav": ("other", NOT_RECOGNISED),
        "bass.wav": ("bass", NAMED),
    }


def test_the_table_knows_every_role_it_should():
    assert set(KINDS.roles) >= {"kick", "snare", "toms", "hats", "cymbals", "percussion", "drums", "bass", "guitar"}
    assert set(KINDS.roles) - {"voice"} <= set(ROLES)
    assert (KINDS.spreads > 0).all()


def test_many_stems_are_heard_quickly():
    rng = np.random.default_rng(5)
    x = (0.1 * rng.standard_normal((2, 60 * 48000))).astype(np.float32)
    heard(x[:, :48000], 48000)
    began = time.perf_counter()
    heard(x, 48000)
    assert time.perf_counter() - began < 2.0, "24 of these on two cores take twelve times as long"


REAL = sorted(AUDIO.glob("multitrack/*/stems/*"))
TELLS_NOTHING = {"pad_bass.flac", "sine.flac"}


@pytest.mark.audio
@pytest.mark.skipif(not REAL, reason="MIXTOOLS_AUDIO names no multitracks")
def test_real_stems_are_known_by_name():
    assert {path.name for path in REAL if role_named(path.name) is None} <= TELLS_NOTHING


@pytest.mark.audio
@pytest.mark.skipif(not REAL, reason="MIXTOOLS_AUDIO names no multitracks")
def test_real_stems_are_recognised():
    pairs = []
    for path in REAL:
        right = group(role_named(path.name) or "")
        if right not in ("", "effects") and "synth" not in path.name:
            x, rate = soundfile.read(path, dtype="float32", always_2d=True)
            pairs.append((right, group(recognised(heard(x.T, rate))[0])))
    assert np.mean([right == said for right, said in pairs]) > 0.75
