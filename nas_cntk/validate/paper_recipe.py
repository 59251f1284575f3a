"""The paper's recipe: quadratic loss, plain SGD at a constant rate, no tricks, the best of a grid.

Source: section 6, the setup; the grid is that of `paper_grid`.
"""

from __future__ import annotations

from nas_cntk.records import validations
from nas_cntk.records.validations import Validation
from nas_cntk.validate.artifacts import checkpoint_path, save_weights, weights_path
from nas_cntk.validate.job import Job, memory_errors, test_set, training_sets
from nas_cntk.validate.paper_grid import (
    EIGENVALUE_IMAGES,
    Point,
    Sets,
    Watch,
    choose,
    grid,
    ranking,
    relative_eigenvalue,
    schedule,
    shares,
    train_point,
)

VERSION = 1


def run(job: Job) -> Validation:
    """Train the grid, choose on the split, and return what is to be recorded.

    Raises:
        StudyError: if memory is short.
        RecordsError: if weights or checkpoints cannot be written.
        KeyboardInterrupt: if cancelled; finished points and the last checkpoint stay.
    """
    bench, candidate, device = job.bench, job.candidate, job.bench.devices.train
    dataset, n = bench.images.dataset, job.train_images
    data, split = training_sets(bench, n, device)
    sets = Sets(data, split, test_set(bench, device))
    leading = bench.images.train(n)[0][: min(EIGENVALUE_IMAGES, n)]
    eigenvalue = relative_eigenvalue(candidate.architecture, leading, bench.backend, bench.kernel_gpus)
    results: list[dict[str, object]] = []
    for point, share in shares(grid(bench.wishes.width_of_recipe, eigenvalue)):
        best = choose(results).chosen
        results.append(_trained(job, point, sets, share, None if best is None else ranking(best)))
        job.progress(share[1])
    checkpoint_path(bench.db, bench.study.name, candidate.key, "paper").unlink(missing_ok=True)
    choice = choose(results)
    weights = weights_path(bench.db, bench.study.name, candidate.key, "paper")
    return job.result(
        "cnn",
        "paper",
        choice.accuracy,
        len(dataset.y_test),
        choice.seconds,
        {
            "chosen": choice.chosen,
            "best_on_test": choice.best_on_test,
            "grid": results,
            "diverged": choice.chosen is None,
            "points_diverged": choice.diverged,
            "largest_stable_step": 2 / eigenvalue,  # for kappa 1
            "epochs": bench.wishes.epochs_of_recipe,
            "width": bench.wishes.width_of_recipe,
            "split_images": len(split),
            "device": str(device),
            "weights": {"file": weights.name} if choice.chosen is not None else None,
        },
    )


def _trained(
    job: Job, point: Point, sets: Sets, share: tuple[float, float], best: tuple[float, float] | None
) -> dict[str, object]:
    """Return the recorded result of a point, or train it; the weights of the best so far are kept."""
    bench, candidate = job.bench, job.candidate
    dataset = bench.images.dataset
    plan = schedule(job.train_images, bench.wishes.epochs_of_recipe, point.learning_rate, bench.seed)
    settings = job.settings(plan, "paper", VERSION, width=point.width, kappa=point.kappa)
    known = validations.find_point(bench.records, bench.study.study_id, candidate.key, "paper", settings)
    if known is not None:
        return known
    watch = Watch(
        checkpoint=checkpoint_path(bench.db, bench.study.name, candidate.key, "paper"),
        settings=settings,
        progress=lambda fraction: job.progress(share[0] + fraction * (share[1] - share[0])),
        cancelled=job.cancelled,
    )
    with memory_errors(candidate.number):
        net, result = train_point(
            candidate.architecture, dataset.image_shape, dataset.num_classes, point, plan, sets, watch
        )
    if not result["diverged"] and (best is None or ranking(result) > best):
        # Before the point is recorded: killed in between, it is trained again and its weights are written again.
        path = weights_path(bench.db, bench.study.name, candidate.key, "paper")
        metadata = job.metadata("paper", "ntk", width=point.width, kappa=point.kappa)  # of `finite_network`
        save_weights(path, net.state_dict(), metadata)
    validations.record_point(bench.records, bench.study.study_id, candidate.key, "paper", settings, result)
    return result
