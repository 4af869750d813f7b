"""What WAV and AIFF headers say that libsndfile does not pass on, and the chunks that WAV files are written with."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

UNKNOWN_SIZE = 0xFFFFFFFF
"""The size in a 32-bit field that says: look in the ds64 chunk, or read until the end of the file."""

UNKNOWN_LARGE_SIZE = 0xFFFFFFFF_FFFFFFFF

INFO_CHUNKS = {
    "title": b"INAM",
    "artist": b"IART",
    "album": b"IPRD",
    "date": b"ICRD",
    "comment": b"ICMT",
    "genre": b"IGNR",
    "copyright": b"ICOP",
    "tracknumber": b"ITRK",
}
"""Where each tag stands in a WAV file."""

_BEXT = struct.Struct("<256s32s32s10s8sQH254x")
_BEXT_VERSION = 1
_LARGEST_BEXT = 1 << 20


@dataclass(frozen=True)
class Bext:
    """The broadcast extension of a WAV file (EBU Tech 3285); `time_reference` is in samples since midnight."""

    description: str = ""
    originator: str = ""
    originator_reference: str = ""
    origination_date: str = ""
    origination_time: str = ""
    time_reference: int = 0
    coding_history: str = ""

    @classmethod
    def from_bytes(cls, payload: bytes) -> Bext:
        """Read the payload of a bext chunk, as much of it as is there."""
        *texts, time_reference, _ = _BEXT.unpack(payload[: _BEXT.size].ljust(_BEXT.size, b"\0"))
        return cls(*map(_text, texts), time_reference, _text(payload[_BEXT.size :]))

    def to_bytes(self) -> bytes:
        """The payload of a bext chunk; texts that are too long for their field are cut."""
        return (
            _BEXT.pack(
                _field(self.description, 256),
                _field(self.originator, 32),
                _field(self.originator_reference, 32),
                _field(self.origination_date, 10),
                _field(self.origination_time, 8),
                self.time_reference,
                _BEXT_VERSION,
            )
            + self.coding_history.encode()
        )


@dataclass(frozen=True)
class Header:
    """What a file's chunks say: its bext, the bytes of audio it promises and holds, and a correction to read it with.

    `patch` is an offset and the bytes to see there: libsndfile takes a size of 0, which writers to pipes
    leave behind, for no audio at all.
    """

    bext: Bext | None = None
    promised: int = 0
    held: int = 0
    patch: tuple[int, bytes] | None = None


def read_header(file: BinaryIO) -> Header:
    """Read the chunks of a WAV, RF64 or AIFF file; any other file has an empty header."""
    start = file.read(12)
    form, kind = start[:4], start[8:]
    if form in (b"RIFF", b"RF64") and kind == b"WAVE":
        return _read_wav(file, "<")
    if form == b"RIFX" and kind == b"WAVE":
        return _read_wav(file, ">")
    if form == b"FORM" and kind in (b"AIFF", b"AIFC"):
        return _read_aiff(file)
    return Header()


def chunk(name: bytes, payload: bytes) -> bytes:
    """One chunk: its name, its size, and its payload padded to an even length."""
    return struct.pack("<4sI", name, len(payload)) + payload + bytes(len(payload) % 2)


def info_chunk(tags: Mapping[str, str]) -> bytes:
    """The LIST INFO chunk of these tags, in the order of `INFO_CHUNKS`; nothing when there are none."""
    entries = [chunk(name, tags[tag].encode() + b"\0") for tag, name in INFO_CHUNKS.items() if tags.get(tag)]
    return chunk(b"LIST", b"INFO" + b"".join(entries)) if entries else b""


def _read_wav(file: BinaryIO, order: str) -> Header:
    chunks = _find_chunks(file, order)
    bext = None
    if b"bext" in chunks:
        start, size = chunks[b"bext"]
        bext = Bext.from_bytes(_read_at(file, start, min(size, _LARGEST_BEXT)))
    if b"data" not in chunks:
        return Header(bext)
    start, size = chunks[b"data"]
    file_size = file.seek(0, os.SEEK_END)
    held = min(size, file_size - start)
    rest = file_size - start
    if b"ds64" in chunks:
        if size in (0, UNKNOWN_LARGE_SIZE):
            sizes = struct.pack("<QQ", file_size - 8, rest)
            return Header(bext, rest, rest, (chunks[b"ds64"][0], sizes))
    elif size == 0 and _riff_size(file, order) + 8 <= start:
        return Header(bext, rest, rest, (start - 4, struct.pack(order + "I", min(rest, UNKNOWN_SIZE))))
    elif _is_open_ended(size):
        return Header(bext, held, held)
    return Header(bext, size, held)


def _read_aiff(file: BinaryIO) -> Header:
    chunks = _find_chunks(file, ">")
    if b"SSND" not in chunks:
        return Header()
    start, size = chunks[b"SSND"]
    held = min(size, file.seek(0, os.SEEK_END) - start)
    return Header(None, held if _is_open_ended(size) else size, held)


def _find_chunks(file: BinaryIO, order: str) -> dict[bytes, tuple[int, int]]:
    """Where the payload of the first chunk of each name starts, and its size."""
    found: dict[bytes, tuple[int, int]] = {}
    at = 12
    file_size = file.seek(0, os.SEEK_END)
    while at + 8 <= file_size:
        name, size = struct.unpack(order + "4sI", _read_at(file, at, 8))
        if not all(32 <= letter < 127 for letter in name):
            break
        if name == b"data" and size == UNKNOWN_SIZE and b"ds64" in found:
            (size,) = struct.unpack("<Q", _read_at(file, found[b"ds64"][0] + 8, 8).ljust(8, b"\0"))
        found.setdefault(name, (at + 8, size))
        at += 8 + size + size % 2
    return found


def _is_open_ended(size: int) -> bool:
    """Whether writers to pipes give this size: ffmpeg the largest, sox and arecord just about 2 GiB."""
    return size >= 0xFFFFF000 or 0x7FFFF000 <= size <= 0x80000000


def _riff_size(file: BinaryIO, order: str) -> int:
    return struct.unpack(order + "I", _read_at(file, 4, 4))[0]


def _read_at(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def _text(payload: bytes) -> str:
    payload = payload.split(b"\0", 1)[0]
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return payload.decode("latin-1")


def _field(text: str, size: int) -> bytes:
    """UTF-8 of at most `size` bytes, cut between two characters."""
    return text.encode()[:size].decode(errors="ignore").encode()
