"""Many files in one run: what was named is found first, then worked on side by side, and told in order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import typer

from mixtools.cli.options import STDIO
from mixtools.cli.report import Report, say, stdin_bytes, stdout_bytes
from mixtools.errors import ExitStatus, MixtoolsError, ParameterError
from mixtools.files.reading import AudioFile, list_audio, spool

Found = TypeVar("Found")
Progress = Callable[[float], None]


@dataclass(frozen=True)
class Input:
    """A file to read; `shown` is its name in messages."""

    path: Path
    shown: str

    def open(self) -> AudioFile:
        """The file, at its beginning."""
        return AudioFile(self.path, self.shown)

    def named(self, folder: str) -> str:
        """What it is called in a folder of outputs."""
        suffix = ".flac" if self.path.suffix.lower() == ".flac" else ".wav"
        return str(Path(folder) / f"{'stdin' if self.shown == 'stdin' else self.path.stem}{suffix}")

    def writer(
        self, file: AudioFile, target: str, bits: str | None, force: bool, rate: int = 0, channels: int = 0
    ) -> Any:
        """Its output, before any work is done: what is wrong with the name is said at once."""
        from mixtools.files.writing import default_bits, open_writer

        stream = stdout_bytes() if target == STDIO else target
        keywords = {"force": force, "tags": file.tags, "bext": file.bext}
        return open_writer(
            stream, rate or file.rate, channels or file.channels, bits or default_bits(target), **keywords
        )

    def facts(self, file: AudioFile) -> dict[str, Any]:
        """What every row about the file begins with."""
        return {"file": self.shown, "seconds": file.seconds, "sample_rate": file.rate, "channels": file.channels}


class _Stopped(Exception):
    """The run is over: leave at once."""


class Batch:
    """The files of a run. A bad one among several is named, and the others go on; `failed` counts them."""

    def __init__(self, inputs: list[Input], single: bool, report: Report):
        self.inputs = inputs
        self.single = single
        self.failed = 0
        self._report = report

    def each(self, what: str, work: Callable[[Input, Progress], Found], jobs: int = 1) -> Iterator[tuple[Input, Found]]:
        """Every input with what `work` finds, in order; `work` says which share of it is done, 0 to 1."""
        shares = dict.fromkeys(range(len(self.inputs)), 0.0)
        stopping = threading.Event()

        def one(index: int) -> Found:
            def progress(share: float) -> None:
                if stopping.is_set():
                    raise _Stopped
                shares[index] = share
                tell(round(1000 * sum(shares.values())))

            found = work(self.inputs[index], progress)
            shares[index] = 1.0
            return found

        workers = min(jobs, len(self.inputs))
        with self._report.progress(what, 1000 * len(self.inputs)) as tell:
            if workers == 1:
                yield from self._told(lambda index: one(index))
                return
            pool = ThreadPoolExecutor(workers)
            try:
                futures = [pool.submit(one, index) for index in range(len(self.inputs))]
                yield from self._told(lambda index: futures[index].result())
            finally:
                stopping.set()
                pool.shutdown(cancel_futures=True)

    def _told(self, found: Callable[[int], Found]) -> Iterator[tuple[Input, Found]]:
        for index, item in enumerate(self.inputs):
            try:
                result = found(index)
            except MixtoolsError as error:
                if self.single:
                    raise
                say(str(error))
                self.failed += 1
                continue
            yield item, result

    def targets(self, output: str, closing: ExitStack) -> dict[Input, str]:
        """Where the output of each file goes: `output` itself, or in that folder, which is made if need be.

        In a folder, files keep their names; what is not FLAC becomes WAV. No output may be an input.
        """
        from mixtools.cli.outputs import make_folder, refuse_inputs, refuse_twins

        if output == STDIO and len(self.inputs) > 1:
            raise ParameterError("-o - takes one file, and several are given; name a folder")
        into_folder = output != STDIO and (not self.single or output.endswith("/") or Path(output).is_dir())
        names = [item.named(output) if into_folder else output for item in self.inputs]
        refuse_twins(names)
        refuse_inputs(names, [item.path for item in self.inputs])
        if into_folder:
            make_folder(Path(output), "-o", closing)
        return dict(zip(self.inputs, names, strict=True))

    def finish(self) -> None:
        """End the run with the exit code that says whether all went well."""
        if self.failed:
            raise typer.Exit(ExitStatus.FAILED)


@contextmanager
def batch_of(arguments: list[str], report: Report) -> Iterator[Batch]:
    """The files that arguments name: themselves, those of folders, and stdin, which is kept until the run is over."""
    spooled: list[Path] = []
    try:
        inputs = []
        for argument in arguments:
            if argument == "":
                raise ParameterError("a file's name is empty; give an audio file, a folder, or - for stdin")
            if argument == STDIO:
                if spooled:
                    raise ParameterError("- is there twice; stdin can be read once")
                spooled.append(spool(stdin_bytes()))
                inputs.append(Input(spooled[0], "stdin"))
            elif Path(argument).is_dir():
                inputs += [Input(path, str(path)) for path in list_audio(argument)]
            else:
                inputs.append(Input(Path(argument), argument))
        single = len(arguments) == 1 and not Path(arguments[0]).is_dir()
        yield Batch(inputs, single, report)
    finally:
        for path in spooled:
            path.unlink(missing_ok=True)
