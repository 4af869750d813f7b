"""Commands that are killed at random moments, and what has to be true afterwards.

`test_faults.py` tries a few moments of each, `bench/faults.py` as many as there is time for.
"""

from __future__ import annotations

import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cli_helpers import command, environment, snapshot, write, yaml

from mixtools import synth_song

SIGNALS = signal.SIGKILL, signal.SIGINT, signal.SIGTERM
LONGEST_S = 120
PART = re.compile(r"\.[^/]*\.[0-9a-f]{8}\.part")
OURS = re.compile(r'cli/main\.py", line \d+, in (main|run)')
"""In a traceback: it had come to where interrupts are ours. Before that Python itself is still starting."""


@dataclass(frozen=True)
class Job:
    """A command in a folder that has its inputs, and the files that it writes.

    What was begun may be finished with the arguments `again`, and then has to be what it would have been.
    """

    arguments: tuple[str, ...]
    writes: tuple[str, ...]
    seconds: float = 3.0
    again: tuple[str, ...] = ()
    keeps_best: bool = False
    """Whether an interrupt (not a kill) leaves a valid output that is not that of a whole run."""

    def prepare(self) -> None:
        """Make the inputs in the working folder."""
        for name, samples in synth_song(5, self.seconds, 44100, 8).stems.items():
            write(Path("stems") / name, samples)
        text = "tracks:\n" + "".join(
            f"- file: {path.name}\n  chain: [{{parametric_eq: {{band1_gain_db: 3}}}}, {{compressor: {{ratio: 4}}}}]\n"
            "  sends: {room: -12}\n"
            for path in sorted(Path("stems").iterdir())
        )
        yaml(text + "buses:\n  room:\n    chain: [{convolution: {ir: hall}}]\n")

    def start(self, *more: str) -> subprocess.Popen:
        return subprocess.Popen(
            command(*self.arguments, *more), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )


JOBS = {
    "render": Job(("mix", "stems", "-p", "mix.yaml", "--end", "60", "-o", "out.wav", "--threads", "1"), ("out.wav",)),
    "fit": Job(
        (
            "fit",
            "stems",
            "ref.wav",
            "-o",
            "out.yaml",
            "--reverb-seconds",
            "0.1",
            "--render",
            "out.wav",
            "--threads",
            "1",
        ),
        ("out.yaml", "out.wav"),
        keeps_best=True,
    ),
    "training": Job(
        (
            *(
                "train",
                "mix",
                "synth:1",
                "-o",
                "run",
                "--steps",
                "6",
                "--threads",
                "1",
                "--batch",
                "2",
                "--seconds",
                "2",
            ),
            *("--excerpts", "4", "--held-out", "1", "--width", "16", "--rate", "16000", "--stems", "3"),
        ),
        ("run/model.safetensors",),
        again=("--resume",),
    ),
}


@dataclass
class Trial:
    """One run that was to be killed: with what, when, how it ended, and what was wrong afterwards."""

    signal: signal.Signals
    after_s: float
    code: int
    wrong: list[str]

    @property
    def finished(self) -> bool:
        return self.code == 0


class Killing:
    """A job in the working folder, what it writes when it is left alone, and how long that takes."""

    def __init__(self, name: str) -> None:
        self.job = JOBS[name]
        self.job.prepare()
        if name == "fit":
            subprocess.run(
                command("mix", "stems", "-p", "mix.yaml", "-o", "ref.wav", "-q"), env=environment(), check=True
            )
        self.inputs = snapshot()
        for _ in range(2):
            # The first may compile the effects: the second says how long it takes.
            self.clear()
            began = time.monotonic()
            self._finish(self.job.start(), 0)
            self.takes_s = time.monotonic() - began
        self.whole = self._outputs()
        assert set(self.whole) == set(self.job.writes)
        self.clear()

    def _outputs(self) -> dict[str, bytes]:
        return {name: Path(name).read_bytes() for name in self.job.writes if Path(name).exists()}

    def _finish(self, running: subprocess.Popen, code: int | None = None) -> str:
        try:
            err = running.communicate(timeout=LONGEST_S)[1].decode()
        finally:
            running.kill()
        assert code is None or running.returncode == code, err
        return err

    def clear(self) -> None:
        """Leave the inputs alone in the folder."""
        for path in [path for path in Path().iterdir() if str(path) not in self.inputs]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def attempt(self, number: int, after_s: float, *more: str) -> Trial:
        """Run it, send it the signal after a time, and look at what is there."""
        running = self.job.start(*more)
        time.sleep(after_s)
        running.send_signal(number)
        try:
            err = self._finish(running)
        except subprocess.TimeoutExpired:
            return Trial(signal.Signals(number), after_s, -1, [f"it goes on for {LONGEST_S} s"])
        return Trial(signal.Signals(number), after_s, running.returncode, self._wrong(number, running.returncode, err))

    def _wrong(self, number: int, code: int, err: str) -> list[str]:
        wrong, told = [], err.splitlines()
        found = snapshot()
        wrong += [f"changed the input {name}" for name, held in self.inputs.items() if found.get(name) != held]
        left = {name for name in found if PART.search(name)}
        outputs = self._outputs()
        kept = self.job.keeps_best and code == 130 and "the best so far" in err
        if not kept:
            wrong += [f"left a broken {name}" for name, held in outputs.items() if held != self.whole[name]]
            if len(outputs) not in (0, len(self.whole)) and number != signal.SIGKILL:
                wrong.append(f"left only {sorted(outputs)}")
        if number == signal.SIGKILL:
            return wrong if code in (0, -number) else [*wrong, f"exit code {code}"]
        early = "Traceback" in err and not OURS.search(err) or code == -number
        if early:
            return wrong + [f"left {sorted(left)}"] * bool(left)
        if left:
            wrong.append(f"left {sorted(left)}")
        if "Traceback" in err or "Exception ignored" in err:
            wrong.append(f"a traceback: {told[-1]}")
        if code not in (0, 130):
            wrong.append(f"exit code {code}: {told[-1] if told else ''}")
        return wrong

    def kill(self, moments: int, seed: int = 0, signals: Sequence[int] = SIGNALS) -> list[Trial]:
        """As many runs as there are moments, each killed at a random one; what can be resumed is, until it is done."""
        rng, trials = random.Random(seed), []
        resuming = False
        while len(trials) < moments:
            number = signals[len(trials) % len(signals)]
            trial = self.attempt(number, rng.uniform(0.0, self.takes_s), *(self.job.again if resuming else ()))
            trials.append(trial)
            resuming = bool(self.job.again) and not trial.finished and Path("run/last.json").exists()
            if not resuming:
                self.clear()
        if resuming:
            self._finish(self.job.start(*self.job.again), 0)
            trials[-1].wrong += [
                f"resumed to another {name}" for name, held in self._outputs().items() if held != self.whole[name]
            ]
        self.clear()
        return trials
