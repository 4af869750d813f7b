"""What both commands share that train models for `mixtools emulate`: the network, its options, and the training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixtools.cli import options, training
from mixtools.cli.report import Report, count
from mixtools.cli.tables import write_json
from mixtools.controls import Control
from mixtools.errors import ParameterError

if TYPE_CHECKING:
    from torch import nn

    from mixtools.nets.emulator import Spec

NETWORKS = "strip", "tcn-10", "tcn-20", "tcn-30", "wave-u-net-8", "wave-u-net-16"
LOSSES = "mae", "relative", "esr"
BATCH = 8

Network = Annotated[
    str,
    options.word_option("--network", NETWORKS, "What learns: mixtools' own, or a network of the thesis."),
]
Causal = Annotated[bool, typer.Option("--causal", help="A TCN that hears nothing of what comes, for low latency.")]
Loss = Annotated[
    str | None,
    options.word_option(
        "--loss", LOSSES, "What is descended; relative for a strip, mae (the thesis's) for others unless given."
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="FILE",
        help="Begin with these: a model of the same network and controls.",
        show_default=False,
    ),
]
Batch = Annotated[int, options.whole_option("--batch", "Excerpts per step.", 1, 4096)]
LearningRate = Annotated[
    float | None,
    typer.Option(
        "--learning-rate",
        metavar="X",
        parser=options.number(Control("--learning-rate", "", None, 1e-8, 1.0)),
        help="Adam's step size at first; 3e-3 for a strip and 3e-4 for others unless given.",
        show_default=False,
    ),
]

DESCRIPTION = """
FOLDER keeps the training: log.csv has a row per step, and `last` and `best` are checkpoints. An interrupt (Ctrl-C) ends
it after the step that is being done; killed at any moment, it goes on with --resume as if it had not been, and comes to
the same weights. Every 250 steps it is validated on excerpts that it does not learn from, and validations in vain halve
the step size. At the end the best weights are one file, which `mixtools emulate FILES -m FILE` loads; `-m FOLDER` takes
the best so far. `mixtools emulate --evaluate` says how near it comes.

Of the networks, strip is mixtools' own: filter, gain and filter, all three drawn by small networks from the controls. A
tcn is the thesis's (Steinmetz 2020), with 10, 20 or 30 layers, and wave-u-net the one that it compares with.
"""


@dataclass
class Job:
    """A training of an emulator, as both commands hand it over; `held_out` and `examples` are made when it begins."""

    report: Report
    places: training.Places
    spec: Spec
    loss: str | None
    steps: int
    batch: int
    seconds: float
    learning_rate: float | None
    seed: int
    weights: str | None
    source: str
    """Where the examples come from, in words."""
    about: Callable[[], Mapping[str, Any]]
    examples: Callable[[], Any]
    held_out: Callable[[], Sequence[Any]]
    skipped: Callable[[], Mapping[Any, str]] = dict

    def do(self, device: str, threads: int | None, dry_run: bool, json_: bool, quiet: bool) -> None:
        """Train, or say what would be trained."""
        from mixtools.tasks.train.emulate import new_network, train_emulator, usual_loss, usual_training

        spec = self.spec
        loss = self.loss or usual_loss(spec.kind)
        net = new_network(spec, self.seed)
        size = sum(parameter.numel() for parameter in net.parameters())
        facts = {"network": spec.kind, "parameters": size, "loss": loss}
        if dry_run:
            if training.speaks():
                self._say_plan(facts, json_)
            return
        if self.weights is not None:
            self._begin_with(net)
        config = usual_training(spec.kind, self.steps, self.seed)
        if self.learning_rate is not None:
            config = replace(config, rate=self.learning_rate)
        self.report.note(f"{self.source}; {spec.kind} with {size / 1e6:.2f} million parameters")

        def work(storage: Any, tell: Any, world: Any) -> Any:
            return train_emulator(
                net, spec, self.examples(), self.held_out(), config, storage, loss, self.about(), world, tell
            )

        done = training.trained(
            self.report,
            self.places,
            "emulate",
            work,
            self.steps,
            device,
            options.thread_count(threads),
            self.skipped,
            {},
            quiet,
        )
        if json_ and done:
            write_json([facts | done], single=True)

    def _begin_with(self, net: nn.Module) -> None:
        from mixtools.files.models import open_model
        from mixtools.nets.restoring import load_weights

        tensors, about = open_model(self.weights, "emulate")
        found = about.get("network")
        if found != self.spec.plain():
            differ = [
                key
                for key, value in self.spec.plain().items()
                if not isinstance(found, dict) or found.get(key) != value
            ]
            raise ParameterError(f"{self.weights} has another {', '.join(differ)}; give a model of this network")
        load_weights(net, tensors, self.weights)

    def _say_plan(self, facts: Mapping[str, Any], json_: bool) -> None:
        """What a dry run has to say, on stdout."""
        places = {"folder": str(self.places.folder), "model": self.places.model}
        if json_:
            more = {"steps": self.steps, "batch": self.batch, "seconds": self.seconds, "rate": self.spec.rate}
            write_json([{**facts, **more, "source": self.source, **places}], single=True)
            return
        print(f"would train {self.spec.kind}, {facts['parameters']} parameters, by the loss {facts['loss']}:")
        length = f"{self.seconds:.3g} s at {self.spec.rate} Hz"
        print(f"{count(self.steps, 'step')} of {count(self.batch, 'excerpt')} of {length}")
        print(f"from {self.source}")
        print(f"would write {places['folder']} and {places['model']}")
