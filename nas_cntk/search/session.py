"""A session: one run of `search` or `resume` on a study, from the options to the last trial."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from nas_cntk.cluster.candidates import candidates_of
from nas_cntk.errors import StudyError, UsageError
from nas_cntk.records import studies, trials
from nas_cntk.records.database import Records
from nas_cntk.records.migrations import open_records
from nas_cntk.records.studies import Study
from nas_cntk.scores import parse_scores
from nas_cntk.search import loop, workers
from nas_cntk.search.bench import Bench, Forecast, forecast, measured_rate, set_up
from nas_cntk.search.evaluation import Limits, Observer
from nas_cntk.search.interrupt import Interrupt
from nas_cntk.search.samplers import choose_sampler
from nas_cntk.search.settings import (
    DEFAULT_TRIAL_SECONDS,
    DEFAULT_TRIALS,
    Manner,
    Options,
    Problem,
    absolute_data,
    absolute_space,
    check_identity,
)
from nas_cntk.search.spaces import Space, load_space
from nas_cntk.search.start import Start, start_from
from nas_cntk.search.storage import open_storage, optuna_errors


@dataclass(frozen=True, slots=True)
class Plan:
    """What is about to be done, for the screen."""

    study: Study
    new: bool
    finished: int
    changed: tuple[str, ...]
    bench: Bench
    space: Space
    forecast: Forecast
    max_trial_seconds: float
    earlier: tuple[tuple[int, float], ...] = ()  # number and first score of the trials of earlier runs that have one
    manner: Manner = Manner()


@dataclass(frozen=True, slots=True)
class Ended:
    """How a session ended."""

    study: str
    how: str  # complete | timeout | interrupted
    finished: int
    target: int


class Screen(Observer, workers.Screen, Protocol):
    """Who shows a session."""

    def begins(self, plan: Plan) -> None:
        """The first trial is about to begin."""


def search(db: str, name: str | None, problem: Problem, options: Options, screen: Screen) -> Ended:
    """Search a new study, or go on with the one called `name` if its identity is equal.

    Raises:
        NasCntkError: whatever is wrong, before anything is recorded.
    """
    clock = time.monotonic()
    problem = replace(problem, data=absolute_data(problem.data), space=absolute_space(problem.space))
    space = load_space(problem.space)
    if not problem.score:
        problem = replace(problem, score=tuple(kind.name for kind in parse_scores(space.score)))
    sampler = choose_sampler(options.sampler, options.sampler_settings, len(problem.score))
    _check_devices(options)
    records = open_records(db, write=True)
    with closing(records), candidates_of(options.cluster, options.backend or "auto") as cluster:
        known = studies.study_names(records)
        if name is not None and name not in known:
            studies.check_name(name)
        if name is not None and known.get(name):
            study = studies.find_study(records, name)
            bench = set_up(problem, options.backend or _text(study.config["backend"]), cluster, options.devices)
            check_identity(name, study.identity, bench.identity(space))
            _check_start(study, options)
            return _continue(records, study, bench, space, options, screen, clock)
        start = _start(records, space, options)
        bench = set_up(problem, options.backend or "auto", cluster, options.devices)
        return _begin(records, name, bench, space, sampler, options, start, screen, clock)


def resume(db: str, name: str | None, options: Options, screen: Screen, *, data: str | None = None) -> Ended:
    """Go on with a study, the newest one if `name` is None, as it was asked for; `data` says where they are now.

    Raises:
        StudyError: if there is no such study, or its data or its space changed.
    """
    clock = time.monotonic()
    _check_devices(options)
    open_records(db, write=False).close()  # a missing database is an error here, and not made
    with closing(open_records(db, write=True)) as records:
        study = studies.find_study(records, name)
        problem = _stored_problem(study.config)
        if data is not None:
            problem = replace(problem, data=absolute_data(data))
        if _finished(records, study) >= (options.trials or study.target):
            # Said before the data are read: they may be gone, and nothing needs them any more.
            target = options.trials or study.target
            return Ended(study.name, "complete", _finished(records, study), target)
        space = load_space(problem.space)
        with candidates_of(options.cluster, options.backend or "auto") as cluster:
            bench = set_up(problem, options.backend or _text(study.config["backend"]), cluster, options.devices)
            check_identity(study.name, study.identity, bench.identity(space))
            return _continue(records, study, bench, space, options, screen, clock)


def _check_devices(options: Options) -> None:
    if options.devices and options.cluster is not None:
        raise UsageError("--devices names GPUs of this machine, and --cluster has others score; leave one out")


def work(order: workers.Order, ends: Callable[[], str | None], observer: Observer) -> str:
    """Search a study that another process has set up, as one of its workers; return how it ended.

    Raises:
        NasCntkError: if the study, its data or its space are not as they were.
    """
    records = open_records(order.db, write=True)
    with closing(records), candidates_of(order.cluster, order.backend) as cluster:
        study = studies.find_study(records, order.study)
        problem = replace(_stored_problem(study.config), data=order.data)
        space = load_space(problem.space)
        bench = set_up(problem, "auto" if cluster is not None else order.backend, cluster, order.devices)
        check_identity(study.name, study.identity, bench.identity(space))
        storage = open_storage(records)
        limits = Limits(study.target, order.max_trial_seconds, ends)
        try:
            return loop.run(
                records, storage, study, bench.evaluation(space, study.rate, order.manner), limits, observer
            )
        finally:
            storage.engine.dispose()


def _begin(
    records: Records,
    name: str | None,
    bench: Bench,
    space: Space,
    sampler: Mapping[str, Any],
    options: Options,
    start: Start | None,
    screen: Screen,
    clock: float,
) -> Ended:
    limit = options.max_trial_seconds or DEFAULT_TRIAL_SECONDS
    kept = Manner.of({}, options)
    manner = _spread(kept, bench, options)
    rate = measured_rate(bench)
    target = options.trials or DEFAULT_TRIALS
    expected = forecast(bench.evaluation(space, rate, manner), bench.problem.seed, limit, target)
    storage = open_storage(records)
    made = _make(records, storage, name, f"{bench.dataset.name}-{space.name}", bench)
    new = studies.insert_study(
        records,
        made._study_id,
        target=target,
        identity=bench.identity(space),
        config={
            **asdict(bench.problem),
            "backend": options.backend or "auto",
            "max_trial_seconds": limit,
            **asdict(kept),
            "image_shape": list(bench.dataset.image_shape),
            "num_classes": bench.dataset.num_classes,
            "asked": options.asked,
            "start": None if start is None else start.to_dict(),
        },
        sampler=sampler,
        versions=_versions(),
        space_source=Path(space.path).read_text(encoding="utf-8", errors="replace"),
        rate=rate,
        rate_backend=None if rate is None else bench.backend,
    )
    study = studies.find_study(records, made.study_name)
    # Another process may have made the study of this name in the meantime: then this one joins it.
    check_identity(study.name, study.identity, bench.identity(space))
    return _run(
        records,
        storage,
        Plan(study, new, 0, (), bench, space, expected, limit, manner=manner),
        options,
        screen,
        clock,
    )


def _spread(manner: Manner, bench: Bench, options: Options) -> Manner:
    """Return the manner of this run: a cluster's threads are shared by its processes, if nobody says otherwise."""
    if bench.cluster is None or options.batch is not None or manner.batch > 1:
        return manner
    return replace(manner, batch=-(-bench.cluster.threads() // options.workers))


def _start(records: Records, space: Space, options: Options) -> Start | None:
    if options.start_from is None:
        if options.start_trials:
            raise UsageError("--start-trials are trials of a study; name it with --start-from")
        return None
    return start_from(records, options.start_from, options.start_trials, space)


def _check_start(study: Study, options: Options) -> None:
    kept = study.config.get("start")
    if options.start_from is not None and (not isinstance(kept, dict) or kept["study"] != options.start_from):
        raise StudyError(
            f"study {study.name!r} is begun, and did not start from {options.start_from!r}; leave --start-from out, or"
            " start a new study with another --study"
        )


def _make(records: Records, storage: Any, name: str | None, stem: str, bench: Bench) -> Any:
    """Return Optuna's new study, called `name`, or stem-N with the first free N."""
    import optuna

    directions: list[Any] = [kind.direction for kind in bench.scores]
    with optuna_errors(records):
        while name is None:
            free = studies.free_name(records, stem)
            try:
                return optuna.create_study(study_name=free, storage=storage, directions=directions)
            except optuna.exceptions.DuplicatedStudyError:
                continue  # another process was faster
        made = optuna.create_study(study_name=name, storage=storage, directions=directions, load_if_exists=True)
        if studies.study_names(records)[name]:
            return made
        if made.get_trials(deepcopy=False):
            raise StudyError(f"study {name!r} was made by another program; choose another --study")
        if [d.name.lower() for d in made.directions] != directions:
            # What a process killed while it made this study has left, for other scores.
            optuna.delete_study(study_name=name, storage=storage)
            made = optuna.create_study(study_name=name, storage=storage, directions=directions)
        return made


def _continue(
    records: Records, study: Study, bench: Bench, space: Space, options: Options, screen: Screen, clock: float
) -> Ended:
    kept = {setting: value for setting, value in study.sampler.items() if setting != "name"}
    same = options.sampler is None or options.sampler == study.sampler["name"]
    sampler = choose_sampler(
        options.sampler or _text(study.sampler["name"]),
        {**(kept if same else {}), **(options.sampler_settings or {})},
        len(bench.scores),
    )
    stored_limit = study.config["max_trial_seconds"]
    assert isinstance(stored_limit, (int, float))
    limit = options.max_trial_seconds or float(stored_limit)
    chosen = Manner.of(study.config, options)
    manner = _spread(chosen, bench, options)
    changed = studies.change_study(
        records,
        study,
        target=options.trials or study.target,
        sampler=sampler,
        config={
            "backend": options.backend or study.config["backend"],
            "max_trial_seconds": limit,
            **asdict(chosen),
            "data": bench.problem.data,
            "space": bench.problem.space,
        },
    )
    study = studies.find_study(records, study.name)
    finished = _finished(records, study)
    if finished >= study.target:
        return Ended(study.name, "complete", finished, study.target)
    expected = forecast(bench.evaluation(space, study.rate, manner), bench.problem.seed, limit, study.target)
    earlier = _earlier(records, study, bench)
    plan = Plan(study, False, finished, tuple(changed), bench, space, expected, limit, earlier, manner)
    return _run(records, open_storage(records), plan, options, screen, clock)


def _run(records: Records, storage: Any, plan: Plan, options: Options, screen: Screen, clock: float) -> Ended:
    screen.begins(plan)
    deadline = None if options.timeout is None else clock + options.timeout
    with Interrupt() as interrupt:

        def ends() -> str | None:
            if interrupt.requested:
                return "interrupted"
            return "timeout" if deadline is not None and time.monotonic() > deadline else None

        limits = Limits(plan.study.target, plan.max_trial_seconds, ends)
        try:
            if options.workers > 1:
                left = None if deadline is None else deadline - time.monotonic()
                problem = plan.bench.problem
                cluster = plan.bench.cluster
                order = workers.Order(
                    records.location.argument,
                    plan.study.name,
                    problem.data,
                    plan.bench.backend if cluster is None else cluster.backend,
                    plan.max_trial_seconds,
                    plan.manner,
                    left,
                    None if cluster is None else cluster.address,
                    plan.bench.devices,
                )
                how = workers.run(records, plan.study, order, options.workers, ends, screen)
            else:
                evaluation = plan.bench.evaluation(plan.space, plan.study.rate, plan.manner)
                how = loop.run(records, storage, plan.study, evaluation, limits, screen)
        finally:
            storage.engine.dispose()
    return Ended(plan.study.name, how, _finished(records, plan.study), plan.study.target)


def _earlier(records: Records, study: Study, bench: Bench) -> tuple[tuple[int, float], ...]:
    name = bench.scores[0].name
    finished = trials.finished_trials(records, study.study_id)
    return tuple((trial.number, trial.score.values[name]) for trial in finished if trial.score is not None)


def _finished(records: Records, study: Study) -> int:
    with records.transaction() as connection:
        return studies.count_finished(connection, study.study_id)


def _stored_problem(config: Mapping[str, object]) -> Problem:
    fields: dict[str, Any] = {name: config[name] for name in Problem.__slots__ if name in config}
    fields["score"] = tuple(fields["score"])
    return Problem(**fields)


def _text(value: object) -> str:
    assert isinstance(value, str)
    return value


def _versions() -> dict[str, str]:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for package in ("nas-cntk", "numpy", "scipy", "optuna", "sqlalchemy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found
