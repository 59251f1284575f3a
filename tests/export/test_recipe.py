"""How a model came about, in sentences: every number of the training, and each in its place."""

from __future__ import annotations

from typing import Any

from nas_cntk.export.recipe import recipe_of_training
from nas_cntk.records.validations import Validation


def validation(**changed: Any) -> Validation:
    """A training by recipe standard, as it is recorded."""
    schedule = {
        "loss": "cross_entropy",
        "epochs": 15,
        "batch": 64,
        "learning_rate": 0.1,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "cosine": True,
        "patience": 7,
        "flips": changed.pop("flips", False),
        "crops": changed.pop("crops", False),
        "seed": 3,
    }
    details = {
        "learning_rate": 0.1,
        "epochs": 10,
        "best_epoch": 3,
        "split_accuracy": 0.81818,
        "threads": 1,
        "width": 64,
        "batch_norm": True,
        "schedule": schedule,
        "split_images": 77,
        "device": "cpu",
        "tried": [{"learning_rate": 0.1, "diverged": False}],
        "lowered_from": None,
    }
    return Validation(1, "key", 5, "cnn", "standard", 0.78542, 0.01321, 768, 960, 5.0, {**details, **changed})


def test_a_training() -> None:
    assert recipe_of_training(validation()) == [
        "The weights were trained by recipe standard on 691 images, and 77 more chose the epoch: accuracy"
        " 78.54 ± 1.32 % on 960 test images.",
        "Cross-entropy; SGD with Nesterov momentum 0.9, weight decay 0.0005 and batches of 64; the learning rate 0.1"
        " falls to 0 along a cosine, after a short warm-up.",
        "At most 15 epochs, or until 7 in a row bring nothing better: it ended after 10. The weights are those of epoch"
        " 3, whose loss was the least on the 77 images (a tenth of each class of the 768, not trained on); the accuracy"
        " on them was 81.82 %.",
        "Images were trained on as they are, neither mirrored nor shifted.",
        "Width 64, a batch norm after every conv; seed 3; computed on cpu, 1 thread.",
    ]


def test_what_not_every_training_has() -> None:
    tried = [{"learning_rate": rate, "diverged": rate > 0.01} for rate in (0.1, 0.03, 0.01)]
    found = recipe_of_training(
        validation(learning_rate=0.01, tried=tried, flips=True, crops=True, lowered_from=5000, threads=2)
    )
    assert "the learning rate 0.01 (0.1, 0.03 diverged) falls to 0" in found[1]
    assert found[3] == "Images were mirrored and shifted at random as they were trained on."
    assert found[4].endswith("2 threads.")
    assert found[5] == "5,000 training images were asked for, and lowered to 768."
