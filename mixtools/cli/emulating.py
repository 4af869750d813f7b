"""What `mixtools emulate` does: audio through a model, a list of models, a table of how near one comes, an export."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixtools.cli import options
from mixtools.cli.outputs import warn_of_clipping
from mixtools.cli.report import Report, clock, count, stdin_bytes
from mixtools.cli.tables import write_csv, write_json, write_table
from mixtools.cli.training import torch_threads
from mixtools.controls import shown
from mixtools.errors import ParameterError
from mixtools.files.models import bundled, card, open_model
from mixtools.tasks.emulate.model import Knob, Model

if TYPE_CHECKING:
    from mixtools.cli.batch import Batch, Input, Progress
    from mixtools.tasks.emulate.evaluation import Figures

TASK = "emulate"


def opened(argument: str) -> Model:
    """A model by name or file."""
    return Model.load(*open_model(argument, TASK), argument)


def listed(argument: str | None, json_: bool) -> None:
    """Bundled models or one model, with what can be set."""
    names = bundled(TASK) if argument is None else [argument]
    models = {name: opened(name) for name in names}
    summaries = {name: card(TASK, name).summary if name in bundled(TASK) else "" for name in names}
    if json_:
        rows = [
            {
                "model": name,
                "summary": " ".join(summaries[name].split()),
                "sample_rate": model.rate,
                "outputs": model.spec.outputs,
                "controls": [_control_facts(knob) for knob in model.knobs.values()],
            }
            for name, model in models.items()
        ]
        write_json(rows, single=argument is not None)
        return
    for name, model in models.items():
        title = " ".join(f"{name}: {summaries[name]}".split()).rstrip(":")
        print(title)
        rows = [
            [knob.name, knob.control.range, shown(knob.control.default), knob.control.help]
            for knob in model.knobs.values()
        ]
        if rows:
            write_table(["control", "range", "unless set", "what it does"], rows, left=(0, 1, 3))
        else:
            print("no controls\n")


def _control_facts(knob: Knob) -> dict[str, Any]:
    control = knob.control
    span = (
        {"choices": list(control.choices)} if control.kind == "choice" else {"low": control.low, "high": control.high}
    )
    return {"name": knob.name, **span, "default": control.default, "help": control.help}


def settings_of(model: Model, controls: str | None, assignments: list[str]) -> Any:
    """The control vector of a file of controls and of NAME=VALUE over it, checked."""
    units = model.units(_read_controls(controls), options_name(controls)) if controls is not None else model.units()
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals:
            raise ParameterError(f"--set is {shown(text)}; give a control and its value, as in compressor.ratio=4")
        knob = model.knob(name.strip(), "--set")
        knob.write(units, _value_of(value.strip()), f"--set: {knob.name}")
    return units


def options_name(path: str) -> str:
    """What a file is called in messages."""
    return "stdin" if path == options.STDIO else path


def _value_of(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _read_controls(path: str) -> Any:
    from mixtools.files.mixfile import LARGEST_BYTES, decode, plain_tree, read_text

    name = options_name(path)
    what = "a file of controls"
    given = stdin_bytes().read(LARGEST_BYTES + 1) if path == options.STDIO else None
    text = read_text(path, what) if given is None else decode(given, name, what)
    return plain_tree(text, name)


class Run:
    """Puts every file of a batch through a model."""

    def __init__(
        self,
        batch: Batch,
        report: Report,
        model: Model,
        output: str,
        bits: str | None,
        precision: str,
        force: bool,
        dry_run: bool,
        json_: bool,
    ) -> None:
        self.batch, self.report, self.model, self.output, self.bits = batch, report, model, output, bits
        self.precision, self.force, self.dry_run, self.json = precision, force, dry_run, json_

    def do(self, controls: str | None, assignments: list[str], threads: int) -> None:
        self.units = settings_of(self.model, controls, assignments)
        self._tell_settings()
        rows: list[dict[str, Any]] = []
        with contextlib.ExitStack() as closing, torch_threads(threads):
            targets = self.batch.targets(self.output, closing)
            try:
                for item, facts in self.batch.each("emulating", lambda i, p: self._one(i, targets[i], p)):
                    rows.append(item_facts := {"file": item.shown, "output": targets[item]} | facts)
                    self._tell(item_facts)
            except KeyboardInterrupt:
                if not rows or self.dry_run:
                    raise
                told = f"{count(len(rows), 'file')} of {len(targets)} written, the others not"
                raise KeyboardInterrupt(f"interrupted; {told}") from None
        if self.json:
            write_json(rows, self.batch.single)

    def _one(self, item: Input, target: str, progress: Progress) -> dict[str, Any]:
        from mixtools.tasks.emulate.running import channels_out, emulated

        began = time.perf_counter()
        channels = 0
        with item.open() as file:
            channels = channels_out(self.model, file.channels)
            with item.writer(file, target, self.bits, self.force, channels=channels) as writer:
                facts = {"seconds": file.seconds, "sample_rate": file.rate, "channels": channels}
                if self.dry_run:
                    writer.abort()
                    return facts
                for block in emulated(self.model, file, file.rate, self.units, self.precision, progress=progress):
                    writer.write(block)
            warn_of_clipping(self.report, target, writer, "lower what goes in by {:.1f} dB first")
        return facts | {"bits": writer.bits, "seconds_taken": time.perf_counter() - began}

    def _tell_settings(self) -> None:
        for name, knob in self.model.knobs.items():
            self.report.detail(f"{name}: {knob.read(self.units)}")

    def _tell(self, facts: Mapping[str, Any]) -> None:
        target = "stdout" if facts["output"] == options.STDIO else facts["output"]
        line = (
            f"{target}: {clock(facts['seconds'])} at {facts['sample_rate']} Hz, {count(facts['channels'], 'channel')}"
        )
        if not self.dry_run:
            self.report.note(f"{line}; in {facts['seconds_taken']:.1f} s")
        elif not self.json:
            print(f"would write {line}")


def measured(
    report: Report, model: Model, audio: str, settings: int, seed: int, threads: int, json_: bool, csv: bool
) -> None:
    """How near a model comes, on stdout."""
    with torch_threads(threads), report.compiling():
        if "console" in model.about:
            _measured_console(report, model, audio, settings, seed, json_, csv)
        else:
            _measured_device(report, model, audio, json_, csv)


def _measured_console(
    report: Report, model: Model, audio: str, settings: int, seed: int, json_: bool, csv: bool
) -> None:
    from mixtools.files.corpora import open_sounds
    from mixtools.tasks.emulate.evaluation import METRICS, plain, table_6
    from mixtools.tasks.train.emulate import SECONDS
    from mixtools.tasks.train.sounds import Sounds

    corpus = open_sounds(audio)
    frames = max(2, round(min(SECONDS, corpus.longest_s) * model.rate))
    sounds = Sounds([corpus], frames, model.rate, seed, augment=False)
    with report.progress("measuring", 1000) as tell:
        found = table_6(model, sounds, settings, seed, progress=lambda share: tell(round(1000 * share)))
    if json_:
        write_json([plain(found)], single=True)
    elif csv:
        write_csv([{"task": task, **one.mean} for task, one in found.items()])
    else:
        rows = [[task, *(f"{one.mean[name]:.4g}" for name in METRICS), str(one.count)] for task, one in found.items()]
        write_table(["task", "MAE", "ESR", "MCD", "MR-STFT", "examples"], rows)


def _measured_device(report: Report, model: Model, audio: str, json_: bool, csv: bool) -> None:
    from mixtools.files.corpora import open_corpus
    from mixtools.tasks.emulate.evaluation import METRICS, best_fir, table_9, through
    from mixtools.tasks.train.devices import DeviceData, Recordings

    data = model.about.get("data")
    data = data if isinstance(data, Mapping) else {}
    split = model.about["device"].get("split")
    recordings = Recordings(open_corpus(audio), DeviceData(split=split, seed=int(data.get("seed", 0))))
    if recordings.rate != model.rate or recordings.controls != model.about["device"]["controls"]:
        raise ParameterError(
            f"{audio} has other controls or another rate than the model learned; give recordings of the same device"
        )
    with report.progress("measuring", 1000) as tell:
        held_out = [one for _, one in recordings.measured("validation")]
        fir = best_fir((one for _, one in recordings.measured("train")), held_out)
        pieces = [one for _, one in recordings.measured("test")]
        made = {
            "model": lambda x, units: model.whole(x[None], units[None])[0, 0],
            "unchanged": lambda x, units: x,
            "static filter": lambda x, units: through(fir, x),
        }
        found: dict[str, tuple[Figures, float]] = {}
        for place, (name, make) in enumerate(made.items(), 1):
            found[name] = table_9(make, pieces, model.rate)
            tell(round(1000 * place / len(made)))
    rows = [
        {"method": name, **figures.mean, **{f"{key}_deviation": one for key, one in figures.deviation.items()}}
        | {"pooled_esr": pooled, "pieces": figures.count}
        for name, (figures, pooled) in found.items()
    ]
    if json_:
        write_json([{row.pop("method"): row for row in rows}], single=True)
    elif csv:
        write_csv(rows)
    else:
        cells = [
            [
                name,
                *(f"{one.mean[key]:.4g} ± {float(f'{one.deviation[key]:.2g}'):g}" for key in METRICS),
                f"{pooled:.4g}",
            ]
            for name, (one, pooled) in found.items()
        ]
        write_table(["method", "MAE", "ESR", "MCD", "MR-STFT", "ESR of all"], cells)


def _spread(mean: float, deviation: float) -> str:
    return f"{mean:.4g} ± {float(f'{deviation:.2g}'):g}"


def exported(report: Report, model: Model, target: str, force: bool, dry_run: bool, json_: bool) -> None:
    """Write a model for other programs."""
    from mixtools.files.outputs import AtomicFile
    from mixtools.tasks.emulate.export import FORMATS, packed

    suffix = Path(target).suffix.lower()
    if suffix not in FORMATS:
        raise ParameterError(f"--export is {target or 'empty'}; give a name that ends in {' or '.join(FORMATS)}")
    with AtomicFile(target, force=force) as output:
        if dry_run:
            output.abort()
            print(f"would write {target}: {FORMATS[suffix]}", file=sys.stdout)
            return
        data = packed(model, suffix)
        with output.writing() as file:
            file.write(data)
    report.note(f"{target}: {FORMATS[suffix]}, {len(data) / 1e6:.1f} MB")
    if json_:
        write_json([{"output": target, "bytes": len(data)}], single=True)
