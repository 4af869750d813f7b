"""Feeds every reader of strangers' files with what a coverage-guided fuzzer makes of good ones, for a stated time.

python tests/bench/fuzz.py [SECONDS] [audio|mix|model|weights|table|controls ...]      60 s each unless given

An input fails that ends in anything but one of our own errors on one line, takes more than 5 s or 1 GiB, or leaves a
file behind. It needs atheris (`pip install -e '.[fuzz]'`), and prints how many inputs were tried. What failed is kept
in the folder that is named then.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
LONGEST_S = 5
MOST_MIB = 1024


def fuzz(kind: str, seconds: int) -> bool:
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{kind}-"))
    for part in ("inputs", "found"):
        (folder / part).mkdir()
    options = [
        f"-max_total_time={seconds}",
        f"-timeout={LONGEST_S}",
        f"-rss_limit_mb={MOST_MIB}",
        f"-artifact_prefix={folder}/found/",
        "-print_final_stats=1",
        "-max_len=65536",
    ]
    command = [sys.executable, __file__, "--one", kind, str(folder), *options, str(folder / "inputs")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = dict(re.findall(r"stat::(\w+):\s+(\d+)", done.stderr))
    covered = re.findall(r"cov: (\d+)", done.stderr)
    failed = sorted((folder / "found").iterdir())
    ended = "no failure" if done.returncode == 0 else f"FAILED, see {folder}/found"
    print(
        f"{kind:<10} {told.get('number_of_executed_units', '?'):>9} inputs in {seconds} s,"
        f" {covered[-1] if covered else '?'} branches, {told.get('peak_rss_mb', '?')} MiB,"
        f" {ended}",
        flush=True,
    )
    if done.returncode:
        print("\n".join(done.stderr.splitlines()[-25:]))
    return done.returncode == 0 and not failed


def one(kind: str, folder: Path, options: list[str]) -> None:
    """In a process of its own: libFuzzer ends it."""
    import atheris

    sys.path.insert(0, str(HERE.parent))
    with atheris.instrument_imports(include=["mixtools", "ruamel", "safetensors"]):
        from hostile import READERS

    reader = READERS[kind]
    seeds = reader.seeds()
    for name, data in seeds.items():
        (folder / "inputs" / name).write_bytes(data)
    suffixes = sorted({Path(name).suffix for name in seeds})
    place = folder / "work"
    place.mkdir()

    def attempt(data: bytes) -> None:
        # The ending matters to some readers: the first byte chooses it once there are several.
        suffix = suffixes[data[0] % len(suffixes)] if data else suffixes[0]
        path = place / f"x{suffix}"
        path.write_bytes(data)
        reader(path)
        left = [each.name for each in place.iterdir()]
        assert left == [path.name], left
        path.unlink()

    atheris.Setup([sys.argv[0], *options], attempt)
    atheris.Fuzz()


def main() -> int:
    if sys.argv[1:2] == ["--one"]:
        one(sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
        return 0
    words = sys.argv[1:]
    seconds = int(words.pop(0)) if words and words[0].isdigit() else 60
    sys.path.insert(0, str(HERE.parent))
    from hostile import READERS

    for word in set(words) - set(READERS):
        sys.exit(f"fuzz.py: {word} is not a reader; give {', '.join(READERS)}")
    return 0 if all([fuzz(kind, seconds) for kind in words or READERS]) else 1


if __name__ == "__main__":
    sys.exit(main())
