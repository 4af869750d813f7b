"""Writes the man pages, from the declarations that the commands themselves run on.

`python -m mixtools.cli.manpage man` writes them; a test compares what is there with what this writes.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from mixtools.cli.help import default_of, signature
from mixtools.cli.main import app
from mixtools.cli.mixfilepage import mixfile_page
from mixtools.cli.modelpage import models_page
from mixtools.cli.roff import code, page, paragraphs, roff, table, tagged
from mixtools.errors import ExitStatus
from mixtools.files.corpora import LAYOUTS
from mixtools.files.corpora.corpus import PAIRS, SONGS, Kind
from mixtools.measure.audio_features import AF_TERMS
from mixtools.measure.catalogue import GROUPS, TABLE2, Feature
from mixtools.measure.distance import ALIGNED
from mixtools.measure.targets import TARGETS
from mixtools.tasks.automix.rules import MANNERS, RULES
from mixtools.tasks.train.families import FAMILIES, TRAINED


def options(command: Any) -> str:
    """A command's options, in the order of `--help`."""
    lines = []
    for parameter in command.params:
        if parameter.param_type_name != "option" or getattr(parameter, "hidden", False):
            continue
        lines.append(tagged(signature(parameter), (parameter.help or "") + default_of(parameter)))
    return "\n".join(lines)


def arguments(command: Any) -> str:
    """A command's positional arguments."""
    return "\n".join(tagged(p.metavar, p.help or "") for p in command.params if p.param_type_name == "argument")


def exit_status() -> str:
    """The table of exit codes."""
    return "\n".join(tagged(str(int(status)), status.meaning) for status in ExitStatus)


def commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Every command with its whole name; of a group of commands, those in it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        else:
            yield before + name, command


def manual(name: str) -> str:
    """What a command's page is called."""
    return f"mixtools-{name.replace(' ', '-')}"


def command_page(name: str, command: Any) -> str:
    """The page of one command; its examples stand in the module that declares it."""
    module = inspect.getmodule(inspect.unwrap(command.callback))
    text = inspect.cleandoc(command.callback.__doc__ or "")
    summary, _, rest = text.partition("\n\n")
    usage = " ".join(p.metavar for p in command.params if p.param_type_name == "argument")
    examples = "\n".join(f"{paragraphs(what)}\n{code(line)}\n.PP" for what, line in module.EXAMPLES)
    return page(
        manual(name),
        1,
        summary.rstrip("."),
        {
            "SYNOPSIS": f"\\fBmixtools {name}\\fR [\\fIOPTIONS\\fR] \\fI{roff(usage)}\\fR",
            "DESCRIPTION": paragraphs(f"{summary}\n\n{rest}\n\n{module.DESCRIPTION}"),
            "ARGUMENTS": arguments(command),
            "OPTIONS": options(command),
            **{heading: body() for heading, body in _MORE.get(name, {}).items()},
            "EXAMPLES": examples,
            "EXIT STATUS": exit_status(),
            "SEE ALSO": "\\fBmixtools\\fR(1), \\fBmixtools\\-mixfile\\fR(5)",
        },
    )


def top_page(group: Any) -> str:
    """The page of the program itself."""
    listed = "\n".join(
        tagged(f"mixtools {name}", inspect.cleandoc(command.callback.__doc__).split("\n\n")[0])
        for name, command in commands(group)
    )
    pages = [
        *(f"\\fB{roff(manual(name))}\\fR(1)" for name, _ in commands(group)),
        "\\fBmixtools\\-mixfile\\fR(5)",
        "\\fBmixtools\\-models\\fR(7)",
    ]
    see = ", ".join(pages)
    return page(
        "mixtools",
        1,
        "mix multitrack audio, and show the work",
        {
            "SYNOPSIS": "\\fBmixtools\\fR [\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARGUMENTS\\fR]",
            "DESCRIPTION": paragraphs(_TOP),
            "COMMANDS": listed,
            "OPTIONS": options(group),
            "PROMISES": table(["promised", "how it is tested"], [list(row) for row in PROMISES], "lx lx"),
            "EXIT STATUS": exit_status(),
            "ENVIRONMENT": tagged(
                "NUMBA_CACHE_DIR",
                "Where compiled effects are kept: beside the installed package where that can be written, else in the "
                "user's cache folder, unless this names another place.",
            ),
            "SEE ALSO": see,
        },
    )


_TOP = """
Commands meet in folders of WAV files and in mix files, which are small YAML texts that a person can read and
change.

Inputs are positional, `-o` names the output, `-` is stdin or stdout. stdout carries only the data that was asked
for; notes, warnings and progress bars go to stderr. Outputs appear under their name only when they are whole, and
nothing is overwritten without `--force`.

`mixtools --install-completion` sets up bash, zsh or fish, whichever it is run from, to complete commands, options and
their words; `_MIXTOOLS_COMPLETE=source_bash mixtools` (or `source_zsh`, `source_fish`) prints what does it.
"""

PROMISES = [
    (
        "However and whenever a run ends (SIGKILL, SIGINT, SIGTERM), no output is under its name that is not whole, "
        "and no input is changed. What SIGKILL leaves is a hidden file that ends in .part.",
        "50 random moments of a render, and of a fit: tests/bench/faults.py; some of them: tests/test_faults.py",
    ),
    (
        "A training that was killed goes on to the weights that it would have had; two never share a folder.",
        "killed before every operation on the disk, and at random: tests/test_training.py",
    ),
    (
        "Nothing is overwritten without `--force`, not even what appears while a run is at work; of several runs with "
        "`--force` one is left, whole.",
        "tests/test_faults.py, tests/test_cli_bad_input.py",
    ),
    ("A full disk or a folder that takes nothing is one line, and exit code 1.", "tests/test_faults.py"),
    (
        "A spoilt or hostile file is one line: it runs no code, nor takes 5 seconds or 1 GiB.",
        "some hundred of each kind: tests/test_hostile.py; 550,000 by a fuzzer, in a minute for each of six readers: "
        "tests/bench/fuzz.py",
    ),
    (
        "The same command gives the same bytes on one processor: from any folder and on any number of threads for mix, "
        "transfer, features and loudnorm; on the same number for fit, emulate and train.",
        "tests/test_determinism.py, tests/test_cli_fit.py, tests/test_training.py",
    ),
    (
        "A slice has the bits of the whole; the size of blocks changes none.",
        "tests/test_cli_mix.py, tests/test_console.py",
    ),
    (
        "The length of a session does not take memory: 64 stems of an hour take 402 MiB.",
        "tests/bench/memory.py",
    ),
]
"""And what holds mixtools to each."""


def feature_lists() -> str:
    """Every feature of every group: what it tells, its equation, its source, when it is null."""
    parts = []
    for group in GROUPS.values():
        parts += [f".SS {group.name}", roff(group.help)]
        for feature in group.features:
            several = f" ({feature.size} values)" if feature.size > 1 else ""
            parts.append(tagged(feature.name + several, " ".join(_feature_lines(feature))))
    return "\n".join(parts)


def _feature_lines(feature: Feature) -> list[str]:
    lines = [feature.help, f"Equation: {feature.equation}.", f"Source: {feature.source}."]
    return lines + [feature.undefined] * bool(feature.undefined) + ["A value per frame with --frames."] * feature.series


def comparison_lists() -> str:
    """What `--against` says: Table II's features with their floors, the audio-feature loss, the metrics by sample."""
    rows = [
        [f"{group}.{feature.name}", f"{feature.floor:g}", feature.floor_why + "."]
        for group, declared in TABLE2.items()
        for feature in declared
    ]
    parts = [".SS Relative errors", paragraphs(_ERRORS), ".PP", table(["feature", "floor", "why"], rows, "l l lx")]
    parts += [".SS Audio-feature loss", audio_feature_terms()]
    parts += [".SS Sample by sample", paragraphs(_ALIGNED)]
    for metric in ALIGNED.values():
        null = f" Null {metric.undefined}." if metric.undefined else ""
        parts.append(tagged(metric.name, f"{metric.help} Equation: {metric.equation}. Source: {metric.source}.{null}"))
    return "\n".join(parts)


def audio_feature_terms() -> str:
    """Diff-MST's loss, term by term."""
    terms = [tagged(term.name, f"Weight {term.weight:g}. {term.help}") for term in AF_TERMS.values()]
    return "\n".join([paragraphs(_LOSS), *terms])


def target_table() -> str:
    """The presets of `loudnorm`."""
    rows = [[name, f"{t.lufs:g}", f"{t.true_peak_dbtp:g}", t.source + "."] for name, t in TARGETS.items()]
    return table(["preset", "LUFS", "dBTP", "who asks for it"], rows, "l l l lx")


def song_layouts() -> str:
    """How a corpus of songs may lie in its folder."""
    return layouts(SONGS)


def device_layouts() -> str:
    """How recordings of a device may lie in their folder."""
    return layouts(PAIRS)


def layouts(kind: Kind) -> str:
    """How a corpus of a kind may lie in its folder."""
    rows = [[layout.name, layout.looks] for layout in LAYOUTS if layout.kind is kind]
    return "\n".join([paragraphs(_LAYOUTS), ".PP", table(["layout", "what it looks like"], rows, "l lx")])


def mixing_families() -> str:
    """Who mixes songs that have no mix."""
    rows = [[name, "yes" if name in TRAINED else "", family.help] for name, family in FAMILIES.items()]
    return "\n".join([paragraphs(_FAMILIES), ".PP", table(["family", "unless given", "how it mixes"], rows, "l l lx")])


_LAYOUTS = """
The first of these that is found is taken, unless --layout names one.
"""

_FAMILIES = """
The families that are left out without --family are for measuring: a model that does well on mixes by rules that it was
not trained on has learned to mix.
"""


def expert_rules() -> str:
    """What the expert goes by, with sources, and how it treats each role."""
    parts = [paragraphs(_RULES), *(tagged(name, f"{rule.text} Source: {rule.source}.") for name, rule in RULES.items())]
    rows = [
        [
            role,
            f"{manner.level_lu:g}",
            f"{manner.low_cut_hz:g}",
            f"{manner.crest_db:g}",
            f"{manner.attack_ms:g}, {manner.release_ms:g}",
            f"{manner.width:g}",
            ", ".join(f"{bus} {db:g}" for bus, db in (("room", manner.room_db), ("plate", manner.plate_db)) if db),
        ]
        for role, manner in sorted(MANNERS.items(), key=lambda item: item[1].rank)
    ]
    head = ["role", "LU", "cut Hz", "crest dB", "ms", "width", "sends dB"]
    return "\n".join([*parts, ".SS Roles", paragraphs(_ROLES), ".PP", table(head, rows, "l l l l l l lx")])


_RULES = """
What is done without a mix file, by name as -v says it. The methods are the sources'; the numbers are mixtools' own.
"""

_ROLES = """
The most important first. LU is the loudness of all stems of a role together while they sound, relative to the lead;
the lead voice leads, else the lead, and whoever leads has 0. cut is the frequency of the low cut, crest the crest
factor that is left alone, ms are attack and release of the compressor, width is how far from the centre (0.5 is hard
left or right) a stem may stand.
"""


def fit_equations() -> str:
    """What `fit` takes a mix to be, and what its figures mean."""
    return "\n.PP\n".join([paragraphs(_FIT_SYMBOLS), *(tagged(name, text) for name, text in _FIT_EQUATIONS.items())])


_FIT_SYMBOLS = """
y is the mix, y^ the estimated one, both with sides c = left, right; x_i is stem i, of mono stems the one channel on
both sides; * is convolution, t a sample, and sums over i go over all tracks.
"""

_FIT_EQUATIONS = {
    "gain": "y^_c(t) = sum_i a_ic x_i(t); the amplitudes a minimise sum_t (y_c - y^_c)^2 for each side "
    "(Barchiesi & Reiss 2010).",
    "eq": "y^_c = sum_i g_i p_c(pan_i) (e_i * x_i)(t - d_i), with gain g (negative where inverted), pan law p, "
    "delay d, and e the linear-phase filter of graphic_eq.",
    "stereo-bus": "As eq, and what the pan gives goes at the send's level s_i into one reverb: + r_c * sum_i s_i w_ic, "
    "with w_i the processed track and r the shared impulse response (Colonel & Reiss 2021, figure 2).",
    "individual-bus": "As eq, and + sum_i (r_ic * x_i), with a stereo impulse response of its own for every track: a "
    "second entry of the file, which may begin before its direct sound.",
    "console": "As stereo-bus, with compressors where they explain something of what is left, and a graphic EQ, a "
    "compressor, a gain and a limiter on the master. Where much stays unexplained, every channel of every stem gets a "
    "short impulse response to both sides besides. With --automation, gains of a track move by breakpoints.",
    "solve": "Filters h minimise sum_c sum_t w (y_c - sum_i h_ic * x_i)^2 + sum_i ridge_i |h_i / v|^2, of stems and "
    "mix through the mix's own prediction error filter: conjugate gradients on the normal equations in the frequency "
    "domain, preconditioned by the stems' cross-spectra. The ridge grows with what is not explained and towards the "
    "end of the filters, which are expected to fall by 55 dB (v); it decides where stems cannot be told apart. The "
    "controls are read off h and brought home by Gauss-Newton steps on the same sum of squares; what is still further "
    "than -40 dB from the mix is polished by descent.",
    "descent": "Adam on the loss at a learning rate of 1e-3, then 1e-4, then 1e-5, each until 50 steps bring less "
    "than 0.5 %, on 30 s at most; the reverb is bypassed until the first plateau. Equalisers begin between -11.4 and "
    "-2.7 dB per band, gains near 1, pans in the centre, impulse responses near 0.",
    "loss mss": "The mean absolute difference of magnitude spectra, at windows of 2048, 512 and 128 samples.",
    "loss mr-stft": "Spectral convergence plus the difference of log magnitudes, at several resolutions.",
    "loss time": "The mean squared difference of samples.",
    "residual": "10 log10(sum (y - y^)^2 / sum y^2), over both sides and what was fitted, in dB; unseen: over blocks "
    "that were kept from the fit.",
    "features": "The mean relative errors of the features of Table II, by group and in total, as mixtools features "
    "--against has them.",
    "gauge": "What the mix cannot tell is settled: an EQ has 0 dB at 1 kHz, the shared impulse response unit energy "
    "(the sum of squares of both sides is 1) and 0 as its first sample.",
}

_ERRORS = """
The relative error of a feature a against the reference's b is |a - b| / max(|b|, floor); the floor is for features
that can be near 0. A group's figure is the mean over its features, the total the mean over all 23. A feature that is
undefined in both has error 0; one that is undefined in only one of them leaves its error, its group and the total null.
"""

_LOSS = """
Both signals are brought to -16 LUFS. Every term is a mean squared difference times its weight, and the total is their
sum (equation 8 of Diff-MST). In the guarded loss, which is the one to quote, Bark bands are raised to 1e-4 of the
reference's largest band before the logarithm; the paper's own adds 1e-8 to every band, so that an empty band can
outweigh all others.
"""

_ALIGNED = """
For files of equal length, and with --aligned; a is the file, b the reference. All channels together make one figure.
"""

_MORE = {
    "mix": {"RULES": expert_rules},
    "fit": {"EQUATIONS": fit_equations},
    "features": {"FEATURES": feature_lists, "COMPARISON": comparison_lists},
    "transfer": {"LOSS": audio_feature_terms},
    "loudnorm": {"PRESETS": target_table},
    "train emulate console": {"LAYOUTS": song_layouts},
    "train emulate device": {"LAYOUTS": device_layouts},
    "train transfer": {"LAYOUTS": song_layouts},
    "train mix": {"LAYOUTS": song_layouts, "FAMILIES": mixing_families},
}
"""Sections that only some commands' pages have."""


def pages() -> dict[str, str]:
    """Every page by its file name."""
    group = typer.main.get_command(app)
    written = {f"{manual(name)}.1": command_page(name, command) for name, command in commands(group)}
    return {
        "mixtools.1": top_page(group),
        "mixtools-mixfile.5": mixfile_page(),
        "mixtools-models.7": models_page(),
    } | written


def write_pages(folder: Path) -> None:
    """Write every page into a folder."""
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
