"""The command line: parse, call, print. Imports what a command needs inside it, so that --help is instant."""

from __future__ import annotations

import io
import json
import signal
import sys
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas_cntk import completion
from nas_cntk.benchmark.command import app as benchmark_app
from nas_cntk.config.command import studies_config
from nas_cntk.config.effective import as_asked, print_options
from nas_cntk.errors import NasCntkError, StudyError, UsageError
from nas_cntk.options import (
    LONGEST,
    MOST_TRIALS,
    Backend,
    Batch,
    Config,
    Data,
    Db,
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
    Seed,
    ShowConfig,
    Siblings,
    SkipBad,
    SpaceName,
    StudyName,
    Subset,
    Timeout,
    Trials,
    Workers,
)
from nas_cntk.paper.command import app as paper_app
from nas_cntk.report.text import DEFAULT_DB

if TYPE_CHECKING:
    from rich.console import Console

    from nas_cntk.records.database import Records
    from nas_cntk.report.board import Board
    from nas_cntk.report.json_lines import SearchLines, ValidationLines
    from nas_cntk.report.live import LiveView
    from nas_cntk.report.rows import Row
    from nas_cntk.report.validation_view import ValidationView
    from nas_cntk.search.session import Ended
    from nas_cntk.search.settings import Options
    from nas_cntk.validate.session import Ended as ValidationEnded

_SETTINGS: dict[str, Any] = {"no_args_is_help": True, "rich_markup_mode": None}

app = typer.Typer(
    name="nas-cntk",
    help="Search neural architectures with exact convolutional neural tangent kernels.",
    epilog="Begin with: nas-cntk search",
    pretty_exceptions_enable=False,
    **_SETTINGS,
)
studies_app = typer.Typer(help="List, rename or delete studies.", epilog="Example: nas-cntk studies list", **_SETTINGS)
data_app = typer.Typer(
    help="Look data over before a search.", epilog="Example: nas-cntk data inspect folder:photos", **_SETTINGS
)
app.add_typer(studies_app, name="studies")
app.add_typer(data_app, name="data")
app.add_typer(paper_app, name="paper")
app.add_typer(benchmark_app, name="benchmark")
studies_app.command("config", epilog="Example: nas-cntk studies config digits-plain-1 > nas.toml")(studies_config)


@app.command(epilog="Example: nas-cntk search --data cifar10:cifar-10-batches-py --image-size 8 --space stages")
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
    workers: Workers = 1,
    study: Annotated[
        str | None,
        typer.Option(autocompletion=completion.studies, help="Name; an existing study of equal identity goes on."),
    ] = None,
    db: Db = DEFAULT_DB,
    backend: Backend = None,
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
    from nas_cntk.report.views import search_view
    from nas_cntk.scoring import parse_scores
    from nas_cntk.search import session
    from nas_cntk.search.settings import Problem, parse_ridge

    names = () if score is None else tuple(kind.name for kind in parse_scores(score))
    problem = Problem(
        data, image_size, space, subset, holdout, seed, names, parse_ridge(ridge), dtype, download, skip_bad
    )
    options = _options(
        trials, timeout, max_trial_seconds, backend, sampler, sampler_setting, workers, prune_level, siblings, batch
    )
    options = replace(options, asked=as_asked(ctx))
    with search_view(_console(), db, quiet=quiet, json_lines=json_lines) as view:
        ended = session.search(db, study, problem, options, view)
    _end(view, ended, db, quiet, json_lines)


@app.command(epilog="Example: nas-cntk resume --trials 60")
def resume(
    ctx: typer.Context,
    study: StudyName = None,
    trials: Annotated[
        int | None, typer.Option(min=1, max=MOST_TRIALS, help="Another total of trials to reach.")
    ] = None,
    timeout: Timeout = None,
    max_trial_seconds: MaxTrialSeconds = None,
    backend: Backend = None,
    sampler: Sampler = None,
    sampler_setting: SamplerSetting = None,
    prune_level: PruneLevel = None,
    siblings: Siblings = None,
    batch: Batch = None,
    workers: Workers = 1,
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
    from nas_cntk.report.views import search_view
    from nas_cntk.search import session

    options = _options(
        trials, timeout, max_trial_seconds, backend, sampler, sampler_setting, workers, prune_level, siblings, batch
    )
    with search_view(_console(), db, quiet=quiet, json_lines=json_lines) as view:
        ended = session.resume(db, study, options, view, data=data)
    _end(view, ended, db, quiet, json_lines)


@app.command(epilog="Example: nas-cntk watch --study digits-plain-1")
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

    console = _console()
    view = watching.WatchLines(db) if json_lines else watching.WatchView(console, db)
    with watching.opened(db) as records, view:
        last = watching.watch(records, study, view, once=once)
    how = "complete" if last.complete else "once"
    if isinstance(view, watching.WatchLines):
        view.ends(how=how, study=last.study.name, finished=len(last.finished), target=last.study.target)
        return
    if last.complete:
        console.print(f"study {last.study.name} is complete: {len(last.finished)} trials", markup=False, soft_wrap=True)
    _next(console, text.command("leaderboard" if last.finished else "resume", db=db, study=last.study.name))


@app.command(epilog="Example: nas-cntk leaderboard --top 10 --distinct")
def leaderboard(
    study: StudyName = None,
    top: Annotated[int | None, typer.Option(min=1, help="Show the first N rows.")] = None,
    distinct: Annotated[bool, typer.Option("--distinct", help="One row an architecture.")] = False,
    pareto: Annotated[bool, typer.Option("--pareto", help="Only the Pareto front of the study's scores.")] = False,
    sort: Annotated[str | None, typer.Option(metavar="COLUMN", help="Order by a column of --json, best first.")] = None,
    columns: Annotated[str | None, typer.Option(help="Columns of --json to show, comma-separated.")] = None,
    csv: Annotated[str | None, typer.Option(metavar="FILE", help="Write CSV there; - prints it.")] = None,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> None:
    """Show a study's trials, best first.

    Trials on the full subset come first; pruned ones, with the reason, last. Those within one standard error of the
    best are marked.
    """
    from nas_cntk.report import columns as by_name
    from nas_cntk.report.board import load_board

    board = load_board(db, study)
    chosen = by_name.parse(columns, board.rows) if columns is not None else None
    if sort is not None:
        by_name.parse(sort, board.rows)
    rows = _rows(board, top=top, distinct=distinct, pareto=pareto, sort=sort)
    if as_json:
        _print_json([row.to_dict() for row in rows])
        return
    if csv is not None:
        table = by_name.to_csv(rows, chosen or by_name.names_of(board.rows))
        if csv == "-":
            print(table, end="")
            return
        from pathlib import Path

        from nas_cntk.validate.artifacts import write_file

        write_file(Path(csv), lambda file: file.write(table.encode()))
        _console().print(f"wrote {csv}: {len(rows)} trials", markup=False, soft_wrap=True)
        return
    console = _console()
    if chosen is not None:
        from nas_cntk.report import tables

        heads = [f"{name}>" if by_name.is_number(rows, name) else name for name in chosen]
        console.print(tables.plain(heads, by_name.cells(rows, chosen), console.width))
        return
    _print_board(console, board, rows, db, _selection(top=top, distinct=distinct, pareto=pareto))


@app.command(epilog="Example: nas-cntk show 12")
def show(
    trial: Annotated[int, typer.Argument(metavar="TRIAL", min=0, help="Number of a finished trial.")],
    study: StudyName = None,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> None:
    """Show a trial and its architecture.

    What it scored, at every rung and when it was validated, what it cost, and the architecture as a tree: output
    shape, parameters and FLOPs of every node.
    """
    from nas_cntk.report import tables, text
    from nas_cntk.report.board import load_board

    board = load_board(db, study)
    row = board.row(trial)
    architecture = board.architecture(row.key)
    if as_json:
        document = row.to_dict()
        document["study"] = board.study.name
        document["architecture"] = None if architecture is None else json.loads(architecture.to_json())
        document["rungs"] = [
            {"subset": one.subset, "holdout": one.holdout, "scores": one.values} for one in board.rungs_of(row.key)
        ]
        document["validations"] = [one.to_dict() for one in board.validations_of(row.key)]
        _print_json(document)
        return
    console = _console()
    validated = board.validations_of(row.key)
    rungs = board.rungs_of(row.key)
    shown = tables.trial(row, architecture, board.image_shape, board.num_classes, console.width, validated, rungs)
    console.print(shown)
    _next(console, text.command("leaderboard", db=db, study=board.study.name))


@app.command(epilog="Example: nas-cntk report --output report.html")
def report(
    output: Annotated[
        str | None, typer.Option(metavar="FILE", help="File to write; nas-cntk-report-STUDY.html if not given.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, max=MOST_TRIALS, help="Architectures on the leaderboard.")] = 10,
    no_images: Annotated[
        bool, typer.Option("--no-images", help="Leave out the confusion matrix and wrongly classified images.")
    ] = False,
    max_seconds: Annotated[
        float, typer.Option(min=1e-6, max=LONGEST, help="Leave them out if computing them is predicted to take longer.")
    ] = 60.0,
    data: Annotated[str | None, typer.Option(help="Where the study's data are now, if they moved.")] = None,
    study: StudyName = None,
    db: Db = DEFAULT_DB,
) -> None:
    """Write a study as one HTML file.

    Leaderboard, history, importance of the parameters, proxy against validated accuracy, cost, Pareto front, the best
    architectures drawn, what the winner gets wrong, how to reproduce. The file needs no network and nothing beside it.
    """
    from nas_cntk.report import text
    from nas_cntk.report.html.report import Request, write_report

    console = _console()

    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    written = write_report(Request(db, study, output, top, not no_images, max_seconds, data), say)
    if written.left_out is not None and not no_images:
        say(f"note: without confusion matrix and images: {written.left_out}")
    say(f"wrote {written.file}: {-(-written.size // 1024):,} KiB, study {written.study}")
    if written.winner is None:
        verb = "resume" if written.finished < written.target else "leaderboard"
        _next(console, text.command(verb, db=db, study=written.study))
    elif not written.validated:
        _next(console, text.command("validate", db=db, study=written.study))
    else:
        model = () if written.winner.network else ("--kernel",)
        trial = str(written.winner.row.trial)
        _next(console, text.command("export", trial, *model, "--to", "model", db=db, study=written.study))


@app.command(epilog="Example: nas-cntk validate --spread 12")
def validate(
    ctx: typer.Context,
    trials: Annotated[
        list[int] | None, typer.Argument(metavar="TRIAL", min=0, help="Trials by number; else the best.")
    ] = None,
    top: Annotated[
        int | None, typer.Option(min=1, max=MOST_TRIALS, help="The K best architectures; 5 if not given.")
    ] = None,
    spread: Annotated[
        int | None, typer.Option(min=1, max=MOST_TRIALS, help="K architectures spread over the whole ranking.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="How CNNs are trained: standard or paper.")] = "standard",
    only: Annotated[str | None, typer.Option(help="Compute one kind only: cnn or kernel.")] = None,
    train_images: Annotated[int | None, typer.Option(min=1, help="Use at most so many training images.")] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Epochs of a training; standard 15, paper 10.")
    ] = None,
    width: Annotated[
        int | None, typer.Option(min=1, max=8192, help="Channels of every conv; standard 64, paper 32.")
    ] = None,
    flips: Annotated[bool, typer.Option("--flips", help="Train on images mirrored at random too (standard).")] = False,
    crops: Annotated[bool, typer.Option("--crops", help="Train on shifted images too (standard).")] = False,
    max_seconds: Annotated[
        float, typer.Option(min=1e-6, max=LONGEST, help="Lower the training images to what fits into this time.")
    ] = 3600.0,
    devices: Annotated[str, typer.Option(help="auto, cpu, mps, cuda, or cuda:0,cuda:1.")] = "auto",
    backend: Annotated[str | None, typer.Option(help="Kernel backend; the study's if not given.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the tiles of the full kernels on disk.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Compute again what is recorded.")] = False,
    data: Annotated[str | None, typer.Option(help="Where the study's data are now, if they moved.")] = None,
    study: StudyName = None,
    db: Db = DEFAULT_DB,
    quiet: Quiet = False,
    as_json: Json = False,
    json_lines: JsonLines = False,
    config: Config = None,
    show_config: ShowConfig = False,
) -> None:
    """Train the best as CNNs and fit them as full-dataset kernels.

    Both are tested on the test set, which nothing else touches, and recorded; then it says how far the proxy score
    can be trusted here. Ctrl-C, or a kill, loses seconds: the same command goes on.
    """
    if show_config:
        return print_options(ctx)
    from nas_cntk.report.views import validation_view
    from nas_cntk.validate import session
    from nas_cntk.validate.wishes import Wishes

    wishes = Wishes(
        tuple(trials or ()),
        top,
        spread,
        recipe,
        epochs,
        width,
        train_images,
        max_seconds,
        only,
        flips,
        crops,
        devices,
        backend,
        keep,
        force,
    )
    if as_json and json_lines:
        raise UsageError("--json and --json-lines exclude each other; give one")
    with validation_view(_console(stderr=as_json), db, quiet=quiet, json_lines=json_lines) as view:
        ended = session.validate(db, study, wishes, view, moved=data)
    _validated(view, ended, db, quiet, as_json, json_lines)


@app.command(epilog="Example: nas-cntk score ARCH.json --data digits --subset 500 --holdout 500")
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
    dtype: Dtype = "float32",
    download: Download = False,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Score one architecture.

    It is scored as a search would; nothing is recorded.
    """
    from nas_cntk.report import text
    from nas_cntk.scoring import parse_scores, standard_error
    from nas_cntk.search.settings import Problem, parse_ridge
    from nas_cntk.search.single import read_architecture, score_file

    names = tuple(kind.name for kind in parse_scores(score))
    problem = Problem(data, image_size, "", subset, holdout, seed, names, parse_ridge(ridge), dtype, download, skip_bad)
    arch = read_architecture(architecture)
    console = _console(stderr=as_json)
    result = score_file(
        arch, problem, backend or "auto", lambda line: console.print(line, markup=False, soft_wrap=True)
    )
    scores = result.scores
    if as_json:
        _print_json({**scores.to_dict(), "params": result.params, "flops": result.flops})
        return
    for name, value in scores.values.items():
        error = standard_error(name, value, scores.subset, scores.holdout)
        console.print(f"{name:<28} {text.score(name, value, error)}", markup=False)
    how = f"{scores.subset} images, held out {scores.holdout}"
    if scores.backend != "none":
        how += f"; backend {scores.backend}, ridge {scores.ridge:g}, jitter {scores.jitter:g}"
    console.print(f"measured on {how}; {text.duration(scores.seconds)}", markup=False, soft_wrap=True)
    _next(console, text.command("search", "--data", data))


@studies_app.command("list", epilog="Example: nas-cntk studies list")
def studies_list(db: Db = DEFAULT_DB, as_json: Json = False) -> None:
    """List the studies of a database, the newest first."""
    from dataclasses import asdict

    from nas_cntk.records import studies
    from nas_cntk.records.migrations import open_records
    from nas_cntk.report import tables, text

    records = open_records(db, write=False)
    try:
        rows = studies.list_studies(records)
    finally:
        records.close()
    if as_json:
        _print_json([asdict(row) for row in rows])
        return
    console = _console()
    if rows:
        console.print(tables.studies(rows, console.width))
        if any(row.running for row in rows):
            console.print("* being searched now", markup=False)
        _next(console, text.command("leaderboard", db=db, study=rows[0].name))
    else:
        console.print(f"no study in {db}", markup=False)
        _next(console, text.command("search", db=db))


@studies_app.command("rename", epilog="Example: nas-cntk studies rename digits-plain-1 baseline")
def studies_rename(
    name: Annotated[str, typer.Argument(autocompletion=completion.studies, help="Study.")],
    to: Annotated[str, typer.Argument(help="Its new name.")],
    db: Db = DEFAULT_DB,
) -> None:
    """Rename a study."""
    from nas_cntk.records import studies
    from nas_cntk.report import text
    from nas_cntk.validate import artifacts

    records = _existing(db)
    try:
        studies.find_study(records, name)
        with artifacts.changing(db, name):
            studies.rename_study(records, name, to)
            artifacts.move_study(db, name, to)
    finally:
        records.close()
    console = _console()
    console.print(f"renamed {name} to {to} in {db}", markup=False, highlight=False)
    _next(console, text.command("leaderboard", db=db, study=to))


@studies_app.command("delete", epilog="Example: nas-cntk studies delete digits-plain-1 --yes")
def studies_delete(
    name: Annotated[str, typer.Argument(autocompletion=completion.studies, help="Study.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    db: Db = DEFAULT_DB,
) -> None:
    """Delete a study with all its trials and scores, for good."""
    from nas_cntk.records import studies
    from nas_cntk.report import text
    from nas_cntk.validate import artifacts

    records = _existing(db)
    try:
        study = studies.find_study(records, name)
        if not yes:
            if not sys.stdin.isatty():
                raise UsageError(f"deleting {name!r} cannot be undone: add --yes")
            if not typer.confirm(f"Delete study {study.name} for good?"):
                raise StudyError(f"study {name!r} was not deleted")
        with artifacts.changing(db, name):
            trials = studies.delete_study(records, name)
            artifacts.delete_study(db, name)
    finally:
        records.close()
    console = _console()
    console.print(f"deleted {name} ({trials} trials) from {db}", markup=False, highlight=False)
    _next(console, text.command("clean", "--dry-run", db=db))


@app.command(epilog="Example: nas-cntk clean --dry-run")
def clean(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")] = False,
    db: Db = DEFAULT_DB,
) -> None:
    """Remove what is no longer needed.

    That is what killed processes and deleted studies have left in a database.
    Finished trials and scores are never touched.
    """
    from nas_cntk.records import cleaning
    from nas_cntk.report import text

    records = _existing(db)
    try:
        waste = cleaning.find_waste(records)
        if waste and not dry_run:
            cleaning.remove_waste(records, waste)
    finally:
        records.close()
    console = _console()
    verb = "would remove" if dry_run else "removed"
    for line in waste.lines():
        console.print(f"{verb} {line}", markup=False, highlight=False)
    if not waste:
        console.print(f"nothing to remove in {db}", markup=False, highlight=False)
    _next(console, text.command("clean", db=db) if dry_run and waste else text.command("studies", "list", db=db))


@app.command(epilog="Example: nas-cntk export 12 --to model --onnx")
def export(
    trial: Annotated[int, typer.Argument(metavar="TRIAL", min=0, help="Number of a finished trial.")],
    to: Annotated[str, typer.Option("--to", metavar="DIR", help="Folder to write; a new or an empty one.")],
    kernel: Annotated[bool, typer.Option("--kernel", help="The kernel regression as the model; no network.")] = False,
    train_images: Annotated[
        int | None, typer.Option(min=1, help="With --kernel: fit at most so many training images; all if not given.")
    ] = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="The network as ONNX too, checked against torch.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the model that an earlier export left.")] = False,
    study: StudyName = None,
    backend: Annotated[str | None, typer.Option(help="With --kernel: the kernel backend, as for search.")] = None,
    data: Annotated[str | None, typer.Option(help="Where the study's data are now, if they moved.")] = None,
    db: Db = DEFAULT_DB,
) -> None:
    """Write a trial's model into a folder.

    That is its network, as torch code that needs nothing of nas-cntk, with the weights that validate trained; or,
    with --kernel, its kernel regression on the training images. A README.md says how to use it.
    """
    from nas_cntk.export.screen import ConsoleScreen
    from nas_cntk.export.trial import Request, export_trial
    from nas_cntk.report import text

    request = Request(db, study, trial, to, kernel, onnx, force, train_images, backend, data)
    console = _console()
    screen = ConsoleScreen(console)
    exported = export_trial(request, screen)
    screen.say(f"wrote {exported.folder}: {', '.join(exported.files)}")
    if exported.usable:
        _next(console, text.command("predict", exported.folder, "--data", exported.data))
    else:
        _next(console, text.command("validate", str(trial), db=db, study=exported.study))


@app.command(epilog="Example: nas-cntk predict model --data folder:photos --output predictions.csv")
def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL_DIR", help="Folder that export wrote.")],
    data: Annotated[str, typer.Option(help="Images, as search takes them; labels may be missing.")],
    output: Annotated[
        str | None, typer.Option(metavar="FILE.csv", help="File to write; standard output if not given.")
    ] = None,
    backend: Annotated[str | None, typer.Option(help="Of a kernel model: the kernel backend, as for search.")] = None,
    skip_bad: SkipBad = False,
) -> None:
    """Predict the classes of images with an exported model.

    The CSV has the image's name or number, the class, by how much its score exceeds the next best, and every score.
    Of data with a test set of their own, its images are predicted. A folder may simply hold images.
    """
    from nas_cntk.export.predict import check_output, write_csv, write_stdout
    from nas_cntk.export.predict import predict as predict_images
    from nas_cntk.export.screen import ConsoleScreen

    if output is not None:
        check_output(output)
    screen = ConsoleScreen(_console(stderr=True))
    predictions = predict_images(model, data, screen, backend=backend, skip_bad=skip_bad)
    if output is not None:
        write_csv(output, predictions)
        screen.say(f"wrote {output}")
        return
    write_stdout(predictions)


@data_app.command("inspect", epilog="Example: nas-cntk data inspect folder:photos --contact-sheet sheet.png")
def data_inspect(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="Data, as --data of a search takes them.")],
    image_size: ImageSize = None,
    subset: Subset = 2000,
    holdout: Holdout = 2000,
    seed: Seed = 0,
    space: Annotated[
        str, typer.Option(autocompletion=completion.spaces, help="Search space whose cost is predicted.")
    ] = "plain",
    backend: Annotated[str, typer.Option(help="Kernel backend that it is predicted for.")] = "auto",
    sheet: Annotated[
        str | None, typer.Option("--contact-sheet", metavar="FILE.png", help="Write images of every class as a PNG.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what a search would make of some data.

    Images of every class, sizes, files that cannot be read, images that are there twice, the split, and what a search
    would cost at several image sizes. Nothing is recorded.
    """
    from nas_cntk.data.contact_sheet import require_png, write_contact_sheet
    from nas_cntk.report import inspection_view, text
    from nas_cntk.search.inspection import inspect
    from nas_cntk.search.settings import Problem

    target = None if sheet is None else require_png(sheet)
    found = inspect(Problem(spec, image_size, space, subset, holdout, seed), backend)
    if target is not None:
        write_contact_sheet(found.facts.dataset, target)
    if as_json:
        _print_json(found.to_dict())
        return
    console = _console()
    inspection_view.show(console, found)
    if sheet is not None:
        console.print(f"wrote {sheet}", markup=False, soft_wrap=True)
    if found.split is not None:
        _next(console, text.command("search", "--data", spec, *found.facts.options))


@app.command(epilog="Example: nas-cntk doctor")
def doctor(db: Db = DEFAULT_DB, as_json: Json = False) -> None:
    """Examine this machine and the database.

    Versions, processors, GPU, memory, disk, the database, and a short test of kernels: whether they are right, how
    fast they are, and what the default search would take. What is missing comes with what to do. Exits with 1 when
    something must be mended.
    """
    from nas_cntk.doctor import screen
    from nas_cntk.doctor.check import Check, is_ok
    from nas_cntk.doctor.examination import examine
    from nas_cntk.report import text

    console = _console()
    checks: list[Check] = []
    for check in examine(db):
        checks.append(check)
        if not as_json:
            screen.show(console, check)
    if as_json:
        _print_json({"ok": is_ok(checks), "checks": [check.to_dict() for check in checks]})
    else:
        console.print(screen.verdict(checks), markup=False, soft_wrap=True)
    if not is_ok(checks):
        raise typer.Exit(1)
    if not as_json:
        _next(console, text.command("search", db=db))


def main() -> None:
    """Run the command line; the only place that turns errors into exit codes."""
    signal.signal(signal.SIGTERM, _terminated)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without ± shows a question mark, and no traceback
    try:
        # Typer itself exits with 2 on wrong usage, and with 130 on KeyboardInterrupt.
        app(prog_name="nas-cntk")
    except NasCntkError as error:
        _fail(" ".join(str(error).split()), 2 if isinstance(error, UsageError) else 1)
    except MemoryError:
        _fail("out of memory; use a smaller --subset, --holdout or --image-size", 1)


def _terminated(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _fail(message: str, code: int) -> None:
    sys.stdout.flush()
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def _options(
    trials: int | None,
    timeout: float | None,
    max_trial_seconds: float | None,
    backend: str | None,
    sampler: str | None,
    settings: list[str] | None,
    workers: int,
    prune_level: float | None,
    siblings: bool | None,
    batch: int | None,
) -> Options:
    from nas_cntk.search.samplers import parse_settings
    from nas_cntk.search.settings import Options

    return Options(
        trials,
        timeout,
        max_trial_seconds,
        backend,
        sampler,
        parse_settings(settings or []),
        workers,
        prune_level,
        siblings,
        batch,
    )


def _existing(db: str) -> Records:
    from nas_cntk.records.migrations import open_records

    open_records(db, write=False).close()  # a missing database is an error, and not made
    return open_records(db, write=True)


def _rows(board: Board, *, top: int | None, distinct: bool, pareto: bool, sort: str | None = None) -> list[Row]:
    from nas_cntk.report import columns
    from nas_cntk.report import rows as report

    rows = list(board.rows)
    if pareto:
        rows = report.pareto(rows, board.directions)
    if distinct:
        rows = report.distinct(rows)
    if sort is not None:
        rows = columns.ordered(rows, sort, board.directions)
    return rows[:top]


def _selection(*, top: int | None, distinct: bool, pareto: bool) -> str:
    """Say which rows of all `_rows` keeps."""
    kept = ["Pareto front"] if pareto else []
    kept += ["distinct"] if distinct else []
    kept += [f"top {top}"] if top is not None else []
    return ", ".join(kept)


def _print_board(console: Console, board: Board, rows: list[Row], db: str, selection: str) -> None:
    from nas_cntk.report import tables, text
    from nas_cntk.report.ties import MARK, MEANING, tied

    name, finished, target = board.study.name, len(board.rows), board.study.target
    if rows:
        found = {row.key: board.architecture(row.key) for row in rows}
        architectures = {key: arch for key, arch in found.items() if key is not None and arch is not None}
        console.print()
        ties = tied(board.rows, board.directions)
        console.print(tables.leaderboard(rows, board.directions, architectures, console.width, ties))
        console.print()
        if any(row.trial in ties for row in rows):
            end = "\n\n" if board.validated else "\n"
            console.print(f"{MARK} {MEANING}: {len(ties)} of {finished} trials", markup=False, end=end)
    _print_trust(console, board)
    for change in board.changes:
        if change["setting"] == "sampler":
            names = [str(change[when]["name"]) for when in ("before", "after")]  # type: ignore[index]
            what = f"became {names[1]}" if names[0] != names[1] else "got other settings"
            console.print(f"after {change['finished']} trials the sampler {names[0]} {what}", markup=False)
    if len(rows) < finished:
        console.print(f"shown: {len(rows)} of {finished} finished trials ({selection})", markup=False)
    console.print(f"study {name} in {db}: {finished} of {target} trials finished", markup=False)
    if finished < target:
        _next(console, text.command("resume", db=db, study=name))
    elif rows:
        _next(console, text.command("show", str(rows[0].trial), db=db, study=name))


def _print_trust(console: Console, board: Board) -> None:
    if not board.validated:
        return
    from nas_cntk.report.trust import trust, trust_panel

    found = trust(board.rows, board.directions, board.validated)
    console.print(trust_panel(found, board.directions, console.width))
    console.print()


def _validated(
    view: ValidationView | ValidationLines,
    ended: ValidationEnded,
    db: str,
    quiet: bool,
    as_json: bool,
    json_lines: bool,
) -> None:
    from nas_cntk.report.board import load_board
    from nas_cntk.report.views import validation_ends

    board = load_board(db, ended.study)
    console = _console(stderr=as_json)
    line = validation_ends(view, ended, board, quiet=quiet and not as_json)
    if line is not None:
        console.print(line, markup=False, soft_wrap=True)
    elif not json_lines and not ended.interrupted:
        _print_validated(console, ended, board, db, as_json)
    elif not json_lines:
        console.print("interrupted; finished results are kept, and the same command goes on", markup=False)
    if ended.interrupted:
        raise KeyboardInterrupt


def _print_validated(console: Console, ended: ValidationEnded, board: Board, db: str, as_json: bool) -> None:
    from nas_cntk.report import tables, text
    from nas_cntk.report.ties import MARK, MEANING, tied
    from nas_cntk.report.trust import trust
    from nas_cntk.validate.artifacts import study_folder, weights_path

    keys = [candidate.key for candidate in ended.candidates]
    if as_json:
        found = trust(board.rows, board.directions, board.validated)
        of_these = [one.to_dict() for one in board.validated if one.key in keys]
        health = [one.to_dict() for one in found]
        _print_json({"study": ended.study, "validations": of_these, "health": health})
        return
    rows = _rows(board, top=None, distinct=True, pareto=False)
    rows = [row for row in rows if row.key in keys]
    architectures = {c.key: c.architecture for c in ended.candidates}
    console.print()
    ties = tied(board.rows, board.directions)
    console.print(tables.leaderboard(rows, board.directions, architectures, console.width, ties))
    console.print()
    if any(row.trial in ties for row in rows):
        console.print(f"{MARK} {MEANING}\n", markup=False)
    _print_trust(console, board)
    best = max(rows, key=lambda row: (row.cnn_accuracy or 0.0, row.full_kernel_accuracy or 0.0))
    cnns = [one for one in board.validated if one.key in keys and one.kind == "cnn"]
    if any(weights_path(db, ended.study, one.key, str(one.recipe)).exists() for one in cnns):
        console.print(f"weights in {study_folder(db, ended.study)}", markup=False, soft_wrap=True)
    has_weights = best.key is not None and weights_path(db, ended.study, best.key, "standard").exists()
    model = () if has_weights else ("--kernel",)  # a network is exported with weights of the standard recipe
    _next(console, text.command("export", str(best.trial), *model, "--to", "model", db=db, study=ended.study))


def _end(view: LiveView | SearchLines, ended: Ended, db: str, quiet: bool, json_lines: bool) -> None:
    from nas_cntk.report.board import load_board
    from nas_cntk.report.views import search_ends

    board = load_board(db, ended.study)
    console = _console()
    line = search_ends(view, ended, board, quiet=quiet)
    if line is not None:
        console.print(line, markup=False, soft_wrap=True)
    elif not json_lines:
        _print_end(console, ended, board, db)
    if ended.how == "interrupted":
        raise KeyboardInterrupt


def _print_end(console: Console, ended: Ended, board: Board, db: str) -> None:
    several = len(board.directions) > 1
    rows = _rows(board, top=10, distinct=True, pareto=several)
    _print_board(console, board, rows, db, _selection(top=10, distinct=True, pareto=several))
    words = {
        "complete": "complete; `nas-cntk resume --trials N` raises the total",
        "timeout": "the time is up",
        "interrupted": "interrupted; every finished trial is kept",
    }
    console.print(words[ended.how], markup=False)


def _next(console: Console, command: str) -> None:
    console.print(f"next: {command}", markup=False, soft_wrap=True)


def _print_json(document: object) -> None:
    print(json.dumps(document, indent=2, allow_nan=False))
