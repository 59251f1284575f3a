"""The bench: data, split and scores of a problem, loaded and checked before anything is recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nas_cntk.architecture import Architecture
from nas_cntk.errors import IllegalArchitecture, SpaceError
from nas_cntk.search.loop import Cancelled, Evaluation, Progress
from nas_cntk.search.samplers import derived_seed
from nas_cntk.search.settings import Problem, identity

if TYPE_CHECKING:
    from nas_cntk.data import Dataset, Split
    from nas_cntk.scoring import ArchitectureScores, ScoreKind
    from nas_cntk.search.spaces import Space

PREVIEWS = 8  # proposals drawn to predict what the search costs


@dataclass(frozen=True, slots=True)
class Bench:
    """What the trials of a study are measured with."""

    problem: Problem
    dataset: Dataset  # standardised
    split: Split
    scores: tuple[ScoreKind, ...]
    backend: str  # resolved: what "auto" stands for here

    @property
    def subset(self) -> int:
        """The images that the kernel is fitted on; fewer than asked for where the data are few."""
        return len(self.split.x)

    @property
    def holdout(self) -> int:
        """The images that it is tested on."""
        return len(self.split.x_holdout)

    @property
    def needs_kernel(self) -> bool:
        """Whether any score needs a kernel."""
        return any(kind.needs_kernel is not None for kind in self.scores)

    @property
    def networks(self) -> tuple[str, ...]:
        """The scores of a finite network that are needed."""
        from nas_cntk.scoring import network_names

        return network_names([kind.name for kind in self.scores])

    def identity(self, space: Space) -> dict[str, object]:
        """Return the identity of a study of `space` on this bench."""
        return identity(
            self.problem,
            data_fingerprint=self.dataset.fingerprint,
            space_name=space.name,
            space_hash=space.source_hash,
        )

    def sizes(self, architecture: Architecture) -> tuple[int, int]:
        """Return parameters and FLOPs at the nominal width."""
        shape, classes = self.dataset.image_shape, self.dataset.num_classes
        return architecture.count_parameters(shape, classes), architecture.count_flops(shape, classes)

    def entry_layers(self, architecture: Architecture) -> float:
        """Return the work of one score: the subset with itself, half by symmetry, and with the held-out images."""
        from nas_cntk.kernels import cost

        if not self.needs_kernel:
            return 0.0
        pairs = self.subset * (self.subset + 1) // 2 + self.subset * self.holdout
        return float(cost.entry_layers(architecture, self.dataset.image_shape, pairs))

    def seconds(self, architecture: Architecture, sizes: tuple[int, int], rate: float | None) -> float:
        """Return the predicted seconds of one score; `rate` in entry-layers/s, None where no kernel is needed."""
        from nas_cntk.scores.cost import network_seconds

        kernel = 0.0 if rate is None else self.entry_layers(architecture) / rate
        return kernel + network_seconds(self.networks, sizes[1], self.subset, self.holdout)

    def score(
        self,
        architecture: Architecture,
        progress: Progress,
        cancelled: Cancelled,
        sizes: tuple[int, int] | None = None,
        network: Callable[[], Any] | None = None,
        at_rung: Callable[[ArchitectureScores], bool] | None = None,
    ) -> ArchitectureScores:
        """Return every score of an architecture on this bench's split; a space may bring sizes and network.

        With `at_rung` the subset grows rung by rung, and after a true answer the scores of that rung are returned.
        """
        from nas_cntk.scoring import score_architecture

        return score_architecture(
            architecture,
            self.split.x,
            self.split.y,
            self.split.x_holdout,
            self.split.y_holdout,
            score=self.problem.score,
            ridge=self.problem.ridge,  # type: ignore[arg-type]
            backend=self.backend,
            dtype=self.problem.dtype,
            num_classes=self.dataset.num_classes,
            network=network,
            sizes=sizes,
            seed=derived_seed(self.problem.seed, 0, 3),
            rungs=self.split.rungs if at_rung is not None else (),
            at_rung=at_rung,
            progress=progress,
            cancelled=cancelled,
        )

    def evaluation(self, space: Space, rate: float | None, prune_level: float = 0.0) -> Evaluation:
        """Return what the loop needs; `rate` in entry-layers/s, None where no kernel is needed.

        Candidates are dropped at rungs by a test at `prune_level`, where the scores allow it; never if that is 0.
        """
        from nas_cntk.search import rungs

        shape, classes = self.dataset.image_shape, self.dataset.num_classes
        # What a space counts and builds hangs on a proposal's parameters. Equal keys are equal functions.
        parameters: dict[str, dict[str, Any]] = {}

        def propose(trial: Any) -> Architecture:
            try:
                architecture = space.propose(trial, shape)
            except SystemExit as error:
                # A space that ends the program would end it with the study's lease held and without a word.
                raise SpaceError(f"propose of space {space.name} exits ({error.code}); mend {space.path}") from None
            if space.optional:
                parameters.setdefault(architecture.key, dict(trial.params))
            return architecture

        def sizes(architecture: Architecture) -> tuple[int, int]:
            known = parameters.get(architecture.key) if space.optional else None
            counted = None if known is None else space.sizes(known, shape, classes)
            return counted or self.sizes(architecture)

        def score(
            architecture: Architecture,
            progress: Progress,
            cancelled: Cancelled,
            at_rung: Callable[[ArchitectureScores], bool] | None = None,
        ) -> ArchitectureScores:
            known = parameters.get(architecture.key) if space.optional else None
            network = None if known is None else space.network(known, shape, classes)
            return self.score(architecture, progress, cancelled, sizes(architecture), network, at_rung)

        return Evaluation(
            propose=propose,
            score=score,
            predict=lambda architecture: self.seconds(architecture, sizes(architecture), rate),
            sizes=sizes,
            names=self.problem.score,
            subset=self.subset,
            holdout=self.holdout,
            rungs=self.split.rungs[:-1] if prune_level > 0 and rungs.applies(self.problem.score) else (),
            prune_level=prune_level,
        )


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a search will cost, judged by a few proposals of its space."""

    least: float  # seconds a trial
    most: float
    mean: float
    proposals: int
    dear: int  # of them, beyond the limit: skipped
    illegal: int

    def total(self, trials: int) -> float:
        """Return the seconds that `trials` trials take."""
        skipped = (self.dear + self.illegal) / self.proposals
        return self.mean * trials * (1.0 - skipped)


def set_up(problem: Problem, backend: str) -> Bench:
    """Load and check everything that a problem names.

    Raises:
        NasCntkError: whatever is wrong with data, split, scores or backend.
    """
    from nas_cntk import data
    from nas_cntk.kernels.exact import resolve_backend
    from nas_cntk.scoring import parse_scores

    scores = parse_scores(problem.score)
    if any(kind.needs_network for kind in scores):
        import nas_cntk.scores.batch  # noqa: F401  torch is missed before anything is loaded
    resolved = resolve_backend(backend)
    dataset = data.load(
        problem.data, image_size=problem.image_size, download=problem.download, skip_bad=problem.skip_bad
    )
    dataset = data.standardise(dataset)
    split = data.split(dataset, problem.subset, problem.holdout, problem.seed)
    return Bench(problem, dataset, split, scores, resolved)


def measured_rate(bench: Bench) -> float | None:
    """Return this machine's rate in entry-layers/s, by a short calibration; None where no kernel is needed."""
    from nas_cntk.kernels import cost

    return float(cost.measure_rate(bench.backend)) if bench.needs_kernel else None


def forecast(evaluation: Evaluation, seed: int, max_trial_seconds: float) -> Forecast:
    """Return what trials will cost, from random proposals that no study records.

    Raises:
        SpaceError: if the space cannot propose.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.RandomSampler(seed=derived_seed(seed, 0, 2))
    study: Any = optuna.create_study(sampler=sampler)
    seconds, illegal = [], 0
    for _ in range(PREVIEWS):
        try:
            seconds.append(evaluation.predict(evaluation.propose(study.ask())))
        except IllegalArchitecture:
            illegal += 1
    kept = [s for s in seconds if s <= max_trial_seconds]
    mean = sum(kept) / len(kept) if kept else 0.0
    return Forecast(
        min(seconds, default=0.0),
        max(seconds, default=0.0),
        mean,
        PREVIEWS,
        len(seconds) - len(kept),
        illegal,
    )
