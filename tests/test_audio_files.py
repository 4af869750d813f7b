"""Audio files: what is read is what stands in the file, what is written is whole, and errors are one useful line."""

from __future__ import annotations

import errno
import io
import os
import resource
import stat
import struct
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mixtools.errors import AudioError, OutputError, ParameterError
from mixtools.files.outputs import AtomicFile, write_text_atomically
from mixtools.files.reading import AudioFile, Resampled, list_audio, read_audio, spool
from mixtools.files.riff import Bext, chunk
from mixtools.files.writing import FlacWriter, WavWriter, open_writer

RATE = 44100
LOSSLESS = [
    ("wav", "PCM_U8"),
    ("wav", "PCM_16"),
    ("wav", "PCM_24"),
    ("wav", "FLOAT"),
    ("wav", "DOUBLE"),
    ("aiff", "PCM_24"),
    ("flac", "PCM_16"),
    ("rf64", "FLOAT"),
]
TAGS = {
    "title": "Größe",
    "artist": "A & B",
    "album": "Odd",
    "date": "2024-02-29",
    "comment": "two\nlines",
    "genre": "Dub",
    "copyright": "nobody",
    "tracknumber": "7",
}


def noise(frames: int, channels: int = 2, seed: int = 0) -> np.ndarray:
    """White noise at half of full scale, shape (channels, frames)."""
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (channels, frames)).astype(np.float32)


def saved(path: Path, audio: np.ndarray, rate: int = RATE, **options: str) -> Path:
    """A file written by libsndfile."""
    soundfile.write(path, audio.T, rate, **options)
    return path


def written(path: Path, audio: np.ndarray, bits: str = "32f", **options) -> Path:
    """A file written by mixtools."""
    with open_writer(path, RATE, len(audio), bits, **options) as writer:
        writer.write(audio)
    return path


def pieces(file, size: int) -> np.ndarray:
    """Everything that is left, read `size` samples at a time."""
    parts = []
    while (part := file.read(size)).shape[1]:
        parts.append(part)
    return np.concatenate(parts, axis=1)


def error_of(kind: type[Exception], call, *arguments, **options) -> str:
    with pytest.raises(kind) as raised:
        call(*arguments, **options)
    return str(raised.value)


def pcm_wav(audio: np.ndarray, riff_size: int, data_size: int, before: bytes = b"") -> bytes:
    """A 16-bit WAV with the sizes that its header should state, true or not."""
    form = struct.pack("<HHIIHH", 1, len(audio), RATE, RATE * 2 * len(audio), 2 * len(audio), 16)
    samples = (audio.T * 32768).astype("<i2").tobytes()
    start = struct.pack("<4sI4s", b"RIFF", riff_size, b"WAVE")
    return start + before + chunk(b"fmt ", form) + struct.pack("<4sI", b"data", data_size) + samples


@pytest.mark.parametrize(("suffix", "subtype"), LOSSLESS)
def test_reads_what_libsndfile_reads(tmp_path, suffix, subtype):
    path = saved(tmp_path / f"a.{suffix}", noise(30_000), subtype=subtype)
    expected, _ = soundfile.read(path, dtype="float32")
    with AudioFile(path) as file:
        assert (file.rate, file.channels, file.frames, file.subtype) == (RATE, 2, 30_000, subtype)
        audio = file.read(50_000)
    assert audio.dtype == np.float32 and audio.flags.c_contiguous
    np.testing.assert_array_equal(audio, expected.T)


@pytest.mark.parametrize(
    ("suffix", "subtype", "rate"),
    [*((suffix, subtype, RATE) for suffix, subtype in LOSSLESS), ("ogg", "VORBIS", RATE), ("mp3", None, RATE)]
    + [("opus", "OPUS", 48_000)],
)
def test_read_sizes_change_no_sample(tmp_path, suffix, subtype, rate):
    form = {"opus": "OGG"}.get(suffix)
    path = saved(tmp_path / f"a.{suffix}", noise(40_000), rate, subtype=subtype, format=form)
    whole, _ = read_audio(path)
    for size in (257, 16_384, 20_000):
        with AudioFile(path) as file:
            np.testing.assert_array_equal(pieces(file, size), whole)


def test_mono_has_one_row(tmp_path):
    audio, rate = read_audio(saved(tmp_path / "a.wav", noise(100, channels=1), 8000))
    assert audio.shape == (1, 100) and rate == 8000


def test_names_with_spaces_and_any_letters(tmp_path):
    path = written(tmp_path / "Große Trommel 大太鼓 (1).wav", noise(100))
    assert list_audio(tmp_path) == [path]
    np.testing.assert_array_equal(read_audio(path)[0], noise(100))


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX only")
def test_names_need_not_be_unicode(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    try:
        written(path, noise(100))
    except OutputError:
        pytest.skip("this file system takes Unicode names only")
    assert read_audio(path)[0].shape == (2, 100)


def test_many_files_are_read_side_by_side(tmp_path):
    paths = [written(tmp_path / f"{i}.wav", noise(40_000, 1, seed=i)) for i in range(60)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 40, hard))
    AudioFile.kept_open, kept = 16, AudioFile.kept_open
    try:
        files = [AudioFile(path) for path in paths]
        blocks = [[file.read(20_000) for file in files] for _ in range(2)]
    finally:
        AudioFile.kept_open = kept
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for i in range(60):
        np.testing.assert_array_equal(np.hstack([blocks[0][i], blocks[1][i]]), noise(40_000, 1, seed=i))


def test_list_audio_sorts_by_name_and_leaves_out_what_is_hidden_or_no_audio(tmp_path):
    for name in ["b.wav", "A.WAV", "a.flac", "._b.wav", ".hidden.wav", "notes.txt", "c.mp3"]:
        (tmp_path / name).touch()
    (tmp_path / "folder.wav").mkdir()
    assert [path.name for path in list_audio(tmp_path)] == ["A.WAV", "a.flac", "b.wav", "c.mp3"]


def test_list_audio_says_what_is_wrong_with_a_folder(tmp_path):
    wanted = "give a folder of WAV, FLAC, AIFF, OGG or MP3 files"
    assert error_of(ParameterError, list_audio, tmp_path / "no") == f"{tmp_path}/no does not exist; {wanted}"
    assert error_of(AudioError, list_audio, tmp_path) == f"{tmp_path}: holds no audio; {wanted}"
    for name in ("a.txt", "b.pdf", "c"):
        (tmp_path / name).touch()
    assert error_of(AudioError, list_audio, tmp_path) == f"{tmp_path}: holds no audio (3 other files); {wanted}"
    assert error_of(ParameterError, list_audio, tmp_path / "c") == f"{tmp_path}/c is not a folder; {wanted}"


def test_missing_files_folders_and_pipes_are_refused(tmp_path):
    kinds = "WAV, FLAC, AIFF, OGG or MP3"
    assert error_of(ParameterError, AudioFile, "no.wav") == f"no.wav does not exist; give a {kinds} file"
    found = error_of(ParameterError, AudioFile, tmp_path, shown="stems")
    assert found == f"stems is a folder; give a {kinds} file"
    os.mkfifo(tmp_path / "pipe")
    assert "is a pipe or a device" in error_of(ParameterError, AudioFile, tmp_path / "pipe")


@pytest.mark.parametrize("name", ["kick.wav", "kick.mp3", "kick.raw", "kick.flac", "kick"])
def test_text_is_not_audio(tmp_path, name):
    (tmp_path / name).write_text("dear diary\n" * 100)
    found = error_of(AudioError, AudioFile, tmp_path / name, shown=f"stems/{name}")
    assert found == f"stems/{name}: is not audio that can be read; give WAV, FLAC, AIFF, OGG or MP3"


def test_empty_files_are_refused(tmp_path):
    (tmp_path / "a.wav").touch()
    assert "a.wav: is empty; give" in error_of(AudioError, AudioFile, tmp_path / "a.wav")
    written(tmp_path / "b.wav", noise(0))
    assert "b.wav: has no samples; give" in error_of(AudioError, AudioFile, tmp_path / "b.wav")


def test_surround_and_odd_rates_are_refused(tmp_path):
    saved(tmp_path / "a.wav", noise(100, channels=8))
    found = error_of(AudioError, AudioFile, tmp_path / "a.wav", shown="a.wav")
    assert found == "a.wav: has 8 channels; give mono or stereo"
    for rate in (4000, 384_000):
        saved(tmp_path / "b.wav", noise(100), rate)
        found = error_of(AudioError, AudioFile, tmp_path / "b.wav", shown="b.wav")
        assert found == f"b.wav: has a rate of {rate} Hz; give 8000 to 192000 Hz"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files_and_folders_are_refused(tmp_path):
    path = written(tmp_path / "a.wav", noise(100))
    path.chmod(0)
    assert "cannot be read: Permission denied" in error_of(AudioError, AudioFile, path)
    tmp_path.chmod(0)
    try:
        assert "cannot be read: Permission denied" in error_of(AudioError, list_audio, tmp_path)
        assert "cannot be read: Permission denied" in error_of(AudioError, AudioFile, path)
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    ("suffix", "subtype"), [("wav", "PCM_16"), ("wav", "FLOAT"), ("wav", "ULAW"), ("rf64", "FLOAT"), ("aiff", "PCM_24")]
)
def test_a_file_shorter_than_its_header_says_is_refused(tmp_path, suffix, subtype):
    path = saved(tmp_path / f"a.{suffix}", noise(3 * RATE), subtype=subtype)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 5])
    found = error_of(AudioError, AudioFile, path, shown="a")
    assert found == "a: ends after 1.20 s of the 3.00 s its header promises; copy it again"


def test_a_missing_pad_byte_is_no_reason_to_refuse(tmp_path):
    path = saved(tmp_path / "a.wav", noise(1001, 1), subtype="PCM_24")
    path.write_bytes(path.read_bytes()[:-1])
    assert AudioFile(path).frames == 1001


@pytest.mark.parametrize(
    ("riff_size", "data_size"),
    [(0, 0), (36, 0), (0xFFFFFFFF, 0xFFFFFFFF), (0, 0xFFFFFFFF), (0x7FFFF024, 0x7FFFF000), (0x80000024, 0x80000000)],
)
def test_sizes_left_open_by_writers_to_pipes_mean_until_the_end(tmp_path, riff_size, data_size):
    path = tmp_path / "piped.wav"
    path.write_bytes(pcm_wav(noise(40_000), riff_size, data_size))
    expected = np.trunc(noise(40_000) * 32768) / 32768
    with AudioFile(path) as file:
        assert file.frames == 40_000
        np.testing.assert_array_equal(pieces(file, 1234), expected)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF_FFFFFFFF])
def test_sizes_left_open_in_rf64_mean_until_the_end(tmp_path, size):
    path = tmp_path / "piped.wav"
    sizes = chunk(b"ds64", struct.pack("<QQQI", size, size, 0, 0))
    path.write_bytes(b"RF64" + pcm_wav(noise(1000), 0xFFFFFFFF, 0xFFFFFFFF, before=sizes)[4:])
    assert read_audio(path)[0].shape == (2, 1000)


def test_an_empty_data_chunk_before_other_chunks_is_no_open_size(tmp_path):
    whole = pcm_wav(noise(0), 0, 0) + chunk(b"LIST", b"INFO" + chunk(b"INAM", b"nothing\0"))
    path = tmp_path / "a.wav"
    path.write_bytes(whole[:4] + struct.pack("<I", len(whole) - 8) + whole[8:])
    assert "has no samples" in error_of(AudioError, AudioFile, path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [1000, 44_100])
def test_the_first_sample_that_is_no_number_is_named(tmp_path, value, size):
    audio = noise(RATE)
    audio[0, 40_000] = np.nan
    audio[1, 35_280] = value
    path = saved(tmp_path / "a.wav", audio, subtype="FLOAT")
    found = error_of(AudioError, pieces, AudioFile(path, shown="a.wav"), size)
    what = "not a number" if np.isnan(value) else "infinite"
    assert found == f"a.wav: sample 35280 (at 0.800 s) is {what}; give audio without NaN or infinite samples"


def test_doubles_beyond_the_range_of_floats_are_refused(tmp_path):
    path = saved(tmp_path / "a.wav", np.array([[0.0, 1e300]]), subtype="DOUBLE")
    assert "sample 1 (at 0.000 s) is infinite" in error_of(AudioError, read_audio, path)


@pytest.mark.parametrize("cut", [1, 30_000])
def test_a_truncated_flac_is_refused(tmp_path, cut):
    path = saved(tmp_path / "a.flac", noise(RATE))
    path.write_bytes(path.read_bytes()[:-cut])
    found = error_of(AudioError, read_audio, path, shown="a.flac")
    assert found.startswith("a.flac: cannot be decoded beyond 0.") and found.endswith("; copy it again")


def test_a_flac_that_does_not_know_its_length_is_refused(tmp_path):
    path = saved(tmp_path / "a.flac", noise(1000))
    whole = bytearray(path.read_bytes())
    whole[21] &= 0xF0
    whole[22:26] = bytes(4)
    path.write_bytes(whole)
    assert "does not say how long it is" in error_of(AudioError, AudioFile, path)


def test_a_truncated_ogg_is_refused(tmp_path):
    path = saved(tmp_path / "a.ogg", noise(RATE))
    assert AudioFile(path).frames == RATE
    path.write_bytes(path.read_bytes()[:-1000])
    assert "ends in the middle of an Ogg page; copy it again" in error_of(AudioError, AudioFile, path)


def test_an_mp3_shorter_than_it_says_ends_in_silence(tmp_path, capfd):
    path = saved(tmp_path / "a.mp3", noise(RATE))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    audio, _ = read_audio(path)
    assert audio.shape == (2, RATE)
    assert audio[:, 10_000].any() and not audio[:, -1000:].any()


@pytest.mark.parametrize("data_size", [0, 4000])
def test_a_file_that_vanishes_is_an_error(tmp_path, data_size):
    path = tmp_path / "a.wav"
    path.write_bytes(pcm_wav(noise(1000), 0, data_size))
    file = AudioFile(path, shown="a.wav")
    path.unlink()
    found = error_of(AudioError, file.read, 100)
    assert found == "a.wav: cannot be opened again; leave it in place while it is read"


def test_read_audio_refuses_what_is_too_long(tmp_path):
    path = written(tmp_path / "a.wav", noise(RATE))
    assert read_audio(path, max_seconds=1)[0].shape == (2, RATE)
    found = error_of(AudioError, read_audio, path, max_seconds=0.5, shown="a.wav")
    assert found == "a.wav: is 1.0 s long; give at most 0.5 s"


def test_spool_copies_a_pipe_to_a_file(tmp_path):
    path = written(tmp_path / "a.wav", noise(1000))
    reader, writer = os.pipe()
    os.write(writer, path.read_bytes())
    os.close(writer)
    with open(reader, "rb") as stream:
        copy = spool(stream, tmp_path)
    assert copy.parent == tmp_path and copy.read_bytes() == path.read_bytes()


def test_spool_leaves_nothing_after_a_failure(tmp_path):
    class Broken(io.RawIOBase):
        def read(self, size=-1):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert "could not be written: No space left" in error_of(OutputError, spool, Broken(), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("source_rate", "rate"), [(44_100, 48_000), (48_000, 44_100), (44_100, 96_000), (96_000, 8000), (44_100, 47_999)]
)
def test_resampling_keeps_an_impulse_in_place(tmp_path, source_rate, rate):
    impulse = np.zeros((2, 50_000), np.float32)
    impulse[:, 20_000] = 1
    resampled = Resampled(AudioFile(saved(tmp_path / "a.wav", impulse, source_rate, subtype="FLOAT")), rate)
    audio = resampled.read(resampled.frames)
    place = (np.arange(resampled.frames) @ audio[0].astype(float)) / audio[0].sum()
    assert audio.shape == (2, -(-50_000 * rate // source_rate))
    assert abs(np.argmax(np.abs(audio[0])) - 20_000 * rate / source_rate) <= 0.5
    assert place == pytest.approx(20_000 * rate / source_rate, abs=0.01)


def test_resampling_keeps_a_tone(tmp_path):
    tone = np.sin(2 * np.pi * 1000 * np.arange(48_000) / 48_000)[None].astype(np.float32)
    resampled = Resampled(AudioFile(saved(tmp_path / "a.wav", tone, 48_000, subtype="FLOAT")), RATE)
    expected = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    middle = slice(1000, -1000)
    assert np.abs(resampled.read(RATE)[0, middle] - expected[middle]).max() < 1e-5


def test_read_sizes_change_no_resampled_sample(tmp_path):
    path = written(tmp_path / "a.wav", noise(60_000))
    whole = Resampled(AudioFile(path), 48_000).read(100_000)
    assert whole.shape == (2, -(-60_000 * 48_000 // RATE))
    for size in (100, 16_384, 30_001):
        np.testing.assert_array_equal(pieces(Resampled(AudioFile(path), 48_000), size), whole)


def test_short_files_resample_to_their_exact_length(tmp_path):
    for frames in (1, 2, 63):
        with Resampled(AudioFile(written(tmp_path / f"{frames}.wav", noise(frames))), 96_000) as resampled:
            assert resampled.read(10_000).shape == (2, -(-frames * 96_000 // RATE))


def test_float_wav_keeps_every_bit(tmp_path):
    audio = 3 * noise(1000)
    path = written(tmp_path / "a.wav", audio)
    np.testing.assert_array_equal(read_audio(path)[0], audio)
    info = soundfile.info(path)
    assert (info.samplerate, info.channels, info.frames, info.subtype) == (RATE, 2, 1000, "FLOAT")


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
@pytest.mark.parametrize("bits", ["16", "24"])
@pytest.mark.parametrize("channels", [1, 2])
def test_integers_are_off_by_half_a_step_and_dither_at_most(tmp_path, name, bits, channels):
    audio = noise(20_001, channels)
    path = written(tmp_path / name, audio, bits)
    assert soundfile.info(path).subtype == f"PCM_{bits}"
    integers = soundfile.read(path, dtype="int32", always_2d=True)[0].T >> (32 - int(bits))
    steps = integers - audio.astype(np.float64) * 2 ** (int(bits) - 1)
    assert np.abs(steps).max() <= 1.5
    assert abs(steps.mean()) < 0.02
    triangular_and_rounding = 1 / 6 + 1 / 12
    assert steps.var() == pytest.approx(triangular_and_rounding, rel=0.05)
    assert abs(np.corrcoef(steps[0, 1:], steps[0, :-1])[0, 1]) < 0.03
    if channels == 2:
        assert abs(np.corrcoef(steps)[0, 1]) < 0.03


def test_dither_keeps_what_is_smaller_than_a_step(tmp_path):
    audio = np.full((1, 200_000), 0.3 / 32768, np.float32)
    integers = soundfile.read(written(tmp_path / "a.wav", audio, "16"), dtype="int16")[0]
    assert integers.mean() == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("bits", ["16", "24"])
def test_flac_holds_the_samples_of_the_wav(tmp_path, bits):
    wav, flac = (written(tmp_path / f"a.{suffix}", 2 * noise(70_000), bits, position=99) for suffix in ("wav", "flac"))
    np.testing.assert_array_equal(read_audio(wav)[0], read_audio(flac)[0])


@pytest.mark.parametrize("bits", ["16", "24"])
def test_the_standard_library_reads_our_pcm(tmp_path, bits):
    with wave.open(str(written(tmp_path / "a.wav", noise(1001, 1), bits, tags=TAGS, bext=Bext()))) as file:
        assert file.getparams()[:4] == (1, int(bits) // 8, RATE, 1001)
        assert len(file.readframes(2000)) == 1001 * int(bits) // 8


@pytest.mark.parametrize("bits", ["16", "24", "32f"])
def test_sizes_in_the_header_are_true(tmp_path, bits):
    whole = written(tmp_path / "a.wav", noise(1001, 1), bits, tags=TAGS, bext=Bext(coding_history="odd")).read_bytes()
    assert struct.unpack("<I", whole[4:8])[0] == len(whole) - 8
    at, names = 12, []
    while at < len(whole):
        name, size = struct.unpack("<4sI", whole[at : at + 8])
        names.append(name)
        at += 8 + size + size % 2
    assert at == len(whole)
    fact = [b"fact"] * (bits == "32f")
    assert names == [b"JUNK", b"bext", b"fmt ", *fact, b"LIST", b"data"]


@pytest.mark.parametrize(
    ("name", "bits"), [("a.wav", "16"), ("a.wav", "24"), ("a.wav", "32f"), ("a.flac", "16"), ("a.flac", "24")]
)
def test_the_sizes_of_writes_change_no_byte(tmp_path, name, bits):
    audio = noise(150_000)
    whole = written(tmp_path / name, audio, bits).read_bytes()
    for size in (4999, 65_536):
        with open_writer(tmp_path / name, RATE, 2, bits, force=True) as writer:
            for start in range(0, audio.shape[1], size):
                writer.write(audio[:, start : start + size])
        assert (tmp_path / name).read_bytes() == whole


@pytest.mark.parametrize("bits", ["16", "24", "32f"])
def test_a_slice_has_the_bits_of_the_whole(tmp_path, bits):
    audio = noise(10_000)
    whole = read_audio(written(tmp_path / "a.wav", audio, bits))[0]
    part = read_audio(written(tmp_path / "b.wav", audio[:, 3333:7000], bits, position=3333))[0]
    np.testing.assert_array_equal(part, whole[:, 3333:7000])


@pytest.mark.parametrize("bits", ["16", "24"])
def test_clipped_samples_are_counted(tmp_path, bits):
    audio = np.array([[0, 1, -1, 1.01, -7, 3]], np.float32)
    with WavWriter(tmp_path / "a.wav", RATE, 1, bits) as writer:
        writer.write(audio)
        writer.write(audio)
    assert (writer.clipped, writer.peak) == (6, 7)
    integers = soundfile.read(tmp_path / "a.wav", dtype="int32")[0] >> (32 - int(bits))
    assert integers[3] == 2 ** (int(bits) - 1) - 1 and integers[4] == -(2 ** (int(bits) - 1))


def test_floats_never_clip(tmp_path):
    with WavWriter(tmp_path / "a.wav", RATE, 1) as writer:
        writer.write(np.array([[4.0]], np.float32))
    assert (writer.clipped, writer.peak) == (0, 4)


@pytest.mark.parametrize("bits", ["16", "24", "32f"])
def test_rf64_when_too_large_for_wav(tmp_path, monkeypatch, bits):
    audio = noise(1001, 1)
    expected = read_audio(written(tmp_path / "small.wav", audio, bits))[0]
    monkeypatch.setattr(WavWriter, "largest_riff_bytes", 2000)
    path = written(tmp_path / "large.wav", audio, bits, bext=Bext("d"), tags=TAGS)
    whole = path.read_bytes()
    assert whole[:4] == b"RF64" and whole[12:16] == b"ds64"
    riff_bytes, data_bytes, frames = struct.unpack("<QQQ", whole[20:44])
    assert (riff_bytes, data_bytes, frames) == (len(whole) - 8, 1001 * int(bits.rstrip("f")) // 8, 1001)
    assert soundfile.info(path).format == "RF64" and soundfile.info(path).frames == 1001
    np.testing.assert_array_equal(read_audio(path)[0], expected)
    assert AudioFile(path).bext == Bext("d") and AudioFile(path).tags == TAGS


def test_rf64_begins_at_4_gib(tmp_path):
    writer = WavWriter(tmp_path / "a.wav", RATE, 2)
    overhead = len(writer._header()) - 8
    writer.frames = (2**32 - 2 - overhead) // 8
    assert writer._header().startswith(b"RIFF")
    writer.frames += 1
    assert writer._header().startswith(b"RF64")
    writer.abort()


def test_a_truncated_rf64_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(WavWriter, "largest_riff_bytes", 2000)
    path = written(tmp_path / "a.wav", noise(RATE))
    path.write_bytes(path.read_bytes()[: RATE * 4])
    assert "of the 1.00 s its header promises" in error_of(AudioError, AudioFile, path)


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_tags_are_read_back(tmp_path, name):
    path = written(tmp_path / name, noise(100), "24", tags=TAGS | {"mood": "dropped", "comment": ""})
    expected = {tag: text for tag, text in TAGS.items() if tag != "comment"}
    assert AudioFile(path).tags == expected
    with soundfile.SoundFile(path) as file:
        assert file.title == "Größe" and file.tracknumber == "7"


def test_bext_is_read_back(tmp_path):
    bext = Bext("Überblende", "mixtools", "DE123", "2024-02-29", "23:59:59", 2**40 + 7, "A=PCM,F=44100\r\n")
    path = written(tmp_path / "a.wav", noise(100), bext=bext)
    assert AudioFile(path).bext == bext
    assert AudioFile(written(tmp_path / "b.wav", noise(100))).bext is None
    assert AudioFile(written(tmp_path / "a.flac", noise(100), "24", bext=bext)).bext is None


def test_bext_texts_are_cut_between_letters():
    payload = Bext(description="ä" * 300, originator="x" + "ä" * 40).to_bytes()
    assert len(payload) == 602
    assert Bext.from_bytes(payload) == Bext(description="ä" * 128, originator="x" + "ä" * 15)


def test_bext_after_the_audio_in_latin_1_and_too_short_is_read(tmp_path):
    path = saved(tmp_path / "a.wav", noise(100), subtype="PCM_16")
    path.write_bytes(path.read_bytes() + chunk(b"bext", "Bläser".encode("latin-1")))
    assert AudioFile(path).bext == Bext("Bläser")


def test_the_file_appears_when_it_is_whole(tmp_path):
    writer = WavWriter(tmp_path / "mix.wav", RATE, 2)
    writer.write(noise(100_000))
    (part,) = tmp_path.iterdir()
    assert part.name.startswith(".mix.wav.") and part.suffix == ".part"
    writer.close()
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["mix.wav"]


@pytest.mark.parametrize("name", ["mix.wav", "mix.flac"])
def test_nothing_is_left_after_an_exception(tmp_path, name, capfd):
    with pytest.raises(KeyboardInterrupt), open_writer(tmp_path / name, RATE, 2, "16") as writer:
        writer.write(noise(100_000))
        raise KeyboardInterrupt
    del writer
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["mix.wav", "mix.flac"])
def test_nothing_is_left_when_the_disk_is_full(tmp_path, name, capfd):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limit[1]))
    try:
        with pytest.raises(OutputError) as raised, open_writer(tmp_path / name, RATE, 2, "16") as writer:
            for _ in range(10):
                writer.write(noise(10_000))
        del writer
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert str(raised.value) == f"{tmp_path / name}: could not be written: File too large"
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["mix.wav", "mix.flac"])
def test_nothing_is_left_when_the_disk_fills_up_at_the_end(tmp_path, name):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = open_writer(tmp_path / name, RATE, 2, "16")
    writer.write(noise(1000))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))
    try:
        assert "could not be written: File too large" in error_of(OutputError, writer.close)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_device_is_an_output_error():
    found = error_of(OutputError, written, "/dev/full", noise(100_000))
    assert found == "/dev/full: could not be written: No space left on device"
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)
    with open("/dev/full", "wb", buffering=0) as stream:
        found = error_of(OutputError, written, stream, noise(100))
    assert found == "stdout: could not be written: No space left on device"


def test_devices_are_written_into_and_not_replaced():
    written("/dev/null", noise(100))
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.parametrize("bits", ["16", "32f"])
def test_a_stream_gets_the_same_bytes_as_a_file(tmp_path, bits):
    stream = io.BytesIO()
    written(stream, noise(1001), bits, tags=TAGS)
    assert stream.getvalue() == written(tmp_path / "a.wav", noise(1001), bits, tags=TAGS).read_bytes()


def test_a_stream_gets_nothing_after_an_exception():
    stream = io.BytesIO()
    with pytest.raises(RuntimeError), WavWriter(stream, RATE, 2) as writer:
        writer.write(noise(100))
        raise RuntimeError
    assert stream.getvalue() == b""


def test_a_broken_pipe_passes_through():
    reader, pipe = os.pipe()
    os.close(reader)
    with open(pipe, "wb", buffering=0) as stream, pytest.raises(BrokenPipeError):
        written(stream, noise(100))


def test_nothing_is_overwritten_unasked(tmp_path):
    path = tmp_path / "mix.wav"
    path.write_text("precious")
    expected = f"{path} exists; give --force to overwrite it, or another name"
    assert error_of(ParameterError, WavWriter, path, RATE, 2) == expected
    assert error_of(ParameterError, write_text_atomically, path, "") == expected
    assert path.read_text() == "precious" and len(list(tmp_path.iterdir())) == 1
    written(path, noise(100), force=True)
    assert read_audio(path)[0].shape == (2, 100)


def test_a_file_that_appeared_meanwhile_is_not_overwritten(tmp_path):
    writer = WavWriter(tmp_path / "mix.wav", RATE, 2)
    (tmp_path / "mix.wav").write_text("precious")
    assert "exists; give --force" in error_of(ParameterError, writer.close)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["precious"]


def test_unusable_targets_are_refused_at_once(tmp_path):
    (tmp_path / "file").touch()
    found = error_of(ParameterError, open_writer, tmp_path / "no/mix.wav", RATE, 2)
    assert found == f"{tmp_path}/no/mix.wav: the folder {tmp_path}/no does not exist; create it, or give another name"
    found = error_of(ParameterError, open_writer, tmp_path / "file/mix.wav", RATE, 2)
    assert (
        found == f"{tmp_path}/file/mix.wav: the folder {tmp_path}/file is not a folder; create it, or give another name"
    )
    assert (
        error_of(ParameterError, WavWriter, tmp_path, RATE, 2)
        == f"{tmp_path} is a folder; give the name of a file in it"
    )
    assert "File name too long" in error_of(OutputError, WavWriter, tmp_path / ("m" * 300 + ".wav"), RATE, 2)
    found = error_of(ParameterError, open_writer, "mix.xyz", RATE, 2)
    assert found == "mix.xyz: give a name that ends in .wav or .flac"
    found = error_of(ParameterError, open_writer, "mix.flac", RATE, 2)
    assert found == "mix.flac: FLAC holds 16 or 24 bits; give --bits 24"
    assert error_of(ParameterError, open_writer, "mix.wav", RATE, 2, "12") == "--bits is 12; give 16, 24 or 32f"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_refused_at_once(tmp_path):
    tmp_path.chmod(0o500)
    assert "could not be written: Permission denied" in error_of(OutputError, WavWriter, tmp_path / "a.wav", RATE, 2)


def test_long_names_leave_room_for_the_temporary_one(tmp_path):
    written(tmp_path / ("ü" * 120 + ".wav"), noise(10))


def test_outputs_have_the_mode_that_other_programs_give(tmp_path):
    before = os.umask(0o027)
    try:
        write_text_atomically(tmp_path / "a.yaml", "a: 1\n")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.yaml").stat().st_mode) == 0o640
    (tmp_path / "a.yaml").chmod(0o600)
    write_text_atomically(tmp_path / "a.yaml", "ä: 2\n", force=True)
    assert stat.S_IMODE((tmp_path / "a.yaml").stat().st_mode) == 0o600
    assert (tmp_path / "a.yaml").read_text(encoding="utf-8") == "ä: 2\n"


def test_a_link_is_followed_and_not_replaced(tmp_path):
    (tmp_path / "link.wav").symlink_to(tmp_path / "mix.wav")
    written(tmp_path / "link.wav", noise(10))
    assert (tmp_path / "link.wav").is_symlink() and (tmp_path / "mix.wav").is_file()
    written(tmp_path / "link.wav", noise(20), force=True)
    assert read_audio(tmp_path / "mix.wav")[0].shape == (2, 20)


def test_abort_after_commit_keeps_the_file(tmp_path):
    output = AtomicFile(tmp_path / "a.txt")
    output.file.write(b"whole")
    output.commit()
    output.abort()
    assert (tmp_path / "a.txt").read_bytes() == b"whole"


def test_flac_writer_is_chosen_by_name_whatever_its_case(tmp_path):
    with open_writer(tmp_path / "A.FLAC", RATE, 1, "16") as writer:
        writer.write(noise(10, 1))
    assert isinstance(writer, FlacWriter) and soundfile.info(tmp_path / "A.FLAC").format == "FLAC"
