"""`mixtools features`: measure audio, and compare it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixtools.cli import options
from mixtools.cli.report import Report, clock, count
from mixtools.errors import ExitStatus, ParameterError
from mixtools.measure.catalogue import GROUPS, TABLE2, TABLE2_GROUP, chosen, in_four_digits

if TYPE_CHECKING:
    from mixtools.cli.batch import Batch, Input, Progress
    from mixtools.measure.features import Analyser
    from mixtools.tasks.features import Heard

DESCRIPTION = """
Every feature is listed below with its equation, its source, and when it is null. All are measured in one pass, in
bounded memory. One file gives an object in JSON and YAML, a folder or several files a list; CSV has one line per file,
and empty cells for what is null.

With `--against` every file is compared with a reference, at the reference's sample rate: the relative errors of the 23
features of Table II of Colonel & Reiss 2021 with the means of its groups and of all, and the audio-feature loss of
Diff-MST, both signals at -16 LUFS, per term and in total. When both hold the same content, that is when they are
equally long or `--aligned` says so, they are compared sample by sample, too.

With `--set` twice, two folders of mixes are compared by the Fréchet distance between their feature vectors: 47 numbers
for every 10 s at 44.1 kHz, which are Table II's features and the Bark spectrum, each scaled so that 1 is clearly
audible. `--vggish` takes the embeddings of a VGGish instead, 128 numbers for every 0.96 s; its weights are a file of
yours.

With `--html` nothing is printed; a page is written that needs neither a network nor anything beside it. It plays the
files in step, all as loud as the quietest, so that one can go from one to the other while they play (keys 1 to 8, the
space bar, a click on the loudness); it draws their spectra in sixths of an octave, their loudness over time and their
width over frequency; and of mix files among FILES, every strip with the curve of its equaliser. The sound is in the
page as FLAC of 16 bits, 20 minutes of it in all.
"""

EVERYDAY = "--against", "--group", "--html", "--csv", "--json"
"""What `--help` explains."""

EXAMPLES = (
    ("Everything about a mix:", "mixtools features rough.wav"),
    ("How far is it from a record?", "mixtools features rough.wav --against ref.wav"),
    ("One number for a script:", "mixtools features rough.wav --json | jq .loudness.integrated_lufs"),
    (
        "A table of all stems for a spreadsheet:",
        "mixtools features stems/ --group loudness,stereo --csv > stems.csv; head -2 stems.csv",
    ),
    ("The loudness of a song as it goes on:", "mixtools features rough.wav --group loudness --frames"),
    ("A page to compare them by ear and eye:", "mixtools features rough.wav ref.wav mix.yaml --html report.html"),
    ("How far apart are two sets of mixes?", "mixtools features --set stems/ --set take2/"),
    (
        "The file of a folder that is nearest to a record:",
        "mixtools features stems/ --against ref.wav --json -q | jq -r 'min_by(.against.relative_errors.total).file'",
    ),
)
"""What each example does, and its command line; tests run them where such files are."""

NAMES = (*GROUPS, TABLE2_GROUP)
NUMBERS_IN_A_LINE = 4
LONGEST_ALIGNED_S = 1800.0
"""Metrics sample by sample hold both files in memory."""


def _groups(text: str) -> str:
    return ",".join(map(options.word("--group", NAMES), text.split(",")))


def features(
    files: options.SomeAudioFiles = None,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="REF", help="Compare every file with this one.", show_default=False),
    ] = None,
    aligned: Annotated[
        bool,
        typer.Option("--aligned", help="Both hold the same content: compare sample by sample up to the shorter's end."),
    ] = False,
    group: Annotated[
        list[str] | None,
        typer.Option(
            "--group",
            metavar="NAME",
            parser=_groups,
            help=f"Only these: {', '.join(NAMES)}. May be repeated, or name several with commas.",
            show_default=False,
        ),
    ] = None,
    frames: Annotated[
        bool,
        typer.Option(
            "--frames", help="Write what has a value per frame (23 ms) as CSV, with loudness as of each time."
        ),
    ] = False,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="DIR",
            help="Two of these: the Fréchet distance between two folders of mixes.",
            show_default=False,
        ),
    ] = None,
    vggish: Annotated[
        str | None,
        typer.Option(
            "--vggish",
            metavar="FILE",
            help="With --set: the weights of a VGGish (.pth or .safetensors), instead of the feature vector.",
            show_default=False,
        ),
    ] = None,
    html: Annotated[
        str | None,
        typer.Option(
            "--html",
            metavar="PAGE",
            help="Write a page that plays the files in step, equally loud, and draws them; mix files, too.",
            show_default=False,
        ),
    ] = None,
    force: options.Force = False,
    jobs: options.Jobs = None,
    json_: Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")] = False,
    csv: options.Csv = False,
    yaml: Annotated[bool, typer.Option("--yaml", help="Write YAML to stdout.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure audio: loudness, spectrum, stereo, dynamics; or compare it with a reference."""
    report = Report(quiet, verbose=False)
    formats = {"--json": json_, "--csv": csv, "--yaml": yaml, "--frames": frames}
    asked = [name for name, on in formats.items() if on]
    if len(asked) > 1:
        raise ParameterError(f"{asked[0]} and {asked[1]} both write to stdout; give one")
    names = [name for text in group for name in text.split(",")] if group else None
    form = asked[0].removeprefix("--") if asked else "table"
    workers = options.thread_count(jobs)
    if html is not None:
        _refuse_with_html({"--set": sets, "--against": against, "--group": group, "--vggish": vggish, **formats})
    elif force:
        raise ParameterError("--force is for --html, the only file that features writes; give it with that")
    if sets:
        _refuse_with_sets(
            sets,
            {"FILES": files, "--against": against, "--aligned": aligned, "--group": group, "--frames": frames},
        )
        _compare_sets(report, sets, vggish, workers, form)
        return
    if vggish is not None:
        raise ParameterError("--vggish is for --set; give two folders with it")
    if not files:
        raise ParameterError("FILES is missing; give audio files, a folder, or - for stdin")
    if aligned and against is None:
        raise ParameterError("--aligned is for --against; give the reference with it")
    if frames and against is not None:
        raise ParameterError("--frames and --against cannot be had together; give one")

    if html is not None:
        from mixtools.cli.pages import write_page

        with report.compiling():
            failed = write_page(report, files, html, workers, force)
        if failed:
            raise typer.Exit(ExitStatus.FAILED)
        return

    from mixtools.cli.batch import batch_of

    with report.compiling(), batch_of(files, report) as batch:
        if frames:
            _write_frames(batch, names, workers)
        elif against is None:
            _measure(batch, names, workers, form)
        else:
            _compare(batch, report, names, against, aligned, workers, form)
        batch.finish()


def _measure(batch: Batch, names: list[str] | None, workers: int, form: str) -> None:
    from mixtools.tasks.features import analyse

    def one(item: Input, progress: Progress) -> dict[str, Any]:
        with item.open() as file:
            return item.facts(file) | analyse(file, file.rate, names, progress).measures()

    rows = [row for _, row in batch.each("measuring", one, workers)]
    if form == "table":
        _print_measures(rows, names, batch.single)
    else:
        _write(rows, batch.single, form)


def _write(rows: list[dict[str, Any]], single: bool, form: str) -> None:
    from mixtools.cli.tables import write_csv, write_json, write_yaml

    if form == "csv":
        write_csv(rows)
    else:
        {"json": write_json, "yaml": write_yaml}[form](rows, single)


def _write_frames(batch: Batch, names: list[str] | None, workers: int) -> None:
    """Time series of every file, one after the other."""
    from mixtools.cli.tables import write_series
    from mixtools.tasks.features import analyse

    if not any(feature.series for features in chosen(names).values() for feature in features):
        raise ParameterError(f"--group {', '.join(names)} has no values per frame; give spectral, loudness or stereo")

    def one(item: Input, progress: Progress) -> Analyser:
        with item.open() as file:
            return analyse(file, file.rate, names, progress)

    first = True
    try:
        for item, analyser in batch.each("measuring", one, workers):
            write_series(item.shown, analyser.series(), heading=first)
            first = False
    except KeyboardInterrupt:
        if first:
            raise
        raise KeyboardInterrupt("interrupted; not all was written") from None


@dataclass
class _Reference:
    """What files are compared with."""

    item: Input
    rate: int
    frames: int
    heard: Heard


def _compare(
    batch: Batch, report: Report, names: list[str] | None, against: str, aligned: bool, workers: int, form: str
) -> None:
    from mixtools.cli.batch import batch_of
    from mixtools.files.stems import at_rate
    from mixtools.measure.distance import ALIGNED
    from mixtools.tasks.features import COMPARED_GROUPS, Heard, analyse, compare

    if against == options.STDIO and "stdin" in [item.shown for item in batch.inputs]:
        raise ParameterError("- is there twice; stdin can be read once")
    groups = None if names is None else [*names, *COMPARED_GROUPS]
    with batch_of([against], report) as references:
        if not references.single:
            raise ParameterError(f"{against} is a folder; give one file to compare with")
        item = references.inputs[0]
        with item.open() as file:
            rate, length = file.rate, file.frames
            reference = _Reference(item, rate, length, Heard.by(analyse(file, rate, COMPARED_GROUPS)))

        def one(item: Input, progress: Progress) -> dict[str, Any]:
            with item.open() as file:
                facts = item.facts(file)
                if file.rate != rate:
                    report.note(f"{item.shown}: {file.rate} Hz, compared at the reference's {rate} Hz")
                source = at_rate(file, rate)
                analyser = analyse(source, rate, groups, lambda share: progress(0.8 * share))
            heard = Heard.by(analyser)
            measures = heard.measures
            kept = {group: {f.name: measures[group][f.name] for f in those} for group, those in chosen(names).items()}
            same = aligned or source.frames == length
            compared = {"reference": reference.item.shown} | compare(heard, reference.heard)
            compared["aligned"] = _aligned(item, reference, report) if same else dict.fromkeys(ALIGNED)
            return facts | kept | {"against": compared}

        rows = [row for _, row in batch.each("comparing", one, workers)]
        if form == "table":
            _print_comparisons(rows, reference)
        else:
            _write(rows, batch.single, form)


def _aligned(item: Input, reference: _Reference, report: Report) -> dict[str, float | None]:
    """The metrics sample by sample, up to the shorter one's end."""
    from mixtools.files.stems import at_rate
    from mixtools.measure.distance import ALIGNED, aligned

    with item.open() as file, reference.item.open() as other:
        source = at_rate(file, reference.rate)
        frames = min(source.frames, other.frames)
        if frames > LONGEST_ALIGNED_S * reference.rate:
            minutes = f"{LONGEST_ALIGNED_S / 60:g} min"
            report.note(f"{item.shown}: longer than {minutes}; not compared sample by sample")
            return dict.fromkeys(ALIGNED)
        if source.frames != other.frames:
            report.note(f"{item.shown}: compared up to {clock(frames / reference.rate)}, where the shorter one ends")
        return aligned(source.read(frames), other.read(frames), reference.rate)


def _refuse_with_sets(sets: list[str], others: dict[str, Any]) -> None:
    if len(sets) != 2:
        raise ParameterError(f"--set is there {count(len(sets), 'time')}; give two folders")
    for name, value in others.items():
        if value:
            raise ParameterError(f"{name} and --set cannot be had together; give one")


def _refuse_with_html(others: dict[str, Any]) -> None:
    for name, value in others.items():
        if value:
            raise ParameterError(f"{name} and --html cannot be had together; a page has everything about FILES")


def _compare_sets(report: Report, sets: list[str], weights: str | None, workers: int, form: str) -> None:
    """The Fréchet distance between the mixes of two folders."""
    import numpy as np

    from mixtools.cli.batch import batch_of
    from mixtools.files.reading import list_audio
    from mixtools.tasks.features import distance_of_sets

    if form in ("csv", "frames"):
        raise ParameterError(f"--{form} is not for --set; give --json or --yaml")
    for folder in sets:
        list_audio(folder)  # names what is no folder of audio before any work
    embed, embedding = (_feature_vectors, "features") if weights is None else (_vggish(weights), weights)
    found = []
    failed = 0
    with report.compiling():
        for folder in sets:
            with batch_of([folder], report) as batch:
                vectors = [row for _, rows in batch.each(f"measuring {folder}", embed, workers) for row in rows]
                failed += batch.failed
            found.append(np.array(vectors))
    distance = distance_of_sets(found[0], found[1], (sets[0], sets[1]))
    for folder, vectors in zip(sets, found, strict=True):
        if len(vectors) <= vectors.shape[1]:
            report.warn(
                f"{folder}: {len(vectors)} vectors of {vectors.shape[1]} numbers say little about how they vary; "
                "give more audio"
            )
    row = {
        "sets": sets,
        "embedding": embedding,
        "vectors": [len(vectors) for vectors in found],
        "frechet_distance": distance,
    }
    if form == "table":
        print(f"Fréchet distance: {in_four_digits(distance)}")
    else:
        _write([row], True, form)
    batch.failed = failed
    batch.finish()


def _feature_vectors(item: Input, progress: Progress) -> Sequence[Any]:
    from mixtools.files.stems import at_rate
    from mixtools.tasks.features import VECTOR_RATE, feature_vectors

    with item.open() as file:
        return list(feature_vectors(at_rate(file, VECTOR_RATE), VECTOR_RATE, progress))


def _vggish(weights: str) -> Callable[[Input, Progress], Sequence[Any]]:
    from mixtools.files.stems import at_rate
    from mixtools.files.weights import read_weights
    from mixtools.nets.vggish import RATE_HZ, VGGish

    network = VGGish.load(read_weights(weights), weights)

    def embed(item: Input, progress: Progress) -> Sequence[Any]:
        with item.open() as file:
            source = at_rate(file, RATE_HZ)
            return network.embed(source.read(source.frames))

    return embed


def _print_measures(rows: list[dict[str, Any]], names: list[str] | None, single: bool) -> None:
    """One file: every feature with what it tells. Several: a table per group, one row each."""
    from mixtools.cli.tables import write_table

    for group, declared in chosen(names).items() if rows else ():
        if single:
            cells = [[f.name, _wrapped(rows[0][group][f.name]), f.help] for f in declared]
            write_table([group, "", ""], cells, GROUPS[group].help, left=(0, 2))
        else:
            shown_ones = [f for f in declared if f.size <= 2]
            cells = [
                [row["file"], *(" ".join(map(in_four_digits, _listed(row[group][f.name]))) for f in shown_ones)]
                for row in rows
            ]
            write_table([group, *(f.name for f in shown_ones)], cells)


def _wrapped(value: Any) -> str:
    """A number, or lines of numbers."""
    numbers = [in_four_digits(element) for element in _listed(value)]
    return "\n".join(" ".join(numbers[i : i + NUMBERS_IN_A_LINE]) for i in range(0, len(numbers), NUMBERS_IN_A_LINE))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _print_comparisons(rows: list[dict[str, Any]], reference: _Reference) -> None:
    """Table II of Colonel & Reiss 2021, then what is behind it, the audio-feature loss, and metrics by sample."""
    from mixtools.cli.tables import TABLE2_TITLES, percent, write_table
    from mixtools.measure.audio_features import AF_TERMS
    from mixtools.measure.distance import ALIGNED

    if not rows:
        return
    files = [row["file"] for row in rows]
    errors = [row["against"]["relative_errors"] for row in rows]
    losses = [row["against"]["audio_feature_loss"] for row in rows]
    cells = [
        [file, *(percent(found["groups"][group]) for group in TABLE2_TITLES), percent(found["total"])]
        for file, found in zip(files, errors, strict=True)
    ]
    write_table(["", *TABLE2_TITLES.values(), "total"], cells, f"Relative errors against {reference.item.shown}")
    measured = reference.heard.measures
    cells = [
        [
            f"{TABLE2_TITLES[group]} {feature.name}",
            in_four_digits(measured[group][feature.name]),
            *(percent(found["features"][f"{group}.{feature.name}"]) for found in errors),
        ]
        for group, declared in TABLE2.items()
        for feature in declared
    ]
    write_table(["feature", "reference", *files], cells)
    cells = [
        [
            file,
            *(in_four_digits(found["guarded"][term]) for term in [*AF_TERMS, "total"]),
            in_four_digits(found["paper"]["total"]),
        ]
        for file, found in zip(files, losses, strict=True)
    ]
    write_table(["", *AF_TERMS, "total", "the paper's total"], cells, "Audio-feature loss, both at -16 LUFS")
    metrics = [row["against"]["aligned"] for row in rows]
    if any(found != dict.fromkeys(ALIGNED) for found in metrics):
        cells = [[file, *map(in_four_digits, found.values())] for file, found in zip(files, metrics, strict=True)]
        write_table(["", *ALIGNED], cells, "Sample by sample")
