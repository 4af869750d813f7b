"""Writing WAV and FLAC files, in blocks and in bounded memory, the same bytes each time."""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mixtools.errors import ParameterError
from mixtools.files.outputs import AtomicFile, is_device
from mixtools.files.riff import INFO_CHUNKS, UNKNOWN_SIZE, Bext, chunk, info_chunk

BITS = ("16", "24", "32f")
DITHER_SEED = 1
CHUNK_FRAMES = 65_536

_PCM, _FLOAT = 1, 3


class _Dither:
    """Rounds samples to whole numbers with triangular dither that depends on the place in the session alone."""

    def __init__(self, bits: int, channels: int, position: int, stream: int) -> None:
        self._full_scale = 2 ** (bits - 1)
        self._noise = np.random.PCG64(np.random.SeedSequence([DITHER_SEED, stream]))
        self._noise.advance(position * channels)

    def quantise(self, samples: np.ndarray) -> np.ndarray:
        """Float samples, shape (n, channels), as int32 in steps of the least significant bit."""
        halves = self._noise.random_raw(samples.size).astype("<u8").view("<u4").reshape(*samples.shape, 2)
        noise = (halves[..., 0].astype(np.float64) - halves[..., 1]) / 2**32
        steps = np.rint(samples * float(self._full_scale) + noise)
        return np.clip(steps, -self._full_scale, self._full_scale - 1).astype(np.int32)


class _Writer(ABC):
    """What both writers share.

    `target` is a path, or a binary stream that gets the file on `close`. `bits` is "16" or "24" (integers with
    triangular dither of one step either way, seeded by the place in the session, where the file starts at sample
    `position`, and by `stream`, so that files that will be summed have dithers of their own) or "32f" (float). `peak`
    is the largest sample written so far, `clipped` the number of samples beyond the full scale of integers.
    """

    def __init__(
        self,
        target: str | Path | BinaryIO,
        rate: int,
        channels: int,
        bits: str = "32f",
        *,
        force: bool = False,
        tags: Mapping[str, str] | None = None,
        bext: Bext | None = None,
        position: int = 0,
        stream: int = 0,
    ) -> None:
        self._check_bits(target, bits)
        self.rate = rate
        self.channels = channels
        self.bits = bits
        self.frames = 0
        self.peak = 0.0
        self.clipped = 0
        self._dither = None if bits == "32f" else _Dither(int(bits), channels, position, stream)
        self._output = AtomicFile(target, force=force)
        with self._output.writing() as file:
            self._begin(file, tags or {}, bext)

    def _check_bits(self, target: str | Path | BinaryIO, bits: str) -> None:
        if bits not in BITS:
            raise ParameterError(f"--bits is {bits}; give {', '.join(BITS[:-1])} or {BITS[-1]}")

    def write(self, block: np.ndarray) -> None:
        """Append samples: float, shape (channels, n), full scale at 1."""
        if block.ndim != 2 or block.shape[0] != self.channels:
            raise ValueError(f"the block's shape is {block.shape}; give ({self.channels}, n)")
        for start in range(0, block.shape[1], CHUNK_FRAMES):
            samples = np.ascontiguousarray(block[:, start : start + CHUNK_FRAMES].T, np.float32)
            sizes = np.abs(samples)
            self.peak = max(self.peak, float(sizes.max()))
            if self._dither is not None:
                self.clipped += int(np.count_nonzero(sizes > 1))
                samples = self._dither.quantise(samples)
            with self._output.writing() as file:
                self._append(file, samples)
            self.frames += len(samples)

    def close(self) -> None:
        """Make the file whole and put it under its name."""
        if self._output.pending:
            with self._output.writing() as file:
                self._finish(file)
            self._output.commit()

    def abort(self) -> None:
        """Leave nothing behind."""
        self._output.abort()

    @abstractmethod
    def _begin(self, file: BinaryIO, tags: Mapping[str, str], bext: Bext | None) -> None:
        """What stands before the samples."""

    @abstractmethod
    def _append(self, file: BinaryIO, samples: np.ndarray) -> None:
        """Some samples, (n, channels)."""

    @abstractmethod
    def _finish(self, file: BinaryIO) -> None:
        """What makes the file whole."""

    def __enter__(self):
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close() if kind is None else self.abort()


class WavWriter(_Writer):
    """Writes a WAV file, or RF64 when it grows beyond what WAV can hold; the same input gives the same bytes.

    libsndfile is not used: it stamps float files with the time of writing (in their PEAK chunk), and
    soundfile cannot make it write a bext chunk.
    """

    largest_riff_bytes = UNKNOWN_SIZE - 1

    def _begin(self, file: BinaryIO, tags: Mapping[str, str], bext: Bext | None) -> None:
        self._frame_bytes = self.channels * int(self.bits.removesuffix("f")) // 8
        self._info = info_chunk(tags)
        self._bext = b"" if bext is None else chunk(b"bext", bext.to_bytes())
        file.write(self._header())

    def _header(self) -> bytes:
        """Everything before the samples, as it is right for `frames`; its length never changes."""
        data_bytes = self.frames * self._frame_bytes
        described = self._bext + self._format() + self._info
        large_sizes = struct.Struct("<QQQI")
        riff_bytes = 4 + 8 + large_sizes.size + len(described) + 8 + data_bytes + data_bytes % 2
        if riff_bytes <= self.largest_riff_bytes:
            start = struct.pack("<4sI4s", b"RIFF", riff_bytes, b"WAVE") + chunk(b"JUNK", bytes(large_sizes.size))
            return start + described + struct.pack("<4sI", b"data", data_bytes)
        start = struct.pack("<4sI4s", b"RF64", UNKNOWN_SIZE, b"WAVE")
        start += chunk(b"ds64", large_sizes.pack(riff_bytes, data_bytes, self.frames, 0))
        return start + described + struct.pack("<4sI", b"data", UNKNOWN_SIZE)

    def _format(self) -> bytes:
        kind = _FLOAT if self._dither is None else _PCM
        sample_bits = 8 * self._frame_bytes // self.channels
        fields = struct.pack(
            "<HHIIHH", kind, self.channels, self.rate, self.rate * self._frame_bytes, self._frame_bytes, sample_bits
        )
        if kind == _PCM:
            return chunk(b"fmt ", fields)
        no_extension = struct.pack("<H", 0)
        return chunk(b"fmt ", fields + no_extension) + chunk(b"fact", struct.pack("<I", min(self.frames, UNKNOWN_SIZE)))

    def _append(self, file: BinaryIO, samples: np.ndarray) -> None:
        if self.bits == "32f":
            file.write(samples.astype("<f4", copy=False))
        elif self.bits == "16":
            file.write(samples.astype("<i2"))
        else:
            low_bytes = samples.astype("<i4", copy=False).view(np.uint8).reshape(-1, 4)[:, :3]
            file.write(np.ascontiguousarray(low_bytes))

    def _finish(self, file: BinaryIO) -> None:
        file.write(bytes(self.frames * self._frame_bytes % 2))
        file.seek(0)
        file.write(self._header())


class FlacWriter(_Writer):
    """Writes a FLAC file whose samples are those of the WAV file that `WavWriter` makes of the same input.

    FLAC has no place for a bext; it is left out.
    """

    def _check_bits(self, target: str | Path | BinaryIO, bits: str) -> None:
        super()._check_bits(target, bits)
        if bits == "32f":
            raise ParameterError(f"{target}: FLAC holds 16 or 24 bits; give --bits 24")

    def _begin(self, file: BinaryIO, tags: Mapping[str, str], bext: Bext | None) -> None:
        import soundfile

        self._sink = _Sink(file)
        self._errors = (AssertionError, soundfile.LibsndfileError)
        self._encoder = soundfile.SoundFile(
            self._sink, "w", self.rate, self.channels, f"PCM_{self.bits}", format="FLAC"
        )
        for tag in INFO_CHUNKS:
            if tags.get(tag):
                setattr(self._encoder, tag, tags[tag])

    def _append(self, file: BinaryIO, samples: np.ndarray) -> None:
        self._encode(self._encoder.write, samples << (32 - int(self.bits)))

    def _finish(self, file: BinaryIO) -> None:
        self._encode(self._encoder.close)

    def _encode(self, step, *arguments) -> None:
        """Take one step of the encoder; of a failed write, raise the reason that the sink has seen."""
        try:
            step(*arguments)
        except self._errors as error:
            raise self._sink.error or error from error
        if self._sink.error is not None:
            raise self._sink.error


class _Sink:
    """What libsndfile writes through: it keeps the reason of a failure, which libsndfile would lose."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | ValueError | None = None

    def write(self, data: bytes) -> int:
        return self._try(self._file.write, data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._try(self._file.seek, offset, whence)

    def tell(self) -> int:
        return self._try(self._file.tell)

    def _try(self, method, *arguments) -> int:
        try:
            return method(*arguments)
        except (OSError, ValueError) as error:
            self.error = self.error or error
            return 0


def open_writer(
    target: str | Path | BinaryIO,
    rate: int,
    channels: int,
    bits: str = "32f",
    *,
    force: bool = False,
    tags: Mapping[str, str] | None = None,
    bext: Bext | None = None,
    position: int = 0,
    stream: int = 0,
) -> WavWriter | FlacWriter:
    """The writer for a name's ending; streams, pipes and devices get WAV."""
    writer = WavWriter
    if isinstance(target, (str, Path)) and not is_device(target):
        suffix = Path(target).suffix.lower()
        if Path(target).is_dir():
            raise ParameterError(f"{target} is a folder; give the name of a file in it")
        if suffix not in (".wav", ".flac"):
            raise ParameterError(f"{target}: give a name that ends in .wav or .flac")
        writer = FlacWriter if suffix == ".flac" else WavWriter
    return writer(target, rate, channels, bits, force=force, tags=tags, bext=bext, position=position, stream=stream)


def default_bits(name: str) -> str:
    """The sample format of a file for whose name nobody asked for one."""
    return "24" if name.lower().endswith(".flac") else "32f"


def write_audio(path: str | Path, samples: np.ndarray, rate: int, bits: str = "32f", *, force: bool = False) -> None:
    """Write (n,) or (channels, n) as a WAV or FLAC file."""
    samples = np.atleast_2d(samples)
    with open_writer(path, rate, len(samples), bits, force=force) as writer:
        writer.write(samples)
