"""One training: its bits, its checkpoints, its divergences."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nas_cntk import Builder, finite_network
from nas_cntk.validate import training
from nas_cntk.validate.standard import standard_network
from nas_cntk.validate.training import Schedule, TensorSet, Trained, evaluate, tensors, time_step, train

SHAPE = (4, 4, 1)
CPU = torch.device("cpu")
COSINE = Schedule("cross_entropy", 6, 16, 0.1, 0.9, 5e-4, cosine=True, seed=3)


def sets() -> tuple[TensorSet, TensorSet]:
    """Two classes told apart by the sign of the upper half, with noise."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((90, *SHAPE)).astype(np.float32)
    y = rng.integers(0, 2, 90)
    x[:, :2] += (2 * y - 1)[:, None, None, None]
    return tensors(x[:65], y[:65], CPU), tensors(x[65:], y[65:], CPU)


def network(seed: int = 0) -> torch.nn.Module:
    b = Builder()
    b.dense(b.global_avg_pool(b.relu(b.conv(b.input(), 3))))
    return standard_network(b.build(), SHAPE, 2, width=4, seed=seed).to(memory_format=torch.channels_last)


def bits(net: torch.nn.Module) -> bytes:
    return b"".join(tensor.numpy().tobytes() for tensor in net.state_dict().values())


def run(schedule: Schedule, **parts: object) -> tuple[Trained, bytes]:
    net = network()
    found = train(net, *sets(), schedule, **parts)  # type: ignore[arg-type]
    return found, bits(net)


@pytest.mark.parametrize("schedule", [COSINE, replace(COSINE, flips=True, crops=True)], ids=["plain", "augmented"])
def test_it_learns_and_repeats_bit_by_bit(schedule: Schedule) -> None:
    state = torch.get_rng_state()
    first, weights = run(schedule)
    assert run(schedule)[1] == weights and run(replace(schedule, seed=4))[1] != weights
    assert torch.equal(torch.get_rng_state(), state)  # torch's own generator is left alone
    assert first.history[0][0] > first.history[-1][0]  # the training loss
    assert first.split_accuracy is not None and first.split_accuracy > 0.8
    assert first.epochs == 6 and 1 <= first.best_epoch <= 6


@pytest.mark.parametrize("schedule", [COSINE, Schedule("quadratic", 6, 16, 0.2)], ids=["cosine", "constant"])
def test_an_interrupted_training_ends_as_an_undisturbed_one(
    schedule: Schedule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet, weights = run(schedule)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    path = tmp_path / "deep" / "a.checkpoint"
    for batches in (7, 9, 6):  # of five an epoch: in the second epoch, in the third, ...
        left = iter(range(batches))
        with pytest.raises(KeyboardInterrupt):
            run(schedule, checkpoint=path, settings="s", cancelled=lambda left=left: next(left, None) is None)
    epochs: list[float] = []
    found, again = run(schedule, checkpoint=path, settings="s", progress=epochs.append)
    assert epochs[0] > 3 / 6, "the checkpoint was not used"
    assert again == weights
    assert replace(found, seconds=0.0) == replace(quiet, seconds=0.0)
    assert not list(tmp_path.rglob("*.partial"))


def test_a_checkpoint_of_other_settings_or_a_torn_one_costs_nothing_but_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet, weights = run(COSINE)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    path = tmp_path / "a.checkpoint"
    run(replace(COSINE, epochs=3), checkpoint=path, settings="other")
    whole = path.read_bytes()
    assert run(COSINE, checkpoint=path, settings="s")[1] == weights
    for torn in (b"", b"junk", whole[: len(whole) // 2]):
        path.write_bytes(torn)
        assert run(COSINE, checkpoint=path, settings="other")[1] == weights
    assert quiet.epochs == 6


def test_a_checkpoint_whose_optimiser_is_refused_leaves_the_first_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, weights = run(COSINE)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    path = tmp_path / "a.checkpoint"
    run(replace(COSINE, epochs=3), checkpoint=path, settings="s")
    document = torch.load(path, weights_only=True)
    document["optimiser"]["param_groups"] = []
    torch.save(document, path)
    assert run(COSINE, checkpoint=path, settings="s")[1] == weights


def test_a_divergence_is_an_outcome() -> None:
    found, _ = run(Schedule("cross_entropy", 5, 16, 1e30))
    assert found.diverged and found.split_accuracy is None and found.epochs < 5
    b = Builder()
    b.dense(b.flatten(b.relu(b.conv(b.input(), 3))))
    net = finite_network(b.build(), SHAPE, 2, 8, seed=0)
    assert train(net, *sets(), Schedule("quadratic", 20, 16, 1e3)).diverged


def test_a_training_that_has_blown_up_has_diverged_though_its_loss_is_finite(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wild = replace(COSINE, learning_rate=30.0)
    found, _ = run(wild)
    assert found.diverged and found.epochs == 1
    monkeypatch.setattr(training, "BLOWN_UP", math.inf)
    found, _ = run(wild)  # finite to its end, and at no epoch better than guessing
    assert not found.diverged and found.split_loss is not None and found.split_loss > math.log(2)


def test_the_best_epoch_is_kept_and_patience_ends_the_rest() -> None:
    late = replace(COSINE, epochs=40, patience=3, learning_rate=0.3)
    found, weights = run(late)
    losses = [line[1] for line in found.history]
    assert found.best_epoch == 1 + losses.index(min(losses)) and found.split_loss == min(losses)
    assert found.epochs == min(40, found.best_epoch + 3)
    net = network()
    again = train(net, *sets(), late)
    assert bits(net) == weights and evaluate(net, sets()[1], "cross_entropy")[0] == again.split_loss
    constant, _ = run(Schedule("quadratic", 4, 16, 0.1))
    assert constant.best_epoch == 4  # the last one, whatever its loss


def test_no_batch_is_of_one_image() -> None:
    """65 images in batches of 16 or 64 leave one over, whose batch norm would have no variance."""
    for batch in (16, 64, 13):
        assert not run(replace(COSINE, batch=batch, epochs=1))[0].diverged


def test_the_rate_rises_shortly_and_falls_to_nothing() -> None:
    rates = [training._rate(COSINE, step, 100) for step in range(100)]
    assert rates[4] == max(rates) == COSINE.learning_rate and rates[0] == pytest.approx(0.02)
    assert rates[-1] < 1e-3 * COSINE.learning_rate and all(a >= b for a, b in zip(rates[4:], rates[5:], strict=False))
    assert {training._rate(Schedule("quadratic", 1, 1, 0.5), step, 9) for step in range(9)} == {0.5}


def test_augmentation_mirrors_and_shifts() -> None:
    x = torch.arange(2 * 8 * 8, dtype=torch.float32).reshape(1, 2, 8, 8).repeat(64, 1, 1, 1) + 1
    generator = torch.Generator().manual_seed(0)
    flipped = training._augmented(x, replace(COSINE, flips=True), generator)
    mirrored = [torch.equal(one, x[0].flip(2)) for one in flipped]
    same = [torch.equal(one, x[0]) for one in flipped]
    assert all(a != b for a, b in zip(mirrored, same, strict=True)) and 16 < sum(same) < 48
    shifted = training._augmented(x, replace(COSINE, crops=True), generator)
    padded = torch.nn.functional.pad(x[0], (1, 1, 1, 1))
    windows = [padded[:, i : i + 8, j : j + 8] for i in range(3) for j in range(3)]
    found = {next(n for n, window in enumerate(windows) if torch.equal(one, window)) for one in shifted}
    assert found == set(range(9))


def test_threads_follow_the_work_and_come_back() -> None:
    torch.set_num_threads(2)  # the fixture puts back what was there
    before = torch.get_num_threads()
    with training.torch_threads(1e6) as threads:
        assert threads == torch.get_num_threads() == 1
    with training.torch_threads(1e12) as threads:
        assert threads == before
    assert torch.get_num_threads() == before


def test_a_step_is_timed() -> None:
    assert 0 < time_step(network(), sets()[0], COSINE, seconds=0.01) < 1
