"""A mix whose channels are played by a network: what a model set on the console, on the emulated one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from mixtools.errors import ParameterError
from mixtools.mix import Insert, Mix
from mixtools.tasks.emulate.console import PROCESSORS
from mixtools.tasks.emulate.model import Model


def fits(model: Model, where: str) -> Model:
    """The model, if it is one of the whole channel in the papers' order."""
    about = model.about.get("console")
    if not isinstance(about, dict) or about.get("shuffle") or about.get("only") is not None:
        raise ParameterError(f"{where} is no model of the console's whole channel; give one, such as channel")
    return model


def played_by(mix: Mix, model: Model, name: str, settled: Collection[str] = ()) -> Mix:
    """A mix with equaliser, compressor and reverb of its tracks as one `neural` effect, but for `settled` files."""
    copy = Mix.from_plain(mix.to_plain())
    for track in copy.tracks:
        if track.file in settled:
            continue
        parts = [insert for insert in track.chain if insert.effect in PROCESSORS.values()]
        if not parts:
            continue
        at = track.chain.index(parts[0])
        values = {
            part.effect: {k: v for k, v in part.controls.items() if f"{part.effect}.{k}" in model.knobs}
            for part in parts
        }
        channel = Insert("neural", {"model": name, "set": values})
        rest = [insert for insert in track.chain if insert not in parts]
        track.chain = [*rest[:at], channel, *rest[at:]]
    return replace(copy, notes=mix.notes).check()
