"""How a model came about, in sentences for its card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas_cntk.data.sources import counted
from nas_cntk.export.manifest import Regression
from nas_cntk.records.validations import Validation
from nas_cntk.report import text

_AUGMENTED = {  # by flips and crops
    (False, False): "Images were trained on as they are, neither mirrored nor shifted.",
    (True, False): "Images were mirrored at random as they were trained on.",
    (False, True): "Images were shifted at random as they were trained on.",
    (True, True): "Images were mirrored and shifted at random as they were trained on.",
}


def recipe_of_kernel(about: Regression) -> list[str]:
    """Return sentences on a kernel regression."""
    kernel = {"ntk": "all marked layers trained (ntk)", "nngp": "only the readout trained (nngp)"}[about.kernel]
    return [
        f"The exact kernel of the infinitely wide network, {kernel}, in {about.dtype}, of {about.train_images:,}"
        " training images.",
        f"Kernel regression on one-hot labels minus 1/classes; ridge {about.ridge:g}, jitter {about.jitter:g}, in"
        " multiples of the kernel's mean diagonal.",
        "The class is that of the greatest output.",
    ]


def recipe_of_training(one: Validation) -> list[str]:
    """Return sentences on a training by recipe standard that has an accuracy, the first one for the screen too."""
    known: Mapping[str, Any] = one.details
    plan, aside = known["schedule"], known["split_images"]
    failed = [f"{point['learning_rate']:g}" for point in known["tried"] if point["diverged"]]
    rate = f"{known['learning_rate']:g}" + (f" ({', '.join(failed)} diverged)" if failed else "")
    asked = known["lowered_from"]
    return [
        f"The weights were trained by recipe {one.recipe} on {one.train_images - aside:,} images, and {aside:,} more"
        f" chose the epoch: accuracy {text.score('accuracy', one.accuracy, one.stderr)} on {one.test_images:,} test"
        " images.",
        f"Cross-entropy; SGD with Nesterov momentum {plan['momentum']:g}, weight decay {plan['weight_decay']:g} and"
        f" batches of {plan['batch']:,}; the learning rate {rate} falls to 0 along a cosine, after a short warm-up.",
        f"At most {counted(plan['epochs'], 'epoch')}, or until {plan['patience']:,} in a row bring nothing better: it"
        f" ended after {known['epochs']:,}. The weights are those of epoch {known['best_epoch']:,}, whose loss was the"
        f" least on the {aside:,} images (a tenth of each class of the {one.train_images:,}, not trained on); the"
        f" accuracy on them was {text.score('accuracy', known['split_accuracy'])}.",
        _AUGMENTED[bool(plan["flips"]), bool(plan["crops"])],
        f"Width {known['width']:,}, {'a' if known['batch_norm'] else 'no'} batch norm after every conv; seed"
        f" {plan['seed']}; computed on {known['device']}, {counted(known['threads'], 'thread')}.",
        *([] if asked is None else [f"{asked:,} training images were asked for, and lowered to {one.train_images:,}."]),
    ]
