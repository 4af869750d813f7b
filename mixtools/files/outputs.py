"""Outputs that appear under their name only when they are whole."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mixtools.errors import OutputError, ParameterError


class AtomicFile:
    """A binary file that is written under a temporary name in the same folder, and renamed by `commit`.

    What nothing can be renamed to (a stream, a pipe, a device) is written to a temporary file that
    `commit` copies. As a context manager it commits, or aborts on an exception.
    """

    def __init__(self, target: str | Path | BinaryIO, *, force: bool = False) -> None:
        self._force = force
        self.pending = True
        self._part: Path | None = None
        self._stream: BinaryIO | None = None
        if not isinstance(target, (str, Path)):
            self.shown = "stdout"
            self._stream = target
        else:
            self.shown = str(target)
            self._name = Path(target)
            if not is_device(target):
                self._name = Path(os.path.realpath(target))
                self._refuse_unusable()
                self._part = self._name.with_name(f".{self._name.name[:40]}.{secrets.token_hex(4)}.part")
        try:
            self.file = self._create()
        except OSError as error:
            raise self._failure(error) from error

    def _create(self) -> BinaryIO:
        return tempfile.TemporaryFile() if self._part is None else open(self._part, "x+b")

    def _refuse_unusable(self) -> None:
        try:
            folder = Path(self.shown).parent
            mode = _mode(folder)
            if mode is None or not stat.S_ISDIR(mode):
                found = "does not exist" if mode is None else "is not a folder"
                raise ParameterError(f"{self.shown}: the folder {folder} {found}; create it, or give another name")
            mode = _mode(self._name)
            if mode is not None and stat.S_ISDIR(mode):
                raise ParameterError(f"{self.shown} is a folder; give the name of a file in it")
            self._refuse_existing()
        except OSError as error:
            raise self._failure(error) from error

    def _refuse_existing(self) -> None:
        if not self._force and _mode(self._name) is not None:
            raise ParameterError(f"{self.shown} exists; give --force to overwrite it, or another name")

    def _failure(self, error: OSError) -> OutputError:
        return OutputError(f"{self.shown}: could not be written: {error.strerror or error}")

    @contextmanager
    def writing(self) -> Iterator[BinaryIO]:
        """Lend the file; whatever goes wrong removes it, and an `OSError` becomes an `OutputError`."""
        try:
            yield self.file
        except BrokenPipeError:
            self.abort()
            raise
        except OSError as error:
            self.abort()
            raise self._failure(error) from error
        except BaseException:
            self.abort()
            raise

    def commit(self) -> None:
        """Put the file in its place; a second call does nothing."""
        if not self.pending:
            return
        with self.writing():
            if self._stream is not None:
                self._copy_to(self._stream)
            elif self._part is None:
                with open(self._name, "wb") as device:
                    self._copy_to(device)
            else:
                self._rename()
        self.pending = False

    def _copy_to(self, stream: BinaryIO) -> None:
        self.file.seek(0)
        shutil.copyfileobj(self.file, stream, 1 << 20)
        stream.flush()
        self.file.close()

    def _rename(self) -> None:
        self.file.close()
        if not self._force:
            if self._link():
                return
            self._refuse_existing()
        with suppress(OSError):
            shutil.copymode(self._name, self._part)
        os.replace(self._part, self._name)

    def _link(self) -> bool:
        """Put it there as a renaming cannot, never over what another run has put there meanwhile; some disks cannot."""
        try:
            os.link(self._part, self._name)
        except OSError:
            return False
        self._part.unlink(missing_ok=True)
        return True

    def abort(self) -> None:
        """Leave nothing behind; does nothing after `commit`."""
        if not self.pending:
            return
        self.pending = False
        with suppress(OSError):
            self.file.close()
        if self._part is not None:
            self._part.unlink(missing_ok=True)

    def __enter__(self) -> AtomicFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.commit() if kind is None else self.abort()


def is_device(target: str | Path) -> bool:
    """Whether the name is a pipe or a device such as /dev/null: something to write into, not to replace."""
    with suppress(OSError):
        mode = _mode(target)
        return mode is not None and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
    return False


def _mode(path: str | Path) -> int | None:
    """Type and permissions of a file, or None where there is none."""
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def write_text_atomically(path: str | Path | BinaryIO, text: str, *, force: bool = False) -> None:
    """Write UTF-8 text under the same rules as audio: whole or not at all, and over nothing without `force`."""
    with AtomicFile(path, force=force) as output, output.writing() as file:
        file.write(text.encode(errors="surrogateescape"))
