"""Kills a render, a fit and a training at random moments by SIGKILL, SIGINT and SIGTERM, and looks at what is left.

python tests/bench/faults.py [MOMENTS] [render|fit|training ...]      50 moments each unless given

A trial fails that changes an input, leaves an output under its name that is not whole, leaves anything at all after a
signal that can be caught, ends in a traceback or another exit code, or resumes to other weights.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from faults import JOBS, Killing


def main() -> int:
    words = sys.argv[1:]
    moments = int(words.pop(0)) if words and words[0].isdigit() else 50
    for word in set(words) - set(JOBS):
        sys.exit(f"faults.py: {word} is not a job; give {', '.join(JOBS)}")
    failed = 0
    # A shell's background jobs ignore Ctrl-C, and what they start inherits that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in words or JOBS:
        with tempfile.TemporaryDirectory(prefix="faults-") as folder:
            os.chdir(folder)
            killing = Killing(name)
            trials = killing.kill(moments)
            os.chdir("/")
        ended = Counter(f"{trial.signal.name} {trial.code}" for trial in trials)
        wrong = [trial for trial in trials if trial.wrong]
        failed += len(wrong)
        how = ", ".join(f"{word} {count}" for word, count in sorted(ended.items()))
        print(f"{name:<10} takes {killing.takes_s:.1f} s; {len(trials)} moments: {how}; wrong {len(wrong)}", flush=True)
        for trial in wrong:
            print(f"    {trial.signal.name} after {trial.after_s:.2f} s: {'; '.join(trial.wrong)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
