"""Reading audio files of any format and rate, in blocks and in bounded memory."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol
from weakref import WeakSet

import numpy as np

from mixtools.errors import AudioError, OutputError, ParameterError
from mixtools.files.riff import read_header

if TYPE_CHECKING:
    import soundfile

AUDIO_SUFFIXES = frozenset(
    [
        ".wav",
        ".wave",
        ".w64",
        ".rf64",
        ".flac",
        ".aif",
        ".aiff",
        ".aifc",
        ".ogg",
        ".oga",
        ".opus",
        ".mp3",
        ".au",
        ".caf",
    ]
)
"""The lower-case file name endings of the formats that libsndfile reads."""

KINDS = "WAV, FLAC, AIFF, OGG or MP3"
LOWEST_RATE_HZ = 8_000
HIGHEST_RATE_HZ = 192_000
CHUNK_FRAMES = 16_384

_PREROLL_FRAMES = 65_536
"""What lossy decoders are given to settle after a seek: MP3 needs its bit reservoir."""

_UNKNOWN_FRAMES = 1 << 62
_OGG_PAGE_BYTES = 65_307
_LIBSNDFILE_SYSTEM_ERROR = 2


def list_audio(folder: str | Path) -> list[Path]:
    """The audio files in a folder, not in folders below it, by name; hidden files are left out."""
    folder = Path(folder)
    wanted = f"give a folder of {KINDS} files"
    try:
        visible = [path for path in folder.iterdir() if not path.name.startswith(".") and not path.is_dir()]
    except FileNotFoundError:
        raise ParameterError(f"{folder} does not exist; {wanted}") from None
    except NotADirectoryError:
        raise ParameterError(f"{folder} is not a folder; {wanted}") from None
    except OSError as error:
        raise AudioError(f"{folder}: cannot be read: {error.strerror}; {wanted}") from error
    audio = sorted((path for path in visible if path.suffix.lower() in AUDIO_SUFFIXES), key=lambda path: path.name)
    if not audio:
        others = f" ({len(visible)} other file{'s' * (len(visible) > 1)})" if visible else ""
        raise AudioError(f"{folder}: holds no audio{others}; {wanted}")
    return audio


class Source(Protocol):
    """Audio that is read from its start to its end."""

    rate: int
    channels: int
    frames: int

    def read(self, n: int) -> np.ndarray: ...

    def close(self) -> None: ...


class _Chunked(ABC):
    """Serves reads of any size from chunks that are always the same, so that read sizes never change a sample."""

    channels: int
    frames: int
    _position = 0
    _rest = np.empty((1, 0), np.float32)

    def read(self, n: int) -> np.ndarray:
        """The next `n` samples, or what is left of them: float32, shape (channels, m), m <= n."""
        block = np.empty((self.channels, max(0, min(n, self.frames - self._position))), np.float32)
        filled = 0
        while filled < block.shape[1]:
            if self._rest.shape[1] == 0:
                self._rest = self._next_chunk()
            part = self._rest[:, : block.shape[1] - filled]
            block[:, filled : filled + part.shape[1]] = part
            self._rest = self._rest[:, part.shape[1] :]
            filled += part.shape[1]
        self._position += filled
        return block

    @abstractmethod
    def _next_chunk(self) -> np.ndarray:
        """The next samples, (channels, any number)."""

    @abstractmethod
    def close(self) -> None:
        """Release what reading needs."""

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AudioFile(_Chunked):
    """A mono or stereo file, checked as far as that goes without decoding it, then read from its start on.

    Nothing stays open until the first `read`, and at most `kept_open` lossless files stay open between reads:
    the others are opened for each chunk, so that thousands of stems can be read side by side. `shown` is
    the file's name in errors.
    """

    kept_open = 64
    _open_files: WeakSet[AudioFile] = WeakSet()

    def __init__(self, path: str | Path, shown: str | None = None) -> None:
        self.path = Path(path)
        self._shown = str(path) if shown is None else shown
        self._handles = ExitStack()
        self._file: soundfile.SoundFile | None = None
        self._decoded = 0
        self._file_at = 0
        self._read_header()
        try:
            self._check(self._open())
        finally:
            self.close()

    @property
    def seconds(self) -> float:
        """How long the file is."""
        return self.frames / self.rate

    def seek(self, frame: int) -> None:
        """Read on from this sample; what is read is what reading from the start would have come to."""
        if not 0 <= frame <= self.frames:
            raise ParameterError(f"{self._shown}: has no sample {frame}; give 0 to {self.frames}")
        self._position = self._decoded = frame
        self._rest = self._rest[:, :0]

    def _read_header(self) -> None:
        try:
            if self.path.exists() and not self.path.is_file():
                found = "a folder" if self.path.is_dir() else "a pipe or a device"
                raise ParameterError(f"{self._shown} is {found}; give a {KINDS} file")
            with open(self.path, "rb") as file:
                if file.seek(0, os.SEEK_END) == 0:
                    raise AudioError(f"{self._shown}: is empty; give a {KINDS} file")
                file.seek(0)
                self._header = read_header(file)
                self._ends_in_page = _ends_in_ogg_page(file)
        except (FileNotFoundError, NotADirectoryError):
            raise ParameterError(f"{self._shown} does not exist; give a {KINDS} file") from None
        except OSError as error:
            raise AudioError(f"{self._shown}: cannot be read: {error.strerror}; give a file that can be") from error
        self.bext = self._header.bext

    def _check(self, file: soundfile.SoundFile) -> None:
        self.rate: int = file.samplerate
        self.channels: int = file.channels
        self.frames: int = file.frames
        self.format: str = file.format
        self.subtype: str = file.subtype
        self.tags = {tag: text for tag, text in file.copy_metadata().items() if tag != "software"}
        if self.channels > 2:
            raise AudioError(f"{self._shown}: has {self.channels} channels; give mono or stereo")
        if not LOWEST_RATE_HZ <= self.rate <= HIGHEST_RATE_HZ:
            raise AudioError(
                f"{self._shown}: has a rate of {self.rate} Hz; give {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz"
            )
        if self.frames >= _UNKNOWN_FRAMES:
            raise AudioError(
                f"{self._shown}: its header does not say how long it is; encode it to a file, not to a pipe"
            )
        if self.frames == 0:
            raise AudioError(f"{self._shown}: has no samples; give a file that holds some")
        if self._ends_in_page:
            raise AudioError(f"{self._shown}: ends in the middle of an Ogg page; copy it again")
        if self._header.held < self._header.promised:
            promised = self.frames * self._header.promised // self._header.held
            if promised > self.frames:
                self._refuse_early_end(self.frames, promised)

    def _refuse_early_end(self, frames: int, promised: int) -> None:
        raise AudioError(
            f"{self._shown}: ends after {frames / self.rate:.2f} s"
            f" of the {promised / self.rate:.2f} s its header promises; copy it again"
        )

    def _open(self) -> soundfile.SoundFile:
        import soundfile

        if self._file is not None:
            return self._file
        try:
            self._file = self._handles.enter_context(soundfile.SoundFile(self._raw()))
            # soundfile seeks after every read of a seekable file; lossy decoders then stumble over the next samples.
            self._file.seekable = lambda: False
            self._file_at = 0
        except (soundfile.LibsndfileError, OSError, TypeError) as error:
            if isinstance(error, OSError) or getattr(error, "code", None) == _LIBSNDFILE_SYSTEM_ERROR:
                reason = "cannot be opened again; leave it in place while it is read"
            else:  # a TypeError is soundfile's word for headerless .raw files
                reason = f"is not audio that can be read; give {KINDS}"
            raise AudioError(f"{self._shown}: {reason}") from error
        self._open_files.add(self)
        return self._file

    def _raw(self) -> bytes | Path | _Patched:
        """What soundfile can open: bytes, where names need not be Unicode."""
        if self._header.patch is not None:
            return self._handles.enter_context(_Patched(self.path, *self._header.patch))
        return os.fsencode(self.path) if os.name == "posix" else self.path

    def _placed(self) -> soundfile.SoundFile:
        """The open file, where the next chunk begins."""
        if self.format == "OGG" and self._file_at > self._decoded:
            self.close()
        file = self._open()
        if self._file_at == self._decoded:
            return file
        # libsndfile 1.2.2 lands elsewhere in some places of Ogg files: they are decoded up to there.
        if self.format != "OGG":
            self._file_at = self._decoded if self._is_lossless else max(0, self._decoded - _PREROLL_FRAMES)
            file.seek(self._file_at)
        while self._file_at < self._decoded:
            n = min(CHUNK_FRAMES, self._decoded - self._file_at)
            file.read(n, dtype="float32")
            self._file_at += n
        return file

    def _next_chunk(self) -> np.ndarray:
        import soundfile

        n = min(CHUNK_FRAMES, self.frames - self._decoded)
        try:
            chunk = self._placed().read(n, dtype="float32", always_2d=True).T
        except soundfile.LibsndfileError as error:
            raise AudioError(
                f"{self._shown}: cannot be decoded beyond {self._decoded / self.rate:.2f} s"
                f" ({error.error_string.removeprefix('Error : ').rstrip('.')}); copy it again"
            ) from error
        if chunk.shape[1] < n:
            if self.format != "MP3":
                self._refuse_early_end(self._decoded + chunk.shape[1], self.frames)
            chunk = np.pad(chunk, ((0, 0), (0, n - chunk.shape[1])))
        self._refuse_not_finite(chunk)
        self._decoded += n
        self._file_at = self._decoded
        if self._decoded == self.frames or (self._is_lossless and len(self._open_files) > self.kept_open):
            self.close()
        return chunk

    @property
    def _is_lossless(self) -> bool:
        """Whether reading on after a seek gives the samples that reading straight on would."""
        return self.subtype.startswith("PCM") or self.subtype in ("FLOAT", "DOUBLE")

    def _refuse_not_finite(self, chunk: np.ndarray) -> None:
        finite = np.isfinite(chunk)
        if finite.all():
            return
        i, channel = np.argwhere(~finite.T)[0]
        found = "not a number" if np.isnan(chunk[channel, i]) else "infinite"
        sample = self._decoded + int(i)
        raise AudioError(
            f"{self._shown}: sample {sample} (at {sample / self.rate:.3f} s) is {found};"
            " give audio without NaN or infinite samples"
        )

    def close(self) -> None:
        """Close the file; a later `read` opens it again where it was."""
        self._handles.close()
        self._file = None
        self._open_files.discard(self)


class Resampled(_Chunked):
    """A source at another rate, its samples in place: `frames` is the length in seconds at the new rate, rounded up."""

    def __init__(self, source: Source, rate: int) -> None:
        import soxr

        self._source = source
        self._fed = 0
        self.rate = rate
        self.channels = source.channels
        self.frames = -(-source.frames * rate // source.rate)
        self._stream = soxr.ResampleStream(source.rate, rate, source.channels, dtype="float32", quality="VHQ")

    def _next_chunk(self) -> np.ndarray:
        """The next samples that come out; soxr may give some less than `frames`, the rest is silence."""
        while self._fed < self._source.frames:
            chunk = self._source.read(CHUNK_FRAMES)
            self._fed += chunk.shape[1]
            out = self._stream.resample_chunk(np.ascontiguousarray(chunk.T), last=self._fed == self._source.frames)
            if len(out):
                return out.T
        return np.zeros((self.channels, CHUNK_FRAMES), np.float32)

    def close(self) -> None:
        """Close the source."""
        self._source.close()


def read_audio(path: str | Path, max_seconds: float | None = None, shown: str | None = None) -> tuple[np.ndarray, int]:
    """A whole file, as float32 of shape (channels, n), and its rate in Hz; longer ones are refused undecoded."""
    with AudioFile(path, shown) as file:
        if max_seconds is not None and file.seconds > max_seconds:
            raise AudioError(
                f"{path if shown is None else shown}: is {file.seconds:.1f} s long; give at most {max_seconds:g} s"
            )
        return file.read(file.frames), file.rate


def spool(stream: BinaryIO, folder: str | Path | None = None) -> Path:
    """Copy what a pipe gives to a temporary file, which can be read twice; the caller deletes it."""
    with tempfile.NamedTemporaryFile(prefix="mixtools-", dir=folder, delete=False) as file:
        path = Path(file.name)
        try:
            shutil.copyfileobj(stream, file, 1 << 20)
            file.flush()
        except BaseException as error:
            path.unlink()
            if isinstance(error, OSError):
                raise OutputError(f"{path}: could not be written: {error.strerror or error}") from error
            raise
    return path


class _Patched(io.FileIO):
    """A file in which other bytes are seen at one place."""

    def __init__(self, path: Path, offset: int, patch: bytes) -> None:
        super().__init__(path, "rb")
        self._offset = offset
        self._patch = patch

    def readinto(self, buffer) -> int:
        start = self.tell()
        count = super().readinto(buffer)
        for at, byte in enumerate(self._patch, self._offset - start):
            if 0 <= at < count:
                buffer[at : at + 1] = bytes([byte])
        return count


def _ends_in_ogg_page(file: BinaryIO) -> bool:
    """Whether this is an Ogg file whose last page promises more bytes than follow."""
    file.seek(0)
    if file.read(4) != b"OggS":
        return False
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - _OGG_PAGE_BYTES))
    tail = file.read()
    page = tail[tail.rfind(b"OggS\0") :]
    segments = page[26] if len(page) > 26 else 255
    return len(page) < 27 + segments + sum(page[27 : 27 + segments])
