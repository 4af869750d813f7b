"""`mixtools train emulate device`: models of devices that are known from recordings."""

from __future__ import annotations

from typing import Annotated

import typer

from mixtools.cli import emulators, options, training
from mixtools.cli.report import count

SPLITS = "settings", "time", "blocks"

DESCRIPTION = f"""
The model learns a device from recordings of what went in and what came out. Where its controls were moved, their values
stand in the file names (SignalTrain's LA-2A layout), or in a CSV or YAML table beside the recordings; recordings of one
setting make a model without controls. The layouts are listed below. Every recording is lined up by itself: latency and
inverted polarity are found and taken out, and said with -v.

Something is kept from the training to measure with, which `mixtools emulate --evaluate PAIRS` does: whole settings, so
that it is told how well unseen ones are met, or the end of every recording where there are fewer than six settings;
with --split blocks, the end of every second, for recordings such as sweeps that are never twice the same. Published
splits are kept. The first 0.4 s of every excerpt are heard but do not count: what a device does there depends on what
came before.

{emulators.DESCRIPTION.strip()}
"""

EVERYDAY = "--output", "--network", "--split", "--steps", "--resume", "--dry-run"
"""What `--help` explains."""

EXAMPLES = (
    (
        "A quick try, with far too few steps; `mixtools emulate --evaluate pairs/ -m try` measures it:",
        "mixtools train emulate device pairs/ -o try --steps 1 --batch 1 --held-out 1 --seconds 0.5",
    ),
    ("See what would be learned from, and how it lies in time:", "mixtools train emulate device pairs/ --dry-run -v"),
)
"""What each example does, and its command line."""


def device(
    pairs: Annotated[
        str,
        typer.Argument(
            metavar="PAIRS",
            help="A folder of recordings, in any layout that the man page lists.",
            show_default=False,
        ),
    ],
    output: training.Folder = "training",
    network: emulators.Network = "strip",
    causal: emulators.Causal = False,
    split: Annotated[
        str | None,
        options.word_option(
            "--split",
            SPLITS,
            "What is kept to measure with: settings, or the end of every recording, or of every second.",
        ),
    ] = None,
    mixup: Annotated[
        float,
        options.number_option("--mixup", "ALPHA", "Blend pairs of excerpts (the thesis takes up to 0.4).", 0.0, 10.0),
    ] = "0",
    loss: emulators.Loss = None,
    weights: emulators.Weights = None,
    steps: training.Steps = "10000",
    batch: emulators.Batch = str(emulators.BATCH),
    seconds: training.Seconds = "1.5",
    held_out: training.HeldOut = "24",
    layout: training.Layout = None,
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
    """Train a model of a device from recordings of it, for `mixtools emulate`."""
    report = training.report_of(quiet, verbose)
    places = training.Places(output, export, resume, force)
    places.check()

    from mixtools.files.corpora import open_corpus
    from mixtools.tasks.train.devices import DeviceData, DeviceExamples, Recordings, held_out_of

    corpus = open_corpus(pairs, layout)
    recordings = Recordings(corpus, DeviceData(seconds, mixup, split, seed))
    for one in recordings.recordings:
        turned = ", inverted" if one.inverted else ""
        report.detail(f"{one.pair.name}: {one.latency} samples late{turned}, {one.frames / recordings.rate:.1f} s")
    names = ", ".join(control["name"] for control in recordings.controls) or "no controls"
    job = emulators.Job(
        report,
        places,
        recordings.spec(network, causal),
        loss,
        steps,
        batch,
        seconds,
        learning_rate,
        seed,
        weights,
        f"{corpus.name}: {count(len(recordings.recordings), 'recording')}, {names}, split by {recordings.split}",
        recordings.about,
        lambda: DeviceExamples(recordings, batch),
        lambda: held_out_of(recordings, max(1, -(-held_out // batch)), batch),
        lambda: corpus.skipped,
    )
    job.do(device, threads, dry_run, json_, quiet)
