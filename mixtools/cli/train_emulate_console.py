"""`mixtools train emulate console`: models of the console's channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mixtools.cli import emulators, options, training

if TYPE_CHECKING:
    from mixtools.files.corpora import Corpus

PROCESSORS = "equaliser", "compressor", "reverb"
ORDERS = "fixed", "random"

DESCRIPTION = f"""
The model learns to sound like the papers' channel (equaliser, compressor and reverb of the preset dmc) at any setting.
Nobody has to label anything: excerpts of any audio, changed by chance (scaled, turned, mixed with others, with noise,
holes and gaps), go through mixtools' own console at random settings, and the network has to come to the same. Half of
the excerpts have one processor alone at work. With --order random the processors stand in any order, which the model is
told.

{emulators.DESCRIPTION.strip()}
"""

EVERYDAY = "--output", "--network", "--only", "--steps", "--resume", "--dry-run"
"""What `--help` explains."""

EXAMPLES = (
    (
        "A quick try, with far too few steps to learn anything; `mixtools emulate FILES -m try` takes it:",
        "mixtools train emulate console rough.wav --validation ref.wav -o try --steps 1 --batch 1 --held-out 1",
    ),
    (
        "See what would be learned of the reverb, from a file of yours:",
        "mixtools train emulate console rough.wav --validation ref.wav --only reverb --dry-run",
    ),
)
"""What each example does, and its command line."""


def console(
    corpus: Annotated[
        str,
        typer.Argument(
            metavar="AUDIO",
            help="A file, a folder, a corpus of songs, or [bold]synth:SEED[/bold] for endless synthesised ones.",
            show_default=False,
        ),
    ],
    output: training.Folder = "training",
    network: emulators.Network = "strip",
    causal: emulators.Causal = False,
    only: Annotated[
        str | None, options.word_option("--only", PROCESSORS, "Learn one processor alone; all three unless given.")
    ] = None,
    order: Annotated[str, options.word_option("--order", ORDERS, "Of the processors: the papers', or any.")] = "fixed",
    alone: Annotated[
        float,
        options.number_option("--alone", "SHARE", "Of the excerpts, those with one processor at work.", 0.0, 1.0),
    ] = "0.5",
    loss: emulators.Loss = None,
    weights: emulators.Weights = None,
    steps: training.Steps = "10000",
    batch: emulators.Batch = str(emulators.BATCH),
    seconds: training.Seconds = "1.486",
    held_out: training.HeldOut = "24",
    validation: training.Validation = None,
    layout: training.Layout = None,
    rate: training.Rate = "44100",
    learning_rate: emulators.LearningRate = None,
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
    """Train a model of the console's channel, for `mixtools emulate`."""
    report = training.report_of(quiet, verbose)
    places = training.Places(output, export, resume, force)
    places.check()

    from mixtools.files.corpora import open_sounds
    from mixtools.tasks.train.emulate import ConsoleData, ConsoleExamples, console_about, held_out_of

    data = ConsoleData(seconds, rate, order == "random", only, alone, seed=seed)
    sounds = training.material(corpus, layout, validation, seed, _any, open_sounds)
    kind = f"{sounds.learned.name}: {training.size_of(sounds.learned)} to learn from"
    job = emulators.Job(
        report,
        places,
        data.spec(network, causal),
        loss,
        steps,
        batch,
        seconds,
        learning_rate,
        seed,
        weights,
        f"{kind}, {training.size_of(sounds.held_out)} to validate on",
        lambda: console_about(data),
        lambda: ConsoleExamples([sounds.learned], data, batch, short=network == "strip"),
        lambda: held_out_of([sounds.held_out], data, max(1, -(-held_out // batch)), batch),
        lambda: sounds.skipped,
    )
    job.do(device, threads, dry_run, json_, quiet)


def _any(corpus: Corpus) -> Corpus:
    return corpus
