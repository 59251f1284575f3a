"""`search`, `resume`, `watch`, `score`: a study made, and one architecture scored as a search would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nas_cntk.commands import completion
from nas_cntk.commands.board import print_board, rows_of, selection
from nas_cntk.commands.options import (
    MOST_TRIALS,
    Backend,
    Batch,
    Config,
    Data,
    Db,
    Devices,
    Download,
    Dtype,
    Holdout,
    ImageSize,
    Json,
    JsonLines,
    MaxTrialSeconds,
    OwnScoreNames,
    PruneLevel,
    Quiet,
    Ridge,
    Sampler,
    SamplerSetting,
    ScoreNames,
    SearchCluster,
    Seed,
    ShowConfig,
    Siblings,
    SkipBad,
    SpaceName,
    StartFrom,
    StartTrials,
    StudyName,
    Subset,
    Timeout,
    Trials,
    Workers,
)
from nas_cntk.commands.output import console_of, print_json, print_next
from nas_cntk.config.effective import as_asked, print_options
from nas_cntk.report.text import DEFAULT_DB

if TYPE_CHECKING:
    from rich.console import Console

    from nas_cntk.report.board import Board
    from nas_cntk.report.json_lines import SearchLines
    from nas_cntk.report.live import LiveView
    from nas_cntk.search.session import Ended


def search(
    ctx: typer.Context,
    data: Data = "digits",
    image_size: ImageSize = None,
    space: SpaceName = "plain",
    trials: Trials = None,
    subset: Subset = 2000,
    holdout: Holdout = 2000,
    score: OwnScoreNames = None,
    seed: Seed = 0,
    sampler: Sampler = None,
    sampler_setting: SamplerSetting = None,
    prune_level: PruneLevel = None,
    siblings: Siblings = None,
    batch: Batch = None,
    start_from: StartFrom = None,
    start_trials: StartTrials = None,
    workers: Workers = 1,
    cluster: SearchCluster = None,
    study: Annotated[
        str | None,
        typer.Option(autocompletion=completion.studies, help="Name; an existing study of equal identity goes on."),
    ] = None,
    db: Db = DEFAULT_DB,
    backend: Backend = None,
    devices: Devices = None,
    timeout: Timeout = None,
    max_trial_seconds: MaxTrialSeconds = None,
    ridge: Ridge = "0",
    dtype: Dtype = "float32",
    download: Download = False,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    json_lines: JsonLines = False,
    config: Config = None,
    show_config: ShowConfig = False,
) -> None:
    """Search for architectures.

    Without options it searches the plain space on the digits that scikit-learn brings.
    The study is kept in the database: Ctrl-C, or a kill, loses nothing but the trial in progress.
    """
    if show_config:
        return print_options(ctx)
    from nas_cntk.machine import gpu_numbers
    from nas_cntk.report.views import search_view
    from nas_cntk.scoring import parse_scores
    from nas_cntk.search import session
    from nas_cntk.search.samplers import parse_settings
    from nas_cntk.search.settings import Options, Problem, parse_ridge
    from nas_cntk.search.start import parse_trials

    names = () if score is None else tuple(kind.name for kind in parse_scores(score))
    problem = Problem(
        data=data,
        image_size=image_size,
        space=space,
        subset=subset,
        holdout=holdout,
        seed=seed,
        score=names,
        ridge=parse_ridge(ridge),
        dtype=dtype,
        download=download,
        skip_bad=skip_bad,
    )
    options = Options(
        trials=trials,
        timeout=timeout,
        max_trial_seconds=max_trial_seconds,
        backend=backend,
        sampler=sampler,
        sampler_settings=parse_settings(sampler_setting or []),
        workers=workers,
        cluster=cluster,
        prune_level=prune_level,
        siblings=siblings,
        batch=batch,
        devices=gpu_numbers(devices),
        start_from=start_from,
        start_trials=parse_trials(start_trials),
        asked=as_asked(ctx),
    )
    with search_view(console_of(), db, quiet=quiet, json_lines=json_lines) as view:
        ended = session.search(db, study, problem, options, view)
    _end(view, ended, db, quiet, json_lines)


def resume(
    ctx: typer.Context,
    study: StudyName = None,
    trials: Annotated[
        int | None, typer.Option(min=1, max=MOST_TRIALS, help="Another total of trials to reach.")
    ] = None,
    timeout: Timeout = None,
    max_trial_seconds: MaxTrialSeconds = None,
    backend: Backend = None,
    devices: Devices = None,
    sampler: Sampler = None,
    sampler_setting: SamplerSetting = None,
    prune_level: PruneLevel = None,
    siblings: Siblings = None,
    batch: Batch = None,
    workers: Workers = 1,
    cluster: SearchCluster = None,
    data: Annotated[str | None, typer.Option(help="Where the study's data are now, if they moved.")] = None,
    db: Db = DEFAULT_DB,
    quiet: Quiet = False,
    json_lines: JsonLines = False,
    config: Config = None,
    show_config: ShowConfig = False,
) -> None:
    """Go on with a study.

    It goes on to the total that is stored with it, or to the one given. Limits, backend and sampler may change; the
    change is recorded.
    """
    if show_config:
        return print_options(ctx)
    from nas_cntk.machine import gpu_numbers
    from nas_cntk.report.views import search_view
    from nas_cntk.search import session
    from nas_cntk.search.samplers import parse_settings
    from nas_cntk.search.settings import Options

    options = Options(
        trials=trials,
        timeout=timeout,
        max_trial_seconds=max_trial_seconds,
        backend=backend,
        sampler=sampler,
        sampler_settings=parse_settings(sampler_setting or []),
        workers=workers,
        cluster=cluster,
        prune_level=prune_level,
        siblings=siblings,
        batch=batch,
        devices=gpu_numbers(devices),
    )
    with search_view(console_of(), db, quiet=quiet, json_lines=json_lines) as view:
        ended = session.resume(db, study, options, view, data=data)
    _end(view, ended, db, quiet, json_lines)


def watch(
    study: StudyName = None,
    once: Annotated[bool, typer.Option("--once", help="Print the present state and end.")] = False,
    json_lines: JsonLines = False,
    db: Db = DEFAULT_DB,
) -> None:
    """Watch a study that another process searches.

    It only reads, shows the trials under way and those that finish, and ends when the study is complete, or on Ctrl-C.
    Not on a terminal it prints a line for each trial that finishes.
    """
    from nas_cntk.report import text
    from nas_cntk.report import watch as watching

    console = console_of()
    view = watching.WatchLines(db) if json_lines else watching.WatchView(console, db)
    with watching.opened(db) as records, view:
        last = watching.watch(records, study, view, once=once)
    how = "complete" if last.complete else "once"
    if isinstance(view, watching.WatchLines):
        view.ends(how=how, study=last.study.name, finished=len(last.finished), target=last.study.target)
        return
    if last.complete:
        console.print(f"study {last.study.name} is complete: {len(last.finished)} trials", markup=False, soft_wrap=True)
        if study is None and not view.changed:
            console.print("a search that has just begun is here once it has read its images", markup=False)
    verb = "leaderboard" if last.complete else "watch" if last.working else "resume"
    print_next(console, text.command(verb, db=db, study=last.study.name))


def score(
    architecture: Annotated[str, typer.Argument(metavar="ARCH.json", help="Architecture, as JSON.")],
    data: Data = "digits",
    image_size: ImageSize = None,
    subset: Subset = 2000,
    holdout: Holdout = 2000,
    seed: Seed = 0,
    score: ScoreNames = "holdout_accuracy",
    ridge: Ridge = "0",
    backend: Backend = None,
    devices: Devices = None,
    dtype: Dtype = "float32",
    download: Download = False,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Score one architecture.

    It is scored as a search would; nothing is recorded.
    """
    from nas_cntk.machine import gpu_numbers
    from nas_cntk.report import text
    from nas_cntk.scoring import parse_scores, standard_error
    from nas_cntk.search.settings import Problem, parse_ridge
    from nas_cntk.search.single import read_architecture, score_file

    names = tuple(kind.name for kind in parse_scores(score))
    problem = Problem(
        data=data,
        image_size=image_size,
        space="",
        subset=subset,
        holdout=holdout,
        seed=seed,
        score=names,
        ridge=parse_ridge(ridge),
        dtype=dtype,
        download=download,
        skip_bad=skip_bad,
    )
    arch = read_architecture(architecture)
    console = console_of(stderr=as_json)
    result = score_file(
        arch,
        problem,
        backend or "auto",
        lambda line: console.print(line, markup=False, soft_wrap=True),
        gpu_numbers(devices),
    )
    scores = result.scores
    if as_json:
        print_json({**scores.to_dict(), "params": result.params, "flops": result.flops})
        return
    for name, value in scores.values.items():
        error = standard_error(name, value, scores.subset, scores.holdout)
        console.print(f"{name:<28} {text.score(name, value, error)}", markup=False)
    how = f"{scores.subset} images, held out {scores.holdout}"
    if scores.backend != "none":
        how += f"; backend {scores.backend}, ridge {scores.ridge:g}, jitter {scores.jitter:g}"
    console.print(f"measured on {how}; {text.duration(scores.seconds)}", markup=False, soft_wrap=True)
    print_next(console, text.command("search", "--data", data))


def _end(view: LiveView | SearchLines, ended: Ended, db: str, quiet: bool, json_lines: bool) -> None:
    from nas_cntk.report.board import load_board
    from nas_cntk.report.views import search_ends

    board = load_board(db, ended.study)
    console = console_of()
    line = search_ends(view, ended, board, quiet=quiet)
    if line is not None:
        console.print(line, markup=False, soft_wrap=True)
    elif not json_lines:
        _print_end(console, ended, board, db)
    if ended.how == "interrupted":
        raise KeyboardInterrupt


def _print_end(console: Console, ended: Ended, board: Board, db: str) -> None:
    several = len(board.directions) > 1
    rows = rows_of(board, top=10, distinct=True, pareto=several)
    print_board(console, board, rows, db, selection(top=10, distinct=True, pareto=several))
    words = {
        "complete": "complete; `nas-cntk resume --trials N` raises the total",
        "timeout": "the time is up",
        "interrupted": "interrupted; every finished trial is kept",
    }
    console.print(words[ended.how], markup=False)
