"""The bench: data, split and scores of a problem, loaded and checked before anything is recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nas_cntk.architecture import Architecture
from nas_cntk.errors import IllegalArchitecture, SpaceError, UsageError
from nas_cntk.search.evaluation import Cancelled, Evaluation, Progress
from nas_cntk.search.family import Leader, most_siblings, siblings
from nas_cntk.search.samplers import derived_seed
from nas_cntk.search.settings import Manner, Problem, identity

if TYPE_CHECKING:
    from nas_cntk.cluster import Candidates
    from nas_cntk.data import Dataset, Split
    from nas_cntk.scores import Kind
    from nas_cntk.scoring import ArchitectureScores, ScoreKind
    from nas_cntk.search.spaces import Space

PREVIEWS = 8  # proposals drawn to predict what the search costs
SOLVE_SECONDS = (2e-3, 3e-8, 5e-11)  # of a regression, by 1, n^2 and n^3: 10 ms at 400 images, 0.5 s at 2,000
MEMORY = 2 << 30  # bytes that the kernels of a family may take
MOST_UNBOUND = 1000  # members of a family that needs no kernel


@dataclass(frozen=True, slots=True)
class Bench:
    """What the trials of a study are measured with."""

    problem: Problem
    dataset: Dataset  # standardised
    split: Split
    scores: tuple[ScoreKind, ...]
    backend: str  # resolved: what "auto" stands for here
    cluster: Candidates | None = None  # whose workers score, each candidate by itself
    devices: tuple[int, ...] = ()  # numbers of the GPUs that the backend uses; none: its own choice

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
        return bool(self.kernels)

    @property
    def kernels(self) -> tuple[Kind, ...]:
        """The kernels that are needed, the first score's first."""
        return tuple(dict.fromkeys(kernel for kind in self.scores for kernel in kind.kernels))

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

    def pairs(self) -> int:
        """Return the pairs of images of one score: the subset, half by symmetry, and it with the held-out images."""
        return self.subset * (self.subset + 1) // 2 + self.subset * self.holdout

    def seconds(self, family: Sequence[Architecture], sizes: Sequence[tuple[int, int]], rate: float | None) -> float:
        """Return the predicted seconds of a family; `rate` in entry-layers/s, None where no kernel is needed.

        `sizes`, parameters and FLOPs of each, matter only where finite networks are scored.
        """
        from nas_cntk.kernels import cost
        from nas_cntk.scores.cost import network_seconds

        seconds = sum(network_seconds(self.networks, flops, self.subset, self.holdout) for _, flops in sizes)
        if rate is not None and self.needs_kernel:
            seconds += float(cost.entry_layers(family, self.dataset.image_shape, self.pairs())) / rate
            start, square, cube = SOLVE_SECONDS
            solve = start + square * self.subset**2 + cube * self.subset**3
            seconds += len(family) * len(self.kernels) * solve
        return seconds

    def most_members(self) -> int:
        """Return of how many architectures memory holds the kernels at once."""
        bytes_each = (
            (8 if self.problem.dtype == "float64" else 4)
            * len(self.kernels)
            * self.subset
            * (self.subset + self.holdout)
        )
        return max(1, MEMORY // bytes_each) if bytes_each else MOST_UNBOUND

    def score(
        self,
        family: Sequence[Architecture],
        progress: Progress,
        cancelled: Cancelled,
        sizes: Sequence[tuple[int, int]] | None = None,
        networks: Sequence[Callable[[], Any] | None] | None = None,
        rungs: Sequence[int] = (),
        at_rung: Callable[[Mapping[int, ArchitectureScores]], Sequence[int]] | None = None,
    ) -> list[ArchitectureScores]:
        """Return every score of a family of architectures on this bench's split; a space may bring sizes and networks.

        With `at_rung` the subset grows over `rungs`, and those at the places that it returns have the scores of that
        rung.
        """
        from nas_cntk.scoring import score_family

        images = self.split.x, self.split.y, self.split.x_holdout, self.split.y_holdout
        settings: dict[str, Any] = {
            "score": self.problem.score,
            "ridge": self.problem.ridge,
            "dtype": self.problem.dtype,
            "num_classes": self.dataset.num_classes,
            "seed": derived_seed(self.problem.seed, 0, 3),
        }
        if self.cluster is not None:
            return self.cluster.score(family, images, settings, sizes, progress, cancelled)
        return score_family(
            family,
            *images,
            **settings,
            backend=self.backend,
            devices=self.devices or None,
            networks=networks,
            sizes=sizes,
            rungs=rungs if at_rung is not None else (),
            at_rung=at_rung,
            progress=progress,
            cancelled=cancelled,
        )

    def rungs(self, manner: Manner) -> tuple[int, ...]:
        """Return the parts of the subset at which candidates may be dropped; none where the scores do not allow it."""
        from nas_cntk.search import rungs

        if manner.prune_level <= 0 or not rungs.applies(self.problem.score):
            return ()
        return rungs.sizes(self.problem.score[0], self.split.rungs)

    def evaluation(self, space: Space, rate: float | None, manner: Manner) -> Evaluation:
        """Return what the loop needs; `rate` in entry-layers/s, None where no kernel is needed.

        Candidates are dropped at rungs where the manner says so and the scores allow it. A cluster takes no siblings.

        Raises:
            UsageError: on what needs this process, and is asked of a cluster.
        """
        if self.cluster is not None:
            if manner.prune_level > 0:
                raise UsageError("--prune-level compares candidates as they are scored; leave it or --cluster out")
            if self.networks and "finite" in space.optional:
                raise UsageError(
                    f"{', '.join(self.networks)} are scores of networks that space {space.name} builds itself, here;"
                    " leave --cluster out, and use --workers"
                )
            manner = replace(manner, siblings=False)
        shape, classes, rungs = self.dataset.image_shape, self.dataset.num_classes, self.rungs(manner)
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

        def network(architecture: Architecture) -> Callable[[], Any] | None:
            known = parameters.get(architecture.key) if space.optional else None
            return None if known is None else space.network(known, shape, classes)

        def score(
            family: Sequence[Architecture],
            progress: Progress,
            cancelled: Cancelled,
            at_rung: Callable[[Mapping[int, ArchitectureScores]], Sequence[int]] | None = None,
        ) -> list[ArchitectureScores]:
            return self.score(
                family, progress, cancelled, list(map(sizes, family)), list(map(network, family)), rungs, at_rung
            )

        return Evaluation(
            propose=propose,
            score=score,
            # Sizes are counted only where a network's cost hangs on them: a family asks for dozens of predictions.
            predict=lambda family: self.seconds(family, list(map(sizes, family)) if self.networks else (), rate),
            sizes=sizes,
            names=self.problem.score,
            subset=self.subset,
            holdout=self.holdout,
            rungs=rungs,
            prune_level=manner.prune_level,
            siblings=space.siblings if manner.siblings and "siblings" in space.optional else None,
            most_members=self.most_members(),
            batch=manner.batch,
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


def set_up(problem: Problem, backend: str, cluster: Candidates | None = None, devices: Sequence[int] = ()) -> Bench:
    """Load and check everything that a problem names; `devices` are numbers of GPUs, of this machine's.

    Raises:
        NasCntkError: whatever is wrong with data, split, scores or backend.
    """
    from nas_cntk import data
    from nas_cntk.kernels.exact import resolve_backend
    from nas_cntk.scoring import parse_scores

    scores = parse_scores(problem.score)
    if any(kind.needs_network for kind in scores):
        import nas_cntk.scores.batch  # noqa: F401  torch is missed before anything is loaded
    resolved = resolve_backend(backend, devices)
    dataset = data.load(
        problem.data, image_size=problem.image_size, download=problem.download, skip_bad=problem.skip_bad
    )
    dataset = data.standardise(dataset)
    split = data.split(dataset, problem.subset, problem.holdout, problem.seed)
    return Bench(problem, dataset, split, scores, resolved, cluster, tuple(devices))


def measured_rate(bench: Bench) -> float | None:
    """Return this machine's rate in entry-layers/s, by a short calibration; None where no kernel is needed."""
    from nas_cntk.kernels import cost

    return float(cost.measure_rate(bench.backend, devices=bench.devices)) if bench.needs_kernel else None


def forecast(evaluation: Evaluation, seed: int, max_trial_seconds: float, target: int) -> Forecast:
    """Return what trials will cost, from random proposals that no study records.

    With siblings, what a family costs is shared out among those of it that become trials of a study of `target`.

    Raises:
        SpaceError: if the space cannot propose.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.RandomSampler(seed=derived_seed(seed, 0, 2))
    study: Any = optuna.create_study(sampler=sampler)
    seconds, illegal = [], 0
    spent, trials = 0.0, 0
    for number in range(PREVIEWS):
        trial = study.ask()
        try:
            architecture = evaluation.propose(trial)
        except IllegalArchitecture:
            illegal += 1
            continue
        leader = Leader(number, trial.params, architecture)
        seconds.append(evaluation.predict([leader.architecture]))
        if seconds[-1] > max_trial_seconds:
            continue
        most = most_siblings(target, 1)
        kin = siblings(evaluation, [leader], set(), max_trial_seconds) if most else []
        spent += evaluation.predict([leader.architecture, *(one.architecture for one in kin)])
        trials += 1 + min(len(kin), most)
    return Forecast(
        min(seconds, default=0.0),
        max(seconds, default=0.0),
        spent / trials if trials else 0.0,
        PREVIEWS,
        sum(one > max_trial_seconds for one in seconds),
        illegal,
    )
