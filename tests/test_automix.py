"""Mixing without a mix file: the expert's rules one by one, variations and locks, the baselines, the loudness."""

import numpy as np
import pytest

from mixtools import Bus, Insert, Master, Mix, Track, levels, render, synth_song
from mixtools.dsp.console import Console
from mixtools.measure.loudness import LoudnessMeter
from mixtools.tasks.automix.baselines import baseline
from mixtools.tasks.automix.expert import LEAD_LUFS, Expert
from mixtools.tasks.automix.hearing import BANDS_HZ
from mixtools.tasks.automix.mastering import Ending, Held, mastered
from mixtools.tasks.automix.roles import ROLES
from mixtools.tasks.automix.rules import LEADS, MANNERS, RULES, Taste
from mixtools.tasks.automix.sides import Strip, placed
from mixtools.tasks.automix.variations import taste
from mixtools.tasks.mix import render_to
from mixtools.tasks.recordings import ArrayRecording, Playing

RATE = 44100
SECONDS = 12


def recordings(stems):
    return {name: ArrayRecording(samples) for name, samples in stems.items()}


def opener(stems, rate=RATE):
    return lambda mix: Console(mix, [Playing(ArrayRecording(stems[track.file])) for track in mix.tracks], rate)


def song(seed=3, stems=12, seconds=SECONDS):
    return synth_song(seed, seconds, RATE, stems)


def loudness(x, rate=RATE):
    meter = LoudnessMeter(rate, len(x), dual_mono=True)
    meter.add(np.ascontiguousarray(x))
    return meter.integrated_lufs


def alone(mix, name):
    """The mix before the master with one track only, dry."""
    track = next(track for track in mix.tracks if track.file == name)
    return Mix([Track(track.file, track.channel, track.offset_ms, chain=track.chain)])


def insert_of(track, effect):
    return next((insert for insert in track.chain if insert.effect == effect), None)


def tone(hz, seconds=4.0, level=0.2):
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)[None]


def band(low_hz, high_hz, seed, seconds=4.0, level=0.1):
    """Noise between two frequencies."""
    n = round(seconds * RATE)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(n))
    hz = np.fft.rfftfreq(n, 1 / RATE)
    x = np.fft.irfft(np.where((hz >= low_hz) & (hz < high_hz), spectrum, 0.0), n)
    return (level * x / x.std()).astype(np.float32)[None]


@pytest.fixture(scope="module")
def mixed():
    """A song, the expert who has heard it, and its mix."""
    made = song()
    expert = Expert(recordings(made.stems), RATE)
    return made, expert, expert.mix()


def test_every_role_has_its_manner_and_every_decision_its_rule(mixed):
    assert set(MANNERS) == set(ROLES)
    assert sorted(manner.rank for manner in MANNERS.values()) == list(range(len(ROLES)))
    assert {decision.rule for decision in mixed[2].decisions} <= set(RULES)


def test_roles_are_those_of_the_song(mixed):
    made, _, found = mixed
    assert found.roles == made.roles


def test_stems_have_the_loudness_of_their_role(mixed):
    made, _, found = mixed
    lead = next(role for role in LEADS if role in made.roles.values())
    for name, role in made.roles.items():
        if list(made.roles.values()).count(role) == 1:
            wanted = LEAD_LUFS + (0.0 if role == lead else MANNERS[role].level_lu)
            # A pan in full to one side takes 3 LU at most, by the law of the console.
            strip = alone(found.mix, name)
            strip.tracks[0].chain = [i for i in strip.tracks[0].chain if i.effect != "pan"]
            assert loudness(render(strip, made.stems, RATE)) == pytest.approx(wanted, abs=0.6), name


def test_stems_of_one_role_share_its_loudness():
    same = tone(440)
    stems = {"gtr_a.wav": same, "gtr_b.wav": same, "vox.wav": tone(700)}
    found = Expert(recordings(stems), RATE).mix()
    one = Expert(recordings({"gtr_a.wav": same, "vox.wav": stems["vox.wav"]}), RATE).mix()
    fader, alone_ = (insert_of(m.mix.tracks[0], "gain").controls["gain_db"] for m in (found, one))
    assert alone_ - fader == pytest.approx(10 * np.log10(2), abs=0.1)


def test_low_cuts_take_what_a_role_does_not_need_and_nothing_where_nothing_is():
    rumble = band(100, 8000, 1) + band(20, 40, 2, level=0.05)
    stems = {"vox.wav": rumble, "keys.wav": band(300, 4000, 3), "bass.wav": band(50, 200, 4)}
    found = Expert(recordings(stems), RATE).mix()
    eqs = {track.file: insert_of(track, "parametric_eq") for track in found.mix.tracks}
    cut = eqs["vox.wav"].controls
    assert cut["low_shelf_gain_db"] < -12 and cut["low_shelf_freq_hz"] < MANNERS["lead_vocal"].low_cut_hz
    assert eqs["keys.wav"] is None or "low_shelf_gain_db" not in eqs["keys.wav"].controls


def test_what_masks_a_voice_gives_way_where_the_voice_lives():
    voice, masker = band(300, 8000, 1), band(150, 700, 2) + band(1800, 3200, 3, level=0.04)
    found = Expert(recordings({"vox.wav": voice, "pad.wav": 8 * masker}), RATE, {"pad.wav": "guitar"}).mix()
    eq = insert_of(found.mix.tracks[0], "parametric_eq")
    assert found.mix.tracks[0].file == "pad.wav"
    assert -4.0 <= eq.controls["band2_gain_db"] <= -1.0
    assert 1500 < eq.controls["band2_freq_hz"] < 3500
    voice_eq = insert_of(found.mix.tracks[1], "parametric_eq")
    assert voice_eq is None or "band2_gain_db" not in voice_eq.controls


def test_stems_that_never_sound_together_do_not_give_way():
    voice, masker = band(300, 8000, 1), band(150, 700, 2) + band(1800, 3200, 3, level=0.04)
    silence = np.zeros_like(voice)
    stems = {
        "vox.wav": np.concatenate([voice, silence], axis=1),
        "gtr.wav": np.concatenate([silence, masker], axis=1),
    }
    found = Expert(recordings(stems), RATE).mix()
    assert not any(decision.rule == "unmask" for decision in found.decisions)


def test_compression_follows_the_crest_factor():
    rng = np.random.default_rng(1)
    steady = band(200, 2000, 1)
    peaky = steady * (1 + 12 * (rng.random(steady.shape) > 0.9995)).astype(np.float32)
    found = Expert(recordings({"gtr_a.wav": steady, "bass.wav": 0.1 * peaky}), RATE).mix()
    bass, guitar = found.mix.tracks
    assert insert_of(guitar, "compressor") is None
    compressor = insert_of(bass, "compressor").controls
    assert compressor["ratio"] > 1 and -80 <= compressor["threshold_db"] < 0


def test_the_important_stand_in_the_centre_and_others_part(mixed):
    made, _, found = mixed
    pans = {t.file: insert_of(t, "pan").controls["pan"] if insert_of(t, "pan") else 0.5 for t in found.mix.tracks}
    for name, role in made.roles.items():
        if role in ("kick", "snare", "bass", "lead_vocal"):
            assert pans[name] == 0.5
    aside = [pan for pan in pans.values() if pan != 0.5]
    assert min(aside) < 0.5 < max(aside)


def test_pairs_go_to_both_sides_left_to_the_left():
    powers = np.ones(len(BANDS_HZ))
    strips = [Strip(name, 0.3, powers, 0.0) for name in ("gtr_R.wav", "gtr_L.wav", "tom1.wav", "tom2.wav")]
    places, _ = placed(strips, lambda a, b: 1.0)
    assert places["gtr_L.wav"] == pytest.approx(1 - places["gtr_R.wav"]) and places["gtr_L.wav"] <= 0.1
    assert places["tom1.wav"] == pytest.approx(1 - places["tom2.wav"]) and places["tom1.wav"] < 0.5
    mirrored, _ = placed(strips, lambda a, b: 1.0, mirrored=True)
    assert mirrored["gtr_L.wav"] == places["gtr_L.wav"] and mirrored["tom1.wav"] == places["tom2.wav"]


def test_stems_that_overlap_go_apart():
    high, low = (np.where(mask, 1.0, 1e-6) for mask in (BANDS_HZ > 1000, (BANDS_HZ > 200) & (BANDS_HZ < 900)))
    strips = [Strip("a", 0.3, high, 0.0), Strip("b", 0.3, 0.98 * low, 0.0), Strip("c", 0.3, 0.97 * high, 0.0)]
    places, _ = placed(strips, lambda a, b: 1.0)
    assert (places["a"] - 0.5) * (places["c"] - 0.5) < 0


def test_low_and_wide_stems_stay_in_the_centre():
    low = np.where(BANDS_HZ < 120, 1.0, 1e-3)
    strips = [Strip("sub", 0.3, low, 0.0), Strip("wide", 0.3, np.ones(len(BANDS_HZ)), 0.2)]
    assert set(placed(strips, lambda a, b: 1.0)[0].values()) == {0.5}


def test_the_order_of_the_stems_does_not_matter(mixed):
    made, _, found = mixed
    turned = dict(reversed(made.stems.items()))
    assert Expert(recordings(turned), RATE).mix().mix == found.mix


def test_keeping_levels_keeps_the_balance(mixed):
    made, expert, _ = mixed
    kept = expert.mix(keep_levels=True)
    for name, stem in made.stems.items():
        strip = alone(kept.mix, name)
        strip.tracks[0].chain = [i for i in strip.tracks[0].chain if i.effect != "pan"]
        assert loudness(render(strip, made.stems, RATE)) == pytest.approx(loudness(stem), abs=0.6), name


def test_locked_tracks_stay_and_the_others_come_to_their_level(mixed):
    made, expert, found = mixed
    settled = [track for track in found.mix.tracks if made.roles[track.file] in ("kick", "bass", "lead_vocal", "lead")]
    louder = [Track(t.file, chain=[*t.chain, Insert("gain", {"gain_db": 6.0})], sends={"hall": -20.0}) for t in settled]
    locked = Mix(
        louder,
        {"hall": Bus(chain=[Insert("convolution", {"ir": "hall"})])},
        Master([Insert("parametric_eq", {"high_shelf_gain_db": 2.0})]),
    )
    around = expert.mix(locked=locked).mix
    for track in louder:
        assert next(t for t in around.tracks if t.file == track.file) == track
    assert around.master == locked.master and around.buses["hall"] == locked.buses["hall"]
    free = next(t.file for t in found.mix.tracks if t.file not in {track.file for track in settled})
    before, after = (
        insert_of(next(t for t in m.tracks if t.file == free), "gain").controls["gain_db"] for m in (found.mix, around)
    )
    assert after - before == pytest.approx(6.0, abs=1.5)


def test_variations_differ_and_each_is_its_own(mixed):
    _, expert, _ = mixed
    mixes = [expert.mix(taste(5, number)).mix for number in (1, 2, 3)]
    assert mixes[0] != mixes[1] != mixes[2]
    assert expert.mix(taste(5, 2)).mix == mixes[1]
    assert taste(5, 2) != taste(6, 2) and taste(5, 2).mirrored and Taste() == Taste()


@pytest.mark.parametrize("name", ["mono", "random", "equal-loudness"])
def test_baselines_do_not_depend_on_order_or_company(name):
    stems = {"b.wav": tone(300), "a.wav": np.concatenate([tone(500), tone(900)])}
    found = baseline(name, recordings(stems), RATE, seed=4)
    assert baseline(name, recordings(dict(reversed(stems.items()))), RATE, seed=4) == found
    (single,) = baseline(name, recordings({"a.wav": stems["a.wav"]}), RATE, seed=4).tracks
    assert single == found.tracks[0]


def test_the_baselines_are_what_they_say():
    stems = {"a.wav": np.concatenate([tone(500), tone(900)]), "b.wav": tone(300, level=0.01)}
    mono = render(baseline("mono", recordings(stems), RATE), stems, RATE)
    np.testing.assert_allclose(mono[0], stems["a.wav"].mean(axis=0) + stems["b.wav"][0], atol=1e-6)
    np.testing.assert_array_equal(mono[0], mono[1])
    equal = baseline("equal-loudness", recordings(stems), RATE)
    for name in stems:
        assert loudness(render(alone(equal, name), stems, RATE)) == pytest.approx(-48.0, abs=0.05)
    drawn = [baseline("random", recordings(stems), RATE, seed=seed) for seed in range(40)]
    gains = [insert_of(mix.tracks[0], "gain").controls["gain_db"] for mix in drawn]
    pans = [insert_of(mix.tracks[0], "pan").controls["pan"] for mix in drawn]
    assert -12 <= min(gains) < -8 and 8 < max(gains) <= 12 and min(pans) < 0.1 and max(pans) > 0.9


@pytest.mark.parametrize("target", [-23.0, -14.0])
def test_a_mix_comes_to_its_loudness_under_its_ceiling(mixed, target):
    made, _, found = mixed
    ready = mastered(found.mix, opener(made.stems), target)
    heard = levels(render(ready.mix, made.stems, RATE), RATE)
    assert heard.integrated_lufs == pytest.approx(target, abs=0.1)
    assert heard.true_peak_dbtp <= -1.0


class Collected:
    """Keeps what is rendered."""

    def __init__(self):
        self.blocks = []

    def write(self, block):
        self.blocks.append(block)

    @property
    def samples(self):
        return np.concatenate(self.blocks, axis=1)


def endings():
    """Mixes whose ends and beginnings are not where those of the stems are."""
    hit = np.zeros((1, RATE), np.float32)
    hit[0, :400] = tone(700)[0, :400]
    room = {"room": Bus(chain=[Insert("convolution", {"ir": "hall"})])}
    early = Track("a.wav", offset_ms=-0.3, chain=[Insert("compressor", {"lookahead_ms": 5.0})], sends={"room": -3.0})
    yield "a room, and a delay that is no whole number", {"a.wav": hit}, Mix([early], room, sample_rate=RATE), -23.0, 0
    echo = Master([Insert("delay", {"time_ms": 700.0, "feedback": 0.6}), Insert("limiter")])
    yield "echoes", {"a.wav": hit}, Mix([Track("a.wav")], {}, echo, RATE), -14.0, RATE // 3
    yield "silence", {"a.wav": np.zeros((1, RATE), np.float32)}, Mix([Track("a.wav")], sample_rate=RATE), -16.0, 0
    quiet = {"a.wav": tone(300, level=1e-4)}
    yield "more than is held", quiet, Mix([Track("a.wav")], {}, sample_rate=RATE), -16.0, 0


@pytest.mark.parametrize(("stems", "mix", "target", "start"), [pytest.param(*e[1:], id=e[0]) for e in endings()])
def test_what_is_held_ends_as_the_whole_would(stems, mix, target, start):
    with Held() as held:
        ready = mastered(mix, opener(stems), target, held=held)
        whole, ended = Collected(), Collected()
        render_to(opener(stems)(ready.mix), whole, start)
        console = held.ended(opener(stems)(ready.mix))
        assert isinstance(console, Ending) == (ready.plan.gain_db <= 30.0)
        render_to(console, ended, start)
        np.testing.assert_array_equal(ended.samples, whole.samples)
        assert whole.samples.shape[1] >= RATE - start


def test_what_feeds_the_master_is_played_again():
    stems = {"a.wav": tone(300), "b.wav": tone(500)}
    mix = Mix([Track("a.wav"), Track("b.wav")], sample_rate=RATE)
    with Held() as held:
        ready = mastered(mix, opener(stems), -20.0, held=held)
        parts = {0: Collected(), 1: Collected()}
        render_to(held.ended(opener(stems)(ready.mix)), Collected(), parts=parts)
    for key, name in enumerate(stems):
        np.testing.assert_array_equal(parts[key].samples[0], stems[name][0])


def test_a_limiter_that_is_there_is_not_doubled(mixed):
    made, _, found = mixed
    once = mastered(found.mix, opener(made.stems), -14.0).mix
    twice = mastered(once, opener(made.stems), -14.0).mix
    assert sum(insert.effect == "limiter" for insert in twice.master.chain) == 1


@pytest.mark.parametrize(
    "stems",
    [
        {"a.wav": np.zeros((1, RATE), np.float32)},
        {"a.wav": np.zeros((1, 0), np.float32), "b.wav": np.zeros((2, 100), np.float32)},
        {"kick.wav": tone(60, 0.2)},
        {"kick.wav": np.zeros((2, RATE), np.float32), "vox.wav": tone(600)},
    ],
    ids=["silent", "empty", "short", "one silent"],
)
def test_hardly_any_stems_are_mixed_all_the_same(stems):
    found = Expert(recordings(stems), RATE).mix()
    assert [track.file for track in found.mix.tracks] == sorted(stems)
    assert np.isfinite(render(mastered(found.mix, opener(stems)).mix, stems, RATE)).all()


def test_two_identical_stems_and_very_many():
    same = {f"take {i}.wav": tone(440, 1.0) for i in range(2)}
    assert len(Expert(recordings(same), RATE).mix().mix.tracks) == 2
    many = {f"part {i:03}.wav": tone(100 + 30 * i, 0.5) for i in range(200)}
    found = Expert(recordings(many), RATE).mix()
    pans = [insert_of(track, "pan") for track in found.mix.tracks]
    assert len(pans) == 200 and np.isfinite(render(found.mix, many, RATE)).all()
