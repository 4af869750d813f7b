"""Every reader of files that strangers give, what a small good file of each kind is, and how such files are spoilt.

`test_hostile.py` tries a few hundred spoilt files of each kind; `bench/fuzz.py` tries as many as there is time for.
"""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import torch

from mixtools.errors import MixtoolsError
from mixtools.files.corpora.metadata import control_value, read_table
from mixtools.files.mixfile import format_mix, parse_mix, plain_tree, read_mix, read_text
from mixtools.files.models import open_model
from mixtools.files.reading import AudioFile
from mixtools.files.riff import Bext
from mixtools.files.weights import packed, read_model, read_weights
from mixtools.files.writing import FlacWriter, WavWriter
from mixtools.tasks.automix.model import Model as Mixer
from mixtools.tasks.emulate.model import Model as Emulator
from mixtools.tasks.transfer.controller import Controller

ROOT = Path(__file__).parent.parent
BLOCK = 4096
MOST_READ = 1 << 22
"""Samples of a file that claims to be endless."""


@dataclass(frozen=True)
class Reader:
    """What reads a file, and small good ones by name."""

    seeds: Callable[[], dict[str, bytes]]
    read: Callable[[Path], None]

    def __call__(self, path: Path) -> bool:
        """Read it; whether that went well. Anything but our own errors gets out."""
        try:
            self.read(path)
            return True
        except MixtoolsError as error:
            lines = str(error).splitlines()
            assert len(lines) == 1 and len(lines[0]) < 2000, str(error)
            return False


def _sounds() -> dict[str, bytes]:
    x = 0.3 * np.random.default_rng(0).standard_normal((2, 400)).astype(np.float32).clip(-1, 1)
    found = {}
    for bits in ("16", "24", "32f"):
        kept = io.BytesIO()
        tags, bext = {"title": "a title", "artist": "someone"}, Bext(description="a take")
        with WavWriter(kept, 44100, 2, bits, tags=tags, bext=bext) as writer:
            writer.write(x)
        found[f"{bits}.wav"] = kept.getvalue()
    kept = io.BytesIO()
    with FlacWriter(kept, 48000, 2, "16", tags={"title": "a title"}) as writer:
        writer.write(x)
    found["x.flac"] = kept.getvalue()
    for name, kind in (("x.aiff", "AIFF"), ("x.ogg", "OGG"), ("x.mp3", "MP3"), ("x64.wav", "RF64")):
        kept = io.BytesIO()
        soundfile.write(kept, np.tile(x[:1].T, (8, 1)), 44100, format=kind)
        found[name] = kept.getvalue()
    return found


def _hear(path: Path) -> None:
    with AudioFile(path, path.name) as file:
        done = 0
        while done < MOST_READ and (block := file.read(BLOCK)).shape[1]:
            done += block.shape[1]


def _mixes() -> dict[str, bytes]:
    whole = (ROOT / "examples" / "mix.yaml").read_bytes()
    return {
        "whole.yaml": whole,
        "curves.yaml": b"mixtools: 1\ntracks:\n- file: a.wav\n  chain: [{gain: {gain_db: [[0, -3], [1.5, 2]]}}]\n",
        "aliases.yaml": b"mixtools: 1\ntracks: &t\n- file: &a a.wav\n  chain: [{gain: {}}]\n- *t\n",
        "deep.yaml": b"mixtools: 1\ntracks: " + b"[" * 60 + b"]" * 60,
    }


def _read_mix(path: Path) -> None:
    mix = read_mix(path)
    assert parse_mix(format_mix(mix), path.name) == mix


@lru_cache(maxsize=1)
def _bundled() -> Emulator:
    return Emulator.load(*open_model("optical", "emulate"), "optical")


def _models() -> dict[str, bytes]:
    found = {}
    for task, name in (("emulate", "optical"), ("mix", "dmc"), ("transfer", "mst")):
        tensors, about = open_model(name, task)
        few = dict(list(tensors.items())[:2])
        short = {k: v.flatten()[:4].clone() for k, v in few.items()}
        found[f"{task}.safetensors"] = packed(short, about)
        if task == "emulate":
            network = about["network"] | {"controls": 0, "choices": [], "groups": []}
            found["no_controls.safetensors"] = packed(short, about | {"network": network})
    return found


def _load(path: Path) -> None:
    tensors, about = read_model(path)
    refused = 0
    for load in (Emulator.load, Mixer.load, Controller.load):
        try:
            load(tensors, about, path.name)
        except MixtoolsError:
            refused += 1
    assert refused == 3, "no spoilt model is whole"


def _weights() -> dict[str, bytes]:
    state = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(2)}
    kept = io.BytesIO()
    torch.save(state, kept)
    return {"x.pth": kept.getvalue(), "x.safetensors": packed(state, {})}


def _tables() -> dict[str, bytes]:
    return {
        "pairs.csv": b"input,target,drive,mode\na_in.wav,a_out.wav,3.5,warm\nb_in.wav,b_out.wav,1e1,clean\n",
        "pairs.yaml": b"- {input: a.wav, target: b.wav, drive: 3}\n- {input: c.wav, target: d.wav, drive: .5}\n",
    }


def _read_table(path: Path) -> None:
    for row in read_table(path) or ():
        for name, value in row.items():
            if name not in ("input", "target"):
                control_value(value, f"{name}")


def _settings() -> dict[str, bytes]:
    return {"a.yaml": b"reduction: 60\nemphasis: 0.25\n", "b.yaml": b"{reduction: 1.0e+1}"}


def _set(path: Path) -> None:
    _bundled().units(plain_tree(read_text(path, "a controls file"), path.name), path.name)


READERS = {
    "audio": Reader(_sounds, _hear),
    "mix": Reader(_mixes, _read_mix),
    "model": Reader(_models, _load),
    "weights": Reader(_weights, lambda path: read_weights(path) and None),
    "table": Reader(_tables, _read_table),
    "controls": Reader(_settings, _set),
}

EXTREMES = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", struct.pack("<Q", 1 << 62))
WORDS = (
    b"&a [*a, *a]",
    b"!!python/object/apply:os.system [x]",
    b"\n",
    b".nan",
    b"-.inf",
    b"1e999",
    b"../../x",
    b"\x00",
)


def spoilt(data: bytes, seed: int) -> bytes:
    """A file with one to four faults: cut off, bits turned, sizes blown up, pieces doubled, words put in."""
    rng = random.Random(seed)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(5)
        if kind == 0:
            data = data[:at]
        elif kind == 1 and data:
            at = min(at, len(data) - 1)
            data = data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
        elif kind == 2:
            size = rng.choice(EXTREMES)
            data = data[:at] + size + data[at + len(size) :]
        elif kind == 3:
            piece = data[at : at + rng.randint(1, 64)]
            data = data[:at] + piece * rng.randint(1, 40) + data[at:]
        else:
            data = data[:at] + rng.choice(WORDS) + data[at:]
    return data
