"""From stems and a mix file to files: what every command that renders a mix shares."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mixtools import __version__
from mixtools.cli.options import STDIO
from mixtools.cli.outputs import make_folder, refuse_inputs, refuse_twins, warn_of_clipping
from mixtools.cli.report import Report, stdin_bytes, stdout_bytes
from mixtools.controls import ROOMS
from mixtools.dsp.console import BLOCK, Console, seconds_to_samples
from mixtools.errors import AudioError, ParameterError
from mixtools.files.mixfile import LARGEST_BYTES, decode, format_mix, parse_mix, read_text
from mixtools.files.outputs import AtomicFile
from mixtools.files.reading import read_audio
from mixtools.files.stems import Stem, agreed_bext, agreed_tags, at_rate, open_stems, reader
from mixtools.files.writing import default_bits, open_writer
from mixtools.mix import Mix
from mixtools.tasks.mix import (
    Sink,
    length_of,
    map_names,
    match_stems,
    models_named,
    render_to,
    responses_named,
    session_rate,
    stem_names,
)

if TYPE_CHECKING:
    from mixtools.dsp.console import Responses
    from mixtools.tasks.recordings import Recording

LONGEST_RESPONSE_S = 120.0


@dataclass
class Session:
    """Stems and the mix that was made for them, checked; `text` is the mix file's, if there is one.

    `responses` are impulse responses that are no files yet, (2, n) at the session's rate; `others` are files that are
    read besides the stems and responses.
    """

    stems: dict[str, Stem]
    mix: Mix
    rate: int
    mix_file: str | None = None
    text: str | None = None
    missing: list[str] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)
    named_files: dict[str, Path] = field(default_factory=dict)
    responses: dict[str, np.ndarray] = field(default_factory=dict)
    others: list[Path] = field(default_factory=list)
    sources: list[Any] = field(default_factory=list)

    @property
    def shown(self) -> str | None:
        """The mix file as errors name it."""
        return None if self.mix_file is None else _shown(self.mix_file)

    @property
    def used(self) -> list[Stem]:
        """The stems of the mix's tracks, in their order."""
        return [self.stems[track.file] for track in self.mix.tracks]

    @property
    def inputs(self) -> list[Path]:
        """Every file that is read."""
        stems = [stem.path for stem in self.stems.values() if stem.path is not None]
        return [*stems, *self.named_files.values(), *self.others]

    @property
    def frames(self) -> int:
        """The longest stem's length at the session's rate."""
        return max(round(stem.frames * self.rate / stem.rate) for stem in self.stems.values())

    def heard_responses(self) -> Responses:
        """The impulse responses that the mix names, and their rates, and the models that it names."""
        models = {name: str(self.named_files.get(name, name)) for _, name in models_named(self.mix)}
        files = {name: path for name, path in self.named_files.items() if name not in models}
        heard = {name: read_audio(path, LONGEST_RESPONSE_S) for name, path in files.items()}
        made = {name: (samples, self.rate) for name, samples in self.responses.items()}
        return heard | made | (_emulations(models) if models else {})

    def console(self, report: Report, threads: int) -> Console:
        """The console, with every stem at its beginning."""
        names = sorted({track.file for track in self.mix.tracks})
        for rate in sorted({self.stems[name].rate for name in names} - {self.rate}):
            moved = ", ".join(name for name in names if self.stems[name].rate == rate)
            report.note(f"{moved}: {rate} Hz, resampled to {self.rate} Hz")
        self.sources = [at_rate(reader(stem), self.rate) for stem in self.used]
        with _named(self.shown):
            console = Console(self.mix, self.sources, self.rate, threads=threads, responses=self.heard_responses())
        for note in console.notes:
            report.note(f"{self.shown}: {note}" if self.shown else note)
        return console


def _emulations(models: Mapping[str, str]) -> dict[str, Any]:
    """Models by the name that a mix gives them; networks use one thread each, so that every run has the same bits."""
    import torch

    from mixtools.files.models import open_model
    from mixtools.tasks.emulate.effect import Emulation
    from mixtools.tasks.emulate.model import Model

    torch.set_num_threads(1)
    return {name: Emulation(Model.load(*open_model(path, "emulate"), path)) for name, path in models.items()}


def read_mix_file(mix_file: str) -> tuple[Mix, str]:
    """A mix file's mix and its text."""
    shown = _shown(mix_file)
    text = read_text(mix_file) if mix_file != STDIO else decode(stdin_bytes().read(LARGEST_BYTES + 1), shown)
    return parse_mix(text, shown), text


def _shown(mix_file: str) -> str:
    """The mix file as errors name it."""
    return "stdin" if mix_file == STDIO else mix_file


def load(
    report: Report,
    stems: list[str],
    mix_file: str,
    maps: list[str],
    skip_missing: bool,
    rate: int | None,
    assets: Path | None,
) -> Session:
    """Open the stems, read the mix file, and match one to the other."""
    opened, broken = opened_stems(report, stems, "mix")
    shown = _shown(mix_file)
    mix, text = read_mix_file(mix_file)
    names = sorted([*opened, *broken])
    renamed = map_names(maps, names, mix)
    with _named(shown):
        matched = match_stems(mix, names, renamed, skip_missing)
    for track in matched.mix.tracks:
        if track.file in broken:
            raise broken[track.file]
    for name in matched.missing:
        report.warn(f"{shown}: {name} is not among the stems; its track is left out")
    if matched.unnamed:
        report.warn(f"{shown} has no track for {', '.join(matched.unnamed)}; not in the mix")
    chosen = session_rate(rate, matched.mix, [opened[name].rate for name in {t.file for t in matched.mix.tracks}])
    files = named_files(matched.mix, mix_file, assets)
    return Session(opened, matched.mix, chosen, mix_file, text, matched.missing, matched.unnamed, files)


def opened_stems(report: Report, stems: list[str], verb: str) -> tuple[dict[str, Stem], dict[str, AudioError]]:
    """Stems by file name, and what is wrong with those that cannot be used; `verb` says what they are for."""
    opened = open_stems(stems)
    inner = Path(stems[0]) / "stems"
    if len(stems) == 1 and inner.is_dir():
        report.warn(f"{stems[0]} holds a folder of stems, which is left alone; give {inner} to {verb} those")
    return opened


@contextlib.contextmanager
def _named(mix_file: str | None) -> Iterator[None]:
    """Puts the mix file's name before errors that say where in it something is."""
    try:
        yield
    except ParameterError as error:
        raise ParameterError(f"{mix_file}: {error}" if mix_file else str(error)) from None


def named_files(mix: Mix, mix_file: str, assets: Path | None = None) -> dict[str, Path]:
    """Where what a mix file names is, by the name it has there: impulse responses and models, beside it or in `assets`.

    Bundled rooms and models are nowhere.
    """
    folder = assets or (Path(mix_file).parent if mix_file != STDIO else Path())
    files = {}
    with _named(_shown(mix_file)):
        for where, name in responses_named(mix, ROOMS):
            files[name] = folder / name
            if not files[name].is_file():
                raise ParameterError(
                    f"{where} is {name}, but there is no {files[name]}; give a file beside the mix file, "
                    f"--assets DIR, or one of {', '.join(ROOMS)}"
                )
        for where, name in models_named(mix):
            known = _bundled_models()
            if name in known:
                continue
            files[name] = folder / name
            if not files[name].is_file():
                raise ParameterError(
                    f"{where} is {name}, but there is no {files[name]}; give a model beside the mix file, "
                    f"--assets DIR, or one of {', '.join(known)}"
                )
    return files


def _bundled_models() -> list[str]:
    from mixtools.files.models import bundled

    return bundled("emulate")


@dataclass
class Outputs:
    """Where a render goes: the mix, what feeds its master, and the mix file that makes it.

    `responses` says where the session's own go, by their name in the mix; `difference` is a file for what another
    recording has and the mix does not.
    """

    mix: str | None
    bits: str | None = None
    stems: Path | None = None
    mix_file: str | None = None
    force: bool = False
    command: str = ""
    responses: dict[str, Path] = field(default_factory=dict)
    difference: tuple[str, Recording] | None = None

    @property
    def mix_bits(self) -> str:
        return self.bits if self.bits is not None or self.mix is None else default_bits(self.mix)

    @property
    def rendered(self) -> bool:
        """Whether any of them is audio."""
        return self.mix is not None or self.stems is not None or self.difference is not None


@dataclass
class Written:
    """What was written, or would be."""

    bits: str
    seconds: float
    may_end_earlier: bool = False
    samples: int = 0
    peak_dbfs: float | None = None
    integrated_lufs: float | None = None
    clipped: int = 0
    parts: list[Path] = field(default_factory=list)


class _GivenUp(Exception):
    """Closes what was opened for writing without leaving any of it."""


def write(
    session: Session,
    console: Console,
    outputs: Outputs,
    start: float,
    end: float | None,
    tail: float | None,
    report: Report,
    dry_run: bool = False,
) -> Written:
    """Render into files, from `start` to `end` or `tail` past the stems (in seconds); all of them appear, or none.

    A dry run opens every output, to see that it could be written, and gives it up again.
    """
    first = seconds_to_samples(start, session.rate)
    last = None if end is None else seconds_to_samples(end, session.rate)
    more = None if tail is None else seconds_to_samples(tail, session.rate)
    stop, may_end_earlier = length_of(console, last, more)
    part_bits = "32f" if outputs.bits is None else outputs.bits
    written = Written(outputs.mix_bits, (stop - first) / session.rate, may_end_earlier)
    names = stem_names(session.mix, console.feeders) if outputs.stems else {}
    paths = {key: outputs.stems / name for key, name in names.items()}
    written.parts = list(paths.values())
    copies = _copies_of_named(session, outputs)
    _refuse_names(session, outputs, written.parts, copies)
    if stop <= first:
        if end is not None:
            raise ParameterError(f"--end is {end:g}, less than a sample after --start {start:g}; give a later end")
        raise ParameterError(f"--start is {start:g}, but the mix ends at {stop / session.rate:g} s; start earlier")
    keywords: dict[str, Any] = {
        "force": outputs.force,
        "position": first,
        "tags": agreed_tags(session.used),
        "bext": agreed_bext(session.used, session.rate, first),
    }
    with contextlib.suppress(_GivenUp), contextlib.ExitStack() as closing:
        for source in session.sources:
            closing.callback(source.close)

        def opened(target: str | Path, bits: str, stream: int = 0) -> Any:
            target = stdout_bytes() if target == STDIO else target
            return closing.enter_context(open_writer(target, session.rate, 2, bits, stream=stream, **keywords))

        sinks = {} if outputs.mix is None else {outputs.mix: opened(outputs.mix, outputs.mix_bits)}
        difference = None
        if outputs.difference is not None:
            name, recording = outputs.difference
            difference = Difference(recording, opened(name, default_bits(name)), first)
        if outputs.stems:
            make_folder(outputs.stems, "--stems-out", closing)
        parts = {key: opened(path, part_bits, stream) for stream, (key, path) in enumerate(paths.items(), 1)}
        if outputs.mix_file:
            _write_mix_file(session, outputs, copies, closing)
        if dry_run:
            for name in {track.file for track in session.mix.tracks}:
                _read_through(reader(session.stems[name]))
            raise _GivenUp
        if outputs.rendered:
            sink = Several([*sinks.values(), *([difference] if difference else [])])
            with report.progress("mixing", stop - first) as progress:
                rendered = render_to(console, sink, first, last, more, parts, progress)
            if difference:
                difference.finish()
            if not rendered.frames:
                ends = "; its tail cannot be heard any more" if first >= console.frames else ""
                raise ParameterError(f"--start is {start:g}, where the mix is over{ends}; start earlier")
            written.samples, written.seconds = rendered.frames, rendered.frames / session.rate
            written.peak_dbfs, written.integrated_lufs = rendered.peak_dbfs, rendered.integrated_lufs
            written.clipped = sum(writer.clipped for writer in sinks.values())
    if not dry_run:
        for name, writer in [*sinks.items(), *((str(paths[key]), part) for key, part in parts.items())]:
            shown = "stdout" if name == STDIO else name
            warn_of_clipping(report, shown, writer, "lower the master by {:.1f} dB, limit it")
    return written


def _refuse_names(session: Session, outputs: Outputs, parts: list[Path], copies: dict[str, Path]) -> None:
    """No output may be an input, and no two may be one file; a mix file may be written over itself."""
    mix_files = [name for name in (session.mix_file,) if name not in (None, STDIO)]
    difference = outputs.difference[0] if outputs.difference else None
    refuse_inputs([outputs.mix, difference, *parts], [*session.inputs, *mix_files])
    responses = [*copies.values(), *outputs.responses.values()]
    refuse_inputs([outputs.mix_file, *responses], session.inputs)
    refuse_twins([outputs.mix, difference, *parts, outputs.mix_file, *responses])


class Several:
    """Gives what it is given to several sinks."""

    def __init__(self, sinks: list[Sink]):
        self._sinks = sinks

    def write(self, block: np.ndarray) -> None:
        for sink in self._sinks:
            sink.write(block)


class Difference:
    """Writes a recording minus what it is given, from sample `start` on, as long as the recording."""

    def __init__(self, recording: Recording, sink: Sink, start: int = 0):
        self._recording = recording
        self._sink = sink
        self._at = start

    def write(self, block: np.ndarray) -> None:
        n = min(block.shape[1], self._recording.frames - self._at)
        if n > 0:
            self._sink.write(self._recording.read(self._at, n) - block[:, :n])
            self._at += n

    def finish(self) -> None:
        """Write what the recording has after the end of what it is compared with."""
        while self._at < self._recording.frames:
            self.write(np.zeros((2, BLOCK), np.float32))


def _read_through(stem: Stem) -> None:
    """Decode a whole stem, for what only that can find."""
    with stem:
        while stem.read(BLOCK).shape[1]:
            pass


def _copies_of_named(session: Session, outputs: Outputs) -> dict[str, Path]:
    """Where copies go of what the mix names and is not beside the mix file, by their name in the mix.

    A mix file on stdout has no place: what it names stays where --assets says.
    """
    copies: dict[str, Path] = {}
    if outputs.mix_file in (None, STDIO):
        return copies
    target = Path(outputs.mix_file)
    for name, path in session.named_files.items():
        if os.path.realpath(target.parent / name) != os.path.realpath(path):
            taken = [copy.name for copy in copies.values()]
            copies[name] = target.parent / _free_name(f"{target.stem}.{path.name}", taken)
    return copies


def _write_mix_file(session: Session, outputs: Outputs, copies: dict[str, Path], closing: contextlib.ExitStack) -> None:
    """Write the mix file, its session's own impulse responses, and copies of others that are not beside it already."""
    target = outputs.mix_file
    for folder in {path.parent for path in outputs.responses.values()}:
        make_folder(folder, "--assets", closing)
    for name, path in outputs.responses.items():
        samples = session.responses[name]
        writer = open_writer(path, session.rate, len(samples), force=outputs.force)
        closing.enter_context(writer).write(samples)
    for name, path in copies.items():
        copy = closing.enter_context(AtomicFile(path, force=outputs.force))
        with session.named_files[name].open("rb") as source, copy.writing() as file:
            shutil.copyfileobj(source, file)
    made = {"by": f"mixtools {__version__}", "command": outputs.command}
    notes = session.mix.notes | {"made": made}
    mix = replace(session.mix, sample_rate=session.rate, notes=notes).check()
    for _, insert in mix.inserts():
        for control in {"convolution": ("ir",), "neural": ("model",)}.get(insert.effect, ()):
            if insert.controls.get(control) in copies:
                insert.controls[control] = copies[insert.controls[control]].name
    stream = stdout_bytes() if target == STDIO else target
    output = closing.enter_context(AtomicFile(stream, force=outputs.force))
    with output.writing() as file:
        file.write(format_mix(mix, session.text).encode())


def _free_name(name: str, taken: Iterable[str]) -> str:
    """The name, numbered if another has it."""
    base, suffix = os.path.splitext(name)
    number = 1
    while name in taken:
        number += 1
        name = f"{base}_{number}{suffix}"
    return name
