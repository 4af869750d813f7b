"""The folder of a training: what it goes on from, its best weights, and its log."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    import fcntl
except ImportError:
    fcntl = None

from mixtools.errors import OutputError, ParameterError
from mixtools.files.outputs import AtomicFile, write_text_atomically
from mixtools.files.weights import packed, read_safetensors

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
LARGEST_RECORD_BYTES = 1 << 20
KINDS = "last", "best"
LOG = "log.csv"

_GIVE = "give another checkpoint, or train in another folder"
_PART = re.compile(r"\.(last|best|log)[.-].*\.part")


def read_checkpoint(folder: str | Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and record of a folder's checkpoint `last` or `best`; nothing but safetensors and JSON is read."""
    path = Path(folder) / f"{kind}.json"
    record = _read_record(path)
    if record.get("format") != FORMAT:
        raise ParameterError(f"{path} is of another version of mixtools, its format is not {FORMAT}; {_GIVE}")
    digest = record.get("sha256")
    if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
        raise ParameterError(f"{path} is damaged: it names no tensors; {_GIVE}")
    tensors = _tensors_path(Path(folder), kind, digest)
    state = read_safetensors(tensors)
    with open(tensors, "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != digest:
            raise ParameterError(f"{tensors} is damaged, its content is not what {path.name} names; {_GIVE}")
    return state, record


def _read_record(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            text = file.read(LARGEST_RECORD_BYTES + 1)
    except FileNotFoundError:
        raise ParameterError(f"{path} does not exist; give the folder of a training") from None
    except OSError as error:
        raise ParameterError(f"{path} cannot be read: {error.strerror}; {_GIVE}") from None
    if len(text) > LARGEST_RECORD_BYTES:
        raise ParameterError(f"{path} is larger than {LARGEST_RECORD_BYTES} bytes; {_GIVE}")
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        raise ParameterError(f"{path} is damaged or no JSON; {_GIVE}") from None
    if not isinstance(record, dict):
        raise ParameterError(f"{path} is no checkpoint; {_GIVE}")
    return record


def _tensors_path(folder: Path, kind: str, digest: str) -> Path:
    return folder / f"{kind}-{digest[:16]}.safetensors"


class TrainingFolder:
    """Keeps a training so that it can be killed at any moment.

    The record of a checkpoint names its tensors by their content, so that the two always belong together: the tensors
    are written under a new name, the record then changes in one go, and the old tensors are removed last.
    """

    def __init__(self, folder: str | Path, resume: bool = False):
        self.name = str(folder)
        self._folder = Path(folder)
        self._resume = resume
        self._lock: int | None = None

    def open(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What was saved as `last`, or None for a new training; makes the folder, and clears what a kill left there.

        Until it is closed, or the process ends, no other training can open it.
        """
        try:
            self._folder.mkdir(exist_ok=True)
            self._keep_others_out()
            found = {path.name for path in self._folder.iterdir()}
            if not self._resume and found & {LOG, *(f"{kind}.json" for kind in KINDS)}:
                give = "give --resume to go on with it, or another folder"
                raise ParameterError(f"{self.name} holds a training; {give}")
            for name in filter(_PART.fullmatch, found):
                (self._folder / name).unlink()
        except FileExistsError:
            raise ParameterError(f"{self.name} is a file; give a folder") from None
        except FileNotFoundError:
            raise ParameterError(f"{self.name}: {self._folder.parent} does not exist; create it first") from None
        except OSError as error:
            raise OutputError(f"{self.name}: could not be written: {error.strerror}") from error
        if "last.json" not in found:
            return None
        tensors, record = read_checkpoint(self._folder, "last")
        self._keep_only("last", record["sha256"])
        return tensors, record

    def _keep_others_out(self) -> None:
        """Lock the folder where its file system knows locks: nothing is left behind by a process that is killed."""
        if fcntl is None:
            return
        self.close()
        self._lock = os.open(self._folder, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            give = "wait until that has ended, or give another folder"
            raise ParameterError(f"{self.name} is in use by another training; {give}") from None
        except OSError:
            self.close()

    def close(self) -> None:
        """Let others train there."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def save(self, kind: str, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        """Replace the checkpoint `last` or `best`."""
        content = packed(tensors)
        digest = hashlib.sha256(content).hexdigest()
        self._write(_tensors_path(self._folder, kind, digest), content)
        text = json.dumps({"format": FORMAT, "sha256": digest, **record}, indent=1, allow_nan=False)
        self._write(self._folder / f"{kind}.json", text.encode())
        self._keep_only(kind, digest)

    def _keep_only(self, kind: str, digest: str) -> None:
        """Remove the tensors that no record names any more."""
        for old in self._folder.glob(f"{kind}-*.safetensors"):
            if old != _tensors_path(self._folder, kind, digest):
                old.unlink(missing_ok=True)

    def _write(self, path: Path, content: bytes) -> None:
        with AtomicFile(path, force=True) as output, output.writing() as file:
            file.write(content)
            # A name must not reach the disk before its content: the power can fail.
            file.flush()
            os.fsync(file.fileno())

    def keep_log(self, step: int) -> None:
        """Forget the log's rows of later steps, and one that was not written to its end."""
        path = self._folder / LOG
        try:
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError):
            raise ParameterError(f"{path} cannot be read as text; move it away") from None
        kept = lines[:1]
        for line in lines[1:]:
            number = re.match(r"(\d{1,12}),.*\n", line)
            if not number or int(number[1]) > step:
                break
            kept.append(line)
        write_text_atomically(path, "".join(kept) if len(kept) > 1 else "", force=True)

    def log(self, row: Mapping[str, Any]) -> None:
        """Add a row, under a header that the first one makes; empty where a value is None."""
        path = self._folder / LOG
        try:
            with open(path, "a+", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                file.seek(0)
                header = file.readline(LARGEST_RECORD_BYTES)
                if not header:
                    writer.writerow(row)
                elif header.rstrip("\n").split(",") != list(row):
                    raise ParameterError(f"{path} has other columns than {','.join(row)}; move it away")
                writer.writerow(row.values())
        except (OSError, UnicodeDecodeError) as error:
            raise OutputError(f"{path}: could not be written: {error}") from error
