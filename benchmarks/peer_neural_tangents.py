"""neural-tangents on the same works, in an environment of its own: works as JSON in, pairs a second as JSON out.

Run by `python benchmarks --neural-tangents PYTHON`; PYTHON has jax 0.4.30 and neural-tangents 0.6.5.
"""

# This file runs in the other environment: it imports nothing of ours.
import json
import sys
import time


def main() -> None:
    import jax
    import neural_tangents as nt
    import numpy as np
    from neural_tangents import stax

    job = json.load(sys.stdin)
    found = {}
    for work in job["works"]:
        layers = []
        for _ in range(work["convs"]):
            layers += [stax.Conv(1, (3, 3), padding="SAME", W_std=2**0.5), stax.Relu()]
        if work["head"] == "local":
            layers.append(stax.AvgPool((work["pool"], work["pool"]), strides=(1, 1), padding="VALID"))
        layers += [stax.GlobalAvgPool() if work["head"] == "global" else stax.Flatten(), stax.Dense(1)]
        _, _, kernel = stax.serial(*layers)
        rng = np.random.default_rng(0)
        best = 0.0
        for batch in work["batches"]:
            x1 = rng.standard_normal((batch, work["size"], work["size"], 3)).astype(np.float32)
            x2 = rng.standard_normal((batch, work["size"], work["size"], 3)).astype(np.float32)
            try:
                compiled = jax.jit(lambda a, b, kernel=kernel: kernel(a, b, "ntk"))
                np.asarray(compiled(x1, x2))
                times = []
                until = time.perf_counter() + job["seconds"]
                while len(times) < 3 or time.perf_counter() < until:
                    started = time.perf_counter()
                    np.asarray(compiled(x1, x2))
                    times.append(time.perf_counter() - started)
                    if sum(times) > 4 * job["seconds"]:
                        break
                best = max(best, batch * batch / sorted(times)[len(times) // 2])
            except Exception as error:  # out of memory at a large batch: the smaller ones count
                print(f"{work['name']}, batch {batch}: {type(error).__name__}", file=sys.stderr)
        found[work["name"]] = best
    versions = {"neural_tangents": nt.__version__, "jax": jax.__version__}
    json.dump({"pairs_per_second": found, "versions": versions}, sys.stdout)


main()
