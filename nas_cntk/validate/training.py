"""One training: epochs of SGD from a seed, on one device, that survive a kill and end with the same bits on a CPU.

Everything random is drawn from (seed, epoch), so an epoch needs nothing but the weights and the optimiser's state
that the checkpoint of the epoch before holds.
"""

from __future__ import annotations

import contextlib
import io
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nas_cntk.errors import BackendUnavailable
from nas_cntk.files import write_file

try:
    import torch
except ImportError:
    raise BackendUnavailable("training needs torch, which is not installed; install nas-cntk[train]") from None

Progress = Callable[[float], None]
Cancelled = Callable[[], bool]

EVALUATED_AT_A_TIME = 512
CHECKPOINT_SECONDS = 2.0  # at least between two checkpoints, so that short epochs are not spent on the disk
CHECKED_EVERY = 50  # steps between looks at the loss, each of which waits for a GPU
LARGEST_LOSS = 1e4  # beyond it a quadratic loss is on its way to infinity
BLOWN_UP = 4.0  # times that of guessing: an epoch's cross-entropy of a training that will not learn any more
ONE_THREAD = 2**32  # multiply-adds of a batch up to which a second thread waits longer than it works


@dataclass(frozen=True, slots=True)
class Schedule:
    """How a network is trained; with the network, the images and the device it fixes the result."""

    loss: str  # cross_entropy | quadratic
    epochs: int
    batch: int
    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    cosine: bool = False  # from the learning rate to 0, after a short warm-up; else constant
    patience: int | None = None  # epochs without a better split after which training ends; None: never
    flips: bool = False
    crops: bool = False
    seed: int = 0

    def to_dict(self) -> dict[str, object]:
        """Return it for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class TensorSet:
    """Images, shape (n, c, h, w), and labels, shape (n,), on the device."""

    x: torch.Tensor
    y: torch.Tensor

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, slots=True)
class Trained:
    """How a training ended; accuracies and losses of the epoch that was kept."""

    diverged: bool
    epochs: int  # that were run
    best_epoch: int  # counted from 1; 0 if there is none
    split_accuracy: float | None
    split_loss: float | None
    train_loss: float | None  # mean over the last epoch
    seconds: float
    history: tuple[tuple[float, float, float], ...]  # of each epoch: training loss, split loss, split accuracy

    def to_dict(self) -> dict[str, object]:
        """Return it for JSON."""
        return asdict(self)


def tensors(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], device: torch.device) -> TensorSet:
    """Return images (n, h, w, c) and labels as tensors on a device, channels last in memory."""
    images = torch.from_numpy(np.ascontiguousarray(x)).permute(0, 3, 1, 2)
    return TensorSet(images.to(device), torch.from_numpy(np.ascontiguousarray(y)).to(device))


def train(
    net: torch.nn.Module,
    data: TensorSet,
    split: TensorSet,
    schedule: Schedule,
    *,
    checkpoint: Path | None = None,
    settings: str = "",
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Trained:
    """Train a network in place and leave it with the weights of its best epoch on the split.

    With `patience` or `cosine` that is the epoch with the least loss on the split (an accuracy on few images is
    equal in too many epochs); else the last one. A loss that is not finite ends the training, and so does one far above
    that of guessing: `diverged`.

    Args:
        checkpoint: a file that each epoch is saved to; one with equal `settings` is continued, another is ignored.
        cancelled: polled every batch; a true answer raises KeyboardInterrupt, and the last checkpoint stays.
    """
    state = _State(net, schedule)
    if checkpoint is not None:
        state.load(checkpoint, settings)
    device = data.x.device
    largest = LARGEST_LOSS if schedule.loss == "quadratic" else BLOWN_UP * math.log(max(2, int(data.y.max()) + 1))
    saved, started = time.monotonic(), time.monotonic() - state.seconds
    while not state.ended(schedule):
        loss = _epoch(state, data, schedule, progress, cancelled)
        diverged = not loss <= largest
        split_loss, correct = (math.nan, 0) if diverged else evaluate(net, split, schedule.loss)
        diverged = diverged or not math.isfinite(split_loss)
        state.seconds = time.monotonic() - started
        state.note(loss, split_loss, correct / max(1, len(split)), diverged, schedule)
        if progress is not None:
            progress(state.epoch / schedule.epochs)
        if checkpoint is not None and time.monotonic() - saved >= CHECKPOINT_SECONDS and not state.ended(schedule):
            state.save(checkpoint, settings)
            saved = time.monotonic()
    state.restore_best()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    state.seconds = time.monotonic() - started
    return state.result()


@torch.no_grad()
def evaluate(net: torch.nn.Module, data: TensorSet, loss: str) -> tuple[float, int]:
    """Return the mean loss over images and how many are classified rightly."""
    net.eval()
    total = torch.zeros((), dtype=torch.float64)
    correct = 0
    for first in range(0, len(data), EVALUATED_AT_A_TIME):
        x, y = data.x[first : first + EVALUATED_AT_A_TIME], data.y[first : first + EVALUATED_AT_A_TIME]
        with _mixed(x.device, loss):
            outputs = net(x).float()
        total += _loss(outputs, y, loss).cpu().double() * len(y)  # MPS has no float64
        correct += int((outputs.argmax(dim=1) == y).sum())
    net.train()
    return float(total) / max(1, len(data)), correct


@contextlib.contextmanager
def torch_threads(multiply_adds: float) -> Iterator[int]:
    """Set torch's threads by the multiply-adds of a batch, the same number on every run; the old ones come back.

    Small batches are as fast on one thread; on several they would also crawl on a machine that does other work, each
    of a hundred steps an image waiting for the slowest.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1 if multiply_adds <= ONE_THREAD else before)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def time_step(net: torch.nn.Module, data: TensorSet, schedule: Schedule, seconds: float = 0.4) -> float:
    """Return the seconds of one training step, measured on a network that is spoilt by it."""
    state = _State(net, schedule)
    batch = torch.arange(min(schedule.batch, len(data)), device=data.x.device)
    times: list[float] = []
    while len(times) < 4 or (sum(times) < seconds and len(times) < 50):
        started = time.perf_counter()
        _step(state, data, batch, schedule, 1e-6, None)
        if data.x.device.type == "cuda":
            torch.cuda.synchronize(data.x.device)
        times.append(time.perf_counter() - started)
    return float(np.mean(times[2:]))  # the first ones allocate and choose algorithms


class _State:
    """What a checkpoint holds: the network, the optimiser, the best epoch's weights, the history."""

    def __init__(self, net: torch.nn.Module, schedule: Schedule) -> None:
        self.net = net
        trained = [weight for weight in net.parameters() if weight.requires_grad]
        self.optimiser = torch.optim.SGD(
            trained,
            lr=schedule.learning_rate,
            momentum=schedule.momentum,
            weight_decay=schedule.weight_decay,
            nesterov=schedule.momentum > 0,
        )
        self.keeps_best = schedule.cosine or schedule.patience is not None
        self.epoch, self.best_epoch, self.seconds = 0, 0, 0.0
        self.diverged = False
        self.best: dict[str, torch.Tensor] = {}
        self.history: list[tuple[float, float, float]] = []

    def ended(self, schedule: Schedule) -> bool:
        stale = schedule.patience is not None and self.epoch - self.best_epoch >= schedule.patience
        return self.diverged or self.epoch >= schedule.epochs or stale

    def note(self, loss: float, split_loss: float, accuracy: float, diverged: bool, schedule: Schedule) -> None:
        """Take an epoch in."""
        self.epoch += 1
        self.diverged = diverged
        if diverged:
            return
        self.history.append((loss, split_loss, accuracy))
        best = self.history[self.best_epoch - 1] if self.best_epoch else None
        if best is None or not self.keeps_best or (split_loss, -accuracy) < (best[1], -best[2]):
            self.best_epoch = self.epoch
            if self.keeps_best:
                self.best = {name: tensor.detach().clone() for name, tensor in self.net.state_dict().items()}

    def restore_best(self) -> None:
        if self.best:
            self.net.load_state_dict(self.best)

    def result(self) -> Trained:
        kept = self.history[self.best_epoch - 1] if self.best_epoch else None
        return Trained(
            diverged=self.diverged,
            epochs=self.epoch,
            best_epoch=self.best_epoch,
            split_accuracy=None if kept is None or self.diverged else kept[2],
            split_loss=None if kept is None or self.diverged else kept[1],
            train_loss=self.history[-1][0] if self.history else None,
            seconds=self.seconds,
            history=tuple(self.history),
        )

    def save(self, path: Path, settings: str) -> None:
        document = {
            "settings": settings,
            "net": self.net.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "best": self.best,
            "numbers": [self.epoch, self.best_epoch, self.seconds],
            "history": [list(line) for line in self.history],
        }
        buffer = io.BytesIO()
        torch.save(document, buffer)
        write_file(path, lambda file: file.write(buffer.getbuffer()))

    def load(self, path: Path, settings: str) -> None:
        # A checkpoint that is damaged, or of other settings, costs its epochs and nothing else.
        if not path.exists():
            return
        before = {name: tensor.detach().clone() for name, tensor in self.net.state_dict().items()}
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
            if found["settings"] != settings:
                return
            best = {name: tensor.to(_device(self.net)) for name, tensor in found["best"].items()}
            epoch, best_epoch, seconds = found["numbers"]
            history = [(a, b, c) for a, b, c in found["history"]]
            self.net.load_state_dict(found["net"])
            self.optimiser.load_state_dict(found["optimiser"])
            self.best, self.history = best, history
            self.epoch, self.best_epoch, self.seconds = epoch, best_epoch, seconds
        except Exception as error:  # torch raises what its readers raise: a dozen kinds
            if isinstance(error, MemoryError):
                raise
            self.net.load_state_dict(before)
            path.unlink(missing_ok=True)


def _device(net: torch.nn.Module) -> torch.device:
    return next(net.parameters()).device


def _epoch(
    state: _State, data: TensorSet, schedule: Schedule, progress: Progress | None, cancelled: Cancelled | None
) -> float:
    """Train one epoch and return the mean loss."""
    seeds = np.random.SeedSequence([schedule.seed, state.epoch]).generate_state(2, np.uint64) >> np.uint64(1)
    generator = torch.Generator().manual_seed(int(seeds[0]))
    order = torch.randperm(len(data), generator=generator)
    steps = math.ceil(len(data) / schedule.batch)
    total = torch.zeros((), device=data.x.device)
    state.net.train()
    # Equal parts: a last batch of one image would have no variance for batch norm.
    for step, batch in enumerate(torch.tensor_split(order, steps)):
        if cancelled is not None and cancelled():
            raise KeyboardInterrupt
        rate = _rate(schedule, state.epoch * steps + step, schedule.epochs * steps)
        loss = _step(state, data, batch.to(data.x.device), schedule, rate, generator)
        total += loss * len(batch)
        if (step + 1) % CHECKED_EVERY == 0:
            if not math.isfinite(float(total)):
                break
            if progress is not None:
                progress((state.epoch + step / steps) / schedule.epochs)
    return float(total) / len(data)


def _step(
    state: _State,
    data: TensorSet,
    batch: torch.Tensor,
    schedule: Schedule,
    rate: float,
    generator: torch.Generator | None,
) -> torch.Tensor:
    x, y = data.x[batch], data.y[batch]
    if generator is not None:
        x = _augmented(x, schedule, generator)
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    state.optimiser.zero_grad(set_to_none=True)
    with _mixed(x.device, schedule.loss):
        outputs = state.net(x)
    loss = _loss(outputs.float(), y, schedule.loss)
    loss.backward()  # type: ignore[no-untyped-call]
    state.optimiser.step()
    return loss.detach()


def _rate(schedule: Schedule, step: int, steps: int) -> float:
    if not schedule.cosine:
        return schedule.learning_rate
    warm = max(1, steps // 20)
    if step < warm:
        return schedule.learning_rate * (step + 1) / warm
    return schedule.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _loss(outputs: torch.Tensor, y: torch.Tensor, loss: str) -> torch.Tensor:
    """Return the cross-entropy, or 1/2 sum (f - target)^2 with the regression's targets, as a mean over images."""
    if loss == "cross_entropy":
        return torch.nn.functional.cross_entropy(outputs, y)
    classes = outputs.shape[1]
    targets = torch.nn.functional.one_hot(y, classes).to(outputs.dtype) - 1 / classes
    return 0.5 * (outputs - targets).square().sum(dim=1).mean()


def _mixed(device: torch.device, loss: str) -> contextlib.AbstractContextManager[object]:
    # The quadratic loss follows a kernel computed in float32, and so does its training.
    if device.type == "cuda" and loss == "cross_entropy" and torch.cuda.is_bf16_supported():
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return contextlib.nullcontext()


def _augmented(x: torch.Tensor, schedule: Schedule, generator: torch.Generator) -> torch.Tensor:
    n, _, h, w = x.shape
    if schedule.flips:
        flipped = (torch.rand(n, generator=generator) < 0.5).to(x.device)
        x = torch.where(flipped[:, None, None, None], x.flip(3), x)
    if schedule.crops:
        reach = max(1, min(h, w) // 8)  # 4 pixels of 32
        padded = torch.nn.functional.pad(x, (reach, reach, reach, reach))
        top = torch.randint(0, 2 * reach + 1, (n, 1), generator=generator) + torch.arange(h)
        left = torch.randint(0, 2 * reach + 1, (n, 1), generator=generator) + torch.arange(w)
        rows, columns = top.to(x.device)[:, :, None], left.to(x.device)[:, None, :]
        images = torch.arange(n, device=x.device)[:, None, None]
        x = padded.permute(0, 2, 3, 1)[images, rows, columns].permute(0, 3, 1, 2)
    return x
