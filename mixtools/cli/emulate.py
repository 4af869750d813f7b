"""`mixtools emulate`: audio through a trained model of a channel or a device."""

from __future__ import annotations

from typing import Annotated

import typer

from mixtools.cli import options
from mixtools.cli.report import Report
from mixtools.errors import ParameterError

DESCRIPTION = """
A model is a network that learned to sound like a mixing console's channel at any setting of its controls, or like a
device that it knows from recordings: one that comes with mixtools (--list), a file that `mixtools train emulate` wrote,
or the folder of a training, whose best weights so far are taken.

Controls are given by name: --set compressor.ratio=4, or a YAML file (-p) that says the same in as many lines, grouped
(`compressor: {ratio: 4}`) or not. --set goes over the file; controls that are in neither stand where they do nothing,
or as --list says. A value that the model was not trained at is refused.

A file of any length and rate goes through block by block; what comes out begins where it began and is as long. A mono
file comes out with all the sides that the model has, others keep their channels, each of which goes through alone,
except that both sides of a stereo file share a console channel's gain. Where the rate is not the model's, sound is
resampled there and back. `-o` names a file where one file is given, else a folder, in which files keep their names.

--evaluate measures a model instead, on audio that it was not trained on. For a model of the console that is any audio:
the equaliser, the compressor and the reverb alone and all together, at seeded random settings, against the console
itself (table 6 of the thesis that these networks come from). For a model of a device it is recordings of the device,
as for `mixtools train emulate device`: what is measured is kept from training, by the same split as then, and stands
beside the input as it is and the best static filter (table 9). MAE is the mean absolute error, ESR the error's energy
over the target's, MCD the mel-cepstral distance, and MR-STFT the multi-resolution spectral distance.

--precision bfloat16 computes a TCN's layers in 16 bits, where the processor can: about 40 dB less exact, and faster.
"""

EVERYDAY = "--model", "--output", "--set", "--controls", "--list", "--evaluate", "--force"
"""What `--help` explains."""

EXAMPLES = (
    ("Which models are there, and what can be set?", "mixtools emulate --list"),
    (
        "A stem through the console's channel:",
        "mixtools emulate stems/vox_lead.wav --set compressor.threshold_db=-30 --set compressor.ratio=4 "
        "--set convolution.wet=0.2 -o vox.wav",
    ),
    (
        "As a controls file says; a folder of stems goes as well:",
        "mixtools emulate stems/bass.wav -p controls.yaml -o b.wav",
    ),
    (
        "How near is it to the real thing, on a song of yours?",
        "mixtools emulate --evaluate rough.wav --settings 2 --json",
    ),
)
"""What each example does, and its command line; tests run them where such files are."""

DEFAULT = "channel"
PRECISIONS = "float32", "bfloat16"
NAMELESS = "--evaluate", "--list", "--export"


def emulate(
    files: options.SomeAudioFiles = None,
    model: Annotated[
        str,
        options.model_option("emulate", "One that --list shows, or what `mixtools train emulate` wrote.", "-m"),
    ] = DEFAULT,
    output: options.FilesOutput = None,
    controls: Annotated[
        str | None,
        typer.Option("--controls", "-p", metavar="FILE|-", help="A YAML file of controls.", show_default=False),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Set a control, as in compressor.ratio=4. May be repeated.",
            show_default=False,
        ),
    ] = None,
    precision: Annotated[
        str, options.word_option("--precision", PRECISIONS, "Of a TCN's layers, where the processor can.")
    ] = "float32",
    bits: options.Bits = None,
    list_: Annotated[bool, typer.Option("--list", help="Show the bundled models, or -m, and their controls.")] = False,
    evaluate: Annotated[
        str | None,
        typer.Option(
            "--evaluate",
            metavar="AUDIO",
            help="Measure how near the model comes, on a file, a folder, a corpus, or [bold]synth:SEED[/bold].",
            show_default=False,
        ),
    ] = None,
    settings: Annotated[
        int, options.whole_option("--settings", "Settings that --evaluate measures each task at.", 1, 100_000)
    ] = "64",
    seed: Annotated[int, options.seed_option("Seed of these settings.")] = "0",
    export: Annotated[
        str | None,
        typer.Option(
            "--export",
            metavar="FILE",
            help="Write the model for other programs: a .onnx file, or .pt for TorchScript.",
            show_default=False,
        ),
    ] = None,
    threads: options.RoundingThreads = None,
    dry_run: options.DryRun = False,
    force: options.Force = False,
    json_: options.Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="With --evaluate: write CSV to stdout.")] = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Put audio through a trained model of a channel or a device."""
    report = Report(quiet, verbose)
    asked = {"--evaluate": evaluate is not None, "--list": list_, "--export": export is not None}
    _refuse_contradictions(files or [], output, [name for name, given in asked.items() if given])
    if csv and (evaluate is None or json_):
        raise ParameterError("--csv is for --evaluate, without --json; give --json alone for what was done")
    if output == options.STDIO and json_ and not dry_run:
        raise ParameterError("--json writes to stdout, and so does -o -; give one of them another place")
    if controls == options.STDIO and options.STDIO in (files or []):
        raise ParameterError("- is there twice; stdin can be read once")

    from mixtools.cli.emulating import Run, exported, listed, measured, opened

    if list_:
        # -m has a default, and --list shows all models unless one is named.
        listed(None if model == DEFAULT else model, json_)
        return
    network = opened(model)
    if evaluate is not None:
        measured(report, network, evaluate, settings, seed, options.thread_count(threads), json_, csv)
        return
    if export is not None:
        exported(report, network, export, force, dry_run, json_)
        return

    from mixtools.cli.batch import batch_of

    with report.compiling(), batch_of(files, report) as batch:
        run = Run(batch, report, network, output, bits, precision, force, dry_run, json_)
        run.do(controls, set_ or [], options.thread_count(threads))
        batch.finish()


def _refuse_contradictions(files: list[str], output: str | None, instead: list[str]) -> None:
    """Audio goes through a model, or something else is done with it."""
    if len(instead) > 1:
        raise ParameterError(f"{instead[0]} and {instead[1]} are two things to do; give one")
    for name in instead:
        if files or output is not None:
            what = "-o" if not files else "FILES"
            raise ParameterError(f"{name} puts no audio through the model, but {what} is given; give one of them")
    if instead:
        return
    if not files:
        raise ParameterError(f"FILES is missing; give audio files, or one of {', '.join(NAMELESS)}")
    if output is None:
        raise ParameterError("-o is missing; give the name of a file or a folder, or - for stdout")
    if output == "":
        raise ParameterError("-o is empty; give the name of a file or a folder, or - for stdout")
