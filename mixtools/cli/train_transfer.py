"""`mixtools train transfer`: controllers for `mixtools transfer --model`."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixtools.cli import options, training
from mixtools.cli.report import Report, count
from mixtools.cli.tables import write_json
from mixtools.errors import ParameterError

if TYPE_CHECKING:
    from mixtools.cli.batch import Input
    from mixtools.files.corpora import Corpus

KINDS = {"mst": {}, "diff-mst": {"console": "diffmst", "hears": "spectra", "rounds": 1}}
"""Models by name, and what their specs differ in from ours."""

METHODS = "foreseen", "records", "same-song"

DESCRIPTION = """
The model is a controller for mixing style transfer (Vanka et al. 2024): spectrogram encoders for stems and records, a
transformer over all of them, and heads that set every stem's strip and the master's. Of the kinds, diff-mst is the
paper's; mst also hears what its answer would come to, foreseen from how the stems' bands add up, and corrects it in
three rounds, on a console whose ranges are those that mixes use.

The methods: same-song is the paper's first, where a random mix of one half of a song is the record for the other half,
and the loss is MR-STFT; records is its second, with other records, and the audio-feature loss of the mix; foreseen is
the second with the loss of the mix that is foreseen, many times as fast, and blind to dynamics. --weights goes on from
a model by another method: foreseen first and records later works well.

Records are the files of --references, for a share of the excerpts, and finished mixes of other songs of CORPUS: their
own, or those that families of mixing rules make, listed in the manual of `mixtools train mix`. FOLDER keeps the
training: log.csv has a row per step, and `last` and `best` are checkpoints. An interrupt (Ctrl-C) ends it after the
step that is being done; killed at any moment, it goes on with --resume, and comes to the same weights. At the end the
best weights are one file, which `mixtools transfer STEMS REF --model FILE` loads; `--model FOLDER` takes the best so
far.
"""

EVERYDAY = "--output", "--references", "--method", "--steps", "--resume", "--dry-run"
"""What `--help` explains."""

EXAMPLES = (
    (
        "A quick try, with far too few steps to learn anything; `mixtools transfer --model try` takes it:",
        "mixtools train transfer synth:7 -o try --steps 2 --batch 1 --excerpts 2 --held-out 1 --seconds 2 --rate 16000 "
        "--width 32 --references record.wav",
    ),
    (
        "See what would be learned from, by the paper's first method:",
        "mixtools train transfer synth:7 --kind diff-mst --method same-song -o paper --dry-run",
    ),
)
"""What each example does, and its command line."""


def transfer(
    corpus: training.Corpora,
    output: training.Folder = "training",
    references: Annotated[
        list[str] | None,
        typer.Option(
            "--references",
            metavar="DIR",
            help="Records to learn from, a file or a folder of them. May be repeated.",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[str, options.word_option("--kind", KINDS, "The model: mixtools' own, or as in the paper.")] = "mst",
    method: Annotated[
        str, options.word_option("--method", METHODS, "What is learned from, and by which loss; the man page has more.")
    ] = "foreseen",
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            metavar="FILE",
            help="Begin with these: a model of the same kind, whichever method it learned by.",
            show_default=False,
        ),
    ] = None,
    width: Annotated[
        int, options.whole_option("--width", "Width of the embeddings, a multiple of 32.", 32, 1024)
    ] = "192",
    steps: training.Steps = "10000",
    batch: Annotated[
        int | None,
        options.whole_option("--batch", "Excerpts per step; 16, 4 and 2 for the three methods unless given.", 1, 4096),
    ] = None,
    seconds: training.Seconds = "8",
    stems: Annotated[int, options.whole_option("--stems", "Stems per excerpt at most.", 4, 1000)] = "16",
    excerpts: training.Excerpts = "1000",
    held_out: training.HeldOut = "32",
    validation: training.Validation = None,
    layout: training.Layout = None,
    family: Annotated[
        list[str] | None,
        training.family_option(
            "A family of rules that songs without a mix are mixed by, for records. May be repeated."
        ),
    ] = None,
    rate: training.Rate = "44100",
    learning_rate: Annotated[
        float | None,
        options.number_option(
            "--learning-rate",
            "X",
            "Adam's step size; 1e-3, 1e-4 and 3e-4 for the methods unless given.",
            1e-8,
            1.0,
        ),
    ] = None,
    seed: training.Seed = "0",
    device: training.Device = "auto",
    threads: options.RoundingThreads = None,
    resume: training.Resume = False,
    export: training.Export = None,
    dry_run: options.DryRun = False,
    force: options.Force = False,
    json_: options.Json = False,
    quiet: options.Quiet = False,
    verbose: training.Verbose = False,
) -> None:
    """Train a controller that mixes like a record, for `mixtools transfer --model`."""
    report = training.report_of(quiet, verbose)
    places = training.Places(output, export, resume, force)
    places.check()

    from mixtools.files.excerpts import Excerpts
    from mixtools.nets.transfer import Spec
    from mixtools.tasks.train.families import TRAINED
    from mixtools.tasks.train.transfer import BATCH, Data, Lessons, new_controller, papers_training, train_transfer

    batch = batch or BATCH[method]
    spec = Spec(width=width, **KINDS[kind])
    data = Data(
        method,
        seconds,
        rate,
        most_stems=stems,
        families=tuple(family or TRAINED),
        seed=seed,
    )
    config = papers_training(method, steps, seed, batch)
    if learning_rate is not None:
        config = replace(config, rate=learning_rate)
    songs = training.material(corpus, layout, validation, seed, _usable)
    with ExitStack() as stack:
        records = _records(stack, references or [], report)
        if dry_run:
            if training.speaks():
                _say_plan(kind, method, songs, records, data, steps, batch, places, json_)
            return
        excerpts_of_records = stack.enter_context(closing(Excerpts()))
        from mixtools.cli.recordings import FileRecording

        sounds = [FileRecording(excerpts_of_records, item.path, rate) for item in records]
        net = new_controller(spec, rate, seed)
        if weights is not None:
            _begin_with(net, weights)
        size = sum(parameter.numel() for parameter in net.parameters())
        report.note(
            f"{songs.learned.name}: {training.size_of(songs.learned)} to learn from, "
            f"{training.size_of(songs.held_out)} to validate on, {count(len(records), 'record')}; {kind} with "
            f"{size / 1e6:.1f} million parameters, by {method}"
        )

        def work(storage: Any, tell: Any, world: Any) -> Any:
            learned, kept = (
                Lessons(part, replace(data, apart=training.apart(part)), number, sounds, net.console)
                for part, number in ((songs.learned, excerpts), (songs.held_out, held_out))
            )
            return train_transfer(net, learned, kept, config, storage, batch, world, tell)

        facts = training.trained(
            report,
            places,
            "transfer",
            work,
            steps,
            device,
            options.thread_count(threads),
            lambda: songs.skipped,
            {"kind": kind, "corpus": songs.learned.name},
            quiet,
        )
    if json_ and facts:
        write_json([{"kind": kind, "method": method, "parameters": size, **facts}], single=True)


def _usable(corpus: Corpus) -> Corpus:
    training.refuse_recordings(corpus)
    return corpus


def _records(stack: ExitStack, names: list[str], report: Report) -> list[Input]:
    """The records that are named, each of which can be heard."""
    from mixtools.cli.batch import batch_of
    from mixtools.cli.recordings import check_finished

    found = []
    for name in names:
        for item in stack.enter_context(batch_of([name], report)).inputs:
            check_finished(item, 0.0, None, give="a record")
            found.append(item)
    return found


def _begin_with(net: Any, path: str) -> None:
    from mixtools.files.models import open_model
    from mixtools.tasks.train.transfer import start_from

    tensors, about = open_model(path, "transfer")
    network = about.get("network")
    if isinstance(network, dict) and network != net.plain():
        differ = sorted(name for name, value in net.plain().items() if network.get(name) != value)
        raise ParameterError(f"{path} has another {', '.join(differ)}; give a model of this kind and width")
    start_from(net, tensors, path)


def _say_plan(
    kind: str,
    method: str,
    songs: training.Material,
    records: list[Input],
    data: Any,
    steps: int,
    batch: int,
    places: training.Places,
    json_: bool,
) -> None:
    """What a dry run has to say, on stdout."""
    learned, held_out = training.size_of(songs.learned), training.size_of(songs.held_out)
    if json_:
        facts = {"kind": kind, "method": method, "steps": steps, "batch": batch, "seconds": data.seconds}
        more = {"rate": data.rate, "stems": data.most_stems, "learned": learned, "held_out": held_out}
        names = {"references": [item.shown for item in records]}
        write_json([facts | more | names | {"folder": str(places.folder), "model": places.model}], single=True)
        return
    print(f"would train {kind} by {method}: {count(steps, 'step')} of {count(batch, 'excerpt')}")
    print(f"of {data.seconds:g} s at {data.rate} Hz with up to {count(data.most_stems, 'stem')}")
    print(f"from {songs.learned.name} (layout {songs.learned.layout}): {learned}, and {held_out} to validate on")
    print(f"records: {', '.join(item.shown for item in records) or 'finished mixes of the songs only'}")
    print(f"would write {Path(places.folder)} and {places.model}")
