"""`python benchmarks` (`make bench`): correctness, then speed, on this machine, beside what its arithmetic allows.

An entry-layer is one covariance entry taken through one conv and relu, covariance and tangent together. The counted
bound is the FMAs a second of a register-only loop on all threads, over 19, taken around each measurement.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import machine
from measure import Timing, greatest_error, images, pairs_per_second, seconds_of
from works import PAPER_DEPTHS, WORKS, Work, cntk_v, heads_by_depths, nasbench201_cells, of_spaces

import nas_cntk
from nas_cntk import Architecture
from nas_cntk.errors import NasCntkError
from nas_cntk.kernels import cost

RESULTS = Path(__file__).resolve().parent / "results"
CHECKED_SIZE = 12  # of the images that the reference checks a 32x32 work on: it takes the whole four-index tensor
NASBENCH_GOALS = (100_000, 200_000)  # pairs a second


@dataclass(frozen=True, slots=True)
class Options:
    seconds: float  # of one run
    runs: int
    only: str | None
    say: Callable[[str], None]

    def wants(self, name: str) -> bool:
        return self.only is None or self.only.lower() in name.lower()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs, half a minute or so; nothing is stored")
    parser.add_argument("--only", metavar="NAME", help="the rows whose name contains NAME; nothing is stored")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--no-store", action="store_true", help="store nothing under benchmarks/results")
    parser.add_argument("--neural-tangents", metavar="PYTHON", help="an interpreter that has neural-tangents 0.6.5")
    given = parser.parse_args(arguments)
    text: list[str] = []

    def tell(line: str) -> None:
        text.append(line)
        if not given.json:
            print(line, flush=True)

    options = Options(0.5 if given.quick else 1.0, 3 if given.quick else 5, given.only, tell)
    about = machine.description()
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    tell(f"{about['cpu']}, {about['threads']} threads, {about['instruction_set']}, load {about['load']}; {now}")
    result: dict[str, Any] = {"machine": about, "date": now.isoformat(), "version": nas_cntk.__version__}
    result["works"] = chains(options, given.neural_tangents)
    result["nasbench201"] = nasbench(options, 4 if given.quick else 20)
    result["spaces"] = spaces(options)
    result["families"] = families(options)
    if given.json:
        print(json.dumps(result, indent=2))
    if not (given.quick or given.only or given.no_store):
        stem = f"{now:%Y-%m-%d}-{_slug(str(about['cpu']))}-{about['threads']}-{about['instruction_set']}"
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{stem}.json").write_text(json.dumps(result, indent=2) + "\n")
        (RESULTS / f"{stem}.txt").write_text("\n".join(text) + "\n")
        print(f"\nstored {RESULTS / stem}.json and .txt", file=sys.stderr)


def chains(options: Options, peer_python: str | None) -> list[dict[str, Any]]:
    """Chains of 10 convs: entry-layers/s, the counted bound, their ratio, and neural-tangents."""
    wanted = [work for work in WORKS if options.wants(work.name)]
    if not wanted:
        return []
    options.say("\ncorrectness: cpu float32 against the float64 reference, greatest error over greatest entry")
    for work in wanted:
        size = min(work.size, CHECKED_SIZE)
        options.say(f"  {work.name:28} {greatest_error([work.architecture], size):8.1e}   (at {size}x{size})")
    peers, versions = neural_tangents(options, wanted, peer_python)
    options.say(
        f"\n{'work, 10 convs, ntk':28} {'entry-layers/s':>15} {'bound':>9} {'ratio':>6} {'goal':>5}   {versions}"
    )
    rows = []
    for work in wanted:
        before = machine.bound()
        timing = _timed([work.architecture], work.size, options)
        limit = (before + machine.bound()) / 2
        rate = timing.pairs_per_second * work.entry_layers
        peer = peers.get(work.name, 0.0)
        line = f"{work.name:28} {rate:15.3g} {limit:9.3g} {rate / limit:6.1%} {work.goal:5.0%}"
        if peer:
            goal = f" (goal {work.goal_peer:.0f})" if work.goal_peer else ""
            line += f"   {peer * work.entry_layers:.3g}, we {timing.pairs_per_second / peer:.0f} times{goal}"
        options.say(line)
        rows.append(
            {
                "name": work.name,
                "entry_layers_per_pair": work.entry_layers,
                "rate": rate,
                "bound": limit,
                "ratio": rate / limit,
                "goal": work.goal,
                "timing": asdict(timing),
                "neural_tangents_pairs_per_second": peer or None,
            }
        )
    return rows


def neural_tangents(options: Options, works: Sequence[Work], python: str | None) -> tuple[dict[str, float], str]:
    """Return the peer's pairs a second by work, and a heading."""
    if python is None:
        return {}, "neural-tangents: skipped (--neural-tangents PYTHON)"
    # The four-index tensor of one pair is 4 MB at 32x32: larger batches only leave the cache further behind.
    batches = {8: [4, 16, 32], 16: [2, 4, 8], 32: [1, 2]}
    job = {
        "seconds": options.seconds,
        "works": [
            {
                "name": work.name,
                "size": work.size,
                "convs": work.convs,
                "head": work.head,
                "pool": work.pool,
                "batches": [8, 32, 64] if work.head == "flatten" else batches[work.size],
            }
            for work in works
        ],
    }
    script = Path(__file__).with_name("peer_neural_tangents.py")
    run = subprocess.run([python, str(script)], input=json.dumps(job), capture_output=True, text=True, check=False)
    if run.returncode:
        last = (run.stderr.strip().splitlines() or ["no message"])[-1]
        raise SystemExit(f"error: neural-tangents in {python} failed: {last}")
    found = json.loads(run.stdout)
    versions = found["versions"]
    return found["pairs_per_second"], f"neural-tangents {versions['neural_tangents']}, jax {versions['jax']}"


def nasbench(options: Options, count: int) -> dict[str, Any] | None:
    """NAS-Bench-201 cells, one a stage, at 8x8: total pairs over total seconds, both kernels."""
    if not options.wants("NAS-Bench-201 cells"):
        return None
    cells = nasbench201_cells(count)
    error = greatest_error(cells[:3] if options.runs < 5 else cells, 8, "both", 1, 2)
    side = 64 if options.runs < 5 else 128
    x1, x2 = images(side, 8, 1), images(side, 8, 2)
    calls = [functools.partial(nas_cntk.kernel, cell, x1, x2, kind="both") for cell in cells]
    seconds = seconds_of(calls, 3)
    rate = len(cells) * side * side / sum(seconds)
    goals = " and ".join(f"{goal:,}" for goal in NASBENCH_GOALS)
    options.say(
        f"\nNAS-Bench-201 cells, 8x8: {rate:,.0f} pairs/s in all over {len(cells)} live cells, both kernels"
        f" (goals {goals}; greatest error {error:.1e})"
    )
    return {
        "pairs_per_second": rate,
        "cells": len(cells),
        "pairs_a_cell": side * side,
        "seconds": seconds,
        "error": error,
    }


def spaces(options: Options) -> list[dict[str, Any]]:
    """One net of each shipped space at 8x8."""
    rows: list[dict[str, Any]] = []
    for name, arch in of_spaces((8, 8, 3)):
        if not options.wants(f"space {name}"):
            continue
        if not rows:
            options.say(f"\n{'one net of each space, 8x8':28} {'pairs/s':>15} {'entry-layers/s':>15} {'error':>9}")
        error = greatest_error([arch], 8)
        timing = _timed([arch], 8, options)
        rate = timing.pairs_per_second * cost.entry_layers(arch, (8, 8, 3), 1)
        options.say(f"space {name:22} {timing.pairs_per_second:15,.0f} {rate:15.3g} {error:9.1e}")
        rows.append({"name": name, "key": arch.key, "rate": rate, "error": error, "timing": asdict(timing)})
    return rows


def families(options: Options) -> list[dict[str, Any]]:
    """Several architectures in one pass against one after the other."""
    rows = []
    depths = [cntk_v(depth) for depth in PAPER_DEPTHS]
    if options.wants("family: five depths of CNTK-V"):
        error = greatest_error(depths, 8)
        rows.append(_family(options, "family: five depths of CNTK-V", depths, depths, 32, 0.6, "all separately", error))
    if options.wants("family: 20 depths x 3 heads"):
        family, deepest = heads_by_depths(20)
        error = greatest_error(family[::7] + [deepest], 8, n1=1, n2=2)
        rows.append(
            _family(options, "family: 20 depths x 3 heads", family, [deepest], 8, 1.3, "the deepest alone", error)
        )
    return rows


def _family(
    options: Options,
    name: str,
    family: list[Architecture],
    against: list[Architecture],
    size: int,
    goal: float,
    what: str,
    error: float,
) -> dict[str, Any]:
    side = {32: 192, 8: 192}[size] if options.runs >= 5 else 64
    x1, x2 = images(side, size, 1), images(side, size, 2)

    def apart() -> None:
        for arch in against:
            nas_cntk.kernel(arch, x1, x2)

    together, alone = seconds_of([lambda: nas_cntk.kernel_family(family, x1, x2), apart], 3)
    options.say(
        f"\n{name}, {size}x{size}: {together:.2f} s together, {alone:.2f} s {what}: {together / alone:.2f}"
        f" (goal {goal:g}; greatest error {error:.1e})"
    )
    return {"name": name, "together": together, "alone": alone, "ratio": together / alone, "goal": goal, "error": error}


def _timed(family: list[Architecture], size: int, options: Options) -> Timing:
    return pairs_per_second(lambda x1, x2: nas_cntk.kernel_family(family, x1, x2), size, options.seconds, options.runs)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40]


if __name__ == "__main__":
    try:
        main()
    except NasCntkError as error:
        sys.exit(f"error: {error}")
