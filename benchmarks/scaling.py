"""How many workers a kernel is worth: one on a cluster simulated for 1 to 1,000 workers, and the simulation checked.

    python benchmarks/scaling.py [--check] [--costs 7.3,15,2.5,0.6,66] [--plot docs/images/scaling.png]

What a tile takes, what its way through the client and Dask's scheduler takes, and what unpacking it takes are measured
on this machine; speeds and latencies of links are given. Every event is simulated: a tile is submitted (one after the
other, by one client), the worker fetches the blocks of images that it has not got (from the client the first time,
then from a worker that has them), computes one tile at a time at its own speed, and the result goes back through its
link and the client's, where tiles are unpacked one after the other; or the worker writes it to a disk that all share.
Workers die and are replaced; what they had under way is computed again, and what they held is fetched again.

`--check` runs real kernels on one and two workers of this machine, and says how far the simulation is off.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import statistics
import sys
import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from machine import description
from works import chain

from nas_cntk import gram
from nas_cntk.cluster import Tiles, open_cluster
from nas_cntk.cluster.tiles import AHEAD, _packed, _unpacked, side_for
from nas_cntk.errors import NasCntkError

GIGABIT = 1e9 / 8  # bytes per second
SQUARE = 8  # tiles a side that are computed one after the other where workers have no squares of their own
IMAGE = 32 * 32 * 3 * 4  # bytes
WORKERS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
MOST_SIDE = 2048  # of tiles on disk
DISK = 2e9  # bytes per second of a disk that all share
SIZES = (10_000, 50_000, 200_000)
LINKS = (1, 10, 100)  # Gbit/s

Tile = tuple[int, int]


@dataclass(frozen=True)
class Costs:
    """What was measured: seconds, but for the share."""

    pair: float  # of a kernel between two images, on one worker
    tile: float  # of a tile beside its pairs
    task: float  # of the client and the scheduler, a tile: no two at a time
    byte: float  # of the client, to unpack a tile
    packed: float  # bytes of a packed tile over those of the tile


@dataclass(frozen=True)
class Cluster:
    """What is given."""

    workers: int
    bandwidth: float = 10 * GIGABIT  # of each machine's link, both ways at a time, bytes per second
    latency: float = 1e-4
    disk: float = 0.0  # bytes per second of a disk that all share, where workers write tiles; 0: they go to the client
    own: bool = True  # whether each worker has squares of its own as long as there are any
    spread: float = 0.1  # deviation of the logarithm of the workers' speeds
    lost: float = 0.0  # failures per worker and second
    back: float = 60.0  # seconds until a worker is replaced


@dataclass
class Worker:
    """What a worker has and does."""

    slow: float
    life: int = 0  # how often it was replaced
    there: bool = True
    blocks: dict[int, float] = field(default_factory=dict)  # and when they are here
    queue: deque[Tile] = field(default_factory=deque)  # submitted, in order
    ready: dict[Tile, float] = field(default_factory=dict)  # of these the images are here or on the way
    busy: bool = False
    inward: float = 0.0  # when its link is free
    outward: float = 0.0
    fetched: int = 0  # bytes
    under_way: set[Tile] = field(default_factory=set)
    own: deque[Tile] = field(default_factory=deque)


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    seconds: float
    efficiency: float  # over all workers from the first to the last moment, of the time that the pairs alone take
    images: float  # bytes of images that a worker fetched, mean
    results: float  # bytes of results of a worker, mean
    lost: int  # tiles computed or begun in vain


def simulate(n: int, side: int, costs: Costs, cluster: Cluster, seed: int = 0) -> Outcome:
    """Return what a symmetric kernel of n images takes, in tiles of a side."""
    return Simulation(n, side, costs, cluster, seed).run()


class Simulation:
    """One kernel: a queue of events by time."""

    def __init__(self, n: int, side: int, costs: Costs, cluster: Cluster, seed: int) -> None:
        self.n, self.side, self.costs, self.cluster = n, side, costs, cluster
        self.random = random.Random(seed)
        count = cluster.workers
        self.workers = [
            Worker(math.exp(self.random.gauss(0, cluster.spread)) if count > 1 else 1.0) for _ in range(count)
        ]
        # Their mean speed is that of one worker: efficiency is that of the cluster, not of its luck.
        mean = sum(1 / worker.slow for worker in self.workers) / count
        for worker in self.workers:
            worker.slow *= mean
        blocks = -(-n // side)
        tiles = [(i, j) for i in range(blocks) for j in range(i, blocks)]
        square = max(1, round(math.sqrt(len(tiles) / count))) if cluster.own else SQUARE
        tiles.sort(key=lambda tile: (tile[0] // square, tile[1] // square, *tile))
        self.left = len(tiles)
        self.waiting: deque[Tile] = deque()
        if cluster.own:
            for k, worker in enumerate(self.workers):
                worker.own = deque(tiles[k * len(tiles) // count : (k + 1) * len(tiles) // count])
        else:
            self.waiting = deque(tiles)
        self.holders: dict[int, list[int]] = {}
        self.events: list[tuple[float, int, str, int, int, Any]] = []
        self.number = 0
        self.client = self.inward = self.outward = self.disk = 0.0  # when they are free
        self.results, self.lost = 0, 0

    def run(self) -> Outcome:
        now = 0.0
        for _ in range(AHEAD):
            for w in range(len(self.workers)):
                self.submit(0.0, w)
        if self.cluster.lost:
            for w in range(len(self.workers)):
                self.at(self.random.expovariate(self.cluster.lost), "die", w)
        while self.left:
            now, _, what, w, life, given = heapq.heappop(self.events)
            if life == self.workers[w].life:
                getattr(self, what)(now, w, given)
        alone = self.costs.pair * self.n * (self.n + 1) / 2
        count = len(self.workers)
        fetched = sum(worker.fetched for worker in self.workers) / count
        return Outcome(now, alone / (now * count), fetched, self.results / count, self.lost)

    def at(self, when: float, what: str, w: int, given: Any = None) -> None:
        self.number += 1
        heapq.heappush(self.events, (when, self.number, what, w, self.workers[w].life, given))

    def next_tile(self, w: int) -> Tile | None:
        if self.waiting:
            return self.waiting.popleft()
        if not self.cluster.own:
            return None
        if not self.workers[w].own:  # takes the second half of what another has most of
            rich = max(self.workers, key=lambda one: len(one.own)).own
            for _ in range(-(-len(rich) // 2)):
                self.workers[w].own.appendleft(rich.pop())
        return self.workers[w].own.popleft() if self.workers[w].own else None

    def submit(self, now: float, w: int) -> None:
        """The client submits a tile."""
        tile = self.next_tile(w)
        if tile is None:
            return
        self.workers[w].under_way.add(tile)
        self.client = max(now, self.client) + self.costs.task
        self.at(self.client + self.cluster.latency, "arrived", w, tile)

    def arrived(self, now: float, w: int, tile: Tile) -> None:
        """A tile is with its worker, which fetches images."""
        worker = self.workers[w]
        ready = now
        for block in dict.fromkeys(tile):
            if block not in worker.blocks:
                worker.blocks[block] = self.fetch(now, w, block)
            ready = max(ready, worker.blocks[block])
        worker.queue.append(tile)
        worker.ready[tile] = ready
        self.at(ready, "start", w)

    def fetch(self, now: float, w: int, block: int) -> float:
        """Return when a block of images will be with a worker."""
        worker, holders = self.workers[w], self.holders.setdefault(block, [])
        size = self.images(block) * IMAGE
        worker.fetched += size
        if holders:
            source = self.workers[self.random.choice(holders)]
            begins = max(now, worker.inward, source.outward, source.blocks[block])
            source.outward = begins + size / self.cluster.bandwidth
        else:
            begins = max(now, worker.inward, self.outward)
            self.outward = begins + size / self.cluster.bandwidth
        worker.inward = begins + size / self.cluster.bandwidth
        holders.append(w)
        return worker.inward + self.cluster.latency

    def start(self, now: float, w: int, _: Any) -> None:
        """A worker begins the first tile whose images are there."""
        worker = self.workers[w]
        if worker.busy:
            return
        tile = next((one for one in worker.queue if worker.ready[one] <= now), None)
        if tile is None:
            return
        worker.queue.remove(tile)
        worker.busy = True
        seconds = worker.slow * (self.costs.tile + self.costs.pair * self.pairs(tile))
        self.at(now + seconds, "computed", w, tile)

    def computed(self, now: float, w: int, tile: Tile) -> None:
        """A tile is computed, and leaves."""
        worker, cluster = self.workers[w], self.cluster
        worker.busy = False
        size = self.images(tile[0]) * self.images(tile[1]) * 4.0
        if cluster.disk:
            ends = max(now, worker.outward) + size / cluster.bandwidth
            self.disk = max(now, self.disk) + size / cluster.disk
            worker.outward = ends
            self.at(max(ends, self.disk) + cluster.latency, "done", w, tile)
        else:
            size *= self.costs.packed
            worker.outward = self.inward = max(now, worker.outward, self.inward) + size / cluster.bandwidth
            self.at(self.inward + cluster.latency, "returned", w, tile)
        self.results += int(size)
        self.start(now, w, None)

    def returned(self, now: float, w: int, tile: Tile) -> None:
        """A tile is with the client, which unpacks it."""
        size = self.images(tile[0]) * self.images(tile[1]) * 4.0
        self.client = max(now, self.client) + self.costs.byte * size
        self.at(self.client, "done", w, tile)

    def done(self, now: float, w: int, tile: Tile) -> None:
        """A tile is where it should be."""
        worker = self.workers[w]
        worker.under_way.remove(tile)
        worker.ready.pop(tile)
        self.left -= 1
        self.submit(now, w)

    def die(self, now: float, w: int, _: Any) -> None:
        """A worker dies: what it had under way is computed by others, what it held is gone."""
        worker = self.workers[w]
        self.lost += len(worker.under_way)
        self.waiting.extendleft(worker.under_way)
        self.waiting.extend(worker.own)
        for block in worker.blocks:
            self.holders[block].remove(w)
        self.workers[w] = Worker(worker.slow, worker.life + 1, there=False, fetched=worker.fetched)
        self.at(now + self.cluster.back, "born", w)
        # Others take what is waiting, where they have nothing left to come back with.
        for k, other in enumerate(self.workers):
            if other.there and not other.under_way:
                self.submit(now, k)

    def born(self, now: float, w: int, _: Any) -> None:
        """Another is there in its place."""
        self.workers[w].there = True
        for _ in range(AHEAD):
            self.submit(now, w)
        self.at(now + self.random.expovariate(self.cluster.lost), "die", w)

    def images(self, block: int) -> int:
        return min(self.side, self.n - block * self.side)

    def pairs(self, tile: Tile) -> float:
        rows, columns = self.images(tile[0]), self.images(tile[1])
        return rows * (rows + 1) / 2 if tile[0] == tile[1] else rows * columns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only measure, and compare with real workers")
    parser.add_argument("--images", type=int, default=2000, help="of the check")
    parser.add_argument("--side", type=int, default=200, help="of the check's tiles")
    parser.add_argument("--convs", type=int, default=5, help="under flatten")
    parser.add_argument("--rounds", type=int, default=3, help="of the check")
    parser.add_argument(
        "--costs",
        help="five numbers in place of a check, where the machine is too busy for one: microseconds a pair,"
        " milliseconds a tile beside that, milliseconds a task, GB/s unpacked, percent left by packing",
    )
    parser.add_argument("--plot", help="a PNG to write")
    given = parser.parse_args()
    print(description())
    if given.costs is not None:
        pair, tile, task, unpacked, packed = map(float, given.costs.split(","))
        tables(Costs(pair / 1e6, tile / 1e3, task / 1e3, 1 / (unpacked * 1e9), packed / 100), given.plot)
        return
    arch = chain(given.convs, "flatten")
    x = np.random.default_rng(0).standard_normal((given.images, 32, 32, 3), dtype=np.float32)
    expected = np.asarray(gram(arch, x))
    costs = check(arch, x, expected, given.side, given.rounds)
    if not given.check:
        tables(costs, given.plot)


def check(arch: Any, x: Any, expected: Any, side: int, rounds: int) -> Costs:
    """Compare the simulation with real runs on one and two workers; return the least costs that were seen with two."""
    from distributed import get_task_stream

    two: list[Costs] = []
    print(
        f"{len(x)} images in tiles of {side}, seconds: predicted by costs measured before and after each run; predicted"
    )
    print("by what the tiles of the run itself took, so that only the rest is predicted; real:")
    for count in (1, 2):
        found = []
        with open_cluster(f"local:{count}") as client:
            engine = Tiles(client, side=side)
            gram(arch, x[: 4 * side], engine=engine)  # imports of the workers
            link = local_link(client)
            cluster = Cluster(count, *link, spread=0.0)
            for _ in range(rounds):
                before = measure(client, arch, x, expected, side, count)
                with get_task_stream(client) as stream:
                    started = time.perf_counter()
                    there = np.asarray(gram(arch, x, engine=engine))
                    real = time.perf_counter() - started
                after = measure(client, arch, x, expected, side, count)
                assert np.array_equal(there, expected), "a cluster's matrix has other bits"
                costs = Costs(*(statistics.mean(pair) for pair in zip(*map(_values, (before, after)), strict=True)))
                guess = simulate(len(x), side, costs, cluster).seconds
                pair = computing(stream.data) / (len(x) * (len(x) + 1) / 2)
                inside = simulate(len(x), side, replace(costs, pair=pair, tile=0.0), cluster).seconds
                found.append((guess, inside, real))
                print(f"  {count} worker(s)  {guess:6.2f}  {inside:6.2f}  {real:6.2f}", flush=True)
                if count == 2:
                    two += [before, after]
        guess, inside, real = (statistics.median(values) for values in zip(*found, strict=True))
        print(
            f"  {count} worker(s), medians: {guess:.2f} ({100 * (guess / real - 1):+.1f} %),"
            f" {inside:.2f} ({100 * (inside / real - 1):+.1f} %), {real:.2f}"
        )
    costs = Costs(*(min(values) for values in zip(*map(_values, two), strict=True)))
    print(
        f"measured, the least of {len(two)}: {1e6 * costs.pair:.2f} us a pair on one of two workers,"
        f" {1e3 * costs.tile:.1f} ms a tile beside that, {1e3 * costs.task:.2f} ms a task,"
        f" {1 / costs.byte / 1e9:.2f} GB/s unpacked, packed to {100 * costs.packed:.0f} %"
    )
    return costs


def computing(tasks: Any) -> float:
    """Return the seconds that workers computed tiles, all together."""
    return sum(
        part["stop"] - part["start"]
        for task in tasks
        if task["key"].startswith("_tile")
        for part in task["startstops"]
        if part["action"] == "compute"
    )


def _values(costs: Costs) -> tuple[float, ...]:
    return costs.pair, costs.tile, costs.task, costs.byte, costs.packed


def measure(client: Any, arch: Any, x: Any, expected: Any, side: int, count: int) -> Costs:
    """Measure on this cluster, all workers busy."""
    from nas_cntk.kernels import exact

    def timed(count_of_images: int) -> float:
        # The same images for both sides, and as two arrays, so that nothing is symmetric.
        began = time.perf_counter()
        exact.kernel(arch, x[:count_of_images], x[count_of_images : 2 * count_of_images])
        return time.perf_counter() - began

    timed.__module__ = "__main__"
    x = x[: 2 * side]
    large, small = [], []
    for images, into in ((side, large), (side // 4, small), (side, large), (side // 4, small)):
        futures = [client.submit(timed, images, workers=[one], pure=False) for one in client.nthreads()]
        into.extend(client.gather(futures))
    slope = (statistics.median(large) - statistics.median(small)) / (side**2 - (side // 4) ** 2)
    pair = max(slope, 1e-12)
    tile = max(0.0, statistics.median(large) - pair * side**2)

    tasks = 60 * count
    began = time.perf_counter()
    client.gather([client.submit(_nothing, k, pure=False) for k in range(tasks)])
    task = (time.perf_counter() - began) / tasks

    block = np.ascontiguousarray(expected[:side, side : 2 * side])
    began = time.perf_counter()
    packed = _packed(block)
    pack = time.perf_counter() - began
    out = np.empty_like(expected[: 2 * side, : 2 * side])
    began = time.perf_counter()
    for _ in range(5):
        found = _unpacked(packed)
        out[:side, side : 2 * side] = found
        out[side : 2 * side, :side] = found.T
    unpack = (time.perf_counter() - began) / 5
    return Costs(pair, tile + pack, task, unpack / block.nbytes, len(packed[0]) / block.nbytes)


def tables(costs: Costs, plot: str | None) -> None:
    """Print what the simulation says, and draw it."""
    ways = {
        "one order, tiles of 2048": {"own": False, "fixed": True},
        "one order, smaller tiles": {"own": False, "fixed": False},
        "each worker has its own squares": {"own": True, "fixed": False},
        "and writes its tiles to a shared disk": {"own": True, "fixed": False, "disk": DISK},
    }
    curves: dict[tuple[str, int, int], list[float]] = {}
    print("efficiency in %, by workers:" + "".join(f"{count:6}" for count in WORKERS))
    for n in SIZES:
        for gigabits in LINKS:
            for way, how in ways.items():
                found = [run(n, count, costs, gigabits * GIGABIT, how).efficiency for count in WORKERS]
                curves[way, n, gigabits] = found
                name = f"{n} images, {gigabits} Gbit/s, {way}"
                print(f"{name:68}" + "".join(f"{100 * one:6.0f}" for one in found), flush=True)
    print("megabytes a worker fetches (images) and sends (results), 100 workers, 10 Gbit/s:")
    sizes = (12_500, 25_000, 50_000, 100_000, 200_000)
    for way, how in ways.items():
        done = [run(n, 100, costs, 10 * GIGABIT, how) for n in sizes]
        for what in ("images", "results"):
            values = [getattr(one, what) / 1e6 for one in done]
            slope = np.polyfit(np.log(sizes), np.log(values), 1)[0]
            print(f"  {way:40} {what:8}" + "".join(f"{one:9.1f}" for one in values) + f"   as n^{slope:.2f}")
    print(
        "efficiency in % where workers die, 100 workers, 10 Gbit/s, 200,000 images, a minute until they are replaced:"
    )
    for way, how in ways.items():
        parts = []
        for hours in (0.0, 10.0, 1.0, 1 / 6):
            lost = 1 / (3600 * hours) if hours else 0.0
            one = run(200_000, 100, costs, 10 * GIGABIT, how, lost=lost)
            parts.append(
                f"{'never' if not hours else f'every {hours:.2g} h'} {100 * one.efficiency:.0f} ({one.lost} lost)"
            )
        print(f"  {way:40} {', '.join(parts)}")
    print("efficiency in % of 1,000 workers, 50,000 images, 10 Gbit/s, where a pair costs so many times as much:")
    for way, how in ways.items():
        parts = []
        for times in (1, 10, 100):
            dear = replace(costs, pair=times * costs.pair)
            parts.append(f"{times}: {100 * run(50_000, 1000, dear, 10 * GIGABIT, how).efficiency:.0f}")
        print(f"  {way:40} {', '.join(parts)}")
    if plot:
        draw(curves, list(ways), plot)


def run(n: int, count: int, costs: Costs, bandwidth: float, how: dict[str, Any], lost: float = 0.0) -> Outcome:
    """Simulate one kernel, in the largest tiles or in those that nas_cntk.cluster takes."""
    cluster = Cluster(count, bandwidth, disk=how.get("disk", 0.0), own=how["own"], lost=lost)
    return simulate(n, MOST_SIDE if how["fixed"] else side_for(n, count, MOST_SIDE), costs, cluster)


def draw(curves: dict[tuple[str, int, int], list[float]], ways: list[str], path: str) -> None:
    """Draw efficiency against workers: a panel a way, a colour a number of images, a line style a link."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    shown = {
        ways[0]: "tiles of 2,048 in one order, which come back to the client",
        ways[-1]: "smaller tiles, squares of each worker's own, written to a shared disk",
    }
    figure, axes = pyplot.subplots(1, len(shown), figsize=(11, 4.2), sharey=True)
    for axis, way in zip(axes, shown, strict=True):
        for color, n in zip(("tab:blue", "tab:orange", "tab:green"), SIZES, strict=True):
            for line, gigabits in zip((":", "--", "-"), LINKS, strict=True):
                values = [100 * one for one in curves[way, n, gigabits]]
                axis.plot(WORKERS, values, line, color=color, label=f"{n:,} images, {gigabits} Gbit/s")
        axis.set_xscale("log")
        axis.set_ylim(0, 105)
        axis.set_xlabel("workers")
        axis.set_title(shown[way], fontsize=9)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("efficiency, %")
    axes[1].legend(fontsize=7, loc="lower left")
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def _nothing(k: int) -> int:
    return k


def local_link(client: Any) -> tuple[float, float]:
    """Return bytes per second and seconds of the way to a worker of this machine."""
    block = np.zeros(2**22, dtype=np.float32)
    began = time.perf_counter()
    for _ in range(3):
        client.submit(len, client.scatter(block, hash=False), pure=False).result()
    seconds = (time.perf_counter() - began) / 3
    return block.nbytes / seconds, 1e-3


if __name__ == "__main__":
    try:
        main()
    except NasCntkError as error:
        sys.exit(f"error: {error}")
