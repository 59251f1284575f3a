"""The recipe for people who want a model: cross-entropy, momentum, cosine, batch norm, the best epoch on a split."""

from __future__ import annotations

import hashlib
from pathlib import Path

from nas_cntk.architecture import Architecture
from nas_cntk.records import validations
from nas_cntk.records.validations import Validation
from nas_cntk.validate.artifacts import checkpoint_path, save_weights, weights_path
from nas_cntk.validate.job import Bench, Job, memory_errors, test_set, training_sets
from nas_cntk.validate.standard import StandardNetwork, standard_network
from nas_cntk.validate.training import Schedule, evaluate, torch_threads, train

VERSION = 2  # of the recipe: what is trained by another is not continued
RATES = (0.1, 0.03, 0.01)  # the next one where a training diverges
MANY_IMAGES = 10_000  # from which batches are twice as large


def schedule(bench: Bench, n: int, rate: float = RATES[0]) -> Schedule:
    """Return how a network is trained on n images."""
    wishes = bench.wishes
    epochs = wishes.epochs_of_recipe
    return Schedule(
        loss="cross_entropy",
        epochs=epochs,
        batch=64 if n < MANY_IMAGES else 128,
        learning_rate=rate,
        momentum=0.9,
        weight_decay=5e-4,
        cosine=True,
        patience=max(5, epochs // 2),
        flips=wishes.flips,
        crops=wishes.crops,
        seed=bench.seed,
    )


def network(bench: Bench, architecture: Architecture) -> StandardNetwork:
    """Return the network before training."""
    dataset = bench.images.dataset
    return standard_network(
        architecture,
        dataset.image_shape,
        dataset.num_classes,
        bench.wishes.width_of_recipe,
        seed=bench.seed,
    )


def run(job: Job) -> Validation:
    """Train, keep the weights, test, and return what is to be recorded.

    Raises:
        StudyError: if memory is short.
        RecordsError: if weights or checkpoints cannot be written.
        KeyboardInterrupt: if cancelled; the last checkpoint stays.
    """
    import torch

    bench, candidate, device = job.bench, job.candidate, job.bench.devices.train
    dataset, n = bench.images.dataset, job.train_images
    checkpoint = checkpoint_path(bench.db, bench.study.name, candidate.key, "standard")
    weights = weights_path(bench.db, bench.study.name, candidate.key, "standard")
    data, split = training_sets(bench, n, device)
    tried: list[dict[str, object]] = []
    details: dict[str, object] = {}
    accuracy, images, seconds = None, len(dataset.y_test), 0.0
    width = bench.wishes.width_of_recipe
    flops = candidate.architecture.count_flops(dataset.image_shape, dataset.num_classes, width)
    for rate in RATES:
        plan = schedule(bench, n, rate)
        settings = job.settings(plan, "standard", VERSION, width=width)
        known = validations.find_point(bench.records, bench.study.study_id, candidate.key, "standard", settings)
        if known is not None:  # a rate that diverged before a kill; one that did not was recorded with its accuracy
            tried.append(known)
            seconds += float(str(known["seconds"]))
            continue
        with memory_errors(candidate.number), torch_threads(flops * plan.batch) as threads:
            net = network(bench, candidate.architecture)
            net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            found = train(
                net,
                data,
                split,
                plan,
                checkpoint=checkpoint,
                settings=settings,
                progress=job.progress,
                cancelled=job.cancelled,
            )
            seconds += found.seconds
            point: dict[str, object] = {"learning_rate": rate, **found.to_dict()}
            tried.append(point)
            if found.diverged:
                validations.record_point(
                    bench.records, bench.study.study_id, candidate.key, "standard", settings, point
                )
                continue
            _, correct = evaluate(net, test_set(bench, device), plan.loss)
        accuracy = correct / images
        metadata = job.metadata("standard", "standard", width=net.width, batch_norm=net.batch_norm)
        save_weights(weights, net.state_dict(), metadata)
        details = {
            "learning_rate": rate,
            "epochs": found.epochs,
            "best_epoch": found.best_epoch,
            "split_accuracy": found.split_accuracy,
            "threads": threads,
            "weights": {"file": weights.name, "sha256": _digest(weights)},
        }
        break
    checkpoint.unlink(missing_ok=True)
    return job.result(
        "cnn",
        "standard",
        accuracy,
        images,
        seconds,
        {
            **details,
            "diverged": accuracy is None,
            "width": width,
            "batch_norm": True,
            "schedule": schedule(bench, n).to_dict(),
            "split_images": len(split),
            "device": str(device),
            "tried": tried,
        },
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
