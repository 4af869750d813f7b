"""Mixes that nobody has written down yet: what `mix` does without a mix file."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixtools.cli.recordings import recordings
from mixtools.cli.rendering import Session, named_files, opened_stems, read_mix_file
from mixtools.cli.report import Report, count
from mixtools.controls import shown
from mixtools.dsp.console import Console
from mixtools.errors import ParameterError, nearest
from mixtools.files.excerpts import Excerpts
from mixtools.mix import Insert, Mix
from mixtools.tasks.automix.baselines import baseline
from mixtools.tasks.automix.mastering import Held, mastered
from mixtools.tasks.automix.options import TARGET_LUFS
from mixtools.tasks.automix.roles import ROLES
from mixtools.tasks.loudnorm import MOST_LIMITING_DB, Plan
from mixtools.tasks.mix import equal_gain, match_stems, most_common_rate

if TYPE_CHECKING:
    from mixtools.tasks.automix.expert import Engineered, Expert
    from mixtools.tasks.automix.model import Model
    from mixtools.tasks.automix.rules import Taste

LISTENING, MEASURING = "listening", "measuring"
"""Stages, as progress is told of them."""

NEAR_LU = 0.5
"""A mix that is further from its loudness is said to be."""


@dataclass(frozen=True)
class Wanted:
    """What kind of mix is asked for; no baseline and no model is the expert."""

    baseline: str | None = None
    model: str | None = None
    target_lufs: float | None = None
    keep_levels: bool = False
    roles: Sequence[str] = ()
    variations: int | None = None
    lock: str | None = None
    seed: int = 0
    split_stereo: bool = False
    channel: str | None = None
    """A model of the channel that plays what a mixing model sets."""

    @property
    def as_they_are(self) -> bool:
        """Nothing has to be found out."""
        return self.baseline == "sum" and self.target_lufs is None


@dataclass
class Automatic(Session):
    """A session whose mix was made here; `roles` and `rules` say how."""

    roles: dict[str, str] = field(default_factory=dict)
    rules: list[str] = field(default_factory=list)


def outline(report: Report, stems: list[str], wanted: Wanted, rate: int | None) -> Automatic:
    """The stems, opened, and their sum: what every mix of them has the tracks of."""
    opened, broken = opened_stems(report, stems, "mix")
    for error in broken.values():
        raise error
    mix = equal_gain({name: stem.channels for name, stem in opened.items()}, wanted.split_stereo)
    return Automatic(opened, mix, rate or most_common_rate(stem.rate for stem in opened.values()))


def mixed(report: Report, summed: Automatic, wanted: Wanted, threads: int, held: Held | None = None) -> list[Automatic]:
    """The stems of an outline, mixed: one session for every mix that is asked for; a single one stays in `held`."""
    if wanted.baseline == "sum":
        report.note("the stems are summed as they are")
        return [summed if wanted.as_they_are else _mastered(report, summed, wanted, threads, held)]
    with closing(Excerpts()) as excerpts:
        sounds = recordings(excerpts, summed.stems, summed.rate)
        if wanted.baseline is None:
            return _engineered(report, summed, sounds, wanted, threads, held)
        made = replace(summed, mix=baseline(wanted.baseline, sounds, summed.rate, wanted.seed))
        report.note(f"mixed as the {wanted.baseline} baseline")
        return [_mastered(report, made, wanted, threads, held)]


def _engineered(
    report: Report, session: Automatic, sounds: Mapping[str, Any], wanted: Wanted, threads: int, held: Held | None
) -> list[Automatic]:
    """Mixed by rules, or by a model under their supervision."""
    from mixtools.tasks.automix.expert import Expert
    from mixtools.tasks.automix.variations import taste

    model = None if wanted.model is None else _model(wanted.model)
    others = [] if wanted.model is None else [Path(wanted.model)]
    roles = given_roles(wanted.roles, sorted(session.stems))
    locked, session.named_files = locked_mix(report, session, wanted.lock)
    with report.stages(LISTENING) as tell, ExitStack() as closing:
        expert = Expert(
            sounds,
            session.rate,
            roles,
            threads,
            lambda share: tell(LISTENING, share),
            opener(session, threads, closing),
        )
        tastes = [taste(wanted.seed, number) for number in range(1, (wanted.variations or 0) + 1)] or [None]
        if model is None:
            mixes = [expert.mix(taste, wanted.keep_levels, locked) for taste in tastes]
        else:
            mixes = _modelled(model, expert, tastes, wanted, locked)
            mixes = _played(report, model, mixes, wanted, locked, session)
    report.note(f"mixed by {wanted.model or 'rules'}: {count(len(sounds), 'stem')}, -v says what was done and why")
    if model is not None:
        spec = model.net.spec
        report.detail(f"dmc-{spec.kind} with the encoder {spec.encoder}, trained at {model.net.rate} Hz")
    _tell(report, expert, mixes)
    return [
        _mastered(
            report,
            replace(
                session,
                mix=found.mix,
                others=others,
                roles=found.roles,
                rules=[str(decision) for decision in found.decisions],
            ),
            wanted,
            threads,
            held,
        )
        for found in mixes
    ]


def _tell(report: Report, expert: Expert, mixes: list[Engineered]) -> None:
    """What was made of the stems."""
    unsure = [name for name, (role, why) in expert.roles.items() if role == "other"]
    silent = [name for name, sound in expert.sounds.items() if sound.lufs is None]
    if silent:
        report.warn(f"{', '.join(silent)}: silent, or too quiet to have a loudness; left as it is")
    if unsure := [name for name in unsure if name not in silent]:
        report.note(f"{', '.join(unsure)}: role unknown; give --role ROLE=STEM for a better place")
    for number, found in enumerate(mixes, 1):
        for decision in found.decisions:
            report.detail(f"mix {number}: {decision}" if len(mixes) > 1 else str(decision))


def _model(name: str) -> Model:
    from mixtools.files.models import open_model
    from mixtools.tasks.automix.model import Model

    tensors, about = open_model(name, "mix")
    return Model.load(tensors, about, name)


def _modelled(
    model: Model, expert: Expert, tastes: Sequence[Taste | None], wanted: Wanted, locked: Mix | None
) -> list[Engineered]:
    from mixtools.cli.training import torch_threads
    from mixtools.tasks.automix.expert import Decision
    from mixtools.tasks.automix.supervision import supervised

    # By one thread: sums round alike whatever the machine.
    with torch_threads(1):
        decided = model.mix(expert.stems, expert.rate, expert.ranges)
    mixes = [supervised(expert, decided, taste, wanted.keep_levels, locked) for taste in tastes]
    for found in mixes:
        for track in found.mix.tracks:
            if locked is None or track.file not in {settled.file for settled in locked.tracks}:
                found.decisions += [Decision(track.file, insert.effect, _said(insert)) for insert in track.chain]
        found.decisions.sort(key=lambda decision: decision.stem)
    return mixes


def _played(
    report: Report, model: Model, mixes: list[Engineered], wanted: Wanted, locked: Mix | None, session: Automatic
) -> list[Engineered]:
    """The same mixes with their channels played by a network, where that was asked for, or learned with."""
    argument = wanted.channel or model.about.get("channel")
    if argument is None:
        return mixes
    from mixtools.files.models import bundled, open_model
    from mixtools.tasks.automix.channel import fits, played_by
    from mixtools.tasks.emulate.model import Model as Emulator

    if model.net.spec.kind != "full":
        raise ParameterError(f"--channel plays what a dmc-full model sets, and {wanted.model} is a dmc-basic; leave it")
    channel = fits(Emulator.load(*open_model(str(argument), "emulate"), str(argument)), str(argument))
    if channel.rate != session.rate:
        rates = f"{channel.rate} Hz, and the session is at {session.rate} Hz"
        raise ParameterError(f"--channel works at {rates}; give --rate {channel.rate}")
    name = str(argument)
    if name not in bundled("emulate"):
        name = Path(name).name
        session.named_files = session.named_files | {name: Path(str(argument))}
    report.detail(f"channels played by {argument}")
    settled = {track.file for track in locked.tracks} if locked else set()
    return [replace(found, mix=played_by(found.mix, channel, name, settled)) for found in mixes]


def _said(insert: Insert) -> str:
    """What an effect is set to, on a line."""
    return ", ".join(f"{name} {shown(value)}" for name, value in insert.controls.items())


def given_roles(entries: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """The role of every stem that --role speaks of (ROLE=STEM, wildcards too)."""
    roles: dict[str, str] = {}
    for entry in entries:
        role, _, pattern = entry.partition("=")
        if not pattern:
            raise ParameterError(f"--role is {entry or 'empty'}; give ROLE=STEM, such as kick={names[0]}")
        if role not in ROLES:
            raise ParameterError(f"--role is {entry}, but {role or 'nothing'} is no role; give {nearest(role, ROLES)}")
        found = [pattern] if pattern in names else fnmatch.filter(names, pattern)
        if not found:
            raise ParameterError(
                f"--role is {entry}, but no stem is called {pattern}; give {nearest(pattern, list(names))}"
            )
        for name in found:
            if roles.get(name, role) != role:
                raise ParameterError(f"--role makes {name} both {roles[name]} and {role}; give one")
            roles[name] = role
    return roles


def locked_mix(report: Report, session: Automatic, lock: str | None) -> tuple[Mix | None, dict[str, Path]]:
    """The mix file that settles some of the tracks, and what it names."""
    if lock is None:
        return None, {}
    mix, _ = read_mix_file(lock)
    matched = match_stems(mix, sorted(session.stems), skip_missing=True)
    for name in matched.missing:
        report.warn(f"{lock}: {name} is not among the stems; its track is left out")
    return matched.mix, named_files(matched.mix, lock)


def opener(session: Session, threads: int, stack: ExitStack) -> Callable[[Mix], Console]:
    """Gives consoles for mixes of a session's stems, which are closed with the stack."""

    def open_console(mix: Mix) -> Console:
        part = replace(session, mix=mix)
        console = part.console(Report(quiet=True, verbose=False), threads)
        for source in part.sources:
            stack.callback(source.close)
        return console

    return open_console


def warn_of_missing(report: Report, plan: Plan, target_lufs: float, most_limiting_db: float) -> None:
    """Say that a mix is not as loud as was asked for."""
    if plan.missed_lu > NEAR_LU:
        report.warn(
            f"the mix stays {plan.missed_lu:.1f} LU below {target_lufs:.3g} LUFS: more would need over "
            f"{most_limiting_db:.0f} dB of limiting; give a lower --target-lufs, or compress the stems"
        )


def _mastered(report: Report, session: Automatic, wanted: Wanted, threads: int, held: Held | None) -> Automatic:
    """A session whose mix has its loudness."""
    target = TARGET_LUFS.default if wanted.target_lufs is None else wanted.target_lufs
    with report.progress(MEASURING, session.frames) as progress, ExitStack() as closing:
        found = mastered(session.mix, opener(session, threads, closing), target, progress=progress, held=held)
    plan = found.plan
    rules = list(session.rules)
    if plan.unchanged is not None:
        report.warn(f"the mix has no loudness to bring to {target:g} LUFS: {plan.unchanged}")
    else:
        limited = f", limited by up to {plan.limiting_db:.1f} dB" if plan.limiting_db > 0 else ""
        rules.append(f"master: loudness: {plan.gain_db:+.1f} dB to {target:g} LUFS{limited}")
        report.detail(rules[-1])
        warn_of_missing(report, plan, target, MOST_LIMITING_DB)
    by = f"model {Path(wanted.model).name}" if wanted.model else wanted.baseline or "expert"
    notes = {"report": {"mixed_by": by} | ({"rules": rules} if rules else {})}
    return replace(session, mix=replace(found.mix, notes=found.mix.notes | notes), rules=rules)
