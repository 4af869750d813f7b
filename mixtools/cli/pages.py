"""What `mixtools features --html` writes: the page, with the sound in it."""

from __future__ import annotations

import io
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np

from mixtools.cli.batch import Input, Progress, batch_of
from mixtools.cli.outputs import refuse_inputs
from mixtools.cli.report import Report, clock, count
from mixtools.errors import MixtoolsError, ParameterError
from mixtools.files.mixfile import read_mix
from mixtools.files.outputs import AtomicFile
from mixtools.files.writing import FlacWriter
from mixtools.tasks.page.page import BLOCK, MOST_SOUNDS, Sound, listen, page

MIX_FILES = ".yaml", ".yml"
LONGEST_S = 1200.0
"""So much audio a page holds in all, and what comes after it is drawn only: browsers keep it in memory as floats."""


def write_page(report: Report, named: list[str], output: str, workers: int, force: bool) -> int:
    """Measure audio, read mix files, and write a page of both; how many files failed."""
    chosen = [name for name in named if Path(name).suffix.lower() in MIX_FILES and not Path(name).is_dir()]
    sounding = [name for name in named if name not in chosen]
    mixes = {name: read_mix(path) for path, name in _short(chosen).items()}
    with ExitStack() as closing:
        batch = closing.enter_context(batch_of(sounding, report))
        if len(batch.inputs) > MOST_SOUNDS:
            raise ParameterError(
                f"{output}: {len(batch.inputs)} files of audio are given; a page shows at most {MOST_SOUNDS}"
            )
        refuse_inputs([output], [item.path for item in batch.inputs] + [Path(name) for name in chosen])
        target = closing.enter_context(AtomicFile(output, force=force))

        playing = _playing(batch.inputs)
        names = _short([item.shown for item in batch.inputs])

        def one(item: Input, progress: Progress) -> tuple[Sound, bytes | None, float]:
            with item.open() as file:
                sound = listen(names[item.shown], file, file.rate, lambda share: progress(0.7 * share))
            if item not in playing:
                report.note(f"{item.shown}: drawn and not played; a page plays {clock(LONGEST_S)} in all")
                return sound, None, 0.0
            # What goes beyond full scale is made smaller for 16 bits, and as much louder again by the page.
            over_db = max(0.0, sound.measures["loudness"]["sample_peak_dbfs"] or 0.0)
            return sound, _flac(item, over_db), over_db

        found = [row for _, row in batch.each("measuring", one, workers)] if batch.inputs else []
        if not found and not mixes:
            target.abort()
            return batch.failed
        text = page(
            [sound for sound, _, _ in found],
            mixes,
            {i: data for i, (_, data, _) in enumerate(found) if data is not None},
            {i: louder for i, (_, _, louder) in enumerate(found)},
        ).encode()
        with target.writing() as file:
            file.write(text)
    what = [count(len(found), "file")] * bool(found) + [count(len(mixes), "mix file")] * bool(mixes)
    size = f"{len(text) / 1e6:.1f} MB" if len(text) >= 1e5 else f"{len(text) / 1e3:.0f} kB"
    report.note(f"{output}: {' and '.join(what)}, {size}")
    return batch.failed


def _short(shown: list[str]) -> dict[str, str]:
    """Files without their folders, where that still tells them apart."""
    names = {name: Path(name).name for name in shown}
    return names if len(set(names.values())) == len(names) else {name: name for name in shown}


def _playing(items: list[Input]) -> set[Input]:
    """Those that the page has room for, from the first on."""
    fitting, total = set(), 0.0
    for item in items:
        with suppress(MixtoolsError), item.open() as file:
            total += file.seconds
            if total <= LONGEST_S:
                fitting.add(item)
    return fitting


def _flac(item: Input, quieter_db: float) -> bytes:
    """A file as FLAC of 16 bits."""
    kept = io.BytesIO()
    gain = np.float32(10.0 ** (-quieter_db / 20.0))
    with item.open() as file, FlacWriter(kept, file.rate, file.channels, "16") as writer:
        while (block := file.read(BLOCK)).shape[1]:
            writer.write(block * gain)
    return kept.getvalue()
