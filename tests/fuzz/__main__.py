"""`python -m fuzz [READER ...] --count N`: every reader in a process of its own, and its figures on a line.

`--only NUMBER` runs one input again, with its traceback; `--keep DIR` leaves its files there.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

from fuzz.harness import Reader, fuzz, peak_memory, seeded
from fuzz.readers import READERS

ADDRESS_SPACE = 6 << 30  # bytes beyond which a process gets no memory: what runs beside it is spared


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"of {', '.join(READERS)}; all without one")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    unknown = set(asked.readers) - set(READERS)
    if unknown:
        parser.error(f"no reader {sorted(unknown)[0]!r}; there are {', '.join(READERS)}")
    names = asked.readers or list(READERS)
    if asked.only is not None:
        return again(READERS[names[0]](), asked.seed, asked.only, asked.keep)
    numbers = range(asked.start, asked.start + asked.count)
    if asked.child is not None:
        return child(READERS[names[0]](), numbers, asked.seed, asked.child)
    return max([parent(name, numbers, asked.seed) for name in names])


def parent(name: str, numbers: range, seed: int) -> int:
    """Run a reader in a process of its own, so that a crash costs its process and its memory is its own."""
    with tempfile.NamedTemporaryFile() as at:
        child_of = [sys.executable, "-m", "fuzz", name, "--child", at.name]
        where = ["--start", str(numbers.start), "--count", str(len(numbers)), "--seed", str(seed)]
        code = subprocess.run([*child_of, *where]).returncode
        if code not in (0, 1):
            number = at.read().decode().strip() or "none"
            print(f"{name}, seed {seed}, number {number}: the process ended with {code}", flush=True)
    return 1 if code else 0


def child(reader: Reader, numbers: range, seed: int, at: Path) -> int:
    """Run a reader here, and note in a file which input is read."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    warnings.simplefilter("error")  # as in the tests: a warning is no line of ours
    with at.open("r+") as file:

        def note(number: int) -> None:
            file.seek(0)
            file.write(f"{number:<12}")
            file.flush()

        figures = fuzz(reader, numbers, seed, about_to=note)
    print(f"{figures.line()}  (peak {peak_memory() / 2**20:,.0f} MiB)", flush=True)
    for failure in figures.failures:
        print(failure, flush=True)
    return 1 if figures.failures else 0


def again(reader: Reader, seed: int, number: int, keep: Path | None) -> int:
    """Run one input with its traceback."""
    folder = keep or Path(tempfile.mkdtemp(prefix="nas-cntk-fuzz-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"the files of the input are in {folder}", flush=True)
    try:
        reader.run(seeded(reader.name, seed, number), folder)
    except reader.refusals as error:
        print(f"refused: {type(error).__name__}: {error!s:.1000}")
        return 0
    print("accepted")
    return 0


if __name__ == "__main__":
    sys.exit(main())
