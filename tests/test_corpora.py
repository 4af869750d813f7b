"""Corpora: every layout is recognised, excerpts are the files' own samples, and nothing is read that need not be."""

from __future__ import annotations

import errno
import os
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import error_db

from mixtools.errors import AudioError, ParameterError
from mixtools.files import excerpts
from mixtools.files.corpora import LAYOUTS, open_corpus
from mixtools.files.corpora.folders import scan
from mixtools.files.excerpts import Excerpts
from mixtools.files.reading import AudioFile, Resampled, read_audio

RATE = 8000
AUDIO = Path(os.environ.get("MIXTOOLS_AUDIO", "/nowhere"))


def noise(frames: int, channels: int = 1, seed: int = 0, peak: float = 0.5) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-peak, peak, (channels, frames)).astype(np.float32)


def tones(frames: int, rate: int) -> np.ndarray:
    """Something like music, for lossy codecs: gliding partials with onsets, stereo."""
    time = np.arange(frames) / rate
    glide = np.cumsum(220 + 80 * np.sin(time)) / rate
    partials = sum(np.sin(2 * np.pi * k * glide) / k for k in range(1, 12))
    audio = 0.15 * partials * (0.2 + np.exp(-6 * (time % 0.5)))
    return np.stack([audio, np.roll(audio, 40)]).astype(np.float32)


def save(path: Path, audio: np.ndarray | None = None, rate: int = RATE, **options: str) -> Path:
    """A file, in folders that are made for it; half a second of noise unless told otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    audio = noise(rate // 2, seed=sum(map(ord, path.name))) if audio is None else audio
    soundfile.write(path, audio.T, rate, **options)
    return path


def tree(root: Path, *names: str) -> Path:
    for name in names:
        save(root / name)
    return root


def names_of(sources: dict[str, Path], root: Path) -> dict[str, str]:
    return {name: path.relative_to(root).as_posix() for name, path in sources.items()}


def error_of(kind: type[Exception], call, *arguments, **options) -> str:
    with pytest.raises(kind) as raised:
        call(*arguments, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


LOSSLESS = [("wav", "PCM_16"), ("wav", "PCM_24"), ("wav", "FLOAT"), ("flac", "PCM_16"), ("aiff", "PCM_24")]
LOSSY = [
    ("mp3", None, 44100),
    ("vbr.mp3", None, 44100),
    ("ogg", "VORBIS", 44100),
    ("opus", "OPUS", 48000),
    ("wav", "IMA_ADPCM", 44100),
]


@pytest.mark.parametrize(("suffix", "subtype", "rate"), [*((*kind, 44100) for kind in LOSSLESS), *LOSSY])
def test_seeking_gives_the_samples_of_reading_straight_on(tmp_path, suffix, subtype, rate):
    options = {"format": "OGG"} if suffix == "opus" else {}
    if suffix == "vbr.mp3":
        options = {"bitrate_mode": "VARIABLE", "compression_level": 0.9}
    path = save(tmp_path / f"a.{suffix}", tones(400_000, rate), rate, subtype=subtype, **options)
    whole = soundfile.read(path, dtype="float32")[0].T
    np.testing.assert_array_equal(read_audio(path)[0], whole)
    with AudioFile(path) as file:
        starts = (150_000, 0, 1, 17, 99_999, 386_000, 70_000, 285_000, file.frames - 5, file.frames)
        for start in (*starts, *np.random.default_rng(0).integers(0, 400_000, 20).tolist()):
            file.seek(start)
            np.testing.assert_array_equal(file.read(3000), whole[:, start : start + 3000])
        file.seek(60_000)
        file.read(10)
        file.close()
        np.testing.assert_array_equal(file.read(20_000), whole[:, 60_010:80_010])


def test_seeking_outside_a_file_is_an_error(tmp_path):
    file = AudioFile(save(tmp_path / "a.wav"), shown="a.wav")
    assert error_of(ParameterError, file.seek, 4001) == "a.wav: has no sample 4001; give 0 to 4000"
    assert "has no sample -1" in error_of(ParameterError, file.seek, -1)


@pytest.mark.parametrize(
    ("source_rate", "rate"),
    [(44100, 48000), (48000, 44100), (44100, 8000), (8000, 192000), (24000, 44100), (96000, 44100), (44100, 44100)],
)
def test_excerpts_are_those_of_the_whole_file_resampled(tmp_path, source_rate, rate):
    path = save(tmp_path / "a.wav", noise(3 * source_rate, 2), source_rate, subtype="FLOAT")
    source = AudioFile(path)
    resampled = source if source_rate == rate else Resampled(source, rate)
    whole = resampled.read(resampled.frames)
    reader = Excerpts()
    for start in (0, 1, 777, rate + 13, 2 * rate + 1):
        found = reader.read(path, start, 1500, rate)
        assert found.dtype == np.float32
        assert error_db(found, whole[:, start : start + 1500]) < -120
    end = whole.shape[1]
    found = reader.read(path, end - 100, 300, rate)
    assert error_db(found[:, :100], whole[:, -100:]) < -120
    assert not found[:, 100:].any()
    assert reader.read(path, end + 50, 10, rate).shape == (2, 10)


def test_an_impulse_stays_in_its_place_at_an_odd_rate(tmp_path):
    impulse = np.zeros((1, 150_000), np.float32)
    impulse[0, 100_000] = 1.0
    path = save(tmp_path / "a.wav", impulse, 44100, subtype="FLOAT")
    start = 108_000
    found = Excerpts().read(path, start, 2000, 47999)[0].astype(np.float64)
    place = np.arange(2000) @ found / found.sum()
    assert start + place == pytest.approx(100_000 * 47999 / 44100, abs=1e-3)


def test_only_what_is_needed_is_decoded(tmp_path, monkeypatch):
    path = save(tmp_path / "a.flac", noise(60 * 44100), 44100)
    decoded = []
    read = soundfile.SoundFile.read

    def counted(self, frames=-1, *arguments, **options):
        decoded.append(frames)
        return read(self, frames, *arguments, **options)

    monkeypatch.setattr(soundfile.SoundFile, "read", counted)
    Excerpts().read(path, 50 * 44100, 44100, 44100)
    assert sum(decoded) <= 44100 + 16_384


def test_open_files_are_bounded_and_many_can_be_read(tmp_path):
    paths = [save(tmp_path / f"{i}.wav", noise(400, seed=i), subtype="FLOAT") for i in range(100)]
    reader = Excerpts()
    before = len(os.listdir("/dev/fd"))
    for _ in range(2):
        for i, path in enumerate(paths):
            np.testing.assert_array_equal(reader.read(path, 5, 100, RATE), noise(400, seed=i)[:, 5:105])
    assert len(os.listdir("/dev/fd")) - before <= excerpts.KEPT_FILES
    reader.close()
    assert len(os.listdir("/dev/fd")) == before


def test_excerpts_are_read_by_threads_and_by_forked_processes(tmp_path):
    path = save(tmp_path / "a.flac", noise(RATE * 20), subtype="PCM_16")
    whole, _ = read_audio(path)
    reader = Excerpts()
    wrong = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(50):
            start = int(rng.integers(0, RATE * 19))
            if not np.array_equal(reader.read(path, start, 500, RATE), whole[:, start : start + 500]):
                wrong.append(start)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    if hasattr(os, "fork"):
        children = []
        for seed in range(3):
            child = os.fork()
            if child == 0:
                work(seed)
                os._exit(bool(wrong))
            children.append(child)
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]
    sent = pickle.loads(pickle.dumps(reader))
    np.testing.assert_array_equal(sent.read(path, 3, 10, RATE), whole[:, 3:13])


def test_excerpts_check_what_they_are_asked_for(tmp_path):
    path = save(tmp_path / "a.wav")
    for start, frames in ((-1, 5), (0, 0)):
        assert "give a start of 0 or later" in error_of(ParameterError, Excerpts().read, path, start, frames, RATE)
    assert error_of(ParameterError, Excerpts().read, path, 0, 1, 7) == "rate is 7; give 8000 to 192000 Hz"


def test_songs_with_stems(tmp_path):
    tree(tmp_path, "A - One/stems/kick.wav", "A - One/stems/vox.flac", "A - One/mix.flac", "train/Two/stems/a.wav")
    (tmp_path / "A - One" / "info.json").write_text("{}")
    corpus = open_corpus(tmp_path)
    assert corpus.layout == "stems"
    one, two = corpus.items
    assert names_of(one.stems, tmp_path) == {"kick": "A - One/stems/kick.wav", "vox": "A - One/stems/vox.flac"}
    assert names_of(one.mixes, tmp_path) == {"mix": "A - One/mix.flac"}
    assert (one.name, one.artist, one.split) == ("A - One", "A", None)
    assert (two.name, two.artist, two.split, two.mixes) == ("Two", None, "train", {})
    assert one.inputs == one.stems
    assert open_corpus(tmp_path / "A - One").items[0].name == "A - One"


METADATA = """
artist: Liz Nelson & Jennifer Davies
has_bleed: 'yes'
stems:
  S01:
    component: melody
    filename: LizNelson_Rainfall_STEM_01.wav
    instrument: female singer
    raw:
      R01: {filename: LizNelson_Rainfall_RAW_01_01.wav, instrument: female singer}
      R02: {filename: LizNelson_Rainfall_RAW_01_02.wav, instrument: [violin, viola]}
website: []
"""


@pytest.mark.parametrize("metadata", ["Metadata/", "Audio/LizNelson_Rainfall/"])
def test_medleydb(tmp_path, metadata):
    song = "Audio/LizNelson_Rainfall/LizNelson_Rainfall"
    raw, stem, mix = f"{song}_RAW/LizNelson_Rainfall_RAW_01_", f"{song}_STEMS/LizNelson_Rainfall_STEM_01", f"{song}_MIX"
    tree(tmp_path, f"{raw}01.wav", f"{raw}02.wav", f"{stem}.wav", f"{mix}.wav")
    path = tmp_path / metadata / "LizNelson_Rainfall_METADATA.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(METADATA)
    corpus = open_corpus(tmp_path)
    (found,) = corpus.items
    assert (corpus.layout, found.name, found.artist) == ("medleydb", "LizNelson_Rainfall", "LizNelson")
    assert list(found.raw) == ["LizNelson_Rainfall_RAW_01_01", "LizNelson_Rainfall_RAW_01_02"]
    assert found.inputs == found.raw
    assert names_of(found.stems, tmp_path) == {"LizNelson_Rainfall_STEM_01": f"{stem}.wav"}
    assert names_of(found.mixes, tmp_path) == {"mix": f"{mix}.wav"}
    assert found.about.has_bleed is True
    assert found.about.roles == {
        "LizNelson_Rainfall_STEM_01": "female singer",
        "LizNelson_Rainfall_RAW_01_01": "female singer",
        "LizNelson_Rainfall_RAW_01_02": "violin, viola",
    }
    assert not corpus.skipped


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: &x [1]\nb: *x", "anchors and aliases are not taken"),
        ("a: !!python/object/apply:os.system [ls]", "tags are not taken"),
        ("a: [", "mend it or leave it out"),
        ("# " + "x" * 2**20, "is larger than 1 MiB; leave it out"),
        ("[" * 100 + "]" * 100, "nested deeper"),
    ],
)
def test_broken_metadata_is_named_and_left_out(tmp_path, text, says):
    tree(tmp_path, "A_B/A_B_RAW/A_B_RAW_01_01.wav", "A_B/A_B_MIX.wav")
    path = tmp_path / "A_B_METADATA.yaml"
    path.write_text(text)
    corpus = open_corpus(tmp_path)
    assert corpus.items[0].about.roles == {}
    assert list(corpus.skipped) == [path] and says in corpus.skipped[path] and "\n" not in corpus.skipped[path]
    assert corpus.draw(0, 0.2, RATE).stems


@pytest.mark.parametrize("text", ["", "3", "stems: 7", "stems: {S01: 3, S02: {raw: [1]}}\nhas_bleed: [1]", "- a"])
def test_metadata_may_say_nothing(tmp_path, text):
    tree(tmp_path, "A_B/A_B_RAW/A_B_RAW_01_01.wav")
    (tmp_path / "A_B_METADATA.yaml").write_text(text)
    about = open_corpus(tmp_path).items[0].about
    assert about.roles == {} and about.has_bleed is None


def test_enst_drums(tmp_path):
    passage = "036_phrase_disco_simple_slow_sticks.wav"
    folders = ["kick", "snare", "hi-hat", "overhead_L", "overhead_R", "tom_1", "dry_mix", "wet_mix", "accompaniment"]
    tree(tmp_path, *(f"drummer_{n}/audio/{folder}/{passage}" for n in (1, 2) for folder in folders))
    save(tmp_path / "drummer_2/audio/tom_2" / passage)
    corpus = open_corpus(tmp_path)
    first, second = corpus.items
    assert corpus.layout == "enst-drums"
    assert first.name == "drummer_1/036_phrase_disco_simple_slow_sticks"
    assert sorted(first.stems) == sorted(folders[:6]) and sorted(second.stems) == sorted([*folders[:6], "tom_2"])
    assert list(first.mixes) == ["dry", "wet"] and first.artist is None
    assert first.about.roles["hi-hat"] == "hi-hat" and first.about.has_bleed
    wet = corpus.with_mix("wet")
    assert [list(song.mixes) for song in wet.items] == [["wet"], ["wet"]]
    whole, _ = read_audio(wet.items[0].mixes["wet"])
    excerpt = wet.draw(0, 0.1, RATE)
    expected, _ = read_audio(excerpt.song.mixes["wet"])
    np.testing.assert_array_equal(excerpt.mix, expected[:, excerpt.start : excerpt.start + 800])
    assert len(corpus.with_mix("loud")) == 0


def test_musdb18_hq(tmp_path):
    for folder in ("train/A - One", "test/B - Two"):
        tree(tmp_path / folder, "mixture.wav", "vocals.wav", "bass.wav", "drums.wav", "other.wav")
    corpus = open_corpus(tmp_path)
    assert corpus.layout == "musdb18-hq"
    assert [(song.artist, song.split) for song in corpus.items] == [("B", "test"), ("A", "train")]
    assert sorted(corpus.items[0].stems) == ["bass", "drums", "other", "vocals"]
    assert names_of(corpus.items[0].mixes, tmp_path) == {"mix": "test/B - Two/mixture.wav"}


def test_cambridge_mt(tmp_path):
    tree(tmp_path / "TheBand_OneSong_Full", "01_Kick.wav", "02_Drum_Mix.wav", "MasterTape.wav")
    tree(tmp_path / "Other_Song_Full", "01_Kick.wav", "02_Vox.wav", "Other_Song_Full_Master.wav", "Other_Song_Mix.wav")
    tree(tmp_path, "TheBand_OneSong_Mix.wav", "SomeoneElse_Mix.wav")
    tree(tmp_path / "extras", "lonely.wav")
    corpus = open_corpus(tmp_path)
    assert corpus.layout == "cambridge-mt"
    other, band = corpus.items
    assert (band.artist, other.artist) == ("TheBand", "Other")
    assert list(band.stems) == ["01_Kick", "02_Drum_Mix", "MasterTape"]
    assert names_of(band.mixes, tmp_path) == {"mix": "TheBand_OneSong_Mix.wav"}
    assert list(other.stems) == ["01_Kick", "02_Vox"]
    assert list(other.mixes) == ["mix", "master"]


def test_signaltrain(tmp_path):
    tree(tmp_path, "Train/input_138_.wav", "Train/target_138_LA2A_3c__0__0.wav", "Train/input_1_.wav")
    tree(tmp_path, "Val/input_223_.wav", "Val/target_223_LA2A_2c__1__65.wav")
    tree(tmp_path, "Test/input_9_.wav", "Test/target_9_Box__0.5__-3__7.wav")
    corpus = open_corpus(tmp_path)
    assert corpus.layout == "signaltrain"
    found = {pair.name: (pair.controls, pair.split, pair.input.name) for pair in corpus.items}
    assert found == {
        "Train/target_138_LA2A_3c__0__0": ({"limit": 0.0, "peak_reduction": 0.0}, "train", "input_138_.wav"),
        "Val/target_223_LA2A_2c__1__65": ({"limit": 1.0, "peak_reduction": 65.0}, "validation", "input_223_.wav"),
        "Test/target_9_Box__0.5__-3__7": (
            {"control_1": 0.5, "control_2": -3.0, "control_3": 7.0},
            "test",
            "input_9_.wav",
        ),
    }


@pytest.mark.parametrize(
    ("layout", "source", "target"),
    [
        ("pair-folders", "input/a.wav", "target/a.wav"),
        ("pair-folders", "train/Inputs/a.wav", "train/Targets/a.wav"),
        ("pair-names", "take_input.wav", "take_target.wav"),
        ("pair-names", "tape/input.wav", "tape/target.wav"),
        ("pair-names", "INPUT-3.wav", "TARGET-3.flac"),
    ],
)
def test_plain_pairs(tmp_path, layout, source, target):
    tree(tmp_path, source, target)
    corpus = open_corpus(tmp_path)
    (pair,) = corpus.items
    assert corpus.layout == layout
    assert (pair.input, pair.target) == (tmp_path / source, tmp_path / target)
    assert pair.split == ("train" if source.startswith("train") else None)


def test_tables(tmp_path):
    tree(tmp_path, "dry.wav", "out/1.wav", "out/2.wav")
    (tmp_path / "pairs.csv").write_text("\ufefffile,Input,target,drive,mode,split\none,dry.wav,out/1.wav,0.5,hot,Val\n")
    corpus = open_corpus(tmp_path)
    (pair,) = corpus.items
    assert corpus.layout == "table"
    assert (pair.name, pair.split, pair.controls) == ("one", "validation", {"drive": 0.5, "mode": "hot"})
    assert (pair.input, pair.target) == (tmp_path / "dry.wav", tmp_path / "out/1.wav")
    (tmp_path / "pairs.csv").unlink()
    rows = "- {input: dry.wav, target: out/2.wav, controls: {drive: 3, on: true}}\n"
    (tmp_path / "pairs.yaml").write_text(rows)
    assert open_corpus(tmp_path).items[0].controls == {"drive": 3.0, "on": 1.0}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("../a.wav,t.wav,1,", "pair 1: input is ../a.wav; give the name of a file in "),
        ("/etc/passwd,t.wav,1,", "pair 1: input is /etc/passwd; give the name of a file in "),
        ("a.wav,,1,", "pair 1: target is ; give the name of a file in "),
        ("a.wav,t.wav,nan,", "pair 1: drive is nan; give a finite number"),
        ("a.wav,t.wav,1,monday", "pair 1: split is monday; give train, validation or test"),
    ],
)
def test_tables_are_checked(tmp_path, row, says):
    (tmp_path / "pairs.csv").write_text(f"input,target,drive,split\n{row}\n")
    assert says in error_of(ParameterError, open_corpus, tmp_path)


def test_other_tables_are_no_pairs_and_broken_ones_are_named(tmp_path):
    tree(tmp_path, "input/a.wav", "target/a.wav")
    (tmp_path / "genres.csv").write_text("song,genre\na,b\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "notes.yaml").write_text("just: notes")
    (tmp_path / "broken.yaml").write_text("a: [")
    (tmp_path / "latin.csv").write_bytes(b"input,target\n\xe9,b\n")
    corpus = open_corpus(tmp_path)
    assert corpus.layout == "pair-folders"
    assert sorted(path.name for path in corpus.skipped) == ["broken.yaml", "latin.csv"]


def test_a_layout_can_be_named(tmp_path):
    tree(tmp_path, "A/stems/a.wav", "A/stems/b.wav", "A/mix.wav")
    assert open_corpus(tmp_path).layout == "stems"
    assert open_corpus(tmp_path, "cambridge-mt").items[0].name == "stems"
    assert "layout is stem; give stems" in error_of(ParameterError, open_corpus, tmp_path, "stem")
    assert "give synth:SEED, or a folder in the layout musdb18-hq (train/SONG/mixture.wav and vocals.wav)" in error_of(
        ParameterError, open_corpus, tmp_path, "musdb18-hq"
    )


def test_a_corpus_without_songs_says_what_was_looked_for(tmp_path):
    (tmp_path / "notes.txt").touch()
    message = error_of(ParameterError, open_corpus, tmp_path)
    assert message.startswith(f"{tmp_path} holds no songs and no recordings of a device; give synth:SEED, or a folder")
    assert all(layout.name in message for layout in LAYOUTS)
    assert "does not exist; give a folder of songs" in error_of(ParameterError, open_corpus, tmp_path / "no")
    assert "is not a folder; give a folder" in error_of(ParameterError, open_corpus, tmp_path / "notes.txt")
    assert error_of(ParameterError, open_corpus, "") == "CORPUS is empty; give a folder of songs, or synth:SEED"
    for wrong in ("synth:", "synth:-1", "synth:x"):
        assert f"{wrong} names no corpus; give synth:SEED" in error_of(ParameterError, open_corpus, wrong)


def test_listing_opens_no_audio(tmp_path, monkeypatch):
    tree(tmp_path, "A/stems/a.wav", "A/mix.wav")
    monkeypatch.setattr(AudioFile, "__init__", lambda *_: pytest.fail("a file was opened"))
    assert len(open_corpus(tmp_path)) == 1


def test_links_in_a_circle_and_odd_names(tmp_path):
    song = tmp_path / "Größe\n 大太鼓"
    tree(song, "stems/a b (1).wav", "stems/.hidden.wav", "mix.wav")
    (song / "stems" / "up").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "again").symlink_to(song)
    (song / "stems" / "gone.wav").symlink_to(song / "nowhere.wav")
    os.mkfifo(song / "stems" / "pipe.wav")
    corpus = open_corpus(tmp_path)
    (found,) = corpus.items
    assert found.name == song.name and sorted(found.stems) == ["a b (1)", "gone", "pipe"]
    assert "of 0.1 s held no sound" in error_of(AudioError, corpus.draw, 0, 0.1, RATE)
    assert len(corpus.skipped) == 1 and "Größe? 大太鼓" in next(iter(corpus.skipped.values()))
    kept = corpus.where(lambda song: "kick" in song.stems)
    assert "nothing is left of it to draw from" in error_of(ParameterError, kept.draw, 0, 0.1, RATE)


def test_deep_and_large_folders_end_somewhere(tmp_path, monkeypatch):
    deep = tmp_path / "/".join("abcdefghijklmnopq")
    deep.mkdir(parents=True)
    assert len(list(scan(tmp_path, {}).walk())) == 13
    monkeypatch.setattr("mixtools.files.corpora.folders.MOST_ENTRIES", 5)
    assert "holds more than 5 files and folders" in error_of(ParameterError, open_corpus, tmp_path)


def test_folders_that_cannot_be_listed_are_named(tmp_path, monkeypatch):
    tree(tmp_path, "A/stems/a.wav", "B/stems/a.wav")
    scandir = os.scandir

    def guarded(path):
        if Path(path).name == "B":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    corpus = open_corpus(tmp_path)
    assert len(corpus) == 1 and "cannot be listed: Permission denied" in corpus.skipped[tmp_path / "B"]


@pytest.fixture
def songs(tmp_path):
    """A long and a short song, in stereo and mono, at two rates; the long one begins in silence, its pad is silent."""
    loud = noise(3 * RATE, 2, 1)
    loud[:, : 2 * RATE] = 0
    save(tmp_path / "Long/mix.wav", loud, subtype="FLOAT")
    save(tmp_path / "Long/stems/lead.wav", 0.5 * loud, subtype="FLOAT")
    save(tmp_path / "Long/stems/pad.wav", 1e-4 * noise(3 * RATE), subtype="FLOAT")
    save(tmp_path / "Long/stems/hit.wav", noise(5 * RATE // 2), subtype="FLOAT")
    save(tmp_path / "Short/stems/kick.wav", noise(16_000, 1, 2), 16_000, subtype="FLOAT")
    save(tmp_path / "Short/stems/pad.wav", noise(12_000, 2, 3), 16_000, subtype="FLOAT")
    return tmp_path


def test_draws_depend_on_their_numbers_alone(songs):
    one, two = open_corpus(songs), open_corpus(songs)
    forward = [one.draw(i, 0.25, RATE, seed=3) for i in range(20)]
    for i in reversed(range(20)):
        again = two.draw(i, 0.25, RATE, seed=3)
        assert (again.song.name, again.start) == (forward[i].song.name, forward[i].start)
        assert again.stems.keys() == forward[i].stems.keys()
        for name, stem in again.stems.items():
            np.testing.assert_array_equal(stem, forward[i].stems[name])
    assert len({(e.song.name, e.start) for e in forward}) > 15
    assert one.draw(0, 0.25, RATE, seed=4).start != forward[0].start


def test_draws_are_aligned_excerpts_of_the_files(songs):
    corpus = open_corpus(songs)
    for i in range(12):
        excerpt = corpus.draw(i, 0.25, RATE)
        part = slice(excerpt.start, excerpt.start + 2000)
        if excerpt.song.name == "Long":
            mix = read_audio(songs / "Long/mix.wav")[0]
            np.testing.assert_array_equal(excerpt.mix, mix[:, part])
            np.testing.assert_array_equal(excerpt.stems["lead"], np.float32(0.5) * mix[:, part])
        else:
            assert excerpt.mix is None
            kick = Resampled(AudioFile(songs / "Short/stems/kick.wav"), RATE).read(RATE)
            assert error_db(excerpt.stems["kick"], kick[:, part]) < -120


def test_silence_is_left_out(songs):
    corpus = open_corpus(songs)
    for i in range(40):
        excerpt = corpus.draw(i, 0.25, RATE)
        heard = excerpt.mix if excerpt.mix is not None else sum(excerpt.stems.values())
        assert np.mean(heard.astype(float) ** 2) >= 1e-3
        assert all(np.mean(stem.astype(float) ** 2) >= 1e-6 for stem in excerpt.stems.values())
        if excerpt.song.name == "Long":
            assert "pad" not in excerpt.stems
            assert ("hit" in excerpt.stems) == (excerpt.start < 5 * RATE // 2)
            assert excerpt.start > 2 * RATE - 2000


def test_songs_are_drawn_by_their_length(tmp_path):
    save(tmp_path / "Long/stems/a.wav", noise(3 * RATE))
    save(tmp_path / "Short/stems/a.wav", noise(16_000), 16_000)
    corpus = open_corpus(tmp_path)
    long = sum(corpus.draw(i, 0.1, RATE).song.name == "Long" for i in range(400))
    assert long / 400 == pytest.approx(0.75, abs=0.07)
    assert all(corpus.draw(i, 1.5, RATE).song.name == "Long" for i in range(10))


def test_the_loudest_of_a_quiet_corpus_will_do(tmp_path):
    quiet = 0.001 * noise(4 * RATE)
    quiet[:, RATE : 3 * RATE] *= 20
    save(tmp_path / "A/mix.wav", quiet, subtype="FLOAT")
    save(tmp_path / "A/stems/a.wav", quiet, subtype="FLOAT")
    corpus = open_corpus(tmp_path)
    assert [RATE - 800 < corpus.draw(i, 0.1, RATE).start < 3 * RATE for i in range(3)] == [True] * 3
    save(tmp_path / "A/mix.wav", 0 * quiet)
    message = error_of(AudioError, open_corpus(tmp_path).draw, 0, 0.1, RATE)
    assert message == f"{tmp_path}: 100 excerpts of 0.1 s held no sound; give other recordings"


def test_draws_check_what_they_are_asked_for(songs):
    corpus = open_corpus(songs)
    message = error_of(ParameterError, corpus.draw, 0, 4, RATE)
    assert message == f"{songs}: no recording is 4 s long, the longest has 3.00 s; give a shorter time"
    for seconds in (0, -1, np.nan, np.inf):
        assert "give more than 0" in error_of(ParameterError, corpus.draw, 0, seconds, RATE)
    assert "give whole numbers" in error_of(ParameterError, corpus.draw, -1, 1, RATE)
    assert corpus.draw(0, 3, RATE).start == 0


def test_broken_files_are_named_once_and_the_rest_is_drawn(tmp_path):
    tree(tmp_path, "A/stems/a.wav", "A/mix.wav", "B/stems/a.wav", "B/mix.wav", "C/stems/a.wav", "C/mix.wav")
    (tmp_path / "B/mix.wav").write_bytes(b"RIFF")
    (tmp_path / "C/stems/a.wav").write_text("no audio at all")
    broken = [tmp_path / "B/mix.wav", tmp_path / "C/stems/a.wav"]
    corpus = open_corpus(tmp_path)
    drawn = [corpus.draw(i, 0.1, RATE) for i in range(30)]
    assert {excerpt.song.name for excerpt in drawn} == {"A"}
    assert sorted(corpus.skipped) == broken
    assert all(str(path) in line and "; give" in line for path, line in corpus.skipped.items())
    again = open_corpus(tmp_path)
    assert [again.draw(i, 0.1, RATE).start for i in (7, 3)] == [drawn[7].start, drawn[3].start]
    for path in broken:
        path.unlink()
    (tmp_path / "A/mix.wav").write_bytes(b"")
    left = open_corpus(tmp_path, "stems").where(lambda song: song.name == "A")
    assert "none of its 1 recordings can be used: " in error_of(AudioError, left.draw, 0, 0.1, RATE)


def test_a_file_that_breaks_off_within_is_skipped_where_it_does(tmp_path):
    path = save(tmp_path / "A/stems/a.flac", noise(200_000), subtype="PCM_16")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = bytes(400)
    path.write_bytes(data)
    corpus = open_corpus(tmp_path)
    starts = [corpus.draw(i, 0.5, RATE).start for i in range(10)]
    assert min(starts) < 80_000
    assert len(corpus.skipped) <= 1


def test_pairs_are_drawn_together(tmp_path):
    audio = noise(2 * RATE, 1, 5)
    audio[:, : RATE // 2] = 0
    save(tmp_path / "a_input.wav", audio, subtype="FLOAT")
    save(tmp_path / "a_target.wav", 0.5 * audio[:, :-100], subtype="FLOAT")
    corpus = open_corpus(tmp_path)
    for i in range(20):
        excerpt = corpus.draw(i, 0.25, RATE)
        assert excerpt.input.any() and excerpt.start + 2000 <= 2 * RATE - 100
        np.testing.assert_array_equal(excerpt.target, np.float32(0.5) * excerpt.input)
        np.testing.assert_array_equal(excerpt.input, audio[:, excerpt.start : excerpt.start + 2000])


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


THREE = {"train": 0.8, "validation": 0.1, "test": 0.1}


def test_no_artist_is_in_two_splits(tmp_path):
    names = [f"Artist{n % 17} - Song{n}" for n in range(60)] + [f"Loose{n}" for n in range(40)]
    touch(tmp_path, *(f"{name}/stems/a.wav" for name in names))
    corpus = open_corpus(tmp_path)
    parts = corpus.splits(THREE, seed=1)
    assert {name: len(part) for name, part in parts.items()} == {"train": 80, "validation": 10, "test": 10}
    assert sorted(song.name for part in parts.values() for song in part.items) == sorted(names)
    artists = [{song.artist for song in part.items} - {None} for part in parts.values()]
    assert sum(map(len, artists)) == 17 and not set.intersection(*artists)

    def songs_of(seed):
        return [[song.name for song in part.items] for part in corpus.splits(THREE, seed).values()]

    assert songs_of(1) == [[song.name for song in part.items] for part in parts.values()]
    assert songs_of(1) != songs_of(2)


def test_published_splits_are_kept(tmp_path):
    train = [f"train/Artist{n // 2} - {n}/mixture.wav" for n in range(20)]
    test = [f"test/Artist{n} - t/mixture.wav" for n in (0, 90, 91)]
    touch(tmp_path, *train, *test, *(name.replace("mixture", "vocals") for name in train + test))
    corpus = open_corpus(tmp_path)
    parts = corpus.splits(THREE)
    assert {song.split for song in parts["test"].items} == {"test"} and len(parts["test"]) == 3
    assert {song.split for name in ("train", "validation") for song in parts[name].items} == {"train"}
    assert len(parts["train"]) == 18 and len(parts["validation"]) == 2
    assert "Artist0" not in {song.artist for song in parts["validation"].items}
    assert len({song.artist for song in parts["validation"].items}) == 1
    two = corpus.splits({"train": 0.5, "test": 0.5})
    assert (len(two["train"]), len(two["test"])) == (20, 3)
    assert len(corpus.splits({"train": 1.0})["train"]) == 20


def test_a_new_song_joins_its_artist(tmp_path):
    touch(tmp_path, "test/A - 1/stems/a.wav", "train/B - 1/stems/a.wav", "A - 2/stems/a.wav", "B - 2/stems/a.wav")
    parts = open_corpus(tmp_path).splits({"train": 0.5, "test": 0.5})
    assert {name: sorted(song.name for song in part.items) for name, part in parts.items()} == {
        "train": ["B - 1", "B - 2"],
        "test": ["A - 1", "A - 2"],
    }


def test_splits_are_checked(tmp_path):
    touch(tmp_path, "A - 1/stems/a.wav", "A - 2/stems/a.wav", "B - 1/stems/a.wav")
    corpus = open_corpus(tmp_path)
    assert error_of(ParameterError, corpus.splits, THREE) == (
        f"{tmp_path} has too few artists for 3 splits: test would be empty; give fewer"
    )
    for fraction in (0, -1, np.nan, np.inf):
        assert "the fraction of a is" in error_of(ParameterError, corpus.splits, {"a": fraction})
    assert "there are no fractions" in error_of(ParameterError, corpus.splits, {})


@pytest.fixture
def quick_synth(monkeypatch):
    """Songs of half a second, in place of half a minute."""
    excerpts.synth.cache_clear()
    monkeypatch.setattr(excerpts, "SYNTH_SECONDS", 0.5)
    yield
    excerpts.synth.cache_clear()


def test_the_synthesiser_is_an_endless_corpus(quick_synth):
    from mixtools.synth import synth_song

    corpus = open_corpus("synth:7")
    first = corpus.draw(0, 0.2, 44100)
    song = synth_song(next(iter(first.song.stems.values())).seed, 0.5)
    assert first.song.name == song.name and first.mix is None
    assert first.song.about.roles == {name.removesuffix(".wav"): role for name, role in song.roles.items()}
    for name, stem in first.stems.items():
        np.testing.assert_array_equal(stem, song.stems[f"{name}.wav"][:, first.start : first.start + 8820])
    again = open_corpus("synth:7").draw(0, 0.2, 44100)
    assert (again.start, again.stems.keys()) == (first.start, first.stems.keys())
    assert corpus.draw(10**9, 0.2, 44100).song.name != first.song.name
    assert open_corpus("synth:8").song(0).name != corpus.song(0).name


def test_few_songs_are_synthesised_for_many_draws(quick_synth):
    corpus = open_corpus("synth:7")
    names = {corpus.draw(i, 0.2, 44100).song.name for i in range(30)}
    assert 1 < len(names) <= excerpts.KEPT_SONGS
    assert excerpts.synth.cache_info().misses <= excerpts.KEPT_SONGS


def test_endless_corpora_split_and_filter(quick_synth, monkeypatch):
    corpus = open_corpus("synth:7")
    parts = corpus.splits({"train": 0.9, "test": 0.1})
    train, test = ({part.song(i).name for i in range(2)} for part in parts.values())
    assert len(train | test) == 4
    small = corpus.where(lambda song: len(song.inputs) <= 16)
    assert all(len(small.song(i).inputs) <= 16 for i in range(2))
    monkeypatch.setattr("mixtools.files.corpora.corpus.SYNTH_SONGS_TRIED", 3)
    assert "3 songs in a row are left out" in error_of(ParameterError, corpus.where(lambda _: False).song, 0)
    assert "songs are 30 s long" in error_of(ParameterError, corpus.draw, 0, 31, 44100)


def test_a_corpus_can_be_sent_to_another_process(songs):
    corpus = open_corpus(songs)
    excerpt = corpus.draw(2, 0.25, RATE)
    sent = pickle.loads(pickle.dumps(corpus))
    assert sent.draw(2, 0.25, RATE).start == excerpt.start
    assert pickle.loads(pickle.dumps(open_corpus("synth:7"))).name == "synth:7"


@pytest.mark.audio
@pytest.mark.skipif(not (AUDIO / "multitrack").is_dir(), reason="needs MIXTOOLS_AUDIO")
def test_real_multitracks():
    corpus = open_corpus(AUDIO / "multitrack")
    assert corpus.layout == "stems" and len(corpus) >= 4
    for i in range(6):
        excerpt = corpus.draw(i, 2.0, 44100)
        assert excerpt.stems and {stem.shape[1] for stem in excerpt.stems.values()} == {88_200}
        heard = excerpt.mix if excerpt.mix is not None else sum(excerpt.stems.values())
        assert np.mean(heard.astype(float) ** 2) >= 1e-3
    assert not corpus.skipped


@pytest.mark.audio
@pytest.mark.skipif(not (AUDIO / "devices").is_dir(), reason="needs MIXTOOLS_AUDIO")
def test_real_devices():
    corpus = open_corpus(AUDIO / "devices")
    assert corpus.layout == "pair-names"
    assert "cl1b_heavy_sweep/input" in {pair.name for pair in corpus.items}
    excerpt = corpus.draw(0, 0.4, 44100)
    assert excerpt.input.shape == excerpt.target.shape == (1, 17_640)
    assert not corpus.skipped
