"""`mixtools train mix`: models for `mixtools mix --model`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixtools.cli import options, training
from mixtools.cli.report import Report, count
from mixtools.cli.tables import write_json
from mixtools.errors import ParameterError

if TYPE_CHECKING:
    from mixtools.files.corpora import Corpus
    from mixtools.nets.dmc import MixingConsole
    from mixtools.tasks.train.mix import Data

KINDS = {"dmc-basic": "basic", "dmc-full": "full"}
"""Models by name, and what `nets.dmc` calls them."""

ENCODERS = "small", "vggish"
LEVELS = "same", "told", "raw"

DESCRIPTION = """
The model is a differentiable mixing console (Steinmetz et al. 2021): a network listens to all stems and sets fader and
pan of each (dmc-basic), or polarity, EQ, compressor, reverb, fader and pan (dmc-full). It learns from excerpts of songs
that have a finished mix, by how far its own is from that in stereo MR-STFT. Songs without a mix, and synthesised ones,
are mixed by families of mixing rules, listed below, each song by one of them. Songs that have a mix and more stems than
--stems are left out; of others, some stems are drawn.

FOLDER keeps the training: log.csv has a row per step, and `last` and `best` are checkpoints. An interrupt (Ctrl-C) ends
it after the step that is being done. Killed at any moment, it goes on with --resume as if it had not been, and comes to
the same weights. Every 100 excerpts it is validated on songs that it does not learn from: the step size is halved after
200 validations in vain, and it ends after 500. At the end the best weights are one file, which says itself what it is
and which `mixtools mix STEMS --model FILE` loads; `--model FOLDER` mixes with the best weights so far.
"""

EVERYDAY = "--output", "--kind", "--validation", "--steps", "--resume"
"""What `--help` explains."""

EXAMPLES = (
    (
        "A quick try (far too few steps to learn anything), and a mix by what came of it:",
        "mixtools train mix synth:7 -o try --steps 3 --batch 1 --excerpts 2 --held-out 1 --seconds 2 --rate 16000 "
        "--width 64 && mixtools mix stems/ --model try/model.safetensors -o by_model.wav",
    ),
    (
        "See what would be learned from, with the papers' settings:",
        "mixtools train mix synth:7 --kind dmc-full --encoder vggish --levels raw -o full --dry-run",
    ),
)
"""What each example does, and its command line."""


def mix(
    corpus: training.Corpora,
    output: training.Folder = "training",
    kind: Annotated[
        str,
        options.word_option("--kind", KINDS, "What the model sets: fader and pan, or the papers' whole channel."),
    ] = "dmc-basic",
    encoder: Annotated[
        str,
        options.word_option(
            "--encoder",
            ENCODERS,
            "What it listens with: mixtools' own half a million parameters, or the papers' 72 million.",
        ),
    ] = "small",
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            metavar="FILE",
            help="Begin with these: VGGish's published ones for the encoder vggish, or for dmc-full a dmc-basic model.",
            show_default=False,
        ),
    ] = None,
    channel: Annotated[
        str | None,
        typer.Option(
            "--channel",
            metavar="NAME|FILE",
            help="Of dmc-full: learn with this model of `mixtools emulate` in place of EQ, compressor and reverb.",
            show_default=False,
        ),
    ] = None,
    width: Annotated[int, options.whole_option("--width", "Width of the hidden layers.", 1, 16384)] = "2048",
    levels: Annotated[
        str,
        options.word_option(
            "--levels",
            LEVELS,
            "Stems at one loudness, the same and telling how loud each was, or as they are (the papers).",
        ),
    ] = "told",
    balanced: Annotated[
        float,
        options.number_option(
            "--balanced",
            "SHARE",
            "Of the songs without a mix, those whose stems come roughly as loud as they are in it.",
            0.0,
            1.0,
        ),
    ] = "0.5",
    steps: training.Steps = "10000",
    batch: Annotated[
        int | None,
        options.whole_option(
            "--batch", "Excerpts per step; 16 for dmc-basic and 2 for dmc-full unless given.", 1, 4096
        ),
    ] = None,
    seconds: training.Seconds = "5",
    stems: Annotated[
        int | None,
        options.whole_option(
            "--stems", "Stems per excerpt at most; 16 for dmc-basic and 6 for dmc-full unless given.", 1, 1000
        ),
    ] = None,
    excerpts: training.Excerpts = "1000",
    held_out: training.HeldOut = "32",
    validation: training.Validation = None,
    layout: training.Layout = None,
    finished: Annotated[
        str | None,
        typer.Option(
            "--mix",
            metavar="NAME",
            help="Which mix to learn from where songs have several, such as wet; the first unless given.",
            show_default=False,
        ),
    ] = None,
    family: Annotated[
        list[str] | None,
        training.family_option(
            "A family of rules that songs without a mix are mixed by, instead of those that the man page marks. May "
            "be repeated."
        ),
    ] = None,
    rate: training.Rate = "44100",
    learning_rate: training.LearningRate = "3e-4",
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
    """Train a model that mixes, for `mixtools mix --model`."""
    report = training.report_of(quiet, verbose)
    places = training.Places(output, export, resume, force)
    places.check()

    from mixtools.nets.dmc import Spec
    from mixtools.tasks.train.families import DRY, EFFECTS, TRAINED
    from mixtools.tasks.train.mix import BATCH, MOST_STEMS, Data, Lessons, new_console, papers_training, train_mixer

    short = KINDS[kind]
    batch = batch or BATCH[short]
    spec = Spec(short, encoder, width, levels=levels)
    data = Data(
        seconds,
        rate,
        stems or MOST_STEMS[short],
        tuple(family or TRAINED),
        DRY if short == "basic" else EFFECTS,
        levels,
        balanced,
        seed,
    )
    config = replace(papers_training(short, steps, seed, batch), rate=learning_rate)
    songs = training.material(corpus, layout, validation, seed, _narrowed(finished, data.most_stems))
    if channel is not None and short != "full":
        raise ParameterError("--channel plays what a dmc-full model sets; give --kind dmc-full")
    if dry_run:
        if training.speaks():
            _say_plan(kind, spec, songs, data, config.steps, batch, places, json_)
        return
    net = new_console(spec, rate, seed, None if channel is None else _channel(channel, rate))
    if weights is not None:
        _begin_with(net, weights)
    _say(report, kind, net, songs, data)

    def work(storage: Any, tell: Any, world: Any) -> Any:
        learned, kept = (
            Lessons(part, replace(data, apart=training.apart(part)), number)
            for part, number in ((songs.learned, excerpts), (songs.held_out, held_out))
        )
        return train_mixer(net, learned, kept, config, storage, batch, world, tell, channel)

    facts = training.trained(
        report,
        places,
        "mix",
        work,
        steps,
        device,
        options.thread_count(threads),
        lambda: songs.skipped,
        {"kind": kind, "corpus": songs.learned.name},
        quiet,
    )
    if json_ and facts:
        write_json([{"kind": kind, "encoder": encoder, "parameters": _size(net), **facts}], single=True)


def _narrowed(finished: str | None, most_stems: int) -> Callable[[Corpus], Corpus]:
    """Leaves songs out that cannot be learned from; says why where none is left."""

    def narrowed(corpus: Corpus) -> Corpus:
        training.refuse_recordings(corpus)
        if finished is not None:
            names = sorted({name for song in getattr(corpus, "items", ()) for name in song.mixes})
            if finished not in names:
                there = f"there are {', '.join(names)}" if names else "songs have none"
                raise ParameterError(f"--mix is {finished}, and {corpus.name} has no such mix; {there}")
            corpus = corpus.with_mix(finished)
        fitting = corpus.where(lambda song: not song.mixes or len(song.inputs) <= most_stems)
        training.refuse_nothing(fitting, corpus, f"has at most {most_stems} stems; give more with --stems")
        return fitting

    return narrowed


def _channel(argument: str, rate: int) -> Any:
    """The network that plays channels, which learns nothing more."""
    from mixtools.files.models import open_model
    from mixtools.tasks.automix.channel import fits
    from mixtools.tasks.emulate.model import Model

    model = fits(Model.load(*open_model(argument, "emulate"), argument), argument)
    if model.rate != rate or model.spec.kind != "strip":
        raise ParameterError(f"{argument} works at {model.rate} Hz; give --rate {model.rate}, and a model of a strip")
    return model.net.requires_grad_(False)


def _begin_with(net: MixingConsole, path: str) -> None:
    """Put the weights of a file into a model, as far as they are for that."""
    from mixtools.files.weights import read_model, read_weights, says_what_it_is
    from mixtools.nets.dmc import start_from_basic, start_from_vggish

    if not says_what_it_is(path):
        start_from_vggish(net, read_weights(path), path)
        return
    tensors, about = read_model(path)
    if net.spec.kind != "full" or about.get("kind") != "dmc-basic":
        raise ParameterError(f"{path} is a model; only dmc-full begins with one, a dmc-basic; give VGGish's weights")
    start_from_basic(net, tensors, path)


def _size(net: MixingConsole) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def _say(report: Report, kind: str, net: MixingConsole, songs: training.Material, data: Data) -> None:
    learned, held_out = training.size_of(songs.learned), training.size_of(songs.held_out)
    report.note(
        f"{songs.learned.name}: {learned} to learn from, {held_out} to validate on; {kind} with "
        f"{_size(net) / 1e6:.1f} million parameters"
    )
    unmixed = sum(not song.mixes for song in getattr(songs.learned, "items", ()))
    if unmixed or not hasattr(songs.learned, "items"):
        which = f"{count(unmixed, 'song')} without a mix" if unmixed else "the songs"
        report.detail(f"{which}: mixed by the families {', '.join(data.families)}, with {', '.join(data.effects)}")


def _say_plan(
    kind: str,
    spec: Any,
    songs: training.Material,
    data: Data,
    steps: int,
    batch: int,
    places: training.Places,
    json_: bool,
) -> None:
    """What a dry run has to say, on stdout."""
    learned, held_out = training.size_of(songs.learned), training.size_of(songs.held_out)
    if json_:
        facts = {"kind": kind, **spec.plain(), "steps": steps, "batch": batch, "seconds": data.seconds}
        more = {"rate": data.rate, "stems": data.most_stems, "learned": learned, "held_out": held_out}
        write_json([facts | more | {"folder": str(places.folder), "model": places.model}], single=True)
        return
    print(f"would train {kind} with the encoder {spec.encoder}: {count(steps, 'step')} of {count(batch, 'excerpt')}")
    print(f"of {data.seconds:g} s at {data.rate} Hz with up to {count(data.most_stems, 'stem')}")
    print(f"from {songs.learned.name} (layout {songs.learned.layout}): {learned}, and {held_out} to validate on")
    print(f"would write {places.folder} and {places.model}")
