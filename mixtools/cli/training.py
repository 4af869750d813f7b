"""What all `mixtools train` commands share: options, corpora in two parts, progress, and the model at the end."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixtools.cli import options
from mixtools.cli.report import Report, clock, count
from mixtools.controls import SAMPLE_RATE
from mixtools.errors import ParameterError

if TYPE_CHECKING:
    from mixtools.files.checkpoints import TrainingFolder
    from mixtools.files.corpora import Corpus
    from mixtools.nets.processes import World
    from mixtools.nets.training import Progress, State

MODEL = "model.safetensors"
"""What a training leaves in its folder, unless --export gives it a name."""

LINE_EVERY_S = 30.0
"""Where stderr is no terminal."""

PARTS = {"train": 0.9, "validation": 0.1}
"""Of a corpus, by artists; where the publisher has divided it, that stands."""

TRY_AGAIN = "; the same command with --resume goes on"


Corpora = Annotated[
    str,
    typer.Argument(
        metavar="CORPUS",
        help="A folder of songs, in any layout that the man page lists, or [bold]synth:SEED[/bold] for endless "
        "synthesised ones.",
        show_default=False,
    ),
]
Folder = Annotated[
    Path, typer.Option("--output", "-o", metavar="FOLDER", help="The training's folder: checkpoints, log, model.")
]
Export = Annotated[
    str | None,
    typer.Option(
        "--export",
        metavar="FILE",
        help=f"Write the best model here at the end, a .safetensors file, instead of FOLDER/{MODEL}.",
        show_default=False,
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with the training in FOLDER; all else must be as it was, but --steps.")
]


def _layouts() -> list[str]:
    from mixtools.files.corpora import LAYOUTS

    return [layout.name for layout in LAYOUTS]


Layout = Annotated[
    str | None,
    typer.Option(
        "--layout",
        metavar="NAME",
        help="How CORPUS lies in its folder, where it is not found out right.",
        autocompletion=options.completing(_layouts),
    ),
]
Validation = Annotated[
    str | None,
    typer.Option(
        "--validation",
        metavar="CORPUS",
        help="Validate on these songs; on a tenth of CORPUS, by artists, unless given.",
        show_default=False,
    ),
]
Steps = Annotated[int, options.whole_option("--steps", "Steps to train for at most.")]
Excerpts = Annotated[int, options.whole_option("--excerpts", "Different excerpts to learn from.", 1, 10**8)]
HeldOut = Annotated[int, options.whole_option("--held-out", "Excerpts to validate on.", 1, 10**6)]
Seconds = Annotated[
    float,
    options.number_option("--seconds", "S", "Length of an excerpt.", 0.1, 600.0),
]
Rate = Annotated[
    int,
    typer.Option(
        "--rate",
        metavar="HZ",
        parser=options.whole(replace(SAMPLE_RATE, name="--rate")),
        help="Rate to train at; what differs is resampled.",
    ),
]
LearningRate = Annotated[
    float,
    options.number_option("--learning-rate", "X", "Adam's step size, until validations stay in vain.", 1e-8, 1.0),
]
Seed = Annotated[int, options.seed_option("Seed of the first weights, the excerpts, their order, and the split.")]
Device = Annotated[
    str,
    options.word_option(
        "--device", options.DEVICES, "Where it is computed; torchrun gives every process a GPU of its own."
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more about what is learned from.")]


def family_option(help: str) -> Any:
    """An option --family, which may be repeated."""

    def families() -> list[str]:
        from mixtools.tasks.train.families import FAMILIES

        return list(FAMILIES)

    return typer.Option(
        "--family", metavar="NAME", help=help, show_default=False, autocompletion=options.completing(families)
    )


def report_of(quiet: bool, verbose: bool) -> Report:
    """What a training says: of the processes that torchrun started, only the first one does."""
    return Report(quiet or not speaks(), verbose)


def speaks() -> bool:
    """Whether this is the one process of those that train together that says what they do."""
    return os.environ.get("RANK", "0") == "0"


def device_of(asked: str) -> str:
    """The device that is asked for; refuses one that is not there."""
    import torch

    from mixtools.tasks.fit.descent import chosen_device

    there = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if asked in there and not there[asked]():
        raise ParameterError(f"--device is {asked}, but there is none; give cpu or auto")
    return chosen_device(asked)


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Let torch use so many threads meanwhile."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass
class Material:
    """Corpora to learn from and to validate on, which have no song in common unless that was asked for."""

    learned: Corpus
    held_out: Corpus

    @property
    def skipped(self) -> dict[Any, str]:
        return {**self.learned.skipped, **self.held_out.skipped}


def material(
    corpus: str,
    layout: str | None,
    validation: str | None,
    seed: int,
    narrowed: Callable[[Corpus], Corpus],
    opened: Callable[[str, str | None], Corpus] | None = None,
) -> Material:
    """Open the corpora; `narrowed` leaves out of each what cannot be learned from, or refuses it.

    `opened` opens one, `files.corpora.open_corpus` unless given.
    """
    from mixtools.files.corpora import ListedCorpus, open_corpus

    opened = opened or open_corpus
    whole = narrowed(opened(corpus, layout))
    if validation is not None:
        return Material(whole, narrowed(opened(validation, None)))
    try:
        parts = whole.splits(PARTS, seed)
    except ParameterError as error:
        if not isinstance(whole, ListedCorpus):
            raise
        raise ParameterError(
            f"{whole.name} has too few artists to validate on some ({count(len(whole), 'song')}); "
            "give --validation CORPUS, which may be the same"
        ) from error
    return Material(parts["train"], parts["validation"])


def apart(corpus: Corpus) -> int:
    """How far draws have to be from each other, so that excerpts of synthesised songs are each of another song."""
    from mixtools.files.corpora.corpus import DRAWS_PER_SYNTH_SONG, SynthCorpus
    from mixtools.files.excerpts import KEPT_SONGS

    return KEPT_SONGS * DRAWS_PER_SYNTH_SONG if isinstance(corpus, SynthCorpus) else 1


def size_of(corpus: Corpus) -> str:
    """How many songs a corpus has, in words."""
    return count(len(corpus), "song") if hasattr(corpus, "__len__") else "endless songs"


@dataclass
class Told:
    """What a training told of its progress."""

    last: Progress | None = None
    steps: int = 0
    """Done since it was started or resumed."""
    warned: set[Any] = field(default_factory=set)


@contextmanager
def telling(report: Report, steps: int, skipped: Callable[[], Mapping[Any, str]], quiet: bool) -> Iterator[Any]:
    """Gives a function that tells how far a training is: a bar on a terminal, else a line now and then.

    Its `told` is what it was told last. Files that turn out to be unusable are warned of as they do.
    """
    told = Told()

    def warn() -> None:
        for path, line in skipped().items():
            if path not in told.warned:
                told.warned.add(path)
                report.warn(line)

    with _shown(report, steps, quiet) as show:

        def tell(now: Progress) -> None:
            warn()
            told.last, told.steps = now, told.steps + 1
            show(now)

        tell.told = told
        yield tell


@contextmanager
def _shown(report: Report, steps: int, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    if quiet or sys.stderr is None:
        yield lambda now: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        columns = BarColumn(), TextColumn("{task.description}")
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(f"step 0 of {steps}", total=steps)
            yield lambda now: bar.update(task, completed=now.step, description=line_of(now))
    else:
        at = -LINE_EVERY_S

        def show(now: Progress) -> None:
            nonlocal at
            if now.step == now.steps or time.monotonic() - at >= LINE_EVERY_S:
                at = time.monotonic()
                report.note(line_of(now))

        yield show


def line_of(now: Progress) -> str:
    """Where a training is, for people."""
    best = "" if now.lowest_validation is None else f", lowest validation {now.lowest_validation:.4g}"
    left = "" if now.step == now.steps else f", {clock(now.remaining_s)} left"
    return f"step {now.step} of {now.steps}: loss {now.loss:.4g}{best}{left}"


@dataclass
class Places:
    """Where a training is kept, and where its model goes."""

    folder: Path
    export: str | None
    resume: bool
    force: bool

    @property
    def model(self) -> str:
        return self.export or str(self.folder / MODEL)

    def check(self) -> None:
        """Find out before any work what could not be written after it."""
        if self.export is None:
            return
        from mixtools.files.outputs import AtomicFile

        if not self.export.endswith(".safetensors"):
            raise ParameterError(f"--export is {self.export or 'empty'}; give a name that ends in .safetensors")
        AtomicFile(self.export, force=self.force).abort()

    def storage(self) -> TrainingFolder:
        from mixtools.files.checkpoints import TrainingFolder

        return TrainingFolder(self.folder, self.resume)


def trained(
    report: Report,
    places: Places,
    task: str,
    work: Callable[[TrainingFolder, Callable[[Progress], None], World], State],
    steps: int,
    device: str,
    threads: int,
    skipped: Callable[[], Mapping[Any, str]],
    more: Mapping[str, Any],
    quiet: bool,
) -> dict[str, Any]:
    """Do a training and write its model: what was done, for machines.

    `work` trains in a folder, and tells its progress, in the world of processes that train together. `more` is what a
    model says it is about, besides what its training says.
    """
    from mixtools.files.models import export
    from mixtools.nets.allocation import keep_pages
    from mixtools.nets.processes import processes

    began = time.perf_counter()
    keep_pages()
    with torch_threads(threads), processes(device_of(device)) as world, report.compiling():
        own = quiet or world.rank > 0
        with telling(report, steps, skipped, own) as tell:
            try:
                state = work(places.storage(), tell, world)
            except KeyboardInterrupt as interrupt:
                kept = "to be resumed from" in str(interrupt)
                raise KeyboardInterrupt(f"{interrupt}{TRY_AGAIN if kept else ''}") from None
        last, done = tell.told.last, tell.told.steps
        if world.rank > 0:
            return {}
        about = export(places.folder, places.model, task, dict(more), places.export is None or places.force)
    if last is None:
        report.note(f"{places.folder} is finished: {_ended(state, steps)}; give more --steps, or another folder")
    elif state.step < steps:
        report.note(_ended(state, steps))
    took = time.perf_counter() - began
    report.note(
        f"{places.model}: the weights of step {about['figures']['step']}, validation "
        f"{about['figures']['validation']:.4g}; {count(done, 'step')} in {took:.1f} s"
    )
    return {
        "folder": str(places.folder),
        "model": places.model,
        "steps": state.step,
        "new_steps": done,
        "best_step": about["figures"]["step"],
        "validation": about["figures"]["validation"],
        "loss": None if last is None else last.loss,
        "skipped": list(skipped().values()),
        "seconds_trained": state.seconds,
        "seconds_taken": took,
    }


def _ended(state: State, steps: int) -> str:
    if state.step >= steps:
        return f"{state.step} steps are done"
    return f"{state.in_vain} validations in a row brought nothing, at step {state.step}"


def refuse_recordings(corpus: Corpus) -> None:
    """Refuse a corpus of a device's recordings where songs are wanted."""
    from mixtools.files.corpora.corpus import SONGS

    if corpus.kind is not SONGS:
        raise ParameterError(
            f"{corpus.name} holds recordings of a device (layout {corpus.layout}); give songs with their stems"
        )


def refuse_nothing(corpus: Corpus, before: Corpus, why: str) -> None:
    """Say why nothing is left of a corpus."""
    if hasattr(corpus, "__len__") and not len(corpus):
        raise ParameterError(f"{before.name}: none of its {count(len(before), 'song')} {why}")
